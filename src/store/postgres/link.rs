//! How a step is sent, and what is done when its connection is lost.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, SqlSafeStr as _, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgRow},
};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    super::StoreError,
    connections::{ACQUIRE, Connections, failed},
};

/// How long a step may take, with all repetitions.
const STEP: Duration = Duration::from_secs(5);
/// How often a step is repeated after a lost connection or a collision.
const REPEATS: u32 = 4;

/// The server ends connections for good with these, and so does what stands between it and us: it is shut down
/// or recovers, it became a standby, or it does not know a statement that the connection prepared.
const CONNECTION_IS_LOST: [&str; 5] = ["57P01", "57P02", "57P03", "25006", "26000"];
/// Serialization failure and deadlock: nothing was changed.
const COLLISION: [&str; 2] = ["40001", "40P01"];

/// The way to the server.
pub(super) struct Link {
    connections: Connections,
    /// Whose turn it is among the calls that wait for each other in the database. Each of them would wait there with
    /// a connection in its hands, and all connections would soon be waiting while payments need one.
    turn: Semaphore,
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

impl Link {
    pub(super) fn new(connections: Connections) -> Self {
        Self { connections, turn: Semaphore::new(1) }
    }

    /// Calls a function of the schema, in one round trip and one transaction.
    ///
    /// Where the connection is lost meanwhile the call is repeated on another one: every function can be called
    /// twice, see [`super::steps`]. The rows are those of a transaction that is committed: all replies are read.
    pub(super) async fn call<A>(&self, statement: &SqlStr, arguments: A) -> Result<Vec<PgRow>, StoreError>
    where
        A: Fn() -> Result<PgArguments, BoxDynError> + Send + Sync,
    {
        in_time(self.repeat(statement, &arguments)).await
    }

    /// The same, one after the other: who has to wait for those before does so without a connection.
    pub(super) async fn call_in_turn<A>(&self, statement: &SqlStr, arguments: A) -> Result<Vec<PgRow>, StoreError>
    where
        A: Fn() -> Result<PgArguments, BoxDynError> + Send + Sync,
    {
        in_time(async {
            let Ok(Ok(_turn)) = timeout(ACQUIRE, self.turn.acquire()).await else {
                return Err(StoreError::unavailable("listed receipts that came before are not committed in time"));
            };
            self.repeat(statement, &arguments).await
        })
        .await
    }

    async fn repeat<A>(&self, statement: &SqlStr, arguments: &A) -> Result<Vec<PgRow>, StoreError>
    where
        A: Fn() -> Result<PgArguments, BoxDynError> + Send + Sync,
    {
        let mut repeats = 0;
        let mut suspect = false;
        loop {
            let mut borrowed = self.connections.borrow(suspect).await?;
            let connection = borrowed.connection()?;
            let arguments = arguments().map_err(StoreError::unavailable)?;
            let error = match sqlx::query_with(statement.clone(), arguments).fetch_all(connection).await {
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
}

async fn in_time(step: impl Future<Output = Result<Vec<PgRow>, StoreError>>) -> Result<Vec<PgRow>, StoreError> {
    match timeout(STEP, step).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::unavailable("PostgreSQL did not answer in time")),
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

/// A statement with a name of a schema in it, which was checked.
pub(super) fn statement(text: String) -> SqlStr {
    AssertSqlSafe(std::sync::Arc::<str>::from(text)).into_sql_str()
}
