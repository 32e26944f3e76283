//! The routes of the configuration, checked.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use tower_mpp::Price;

use super::{
    agent::{self, keyed::Keyed},
    catalog,
    config::{self, ConfigError},
    settings::Place,
};

/// Served by the gateway itself.
pub(crate) const HEALTH: &str = "/health";
/// Everything of the operator's is under it, when that is on.
pub(crate) const ADMIN: &str = "/admin";

/// What the ledger of signed receipts is served under, when it is on; its public keys come beside it.
pub(crate) const LEDGER: [&str; 8] = [
    "/ledger",
    "/leaderboard.json",
    "/r/{id}",
    "/v1/outcomes",
    "/v1/receipts/public",
    "/v1/receipts/verify",
    "/v1/receipts/{id}",
    "/v1/receipts/{id}/outcomes",
];

/// What the gateway serves itself beside [`HEALTH`].
#[derive(Default)]
pub(super) struct Own {
    pub(super) admin: bool,
    /// The patterns of the ledger.
    pub(super) ledger: Vec<String>,
    /// What services are mounted at: `/openai`.
    pub(super) mounts: Vec<String>,
    /// Discovery is on.
    pub(super) discovery: bool,
    /// The surface for agents is on, or kept free.
    pub(super) agent: bool,
}

/// One entry of `[[routes]]`.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) path: String,
    pub(crate) methods: BTreeSet<String>,
    pub(crate) description: Option<String>,
    pub(crate) pricing: Pricing,
    pub(crate) body_limit: usize,
    pub(crate) bind_body: bool,
    pub(crate) bind_query: bool,
    /// Where it stands, for errors that are found later.
    pub(crate) place: String,
}

/// What a route costs.
#[derive(Debug)]
pub(crate) enum Pricing {
    Free,
    Fixed(Price),
    /// By the member `model` of the JSON body.
    ByModel(BTreeMap<String, Price>),
}

/// HEAD comes with GET. OPTIONS is never charged for, TRACE and CONNECT are not for proxies.
pub(super) const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

pub(super) fn check(
    place: Place<'_>,
    routes: Vec<config::Route>,
    currency: &str,
    body_limit: usize,
    own: Own,
    keyed: Option<&Keyed>,
) -> Result<Vec<Route>, ConfigError> {
    if routes.is_empty() && own.mounts.is_empty() && !own.agent && keyed.is_none() {
        return Err(place.error("routes", "there is none; add at least one [[routes]] or [[services]] table"));
    }
    let mut patterns = Patterns::new(own);
    for (index, route) in keyed.into_iter().flat_map(|keyed| &keyed.routes).enumerate() {
        let added = patterns.add(&route.path, &route.methods);
        added.map_err(|problem| place.error(&format!("api.routes[{index}].path"), problem))?;
    }
    let checked = routes.into_iter().enumerate().map(|(index, route)| {
        let at = |field: &str| format!("routes[{index}].{field}");
        let wrong = |field: &str, problem: &dyn std::fmt::Display| place.error(&at(field), problem);
        let methods = methods(route.methods).map_err(|problem| wrong("methods", &problem))?;
        patterns.add(&route.path, &methods).map_err(|problem| wrong("path", &problem))?;
        let currency = route.currency.as_deref().unwrap_or(currency);
        let written = Written { free: route.free, price: route.price, by_model: route.price_by_model };
        let (pricing, bind_body) =
            pricing(written, currency, route.bind_body).map_err(|(field, problem)| wrong(&field, &problem))?;
        Ok(Route {
            path: route.path,
            methods,
            description: route.description,
            pricing,
            body_limit: place.size(&at("body_limit"), route.body_limit, body_limit)?,
            bind_body,
            bind_query: route.bind_query.unwrap_or(true),
            place: place.of(&format!("routes[{index}]")),
        })
    });
    checked.collect()
}

/// What a route costs, as it is written.
pub(super) struct Written {
    pub(super) free: bool,
    pub(super) price: Option<String>,
    pub(super) by_model: Option<BTreeMap<String, String>>,
}

