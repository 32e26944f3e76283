//! The configuration file and the environment, as they are written. `settings.rs` checks what they say.

use std::{
    collections::BTreeMap,
    env::VarError,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tower_mpp::{discovery::well_known, protocol::Visibility, receipt::PayloadCapture};

use super::agent;

use super::{catalog, services};

/// What the command line says. It wins over the environment, which wins over the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommandLine {
    /// `--addr`
    pub(crate) addr: Option<String>,
    /// `--data`
    pub(crate) data: Option<PathBuf>,
}

/// The configuration cannot be used. One line: where it stands, what is wrong, what to do.
#[derive(Debug)]
pub(crate) struct ConfigError {
    place: String,
    problem: String,
}

impl ConfigError {
    pub(super) fn new(place: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self { place: place.to_string(), problem: problem.to_string() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// `gateway.toml`. The commented `gateway.toml` beside this file shows every field.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(super) listen: Option<String>,
    pub(super) realm: Option<String>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) currency: Option<String>,
    pub(super) https: Option<Https>,
    pub(super) cors_origins: Option<Vec<String>>,
    pub(super) body_limit: Option<usize>,
    pub(super) challenge_ttl_secs: Option<u64>,
    pub(super) redelivery_grace_secs: Option<u64>,
    pub(super) lease_secs: Option<u64>,
    pub(super) shutdown_secs: Option<u64>,
    pub(super) store: Option<Store>,
    pub(super) refunds: Option<Refunds>,
    pub(super) admin: Option<Admin>,
    pub(super) receipts: Option<Receipts>,
    pub(super) agent: Option<agent::Table>,
    #[serde(default)]
    pub(super) models: Vec<well_known::ModelCard>,
    pub(super) well_known: Option<well_known::Config>,
    pub(super) api: Option<agent::keyed::Table>,
    pub(super) upstream: Option<Upstream>,
    #[serde(default)]
    pub(super) rails: Rails,
    #[serde(default)]
    pub(super) routes: Vec<Route>,
    pub(super) proxy: Option<services::config::Proxy>,
    #[serde(default)]
    pub(super) services: Vec<services::config::Service>,
    pub(super) discovery: Option<catalog::Table>,
}

/// How requests are known to have come over HTTPS.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Https {
    NotRequired,
    XForwardedProto,
    Forwarded,
}

/// Where payments are remembered.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    #[serde(default)]
    pub(super) kind: StoreKind,
    pub(super) path: Option<PathBuf>,
    pub(super) url: Option<Hidden>,
    pub(super) url_env: Option<String>,
    pub(super) capacity: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StoreKind {
    #[default]
    Sqlite,
    Postgres,
    Redis,
    Memory,
}

/// A text that somebody may have put a secret into after all.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Hidden(pub(super) String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(..)")
    }
}

/// Which of the refund rules apply, by their names.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Refunds {
    pub(super) refund_if_payment_succeeds_but_no_provider_call_starts: bool,
    pub(super) refund_if_provider_timeout_before_first_token: bool,
    pub(super) no_refund_after_successful_stream_start: bool,
    pub(super) no_refund_after_side_effecting_tool_success: bool,
}

/// How the operator is known.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) token_env: Option<String>,
    pub(super) token_file: Option<PathBuf>,
}

/// Signed receipts and the ledger.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Receipts {
    pub(super) base_url: Option<String>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) key_id: Option<String>,
    pub(super) previous_keys: Option<PathBuf>,
    pub(super) name: Option<String>,
    pub(super) title: Option<String>,
    pub(super) visibility: Option<Visibility>,
    pub(super) capture: Option<PayloadCapture>,
    pub(super) encryption_key: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) header: Option<ReceiptForm>,
    pub(super) ledger: Option<PathBuf>,
    pub(super) ledger_env: Option<String>,
}

/// What `Payment-Receipt` carries.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReceiptForm {
    #[default]
    Mpp,
    Url,
    Raw,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) url: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Injected>,
    #[serde(default)]
    pub(super) remove_headers: Vec<String>,
    pub(super) connect_timeout_secs: Option<u64>,
    pub(super) first_byte_timeout_secs: Option<u64>,
    pub(super) idle_timeout_secs: Option<u64>,
}

