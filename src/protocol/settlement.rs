//! What is known about money that has moved: written to the journal, read by handlers and receipts.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// Money has moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Settlement {
    /// The rail's reference: a PaymentIntent id, a transaction hash.
    pub reference: String,
    /// Who paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<Payer>,
    /// When the money moved, by the merchant's clock. Set by the merchant.
    pub settled_at: Timestamp,
    /// Further members of the payment receipt that the method's specification defines.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub receipt: serde_json::Map<String, serde_json::Value>,
}

impl Settlement {
    /// A settlement with the rail's reference, at `settled_at`.
    pub fn new(reference: impl Into<String>, settled_at: Timestamp) -> Self {
        Self { reference: reference.into(), payer: None, settled_at, receipt: serde_json::Map::new() }
    }

    /// Says who paid.
    #[must_use]
    pub fn payer(mut self, payer: Option<Payer>) -> Self {
        self.payer = payer;
        self
    }

    /// Adds a member to the payment receipt. `status`, `method`, `timestamp`, `reference` and
    /// `challengeId` are the merchant's own and cannot be replaced.
    #[must_use]
    pub fn receipt_member(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.receipt.insert(name.to_owned(), value.into());
        self
    }
}

/// Who paid: a DID where the payer gave one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Payer {
    /// The identifier, for instance `did:key:z6Mk...`.
    pub id: String,
    /// Whether the rail proved it. Otherwise it is only what the credential's `source` claims.
    pub verified: bool,
}

impl Payer {
    /// A payer that the rail has proved.
    pub fn verified(id: impl Into<String>) -> Self {
        Self { id: id.into(), verified: true }
    }

    /// A payer that the credential claims to come from.
    pub fn claimed(id: impl Into<String>) -> Self {
        Self { id: id.into(), verified: false }
    }
}

impl fmt::Display for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}
