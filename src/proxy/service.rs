//! A service: where its upstream is, how it lets us in, and its routes.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use http::{Request, Response, request::Parts};

use super::{
    Context, Route,
    credentials::{ApiKeyIn, Credentials, Secret},
    hooks::Hooks,
};
use crate::{
    receipt::Provider,
    upstream::{Body, BoxError, Failure, HttpUpstreamBuilder, Retry, Upstream, Usage},
};

/// An API that is mounted at `/{id}/`.
///
/// ```
/// use tower_mpp::{Price, proxy::{Route, Service}};
///
/// # fn main() -> Result<(), tower_mpp::protocol::InvalidPrice> {
/// let service = Service::new("my-api", "https://api.example.com/base")
///     .bearer("sk-of-the-merchant")
///     .title("My API")
///     .route("POST /v1/generate", Route::paid(Price::usd("0.01")?))
///     .route("GET /v1/items/:id", Route::free());
/// # Ok(())
/// # }
/// ```
///
/// What is not listed is answered 404. The first route that matches is taken. A key is `METHOD /pattern`, or
/// `/pattern` for any method; in a pattern `:name` stands for one segment that is not empty, and `*` as the last
/// segment for everything that follows.
///
/// # What is sent
///
/// A request reaches the upstream without the credentials of its client. Then it gets those of the service, also on
/// free routes: the API key of a preset, [`bearer`](Self::bearer), the [headers](Self::header); or
/// [`mutate`](Self::mutate) has its way instead of them. [`rewrite_request`](Self::rewrite_request) comes last.
/// None of it is seen by the client: `Debug`, errors and logs do not show it.
#[must_use = "a service does nothing until it is given to a proxy"]
pub struct Service {
    pub(super) id: String,
    pub(super) base_url: String,
    pub(super) title: Option<String>,
    pub(super) description: Option<String>,
    pub(super) docs: Option<Docs>,
    pub(super) key_in: Option<ApiKeyIn>,
    pub(super) credentials: Credentials,
    /// Headers that only the merchant may send.
    pub(super) strip: Vec<String>,
    pub(super) hooks: Hooks,
    /// Another client than our own.
    pub(super) upstream: Option<Arc<dyn Upstream>>,
    pub(super) http: Http,
    pub(super) timeout: Option<Duration>,
    pub(super) routes: Vec<(String, Route)>,
}

/// Where the documentation for language models is: of the service, or of one of its routes.
pub(super) struct Docs(Box<DocsOf>);

type DocsOf = dyn Fn(Option<&str>) -> Option<String> + Send;

/// What is different about our own client.
#[derive(Default)]
pub(super) struct Http {
    pub(super) provider: Option<(Provider, Usage)>,
    pub(super) adjust: Vec<Box<dyn FnOnce(HttpUpstreamBuilder) -> HttpUpstreamBuilder + Send>>,
}

