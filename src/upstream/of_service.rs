//! Any Tower service as an upstream.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::LengthLimitError;
use parking_lot::Mutex;
use tower::ServiceExt as _;
use tower_service::Service;

use super::{Body, BoxError, Call, Upstream, UpstreamError, error::has_source};

/// Any Tower service that can be cloned: a router in this process, an HTTP client of another kind, a stack of layers.
///
/// Each call goes to a clone of its own, which is first waited for until it is ready; then the call counts as started.
/// A service that fails before it is ready was not asked. It has no time limits of its own: give it some by layers, or
/// by [`UpstreamService::timeout`](super::UpstreamService::timeout).
///
/// A service that knows more about its provider puts a [`ProviderCall`](crate::refund::ProviderCall) into the
/// extensions of its answer.
///
/// ```
/// use http::{Request, Response};
/// use tower_mpp::upstream::{Body, BoxError, ServiceUpstream, UpstreamService};
///
/// let echo = tower::service_fn(|request: Request<Body>| async { Ok::<_, BoxError>(Response::new(request.into_body())) });
/// let service = UpstreamService::new(ServiceUpstream::new("echo", echo));
/// # let _ = service;
/// ```
pub struct ServiceUpstream<S> {
    name: String,
    // Only for as long as cloning takes: services need not be shareable.
    service: Mutex<S>,
}

impl<S> ServiceUpstream<S> {
    /// An upstream with a name for logs.
    pub fn new(name: impl Into<String>, service: S) -> Self {
        Self { name: name.into(), service: Mutex::new(service) }
    }
}

#[async_trait]
impl<S, B> Upstream for ServiceUpstream<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn name(&self) -> &str {
        &self.name
    }

    async fn call(&self, request: Request<Body>, call: &Call) -> Result<Response<Body>, UpstreamError> {
        let mut service = self.service.lock().clone();
        service.ready().await.map_err(|error| UpstreamError::Unreachable(error.into()))?;
        call.report.started();
        let answer = service.call(request).await.map_err(|error| {
            let error = error.into();
            match has_source::<LengthLimitError>(&*error) {
                true => UpstreamError::BodyTooLarge,
                false => UpstreamError::Broken(error),
            }
        })?;
        Ok(answer.map(Body::new))
    }
}

impl<S> fmt::Debug for ServiceUpstream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceUpstream").field("name", &self.name).finish_non_exhaustive()
    }
}
