//! The journal in PostgreSQL.

mod answers;
mod connections;
mod link;
mod receipts;
mod schema;
mod steps;

use std::{fmt, str::FromStr as _, sync::Arc};

use sqlx::{PgPool, postgres::PgConnectOptions};

use self::{
    answers::AnswerCalls, connections::Connections, link::Link, receipts::ReceiptCalls, schema::Schema, steps::Calls,
};
use super::StoreError;

/// A journal, a store of answers and a ledger of signed receipts in PostgreSQL, which any number of replicas may share.
///
/// ```no_run
/// use tower_mpp::store::PostgresNonceStore;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresNonceStore::connect("postgres://shop:secret@db.example/shop?sslmode=verify-full").await?;
/// // A clone of it keeps the answers: `.nonce_store(store.clone())` and `.answer_store(store)`.
/// # Ok(())
/// # }
/// ```
///
/// # What is durable, and when
///
/// Every step is one call of a function in the database: one round trip and one transaction, committed and on disk
/// before it is answered. `synchronous_commit` is switched on for each step, whatever the session or the server say;
/// `fsync` and `full_page_writes` must stay on, as they are unless somebody switched them off. A standby that is
/// promoted must have what was answered: name it in `synchronous_standby_names`. With an asynchronous standby the
/// last entries are lost, and what they had spent can be spent once more.
///
/// # The server
///
/// PostgreSQL 12 or later. All that it keeps is in one schema, `tower_mpp` unless it is
/// [named](PostgresNonceStoreBuilder::schema) otherwise, which is made and brought to the version of this library by whoever
/// connects first; many may do so at once. A schema of a later version is refused. The role needs the right to make
/// the schema in the database, or to make tables in it where somebody else has made it.
///
/// Behind PgBouncer in transaction mode set `max_prepared_statements` above 40 (PgBouncer 1.21 or later) and
/// `ignore_startup_parameters = extra_float_digits,options`. Timeouts of statements are then those of the server.
///
/// # When the server is away
///
/// Steps fail with [`StoreErrorKind::Unavailable`](super::StoreErrorKind::Unavailable) within five seconds, and
/// succeed again when it is back: nobody has to connect anew. A step whose connection is lost meanwhile is
/// repeated on another one within this time; that never makes two winners, nor a second lease of one call.
///
/// # How big it gets
///
/// An entry takes one to two kibibytes with its indexes, its settlement and a short record, until
/// [`forget`](super::NonceStore::forget) drops it; a service that is paid 100 times a second and keeps entries for
/// five minutes has some 30,000 of them. There is no bound on the entries but the disk. Answers are bounded by
/// [`max_answer_bytes`](PostgresNonceStoreBuilder::max_answer_bytes), beside what PostgreSQL itself has not given back yet:
/// leave autovacuum on. A receipt takes its texts, compressed where they are long, and places in up to five indexes,
/// for ever.
///
/// # Receipts
///
/// As a [`ReceiptStore`](super::ReceiptStore) it never changes or drops a receipt, and triggers refuse whoever tries by
/// hand. Receipts that are in the public list are committed one after the other, so that their order is that in which
/// they can be seen: there are as many of them in a second as the disk can make commits one by one. Others share
/// the wait for the disk. A replica has one listed receipt under way at a time, on one connection; further ones wait
/// without a connection, for three seconds at most, and are then answered
/// [`Unavailable`](super::StoreErrorKind::Unavailable): however many there are, payments find connections. Leave `default_transaction_isolation` at `read committed` for this: at a stricter level
/// listed receipts that come at once collide, and some of them are answered
/// [`Unavailable`](super::StoreErrorKind::Unavailable).
#[derive(Clone)]
pub struct PostgresNonceStore {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    schema: Schema,
    calls: Calls,
    answer_calls: AnswerCalls,
    receipt_calls: ReceiptCalls,
    max_answer_bytes: i64,
}

