//! Upstreams: whatever answers the requests that were paid for.
//!
//! An [`Upstream`] takes one request and gives one answer, with bodies that stream both ways, and tells by a
//! [`Report`] how far it came: refunds and receipts depend on it. [`UpstreamService`] makes a Tower service of it,
//! which a [`PaymentLayer`](crate::PaymentLayer) can charge for.

#[cfg(feature = "bedrock")]
pub mod bedrock;
mod body;
mod error;
mod http;
mod idempotency;
mod of_service;
mod passing;
mod path;
mod report;
pub(crate) mod scrub;
mod service;
mod spelling;
mod usage;

use ::http::{Request, Response};
use async_trait::async_trait;
use tokio::time::Instant;

pub(crate) use self::service::problem_answer;
pub use self::{
    body::{Body, BoxError},
    error::UpstreamError,
    http::{Failure, HttpUpstream, HttpUpstreamBuilder, InvalidUpstream, MountedAt, Retry},
    of_service::ServiceUpstream,
    path::is_plain_path,
    report::{Report, Stage},
    service::UpstreamService,
    spelling::{path_readings, usual_path},
    usage::Usage,
};

/// Something that answers requests: an HTTP API, the models of a cloud, a service in this process.
///
/// # Contract
///
/// * A request arrives scrubbed: without the payment, the credentials and the cookies of its client, and without
///   what belongs to one connection only. What the upstream needs to know its caller, it adds itself. The answer is
///   scrubbed behind it: it can give out neither receipts nor bills nor cookies.
/// * [`Report::started`] is called before the first byte leaves towards the provider, and not earlier: until then
///   the money can be given back because nothing was done. When in doubt, it has started.
/// * An answer of the provider, whatever its status, is `Ok`; [`UpstreamError`] means that there is none.
/// * Whoever is no longer interested drops the future, or the body of the answer: the call then ends, and its
///   connection is not used again unless it is in order.
/// * Every wait has an end: the implementation's own time limits, or [`Call::deadline`].
/// * Nothing is tried twice that may have had an effect, and never is anything charged for again.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an upstream",
    label = "this must implement `Upstream`",
    note = "use an `HttpUpstream`, or `UpstreamService::of_service` for any Tower service"
)]
pub trait Upstream: Send + Sync + 'static {
    /// A name for logs, for instance the host.
    fn name(&self) -> &str;

    /// Answers a request.
    ///
    /// # Errors
    /// [`UpstreamError`] when there is no answer of the provider.
    async fn call(&self, request: Request<Body>, call: &Call) -> Result<Response<Body>, UpstreamError>;
}

#[async_trait]
impl<U: Upstream + ?Sized> Upstream for std::sync::Arc<U> {
    fn name(&self) -> &str {
        (**self).name()
    }

    async fn call(&self, request: Request<Body>, call: &Call) -> Result<Response<Body>, UpstreamError> {
        (**self).call(request, call).await
    }
}

/// What belongs to one call beside its request.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Call {
    /// How far it has come, and what receipts say about it.
    pub report: Report,
    /// When it must be over, the body of its answer included.
    pub deadline: Option<Instant>,
}

impl Call {
    /// A call that nobody has begun.
    pub fn new(report: Report) -> Self {
        Self { report, deadline: None }
    }

    /// Ends it at an instant.
    #[must_use]
    pub fn deadline(mut self, at: Instant) -> Self {
        self.deadline = Some(at);
        self
    }
}
