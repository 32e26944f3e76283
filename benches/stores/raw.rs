//! What the disk and the servers can do without a journal.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
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
const PAGE: [u8; 4096] = [7; 4096];
const PAGES: u64 = 2000;
/// What a row of the journal holds beside its keys, roughly.
const PAYLOAD: [u8; 256] = [7; 256];

/// One bare operation.
pub(crate) enum Raw {
    /// A page that is appended, and an fsync: the file gets longer.
    Append(Arc<File>),
    /// A page that is written where another one was, and an fsync, as in a WAL that begins anew.
    Overwrite(Arc<File>, Arc<AtomicU64>),
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
            Place::Sqlite => {
                let file = |name| File::create(folder.join(name)).unwrap();
                let written = file("raw-written");
                (0..PAGES).for_each(|page| written.write_all_at(&PAGE, page * PAGE.len() as u64).unwrap());
                written.sync_all().unwrap();
                vec![Self::Append(Arc::new(file("raw"))), Self::Overwrite(Arc::new(written), Arc::default())]
            }
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
            Self::Append(_) => "raw append, fsynced",
            Self::Overwrite(..) => "raw overwrite, fsynced",
            Self::Select(_) => "raw SELECT 1",
            Self::Insert(..) => "raw INSERT, fsynced",
            Self::Ping(_) => "raw PING",
            Self::Set(..) => "raw SET, fsynced",
        }
    }

    /// Whether more callers make no sense.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self, Self::Append(_) | Self::Overwrite(..))
    }

    pub(crate) async fn measure(&self, callers: usize, duration: Duration) -> Cell {
        let until = Instant::now() + duration;
        side_by_side(callers, || {
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
            // In this thread for as long as it takes: nobody else wants it.
            Self::Append(file) => tokio::task::block_in_place(|| {
                (&**file).write_all(&PAGE).unwrap();
                file.sync_data().unwrap();
            }),
            Self::Overwrite(file, next) => tokio::task::block_in_place(|| {
                let page = next.fetch_add(1, Ordering::Relaxed) % PAGES;
                file.write_all_at(&PAGE, page * PAGE.len() as u64).unwrap();
                file.sync_data().unwrap();
            }),
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
            Self::Append(file) => Self::Append(Arc::clone(file)),
            Self::Overwrite(file, next) => Self::Overwrite(Arc::clone(file), Arc::clone(next)),
            Self::Select(pool) => Self::Select(pool.clone()),
            Self::Insert(pool, next) => Self::Insert(pool.clone(), Arc::clone(next)),
            Self::Ping(connection) => Self::Ping(connection.clone()),
            Self::Set(connection, next) => Self::Set(connection.clone(), Arc::clone(next)),
        }
    }
}
