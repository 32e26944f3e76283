//! Signed receipts from the layer: every paid call has one, whatever becomes of it, and no payment depends on it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod capture;
mod failures;
mod outages;
mod refunds;
mod said;
mod shop;
mod steps;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod timing;
mod whole;
mod wire;
