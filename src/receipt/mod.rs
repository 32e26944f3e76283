//! Signed receipts: a JSON document about a whole call, which anyone can check.
//!
//! A receipt is canonicalised (Unicode NFC, then RFC 8785), signed, and added to a ledger
//! ([`ReceiptStore`](crate::store::ReceiptStore)). What everybody may see of it is signed on its own, so that
//! whatever is served verifies with [`verify_receipt`]. (The payment receipt of the core draft is another thing:
//! [`protocol::Receipt`](crate::protocol::Receipt).)

mod attribution;
mod body;
mod canonical;
mod issue;
mod jwks;
mod project;
mod signer;
mod verify;

pub use self::{
    attribution::Attribution,
    body::{CostConfidence, PaidWith, PayloadCapture, Provider, ReceiptBody, ReceiptType, SigningAlgorithm, UsdCost},
    canonical::{CanonicalError, canonicalize},
    issue::{IssueError, Receipts, ReceiptsBuilder, ReceiptsError, SignedReceipt},
    jwks::{InvalidJwks, Jwk, Jwks},
    signer::{Ed25519Signer, HmacSigner, InvalidReceiptKey, ReceiptSigner, SignError},
    verify::{Verified, VerifyError, verify_receipt, verify_receipt_with_secret},
};
