//! Routes for customers with an API key: no payment, no challenge, and nothing about them in discovery. An agent
//! with a wallet is sent away with a 401 that asks for a key, so that no wallet ever pays here.

use std::{collections::BTreeSet, fmt, fs, path::Path, sync::Arc};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::on_service,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use tower_mpp::upstream::UpstreamService;

use super::{
    super::{
        app::{self, Foundation},
        config::{ConfigError, Environment},
        problem::Problem,
        routes,
        settings::{Place, Settings},
    },
    AgentSettings,
};

/// Whoever can guess a shorter one has it.
const SHORTEST_KEY: usize = 24;
const MOST_KEYS: usize = 10_000;

/// `[api]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    keys_env: Option<String>,
    key_hashes_file: Option<std::path::PathBuf>,
    #[serde(default)]
    routes: Vec<RouteTable>,
}

/// `[[api.routes]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteTable {
    path: String,
    methods: Option<Vec<String>>,
    #[serde(default)]
    to: To,
    body_limit: Option<usize>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum To {
    /// `[upstream]`.
    #[default]
    Upstream,
    /// The provider of the agent's route.
    Provider,
}

/// `[api]`, checked.
pub(crate) struct Keyed {
    keys: Keys,
    pub(crate) routes: Vec<Route>,
}

/// A route for customers.
pub(crate) struct Route {
    pub(crate) path: String,
    pub(crate) methods: BTreeSet<String>,
    pub(crate) to: To,
    pub(crate) body_limit: usize,
}

pub(in super::super) fn check(
    place: Place<'_>,
    table: Table,
    agent: Option<&AgentSettings>,
    body_limit: usize,
    environment: Environment<'_>,
) -> Result<Keyed, ConfigError> {
    let keys = match (table.keys_env, table.key_hashes_file) {
        (Some(variable), None) => {
            let list = environment.required(&variable, &place.of("api.keys_env"))?;
            Keys::from_list(&list).map_err(|problem| ConfigError::new(variable, problem))?
        }
        (None, Some(path)) => Keys::from_file(&path)
            .map_err(|problem| place.error("api.key_hashes_file", format_args!("{}: {problem}", path.display())))?,
        _ => return Err(place.error("api", "give exactly one of keys_env and key_hashes_file")),
    };
    if table.routes.is_empty() {
        return Err(place.error("api.routes", "there is none; add [[api.routes]], or remove [api]"));
    }
    let routes = table.routes.into_iter().enumerate().map(|(index, route)| {
        let at = |field: &str| format!("api.routes[{index}].{field}");
        if route.to == To::Provider && !agent.is_some_and(AgentSettings::is_on) {
            return Err(place.error(&at("to"), "there is no provider; it is that of [agent], which has to be on"));
        }
        Ok(Route {
            methods: routes::methods(Some(route.methods.unwrap_or_else(|| vec!["POST".into()])))
                .map_err(|problem| place.error(&at("methods"), problem))?,
            path: route.path,
            to: route.to,
            body_limit: place.size(&at("body_limit"), route.body_limit, body_limit)?,
        })
    });
    Ok(Keyed { keys, routes: routes.collect::<Result<_, _>>()? })
}

/// The routes, each behind a key.
pub(in super::super) fn router(
    keyed: &Keyed,
    settings: &Settings,
    foundation: &Foundation,
    upstream: &UpstreamService,
) -> Result<Router, ConfigError> {
    let mut router = Router::new();
    for route in &keyed.routes {
        let (limit, filter) = (route.body_limit, app::filter(&route.methods));
        let served = match route.to {
            To::Upstream => on_service(filter, upstream.clone().body_limit(limit)),
            To::Provider => match &settings.agent {
                Some(agent) => on_service(filter, super::sold(agent, foundation, limit)?),
                // It was looked for when the settings were read.
                None => continue,
            },
        };
        let (keys, large) = (keyed.keys.clone(), move |request, next| app::refuse_large(limit, request, next));
        let served = served
            .route_layer(middleware::from_fn(large))
            .route_layer(middleware::from_fn(move |request, next| keys.clone().let_in(request, next)));
        router = router.route(&route.path, served);
    }
    Ok(router)
}

/// The hashes of the keys: of one length, and they say nothing about a key.
#[derive(Clone)]
struct Keys(Arc<[[u8; 32]]>);