/// The value of an injected header.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "give a text, or { env = \"NAME\" } or { file = \"PATH\" }, and optionally prefix = \"Bearer \""
)]
pub(super) enum Injected {
    Text(String),
    Env(FromEnv),
    File(FromFile),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FromEnv {
    pub(super) env: String,
    #[serde(default)]
    pub(super) prefix: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FromFile {
    pub(super) file: PathBuf,
    #[serde(default)]
    pub(super) prefix: String,
}

/// Somebody may have put a secret into the file after all.
impl fmt::Debug for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::Env(from) => from.fmt(f),
            Self::File(from) => from.fmt(f),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rails {
    pub(super) sandbox: Option<bool>,
    pub(super) test_mode: Option<bool>,
    pub(super) stripe: Option<Stripe>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stripe {
    pub(super) secret_key_env: Option<String>,
    pub(super) network_id: Option<String>,
    pub(super) recipient: Option<String>,
    pub(super) base_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) path: String,
    pub(super) methods: Option<Vec<String>>,
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) free: bool,
    pub(super) price: Option<String>,
    pub(super) price_by_model: Option<BTreeMap<String, String>>,
    pub(super) currency: Option<String>,
    pub(super) body_limit: Option<usize>,
    pub(super) bind_body: Option<bool>,
    pub(super) bind_query: Option<bool>,
}

impl File {
    /// Reads a file; also gives it as it is written, to tell later what has changed.
    pub(super) fn read(path: &Path) -> Result<(Self, toml::Table), ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigError::new(path.display(), format_args!("cannot be read: {error}")))?;
        let wrong = |error| syntax_error(path, &text, &error);
        Ok((toml::from_str(&text).map_err(wrong)?, toml::from_str(&text).map_err(wrong)?))
    }

    /// What is served when there is no file: the demo.
    pub(super) fn demo() -> Self {
        let prices = [("demo-fast", "0.50"), ("demo-deep", "1.50")];
        Self {
            // The ledger has something to show.
            receipts: Some(Receipts { visibility: Some(Visibility::PublicMinimal), ..Receipts::default() }),
            routes: vec![
                Route {
                    path: "/v1/messages".into(),
                    methods: Some(vec!["POST".into()]),
                    description: Some("One model call".into()),
                    price_by_model: Some(prices.map(|(model, price)| (model.into(), price.into())).into()),
                    ..Route::default()
                },
                Route { path: "/v1/models".into(), methods: Some(vec!["GET".into()]), free: true, ..Route::default() },
            ],
            ..toml::from_str(agent::DEMO).unwrap_or_default()
        }
    }

    /// What is served when there is no file but an upstream: all of it, at one price.
    pub(super) fn everything_of(upstream: &str) -> Self {
        let route = |path: &str| Route {
            path: path.into(),
            description: Some("One call".into()),
            price: Some("0.50".into()),
            ..Route::default()
        };
        Self {
            upstream: Some(Upstream { url: Some(upstream.into()), ..Upstream::default() }),
            routes: vec![route("/"), route("/{*path}")],
            ..Self::default()
        }
    }
}

/// The parser's own message has several lines and quotes the file, which may hold what should not be
/// in a log.
fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let Some(span) = error.span() else {
        return ConfigError::new(path.display(), error.message());
    };
    let before = text.get(..span.start).unwrap_or_default();
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let field = line.split_once('=').map(|(field, _)| format!(" ({})", field.trim())).unwrap_or_default();
    let message = error.message().trim_end().replace('\n', "; ");
    ConfigError::new(format_args!("{}, line {number}{field}", path.display()), message)
}

/// Where environment variables come from: the process, or a test.
#[derive(Clone, Copy)]
pub(crate) struct Environment<'a>(&'a dyn Fn(&str) -> Result<String, VarError>);

impl<'a> Environment<'a> {
    /// That of the process.
    pub(crate) fn of_process() -> Self {
        Self::new(&|name| std::env::var(name))
    }

    /// Any other.
    pub(crate) fn new(variables: &'a dyn Fn(&str) -> Result<String, VarError>) -> Self {
        Self(variables)
    }

    /// A variable, if it is set.
    pub(super) fn get(&self, name: &str) -> Result<Option<String>, ConfigError> {
        match (self.0)(name) {
            Ok(value) => Ok(Some(value)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => Err(ConfigError::new(name, "the value is not UTF-8 text")),
        }
    }

    /// A variable that has to be set.
    pub(super) fn required(&self, name: &str, wanted_by: &str) -> Result<String, ConfigError> {
        match self.get(name)? {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(ConfigError::new(
                name,
                format_args!("the environment variable is not set, but {wanted_by} needs it"),
            )),
        }
    }
}
