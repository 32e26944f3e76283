//! Where payments are remembered, and the answers to those that come again.

use std::{fmt, fs, io, path::PathBuf, sync::Arc};

use tower_mpp::store::{
    AnswerStore, MemoryAnswerStore, MemoryNonceStore, MemoryReceiptStore, NonceStore, PostgresNonceStore, ReceiptStore,
    RedisNonceStore, SqliteNonceStore,
};
use zeroize::Zeroizing;

/// What the answers in memory may take.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How many receipts are kept in memory.
const RECEIPTS: usize = 100_000;

/// How many payments are remembered in memory unless something else is said.
pub(crate) const CAPACITY: usize = 1_000_000;

/// Where a journal is.
pub(crate) enum Location {
    /// In this process: a restart forgets it.
    Memory { capacity: usize },
    /// In a file, made when there is none.
    Sqlite(PathBuf),
    /// In PostgreSQL.
    Postgres(Url),
    /// In Redis or Valkey.
    Redis(Url),
}

/// The address of a server, which may hold a password: it is shown without what stands before the host
/// and after the path.
pub(crate) struct Url(Zeroizing<String>);

/// The journal of a merchant, the answers that it keeps, and its signed receipts.
pub(crate) struct Journal {
    pub(crate) payments: Arc<dyn NonceStore>,
    pub(crate) answers: Arc<dyn AnswerStore>,
    /// `None` where this kind of store keeps no receipts.
    pub(crate) ledger: Option<Arc<dyn ReceiptStore>>,
}

/// A journal cannot be used. One line, without a password.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub(crate) struct Unusable {
    place: String,
    problem: String,
}

impl Url {
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self(Zeroizing::new(url.into()))
    }

    /// Whether there is a password in it.
    pub(crate) fn has_password(&self) -> bool {
        let (user, query) = (self.parts().0, self.0.split_once('?').map_or("", |(_, query)| query));
        user.is_some_and(|user| user.contains(':')) || query.split('&').any(|field| field.starts_with("password="))
    }

    /// What stands before the host, and what comes from there on. A password may hold anything when
    /// somebody forgot to encode it.
    fn parts(&self) -> (Option<&str>, &str) {
        let rest = self.0.split_once("://").map_or(self.0.as_str(), |(_, rest)| rest);
        rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.parts().1;
        f.write_str(rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/'))
    }
}

impl Location {
    /// Reads `memory`, `sqlite:PATH`, `postgres://...` or `redis://...`.
    ///
    /// # Errors
    /// What is wrong, without repeating any of it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const KNOWN: &str = "there is no such store; write memory, sqlite:PATH, postgres://... or redis://...";
        if text == "memory" {
            return Ok(Self::Memory { capacity: CAPACITY });
        }
        match text.split_once(':') {
            Some(("sqlite", "")) => Err("a path is missing after sqlite:"),
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", rest)) if is_remote(rest) => Ok(Self::Postgres(Url::new(text))),
            Some(("redis" | "rediss", rest)) if is_remote(rest) => Ok(Self::Redis(Url::new(text))),
            _ => Err(KNOWN),
        }
    }

    /// What kind it is, as the configuration says it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Memory { .. } => "memory",
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
        }
    }

    /// Opens the journal, and makes it when there is none.
    pub(crate) async fn open(&self) -> Result<Journal, Unusable> {
        let unusable = |error: &dyn std::error::Error| Unusable { place: self.to_string(), problem: causes(error) };
        Ok(match self {
            Self::Memory { capacity } => Journal::in_memory(*capacity),
            Self::Sqlite(path) => {
                make_private(path).map_err(|error| unusable(&error))?;
                Journal::with_ledger(SqliteNonceStore::open(path).await.map_err(|error| unusable(&error))?)
            }
            Self::Postgres(url) => {
                Journal::with_ledger(PostgresNonceStore::connect(&url.0).await.map_err(|error| unusable(&error))?)
            }
            Self::Redis(url) => {
                let store = RedisNonceStore::connect(&url.0).await.map_err(|error| unusable(&error))?;
                Journal { payments: Arc::new(store.clone()), answers: Arc::new(store), ledger: None }
            }
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { .. } => f.write_str("memory"),
            Self::Sqlite(path) => write!(f, "{} (SQLite)", path.display()),
            Self::Postgres(url) => write!(f, "PostgreSQL at {url}"),
            Self::Redis(url) => write!(f, "Redis at {url}"),
        }
    }
}

impl Journal {
    /// One that ends with the process.
    pub(crate) fn in_memory(capacity: usize) -> Self {
        Self {
            payments: Arc::new(MemoryNonceStore::single_process(capacity)),
            answers: Arc::new(MemoryAnswerStore::new(ANSWER_BYTES)),
            ledger: Some(Arc::new(MemoryReceiptStore::new(RECEIPTS))),
        }
    }

    /// One store for everything.
    fn with_ledger(store: impl NonceStore + AnswerStore + ReceiptStore + Clone) -> Self {
        let ledger = Some(Arc::new(store.clone()) as _);
        Self { payments: Arc::new(store.clone()), answers: Arc::new(store), ledger }
    }
}

fn is_remote(rest: &str) -> bool {
    rest.strip_prefix("//").is_some_and(|rest| !rest.is_empty())
}

/// An error and what it comes from, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut texts: Vec<_> = all.map(|text| text.replace('\n', "; ")).collect();
    // Some say their cause themselves.
    texts.dedup_by(|next, before| before.contains(&**next));
    texts.join(": ")
}

/// Answers that were paid for are in it: nobody else may read it, from its first byte on.
fn make_private(path: &std::path::Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (text, shown) in [
            ("memory", "memory"),
            ("sqlite:/var/pay.db", "/var/pay.db (SQLite)"),
            ("postgres://user:hush@db.example.com:5432/pay?password=hush&x=1", "PostgreSQL at db.example.com:5432/pay"),
            ("postgresql://u:hu@sh/hush@127.0.0.1/pay#hush", "PostgreSQL at 127.0.0.1/pay"),
            ("redis://:hush@127.0.0.1:6379", "Redis at 127.0.0.1:6379"),
            ("rediss://hush@cache/", "Redis at cache"),
            ("redis://[::1]:7/0", "Redis at [::1]:7/0"),
        ] {
            assert_eq!(Location::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["", "Memory", "memory:", "sqlite", "sqlite:", "postgres", "postgres://", "redis:x", "mysql://x"] {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
        assert!(Url::new("postgres://u:p@h/d").has_password() && Url::new("redis://h?a=b&password=x").has_password());
        assert!(!Url::new("postgres://u@h:1/d").has_password() && !Url::new("redis://h:1").has_password());
    }
}