impl Service {
    /// A service at a base URL, whose path is put before the paths of the requests. It has no route yet.
    pub fn new(id: impl Into<String>, base_url: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            base_url: base_url.into(),
            title: None,
            description: None,
            docs: None,
            key_in: None,
            credentials: Credentials::default(),
            strip: Vec::new(),
            hooks: Hooks::default(),
            upstream: None,
            http: Http::default(),
            timeout: None,
            routes: Vec::new(),
        }
    }

    /// Another id than that of a preset: for two accounts of one provider, or for an API that speaks like it.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Another base URL than that of a preset.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// For people: `OpenAI`.
    pub fn title(mut self, text: impl Into<String>) -> Self {
        self.title = Some(text.into());
        self
    }

    /// One sentence for people.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Where the documentation of the service for language models is.
    pub fn docs_llms_url(self, url: impl Into<String>) -> Self {
        let url = url.into();
        self.docs_llms_url_with(move |route| route.is_none().then(|| url.clone()))
    }

    /// The same for each route: called with its key, and with `None` for the service as a whole.
    pub fn docs_llms_url_with(mut self, url: impl Fn(Option<&str>) -> Option<String> + Send + 'static) -> Self {
        self.docs = Some(Docs(Box::new(url)));
        self
    }

    pub(super) fn api_key(mut self, key: impl Into<String>, key_in: ApiKeyIn) -> Self {
        self.credentials.api_key = Some(Secret::new(key));
        self.key_in = Some(key_in);
        self
    }

    /// What receipts say about the calls of a preset.
    pub(super) fn provider(mut self, provider: Provider, usage: Usage) -> Self {
        self.http.provider = Some((provider, usage));
        self
    }

    /// Sends `Authorization: Bearer <token>`.
    pub fn bearer(mut self, token: impl Into<String>) -> Self {
        self.credentials.bearer = Some(Secret::new(token));
        self
    }

    /// Sends a header. What a client sends under this name is dropped, on every route.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let header = (name.into(), Secret::new(value));
        self.credentials.headers.get_or_insert_default().push(header);
        self
    }

    /// Drops a header that a client sends: one that would choose an account, for instance. Payments, cookies,
    /// `Authorization` and the usual headers for API keys are always dropped.
    pub fn remove_header(mut self, name: impl Into<String>) -> Self {
        self.strip.push(name.into());
        self
    }

    /// Makes the credentials of every request, instead of [`bearer`](Self::bearer), [`header`](Self::header) and the
    /// API key of a preset. What clients send under their names is still dropped.
    pub fn mutate(mut self, change: impl Fn(&mut Parts) + Send + Sync + 'static) -> Self {
        self.hooks.mutate(change);
        self
    }

    /// The same with something to wait for, such as a token that is fetched. An error, or 30 seconds without an
    /// answer, are answered 502 without asking the upstream.
    pub fn mutate_async<F, Fut>(mut self, change: F) -> Self
    where
        F: Fn(Request<Body>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Request<Body>, BoxError>> + Send + 'static,
    {
        self.hooks.mutate = Some(Arc::new(move |request| Box::pin(change(request))));
        self
    }

    /// Changes a request as a whole before it leaves, credentials included. Its URI is the path behind the base URL.
    pub fn rewrite_request<F>(mut self, rewrite: F) -> Self
    where
        F: Fn(Request<Body>, &Context) -> Request<Body> + Send + Sync + 'static,
    {
        self.hooks.request = Some(Arc::new(move |request, context| {
            let request = rewrite(request, &context);
            Box::pin(std::future::ready(Ok(request)))
        }));
        self
    }

    /// The same with something to wait for. An error, or 30 seconds without an answer, are answered 502 without
    /// asking the upstream.
    pub fn rewrite_request_async<F, Fut>(mut self, rewrite: F) -> Self
    where
        F: Fn(Request<Body>, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Request<Body>, BoxError>> + Send + 'static,
    {
        self.hooks.request = Some(Arc::new(move |request, context| Box::pin(rewrite(request, context))));
        self
    }

    /// Changes the answer of the upstream before it is told from a failure and before a receipt is put on it. It cannot
    /// set cookies or headers of a payment.
    pub fn rewrite_response<F>(mut self, rewrite: F) -> Self
    where
        F: Fn(Response<Body>, &Context) -> Response<Body> + Send + Sync + 'static,
    {
        self.hooks.response = Some(Arc::new(move |response, context| {
            let response = rewrite(response, &context);
            Box::pin(std::future::ready(Ok(response)))
        }));
        self
    }

    /// The same with something to wait for. An error, or 30 seconds without an answer, are answered 502.
    pub fn rewrite_response_async<F, Fut>(mut self, rewrite: F) -> Self
    where
        F: Fn(Response<Body>, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Body>, BoxError>> + Send + 'static,
    {
        self.hooks.response = Some(Arc::new(move |response, context| Box::pin(rewrite(response, context))));
        self
    }

    /// Another client than our own: it gets every request of this service, and the base URL is not looked at.
    pub fn upstream(mut self, upstream: impl Upstream) -> Self {
        self.upstream = Some(Arc::new(upstream));
        self
    }

    /// Changes our own client: its time limits, the size of its pool, what it reads for receipts.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_mpp::proxy::Service;
    /// let service = Service::new("slow", "https://slow.example.com")
    ///     .http(|client| client.first_byte_timeout(Duration::from_secs(600)));
    /// ```
    pub fn http(mut self, adjust: impl FnOnce(HttpUpstreamBuilder) -> HttpUpstreamBuilder + Send + 'static) -> Self {
        self.http.adjust.push(Box::new(adjust));
        self
    }

    /// Asks what to do about a failure of the upstream: whether it is asked again, for which nothing is charged, or what
    /// is answered. Without it nothing is tried twice. See [`HttpUpstreamBuilder::on_error`].
    pub fn on_upstream_error(self, hook: impl Fn(&Failure<'_>) -> Retry + Send + Sync + 'static) -> Self {
        self.http(|client| client.on_error(hook))
    }

    /// How long a call may take in all, the body of its answer included. No limit by default, apart from those of the
    /// client for every wait.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Adds a route: see [`Service`] for its key. The routes of the presets have names of their own, for instance
    /// [`OpenAi::ChatCompletions`](super::presets::OpenAi::ChatCompletions).
    pub fn route(mut self, key: impl Into<String>, route: Route) -> Self {
        self.routes.push((key.into(), route));
        self
    }
}

impl Docs {
    pub(super) fn url(&self, route: Option<&str>) -> Option<String> {
        (self.0)(route)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the base URL: it may have a password in it before it has been refused for that.
        f.debug_struct("Service").field("id", &self.id).field("routes", &self.routes).finish_non_exhaustive()
    }
}
