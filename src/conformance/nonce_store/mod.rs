//! Checks a [`NonceStore`] against every line of its contract.
//!
//! ```
//! use tower_mpp::{conformance::nonce_store::Suite, store::MemoryNonceStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! Suite::new(|| async { MemoryNonceStore::single_process(1000) })
//!     .bounded(|capacity| async move { MemoryNonceStore::single_process(capacity) })
//!     .assert()
//!     .await;
//! # }
//! ```
//!
//! Every [`Law`] gets a fresh store. Put a store that several processes share behind [`Replicas`] too,
//! and run the suite on what you hand to the merchant: on a `Box<dyn NonceStore>` when it is one.

mod ends;
mod keys;
mod lab;
mod law;
mod leases;
mod listing;
mod memory;
mod recovery;
mod refunds;
mod replicas;
mod threads;
mod winning;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use self::{lab::Lab, law::Needs};
pub use self::{
    law::{Law, Violation, Violations},
    replicas::Replicas,
};
use crate::{Clock as _, SystemClock, protocol::Timestamp, store::NonceStore};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Make = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn NonceStore>> + Send + Sync>;
type MakeBounded = Box<dyn Fn(usize) -> BoxFuture<'static, Arc<dyn NonceStore>> + Send + Sync>;

/// The laws of a payment journal and what they need to know of one.
pub struct Suite {
    make: Make,
    bounded: Option<MakeBounded>,
    start: Timestamp,
}

impl Suite {
    /// A suite that gets its stores from `make`: one for each law, each without an entry and with room
    /// for a thousand.
    pub fn new<F, Fut, S>(make: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = S> + Send + 'static,
        S: NonceStore,
    {
        Self {
            make: Box::new(move || {
                let store = make();
                Box::pin(async move { Arc::new(store.await) as Arc<dyn NonceStore> })
            }),
            bounded: None,
            start: SystemClock.now(),
        }
    }

    /// The store counts its entries and has room for just as many as it is told: checks that a full one
    /// refuses.
    #[must_use]
    pub fn bounded<F, Fut, S>(mut self, make: F) -> Self
    where
        F: Fn(usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = S> + Send + 'static,
        S: NonceStore,
    {
        self.bounded = Some(Box::new(move |capacity| {
            let store = make(capacity);
            Box::pin(async move { Arc::new(store.await) as Arc<dyn NonceStore> })
        }));
        self
    }

    /// The instant at which the laws begin, instead of the present one. They tell the store that years
    /// go by, but never that it is earlier.
    #[must_use]
    pub fn starting_at(mut self, start: Timestamp) -> Self {
        self.start = start;
        self
    }

    /// Checks every law and lists those that do not hold.
    ///
    /// Within tokio the store is used on the caller's runtime, also from other threads.
    ///
    /// # Errors
    /// [`Violations`], in order of [`Law`].
    pub async fn run(&self) -> Result<(), Violations> {
        let mut violations = Vec::new();
        for law in Law::ALL {
            let store = match (law.needs(), &self.bounded) {
                (Needs::Store, _) => (self.make)().await,
                (Needs::Bounded(capacity), Some(bounded)) => bounded(capacity).await,
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

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("start", &self.start).finish_non_exhaustive()
    }
}
