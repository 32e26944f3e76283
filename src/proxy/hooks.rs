//! What a merchant does to requests before they leave for an upstream, and to answers that come back.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use http::{Request, Response, request::Parts};
use serde_json::Value;

use super::{
    credentials::{Credentials, Secret},
    pattern::Params,
};
use crate::upstream::{Body, BoxError};

pub(super) type Later<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
pub(super) type Mutate = dyn Fn(Request<Body>) -> Later<Request<Body>> + Send + Sync;
pub(super) type RewriteRequest = dyn Fn(Request<Body>, Context) -> Later<Request<Body>> + Send + Sync;
pub(super) type RewriteResponse = dyn Fn(Response<Body>, Context) -> Later<Response<Body>> + Send + Sync;

/// The hooks of a service.
#[derive(Clone, Default)]
pub(super) struct Hooks {
    pub(super) mutate: Option<Arc<Mutate>>,
    pub(super) request: Option<Arc<RewriteRequest>>,
    pub(super) response: Option<Arc<RewriteResponse>>,
}

/// The route that a request has matched. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub(super) route: Arc<RouteContext>,
    pub(super) params: Arc<Params>,
}

/// What all requests of a route have in common.
pub(super) struct RouteContext {
    pub(super) service: Arc<str>,
    pub(super) pattern: String,
    pub(super) options: EndpointOptions,
}

impl Context {
    /// The id of the service.
    pub fn service(&self) -> &str {
        &self.route.service
    }

    /// The pattern of the route: `/v1/items/:id`.
    pub fn pattern(&self) -> &str {
        &self.route.pattern
    }

    /// What `:name` stands for in this request, percent-encoded as it came.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The options of the route; empty where it has none.
    pub fn options(&self) -> &EndpointOptions {
        &self.route.options
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("service", &self.service())
            .field("pattern", &self.pattern())
            .field("options", self.options())
            .finish_non_exhaustive()
    }
}

/// What is different on one route: the credentials, and whatever
/// [`rewrite_request`](super::Service::rewrite_request) wants to know. `Debug` prints no value.
#[derive(Clone, Default)]
#[must_use]
pub struct EndpointOptions {
    pub(super) credentials: Credentials,
    values: Vec<(String, Value)>,
}

impl EndpointOptions {
    /// Nothing different yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another API key than that of the preset.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.credentials.api_key = Some(Secret::new(key));
        self
    }

    /// Another bearer token than that of the service.
    pub fn bearer(mut self, token: impl Into<String>) -> Self {
        self.credentials.bearer = Some(Secret::new(token));
        self
    }

    /// A header. The headers of a route take the place of *all* [headers of the service](super::Service::header): one
    /// that is only said there is not sent on this route, and none of its name is taken from the client either.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let header = (name.into(), Secret::new(value));
        self.credentials.headers.get_or_insert_default().push(header);
        self
    }

    /// Anything else, for the hooks.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.values.push((name.into(), value.into()));
        self
    }

    /// What was given as [`option`](Self::option).
    pub fn find(&self, name: &str) -> Option<&Value> {
        self.values.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

impl fmt::Debug for EndpointOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.values.iter().map(|(name, _)| name).collect();
        f.debug_struct("EndpointOptions").field("options", &names).finish_non_exhaustive()
    }
}

impl Hooks {
    pub(super) fn mutate(&mut self, change: impl Fn(&mut Parts) + Send + Sync + 'static) {
        self.mutate = Some(Arc::new(move |request| {
            let (mut head, body) = request.into_parts();
            change(&mut head);
            Box::pin(std::future::ready(Ok(Request::from_parts(head, body))))
        }));
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("mutate", &self.mutate.is_some())
            .field("rewrite_request", &self.request.is_some())
            .field("rewrite_response", &self.response.is_some())
            .finish()
    }
}
