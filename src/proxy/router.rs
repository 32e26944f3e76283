//! From a request to its route.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CONTENT_TYPE},
    request::Parts,
    uri::PathAndQuery,
};
use tower::ServiceExt as _;
use tower_service::Service;

use super::{
    ProxyBuilder,
    management::{self, Terms},
    mounted::Matched,
    pattern::{Key, Params},
};
use crate::{
    discovery::{Catalog, Discovery},
    flow::Merchant,
    layer::{Payment, declared_length},
    pricing::MediaType,
    protocol::{Problem, ProblemType},
    upstream::{Body, BoxError, MountedAt, UpstreamService, is_plain_path, path_readings, problem_answer},
};

pub(super) type Boxed = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The paid proxy, a Tower service: see the [module](crate::proxy) for what it answers. Cheap to clone.
///
/// It reads the whole path of a request: use it as `axum::Router::fallback_service` or `route_service`, or under hyper
/// by itself, and say with [`base_path`](ProxyBuilder::base_path) what stands before its paths. `nest_service` takes
/// that away already.
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

pub(super) struct Inner {
    /// Empty, or with a slash at the front only.
    pub(super) base_path: String,
    pub(super) mounts: Vec<Mount>,
    pub(super) catalog: Catalog,
    pub(super) discovery: Discovery,
}

/// A service at its place.
pub(super) struct Mount {
    pub(super) id: String,
    /// Where clients see it.
    pub(super) at: MountedAt,
    pub(super) endpoints: Vec<Endpoint>,
}

/// A route at its place.
pub(super) struct Endpoint {
    pub(super) key: Key,
    pub(super) serve: Serve,
    /// The largest length of a body that streams through, where it is declared.
    pub(super) declared_limit: Option<u64>,
    /// The price is read from a JSON body, and the upstream must not read that as something else.
    pub(super) priced_as_json: bool,
}

/// How a route is served.
pub(super) enum Serve {
    Free(UpstreamService),
    Paid { service: Box<Payment<UpstreamService>>, terms: Box<Terms> },
}

/// What is to be done with a request.
enum Verdict<'p> {
    Serve(&'p Endpoint, Params),
    /// The terms of another method.
    Tell(&'p Terms, Method),
    Options,
    NotFound,
}

impl Proxy {
    /// Begins the configuration of a proxy that charges for this merchant.
    pub fn builder(merchant: Merchant) -> ProxyBuilder {
        ProxyBuilder::new(merchant)
    }

    pub(super) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// What is sold here, generated from the services that are mounted and the prices that they charge.
    pub fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    fn route(&self, request: Request<Body>) -> Boxed {
        let (mut head, body) = request.into_parts();
        if !is_plain_path(head.uri.path()) {
            const DETAIL: &str =
                "The path has dot segments, backslashes, control characters or broken percent-encoding.";
            return answer(problem(ProblemType::BadRequest, StatusCode::BAD_REQUEST, DETAIL));
        }
        if let Some(found) = self.0.discovery.try_answer(&head) {
            return answer(found.map(Body::new));
        }
        let Some((mount, rest)) = self.0.mount(head.uri.path()) else { return answer(not_found()) };
        match mount.judge(&head, rest) {
            Verdict::NotFound => answer(not_found()),
            Verdict::Options => answer(options(mount.allow(rest))),
            Verdict::Tell(terms, method) => {
                let allow = mount.allow(rest);
                management::tell(terms, method, head, body, allow)
            }
            Verdict::Serve(endpoint, params) => {
                let Some(target) = target(&head, rest) else { return answer(not_found()) };
                head.extensions.insert(mount.at.clone());
                head.extensions.insert(Matched { target, params: Arc::new(params) });
                endpoint.serve(head, body)
            }
        }
    }
}

impl Inner {
    /// The service of a path, and what is left of the path for it, from a slash on.
    fn mount<'p>(&self, path: &'p str) -> Option<(&Mount, &'p str)> {
        let path = path.strip_prefix(self.base_path.as_str())?.strip_prefix('/')?;
        let (id, _) = path.split_once('/')?;
        let rest = path.strip_prefix(id)?;
        self.mounts.iter().find(|mount| mount.id == id).map(|mount| (mount, rest))
    }
}

