//! The journal in Redis, against real servers that the tests start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod conformance;
mod outages;
mod payments;
mod races;
#[path = "../support/redis.rs"]
mod redis_server;
mod room;
mod trust;
