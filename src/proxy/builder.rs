//! The configuration of a proxy, checked once, at `build()`.

use std::{fmt, sync::Arc};

use tower_layer::Layer as _;

use super::{
    InvalidProxy, Proxy, Route, Service,
    credentials::{self, Injection},
    hooks::RouteContext,
    management::NotHere,
    mounted::Mounted,
    pattern::Key,
    router::{Endpoint, Inner, Mount, Serve},
    service::Http,
};
use crate::{
    discovery::{self, Catalog, Discovery, Link, Payment, Terms},
    flow::Merchant,
    layer::PaymentLayer,
    pricing::Pricing as _,
    trace::TARGET,
    upstream::{HttpUpstream, MountedAt, Upstream, UpstreamService, is_plain_path},
};

/// Collects what a [`Proxy`] needs. Every mistake is found by [`build`](Self::build).
#[must_use = "nothing happens until `build()`"]
pub struct ProxyBuilder {
    merchant: Merchant,
    catalog: Catalog,
    services: Vec<Service>,
    adjust: Vec<Box<dyn FnOnce(Discovery) -> Discovery + Send>>,
}

impl ProxyBuilder {
    pub(super) fn new(merchant: Merchant) -> Self {
        Self { merchant, catalog: Catalog::default(), services: Vec::new(), adjust: Vec::new() }
    }

    /// Of the proxy, for people.
    pub fn title(mut self, text: impl Into<String>) -> Self {
        self.catalog.title = Some(text.into());
        self
    }

    /// One sentence about the proxy.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.catalog.description = Some(text.into());
        self
    }

    /// The version of the API: `info.version` of OpenAPI.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.catalog.version = Some(version.into());
        self
    }

    /// Categories of the discovery draft: `compute`, `data`.
    pub fn categories<T: Into<String>>(mut self, categories: impl IntoIterator<Item = T>) -> Self {
        self.catalog.categories = categories.into_iter().map(Into::into).collect();
        self
    }

    /// Where documentation is that is not ours.
    pub fn api_reference(mut self, url: impl Into<String>) -> Self {
        self.catalog.api_reference = Some(url.into());
        self
    }

    /// The merchant's page.
    pub fn homepage(mut self, url: impl Into<String>) -> Self {
        self.catalog.homepage = Some(url.into());
        self
    }

    /// How to use the API, for agents: `info.x-guidance` of OpenAPI.
    pub fn guidance(mut self, text: impl Into<String>) -> Self {
        self.catalog.guidance = Some(text.into());
        self
    }

    /// The public origin, such as `https://api.example.com`: links to documents of the proxy begin with it.
    pub fn origin(mut self, url: impl Into<String>) -> Self {
        self.catalog.origin = Some(url.into());
        self
    }

    /// Another document of the merchant, named at the end of `llms.txt`.
    pub fn link(mut self, link: Link) -> Self {
        self.catalog.links.push(link);
        self
    }

    /// Changes what discovery serves: adds `/.well-known/mpp`, for instance.
    pub fn discovery(mut self, adjust: impl FnOnce(Discovery) -> Discovery + Send + 'static) -> Self {
        self.adjust.push(Box::new(adjust));
        self
    }

    /// What stands before every path: `/api/proxy`. Requests without it are answered 404.
    pub fn base_path(mut self, path: impl Into<String>) -> Self {
        self.catalog.base_path = path.into();
        self
    }

    /// Mounts a service at `/{id}/`.
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// [`InvalidProxy`], which names the service and the key and says what to do.
    pub fn build(self) -> Result<Proxy, InvalidProxy> {
        let Self { merchant, mut catalog, services, adjust } = self;
        catalog.base_path = base_path(catalog.base_path)?;
        let mut mounts: Vec<Mount> = Vec::with_capacity(services.len());
        for service in services {
            let (mount, listed) = mount(&merchant, service, &catalog.base_path)?;
            mounts.push(mount);
            catalog.services.push(listed);
        }
        let discovery = adjust.into_iter().fold(Discovery::new(&catalog)?, |discovery, adjust| adjust(discovery));
        Ok(Proxy::new(Inner { base_path: catalog.base_path.clone(), mounts, catalog, discovery }))
    }
}

