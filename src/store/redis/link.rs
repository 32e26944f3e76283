//! The connection to the server.

use std::{
    fmt,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisError, ScriptInvocation, ServerErrorKind, Value,
    aio::MultiplexedConnection, cmd,
};
use tokio::time::timeout;

use super::{check, reply::Reply};
use crate::store::{StoreError, StoreErrorKind};

/// One connection for all callers. What they ask for at about the same time goes to the server together, which
/// then writes its log to disk once for all of it. It is opened again when it is lost.
pub(super) struct Link {
    client: Client,
    /// How long the server may take to be connected, and to answer.
    patience: Duration,
    replicas: Option<Replicas>,
    current: Mutex<Option<Opened>>,
    /// Held by the caller that opens a connection. Counts them.
    opening: tokio::sync::Mutex<u64>,
}

/// How many replicas must have a write before it counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replicas {
    pub(super) count: usize,
    pub(super) within: Duration,
}

/// What a script does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// It changes nothing.
    Look,
    /// It changes what is there.
    Change,
    /// It may add something, for which there may be no room.
    Add,
}

#[derive(Clone)]
struct Opened {
    number: u64,
    connection: MultiplexedConnection,
}

/// How many steps may wait to be sent.
const QUEUE: usize = 1024;

impl Link {
    /// Connects.
    pub(super) async fn new(url: &str, patience: Duration, replicas: Option<Replicas>) -> Result<Self, StoreError> {
        // Its own words may repeat what is wrong in the URL, which has a password.
        let client = Client::open(url).map_err(|_| {
            StoreError::unavailable("not the URL of a Redis server, as redis://host:6379/0 or rediss:// with TLS")
        })?;
        if matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. })
            && rustls::crypto::CryptoProvider::get_default().is_none()
        {
            // Where several are compiled in, rustls would panic for want of a choice. An error says that another
            // thread has made one.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let current = Mutex::new(None);
        let link = Self { client, patience, replicas, current, opening: tokio::sync::Mutex::new(0) };
        link.opened().await?;
        Ok(link)
    }

    pub(super) fn replicas(&self) -> Option<Replicas> {
        self.replicas
    }

    /// Runs a script, and waits for the replicas that must have what it wrote.
    pub(super) async fn run(&self, script: &ScriptInvocation<'_>, does: Does) -> Result<Reply, StoreError> {
        let wait = self.replicas.filter(|_| does != Does::Look);
        // To connect, which others may do before, to load the script, and to run it.
        let patience = self.patience * 3 + wait.map_or(Duration::ZERO, |wait| wait.within);
        let all = async {
            let opened = self.opened().await?;
            let done = self.run_on(opened.connection.clone(), script, wait).await;
            if let Err(error) = &done
                && error.is_of_the_connection()
            {
                self.lose(opened.number);
            }
            done.map_err(|error| self.failed(error, does))
        };
        timeout(patience, all).await.unwrap_or_else(|_| Err(StoreError::unavailable(TOO_SLOW)))
    }

    async fn run_on(
        &self,
        mut connection: MultiplexedConnection,
        script: &ScriptInvocation<'_>,
        wait: Option<Replicas>,
    ) -> Result<Reply, Failure> {
        let value = self.in_time(script.invoke_async::<Value>(&mut connection)).await?;
        if let Some(wait) = wait {
            // On this very connection: on another one it would count writes that are not ours. Not together with
            // the script: what others ask for meanwhile is then waited for at the same time.
            let mut command = cmd("WAIT");
            command.arg(wait.count).arg(wait.within.as_millis().max(1).to_string());
            let have: usize = match timeout(wait.within + self.patience, command.query_async(&mut connection)).await {
                Ok(have) => have?,
                Err(_) => return Err(Failure::TooSlow),
            };
            if have < wait.count {
                return Err(Failure::TooFew { have, wanted: wait.count });
            }
        }
        Reply::new(value).ok_or(Failure::Unreadable)
    }

    /// The present connection, or a new one.
    async fn opened(&self) -> Result<Opened, StoreError> {
        let current = || self.current.lock().clone();
        if let Some(opened) = current() {
            return Ok(opened);
        }
        let started = Instant::now();
        let mut number = self.opening.lock().await;
        // Somebody else has opened one, or has tried for long enough.
        if let Some(opened) = current() {
            return Ok(opened);
        }
        if started.elapsed() >= self.patience {
            return Err(StoreError::unavailable(TOO_SLOW));
        }
        let connection = self.open().await?;
        *number += 1;
        let opened = Opened { number: *number, connection };
        *self.current.lock() = Some(opened.clone());
        Ok(opened)
    }

    /// The server may be another one than before: it is asked again how it is configured.
    async fn open(&self) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.patience))
            // Steps have their own.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        let connection = self.in_time(self.client.get_multiplexed_async_connection_with_config(&config)).await;
        let mut connection = connection.map_err(|error| self.failed(error, Does::Look))?;
        let settings = self.in_time(check::settings(&mut connection)).await;
        check::check(&settings.map_err(|error| self.failed(error, Does::Look))?)?;
        Ok(connection)
    }

    async fn in_time<T>(&self, step: impl Future<Output = Result<T, RedisError>>) -> Result<T, Failure> {
        match timeout(self.patience, step).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Failure::TooSlow),
        }
    }

    fn lose(&self, number: u64) {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|opened| opened.number == number) {
            *current = None;
        }
    }

    fn failed(&self, failure: Failure, does: Does) -> StoreError {
        if failure.is_full() && does == Does::Add {
            return StoreErrorKind::Full.into();
        }
        let text = failure.to_string();
        // Some servers repeat what they do not understand.
        match self.client.get_connection_info().redis_settings().password() {
            Some(password) if !password.is_empty() && text.contains(password) => {
                StoreError::unavailable("the Redis server failed, and its message has the password in it")
            }
            _ => StoreError::unavailable(text),
        }
    }
}

const TOO_SLOW: &str = "the Redis server did not answer in time";

/// Why a step did not get its answer.
enum Failure {
    Redis(RedisError),
    TooSlow,
    TooFew { have: usize, wanted: usize },
    Unreadable,
}

impl Failure {
    /// Whether another connection may do better: this one is lost, or is to a server that is not the primary any
    /// more.
    fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Redis(error) => {
                let demoted = [ServerErrorKind::ReadOnly, ServerErrorKind::MasterDown].map(ErrorKind::Server);
                error.is_io_error() || error.is_unrecoverable_error() || demoted.contains(&error.kind())
            }
            Self::TooSlow => true,
            Self::TooFew { .. } | Self::Unreadable => false,
        }
    }

    fn is_full(&self) -> bool {
        let Self::Redis(error) = self else { return false };
        error.code() == Some("OOM") || error.detail().is_some_and(|detail| detail.contains("OOM command not allowed"))
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() { Self::TooSlow } else { Self::Redis(error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(error) => write!(f, "the Redis server failed: {error}"),
            Self::TooSlow => f.write_str(TOO_SLOW),
            Self::TooFew { have, wanted } => {
                write!(f, "{have} replicas of the Redis server have it in time, where {wanted} must")
            }
            Self::Unreadable => f.write_str("the Redis server's answer cannot be read"),
        }
    }
}
