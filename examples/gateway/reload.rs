//! A new configuration for a gateway that runs, at SIGHUP.
//!
//! The router is built anew from the file, around the same merchant, and takes the place of the old one at once.
//! Requests that are in flight end in the old one. A file that cannot be used changes nothing, and neither does one
//! that changes what needs a restart. The environment of a process does not change: a secret that is to be
//! replaced without a restart stands in a file.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};

use axum::{Router, body::Body};
use http::Request;
use toml::{Table, Value};
use tower::Service;

use super::{
    app::{Foundation, router},
    config::{CommandLine, ConfigError, Environment},
    settings::Settings,
};

/// The tables and fields of the file that may change while the gateway runs. All others are taken at the start, by
/// the merchant, the journal or the listener.
const HOT: [&str; 12] = [
    "agent",
    "api",
    "body_limit",
    "cors_origins",
    "currency",
    "discovery",
    "models",
    "proxy",
    "routes",
    "services",
    "upstream",
    "well_known",
];

/// But for this one, which is opened at the start.
const COLD: &str = "agent.provider";

/// So many names of fields are enough for a line of the log.
const NAMED: usize = 40;

/// The router that serves at the moment.
#[derive(Clone)]
pub(crate) struct Live(Arc<RwLock<Router>>);

impl Live {
    pub(crate) fn new(router: Router) -> Self {
        Self(Arc::new(RwLock::new(router)))
    }

    fn current(&self) -> Router {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, router: Router) {
        let old = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), router);
        // Whatever it does when it goes, nobody waits for the lock meanwhile.
        drop(old);
    }
}

impl Service<Request<Body>> for Live {
    type Response = <Router as Service<Request<Body>>>::Response;
    type Error = Infallible;
    type Future = <Router as Service<Request<Body>>>::Future;

    /// A router is always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.current().call(request)
    }
}

/// Reads the configuration again.
#[derive(Clone)]
pub(crate) struct Reload {
    path: PathBuf,
    command_line: CommandLine,
    foundation: Arc<Foundation>,
    settings: Arc<Settings>,
    /// `[agent.provider]` of the start. The table may be gone meanwhile: what was opened is still that.
    opened: Option<Value>,
    live: Live,
}

/// The running configuration stays.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The new one cannot be used.
    Invalid(ConfigError),
    /// It changes these, which were taken at the start.
    NeedsRestart(Vec<String>),
}

impl Reload {
    pub(crate) fn new(
        path: PathBuf,
        command_line: CommandLine,
        settings: Settings,
        foundation: Arc<Foundation>,
        live: Live,
    ) -> Self {
        let opened = provider(&settings).cloned();
        Self { path, command_line, foundation, settings: Arc::new(settings), opened, live }
    }

    /// Reads the file again at every signal, for ever.
    pub(super) async fn at_every(mut self, mut signals: Hangups) {
        loop {
            signals.next().await;
            let next = self.clone();
            // Files are read. And a panic leaves what serves as it is.
            let read = tokio::task::spawn_blocking(move || next.read(Environment::of_process())).await;
            match read {
                Ok(Ok((settings, router))) => self.apply(settings, router),
                Ok(Err(Refused::Invalid(error))) => {
                    tracing::error!(%error, "not reloaded: the configuration cannot be used; the old one goes on");
                }
                Ok(Err(Refused::NeedsRestart(fields))) => {
                    for field in fields {
                        tracing::error!(field, "needs a restart");
                    }
                    tracing::error!("not reloaded: nothing of the new configuration is used; the old one goes on");
                }
                Err(error) => {
                    tracing::error!(%error, "not reloaded: a bug; the old configuration goes on");
                }
            }
        }
    }

