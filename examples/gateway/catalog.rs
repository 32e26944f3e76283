//! What is sold here, told to agents before they ask: generated from the routes and services of the configuration
//! and the merchant that charges for them.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{Method, StatusCode, Uri};
use serde::Deserialize;
use tower_mpp::{
    discovery::{Catalog, Discovery, Payment, Route, Service},
    proxy::Proxy,
};

use super::{
    agent,
    app::Foundation,
    config::ConfigError,
    pricing,
    problem::Problem,
    routes::{self, Pricing},
    settings::{Place, Settings},
};

/// What `[[routes]]` are called among the services.
const ROUTES: &str = "api";
/// No service can have the name of what is the gateway's own.
pub(super) const OWN: [&str; 2] = [ROUTES, "agent"];

/// `[discovery]`, as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    enabled: Option<bool>,
    title: Option<String>,
    description: Option<String>,
    version: Option<String>,
    #[serde(default)]
    categories: Vec<String>,
    api_reference: Option<String>,
    homepage: Option<String>,
}

/// The same, checked.
#[derive(Clone, Debug)]
pub(crate) struct DiscoverySettings {
    table: Table,
    /// Where it stands, for errors that are found later.
    place: String,
}

/// Nothing when it is switched off.
pub(super) fn check(place: Place<'_>, table: Option<Table>) -> Option<DiscoverySettings> {
    let table = table.unwrap_or_default();
    table.enabled.unwrap_or(true).then(|| DiscoverySettings { table, place: place.of("discovery") })
}

/// Whether a pattern is for one of the documents alone.
pub(super) fn is_own(path: &str) -> bool {
    path == "/discover"
        || path.starts_with("/discover/")
        || ["/discover.md", "/llms.txt", "/openapi.json"].contains(&path)
}

/// The documents of everything that is sold; nothing when discovery is off.
pub(super) fn documents(
    settings: &Settings,
    foundation: &Foundation,
    proxy: Option<&Proxy>,
) -> Result<Arc<[Discovery]>, ConfigError> {
    let Some(discovery) = &settings.discovery else { return Ok(Arc::default()) };
    let made = |catalog: &Catalog| Discovery::new(catalog).map_err(|error| ConfigError::new(&discovery.place, error));
    let mut documents = vec![made(&catalog(discovery, settings, foundation, proxy)?)?];
    if let Some(proxy) = proxy.filter(|proxy| !proxy.catalog().base_path.is_empty()) {
        // Below the base path there is what is served there.
        let mut below = discovery.catalog(foundation);
        below.base_path = proxy.catalog().base_path.clone();
        below.services = services(settings, foundation, proxy)?;
        documents.push(made(&below)?);
    }
    Ok(documents.into())
}

/// Answers what is asked about, and lets pass what is asked for.
pub(super) async fn answer(documents: Arc<[Discovery]>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match documents.iter().find_map(|documents| documents.try_answer(&head)) {
        Some(answer) => answer.map(Body::new).into_response(),
        None => next.run(Request::from_parts(head, body)).await,
    }
}

/// What the proxy would tell by itself.
pub(super) fn own_documents(settings: &Settings, proxy: &Proxy) -> Result<Discovery, ConfigError> {
    Discovery::new(proxy.catalog()).map_err(|error| ConfigError::new(&settings.services.place, error))
}

/// Does not tell it.
pub(super) async fn hide(own: Discovery, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    if own.answers(&head) {
        return Problem::new(StatusCode::NOT_FOUND, "There is no such resource.").into_response();
    }
    next.run(Request::from_parts(head, body)).await
}

/// Everything, by its whole path.
fn catalog(
    discovery: &DiscoverySettings,
    settings: &Settings,
    foundation: &Foundation,
    proxy: Option<&Proxy>,
) -> Result<Catalog, ConfigError> {
    let mut catalog = discovery.catalog(foundation);
    if let Some(agent) = settings.agent.as_ref().filter(|agent| agent.is_on()) {
        catalog.services.push(agent::service(agent, &foundation.merchant));
    }
    if !settings.routes.is_empty() {
        catalog.services.push(own(discovery, settings, foundation)?);
    }
    if let Some(proxy) = proxy {
        let base_path = &proxy.catalog().base_path;
        let mut services = services(settings, foundation, proxy)?;
        for route in services.iter_mut().flat_map(|service| &mut service.routes) {
            route.path = format!("{base_path}{}", route.path);
        }
        catalog.services.extend(services);
    }
    Ok(catalog)
}

