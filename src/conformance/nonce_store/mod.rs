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

use self::lab::Lab;
pub use self::{
    law::{Law, Violation, Violations},
    replicas::Replicas,
};
use crate::{
    Clock as _, SystemClock,
    conformance::laws::{Needs, runs},
    protocol::Timestamp,
    store::NonceStore,
};

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

    runs! {
        suite, law => {
            let store = match (law.needs(), &suite.bounded) {
                (Needs::Store, _) => (suite.make)().await,
                (Needs::Bounded(capacity), Some(bounded)) => bounded(capacity).await,
                (Needs::Bounded(_), None) => continue,
            };
            law.check(&Lab::new(store, suite.start)).await
        };
        "Within tokio the store is used on the caller's runtime, also from other threads."
    }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("start", &self.start).finish_non_exhaustive()
    }
}
