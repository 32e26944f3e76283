//! What the disk and the servers can do without a journal.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::aio::MultiplexedConnection;
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{
    Place,
    load::{Cell, lap, side_by_side, spread},
};

/// As many connections as the journal opens unless it is told otherwise.
const CONNECTIONS: u32 = 10;
/// What a row of the journal holds beside its keys, roughly.
const PAYLOAD: [u8; 256] = [7; 256];

/// One bare operation.
pub(crate) enum Raw {
    /// A page that is appended, and an fsync.
    Fsync(Arc<File>),
    Select(PgPool),
    Insert(PgPool, Arc<AtomicU64>),
    Ping(MultiplexedConnection),
    Set(MultiplexedConnection, Arc<AtomicU64>),
}

impl Raw {
    /// Those that belong to a journal. The last one is a write that is on the disk when it is answered.
    pub(crate) async fn beside(place: &Place, folder: &Path) -> Vec<Self> {
        match place {
            Place::Memory => Vec::new(),
            Place::Sqlite => vec![Self::Fsync(Arc::new(File::create(folder.join("raw")).unwrap()))],
            Place::Postgres(server) => {
                let url = server.fresh_database().await;
                let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(&url).await.unwrap();
                let table = "CREATE TABLE raw (id bytea PRIMARY KEY, payload bytea NOT NULL)";
                sqlx::query(table).execute(&pool).await.unwrap();
                vec![Self::Select(pool.clone()), Self::Insert(pool, Arc::default())]
            }
            Place::Redis(server) => {
                let client = redis::Client::open(server.fresh()).unwrap();
                let connection = client.get_multiplexed_async_connection().await.unwrap();
                vec![Self::Ping(connection.clone()), Self::Set(connection, Arc::default())]
            }
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Fsync(_) => "raw 4 KiB and fsync",
            Self::Select(_) => "raw SELECT 1",
            Self::Insert(..) => "raw INSERT, fsynced",
            Self::Ping(_) => "raw PING",
            Self::Set(..) => "raw SET, fsynced",
        }
    }

    /// Whether more callers make no sense.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self, Self::Fsync(_))
    }

    pub(crate) async fn measure(&self, callers: usize, duration: Duration) -> Cell {
        let until = Instant::now() + duration;
        side_by_side(callers, duration, |_| {
            let mut raw = self.clone();
            async move {
                let mut times = Vec::new();
                let mut since = Instant::now();
                while since < until {
                    raw.once().await;
                    times.push(lap(&mut since));
                }
                (times.clone(), times)
            }
        })
        .await
    }

    async fn once(&mut self) {
        match self {
            Self::Fsync(file) => {
                let file = Arc::clone(file);
                // In its thread for as long as it takes: nobody else wants it.
                tokio::task::block_in_place(|| {
                    (&*file).write_all(&[7; 4096]).unwrap();
                    file.sync_data().unwrap();
                });
            }
            Self::Select(pool) => {
                sqlx::query("SELECT 1").execute(&*pool).await.unwrap();
            }
            Self::Insert(pool, next) => {
                let id = spread(next.fetch_add(1, Ordering::Relaxed));
                let insert = sqlx::query("INSERT INTO raw (id, payload) VALUES ($1, $2)");
                insert.bind(&id[..]).bind(&PAYLOAD[..]).execute(&*pool).await.unwrap();
            }
            Self::Ping(connection) => redis::cmd("PING").exec_async(connection).await.unwrap(),
            Self::Set(connection, next) => {
                let id = spread(next.fetch_add(1, Ordering::Relaxed));
                redis::cmd("SET").arg(&id[..]).arg(&PAYLOAD[..]).exec_async(connection).await.unwrap();
            }
        }
    }
}

impl Clone for Raw {
    fn clone(&self) -> Self {
        match self {
            Self::Fsync(file) => Self::Fsync(Arc::clone(file)),
            Self::Select(pool) => Self::Select(pool.clone()),
            Self::Insert(pool, next) => Self::Insert(pool.clone(), Arc::clone(next)),
            Self::Ping(connection) => Self::Ping(connection.clone()),
            Self::Set(connection, next) => Self::Set(connection.clone(), Arc::clone(next)),
        }
    }
}
