//! The payment receipt of the core draft (section 5.3): what `Payment-Receipt` says about a settled
//! payment. (The signed receipt about a whole call is another thing.)

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::HeaderValue;
use serde::{Deserialize, Serialize};
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
        Self {
            method,
            timestamp,
            reference: reference.into(),
            challenge_id: None,
            extra: Map::new(),
        }
    }

    /// Writes the receipt as a `Payment-Receipt` value, marked sensitive.
    ///
    /// # Errors
    /// `Reserved`, `TooLarge`.
    pub fn encode(&self) -> Result<HeaderValue, ReceiptError> {
        if RESERVED.iter().any(|name| self.extra.contains_key(*name)) {
            return Err(ReceiptError::Reserved);
        }
        let wire = Wire {
            status: Status::Success,
            method: &self.method,
            timestamp: self.timestamp,
            reference: &self.reference,
            challenge_id: self.challenge_id.as_deref(),
            extra: &self.extra,
        };
        let mut json = Vec::with_capacity(256);
        serde_json::to_writer(&mut json, &wire).map_err(|_| ReceiptError::Json)?;
        let value = URL_SAFE_NO_PAD.encode(&json);
        if value.len() > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLarge);
        }
        let mut value =
            HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(|_| ReceiptError::Base64)?;
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
        let OwnedWire {
            status: Status::Success,
            method,
            timestamp,
            reference,
            challenge_id,
            extra,
        } = wire;
        Ok(Self {
            method,
            timestamp,
            reference,
            challenge_id,
            extra,
        })
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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Success,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    status: Status,
    method: &'a MethodId,
    timestamp: Timestamp,
    reference: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge_id: Option<&'a str>,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
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