impl DiscoverySettings {
    /// With nothing in it yet.
    fn catalog(&self, foundation: &Foundation) -> Catalog {
        let Table { title, description, version, categories, api_reference, homepage, .. } = self.table.clone();
        let mut catalog = Catalog::new();
        catalog.title = title;
        catalog.description = description;
        catalog.version = version;
        catalog.categories = categories;
        catalog.api_reference = api_reference;
        catalog.homepage = homepage;
        // On this machine whoever reads it knows better under which name it is reached.
        let is_public = !foundation.merchant.realm().is_loopback() && foundation.origin.parse::<Uri>().is_ok();
        catalog.origin = is_public.then(|| foundation.origin.clone());
        catalog
    }
}

/// `[[routes]]` as a service.
fn own(discovery: &DiscoverySettings, settings: &Settings, foundation: &Foundation) -> Result<Service, ConfigError> {
    let title = discovery.table.title.clone().unwrap_or_else(|| settings.realm.to_string());
    let mut service = Service::new(ROUTES).title(title);
    for route in &settings.routes {
        let payment = payment(&route.pricing, &route.place, route.description.as_deref(), foundation)?;
        for method in methods(route) {
            let mut entry = Route::new(method, listed(&route.path)).payment(payment.clone());
            if let Some(description) = &route.description {
                entry = entry.description(description);
            }
            if let Some(schema) = pricing::schema(&route.pricing) {
                entry = entry.request_schema(schema);
            }
            service = service.route(entry);
        }
    }
    Ok(service)
}

/// The services of the proxy, with the prices of their models too.
fn services(settings: &Settings, foundation: &Foundation, proxy: &Proxy) -> Result<Vec<Service>, ConfigError> {
    let mut services = proxy.catalog().services.clone();
    for (service, written) in services.iter_mut().zip(&settings.services.list) {
        for (route, written) in service.routes.iter_mut().zip(&written.routes) {
            if let Pricing::ByModel(_) = written.pricing {
                let description = route.description.clone();
                route.payment = payment(&written.pricing, &written.place, description.as_deref(), foundation)?;
                route.request_schema = route.request_schema.take().or_else(|| pricing::schema(&written.pricing));
            }
        }
    }
    Ok(services)
}

fn payment(
    pricing: &Pricing,
    place: &str,
    description: Option<&str>,
    foundation: &Foundation,
) -> Result<Payment, ConfigError> {
    let merchant = &foundation.merchant;
    Ok(match pricing {
        Pricing::Free => Payment::Free,
        Pricing::Fixed(price) => Payment::priced(merchant, price.clone(), description),
        Pricing::ByModel(prices) => {
            let models = pricing::by_model(prices.clone())
                .map_err(|error| ConfigError::new(format_args!("{place}.price_by_model"), error))?;
            Payment::by_model(merchant, &models, description)
        }
    })
}

/// One entry for all methods, where that is true.
fn methods(route: &routes::Route) -> Vec<Option<Method>> {
    if routes::METHODS.iter().all(|method| *method == Method::HEAD || route.methods.contains(method.as_str())) {
        return vec![None];
    }
    let named = route.methods.iter().filter_map(|name| name.parse().ok());
    // It comes with GET.
    let is_extra = |method: &Method| *method == Method::HEAD && route.methods.contains("GET");
    named.filter(|method| !is_extra(method)).map(Some).collect()
}

/// A pattern as agents read it: `/items/{id}/{*rest}` is `/items/:id/*`.
fn listed(pattern: &str) -> String {
    let segment = |segment: &str| match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        Some(rest) if rest.starts_with('*') => "*".to_owned(),
        Some(name) => format!(":{name}"),
        None => segment.to_owned(),
    };
    pattern.split('/').map(segment).collect::<Vec<_>>().join("/")
}
