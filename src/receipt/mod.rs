//! Signed receipts: a JSON document about a whole call, which anyone can check.
//!
//! A receipt is canonicalised (Unicode NFC, then RFC 8785), signed, and added to a ledger
//! ([`ReceiptStore`](crate::store::ReceiptStore)). What everybody may see of it is signed on its own, so that
//! whatever is served verifies with [`verify_receipt`]. (The payment receipt of the core draft is another thing:
//! [`protocol::Receipt`](crate::protocol::Receipt).)

mod attribution;
mod body;
mod builder;
mod canonical;
#[cfg(feature = "encrypted-capture")]
mod capture;
mod cost;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod hash;
mod issue;
mod jwks;
mod project;
mod signer;
mod verify;
mod write;

#[cfg(feature = "encrypted-capture")]
pub use self::capture::{
    ENCRYPTION_ALG, InvalidRecipient, OpenError, Recipient, RecipientSecret, SealError, open, seal,
};
pub use self::{
    attribution::Attribution,
    body::{CostConfidence, PaidWith, PayloadCapture, Provider, ReceiptBody, ReceiptType, SigningAlgorithm},
    builder::{ReceiptsBuilder, ReceiptsError},
    canonical::{CanonicalError, MAX_JSON_BYTES, canonicalize},
    cost::{InvalidCost, UsdCost},
    hash::{hash_text, payload_hash},
    issue::{IssueError, Receipts, SignedReceipt},
    jwks::{InvalidJwks, Jwk, Jwks},
    project::{InvalidPolicy, RedactionPolicy},
    signer::{Ed25519Signer, HmacSigner, InvalidReceiptKey, ReceiptSigner, SignError},
    verify::{InvalidBody, Verified, VerifyError, verify_receipt, verify_receipt_with_secret},
};
