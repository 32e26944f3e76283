//! The upstream of one route: what happens to a request between the payment and the provider.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{Request, Response, Uri, uri::PathAndQuery};

use super::{
    Context,
    credentials::Injection,
    hooks::{Hooks, RouteContext},
    pattern::Params,
};
use crate::{
    flow,
    upstream::{Body, BoxError, Call, Upstream, UpstreamError},
};

/// The longest that a hook may take.
const HOOK: Duration = Duration::from_secs(30);

/// What the router has found out about a request; it travels in the extensions through the payment.
#[derive(Clone)]
pub(super) struct Matched {
    /// Path and query as the upstream is to see them, behind its base URL.
    pub(super) target: PathAndQuery,
    pub(super) params: Arc<Params>,
}

/// One route in front of the client of its service.
pub(super) struct Mounted {
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) injection: Injection,
    pub(super) hooks: Hooks,
    pub(super) context: Arc<RouteContext>,
}

#[async_trait]
impl Upstream for Mounted {
    fn name(&self) -> &str {
        self.upstream.name()
    }

    async fn call(&self, mut request: Request<Body>, call: &Call) -> Result<Response<Body>, UpstreamError> {
        let matched = request.extensions_mut().remove::<Matched>();
        let Matched { target, params } = matched.ok_or_else(|| UpstreamError::Request("not routed".into()))?;
        *request.uri_mut() = Uri::from(target);
        let context = Context { route: Arc::clone(&self.context), params };
        self.injection.clean(request.headers_mut());
        match &self.hooks.mutate {
            Some(mutate) => request = in_time(mutate(request)).await.map_err(UpstreamError::Request)?,
            None => self.injection.apply(request.headers_mut()),
        }
        if let Some(rewrite) = &self.hooks.request {
            request = in_time(rewrite(request, context.clone())).await.map_err(UpstreamError::Request)?;
        }
        let response = self.upstream.call(request, call).await?;
        match &self.hooks.response {
            Some(rewrite) => in_time(rewrite(response, context)).await.map_err(UpstreamError::Broken),
            None => Ok(response),
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    flow::within(HOOK, work).await.unwrap_or_else(|| Err("a hook took too long".into()))
}

impl fmt::Debug for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mounted")
            .field("injection", &self.injection)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}
