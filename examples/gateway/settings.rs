//! The configuration, checked: from here on nothing can be misspelt.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;
use tower_http::cors::AllowOrigin;
use tower_mpp::{
    HttpsPolicy, KeyRing,
    method::{PaymentMethod as _, stripe},
    protocol::Realm,
    refund::RefundPolicy,
};
use zeroize::Zeroizing;

use super::{
    agent::{
        self, AgentSettings,
        keyed::{self, Keyed},
    },
    catalog::{self, DiscoverySettings},
    common::journal::Location,
    config::{self, CommandLine, ConfigError, Environment, File, Https},
    journal,
    listen::{self, Listen},
    receipts::{self, ReceiptSettings},
    routes::{self, Route},
    services::{self, Services},
    upstream::settings::{self as upstream, UpstreamSettings},
};

const REALM: &str = "localhost";
const DATA_DIR: &str = "data";
const ADMIN_TOKEN: &str = "admin.token";
const MIB: usize = 1024 * 1024;
const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// Everything that the gateway needs to know.
pub(crate) struct Settings {
    pub(crate) listen: Listen,
    pub(crate) realm: Realm,
    pub(crate) data_dir: PathBuf,
    pub(crate) keys: Keys,
    pub(crate) https: Option<HttpsPolicy>,
    /// Whose scripts may call from a browser.
    pub(crate) cors: Option<AllowOrigin>,
    pub(crate) challenge_ttl: Duration,
    pub(crate) redelivery_grace: Duration,
    pub(crate) lease: Duration,
    pub(crate) shutdown: Duration,
    /// When money is given back unasked.
    pub(crate) refunds: RefundPolicy,
    /// Where payments are remembered.
    pub(crate) journal: Location,
    /// The folder of the journal when it is ours: nobody else may enter it.
    pub(crate) journal_folder: Option<PathBuf>,
    pub(crate) admin: Option<AdminToken>,
    pub(crate) receipts: Option<ReceiptSettings>,
    pub(crate) sandbox: bool,
    pub(crate) stripe: Option<Arc<stripe::Stripe>>,
    pub(crate) upstream: UpstreamSettings,
    pub(crate) routes: Vec<Route>,
    /// What is sold route by route.
    pub(crate) services: Services,
    /// What is told of all that.
    pub(crate) discovery: Option<DiscoverySettings>,
    /// The surface for agents.
    pub(crate) agent: Option<AgentSettings>,
    /// Routes for customers with an API key.
    pub(crate) api: Option<Keyed>,
    /// The file as it is written, to tell later what has changed. Empty without one.
    pub(crate) file: toml::Table,
}

/// Where the challenge keys are.
pub(crate) enum Keys {
    /// In `MPP_SECRET_KEY`.
    Given(KeyRing),
    /// In a folder of ours, where one is made at the first start.
    Folder(PathBuf),
}

/// Where the token of the operator is.
pub(crate) enum AdminToken {
    /// In a variable of this name.
    Given { variable: String, token: Zeroizing<String> },
    /// In a file, where one is made at the first start.
    File {
        path: PathBuf,
        /// Whether the file is in our folder.
        ours: bool,
    },
}

/// Says where a field stands, for people: `gateway.toml: listen`.
#[derive(Clone, Copy)]
pub(super) struct Place<'a>(Option<&'a Path>);

impl Place<'_> {
    pub(super) fn of(self, field: &str) -> String {
        match self.0 {
            Some(path) => format!("{}: {field}", path.display()),
            None => format!("(no configuration file): {field}"),
        }
    }

    pub(super) fn error(self, field: &str, problem: impl std::fmt::Display) -> ConfigError {
        ConfigError::new(self.of(field), problem)
    }

    /// A number of seconds that makes sense.
    pub(super) fn seconds(self, field: &str, given: Option<u64>, or: u64, most: u64) -> Result<Duration, ConfigError> {
        match given.unwrap_or(or) {
            seconds if (1..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
            other => Err(self.error(field, format_args!("{other} seconds; give 1 to {most}"))),
        }
    }

    /// A size that makes sense.
    pub(super) fn size(self, field: &str, given: Option<usize>, or: usize) -> Result<usize, ConfigError> {
        const MOST: usize = 1024 * MIB;
        match given.unwrap_or(or) {
            size if (1..=MOST).contains(&size) => Ok(size),
            other => Err(self.error(field, format_args!("{other} is out of range; give 1 to {MOST}"))),
        }
    }
}

