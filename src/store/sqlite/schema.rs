//! The file: whose it is, what is in it, and how it is opened.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::receipts;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
    #[error("the file of the payment journal: {0}")]
    File(#[from] io::Error),
    #[error("the file is the database of another application")]
    Foreign,
    #[error(
        "the file was written by a later version of this library: its schema is {0}, and {SCHEMA} is the last one known"
    )]
    Newer(i64),
    #[error("the file or its directory is read-only")]
    ReadOnly,
    #[error("the file cannot be used in WAL mode, which needs a local file system")]
    NoWal,
    #[error("the file of the payment journal is not where it was opened: it was moved, replaced or deleted")]
    Moved,
    #[error("the file of the payment journal had to be closed after an error; the next step opens it again")]
    Closed,
}

/// Says in its header that a database is a payment journal: `MPPJ`.
const APPLICATION: i64 = 0x4d50_504a;

/// The version of the schema that all of [`MIGRATIONS`] make.
const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// What brings a file from each version to the next. They are never changed, only added to.
const MIGRATIONS: [&str; 2] = [
    // Entries are in the order in which they were claimed: what is written at a time stands together, so a
    // transaction of many steps writes few pages. Rows in the order of their ids, which are random, would
    // write a page for each step.
    "CREATE TABLE entries (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        exclusive INTEGER NOT NULL,
        proof BLOB NOT NULL,
        state INTEGER NOT NULL,
        token INTEGER NOT NULL,
        lease_until INTEGER NOT NULL,
        given_up INTEGER NOT NULL,
        put_off INTEGER,
        attempts INTEGER NOT NULL,
        keep_until INTEGER NOT NULL,
        keep_money INTEGER NOT NULL,
        asked INTEGER NOT NULL,
        reason TEXT,
        settlement TEXT,
        record BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX exclusive_proofs ON entries (proof) WHERE exclusive = 1;
    CREATE INDEX open_entries ON entries (id) WHERE state < 3;
    CREATE INDEX ended_entries ON entries (max(keep_until, lease_until)) WHERE state >= 3;
    CREATE TABLE answers (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        token INTEGER NOT NULL,
        request BLOB NOT NULL,
        until INTEGER NOT NULL,
        keep_until INTEGER NOT NULL,
        answer BLOB
    ) STRICT;
    CREATE INDEX due_answers ON answers (keep_until);
    CREATE TABLE counters (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        token INTEGER NOT NULL,
        answer_bytes INTEGER NOT NULL
    ) STRICT;
    INSERT INTO counters VALUES (1, 0, 0);",
    receipts::TABLES,
];

/// How long another process may hold the file, in tries of half a millisecond each.
const TRIES: i32 = 10_000;
const TRY_AGAIN_AFTER: Duration = Duration::from_micros(500);

/// A process that is always writing leaves the file free for some microseconds at a time: who waits must ask
/// often. SQLite's own handler asks ten times a second, and may never be lucky.
fn wait_for_others(tries: i32) -> bool {
    thread::sleep(TRY_AGAIN_AFTER);
    tries < TRIES
}

/// A file, and which one it is.
#[derive(Clone)]
pub(super) struct File {
    path: PathBuf,
    identity: Option<Identity>,
}

/// Device and inode, where there are such.
type Identity = (u64, u64);

impl File {
    /// The file at a path, made if there is none.
    pub(super) fn make(path: &Path) -> Result<Self, Unusable> {
        // Relative to what is the working directory now, and never one of SQLite's special names.
        let path = std::path::absolute(path)?;
        create(&path)?;
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }

