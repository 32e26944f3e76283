//! The Tower face: [`PaymentLayer`] wraps a service in [`Payment`], which charges for it.
//!
//! The inner service and both bodies stay what they are: nothing of them is boxed, nothing has to be
//! `Send` or `'static` that was not, and errors pass through. The one allocation that is more than a
//! buffer is the paid gate itself.

mod after;
mod answers;
mod body;
#[cfg(feature = "axum")]
mod extract;
mod future;
#[allow(clippy::module_inception, reason = "the name that tower-http uses")]
mod layer;
mod leave;
mod negotiate;
mod page;
mod receipted;
mod render;
mod request_body;
mod route;
mod service;

#[cfg(feature = "axum")]
pub use self::extract::NotCharged;
#[cfg(feature = "proxy")]
pub(crate) use self::route::declared_length;
pub use self::{
    body::ResponseBody, future::ResponseFuture, layer::PaymentLayer, receipted::ReceiptHeader,
    request_body::RequestBody, service::Payment,
};