/// What a route costs, and whether a payment is good for one body only; or which field is wrong.
pub(super) fn pricing(
    written: Written,
    currency: &str,
    bind_body: Option<bool>,
) -> Result<(Pricing, bool), (String, String)> {
    let wrong = |field: &str| {
        let field = field.to_owned();
        move |problem| (field, problem)
    };
    let pricing = match written {
        Written { free: true, price: None, by_model: None } => Pricing::Free,
        Written { free: false, price: Some(text), by_model: None } => {
            Pricing::Fixed(price(currency, &text).map_err(wrong("price"))?)
        }
        Written { free: false, price: None, by_model: Some(models) } if !models.is_empty() => {
            let prices = models.into_iter().map(|(model, text)| match price(currency, &text) {
                Ok(price) => Ok((model, price)),
                Err(problem) => Err((format!("price_by_model.{model}"), problem)),
            });
            Pricing::ByModel(prices.collect::<Result<_, _>>()?)
        }
        _ => return Err(wrong("price")("give exactly one of price, price_by_model and free = true".to_owned())),
    };
    match (&pricing, bind_body) {
        (Pricing::ByModel(_), Some(false)) => Err((
            "bind_body".to_owned(),
            "a price by model is a price of the body, which must be bound; remove this line".to_owned(),
        )),
        _ => Ok((pricing, bind_body.unwrap_or(true))),
    }
}

pub(super) fn methods(given: Option<Vec<String>>) -> Result<BTreeSet<String>, String> {
    let Some(given) = given else {
        return Ok(METHODS.iter().filter(|method| **method != Method::HEAD).map(Method::to_string).collect());
    };
    if given.is_empty() {
        return Err("the list is empty; remove it to serve all methods".into());
    }
    match given.iter().find(|name| METHODS.iter().all(|known| known != name.as_str())) {
        Some(unknown) => {
            Err(format!("{unknown:?} is not one of {}", METHODS.map(|method| method.to_string()).join(", ")))
        }
        None => Ok(given.into_iter().collect()),
    }
}

fn price(currency: &str, text: &str) -> Result<Price, String> {
    let price = Price::fiat(currency, text)
        .map_err(|error| format!("{error}; write a decimal such as \"0.50\", and an ISO 4217 currency"))?;
    if price.amount().is_zero() {
        return Err("a price of nothing; write free = true instead".into());
    }
    Ok(price)
}

/// Whether a pattern takes a request below the place of a service.
fn hides(pattern: &str, mount: &str) -> bool {
    let mut pattern = pattern.split('/');
    for segment in mount.split('/') {
        match pattern.next() {
            Some(catch_all) if catch_all.starts_with("{*") => return true,
            Some(same) if same == segment || same.contains('{') => {}
            _ => return false,
        }
    }
    pattern.next().is_some()
}

/// Finds patterns that axum could not tell apart, which it would answer by a panic.
struct Patterns {
    router: matchit::Router<()>,
    served: BTreeSet<(String, String)>,
    own: Own,
}

impl Patterns {
    fn new(own: Own) -> Self {
        let mut router = matchit::Router::new();
        let agent = own.agent.then_some(agent::PATHS).into_iter().flatten();
        for path in own.ledger.iter().map(String::as_str).chain(agent).chain([HEALTH]) {
            let _ = router.insert(path, ());
        }
        Self { router, served: BTreeSet::new(), own }
    }

    fn add(&mut self, path: &str, methods: &BTreeSet<String>) -> Result<(), String> {
        if path == HEALTH {
            return Err(format!("{HEALTH} is the gateway's own; choose another path"));
        }
        let is_admin = path.strip_prefix(ADMIN).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if self.own.admin && is_admin {
            return Err(format!("{ADMIN} is the gateway's own; choose another path, or remove [admin]"));
        }
        if self.own.ledger.iter().any(|own| own == path) {
            return Err(format!("{path} is the gateway's own; choose another path, or remove [receipts]"));
        }
        if self.own.discovery && catalog::is_own(path) {
            return Err(format!(
                "{path} is a document of discovery; choose another path, or write enabled = false there"
            ));
        }
        if let Some(mount) = self.own.mounts.iter().find(|mount| hides(path, mount)) {
            return Err(format!("{path} would take what belongs to the service at {mount}; choose a narrower path"));
        }
        if self.own.agent && agent::PATHS.contains(&path) {
            return Err(format!("{path} is the gateway's own; choose another path, or remove [agent]"));
        }
        let old_style = path.split('/').any(|segment| segment.starts_with([':', '*']));
        let odd = path.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'?' | b'#' | b'\\'));
        if !path.starts_with('/') || old_style || odd {
            return Err(format!("{path:?} is no pattern; write /fixed, /items/{{id}} or /files/{{*rest}}"));
        }
        let is_new = self.served.iter().all(|(known, _)| known != path);
        if is_new {
            self.router.insert(path, ()).map_err(|error| match error {
                matchit::InsertError::Conflict { with } => format!("{path} cannot be told apart from {with}"),
                other => format!("{path}: {other}"),
            })?;
        }
        for method in methods {
            if !self.served.insert((path.to_owned(), method.clone())) {
                return Err(format!("{method} {path} is there twice"));
            }
        }
        Ok(())
    }
}
