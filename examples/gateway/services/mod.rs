//! The paid proxy: APIs that are sold route by route, each under a name of its own.

pub(crate) mod config;
mod key;
mod mount;

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use http::{HeaderName, Method, StatusCode};
use serde_json::Value;
use zeroize::Zeroizing;

pub(super) use self::mount::proxy;
use self::{config::Preset, key::Key};
use super::{
    config::{ConfigError, Environment, Injected},
    routes::{self, Pricing, Written},
    secrets::{self, Secret},
    settings::Place,
};

const HOUR: u64 = 60 * 60;
/// A second is long enough between two attempts that a client waits for.
const LONGEST_PAUSE: u64 = 10_000;

/// `[proxy]` and `[[services]]`, checked.
#[derive(Default)]
pub(crate) struct Services {
    /// What stands before all of them. Empty, or with a slash at the front only.
    pub(crate) base_path: String,
    pub(crate) list: Vec<ServiceSettings>,
    /// Where they stand in the file, for errors that are found later.
    pub(crate) place: String,
}

/// One of `[[services]]`.
pub(crate) struct ServiceSettings {
    pub(crate) id: String,
    preset: Option<Preset>,
    url: Option<String>,
    title: Option<String>,
    description: Option<String>,
    docs_llms_url: Option<String>,
    credentials: Credentials,
    remove_headers: Vec<String>,
    limits: Limits,
    retry: Option<Retry>,
    pub(crate) routes: Vec<ServiceRoute>,
}

/// What lets us in, at the API or on one route.
#[derive(Default)]
struct Credentials {
    api_key: Option<Zeroizing<String>>,
    bearer: Option<Zeroizing<String>>,
    headers: Vec<(String, Zeroizing<String>)>,
}

/// How long things may take.
struct Limits {
    connect: Duration,
    first_byte: Duration,
    idle: Duration,
    total: Option<Duration>,
}

/// When an upstream is asked once more.
#[derive(Clone)]
struct Retry {
    attempts: u32,
    pause: Duration,
    methods: Vec<Method>,
    statuses: Vec<StatusCode>,
}

/// One route of a service.
pub(crate) struct ServiceRoute {
    key: Key,
    pub(crate) pricing: Pricing,
    description: Option<String>,
    credentials: Credentials,
    body_limit: usize,
    bind_body: bool,
    request_schema: Option<Value>,
    response_schema: Option<Value>,
    /// Where it stands.
    pub(crate) place: String,
}

impl Services {
    /// Where clients find each: `/api/proxy/openai`.
    pub(super) fn mounts(&self) -> Vec<String> {
        self.list.iter().map(|service| format!("{}/{}", self.base_path, service.id)).collect()
    }

    /// How many routes there are.
    pub(super) fn routes(&self) -> usize {
        self.list.iter().map(|service| service.routes.len()).sum()
    }
}

impl ServiceSettings {
    /// How many of its routes are paid for, and how many are not.
    pub(super) fn counts(&self) -> (usize, usize) {
        let free = self.routes.iter().filter(|route| matches!(route.pricing, Pricing::Free)).count();
        (self.routes.len() - free, free)
    }

    /// Where its upstream is.
    pub(super) fn upstream(&self) -> &str {
        self.url.as_deref().or(self.preset.map(Preset::url)).unwrap_or_default()
    }
}

impl Preset {
    fn id(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Stripe => "stripe",
        }
    }

    fn url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com",
            Self::Anthropic => "https://api.anthropic.com",
            Self::Stripe => "https://api.stripe.com",
        }
    }

    /// Where its key is unless something else is said.
    fn variable(self) -> &'static str {
        match self {
            Self::OpenAi => "OPENAI_API_KEY",
            Self::Anthropic => "ANTHROPIC_API_KEY",
            Self::Stripe => "STRIPE_API_KEY",
        }
    }
}

/// What all services have in common.
#[derive(Clone, Copy)]
struct Common<'a> {
    place: Place<'a>,
    currency: &'a str,
    body_limit: usize,
    environment: Environment<'a>,
}

