//! Single receipts: fetched, and checked.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, LINK},
    request::Parts,
};
use serde_json::json;

use super::{
    Ledger,
    answer::{Answer, IMMUTABLE, MINUTES, NO_STORE, PRIVATE, Refusal, insert, json, open},
    shown::Members,
};
use crate::{
    protocol::{ContentDigest, ReceiptId, Visibility},
    receipt::{canonicalize, verify_receipt},
    store::ReceiptRow,
};

const PAYMENT_RECEIPT_DIGEST: HeaderName = HeaderName::from_static("payment-receipt-digest");
const PAYMENT_RECEIPT_KID: HeaderName = HeaderName::from_static("payment-receipt-kid");

/// The same for what does not exist and for what is not for the caller.
pub(super) const NOT_FOUND: Refusal =
    Refusal::new(StatusCode::NOT_FOUND, "receipt_not_found", "There is no receipt with this id to be seen.");
const REDACTED_ONLY: Refusal = Refusal::new(
    StatusCode::GONE,
    "receipt_redacted_only",
    "Only a part of this receipt is public; ask without view=full.",
);

/// How much of a receipt is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// As much as the caller may see.
    Most,
    /// What everybody may see.
    Public,
    /// All of it.
    Full,
}

impl View {
    pub(super) fn asked(head: &Parts) -> Result<Self, Refusal> {
        match parameter(head, "view") {
            Ok(None) => Ok(Self::Most),
            Ok(Some("full")) => Ok(Self::Full),
            Ok(Some("public")) => Ok(Self::Public),
            _ => Err(Refusal::bad_request("invalid_view", "Write view=full or view=public.")),
        }
    }
}

/// A parameter of the query, as it stands there.
pub(super) fn parameter<'h>(head: &'h Parts, name: &str) -> Result<Option<&'h str>, Twice> {
    let query = head.uri.query().unwrap_or_default();
    let mut values = query.split('&').filter_map(|part| {
        let (known, value) = part.split_once('=').unwrap_or((part, ""));
        (known == name).then_some(value)
    });
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Twice),
    }
}

/// A parameter stands in the query twice.
pub(super) struct Twice;

/// A receipt, or as much of it as somebody may see.
pub(super) struct Seen {
    pub(super) row: ReceiptRow,
    pub(super) json: std::sync::Arc<str>,
    /// Whether it is what the owner sees.
    pub(super) owned: bool,
}

/// What everybody may see of a receipt. A private one has nothing of the kind, whatever its row says.
pub(super) fn public(row: &ReceiptRow) -> Option<&std::sync::Arc<str>> {
    row.public.as_ref().filter(|_| row.visibility != Visibility::Private)
}

pub(super) fn see(row: ReceiptRow, owner: bool, view: View) -> Result<Seen, Refusal> {
    if owner && view != View::Public {
        let json = row.full.clone();
        return Ok(Seen { row, json, owned: true });
    }
    let json = public(&row).ok_or(NOT_FOUND)?.clone();
    if view == View::Full && row.visibility != Visibility::PublicFull {
        return Err(REDACTED_ONLY);
    }
    Ok(Seen { row, json, owned: false })
}

impl Ledger {
    pub(super) fn is_owner(&self, head: &Parts) -> bool {
        (self.owner)(head)
    }

    /// The receipt that a request names, as its sender may see it.
    pub(super) async fn seen(&self, head: &Parts, id: Option<ReceiptId>) -> Result<Seen, Refusal> {
        let view = View::asked(head)?;
        let row = self.receipts.store().get(id.ok_or(NOT_FOUND)?).await?;
        see(row.ok_or(NOT_FOUND)?, self.is_owner(head), view)
    }

    pub(super) async fn receipt(&self, head: &Parts, id: Option<ReceiptId>) -> Result<Answer, Refusal> {
        let Seen { row, json: receipt, owned } = self.seen(head, id).await?;
        let cache = if owned || row.provisional { PRIVATE } else { IMMUTABLE };
        let mut answer = json(Bytes::copy_from_slice(receipt.as_bytes()), cache);
        let headers = answer.headers_mut();
        if let Some(members) = Members::parse(&receipt) {
            let digest = ContentDigest::of(members.without("signature").as_bytes());
            insert(headers, PAYMENT_RECEIPT_DIGEST, digest.encode(&mut [0; 54]));
            if let Some(key) = members.text("signing_key_id") {
                insert(headers, PAYMENT_RECEIPT_KID, &key);
            }
            // Only an id is put into a header, and only one that stands in what the caller gets.
            if let Some(parent) = members.text("parent_receipt_id").and_then(|id| id.parse::<ReceiptId>().ok()) {
                insert(headers, LINK, &format!("<{}/v1/receipts/{parent}>; rel=\"up\"", self.receipts.base_url()));
            }
        }
        Ok(if owned { answer } else { open(answer) })
    }

    /// The public keys.
    pub(super) fn keys(&self) -> Result<Answer, Refusal> {
        let keys = serde_json::to_vec(&self.receipts.jwks()).map_err(|_| Refusal::unavailable())?;
        let mut answer = json(keys, MINUTES);
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        Ok(open(answer))
    }

    /// Whether a receipt is one that these keys have signed. Nothing is looked up: what is said of a receipt that is
    /// private here is said of any other one too.
    pub(super) fn verify(&self, body: &Bytes) -> Result<Answer, Refusal> {
        const NOT_JSON: Refusal = Refusal::bad_request("invalid_json", "Send a receipt: a JSON object in UTF-8.");
        let text = std::str::from_utf8(body).map_err(|_| NOT_JSON)?;
        let members = Members::parse(text).ok_or(NOT_JSON)?;
        let (text, members) = match members.is_only("receipt").then(|| members.raw("receipt")).flatten() {
            Some(inner) => (inner, Members::parse(inner).ok_or(NOT_JSON)?),
            None => (text, members),
        };
        let said = match verify_receipt(text, &self.receipts.jwks()) {
            Ok(good) => json!({"verified": true, "key_id": good.key_id, "digest": good.digest.to_string()}),
            Err(error) => {
                let canonical = canonicalize(&members.without("signature")).ok();
                let digest = canonical.map(|text| ContentDigest::of(text.as_bytes()).to_string());
                let key = members.text("signing_key_id");
                json!({"verified": false, "reason": error.to_string(), "key_id": key, "digest": digest})
            }
        };
        Ok(open(json(said.to_string(), NO_STORE)))
    }
}
