//! Gateways that are killed while people pay, and several gateways on one journal: afterwards the books of
//! the merchant, of Stripe's stand-in and of the clients say the same.
//!
//! `CRASH_KILLS` and `CRASH_PAYMENTS` make it longer, for every store; `-- --nocapture` shows the books, and with
//! `CRASH_LOG=debug` also what the gateways said before they ended.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../examples/common/journal.rs"]
#[allow(dead_code, reason = "only opened here")]
mod journal;
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

mod backend;
mod books;
mod client;
mod crowd;
mod kills;
mod replicas;
mod shop;
