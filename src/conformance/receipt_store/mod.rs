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

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use self::lab::Lab;
pub use self::law::{Law, Violation, Violations};
pub use crate::conformance::nonce_store::Replicas;
use crate::{Clock as _, SystemClock, conformance::laws::Needs, protocol::Timestamp, store::ReceiptStore};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Make = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn ReceiptStore>> + Send + Sync>;

/// The laws of a ledger and what they need to know of one.
pub struct Suite {
    make: Make,
    bounded: Option<Make>,
    start: Timestamp,
}

impl Suite {
    /// A suite that gets its stores from `make`: one for each law, each without a receipt and with room for some
    /// thousand small ones and some of a mebibyte.
    pub fn new<F, Fut, S>(make: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = S> + Send + 'static,
        S: ReceiptStore,
    {
        Self { make: boxed(make), bounded: None, start: SystemClock.now() }
    }

    /// Makes stores that have room for some receipts of a kibibyte, but for fewer than a thousand: checks that a
    /// full one refuses. A ledger that is as large as its disk needs none.
    #[must_use]
    pub fn bounded<F, Fut, S>(mut self, make: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = S> + Send + 'static,
        S: ReceiptStore,
    {
        self.bounded = Some(boxed(make));
        self
    }

    /// The instant at which the receipts begin, instead of the present one.
    #[must_use]
    pub fn starting_at(mut self, start: Timestamp) -> Self {
        self.start = start;
        self
    }

    /// Checks every law and lists those that do not hold.
    ///
    /// # Errors
    /// [`Violations`], in order of [`Law`].
    pub async fn run(&self) -> Result<(), Violations> {
        let mut violations = Vec::new();
        for law in Law::ALL {
            let store = match (law.needs(), &self.bounded) {
                (Needs::Store, _) => (self.make)().await,
                (Needs::Bounded(_), Some(bounded)) => bounded().await,
                (Needs::Bounded(_), None) => continue,
            };
            if let Err(found) = law.check(&Lab::new(store, self.start)).await {
                violations.push(Violation::new(*law, found));
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(Violations::new(violations)) }
    }

    /// [`run`](Self::run), for a test.
    ///
    /// # Panics
    /// When a law does not hold.
    #[allow(clippy::panic)] // It is what a test asks for.
    pub async fn assert(&self) {
        if let Err(violations) = self.run().await {
            panic!("{violations}");
        }
    }
}

fn boxed<F, Fut, S>(make: F) -> Make
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = S> + Send + 'static,
    S: ReceiptStore,
{
    Box::new(move || {
        let store = make();
        Box::pin(async move { Arc::new(store.await) as Arc<dyn ReceiptStore> })
    })
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("start", &self.start).finish_non_exhaustive()
    }
}
