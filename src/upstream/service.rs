//! An upstream as a Tower service.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::{Body, BoxError, Call, Report, Upstream};
use crate::receipt::Attribution;

/// Answers requests by an [`Upstream`]: what the [`PaymentLayer`](crate::PaymentLayer) wraps. It scrubs requests and
/// answers, tells refunds and receipts how far the call came, and answers a problem document where there is no answer.
#[derive(Clone)]
pub struct UpstreamService {
    upstream: Arc<dyn Upstream>,
    timeout: Option<Duration>,
}

impl UpstreamService {
    /// A service in front of an upstream.
    pub fn new(upstream: impl Upstream) -> Self {
        Self { upstream: Arc::new(upstream), timeout: None }
    }

    /// How long a call may take in all, the body of its answer included. No limit by default; an upstream has its
    /// own limits for every wait.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
}

impl<B> Service<Request<B>> for UpstreamService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let upstream = Arc::clone(&self.upstream);
        let request = request.map(Body::new);
        let attribution = request.extensions().get::<Attribution>().cloned().unwrap_or_default();
        let call = Call::new(Report::new(attribution));
        Box::pin(async move {
            let answer = upstream.call(request, &call).await;
            Ok(answer.unwrap_or_else(|error| {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = error.status();
                response.extensions_mut().insert(error.provider_call());
                response
            }))
        })
    }
}

impl fmt::Debug for UpstreamService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamService").field("upstream", &self.upstream.name()).finish_non_exhaustive()
    }
}
