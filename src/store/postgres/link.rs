//! How a step is sent, and what is done when its connection is lost.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, SqlSafeStr as _, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgRow},
};
use tokio::time::timeout;

use super::{
    super::StoreError,
    connections::{Connections, failed},
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
        Self { connections }
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