    /// Reads and checks, and changes nothing.
    pub(crate) fn read(&self, environment: Environment<'_>) -> Result<(Settings, Router), Refused> {
        let settings = Settings::load(Some(&self.path), &self.command_line, environment).map_err(Refused::Invalid)?;
        let is_hot = |field: &String| HOT.contains(&field.split(['.', '[']).next().unwrap_or_default());
        let changed = changes(&self.settings.file, &settings.file);
        let cold = changed.into_iter().filter(|field| !is_hot(field) && !self.settings.agrees_in(field, &settings));
        let mut cold: Vec<_> = cold.collect();
        if let (Some(opened), Some(new)) = (&self.opened, provider(&settings)) {
            compare(Some(opened), Some(new), COLD.to_owned(), &mut cold);
        }
        if let (Some(agent), Some(provider), []) = (&settings.agent, &self.foundation.provider, &*cold) {
            cold = agent.unknown_to(provider);
        }
        if !cold.is_empty() {
            return Err(Refused::NeedsRestart(cold));
        }
        let router = router(&settings, &self.foundation).map_err(Refused::Invalid)?;
        Ok((settings, router))
    }

    /// From now on this one serves.
    pub(crate) fn apply(&mut self, settings: Settings, router: Router) {
        let changed = changes(&self.settings.file, &settings.file);
        self.live.replace(router);
        self.settings = Arc::new(settings);
        let file = self.path.display();
        if changed.is_empty() {
            return tracing::info!(%file, "reloaded: nothing in it has changed; what it names was read again");
        }
        let more = changed.len().saturating_sub(NAMED);
        let named = changed.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        tracing::info!(%file, changed = named, more, "reloaded");
    }
}

/// `[agent.provider]`.
fn provider(settings: &Settings) -> Option<&Value> {
    settings.file.get("agent")?.get("provider")
}

/// The names of the fields that differ. Never what they say: that may be a secret after all.
fn changes(old: &Table, new: &Table) -> Vec<String> {
    let mut changed = Vec::new();
    compare_tables(old, new, "", &mut changed);
    changed
}

fn compare_tables(old: &Table, new: &Table, at: &str, changed: &mut Vec<String>) {
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        compare(old.get(name), new.get(name), at, changed);
    }
}

fn compare(old: Option<&Value>, new: Option<&Value>, at: String, changed: &mut Vec<String>) {
    let has_tables = |list: &[Value]| list.iter().any(Value::is_table);
    match (old, new) {
        (Some(Value::Table(old)), Some(Value::Table(new))) => compare_tables(old, new, &at, changed),
        (Some(Value::Array(old)), Some(Value::Array(new))) if has_tables(old) || has_tables(new) => {
            for index in 0..old.len().max(new.len()) {
                compare(old.get(index), new.get(index), format!("{at}[{index}]"), changed);
            }
        }
        (old, new) if old == new => {}
        _ => changed.push(at),
    }
}

/// SIGHUP, which is caught from the moment that this is made.
#[cfg(unix)]
pub(super) struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangups {
    pub(super) fn new() -> io::Result<Self> {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).map(Self)
    }

    async fn next(&mut self) {
        // It ends with the runtime.
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// There is no such signal.
#[cfg(not(unix))]
pub(super) struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        std::future::pending().await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_and_nothing_else_is_said() {
        let table = |text: &str| toml::from_str::<Table>(text).unwrap();
        let old = "a = 1\nlist = [1, 2]\n[up]\nurl = \"x\"\nheaders = { k = \"v\" }\n[[routes]]\nprice = \"1\"\n";
        for (new, expected) in [
            (old.to_owned(), vec![]),
            (old.replace("a = 1", "a = 2"), vec!["a"]),
            (old.replace("[1, 2]", "[2, 1]"), vec!["list"]),
            (old.replace("k = \"v\"", "k = \"hush\", l = \"hush\""), vec!["up.headers.k", "up.headers.l"]),
            (format!("{old}[[routes]]\nprice = \"1\"\n"), vec!["routes[1]"]),
            (
                format!("{}[new]\nx = 1\n", old.replace("price = \"1\"", "price = \"2\"")),
                vec!["new", "routes[0].price"],
            ),
            ("a = 1\nlist = [1, 2]\n".to_owned(), vec!["routes", "up"]),
        ] {
            assert_eq!(changes(&table(old), &table(&new)), expected, "{new}");
        }
    }
}
