//! The payment journal: the public suite against the stores, against wrong stores, and what the suite
//! cannot ask of every store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bug;
mod conformance;
mod memory;
mod model;
mod notebook;
mod random;
mod wrong;