impl Settings {
    /// Reads and checks the file, or what is served without one, and the environment.
    ///
    /// | variable | instead of |
    /// |---|---|
    /// | `GATEWAY_LISTEN` | `listen` |
    /// | `GATEWAY_REALM` | `realm` |
    /// | `GATEWAY_DATA_DIR` | `data_dir` |
    /// | `GATEWAY_UPSTREAM_URL` | `upstream.url` |
    /// | `GATEWAY_STORE` | `[store]`: `memory`, `sqlite:PATH`, `postgres://...` or `redis://...` |
    /// | `GATEWAY_ADMIN_TOKEN` | `[admin]`; it switches the operator's routes on |
    /// | `MPP_SECRET_KEY` | the generated challenge key; several separated by commas, the first signs |
    /// | `STRIPE_SECRET_KEY`, `STRIPE_NETWORK_ID` | `rails.stripe`; without a file they switch it on |
    pub(crate) fn load(
        path: Option<&Path>,
        command_line: &CommandLine,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let place = Place(path);
        let upstream_url = environment.get("GATEWAY_UPSTREAM_URL")?;
        let (file, written) = match (path, &upstream_url) {
            (Some(path), _) => File::read(path)?,
            (None, Some(url)) => (File::everything_of(url), toml::Table::new()),
            (None, None) => (File::demo(), toml::Table::new()),
        };
        let given = |variable: &str, field: &str, value: Option<String>| match environment.get(variable)? {
            Some(value) => Ok((Some(value), variable.to_owned())),
            None => Ok::<_, ConfigError>((value, place.of(field))),
        };

        let (listen, at) = match &command_line.addr {
            Some(address) => (Some(address.clone()), "--addr".to_owned()),
            None => given("GATEWAY_LISTEN", "listen", file.listen)?,
        };
        let listen = Listen::parse(listen.as_deref().unwrap_or(listen::DEFAULT), at)?;

        let (realm, at) = given("GATEWAY_REALM", "realm", file.realm)?;
        if realm.is_none() && !listen.is_loopback() {
            return Err(ConfigError::new(
                at,
                "it is not set, but the gateway listens beyond this machine; set it to the public host name (or GATEWAY_REALM)",
            ));
        }
        let realm = Realm::new(realm.as_deref().unwrap_or(REALM)).map_err(|error| ConfigError::new(at, error))?;

        let (data_dir, at) = match &command_line.data {
            Some(folder) => (Some(folder.clone()), "--data".to_owned()),
            None => {
                let (folder, at) = given("GATEWAY_DATA_DIR", "data_dir", None)?;
                (folder.map(PathBuf::from).or(file.data_dir), at)
            }
        };
        let data_dir = data_dir.unwrap_or_else(|| DATA_DIR.into());
        if data_dir.as_os_str().is_empty() {
            return Err(ConfigError::new(at, "it is empty; name a folder"));
        }
        let keys = match environment.get("MPP_SECRET_KEY")? {
            Some(text) => {
                Keys::Given(KeyRing::from_list(&text).map_err(|error| ConfigError::new("MPP_SECRET_KEY", error))?)
            }
            None => Keys::Folder(data_dir.clone()),
        };
        let (journal, journal_folder) = journal::check(place, file.store, &data_dir, environment)?;
        let admin = admin(place, file.admin, &data_dir, environment)?;

        let stripe = stripe(place, path.is_some(), file.rails.stripe, environment)?;
        let live = stripe.as_ref().is_some_and(|stripe| !stripe.is_test());
        let sandbox = match file.rails.sandbox {
            Some(true) if live => {
                return Err(place.error(
                    "rails.sandbox",
                    "play money would buy what others pay for with a live Stripe key; switch one of them off",
                ));
            }
            Some(on) => on,
            None => path.is_none() && !live,
        };
        if !sandbox && stripe.is_none() {
            return Err(place.error("rails", "there is none; set rails.sandbox = true, or add [rails.stripe]"));
        }

        let test_mode = sandbox || !live;
        if let Some(said) = file.rails.test_mode.filter(|said| *said != test_mode) {
            return Err(place.error("rails.test_mode", disagrees(said, sandbox)));
        }

        let receipts = match file.receipts {
            Some(table) => Some(receipts::check(place, table, &data_dir, &journal, &realm, test_mode, environment)?),
            None => None,
        };
        let ledger = receipts.as_ref().map(ReceiptSettings::paths).unwrap_or_default();
        let body_limit = place.size("body_limit", file.body_limit, MIB)?;
        let agent = agent::checked(place, file.agent, file.models, file.well_known, body_limit, environment)?;
        let api =
            file.api.map(|table| keyed::check(place, table, agent.as_ref(), body_limit, environment)).transpose()?;
        let currency = file.currency.as_deref().unwrap_or("usd");
        let services = services::check(place, file.proxy, file.services, currency, body_limit, environment)?;
        let discovery = catalog::check(place, file.discovery);
        let own = routes::Own {
            admin: admin.is_some(),
            ledger,
            mounts: services.mounts(),
            discovery: discovery.is_some(),
            agent: agent.is_some(),
        };
        Ok(Self {
            listen,
            https: https(place, file.https, &realm)?,
            cors: file.cors_origins.map(|origins| cors(place, &origins)).transpose()?,
            realm,
            data_dir,
            keys,
            challenge_ttl: place.seconds("challenge_ttl_secs", file.challenge_ttl_secs, 5 * MINUTE, DAY)?,
            redelivery_grace: place.seconds(
                "redelivery_grace_secs",
                file.redelivery_grace_secs,
                10 * MINUTE,
                30 * DAY,
            )?,
            lease: place.seconds("lease_secs", file.lease_secs, MINUTE, DAY)?,
            shutdown: place.seconds("shutdown_secs", file.shutdown_secs, 30, DAY)?,
            refunds: refunds(file.refunds.unwrap_or_default()),
            journal,
            journal_folder,
            admin,
            receipts,
            sandbox,
            stripe: stripe.map(Arc::new),
            upstream: upstream::check(place, file.upstream, upstream_url, environment)?,
            routes: routes::check(place, file.routes, currency, body_limit, own, api.as_ref())?,
            services,
            discovery,
            agent,
            api,
            file: written,
        })
    }
}

