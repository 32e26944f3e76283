//! Checks an [`AnswerStore`] against every line of its contract.
//!
//! ```
//! use tower_mpp::{conformance::answer_store::Suite, store::MemoryAnswerStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! Suite::new(|| async { MemoryAnswerStore::new(16 * 1024 * 1024) })
//!     .bounded(|| async { MemoryAnswerStore::new(100_000) })
//!     .assert()
//!     .await;
//! # }
//! ```
//!
//! Every [`Law`] gets a fresh store. Put a store that several processes share behind [`Replicas`] too.

mod fencing;
mod keeping;
mod lab;
mod law;
mod reserving;
mod rows;

use std::{future::Future, pin::Pin};

use self::lab::Lab;
pub use self::law::{Law, Violation, Violations};
pub use crate::conformance::nonce_store::Replicas;
use crate::{conformance::laws::suite, store::AnswerStore};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

suite! {
    AnswerStore;
    "The laws of a store of answers and what they need to know of one.";
    new "A suite that gets its stores from `make`: one for each law, each without an answer and with room for a\nthousand small ones and some of a mebibyte.";
    bounded "Makes stores that have room for some answers of four kibibytes, but for fewer than a thousand: checks that\na full one refuses.";
    starting_at "The instant at which the laws begin, instead of the present one. They tell the store that years go by, but\nnever that it is earlier.";
}
