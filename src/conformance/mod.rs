//! Public test suites for implementors of the extension traits (feature `conformance`).
//!
//! [`nonce_store`] checks a payment journal: run it against every [`NonceStore`](crate::store::NonceStore)
//! that money depends on, on the real thing and not on a stand-in. [`answer_store`] checks what keeps paid
//! answers for requests that come again with the same `Idempotency-Key`, [`receipt_store`] a ledger of signed
//! receipts, and [`receipt_signer`] what signs them.
#![cfg_attr(feature = "proxy", doc = "[`upstream`] checks an [`Upstream`](crate::upstream::Upstream).")]

pub mod answer_store;
mod laws;
pub mod nonce_store;
pub mod receipt_signer;
pub mod receipt_store;
#[cfg(feature = "proxy")]
pub mod upstream;
