//! Configuration by environment. A value that cannot be used is an error that names its variable.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `PORT` | loopback port, 0 for any free one | 8402 |
//! | `REALM` | realm | `127.0.0.1` |
//! | `MPP_SECRET_KEY` | challenge keys, at least 32 bytes each, separated by commas; the first signs | a fixed test key |
//! | `CHALLENGE_TTL_SECS` | life of a challenge | 300 |
//! | `STORE` | where payments and stored answers are: `memory`, `sqlite:PATH` (made when absent), `postgres://...`, `redis://...` | `memory` |
//! | `STRIPE_KEY`, `STRIPE_NETWORK_ID`, `STRIPE_BASE` | key, profile, API base | no Stripe; Stripe's own base |
//! | `RECEIPT_KEY` | path of a PKCS#8 PEM with the Ed25519 key of signed receipts | no signed receipts |
//! | `RUST_LOG` | what is logged | errors |

use std::{env, fmt, time::Duration};

use tower_mpp::{
    KeyRing,
    method::stripe::{Stripe, StripeConfigError},
    receipt::Ed25519Signer,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};
use zeroize::Zeroizing;

use crate::common::journal::Location;

/// Enough for every payment of a quarter of an hour, which is how long one is remembered, at 10,000 a second.
const JOURNAL_CAPACITY: usize = 10_000_000;

const TEST_KEY: &str = "check_merchant: a test key that everybody knows";

/// Variables of rails that are not there yet. Who sets one expects something of it.
const NOT_YET: [(&str, &str); 6] = [
    ("FACILITATOR_URL", "x402"),
    ("PAY_TO", "x402"),
    ("USDC", "x402"),
    ("NETWORK", "x402"),
    ("TEMPO_RPC", "Tempo"),
    ("TEMPO_CHAIN_ID", "Tempo"),
];

pub(crate) struct Config {
    pub(crate) port: u16,
    pub(crate) realm: String,
    pub(crate) keys: KeyRing,
    /// The keys are the ones that everybody knows.
    pub(crate) test_key: bool,
    pub(crate) challenge_ttl: Duration,
    pub(crate) store: Location,
    pub(crate) stripe: Option<Stripe>,
    pub(crate) receipt_signer: Option<Ed25519Signer>,
    pub(crate) log: EnvFilter,
}

/// Why the program does not start.
#[derive(Debug)]
pub(crate) struct Problem {
    variable: &'static str,
    what: String,
}

impl Problem {
    pub(crate) fn new(variable: &'static str, what: impl ToString) -> Self {
        Self { variable, what: what.to_string() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.what)
    }
}

impl std::error::Error for Problem {}

impl Config {
    pub(crate) fn from_env() -> Result<Self, Problem> {
        if let Some((variable, what)) = NOT_YET.into_iter().find(|(variable, _)| env::var_os(variable).is_some()) {
            return Err(Problem::new(variable, format!("this build has no {what} yet: unset it")));
        }
        let secret = text("MPP_SECRET_KEY")?;
        Ok(Self {
            port: parsed("PORT", "a port number, 0 to 65535")?.unwrap_or(8402),
            realm: text("REALM")?.unwrap_or_else(|| "127.0.0.1".to_owned()),
            test_key: secret.is_none(),
            keys: KeyRing::from_list(secret.as_deref().unwrap_or(TEST_KEY))
                .map_err(|error| Problem::new("MPP_SECRET_KEY", error))?,
            challenge_ttl: Duration::from_secs(parsed("CHALLENGE_TTL_SECS", "a number of seconds")?.unwrap_or(300)),
            store: store()?,
            stripe: stripe()?,
            receipt_signer: receipt_signer()?,
            log: log()?,
        })
    }
}

/// A variable that is set counts, also when it is empty.
fn text(variable: &'static str) -> Result<Option<String>, Problem> {
    match env::var(variable) {
        Ok(text) => Ok(Some(text)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Problem::new(variable, "it is not UTF-8 text")),
    }
}

/// A number in ASCII digits, without a sign.
fn parsed<T: std::str::FromStr>(variable: &'static str, what: &str) -> Result<Option<T>, Problem> {
    let Some(text) = text(variable)? else { return Ok(None) };
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    number.map(Some).ok_or_else(|| Problem::new(variable, format!("{text:?} is not {what}")))
}

/// What stands there may hold a password, and is not repeated.
fn store() -> Result<Location, Problem> {
    match text("STORE")?.as_deref() {
        None | Some("memory") => Ok(Location::Memory { capacity: JOURNAL_CAPACITY }),
        Some(other) => Location::parse(other).map_err(|problem| Problem::new("STORE", problem)),
    }
}

fn stripe() -> Result<Option<Stripe>, Problem> {
    let (base, key, profile) = (text("STRIPE_BASE")?, text("STRIPE_KEY")?, text("STRIPE_NETWORK_ID")?);
    let (key, profile) = match (key, profile) {
        (Some(key), Some(profile)) => (key, profile),
        (Some(_), None) => return Err(Problem::new("STRIPE_NETWORK_ID", "it must be set when STRIPE_KEY is")),
        (None, None) if base.is_none() => return Ok(None),
        (None, None) => return Err(Problem::new("STRIPE_BASE", "it is set without STRIPE_KEY")),
        (None, Some(_)) => return Err(Problem::new("STRIPE_NETWORK_ID", "it is set without STRIPE_KEY")),
    };
    let mut stripe = Stripe::builder(key, profile);
    if let Some(base) = base {
        stripe = stripe.base_url(base);
    }
    stripe.build().map(Some).map_err(|error| stripe_problem(&error))
}

/// Says which variable is wrong instead of which setting. Never the value: one of them is a secret.
fn stripe_problem(error: &StripeConfigError) -> Problem {
    match error.problems().next() {
        Some(("secret_key", problem)) => Problem::new("STRIPE_KEY", problem),
        Some(("network_id", problem)) => Problem::new("STRIPE_NETWORK_ID", problem),
        Some(("base_url", problem)) => Problem::new("STRIPE_BASE", problem),
        _ => Problem::new("STRIPE_KEY", error),
    }
}

fn receipt_signer() -> Result<Option<Ed25519Signer>, Problem> {
    const VARIABLE: &str = "RECEIPT_KEY";
    let Some(path) = text(VARIABLE)? else { return Ok(None) };
    let pem = std::fs::read_to_string(&path).map(Zeroizing::new);
    let pem = pem.map_err(|error| Problem::new(VARIABLE, format!("{path} cannot be read: {error}")))?;
    let signer = Ed25519Signer::from_pkcs8_pem("check-merchant", &pem);
    signer.map(Some).map_err(|error| Problem::new(VARIABLE, format!("{path}: {error}")))
}

fn log() -> Result<EnvFilter, Problem> {
    let directives = text("RUST_LOG")?.unwrap_or_default();
    EnvFilter::builder()
        .with_default_directive(LevelFilter::ERROR.into())
        .parse(directives)
        .map_err(|error| Problem::new("RUST_LOG", error))
}
