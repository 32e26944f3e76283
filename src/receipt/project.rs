//! What everybody may see of a receipt.

use std::sync::Arc;

use super::{
    ReceiptBody, ReceiptType,
    write::{Keep, Part},
};
use crate::{protocol::Visibility, store::Listed};

/// What a public receipt always says: which one it is, when it was made (the validity of keys depends on it), and
/// who may see it.
const ALWAYS: [&str; 5] = ["created_at", "parent_receipt_id", "receipt_id", "receipt_type", "visibility"];

/// What `public_demo` shows beside that: nothing that names people, accounts or infrastructure.
const DEMO: [&str; 19] = [
    "cache_read_tokens",
    "cache_status",
    "cache_write_tokens",
    "client_request_hash",
    "client_response_hash",
    "cost_estimate_confidence",
    "cost_estimated_usd",
    "environment",
    "http_status",
    "input_tokens",
    "model_id",
    "module_chain",
    "output_tokens",
    "payload_capture",
    "payment",
    "policy_decision",
    "provider",
    "provider_request_hash",
    "provider_response_hash",
];

/// What the default policy shows beside that.
const STANDARD: [&str; 18] = [
    "agent_handle",
    "cost_currency",
    "cost_final_usd",
    "cost_source",
    "error_class",
    "error_code",
    "pricing_effective_at",
    "pricing_table_id",
    "pricing_version",
    "provider_status",
    "redaction_policy",
    "request_ended_at",
    "request_started_at",
    "routing_decision",
    "settlement_protocol",
    "status",
    "tokens_source",
    "upstream_provider",
];

/// What is shown of a receipt with the visibility `public_redacted`. Its name stands in the receipt.
///
/// The default is called `standard-v1`: it shows what `public_minimal` shows, and timing, cost and where the call
/// went. Whatever a policy keeps, the payment is shown without the rail's reference and the challenge, and what
/// a policy leaves out is not in the public receipt at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedactionPolicy {
    name: Arc<str>,
    keep: Keep,
}

/// A redaction policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicy {
    /// Its name is empty or too long.
    #[error("the name of a redaction policy has 1 to 64 of A-Z a-z 0-9 . _ -")]
    Name,
    /// It keeps something that is no member of a receipt, or cannot be in a public one.
    #[error("{0:?} is no member of a receipt that a redaction policy can keep")]
    Member(String),
}

impl RedactionPolicy {
    /// A policy that keeps these members. The receipt's id, type, instant, parent, visibility and policy are kept in
    /// any case.
    ///
    /// # Errors
    /// [`InvalidPolicy`].
    pub fn new<'k>(name: impl AsRef<str>, keep: impl IntoIterator<Item = &'k str>) -> Result<Self, InvalidPolicy> {
        let name = name.as_ref();
        if !super::signer::is_name(name) {
            return Err(InvalidPolicy::Name);
        }
        let mut kept = keep_all(&ALWAYS).with("redaction_policy").unwrap_or_default();
        for member in keep {
            // The hash of the public receipt cannot be in the public receipt.
            let known = if member == "public_receipt_hash" { None } else { kept.with(member) };
            kept = known.ok_or_else(|| InvalidPolicy::Member(member.to_owned()))?;
        }
        Ok(Self { name: name.into(), keep: kept })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for RedactionPolicy {
    fn default() -> Self {
        let keep = [ALWAYS.as_slice(), &DEMO, &STANDARD].concat();
        Self { name: "standard-v1".into(), keep: keep_all(&keep) }
    }
}

fn keep_all(names: &[&str]) -> Keep {
    names.iter().fold(Keep::default(), |keep, name| keep.with(name).unwrap_or(keep))
}

/// The members that each visibility shows.
#[derive(Clone, Debug)]
pub(super) struct Projections {
    demo: Keep,
    minimal: Keep,
    pub(super) redacted: RedactionPolicy,
}

impl Projections {
    pub(super) fn new(redacted: RedactionPolicy) -> Self {
        let demo = keep_all(&[ALWAYS.as_slice(), &DEMO, &["status"]].concat());
        Self { demo, minimal: demo.with("agent_handle").unwrap_or(demo), redacted }
    }

    /// What everybody may see of a receipt, or `None` where that is nothing. All of it has one signature.
    pub(super) fn public(&self, visibility: Visibility) -> Option<Part> {
        match visibility {
            Visibility::Private => None,
            Visibility::PublicDemo => Some(Part::Kept(self.demo)),
            Visibility::PublicMinimal => Some(Part::Kept(self.minimal)),
            Visibility::PublicRedacted => Some(Part::Kept(self.redacted.keep)),
            Visibility::PublicFull => Some(Part::Public),
        }
    }

    /// The one that shows less. A policy need not show what a demo shows, nor the other way round: then it is the
    /// merchant's own choice, which is the policy.
    pub(super) fn narrower(&self, one: Visibility, other: Visibility) -> Visibility {
        let shows = |visibility| match self.public(visibility) {
            None => Keep::default(),
            Some(Part::Kept(keep)) => keep,
            Some(Part::Public | Part::Owner) => Keep::ALL,
        };
        match (shows(one), shows(other)) {
            (less, more) if less.is_within(more) => one,
            (more, less) if less.is_within(more) => other,
            _ => Visibility::PublicRedacted,
        }
    }
}

/// What the public list counts: nothing that the public receipt does not show. A demo is found by its id only.
pub(super) fn listed(body: &ReceiptBody, part: Part) -> Option<Listed> {
    if matches!(body.visibility, Visibility::Private | Visibility::PublicDemo) {
        return None;
    }
    let shown = |member| match part {
        Part::Kept(keep) => keep.with(member) == Some(keep),
        Part::Owner | Part::Public => true,
    };
    let text = |member, value: &Option<String>| value.clone().filter(|_| shown(member));
    let tokens = |member, value: Option<u64>| value.filter(|_| shown(member)).unwrap_or_default();
    // A payment is counted once: not its failures, nor what corrects them or gives it back.
    let delivered =
        matches!(body.receipt_type, Some(ReceiptType::Inference | ReceiptType::CacheHit | ReceiptType::Settlement))
            && matches!(body.status.as_deref(), Some("succeeded" | "partial"));
    Some(Listed {
        name: text("agent_handle", &body.agent_handle).or_else(|| text("model_id", &body.model_id)).unwrap_or_default(),
        succeeded: text("status", &body.status).as_deref() == Some("succeeded"),
        paid: shown("payment") && body.payment.is_some() && delivered,
        tokens: tokens("input_tokens", body.input_tokens).saturating_add(tokens("output_tokens", body.output_tokens)),
    })
}
