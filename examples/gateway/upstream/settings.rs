//! The upstream of the configuration, checked.

use http::HeaderName;
use tower_mpp::upstream::{HttpUpstream, InvalidUpstream};
use zeroize::Zeroizing;

use super::super::{
    config::{self, ConfigError, Environment, Injected},
    secrets,
    settings::Place,
};

const HOUR: u64 = 60 * 60;

/// Where requests go that were paid for.
#[derive(Clone)]
pub(crate) enum UpstreamSettings {
    /// The built-in demo.
    Demo,
    /// An API.
    Http(Box<HttpUpstream>),
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
    let seconds = |field: &str, given, or| place.seconds(&format!("upstream.{field}"), given, or, HOUR);
    let mut builder = HttpUpstream::builder(url.as_str())
        .connect_timeout(seconds("connect_timeout_secs", table.connect_timeout_secs, 10)?)
        .first_byte_timeout(seconds("first_byte_timeout_secs", table.first_byte_timeout_secs, 120)?)
        .idle_timeout(seconds("idle_timeout_secs", table.idle_timeout_secs, 120)?);
    for (name, value) in table.headers {
        let value = injected(place, &name, value, environment)?;
        builder = builder.header(name, value.as_str());
    }
    for name in &table.remove_headers {
        builder = builder.remove_header(name);
    }
    let wrong = |error: InvalidUpstream| match error.field().split_once(' ') {
        Some(("header", name)) => ConfigError::new(place.of(&format!("upstream.headers.{name}")), error.problem()),
        Some(("remove_header", name)) => {
            place.error("upstream.remove_headers", format_args!("{name} is no header name"))
        }
        _ => ConfigError::new(&at, format_args!("{url:?}: {}", error.problem())),
    };
    Ok(UpstreamSettings::Http(Box::new(builder.build().map_err(wrong)?)))
}

fn injected(
    place: Place<'_>,
    name: &str,
    value: Injected,
    environment: Environment<'_>,
) -> Result<Zeroizing<String>, ConfigError> {
    let at = place.of(&format!("upstream.headers.{name}"));
    let wrong = |problem: &str| ConfigError::new(&at, problem);
    let name: HeaderName = name.parse().map_err(|_| wrong("it is no header name"))?;
    secrets::of_header(&name, value, &at, environment)
}
