//! Tower middleware for merchants of the Machine Payments Protocol.
#![forbid(unsafe_code)]

mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod method;
pub mod protocol;
pub mod store;

pub use clock::{Clock, ManualClock, SystemClock};