    /// Opens it. It is not made anew when it is gone: a journal that has lost its memory takes every payment
    /// once more.
    pub(super) fn open(&self) -> Result<Connection, Unusable> {
        self.is_there()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_handler(Some(wait_for_others))?;
        // What is not ours is not even checkpointed.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        if connection.is_readonly("main")? {
            return Err(Unusable::ReadOnly);
        }
        version(&connection)?;
        prepare(&connection)?;
        migrate(&connection)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(connection)
    }

    /// Opens it beside a connection that writes, only to read. That other one is closed last: this one cannot put the
    /// log into the file, and would leave it behind.
    pub(super) fn open_to_read(&self) -> Result<Connection, Unusable> {
        self.is_there()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_handler(Some(wait_for_others))?;
        version(&connection)?;
        connection.execute_batch(
            "PRAGMA query_only = ON;
            PRAGMA trusted_schema = OFF;
            PRAGMA temp_store = MEMORY;
            PRAGMA cache_size = -4096;",
        )?;
        Ok(connection)
    }

    /// Whether the file that was opened is still the one that the next process will find. What is written to
    /// one that was moved or deleted is lost.
    pub(super) fn is_there(&self) -> Result<(), Unusable> {
        match identity(&self.path) {
            Ok(found) if found == self.identity => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Err(Unusable::Moved),
        }
    }
}

/// Makes an empty file that nobody else may read, if there is none.
fn create(path: &Path) -> io::Result<()> {
    // Whoever closes a file gives up all locks that this process has on it, SQLite's too. So it is closed
    // here before anybody in this process opens it, and one that is there already is never opened here.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        // A read-only file system says that before it looks.
        Err(_) if fs::metadata(path).is_ok() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Option<Identity>> {
    use std::os::unix::fs::MetadataExt as _;
    let found = fs::metadata(path)?;
    Ok(Some((found.dev(), found.ino())))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<Option<Identity>> {
    fs::metadata(path).map(|_| None)
}

/// The version of the schema in a file that may be ours; 0 in an empty one. All that it goes by is read at one
/// instant: between two of them another process may bring an empty file to its version.
fn version(connection: &Connection) -> Result<i64, Unusable> {
    // Where it is dropped nothing was written.
    let _instant = connection.unchecked_transaction()?;
    read_version(connection)
}

/// The same inside a transaction.
fn read_version(connection: &Connection) -> Result<i64, Unusable> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = match number("PRAGMA application_id") {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => return Err(Unusable::Foreign),
        found => found?,
    };
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    match (application, version) {
        (APPLICATION, 1..=SCHEMA) => Ok(version),
        (APPLICATION, newer) if newer > SCHEMA => Err(Unusable::Newer(newer)),
        (0, 0) if tables == 0 => Ok(0),
        _ => Err(Unusable::Foreign),
    }
}

/// Options of the connection, and those of the file that only an empty one can be given.
fn prepare(connection: &Connection) -> Result<(), Unusable> {
    connection.set_prepared_statement_cache_capacity(96);
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
        PRAGMA trusted_schema = OFF;
        PRAGMA temp_store = MEMORY;
        PRAGMA cache_size = -16384;
        PRAGMA journal_size_limit = 67108864;",
    )?;
    if !uses_wal(connection)? {
        return Err(Unusable::NoWal);
    }
    // After WAL: each commit is on the disk before it is answered, also on macOS.
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
        PRAGMA fullfsync = ON;
        PRAGMA checkpoint_fullfsync = ON;
        PRAGMA wal_autocheckpoint = 2000;",
    )?;
    Ok(())
}

fn uses_wal(connection: &Connection) -> Result<bool, Unusable> {
    for tries in 0.. {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
            // Here SQLite does not wait for others by itself.
            Err(error) if is_busy(&error) && wait_for_others(tries) => {}
            mode => return Ok(mode?.eq_ignore_ascii_case("wal")),
        }
    }
    Ok(false)
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Brings the file to the version that this library knows. Two processes may do so at once.
fn migrate(connection: &Connection) -> Result<(), Unusable> {
    if version(connection)? == SCHEMA {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let migrated = read_version(connection).and_then(|version| {
        let missing = MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX));
        for migration in missing {
            connection.execute_batch(migration)?;
        }
        connection.pragma_update(None, "application_id", APPLICATION)?;
        connection.pragma_update(None, "user_version", SCHEMA)?;
        connection.execute_batch("COMMIT")?;
        Ok(())
    });
    if migrated.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    migrated
}
