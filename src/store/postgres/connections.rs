//! Where connections come from: our own few, or somebody else's pool.
//!
//! Ours are not in a pool of sqlx: that asks each connection that comes back whether it is well, without a bound on
//! the wait, so that a network that swallows everything would take the places of the pool for as long as the
//! system believes in its connections. Here only a connection whose step has ended well comes back, and at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres, error::Error, pool::PoolConnection,
    postgres::PgConnectOptions,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant as Deadline, sleep, timeout, timeout_at},
};

use super::super::StoreError;

/// How long a step waits for a connection, of the time that it has.
pub(super) const ACQUIRE: Duration = Duration::from_secs(3);
/// How long until a server that does not let us in is asked again.
const BACKOFF: Duration = Duration::from_millis(50);
/// How long a connection has to say that it is alive.
const PING: Duration = Duration::from_secs(1);
/// A connection that was quiet for longer may have been forgotten by something on the way.
const QUIET: Duration = Duration::from_secs(30);
/// A connection that was quiet for longer is closed.
const IDLE: Duration = Duration::from_secs(600);
/// A connection that is older is replaced: names may have got other addresses, and servers other tasks.
const LIFETIME: Duration = Duration::from_secs(1800);

/// Where connections come from.
pub(super) enum Connections {
    /// Our own.
    Own(Arc<Own>),
    /// Somebody else's.
    Pool(PgPool),
}

/// At most so many connections as there are places, those that are idle among them.
pub(super) struct Own {
    server: PgConnectOptions,
    places: Arc<Semaphore>,
    /// The one that was used last is used next.
    idle: Mutex<Vec<Live>>,
}

struct Live {
    connection: PgConnection,
    since: Instant,
    used: Instant,
}

/// A connection that is closed unless it is given back: after an error, or when the caller stopped waiting, nobody
/// knows what is still on its way through it, and a server that is gone must not occupy a place.
pub(super) struct Borrowed {
    connection: Option<Kind>,
}

enum Kind {
    Own { live: Live, from: Arc<Own>, place: OwnedSemaphorePermit },
    Pool(PoolConnection<Postgres>),
}

impl Connections {
    pub(super) fn own(server: PgConnectOptions, at_most: usize) -> Self {
        let places = Arc::new(Semaphore::new(at_most.clamp(1, Semaphore::MAX_PERMITS)));
        Self::Own(Arc::new(Own { server, places, idle: Mutex::default() }))
    }

    /// A connection that nobody else uses. With `ask` it has answered just now: where one connection was lost,
    /// the others may be too.
    pub(super) async fn borrow(&self, ask: bool) -> Result<Borrowed, StoreError> {
        match self {
            Self::Own(own) => own.borrow(ask).await,
            Self::Pool(pool) => loop {
                let connection = pool.acquire().await.map_err(|error| failed(&error))?;
                let mut borrowed = Borrowed { connection: Some(Kind::Pool(connection)) };
                if !ask || is_alive(borrowed.connection()?).await {
                    return Ok(borrowed);
                }
            },
        }
    }
}

impl Own {
    async fn borrow(self: &Arc<Self>, ask: bool) -> Result<Borrowed, StoreError> {
        let deadline = Deadline::now() + ACQUIRE;
        let place = match timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => place,
            _ => return Err(StoreError::unavailable("all connections to PostgreSQL are in use")),
        };
        let live = match self.take_idle(ask).await {
            Some(live) => live,
            None => self.connect(deadline).await?,
        };
        Ok(Borrowed { connection: Some(Kind::Own { live, from: Arc::clone(self), place }) })
    }

    async fn take_idle(&self, ask: bool) -> Option<Live> {
        loop {
            let mut live = self.idle.lock().pop()?;
            if live.used.elapsed() > IDLE || live.since.elapsed() > LIFETIME {
                continue;
            }
            if !(ask || live.used.elapsed() > QUIET) || is_alive(&mut live.connection).await {
                return Some(live);
            }
        }
    }

    /// A server that starts, or starts again, is waited for.
    async fn connect(&self, deadline: Deadline) -> Result<Live, StoreError> {
        loop {
            let error = match timeout_at(deadline, self.server.connect()).await {
                Ok(Ok(connection)) => {
                    let now = Instant::now();
                    return Ok(Live { connection, since: now, used: now });
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(StoreError::unavailable("PostgreSQL did not let us in in time")),
            };
            if !may_pass(&error) || Deadline::now() + BACKOFF >= deadline {
                return Err(failed(&error));
            }
            sleep(BACKOFF).await;
        }
    }

    fn give_back(&self, mut live: Live) {
        live.used = Instant::now();
        let idle = &mut *self.idle.lock();
        idle.push(live);
        // Those at the front were not needed for the longest time.
        let stale = idle.iter().take_while(|live| live.used.elapsed() > IDLE).count();
        idle.drain(..stale);
    }
}

impl Borrowed {
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        match &mut self.connection {
            Some(Kind::Own { live, .. }) => Ok(&mut live.connection),
            Some(Kind::Pool(connection)) => Ok(connection),
            None => Err(StoreError::unavailable("there is no connection to PostgreSQL")),
        }
    }

    /// What was asked on it has been answered. What follows an error is read before the next question.
    pub(super) fn give_back(mut self) {
        match self.connection.take() {
            Some(Kind::Own { live, from, place }) => {
                from.give_back(live);
                drop(place);
            }
            Some(Kind::Pool(connection)) => drop(connection),
            None => {}
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // A connection of ours is closed, and then its place is free.
        if let Some(Kind::Pool(connection)) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

async fn is_alive(connection: &mut PgConnection) -> bool {
    matches!(timeout(PING, connection.ping()).await, Ok(Ok(())))
}

/// Whether a server that says this may let us in soon.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Io(_) => true,
        Error::Database(refusal) => refusal.code().is_some_and(|code| code == "57P03" || code == "53300"),
        _ => false,
    }
}

/// The text of an error and no more: what PostgreSQL says in detail may quote what is in the journal.
pub(super) fn failed(error: &Error) -> StoreError {
    StoreError::unavailable(error.to_string())
}
