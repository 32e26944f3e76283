//! An HTTP API as an upstream.

use async_trait::async_trait;
use http::{Request, Response};

use super::{Body, Call, Upstream, UpstreamError};

/// An HTTP API: a base URL, a pool of connections, time limits.
#[derive(Debug)]
pub struct HttpUpstream {
    name: String,
}

/// Collects what an [`HttpUpstream`] needs.
#[derive(Debug)]
#[must_use = "nothing happens until `build()`"]
pub struct HttpUpstreamBuilder {}

#[async_trait]
impl Upstream for HttpUpstream {
    fn name(&self) -> &str {
        &self.name
    }

    async fn call(&self, _request: Request<Body>, _call: &Call) -> Result<Response<Body>, UpstreamError> {
        Err(UpstreamError::Busy)
    }
}
