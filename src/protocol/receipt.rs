//! The payment receipt of the core draft (section 5.3): what `Payment-Receipt` says about a settled
//! payment. (The signed receipt about a whole call is another thing.)

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::HeaderValue;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value};

use super::{base64url, ids::MethodId, json, time::Timestamp};

/// The most bytes of a `Payment-Receipt` value, written or read.
pub const MAX_RECEIPT_BYTES: usize = 16 * 1024;

/// A receipt cannot be read, or cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// More than [`MAX_RECEIPT_BYTES`].
    #[error("the receipt is too large")]
    TooLarge,
    /// Not base64url.
    #[error("the receipt is not base64url")]
    Base64,
    /// Not the JSON object of the draft: a member is missing, given twice or of another type, the
    /// status is not `success`, the timestamp not RFC 3339 or the method no method.
    #[error("the receipt is not the JSON object that the Payment scheme defines")]
    Json,
    /// An additional member has the name of a member of the draft.
    #[error("an additional member of the receipt has a reserved name")]
    Reserved,
}

/// A receipt for a settled payment. Its status is always `success`: there is no other.
///
/// `Debug` prints no additional members, since the draft has receipts treated as sensitive.
#[derive(Clone, PartialEq)]
pub struct Receipt {
    /// The payment method that was used.
    pub method: MethodId,
    /// When the payment was settled.
    pub timestamp: Timestamp,
    /// The method's reference, for instance a transaction hash or a PaymentIntent id.
    pub reference: String,
    /// The challenge that was paid.
    pub challenge_id: Option<String>,
    /// Members that the method's specification adds.
    pub extra: Map<String, Value>,
}

impl Receipt {
    /// A receipt without optional members.
    pub fn new(method: MethodId, timestamp: Timestamp, reference: impl Into<String>) -> Self {
        Self { method, timestamp, reference: reference.into(), challenge_id: None, extra: Map::new() }
    }

    /// Writes the receipt as a `Payment-Receipt` value, marked sensitive.
    ///
    /// # Errors
    /// `Reserved`, `TooLarge`.
    pub fn encode(&self) -> Result<HeaderValue, ReceiptError> {
        Self::encode_parts(&self.method, self.timestamp, &self.reference, self.challenge_id.as_deref(), &self.extra)
    }

    /// The same from borrowed parts: a merchant need not build a receipt to write one.
    pub(crate) fn encode_parts(
        method: &MethodId,
        timestamp: Timestamp,
        reference: &str,
        challenge_id: Option<&str>,
        extra: &Map<String, Value>,
    ) -> Result<HeaderValue, ReceiptError> {
        if has_reserved(extra) {
            return Err(ReceiptError::Reserved);
        }
        let mut json = Vec::with_capacity(256);
        let wire = Wire { method, timestamp, reference, challenge_id, extra };
        serde_json::to_writer(&mut json, &wire).map_err(|_| ReceiptError::Json)?;
        let value = URL_SAFE_NO_PAD.encode(&json);
        if value.len() > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLarge);
        }
        let mut value = HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(|_| ReceiptError::Base64)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Reads a `Payment-Receipt` value. Unknown members are kept in `extra`.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn parse(value: &str) -> Result<Self, ReceiptError> {
        if value.len() > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLarge);
        }
        let bytes = base64url::decode(value).ok_or(ReceiptError::Base64)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| ReceiptError::Json)?;
        if !json::is_object(text) || !json::has_unique_members(text) {
            return Err(ReceiptError::Json);
        }
        let wire: OwnedWire = serde_json::from_str(text).map_err(|_| ReceiptError::Json)?;
        let OwnedWire { status: Status::Success, method, timestamp, reference, challenge_id, extra } = wire;
        Ok(Self { method, timestamp, reference, challenge_id, extra })
    }
}

