#![doc = include_str!("docs/crate.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]
// Nothing that comes from the network may be able to panic this process.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]

mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod discovery;
mod flow;
mod html;
mod key;
mod layer;
pub mod ledger;
pub mod method;
pub mod pricing;
pub mod protocol;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod receipt;
pub mod refund;
pub mod store;
mod trace;
#[cfg(feature = "proxy")]
pub mod upstream;

pub use self::{
    clock::{Clock, ManualClock, SystemClock},
    flow::{
        ConfigError, HttpsPolicy, Merchant, MerchantBuilder, OfferTerms, OverTls, PaymentInfo, PaymentOutcome,
        PendingPayment, Redemption, RefundFailed, RefundStatus, Refusal, RefusalKind, ReplayAnswer, SettleTiming,
        Sweeper, Swept, Unfulfilled, UnfulfilledState,
    },
    key::{InvalidKey, KeyRing, MIN_KEY_BYTES},
    layer::{Payment, PaymentLayer, ReceiptHeader, RequestBody, ResponseBody, ResponseFuture},
    protocol::Price,
    trace::{TARGET as TRACING_TARGET, metric},
};
#[cfg(feature = "axum")]
pub use layer::NotCharged;