pub(super) fn check(
    place: Place<'_>,
    proxy: Option<config::Proxy>,
    services: Vec<config::Service>,
    currency: &str,
    body_limit: usize,
    environment: Environment<'_>,
) -> Result<Services, ConfigError> {
    let has_proxy = proxy.is_some();
    let base_path = base_path(proxy.and_then(|proxy| proxy.base_path).unwrap_or_default())
        .map_err(|problem| place.error("proxy.base_path", problem))?;
    if has_proxy && services.is_empty() {
        return Err(place.error("services", "there is none, but there is [proxy]; add at least one [[services]] table"));
    }
    let common = Common { place, currency, body_limit, environment };
    let mut list: Vec<ServiceSettings> = Vec::with_capacity(services.len());
    for (index, service) in services.into_iter().enumerate() {
        let at = format!("services[{index}]");
        let service = one(common, &at, service)?;
        if list.iter().any(|known| known.id == service.id) {
            let problem = format_args!("{:?} is there twice; give one of them another id", service.id);
            return Err(place.error(&format!("{at}.id"), problem));
        }
        list.push(service);
    }
    Ok(Services { base_path, list, place: place.of("services") })
}

fn base_path(path: String) -> Result<String, &'static str> {
    match path.as_str() {
        "" | "/" => Ok(String::new()),
        text if text.starts_with('/') && !text.ends_with('/') && !text.contains("//") => Ok(path),
        _ => Err("write it with a slash at the front and none at the end, such as \"/api/proxy\""),
    }
}

fn one(common: Common<'_>, at: &str, service: config::Service) -> Result<ServiceSettings, ConfigError> {
    let Common { place, currency, body_limit, environment } = common;
    let wrong = |field: &str, problem: &dyn Display| place.error(&format!("{at}.{field}"), problem);
    let preset = service.preset;
    let id = match (service.id, preset) {
        (Some(id), _) => id,
        (None, Some(preset)) => preset.id().to_owned(),
        (None, None) => return Err(wrong("id", &"it is not set; name the service, or write preset = \"openai\"")),
    };
    check_id(&id).map_err(|problem| wrong("id", &problem))?;
    if service.url.is_none() && preset.is_none() {
        return Err(wrong("url", &"it is not set; write https://host/path, or preset = \"openai\""));
    }
    let api_key = match (preset, service.api_key) {
        (Some(_), Some(key)) => Some(key),
        (Some(preset), None) => Some(Secret::of_variable(preset.variable())),
        (None, None) => None,
        (None, Some(_)) => {
            return Err(wrong("api_key", &"only a preset knows where to put it; write bearer, or headers"));
        }
    };
    let written = (api_key, service.bearer, service.headers);
    let credentials = credentials(place, at, written, environment)?;
    let seconds = |field: &str, given, or| place.seconds(&format!("{at}.{field}"), given, or, HOUR);
    let limits = Limits {
        connect: seconds("connect_timeout_secs", service.connect_timeout_secs, 10)?,
        first_byte: seconds("first_byte_timeout_secs", service.first_byte_timeout_secs, 120)?,
        idle: seconds("idle_timeout_secs", service.idle_timeout_secs, 120)?,
        total: service.timeout_secs.map(|given| seconds("timeout_secs", Some(given), given)).transpose()?,
    };
    let body_limit = place.size(&format!("{at}.body_limit"), service.body_limit, body_limit)?;
    if service.routes.is_empty() {
        return Err(wrong("routes", &"there is none; add at least one, such as \"POST /v1/x\" = { price = \"0.05\" }"));
    }
    let currency = service.currency.as_deref().unwrap_or(currency);
    let common = Common { currency, body_limit, ..common };
    let routes = service.routes.into_iter().map(|(key, written)| route(common, at, preset, &key, written));
    let mut routes = routes.collect::<Result<Vec<_>, _>>()?;
    // A table has no order: whatever says more of a path comes first.
    routes.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(ServiceSettings {
        retry: service.retry.map(|table| retry(place, at, table)).transpose()?,
        title: service.title,
        description: service.description,
        docs_llms_url: service.docs_llms_url,
        remove_headers: service.remove_headers,
        url: service.url,
        id,
        preset,
        credentials,
        limits,
        routes,
    })
}

