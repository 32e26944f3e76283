//! `examples/check_merchant` as a client sees it: every line of its contract, over sockets, with the
//! program as a process of its own.
#![cfg(all(unix, feature = "full"))]
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/programs.rs"]
mod programs;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/stripe.rs"]
mod stripe;
#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod configuration;
mod end;
mod money;
mod process;
mod receipts;
mod routes;
mod stores;