impl PostgresNonceStore {
    /// Connects to the server at `postgres://user:password@host:port/database`, with the settings of
    /// [`builder`](Self::builder).
    ///
    /// The parameters of libpq that say how to connect may follow, such as `?sslmode=verify-full`; what is missing
    /// is taken from the environment (`PGPASSWORD` and the like).
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](super::StoreErrorKind::Unavailable) when the address cannot be read, the
    /// server does not let us in within three seconds, or the schema cannot be made or is newer than this library.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder().connect(url).await
    }

    /// Uses connections of somebody else's pool, with the settings of [`builder`](Self::builder).
    ///
    /// How long a step waits for a connection is up to the pool, five seconds at most; set
    /// [`acquire_timeout`](sqlx::postgres::PgPoolOptions::acquire_timeout) below that. Without
    /// [`test_before_acquire(false)`](sqlx::postgres::PgPoolOptions::test_before_acquire) each step takes a second
    /// round trip. Such a pool asks each connection that comes back whether it is well, and waits for that as long
    /// as the system believes in the connection; [`connect`](Self::connect) does not.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub async fn with_pool(pool: PgPool) -> Result<Self, StoreError> {
        Self::builder().with_pool(pool).await
    }

    /// Settings, all at their defaults.
    pub fn builder() -> PostgresNonceStoreBuilder {
        PostgresNonceStoreBuilder::default()
    }
}

impl fmt::Debug for PostgresNonceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresNonceStore")
            .field("schema", &self.inner.schema)
            .field("max_answer_bytes", &self.inner.max_answer_bytes)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`PostgresNonceStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PostgresNonceStoreBuilder {
    schema: String,
    max_connections: u32,
    max_answer_bytes: usize,
}

impl Default for PostgresNonceStoreBuilder {
    fn default() -> Self {
        Self { schema: "tower_mpp".to_owned(), max_connections: 10, max_answer_bytes: 1 << 30 }
    }
}

impl PostgresNonceStoreBuilder {
    /// The schema in which everything is, instead of `tower_mpp`: up to 63 of `a`-`z`, `0`-`9` and `_`, not first a
    /// digit and not `pg_`. Merchants in different schemas know nothing of each other.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// How many connections a replica opens at most, instead of 10; not for somebody else's pool. Steps that run
    /// at once share the wait for the disk, so more connections carry more of them, where there are more.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// How many bytes of answers are kept at most, instead of one gibibyte, by this replica's account: give all
    /// replicas the same. Steps that run at once may go beyond it by what they add.
    pub fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.max_answer_bytes = bytes;
        self
    }

    /// See [`PostgresNonceStore::connect`].
    ///
    /// # Errors
    /// As there, and when the name of the schema is none.
    pub async fn connect(self, url: &str) -> Result<PostgresNonceStore, StoreError> {
        // What is wrong with it is not said in detail: it has a password in it.
        let server = PgConnectOptions::from_str(url).map_err(|_| {
            StoreError::unavailable("not an address of PostgreSQL: postgres://user:password@host:port/database")
        })?;
        let named = server.get_application_name().is_some();
        let server = if named { server } else { server.application_name("tower-mpp") };
        // What nobody waits for any more must not go on for long.
        let server = server.options([("statement_timeout", "4s"), ("lock_timeout", "3s")]);
        let at_most = usize::try_from(self.max_connections).unwrap_or(usize::MAX);
        self.open(Connections::own(server, at_most)).await
    }

    /// See [`PostgresNonceStore::with_pool`].
    ///
    /// # Errors
    /// As there, and when the name of the schema is none.
    pub async fn with_pool(self, pool: PgPool) -> Result<PostgresNonceStore, StoreError> {
        self.open(Connections::Pool(pool)).await
    }

    async fn open(self, connections: Connections) -> Result<PostgresNonceStore, StoreError> {
        let schema = Schema::new(&self.schema)?;
        schema.prepare(&connections).await?;
        Ok(PostgresNonceStore {
            inner: Arc::new(Inner {
                link: Link::new(connections),
                calls: Calls::new(&schema),
                answer_calls: AnswerCalls::new(&schema),
                receipt_calls: ReceiptCalls::new(&schema),
                schema,
                max_answer_bytes: i64::try_from(self.max_answer_bytes).unwrap_or(i64::MAX),
            }),
        })
    }
}