fn base_path(path: String) -> Result<String, InvalidProxy> {
    let wrong = |problem| Err(InvalidProxy::BasePath { path: path.clone(), problem });
    if path.is_empty() || path == "/" {
        return Ok(String::new());
    }
    if !path.starts_with('/') || path.ends_with('/') || path.contains("//") {
        return wrong("write it with a slash at the front and none at the end: \"/api/proxy\"");
    }
    if !is_plain_path(&path) || !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte)) {
        return wrong(
            "use letters, digits and - . _ ~ in it, no dot segments, and nothing that stands for something else",
        );
    }
    Ok(path)
}

fn mount(
    merchant: &Merchant,
    mut service: Service,
    base_path: &str,
) -> Result<(Mount, discovery::Service), InvalidProxy> {
    let routes = std::mem::take(&mut service.routes);
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(routes.len());
    let mut listed = discovery::Service {
        id: service.id.clone(),
        title: service.title.clone(),
        description: service.description.clone(),
        docs_llms_url: service.docs.as_ref().and_then(|docs| docs.url(None)),
        routes: Vec::with_capacity(routes.len()),
    };
    let id: Arc<str> = service.id.as_str().into();
    let at = MountedAt(format!("{base_path}/{id}").into());
    let upstream = client(&mut service, &at)?;
    for (text, route) in routes {
        let wrong = |problem| InvalidProxy::Route { service: service.id.clone(), key: text.clone(), problem };
        let key = Key::parse(&text).map_err(wrong)?;
        if let Some(earlier) = endpoints.iter().find(|earlier| earlier.key.covers(&key)) {
            let by = written(&earlier.key);
            return Err(InvalidProxy::Unreachable { service: service.id, key: text, by });
        }
        if route.pricing.is_some() && key.method == Some(http::Method::OPTIONS) {
            return Err(wrong("OPTIONS is never charged for; make the route free"));
        }
        if route.pricing.is_none() && route.adjust.is_some() {
            return Err(wrong("a free route charges nothing; remove .charge(..), or make it a paid one"));
        }
        let mut described = describe(&service, &text, &key, &route);
        let injection = injection(&service, &text, &route)?;
        let context =
            RouteContext { service: Arc::clone(&id), pattern: key.pattern.clone(), options: route.options.clone() };
        let mounted = Mounted {
            upstream: Arc::clone(&upstream),
            injection,
            hooks: service.hooks.clone(),
            context: Arc::new(context),
        };
        let (endpoint, payment) = endpoint(merchant, &service, key, text, route, mounted)?;
        described.payment = payment;
        listed.routes.push(described);
        endpoints.push(endpoint);
    }
    Ok((Mount { id: service.id, at, endpoints }, listed))
}

fn endpoint(
    merchant: &Merchant,
    service: &Service,
    key: Key,
    text: String,
    route: Route,
    mounted: Mounted,
) -> Result<(Endpoint, Payment), InvalidProxy> {
    let mut upstream = UpstreamService::new(mounted);
    if let Some(limit) = service.timeout {
        upstream = upstream.timeout(limit);
    }
    let streams = route.pricing.is_none() || !route.bind_body;
    let declared_limit = route.body_limit.filter(|_| streams).map(|limit| limit as u64);
    if let Some(limit) = route.body_limit.filter(|_| streams) {
        upstream = upstream.body_limit(limit);
    }
    let Some(pricing) = route.pricing else {
        let serve = Serve::Free(upstream);
        return Ok((Endpoint { key, serve, declared_limit, priced_as_json: false }, Payment::Free));
    };
    let description = pricing.fixed().and_then(|prices| prices.text()).or(route.description.as_deref());
    let description = description.map(str::to_owned);
    let priced_as_json = pricing.reads_json();
    let charge = || {
        let mut layer = merchant.charge(pricing)?.bind_query(true).bind_body(route.bind_body);
        if let Some(limit) = route.body_limit {
            layer = layer.body_limit(limit);
        }
        if let Some(description) = &route.description {
            layer = layer.description(description);
        }
        match route.adjust {
            Some(adjust) => (adjust.0)(layer),
            None => Ok(layer),
        }
    };
    let layer = charge().map_err(|source| InvalidProxy::Charge { service: service.id.clone(), key: text, source })?;
    let serve = Serve::Paid { service: Box::new(layer.layer(upstream)), terms: Box::new(layer.layer(NotHere)) };
    Ok((Endpoint { key, serve, declared_limit, priced_as_json }, payment(merchant, &layer, description.as_deref())))
}