impl Keys {
    /// Keys, separated by commas.
    fn from_list(list: &str) -> Result<Self, String> {
        let keys = list.split(',').map(str::trim).map(|key| {
            let is_good = key.len() >= SHORTEST_KEY && key.bytes().all(|byte| byte.is_ascii_graphic());
            is_good.then(|| Sha256::digest(key).into())
        });
        let keys: Option<Vec<_>> = keys.collect();
        let advice =
            || format!("a key has {SHORTEST_KEY} visible ASCII characters or more; openssl rand -hex 32 makes one");
        Self::of(keys.ok_or_else(advice)?)
    }

    /// One SHA-256 in hexadecimal per line; what follows it is a name for people.
    fn from_file(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("it cannot be read: {error}"))?;
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let Some(hash) = line.split_whitespace().next() else { continue };
            let hash = parse_hash(hash).ok_or_else(|| {
                format!(
                    "line {}: it does not begin with a SHA-256 in hexadecimal; printf %s KEY | sha256sum makes one",
                    index + 1
                )
            })?;
            keys.push(hash);
        }
        Self::of(keys)
    }

    fn of(keys: Vec<[u8; 32]>) -> Result<Self, String> {
        match keys.len() {
            0 => Err("there is no key".into()),
            1..=MOST_KEYS => Ok(Self(keys.into())),
            _ => Err(format!("there are more than {MOST_KEYS} keys")),
        }
    }

    /// Whether the request has one of them. All are compared, so that the time says nothing about which.
    fn has(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, key)) = value.as_bytes().split_at_checked("Bearer ".len()) else { return false };
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return false;
        }
        let given: [u8; 32] = Sha256::digest(key.trim_ascii()).into();
        let found = self.0.iter().fold(Choice::from(0), |found, known| found | given.ct_eq(known));
        found.into()
    }

    /// Lets customers in. Everybody else is told what is needed, and that it is not money.
    async fn let_in(self, request: Request, next: Next) -> Response {
        if self.has(request.headers()) {
            return next.run(request).await;
        }
        let is_payment = |value: &HeaderValue| {
            let scheme = value.as_bytes().get(.."Payment".len());
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Payment"))
        };
        let paying = request.headers().get_all(header::AUTHORIZATION).iter().any(is_payment);
        let detail = if paying {
            "This route takes API keys, not payments. Nothing was charged. See /.well-known/mpp for what can be paid for."
        } else {
            "This route needs an API key: Authorization: Bearer KEY."
        };
        let mut refusal = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        refusal
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let bytes: Vec<u8> = digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if text.len() == 64 { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef01234567";

    fn has(keys: &Keys, values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        keys.has(&headers)
    }

    #[test]
    fn a_key_is_known_by_its_hash_alone() {
        let hash = Sha256::digest(KEY).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, format!("# customers\n\n{}\n{hash} alice\n", "0".repeat(64))).unwrap();
        for keys in [Keys::from_list(&format!("{KEY}x, {KEY}")).unwrap(), Keys::from_file(&file).unwrap()] {
            assert!(has(&keys, &[&format!("Bearer {KEY}")]) && has(&keys, &[&format!("bearer {KEY} ")]));
            for bad in [&[][..], &["Bearer "], &["Bearer 0123"], &[KEY], &["Basic 0123456789abcdef01234567"]] {
                assert!(!has(&keys, bad), "{bad:?}");
            }
            let good = format!("Bearer {KEY}");
            assert!(!has(&keys, &[&good, &good]), "one is enough");
            assert!(!has(&keys, &[&format!("Bearer {hash}")]), "a hash is no key");
            assert!(!format!("{keys:?}").contains(&hash));
        }
    }

    #[test]
    fn keys_that_can_be_guessed_are_refused() {
        for bad in ["", "short", "0123456789abcdef01234567,", "0123456789abcdef 01234567"] {
            let problem = Keys::from_list(bad).unwrap_err();
            assert!(bad.is_empty() || !problem.contains(bad), "{problem}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        for bad in ["", "# nothing\n", "abc\n", &"g".repeat(64), &"0".repeat(63), &"0".repeat(66)] {
            fs::write(&file, bad).unwrap();
            assert!(Keys::from_file(&file).is_err(), "{bad}");
        }
        assert!(Keys::from_file(&folder.path().join("missing")).is_err());
    }
}
