//! The schema in the database, and how it gets there.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqlStr};
use tokio::time::timeout;

use super::{
    super::StoreError,
    connections::{Connections, failed},
    link::statement,
};

/// All versions, in order: what takes a schema from the version before to this one.
const VERSIONS: &[&str] = &[include_str!("0001.sql"), include_str!("0002.sql")];

/// How long a replica waits for others that are changing the schema, and for its own changes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name of a schema that needs no quotes.
#[derive(Clone, Debug)]
pub(super) struct Schema(String);

impl Schema {
    pub(super) fn new(name: &str) -> Result<Self, StoreError> {
        let mut bytes = name.bytes();
        let good = bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            && name.len() <= 63
            && !name.starts_with("pg_");
        if good {
            return Ok(Self(name.to_owned()));
        }
        Err(StoreError::unavailable(
            "the schema of a journal is named by up to 63 of a-z, 0-9 and _, not first a digit",
        ))
    }

    /// A call of one of its functions, with so many arguments.
    pub(super) fn call(&self, function: &str, arguments: usize) -> SqlStr {
        let places: Vec<_> = (1..=arguments).map(|place| format!("${place}")).collect();
        statement(format!("SELECT * FROM \"{}\".{function}({})", self.0, places.join(", ")))
    }

    /// Brings the schema to the version of this library.
    ///
    /// Any number of replicas may do this at once. Where the version is there already, it only reads.
    pub(super) async fn prepare(&self, connections: &Connections) -> Result<(), StoreError> {
        let mut borrowed = connections.borrow(false).await?;
        let connection = borrowed.connection()?;
        let prepared = timeout(PATIENCE, async {
            if self.check(self.version(connection).await?)? < VERSIONS.len() {
                self.migrate(connection).await?;
            }
            Ok(())
        });
        match prepared.await {
            Ok(Ok(())) => {
                borrowed.give_back();
                Ok(())
            }
            Ok(Err(Unprepared::Failed(error))) => Err(failed(&error)),
            Ok(Err(Unprepared::Newer(version))) => Err(StoreError::unavailable(format!(
                "the payment journal in schema {} has version {version}, and this program knows none after {}: \
                 a later version of the program has been here",
                self.0,
                VERSIONS.len(),
            ))),
            Err(_) => {
                Err(StoreError::unavailable("PostgreSQL did not bring the payment journal to its version in time"))
            }
        }
    }

    async fn migrate(&self, connection: &mut PgConnection) -> Result<(), Unprepared> {
        // Each statement must see what was committed while it waited for the lock.
        let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        sqlx::raw_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").execute(&mut *transaction).await?;
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('tower-mpp ' || $1, 0))")
            .bind(&self.0)
            .persistent(false)
            .execute(&mut *transaction)
            .await?;
        let version = self.check(self.version(&mut transaction).await?)?;
        if version == 0 {
            // Not IF NOT EXISTS: that asks for the right to make schemas also where somebody has made it for us.
            const EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)";
            let exists: bool =
                sqlx::query_scalar(EXISTS).bind(&self.0).persistent(false).fetch_one(&mut *transaction).await?;
            if !exists {
                self.run(&mut transaction, |name| format!("CREATE SCHEMA \"{name}\"")).await?;
            }
        }
        // No other schema: somebody's table of the same name is not ours.
        self.run(&mut transaction, |name| format!("SET LOCAL search_path = \"{name}\", pg_temp")).await?;
        if version == 0 {
            const TABLE: &str =
                "CREATE TABLE versions (version integer PRIMARY KEY, since timestamptz NOT NULL DEFAULT now())";
            sqlx::raw_sql(TABLE).execute(&mut *transaction).await?;
        }
        for (text, number) in VERSIONS.iter().zip(1_i32..).skip(version) {
            sqlx::raw_sql(*text).execute(&mut *transaction).await?;
            sqlx::query("INSERT INTO versions (version) VALUES ($1)")
                .bind(number)
                .persistent(false)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn run(&self, connection: &mut PgConnection, text: impl FnOnce(&str) -> String) -> Result<(), Unprepared> {
        sqlx::raw_sql(AssertSqlSafe(text(&self.0))).execute(connection).await?;
        Ok(())
    }

    /// The version of the schema, 0 where there is none.
    async fn version(&self, connection: &mut PgConnection) -> Result<i32, Unprepared> {
        // Not to_regclass: in a transaction it may answer what was so before the transaction waited.
        const EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS class \
             JOIN pg_catalog.pg_namespace AS schema ON schema.oid = class.relnamespace \
             WHERE schema.nspname = $1 AND class.relname = 'versions')";
        let exists: bool =
            sqlx::query_scalar(EXISTS).bind(&self.0).persistent(false).fetch_one(&mut *connection).await?;
        if !exists {
            return Ok(0);
        }
        let version = statement(format!("SELECT coalesce(max(version), 0) FROM \"{}\".versions", self.0));
        Ok(sqlx::query_scalar(version).persistent(false).fetch_one(connection).await?)
    }

    fn check(&self, version: i32) -> Result<usize, Unprepared> {
        usize::try_from(version).ok().filter(|known| *known <= VERSIONS.len()).ok_or(Unprepared::Newer(version))
    }
}

enum Unprepared {
    Failed(sqlx::Error),
    Newer(i32),
}

impl From<sqlx::Error> for Unprepared {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}
