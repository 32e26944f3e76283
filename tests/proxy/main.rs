//! The paid proxy from outside: what upstreams see, what clients get, what is charged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod catalog;
mod charging;
mod configuration;
mod credentials;
mod faults;
mod hooks;
mod managing;
mod media_types;
mod own_vectors;
mod paths;
mod peers;
#[path = "../support/spelling.rs"]
mod respelled;
mod shop;
mod spelling;
mod streams;
#[path = "../support/mod.rs"]
mod support;