fn check_id(id: &str) -> Result<(), String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if id.is_empty() || !id.bytes().all(known) {
        return Err(format!("{id:?} cannot be the first part of a path; use letters, digits and - . _ ~"));
    }
    // Whether a part of the gateway is on or not, its name stays free for it.
    let own = routes::LEDGER.iter().chain([&routes::HEALTH, &routes::ADMIN]);
    let first = |path: &&str| path.split('/').nth(1) == Some(id);
    if own.copied().any(|path| first(&path)) || super::catalog::OWN.contains(&id) || id == "SKILL.md" {
        return Err(format!("{id:?} is the gateway's own; choose another id"));
    }
    Ok(())
}

fn route(
    common: Common<'_>,
    service: &str,
    preset: Option<Preset>,
    text: &str,
    route: config::Route,
) -> Result<ServiceRoute, ConfigError> {
    let Common { place, currency, body_limit, environment } = common;
    let at = format!("{service}.routes.{text:?}");
    let wrong = |field: &str, problem: &dyn Display| place.error(&format!("{at}.{field}"), problem);
    let key = Key::parse(text).map_err(|problem| place.error(&at, problem))?;
    if preset.is_none() && route.api_key.is_some() {
        return Err(wrong("api_key", &"only a preset knows where to put it; write bearer, or headers"));
    }
    let currency = route.currency.as_deref().unwrap_or(currency);
    let written = Written { free: route.free, price: route.price, by_model: route.price_by_model };
    let (pricing, bind_body) =
        routes::pricing(written, currency, route.bind_body).map_err(|(field, problem)| wrong(&field, &problem))?;
    let written = (route.api_key, route.bearer, route.headers);
    Ok(ServiceRoute {
        credentials: credentials(place, &at, written, environment)?,
        body_limit: place.size(&format!("{at}.body_limit"), route.body_limit, body_limit)?,
        description: route.description,
        request_schema: route.request_schema,
        response_schema: route.response_schema,
        place: place.of(&at),
        key,
        pricing,
        bind_body,
    })
}

fn credentials(
    place: Place<'_>,
    at: &str,
    (api_key, bearer, headers): (Option<Secret>, Option<Secret>, BTreeMap<String, Injected>),
    environment: Environment<'_>,
) -> Result<Credentials, ConfigError> {
    let read = |field: &str, secret: Option<Secret>| {
        secret.map(|secret| secret.read(&place.of(&format!("{at}.{field}")), environment)).transpose()
    };
    let headers = headers.into_iter().map(|(name, value)| {
        let at = place.of(&format!("{at}.headers.{name}"));
        let parsed: HeaderName = name.parse().map_err(|_| ConfigError::new(&at, "it is no header name"))?;
        Ok((name, secrets::of_header(&parsed, value, &at, environment)?))
    });
    Ok(Credentials {
        api_key: read("api_key", api_key)?,
        bearer: read("bearer", bearer)?,
        headers: headers.collect::<Result<_, ConfigError>>()?,
    })
}

fn retry(place: Place<'_>, at: &str, table: config::Retry) -> Result<Retry, ConfigError> {
    let wrong = |field: &str, problem: &dyn Display| place.error(&format!("{at}.retry.{field}"), problem);
    let attempts = table.attempts.unwrap_or(3);
    if !(2..=5).contains(&attempts) {
        return Err(wrong("attempts", &format_args!("{attempts} attempts in all; give 2 to 5, or remove the table")));
    }
    let pause = table.pause_ms.unwrap_or(200);
    if pause > LONGEST_PAUSE {
        return Err(wrong("pause_ms", &format_args!("{pause} milliseconds; give at most {LONGEST_PAUSE}")));
    }
    let methods = match table.methods {
        None => vec![Method::GET, Method::HEAD],
        Some(names) => {
            let parsed = names.iter().map(|name| {
                let known = routes::METHODS.iter().find(|method| method.as_str() == name);
                known.cloned().ok_or_else(|| wrong("methods", &format_args!("{name:?} is no method that is served")))
            });
            parsed.collect::<Result<_, _>>()?
        }
    };
    let statuses = table.statuses.unwrap_or_else(|| vec![502, 503, 504]).into_iter().map(|status| {
        let parsed = StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 400);
        parsed.ok_or_else(|| wrong("statuses", &format_args!("{status} is no status of a failure; give 400 to 599")))
    });
    Ok(Retry { attempts, pause: Duration::from_millis(pause), methods, statuses: statuses.collect::<Result<_, _>>()? })
}