/// Why the keys are not those of the mode that the file names.
fn disagrees(test_mode: bool, sandbox: bool) -> &'static str {
    match (test_mode, sandbox) {
        (true, _) => "it is true, but the Stripe key is a live one (sk_live_...): give a test key, or write false",
        (false, true) => "it is false, but rails.sandbox takes play money: switch that off, or write true",
        (false, false) => "it is false, but the Stripe key is a test key (sk_test_...): give a live key, or write true",
    }
}

impl Settings {
    /// Whether a field of the file means the same in both, though it may be written differently, or be overruled.
    pub(super) fn agrees_in(&self, field: &str, other: &Self) -> bool {
        match field {
            "listen" => self.listen.is(&other.listen),
            "realm" => self.realm == other.realm,
            "data_dir" => self.data_dir == other.data_dir,
            "challenge_ttl_secs" => self.challenge_ttl == other.challenge_ttl,
            "redelivery_grace_secs" => self.redelivery_grace == other.redelivery_grace,
            "lease_secs" => self.lease == other.lease,
            "shutdown_secs" => self.shutdown == other.shutdown,
            _ => false,
        }
    }
}

fn refunds(rules: config::Refunds) -> RefundPolicy {
    RefundPolicy::off()
        .refund_if_payment_succeeds_but_no_provider_call_starts(
            rules.refund_if_payment_succeeds_but_no_provider_call_starts,
        )
        .refund_if_provider_timeout_before_first_token(rules.refund_if_provider_timeout_before_first_token)
        .no_refund_after_successful_stream_start(rules.no_refund_after_successful_stream_start)
        .no_refund_after_side_effecting_tool_success(rules.no_refund_after_side_effecting_tool_success)
}

