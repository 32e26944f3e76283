//! Upstreams over real sockets: what they pass on, how they fail, and what becomes of the money.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod http2;
mod keys;
mod laws;
mod passing;
mod pool;
mod provider;
mod retries;
mod shop;
mod stalls;
mod streams;
mod usage;
mod wrong;