/// What discovery says about a route, but for its price.
fn describe(service: &Service, text: &str, key: &Key, route: &Route) -> discovery::Route {
    discovery::Route {
        method: key.method.clone(),
        path: format!("/{}{}", service.id, key.pattern),
        payment: Payment::Free,
        docs_llms_url: service.docs.as_ref().and_then(|docs| docs.url(Some(text))),
        description: route.description.clone(),
        request_schema: route.request_schema.clone(),
        response_schema: route.response_schema.clone(),
    }
}

/// What a route costs, by the layer that charges it.
fn payment(merchant: &Merchant, layer: &PaymentLayer, description: Option<&str>) -> Payment {
    let offers = layer.offers();
    if offers.is_empty() {
        // The price depends on the request; how it can be paid does not.
        return Payment::dynamic(merchant, description);
    }
    Payment::Offers(offers.iter().map(|offer| Terms::of(offer, description)).collect())
}

fn injection(service: &Service, key: &str, route: &Route) -> Result<Injection, InvalidProxy> {
    let of_route = |key: &str, (field, problem): credentials::Unusable| InvalidProxy::Credential {
        service: service.id.clone(),
        key: key.to_owned(),
        field,
        problem,
    };
    let mut injection = service
        .credentials
        .injection(&route.options.credentials, service.key_in.as_ref())
        .map_err(|unusable| of_route(key, unusable))?;
    for name in &service.strip {
        injection.strip(credentials::header_name(name).map_err(|unusable| of_route("", unusable))?);
    }
    Ok(injection)
}

/// Who calls the upstream of a service.
fn client(service: &mut Service, at: &MountedAt) -> Result<Arc<dyn Upstream>, InvalidProxy> {
    let wrong = |field: &str, problem: &str| InvalidProxy::Upstream {
        service: service.id.clone(),
        problem: format!("{field}: {problem}"),
    };
    let Http { provider, adjust } = std::mem::take(&mut service.http);
    if let Some(upstream) = service.upstream.take() {
        if !adjust.is_empty() {
            return Err(wrong(
                "http",
                "there is another client; set this there, and remove .http(..) and .on_upstream_error(..)",
            ));
        }
        return Ok(upstream);
    }
    let mut builder = HttpUpstream::builder(service.base_url.as_str());
    if let Some((provider, usage)) = provider {
        builder = builder.provider(provider).usage(usage);
    }
    for adjust in adjust {
        builder = adjust(builder);
    }
    let upstream = builder.build().map_err(|error| wrong(error.field(), error.problem()))?;
    let sends_secrets = service.hooks.mutate.is_some() || !service.credentials.is_empty();
    if upstream.leaks_secrets() || (sends_secrets && !upstream.is_safe_for_secrets()) {
        tracing::warn!(
            target: TARGET,
            service = service.id,
            at = %at.0,
            "credentials go to this upstream over plain HTTP: everybody on the way can read them"
        );
    }
    Ok(Arc::new(upstream))
}

fn written(key: &Key) -> String {
    match &key.method {
        Some(method) => format!("{method} {}", key.pattern),
        None => key.pattern.clone(),
    }
}

impl fmt::Debug for ProxyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyBuilder")
            .field("base_path", &self.catalog.base_path)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}