/// Off unless it is asked for.
fn admin(
    place: Place<'_>,
    table: Option<config::Admin>,
    data_dir: &Path,
    environment: Environment<'_>,
) -> Result<Option<AdminToken>, ConfigError> {
    const TOKEN: &str = "GATEWAY_ADMIN_TOKEN";
    let given =
        |variable: &str, token: String| AdminToken::Given { variable: variable.to_owned(), token: token.into() };
    if let Some(token) = environment.get(TOKEN)? {
        return Ok(Some(given(TOKEN, token)));
    }
    Ok(match table {
        None => None,
        Some(config::Admin { token_env: Some(_), token_file: Some(_) }) => {
            return Err(place.error("admin", "give token_env or token_file, not both"));
        }
        Some(config::Admin { token_env: Some(variable), .. }) => {
            let token = environment.required(&variable, &place.of("admin.token_env"))?;
            Some(given(&variable, token))
        }
        Some(config::Admin { token_file: Some(path), .. }) => Some(AdminToken::File { path, ours: false }),
        Some(_) => Some(AdminToken::File { path: data_dir.join(ADMIN_TOKEN), ours: true }),
    })
}

fn https(place: Place<'_>, https: Option<Https>, realm: &Realm) -> Result<Option<HttpsPolicy>, ConfigError> {
    match https {
        None if realm.is_loopback() => Ok(None),
        None => Err(place.error(
            "https",
            "it is not set; name the header by which your TLS proxy says that a request came over HTTPS: \"x-forwarded-proto\" or \"forwarded\" (or write \"not-required\")",
        )),
        Some(Https::NotRequired) => Ok(None),
        Some(Https::XForwardedProto) => Ok(Some(HttpsPolicy::direct().trust_x_forwarded_proto())),
        Some(Https::Forwarded) => Ok(Some(HttpsPolicy::direct().trust_forwarded())),
    }
}

fn cors(place: Place<'_>, origins: &[String]) -> Result<AllowOrigin, ConfigError> {
    if origins == ["*"] {
        return Ok(AllowOrigin::any());
    }
    let is_origin = |origin: &&String| {
        let parts = origin.parse::<http::Uri>().map(http::Uri::into_parts);
        parts.is_ok_and(|parts| parts.authority.is_some_and(|host| origin.ends_with(host.as_str())))
    };
    let values = origins.iter().map(|origin| HeaderValue::from_str(origin).ok().filter(|_| is_origin(&origin)));
    values.collect::<Option<Vec<_>>>().map(AllowOrigin::list).ok_or_else(|| {
        place.error(
            "cors_origins",
            "write origins such as \"https://app.example.com\", without a slash at the end, or [\"*\"]",
        )
    })
}

/// With a file, Stripe is on when the file says so; without one, when the environment has a key.
fn stripe(
    place: Place<'_>,
    has_file: bool,
    table: Option<config::Stripe>,
    environment: Environment<'_>,
) -> Result<Option<stripe::Stripe>, ConfigError> {
    const KEY: &str = "STRIPE_SECRET_KEY";
    const NETWORK: &str = "STRIPE_NETWORK_ID";
    let table = match table {
        Some(table) => table,
        None if has_file => return Ok(None),
        None if environment.get(KEY)?.is_some() || environment.get(NETWORK)?.is_some() => config::Stripe::default(),
        None => return Ok(None),
    };
    let variable = table.secret_key_env.as_deref().unwrap_or(KEY);
    let key = environment.required(variable, "Stripe")?;
    let network = match environment.get(NETWORK)?.or(table.network_id) {
        Some(network) => network,
        None => {
            return Err(ConfigError::new(
                NETWORK,
                "it is not set, but Stripe needs it (or rails.stripe.network_id in the file)",
            ));
        }
    };
    let mut builder = stripe::Stripe::builder(key, network);
    if let Some(url) = table.base_url {
        builder = builder.base_url(url);
    }
    if let Some(account) = table.recipient {
        builder = builder.recipient(account);
    }
    builder.build().map(Some).map_err(|error| {
        ConfigError::new(format_args!("{} (with {variable}, {NETWORK})", place.of("rails.stripe")), error)
    })
}
