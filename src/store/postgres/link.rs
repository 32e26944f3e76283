//! Connections to the server: how a step is sent, and what is done when a connection is lost.

use std::{fmt, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, PgPool, Postgres, SqlSafeStr as _, SqlStr,
    error::BoxDynError,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
};
use tokio::time::timeout;

use super::super::StoreError;

/// How long a step waits for a connection, of the time that it has.
pub(super) const ACQUIRE: Duration = Duration::from_secs(3);
/// How long a step may take, with all repetitions.
const STEP: Duration = Duration::from_secs(5);
/// How often a step is repeated after a lost connection or a collision.
const REPEATS: u32 = 4;

/// The server ends connections for good with these, and so does what stands between it and us: it is shut down
/// or recovers, it became a standby, or it does not know a statement that the connection prepared.
const CONNECTION_IS_LOST: [&str; 5] = ["57P01", "57P02", "57P03", "25006", "26000"];
/// Serialization failure and deadlock: nothing was changed.
const COLLISION: [&str; 2] = ["40001", "40P01"];

/// The pool and what is known about how to use it.
pub(super) struct Link {
    pool: PgPool,
}

/// What to do after an error.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// The connection is of no use any more. Nobody knows whether the step took effect.
    Reconnect,
    /// The step met another one and changed nothing.
    Collided,
    /// The server said no, and the connection is fine.
    Refused,
}

/// A connection that is closed unless it is given back: after an error, or when the caller stopped waiting, nobody
/// knows what is still on its way through it, and a server that is gone must not occupy a place in the pool.
struct Borrowed(Option<PoolConnection<Postgres>>);

impl Borrowed {
    fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl Link {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Calls a function of the schema, in one round trip and one transaction.
    ///
    /// Where the connection is lost meanwhile the call is repeated on another one: every function can be called
    /// twice, see [`super::steps`]. The rows are those of a transaction that is committed: all replies are read.
    pub(super) async fn call<A>(&self, statement: &SqlStr, arguments: A) -> Result<Vec<PgRow>, StoreError>
    where
        A: Fn() -> Result<PgArguments, BoxDynError> + Send + Sync,
    {
        match timeout(STEP, self.repeat(statement, &arguments)).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::unavailable("PostgreSQL did not answer in time")),
        }
    }

    async fn repeat<A>(&self, statement: &SqlStr, arguments: &A) -> Result<Vec<PgRow>, StoreError>
    where
        A: Fn() -> Result<PgArguments, BoxDynError> + Send + Sync,
    {
        let mut repeats = 0;
        let mut suspect = false;
        loop {
            let mut borrowed = self.borrow(suspect).await?;
            let Some(connection) = borrowed.0.as_mut() else {
                return Err(StoreError::unavailable("there is no connection to PostgreSQL"));
            };
            let arguments = arguments().map_err(StoreError::unavailable)?;
            let error = match sqlx::query_with(statement.clone(), arguments).fetch_all(&mut **connection).await {
                Ok(rows) => {
                    borrowed.give_back();
                    return Ok(rows);
                }
                Err(error) => error,
            };
            let fate = fate(&error);
            if fate != Fate::Reconnect {
                borrowed.give_back();
            }
            if fate == Fate::Refused || repeats == REPEATS {
                return Err(failed(&error));
            }
            suspect |= fate == Fate::Reconnect;
            repeats += 1;
        }
    }

    /// A connection. Where the last one was lost, the others in the pool may be too: then it is asked first whether
    /// it is alive, which costs a round trip.
    async fn borrow(&self, ask: bool) -> Result<Borrowed, StoreError> {
        loop {
            let mut borrowed = Borrowed(Some(self.pool.acquire().await.map_err(|error| failed(&error))?));
            match borrowed.0.as_mut() {
                Some(connection) if ask => {
                    if connection.ping().await.is_ok() {
                        return Ok(borrowed);
                    }
                }
                _ => return Ok(borrowed),
            }
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("connections", &self.pool.size()).field("idle", &self.pool.num_idle()).finish()
    }
}

fn fate(error: &sqlx::Error) -> Fate {
    let sqlx::Error::Database(refusal) = error else {
        return match error {
            // Made of what we sent or what we were sent.
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => Fate::Refused,
            _ => Fate::Reconnect,
        };
    };
    match refusal.code() {
        Some(code) if code.starts_with("08") || CONNECTION_IS_LOST.contains(&&*code) => Fate::Reconnect,
        Some(code) if COLLISION.contains(&&*code) => Fate::Collided,
        _ => Fate::Refused,
    }
}

/// The text of the error and no more: what PostgreSQL says in detail may quote what is in the journal.
pub(super) fn failed(error: &sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::PoolTimedOut => StoreError::unavailable(
            "no connection to PostgreSQL in time: it cannot be reached, or all connections are in use",
        ),
        error => StoreError::unavailable(error.to_string()),
    }
}

/// A statement with a name of a schema in it, which was checked.
pub(super) fn statement(text: String) -> SqlStr {
    AssertSqlSafe(std::sync::Arc::<str>::from(text)).into_sql_str()
}
