//! What the tests share: a server on a socket, a client, rails and stores that do as they are told.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, reason = "no test uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod client;
pub mod clock;
pub mod frames;
pub mod local;
pub mod rail;
pub mod server;
pub mod stores;

pub use self::{
    client::*,
    clock::RuntimeClock,
    frames::Frames,
    local::*,
    rail::{RefundFault, TestRail},
    server::*,
    stores::{Broken, FaultyStore, Outage, YIELDS, YieldingStore, give_way},
};

use tower_mpp::{KeyRing, Merchant, MerchantBuilder, store::MemoryNonceStore};

pub const KEY: &str = "a test key of thirty-two bytes..";

/// A merchant at `127.0.0.1` with a journal in memory and one rail, `demo`.
pub fn builder(rail: &TestRail) -> MerchantBuilder {
    Merchant::builder("127.0.0.1", KeyRing::new(KEY).unwrap())
        .method(rail.clone())
        .nonce_store(MemoryNonceStore::single_process(100_000))
}

pub fn merchant(rail: &TestRail) -> Merchant {
    builder(rail).build().unwrap()
}
