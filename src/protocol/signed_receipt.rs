//! What names a signed receipt, and who may see it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::ids::ChallengeId;

/// The id of a signed receipt: a UUID, random unless it is that of a refund or of an answer that was not charged for, in lower case with hyphens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ReceiptId(Uuid);

/// The text is not the id of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a receipt id: a UUID in lower case with hyphens")]
pub struct InvalidReceiptId;

impl ReceiptId {
    /// A new id.
    pub fn random() -> Self {
        Self(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
    }

    /// The id of the receipt of a refund: a payment has one, whoever gives it back and however often.
    pub(crate) fn of_refund(payment: ChallengeId) -> Self {
        Self::of(b"refund of ", payment)
    }

    /// The id of the receipt of answers that failed before the money was taken: a payment has one, however often its
    /// credential is presented.
    pub(crate) fn of_uncharged(payment: ChallengeId) -> Self {
        Self::of(b"not charged for ", payment)
    }

    fn of(what: &[u8], payment: ChallengeId) -> Self {
        let mut hash = Sha256::new();
        hash.update(what);
        hash.update(payment.encode(&mut [0; ChallengeId::TEXT_LEN]));
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// An id that was kept as its 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for ReceiptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for ReceiptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ReceiptId {
    type Err = InvalidReceiptId;

    /// One receipt has one name: no braces, no upper case, no other form of a UUID.
    fn from_str(text: &str) -> Result<Self, InvalidReceiptId> {
        let lower = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let id = if lower { Uuid::try_parse(text).ok() } else { None };
        id.map(Self).ok_or(InvalidReceiptId)
    }
}

impl<'de> Deserialize<'de> for ReceiptId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Who may see a signed receipt beside its owner, and how much of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Nobody.
    #[default]
    Private,
    /// Everybody who has its id, without what names people, accounts and infrastructure.
    PublicDemo,
    /// The same, with the handle of the agent, in the public list too.
    PublicMinimal,
    /// Redacted by the policy of the merchant.
    PublicRedacted,
    /// All of it.
    PublicFull,
}

impl Visibility {
    /// As it stands in a receipt.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicDemo => "public_demo",
            Self::PublicMinimal => "public_minimal",
            Self::PublicRedacted => "public_redacted",
            Self::PublicFull => "public_full",
        }
    }
}
