//! The upstream of the configuration, checked.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    super::{
        config::{self, ConfigError, Environment, Injected},
        settings::Place,
    },
    base::Base,
    scrub,
};

const HOUR: u64 = 60 * 60;

/// Where requests go that were paid for.
#[derive(Clone)]
pub(crate) enum UpstreamSettings {
    /// The built-in demo.
    Demo,
    /// An API.
    Http(Box<HttpSettings>),
}

/// An API, and how it is called.
#[derive(Clone)]
pub(crate) struct HttpSettings {
    pub(crate) base: Base,
    pub(crate) headers: HeaderMap,
    pub(crate) remove: Vec<HeaderName>,
    pub(crate) connect_timeout: Duration,
    pub(crate) first_byte_timeout: Duration,
    pub(crate) idle_timeout: Duration,
}

pub(in super::super) fn check(
    place: Place<'_>,
    table: Option<config::Upstream>,
    url_override: Option<String>,
    environment: Environment<'_>,
) -> Result<UpstreamSettings, ConfigError> {
    let table = table.unwrap_or_default();
    let (url, at) = match (url_override, table.url) {
        (Some(url), _) => (url, "GATEWAY_UPSTREAM_URL".to_owned()),
        (None, Some(url)) => (url, place.of("upstream.url")),
        (None, None) => return Ok(UpstreamSettings::Demo),
    };
    let base = Base::parse(&url).map_err(|problem| ConfigError::new(at, format_args!("{url:?}: {problem}")))?;
    let seconds = |field: &str, given, or| place.seconds(&format!("upstream.{field}"), given, or, HOUR);
    let mut headers = HeaderMap::new();
    for (name, value) in table.headers {
        let (name, value) = injected(place, &name, value, environment)?;
        headers.insert(name, value);
    }
    let remove = table.remove_headers.iter().map(|name| {
        let wrong = |_| place.error("upstream.remove_headers", format_args!("{name:?} is no header name"));
        name.parse::<HeaderName>().map_err(wrong)
    });
    Ok(UpstreamSettings::Http(Box::new(HttpSettings {
        base,
        headers,
        remove: remove.collect::<Result<_, _>>()?,
        connect_timeout: seconds("connect_timeout_secs", table.connect_timeout_secs, 10)?,
        first_byte_timeout: seconds("first_byte_timeout_secs", table.first_byte_timeout_secs, 120)?,
        idle_timeout: seconds("idle_timeout_secs", table.idle_timeout_secs, 120)?,
    })))
}

fn injected(
    place: Place<'_>,
    name: &str,
    value: Injected,
    environment: Environment<'_>,
) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let at = place.of(&format!("upstream.headers.{name}"));
    let wrong = |problem: &str| ConfigError::new(&at, problem);
    let name: HeaderName = name.parse().map_err(|_| wrong("it is no header name"))?;
    if scrub::is_ours_to_set(&name) {
        return Err(wrong("this header belongs to the connection or to the payment; remove it"));
    }
    let text = match value {
        Injected::Text(_) if holds_secret(&name) => {
            return Err(wrong("a secret does not belong into the file; write { env = \"NAME\" } and set the variable"));
        }
        Injected::Text(text) => text,
        Injected::Env(from) => format!("{}{}", from.prefix, environment.required(&from.env, &at)?),
    };
    let mut value = HeaderValue::try_from(text).map_err(|_| wrong("the value cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn holds_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    ["authorization", "key", "token", "secret", "password", "cookie"].iter().any(|part| name.contains(part))
}
