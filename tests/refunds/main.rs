//! Money that was paid for nothing comes back: by the rules, by the sweeper, and when the merchant wants it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod asked;
mod rules;
mod shop;
#[path = "../support/mod.rs"]
mod support;
mod sweeping;