/// The JSON object that [`Receipt::encode`] wraps in base64url, for instance for the last event of a
/// stream. An additional member with a reserved name is an error.
impl Serialize for Receipt {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if has_reserved(&self.extra) {
            return Err(serde::ser::Error::custom(ReceiptError::Reserved));
        }
        let Self { method, timestamp, reference, challenge_id, extra } = self;
        let challenge_id = challenge_id.as_deref();
        Wire { method, timestamp: *timestamp, reference, challenge_id, extra }.serialize(serializer)
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("method", &self.method)
            .field("timestamp", &self.timestamp)
            .field("reference", &self.reference)
            .field("challenge_id", &self.challenge_id)
            .finish_non_exhaustive()
    }
}

const RESERVED: [&str; 5] = ["status", "method", "timestamp", "reference", "challengeId"];

fn has_reserved(extra: &Map<String, Value>) -> bool {
    RESERVED.iter().any(|name| extra.contains_key(*name))
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Success,
}

/// A receipt from borrowed parts. (Written by hand: `serde(flatten)` costs as much as all the rest.)
struct Wire<'a> {
    method: &'a MethodId,
    timestamp: Timestamp,
    reference: &'a str,
    challenge_id: Option<&'a str>,
    extra: &'a Map<String, Value>,
}

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("status", "success")?;
        members.serialize_entry("method", self.method)?;
        members.serialize_entry("timestamp", &self.timestamp)?;
        members.serialize_entry("reference", self.reference)?;
        if let Some(id) = self.challenge_id {
            members.serialize_entry("challengeId", id)?;
        }
        for (name, value) in self.extra {
            members.serialize_entry(name, value)?;
        }
        members.end()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnedWire {
    status: Status,
    method: MethodId,
    timestamp: Timestamp,
    reference: String,
    #[serde(default)]
    challenge_id: Option<String>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn receipt() -> Receipt {
        Receipt::new(MethodId::new("stripe").unwrap(), "2025-01-15T12:00:00Z".parse().unwrap(), "pi_1")
    }

    fn decoded(value: &HeaderValue) -> String {
        String::from_utf8(base64url::decode(value.to_str().unwrap()).unwrap()).unwrap()
    }

    fn parse(json: &str) -> Result<Receipt, ReceiptError> {
        Receipt::parse(&URL_SAFE_NO_PAD.encode(json))
    }

    #[test]
    fn members_stand_in_the_order_of_the_draft() {
        let mut receipt = receipt();
        receipt.challenge_id = Some("abc".to_owned());
        receipt.extra.insert("externalId".to_owned(), json!("order-1"));
        let value = receipt.encode().unwrap();
        assert!(value.is_sensitive());
        assert_eq!(
            decoded(&value),
            r#"{"status":"success","method":"stripe","timestamp":"2025-01-15T12:00:00Z","reference":"pi_1","challengeId":"abc","externalId":"order-1"}"#
        );
        assert_eq!(serde_json::to_string(&receipt).unwrap(), decoded(&value));
        receipt.extra.insert("status".to_owned(), json!("failed"));
        assert!(serde_json::to_string(&receipt).is_err());
    }

    #[test]
    fn there_is_no_receipt_but_for_success() {
        for status in [r#""failed""#, r#""Success""#, r#""""#, "true", "null"] {
            let json =
                format!(r#"{{"status":{status},"method":"x","timestamp":"2025-01-15T12:00:00Z","reference":"r"}}"#);
            assert_eq!(parse(&json), Err(ReceiptError::Json), "{status}");
        }
    }

    #[test]
    fn what_is_not_the_object_of_the_draft_is_refused() {
        for json in [
            "",
            "[]",
            "null",
            r#"["success","x","2025-01-15T12:00:00Z","r"]"#,
            r#"{"method":"x","timestamp":"2025-01-15T12:00:00Z","reference":"r"}"#,
            r#"{"status":"success","timestamp":"2025-01-15T12:00:00Z","reference":"r"}"#,
            r#"{"status":"success","method":"x","reference":"r"}"#,
            r#"{"status":"success","method":"x","timestamp":"2025-01-15T12:00:00Z"}"#,
            r#"{"status":"success","method":"X","timestamp":"2025-01-15T12:00:00Z","reference":"r"}"#,
            r#"{"status":"success","method":"x","timestamp":"2025-01-15 12:00:00Z","reference":"r"}"#,
            r#"{"status":"success","method":"x","timestamp":1736942400,"reference":"r"}"#,
            r#"{"status":"success","method":"x","timestamp":"2025-01-15T12:00:00Z","reference":1}"#,
            r#"{"status":"success","method":"x","timestamp":"2025-01-15T12:00:00Z","reference":"r"}x"#,
        ] {
            assert_eq!(parse(json), Err(ReceiptError::Json), "{json}");
        }
        assert_eq!(Receipt::parse("not base64!"), Err(ReceiptError::Base64));
        assert_eq!(Receipt::parse("_w"), Err(ReceiptError::Json));
    }

    #[test]
    fn members_given_twice_are_refused_at_any_depth() {
        for twice in [
            r#""reference":"s""#,
            r#""refer\u0065nce":"s""#,
            r#""a":1,"a":1"#,
            r#""a":{"b":1,"b":2}"#,
            r#""a":[{"b":1,"b":2}]"#,
        ] {
            let json = format!(
                r#"{{"status":"success","method":"x","timestamp":"2025-01-15T12:00:00Z","reference":"r",{twice}}}"#
            );
            assert_eq!(parse(&json), Err(ReceiptError::Json), "{twice}");
        }
    }

    #[test]
    fn the_size_is_capped_before_decoding_and_when_writing() {
        // Nothing of this is base64, so the cap must come first.
        assert_eq!(Receipt::parse(&"!".repeat(MAX_RECEIPT_BYTES + 1)), Err(ReceiptError::TooLarge));
        let mut receipt = receipt();
        receipt.reference = "r".repeat(MAX_RECEIPT_BYTES);
        assert_eq!(receipt.encode(), Err(ReceiptError::TooLarge));
    }

    #[test]
    fn an_additional_member_cannot_stand_in_for_one_of_the_draft() {
        for name in RESERVED {
            let mut receipt = receipt();
            receipt.extra.insert(name.to_owned(), json!("x"));
            assert_eq!(receipt.encode(), Err(ReceiptError::Reserved), "{name}");
        }
    }

    #[test]
    fn an_offset_is_the_same_instant() {
        let json = r#"{"status":"success","method":"x","timestamp":"2025-01-21T12:00:00+05:30","reference":""}"#;
        assert_eq!(parse(json).unwrap().timestamp.to_string(), "2025-01-21T06:30:00Z");
    }

    #[test]
    fn debug_prints_no_additional_members() {
        let mut receipt = receipt();
        receipt.extra.insert("token".to_owned(), json!("hush"));
        assert!(!format!("{receipt:?}").contains("hush"));
    }

    proptest! {
        #[test]
        fn receipts_round_trip(
            method in "[a-z][a-z0-9:_-]{0,10}",
            seconds in 0i64..10_000_000_000,
            reference in any::<String>(),
            challenge_id in prop::option::of(any::<String>()),
            extra in prop::collection::btree_map("x.{0,8}", any::<(String, i64)>(), 0..4),
        ) {
            let mut receipt = Receipt::new(
                MethodId::new(method).unwrap(),
                Timestamp::from_unix(seconds).unwrap(),
                reference,
            );
            receipt.challenge_id = challenge_id;
            receipt.extra = extra.into_iter().map(|(name, value)| (name, json!(value))).collect();
            let value = receipt.encode().unwrap();
            prop_assert_eq!(Receipt::parse(value.to_str().unwrap()), Ok(receipt));
        }
    }
}