impl Mount {
    fn judge(&self, head: &Parts, path: &str) -> Verdict<'_> {
        let method = &head.method;
        if let Some((endpoint, params)) = self.first(method, path) {
            if self.is_priced_otherwise(method, path, endpoint) {
                return Verdict::NotFound;
            }
            return match &endpoint.serve {
                // The layer never charges for it, and the upstream must not answer it for nothing.
                Serve::Paid { .. } if *method == Method::OPTIONS => Verdict::Options,
                Serve::Paid { terms, .. } if *method == Method::HEAD && endpoint.key.method != Some(Method::HEAD) => {
                    Verdict::Tell(terms, Method::GET)
                }
                _ => Verdict::Serve(endpoint, params),
            };
        }
        if *method == Method::OPTIONS && self.endpoints.iter().any(|endpoint| endpoint.key.fits(path).is_some()) {
            return Verdict::Options;
        }
        if *method == Method::POST && head.headers.contains_key(AUTHORIZATION) {
            return self.managed(path).map_or(Verdict::NotFound, |(terms, method)| Verdict::Tell(terms, method));
        }
        Verdict::NotFound
    }

    /// The first route that matches.
    fn first(&self, method: &Method, path: &str) -> Option<(&Endpoint, Params)> {
        let mut about = self.endpoints.iter().filter(|endpoint| endpoint.is_about(method));
        let first = about.find_map(|endpoint| endpoint.fitting(path))?;
        if *method == Method::OPTIONS && first.0.is_paid() {
            // What is said for OPTIONS by name is not answered here.
            let mut named = self.endpoints.iter().filter(|endpoint| endpoint.key.method == Some(Method::OPTIONS));
            return named.find_map(|endpoint| endpoint.fitting(path)).or(Some(first));
        }
        Some(first)
    }

    /// Whether some server may take a path for one of another route than this one, which costs something. The spelling
    /// of a path must not decide about its price.
    fn is_priced_otherwise(&self, method: &Method, path: &str, found: &Endpoint) -> bool {
        let about: Vec<_> = self.endpoints.iter().filter(|endpoint| endpoint.is_about(method)).collect();
        let is_found = |endpoint: &Endpoint| std::ptr::eq(endpoint, found);
        if !about.iter().any(|endpoint| endpoint.is_paid() && !is_found(endpoint)) {
            return false;
        }
        let Some(readings) = path_readings(path) else { return true };
        let readings = readings.iter().flat_map(|reading| [(reading, false), (reading, true)]);
        let mut read = readings.filter_map(|(reading, any_case)| {
            about.iter().find(|endpoint| endpoint.key.may_be(reading, any_case)).copied()
        });
        read.any(|other| other.is_paid() && !is_found(other) && !found.key.is_spelling_of(&other.key))
    }

    /// The only paid route of a path, and its method; `None` when there are several.
    fn managed(&self, path: &str) -> Option<(&Terms, Method)> {
        let mut methods: Vec<&Method> = Vec::new();
        let mut only = None;
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.key.fits(path).is_some()) {
            let method = endpoint.key.method.as_ref()?;
            // Another route of this method comes first.
            if methods.contains(&method) {
                continue;
            }
            methods.push(method);
            if let Serve::Paid { terms, .. } = &endpoint.serve
                && only.replace((&**terms, method.clone())).is_some()
            {
                return None;
            }
        }
        only
    }

    /// The methods of a path.
    fn allow(&self, path: &str) -> HeaderValue {
        const ANY: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let mut methods = vec![Method::OPTIONS];
        let mut add = |method: &Method| {
            if !methods.contains(method) {
                methods.push(method.clone());
            }
        };
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.key.fits(path).is_some()) {
            match &endpoint.key.method {
                Some(method) => {
                    add(method);
                    if *method == Method::GET {
                        add(&Method::HEAD);
                    }
                }
                None => ANY.iter().for_each(&mut add),
            }
        }
        let names: Vec<_> = methods.iter().map(Method::as_str).collect();
        HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
    }
}

impl Endpoint {
    fn fitting(&self, path: &str) -> Option<(&Self, Params)> {
        self.key.fits(path).map(|params| (self, params))
    }

    fn is_paid(&self) -> bool {
        matches!(self.serve, Serve::Paid { .. })
    }

    /// Whether this route has a say about requests with a method: a paid one about OPTIONS too, which must not reach
    /// the upstream past it.
    fn is_about(&self, method: &Method) -> bool {
        let key = &self.key;
        match *method {
            Method::HEAD => key.takes(method) || key.takes(&Method::GET),
            Method::OPTIONS => key.takes(method) || self.is_paid(),
            _ => key.takes(method),
        }
    }

    fn serve(&self, mut head: Parts, body: Body) -> Boxed {
        if self.priced_as_json {
            match MediaType::of(&head.headers) {
                MediaType::Json => {}
                MediaType::Absent => {
                    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                }
                MediaType::Other => {
                    const STATUS: StatusCode = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                    return answer(problem(ProblemType::BadRequest, STATUS, MediaType::WANTED));
                }
            }
        }
        if self.declared_limit.is_some_and(|limit| declared_length(&head, &body) > limit) {
            const DETAIL: &str = "The request body is larger than it may be.";
            return answer(problem(ProblemType::PayloadTooLarge, StatusCode::PAYLOAD_TOO_LARGE, DETAIL));
        }
        let request = Request::from_parts(head, body);
        match &self.serve {
            Serve::Free(service) => Box::pin(service.clone().oneshot(request)),
            Serve::Paid { service, .. } => {
                let paid = (**service).clone().oneshot(request);
                Box::pin(async move {
                    let Ok(response) = paid.await;
                    Ok(response.map(Body::new))
                })
            }
        }
    }
}

/// The path behind the service, with its query, as it was written.
fn target(head: &Parts, rest: &str) -> Option<PathAndQuery> {
    let whole = head.uri.path_and_query()?.as_str();
    let before = head.uri.path().len().checked_sub(rest.len())?;
    whole.get(before..)?.try_into().ok()
}

pub(super) fn answer(response: Response<Body>) -> Boxed {
    Box::pin(std::future::ready(Ok(response)))
}

pub(super) fn not_found() -> Response<Body> {
    let mut response = Response::new(Body::from("Not Found"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=UTF-8"));
    response
}

fn options(allow: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, allow);
    response
}

pub(super) fn problem(kind: ProblemType, status: StatusCode, detail: &'static str) -> Response<Body> {
    problem_answer(&Problem::new(kind, detail).status(status.as_u16()))
}

impl<B> Service<Request<B>> for Proxy
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        ResponseFuture(self.route(request.map(Body::new)))
    }
}

/// The future of an answer of [`Proxy`].
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Boxed);

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<_> = self.0.mounts.iter().map(|mount| &mount.id).collect();
        f.debug_struct("Proxy")
            .field("base_path", &self.0.base_path)
            .field("services", &services)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture(..)")
    }
}
