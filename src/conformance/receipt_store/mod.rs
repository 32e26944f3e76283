//! Checks a [`ReceiptStore`] against every line of its contract.
//!
//! ```
//! use tower_mpp::{conformance::receipt_store::Suite, store::MemoryReceiptStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! Suite::new(|| async { MemoryReceiptStore::new(10_000) })
//!     .bounded(|| async { MemoryReceiptStore::new(100) })
//!     .assert()
//!     .await;
//! # }
//! ```
//!
//! Every [`Law`] gets a fresh store. Put a store that several processes share behind [`Replicas`] too.
//!
//! That the database itself refuses to change a receipt, and that what was answered is there after a crash, no suite can
//! see through the trait: test that beside it.

mod keeping;
mod lab;
mod law;
mod lists;
mod outcomes;
mod pages;
mod replicas;
mod rows;
mod sums;

use std::{future::Future, pin::Pin};

use self::lab::Lab;
pub use self::law::{Law, Violation, Violations};
pub use crate::conformance::nonce_store::Replicas;
use crate::{conformance::laws::suite, store::ReceiptStore};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

suite! {
    ReceiptStore;
    "The laws of a ledger and what they need to know of one.";
    new "A suite that gets its stores from `make`: one for each law, each without a receipt and with room for some\nthousand small ones and some of a mebibyte.";
    bounded "Makes stores that have room for some receipts of a kibibyte, but for fewer than a thousand: checks that a\nfull one refuses. A ledger that is as large as its disk needs none.";
    starting_at "The instant at which the receipts begin, instead of the present one.";
}
