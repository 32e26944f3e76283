//! The short way to the canonical form: a receipt is written straight as canonical JSON.
//!
//! The names are sorted here once and for all, so that nothing has to be collected and sorted per receipt. That
//! this is the same text as [`canonicalize`](super::canonicalize) makes of the serde form is tested below.

use std::fmt::Write as _;

use super::{
    CanonicalError, CostConfidence, PaidWith, PayloadCapture, Provider, ReceiptBody, ReceiptType, UsdCost,
    body::millis,
    canonical::{MAX_INTEGER, MAX_JSON_BYTES, push_text},
};
use crate::protocol::{ReceiptId, Timestamp, Visibility};

/// Who signs.
#[derive(Clone, Copy)]
pub(super) struct Signing<'a> {
    pub(super) algorithm: &'a str,
    pub(super) key_id: &'a str,
}

/// How much of a receipt is written.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// All that its owner sees.
    Owner,
    /// All of it, for everybody.
    Public,
    /// These members, for everybody.
    Kept(Keep),
}

/// A set of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Keep(u64);

impl Keep {
    /// With one more, unless there is no member of this name.
    pub(super) fn with(self, name: &str) -> Option<Self> {
        let at = ReceiptBody::default().members().iter().position(|(member, _)| *member == name)?;
        Some(Self(self.0 | 1 << at))
    }

    pub(super) const ALL: Self = Self(u64::MAX);

    /// Whether the other one has all of it.
    pub(super) fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    fn has(self, at: usize) -> bool {
        self.0 >> at & 1 == 1
    }
}

/// A canonical receipt that is not signed yet.
pub(super) struct Unsigned {
    message: String,
    /// Where the signature goes.
    signature_at: usize,
}

impl Unsigned {
    pub(super) fn new(body: &ReceiptBody, part: Part, signing: Signing<'_>) -> Result<Self, CanonicalError> {
        let blobs = [&body.encrypted_request_blob, &body.encrypted_response_blob];
        let blobs: usize = blobs.iter().map(|blob| blob.as_deref().map_or(0, str::len)).sum();
        let mut out = String::with_capacity(3072 + blobs);
        let mut signature_at = None;
        let mut verified = !matches!(part, Part::Owner);
        for (at, (name, value)) in body.members().into_iter().enumerate() {
            if signature_at.is_none() && name > "signature" {
                signature_at = Some(out.len());
                push_name(&mut out, "signing_algorithm");
                push_text(&mut out, signing.algorithm);
                push_name(&mut out, "signing_key_id");
                push_text(&mut out, signing.key_id);
            }
            if verified && name > "verified" {
                verified = false;
                push_name(&mut out, "verified");
                out.push_str("true");
            }
            let written = match part {
                Part::Owner => name != "agent_handle",
                Part::Public => true,
                Part::Kept(keep) => keep.has(at),
            };
            if !written || (name == "agent_handle" && body.agent_handle.is_none()) {
                continue;
            }
            push_name(&mut out, name);
            match (part, &body.payment) {
                (Part::Kept(_), Some(payment)) if name == "payment" => payment.push_public(&mut out),
                _ => value.push_to(&mut out).map_err(|Unsafe| CanonicalError::Number(name))?,
            }
        }
        out.push('}');
        if out.len() > MAX_JSON_BYTES {
            return Err(CanonicalError::TooLong);
        }
        // There are members behind the signature.
        Ok(Self { message: out, signature_at: signature_at.unwrap_or_default() })
    }

    /// What is signed.
    pub(super) fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// The canonical receipt with its signature, which is base64url.
    pub(super) fn signed(&self, signature: &str) -> String {
        let (before, after) = self.message.split_at_checked(self.signature_at).unwrap_or((&self.message, ""));
        [before, ",\"signature\":\"", signature, "\"", after].concat()
    }
}

/// Opens the object, or goes on in it.
fn push_name(out: &mut String, name: &str) {
    out.push_str(if out.is_empty() { "{\"" } else { ",\"" });
    out.push_str(name);
    out.push_str("\":");
}

/// A number that not every reader reads exactly.
struct Unsafe;

/// A value of a member.
trait Member {
    fn push_to(&self, out: &mut String) -> Result<(), Unsafe>;
}

impl<T: Member> Member for Option<T> {
    fn push_to(&self, out: &mut String) -> Result<(), Unsafe> {
        match self {
            Some(value) => value.push_to(out),
            None => {
                out.push_str("null");
                Ok(())
            }
        }
    }
}

impl Member for String {
    fn push_to(&self, out: &mut String) -> Result<(), Unsafe> {
        push_text(out, self);
        Ok(())
    }
}

