//! The gateway and the agent: as modules over sockets, and as the programs that people run.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../examples/gateway/main.rs"]
#[allow(dead_code, reason = "a test does not need all of the program")]
mod gateway;
#[path = "../support/programs.rs"]
mod programs;
#[path = "../support/spelling.rs"]
mod respelled;
#[path = "../support/stripe.rs"]
mod stripe;
#[path = "../support/mod.rs"]
mod support;

mod admin;
mod agent;
mod agent_surface;
mod cli;
mod config;
mod harness;
mod program;
mod proxy;
mod receipts;
mod refunds;
mod reload;
mod restart;
mod services;
mod shutdown;
mod spelling;
mod startup;