impl Member for Vec<String> {
    fn push_to(&self, out: &mut String) -> Result<(), Unsafe> {
        out.push('[');
        for (at, text) in self.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            push_text(out, text);
        }
        out.push(']');
        Ok(())
    }
}

impl Member for ReceiptId {
    fn push_to(&self, out: &mut String) -> Result<(), Unsafe> {
        let _ = write!(out, "\"{self}\"");
        Ok(())
    }
}

impl Member for Timestamp {
    fn push_to(&self, out: &mut String) -> Result<(), Unsafe> {
        let _ = write!(out, "\"{:.3}\"", millis::floor(*self));
        Ok(())
    }
}

impl Member for UsdCost {
    fn push_to(&self, out: &mut String) -> Result<(), Unsafe> {
        self.write(out).ok_or(Unsafe)
    }
}

impl Member for u64 {
    fn push_to(&self, out: &mut String) -> Result<(), Unsafe> {
        if *self > MAX_INTEGER {
            return Err(Unsafe);
        }
        let _ = write!(out, "{self}");
        Ok(())
    }
}

impl Member for u16 {
    fn push_to(&self, out: &mut String) -> Result<(), Unsafe> {
        u64::from(*self).push_to(out)
    }
}

macro_rules! name_members {
    ($($name:ident),*) => {$(
        impl Member for $name {
            fn push_to(&self, out: &mut String) -> Result<(), Unsafe> {
                out.extend(["\"", self.as_str(), "\""]);
                Ok(())
            }
        }
    )*};
}

name_members!(CostConfidence, PayloadCapture, Provider, ReceiptType, Visibility);

impl Member for PaidWith {
    fn push_to(&self, out: &mut String) -> Result<(), Unsafe> {
        let _ = write!(out, "{{\"amount\":\"{}\",\"challenge_id\":", self.amount);
        match &self.challenge_id {
            Some(id) => out.extend(["\"", id.encode(&mut [0; 43]), "\""]),
            None => out.push_str("null"),
        }
        // Names of the protocol have neither quotes nor anything beyond ASCII.
        let names = [self.currency.as_str(), self.intent.as_str(), self.method.as_str()];
        let [currency, intent, method] = names;
        let _ =
            write!(out, ",\"currency\":\"{currency}\",\"intent\":\"{intent}\",\"method\":\"{method}\",\"reference\":");
        self.reference.push_to(out)?;
        out.push('}');
        Ok(())
    }
}

impl PaidWith {
    /// Without what leads to the account that has paid.
    fn push_public(&self, out: &mut String) {
        let (amount, currency, intent, method) = (self.amount, &self.currency, &self.intent, &self.method);
        let _ = write!(
            out,
            "{{\"amount\":\"{amount}\",\"currency\":\"{currency}\",\"intent\":\"{intent}\",\"method\":\"{method}\"}}"
        );
    }
}

impl ReceiptBody {
    /// Leaves out the numbers that cannot be written, and answers with the name of one of them.
    pub(crate) fn without_unsafe_numbers(&mut self) -> Option<&'static str> {
        let mut left_out = None;
        macro_rules! check {
            ($is_safe:expr, $($name:ident)*) => {$(
                if self.$name.is_some_and(|value| !$is_safe(value)) {
                    (self.$name, left_out) = (None, Some(stringify!($name)));
                }
            )*};
        }
        check!(|tokens| tokens <= MAX_INTEGER, input_tokens output_tokens cache_read_tokens cache_write_tokens);
        check!(UsdCost::is_exact, cost_estimated_usd cost_final_usd);
        left_out
    }

    /// Sorted by name.
    #[rustfmt::skip]
    fn members(&self) -> [(&'static str, &dyn Member); 60] {
        macro_rules! named {
            ($($name:ident)*) => { [$((stringify!($name), &self.$name)),*] };
        }
        named! {
            agent_handle agent_id api_key_id aws_account_id cache_read_tokens cache_status cache_write_tokens
            client_request_hash client_request_id client_response_hash cost_currency cost_estimate_confidence
            cost_estimated_usd cost_final_usd cost_source created_at customer_id encrypted_request_blob
            encrypted_response_blob encryption_alg encryption_pubkey_fingerprint environment error_class error_code
            error_message_hash http_status iam_principal idempotency_key input_tokens model_id module_chain
            output_tokens parent_receipt_id payload_capture payment policy_decision pricing_effective_at
            pricing_table_id pricing_version project_id provider provider_request_hash provider_response_hash
            provider_status public_receipt_hash receipt_id receipt_type redaction_policy region request_ended_at
            request_id request_started_at routing_decision settlement_protocol status tenant_id tokens_source
            upstream_provider user_id visibility
        }
    }
}
