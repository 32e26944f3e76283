//! The thread of the file: many steps, one transaction, one write to the disk.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rusqlite::{Connection, ErrorCode, config::DbConfig};
use tokio::sync::{mpsc, oneshot};

use super::schema::{File, Unusable};
use crate::store::{StoreError, StoreErrorKind};

/// How many steps share a transaction at most.
const BATCH: usize = 512;

/// Why a step did not succeed.
pub(super) enum Fault {
    /// The journal refuses it, and it has changed nothing.
    Refused(StoreError),
    /// SQLite has failed, and the transaction must be rolled back.
    Sql(rusqlite::Error),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreErrorKind> for Fault {
    fn from(kind: StoreErrorKind) -> Self {
        Self::Refused(kind.into())
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// What a step is, as far as the thread treats steps differently.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It changes nothing.
    Read,
    /// It gives a lease out: for a caller who is gone by then, that would only be in the way.
    Lease,
    /// It is done even if its caller is gone: what it says is true.
    Write,
}

/// A step on its way to the thread, and its answer on the way back.
pub(super) trait Job: Send {
    fn kind(&self) -> Kind;
    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
    /// Does the step. Whatever it was answered before is forgotten: the transaction may be done again.
    fn run(&mut self, tx: &Tx<'_>) -> rusqlite::Result<()>;
    /// Gives its answer, now that it is on the disk.
    fn answer(self: Box<Self>);
    fn fail(self: Box<Self>, error: &Arc<Unusable>);
}

struct Asked<F, T> {
    kind: Kind,
    step: F,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

/// A step, and where its answer comes.
pub(super) fn asked<F, T>(kind: Kind, step: F) -> (Box<dyn Job>, oneshot::Receiver<Result<T, StoreError>>)
where
    F: FnMut(&Tx<'_>) -> Result<T, Fault> + Send + 'static,
    T: Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Asked { kind, step, outcome: None, reply }), answer)
}

impl<F, T> Job for Asked<F, T>
where
    F: FnMut(&Tx<'_>) -> Result<T, Fault> + Send,
    T: Send,
{
    fn kind(&self) -> Kind {
        self.kind
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(&mut self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        self.outcome = Some(match (self.step)(tx) {
            Ok(done) => Ok(done),
            Err(Fault::Refused(error)) => Err(error),
            Err(Fault::Sql(error)) => return Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // Nobody may wait for it any more.
            let _ = self.reply.send(outcome);
        }
    }

    fn fail(self: Box<Self>, error: &Arc<Unusable>) {
        let _ = self.reply.send(Err(StoreError::unavailable(Arc::clone(error))));
    }
}

/// While there is one the thread goes on, and has the file open.
pub(super) struct KeptOpen {
    _steps: mpsc::Sender<Box<dyn Job>>,
}

/// The way to the thread. It ends when this and all that [keeps it open](KeptOpen) are dropped.
pub(super) struct Writer {
    steps: mpsc::Sender<Box<dyn Job>>,
    commits: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the thread, which opens the file. Answers which file that is.
    pub(super) async fn start(
        make: impl FnOnce() -> Result<File, Unusable> + Send + 'static,
        queue: usize,
    ) -> Result<(Self, File), StoreError> {
        let (steps, waiting) = mpsc::channel(queue.clamp(1, 1 << 20));
        let (opened, answer) = oneshot::channel();
        let commits = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&commits);
        let work = move || match make().and_then(|file| Ok((file.open()?, file))) {
            Ok((connection, file)) => {
                if opened.send(Ok(file.clone())).is_ok() {
                    Thread { file, connection: Some(connection), commits: counter }.run(waiting);
                }
            }
            Err(error) => drop(opened.send(Err(error))),
        };
        std::thread::Builder::new().name("mpp-sqlite".into()).spawn(work).map_err(StoreError::unavailable)?;
        match answer.await {
            Ok(Ok(file)) => Ok((Self { steps, commits }, file)),
            Ok(Err(error)) => Err(StoreError::unavailable(error)),
            Err(_) => Err(ended()),
        }
    }

    /// Has a step done and waits until what it did is on the disk.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        kind: Kind,
        step: impl FnMut(&Tx<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, answer) = asked(kind, step);
        self.steps.send(job).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    pub(super) fn keep_open(&self) -> KeptOpen {
        KeptOpen { _steps: self.steps.clone() }
    }

    /// How many transactions were written.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

pub(super) fn ended() -> StoreError {
    StoreError::unavailable("the thread of the payment journal has ended")
}

/// A transaction, or just the connection for reads.
pub(super) struct Tx<'c> {
    pub(super) connection: &'c Connection,
    counters: Cell<Option<Counters>>,
    changed: Cell<bool>,
}

/// What is counted over all rows. Read when the first step of a transaction needs it, and written once at its
/// end: nobody else writes to the file in between.
#[derive(Clone, Copy)]
pub(super) struct Counters {
    /// The token of the latest lease, of whatever id.
    pub(super) token: i64,
    /// What all answers take.
    pub(super) answer_bytes: i64,
}

impl<'c> Tx<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, counters: Cell::new(None), changed: Cell::new(false) }
    }

    pub(super) fn counters(&self) -> rusqlite::Result<Counters> {
        if let Some(known) = self.counters.get() {
            return Ok(known);
        }
        let mut statement = self.connection.prepare_cached("SELECT token, answer_bytes FROM counters")?;
        let found = statement.query_row([], |row| Ok(Counters { token: row.get(0)?, answer_bytes: row.get(1)? }))?;
        self.counters.set(Some(found));
        Ok(found)
    }

    pub(super) fn set_counters(&self, counters: Counters) {
        self.counters.set(Some(counters));
        self.changed.set(true);
    }

    fn commit(self) -> rusqlite::Result<()> {
        if let (Some(counters), true) = (self.counters.get(), self.changed.get()) {
            let mut statement = self.connection.prepare_cached("UPDATE counters SET token = ?1, answer_bytes = ?2")?;
            statement.execute((counters.token, counters.answer_bytes))?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

struct Thread {
    file: File,
    /// None when it had to be closed and could not be opened again yet.
    connection: Option<Connection>,
    commits: Arc<AtomicU64>,
}

impl Thread {
    fn run(mut self, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
            self.work(batch);
        }
        self.close();
    }

    fn work(&mut self, mut batch: Vec<Box<dyn Job>>) {
        batch.retain(|job| job.kind() == Kind::Write || !job.is_abandoned());
        if let Err(error) = self.be_ready() {
            return fail(batch, error);
        }
        // What is read is read last: it has seen every step that was asked for before it.
        let (reads, writes): (Vec<_>, Vec<_>) = batch.into_iter().partition(|job| job.kind() == Kind::Read);
        if !writes.is_empty() {
            self.write(writes);
        }
        for mut read in reads {
            let done = match &self.connection {
                Some(connection) => read.run(&Tx::new(connection)).map_err(Unusable::from),
                None => Err(Unusable::Closed),
            };
            match done {
                Ok(()) => read.answer(),
                Err(error) => read.fail(&Arc::new(error)),
            }
        }
    }

    /// The file is there and open.
    fn be_ready(&mut self) -> Result<(), Unusable> {
        self.file.is_there()?;
        if self.connection.is_none() {
            self.connection = Some(self.file.open()?);
        }
        Ok(())
    }

    fn write(&mut self, mut batch: Vec<Box<dyn Job>>) {
        match self.transaction(&mut batch) {
            Ok(()) => batch.into_iter().for_each(Job::answer),
            Err(error) if batch.len() > 1 && is_of_one_step(&error) => self.write_one_by_one(batch),
            Err(error) => fail(batch, error),
        }
    }

    /// One of them makes SQLite fail: the others need not suffer from it.
    fn write_one_by_one(&mut self, batch: Vec<Box<dyn Job>>) {
        let mut batch = batch.into_iter();
        while let Some(mut job) = batch.next() {
            match self.transaction(std::slice::from_mut(&mut job)) {
                Ok(()) => job.answer(),
                Err(error) if is_of_one_step(&error) => job.fail(&Arc::new(error)),
                Err(error) => return fail(std::iter::once(job).chain(batch).collect(), error),
            }
        }
    }

    /// Does steps in one transaction. After an error nothing of it is in the file, as far as one can know.
    fn transaction(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), Unusable> {
        let Some(connection) = &self.connection else { return Err(Unusable::Closed) };
        let done = (|| {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let tx = Tx::new(connection);
            for job in batch {
                job.run(&tx)?;
            }
            tx.commit()
        })();
        match &done {
            Ok(()) => {
                self.commits.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) if connection.is_autocommit() => {}
            Err(_) => {
                // A connection that cannot even do this is opened anew for the next steps.
                if connection.execute_batch("ROLLBACK").is_err() {
                    self.connection = None;
                }
            }
        }
        done.map_err(Unusable::Sql)
    }

    /// Closes the file; what is beside it in the log goes into it.
    fn close(self) {
        let Some(connection) = self.connection else { return };
        // The log beside another file is not ours to delete.
        if self.file.is_there().is_err() {
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
        let _ = connection.close();
    }
}

/// Whether the same transaction without one of its steps might have succeeded. When the disk is full there may
/// be room for a small one.
fn is_of_one_step(error: &Unusable) -> bool {
    let Unusable::Sql(error) = error else { return false };
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::DiskFull
                | ErrorCode::TooBig
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::ParameterOutOfRange
        ),
        // What was found could not be read.
        None => true,
    }
}

fn fail(batch: Vec<Box<dyn Job>>, error: Unusable) {
    let error = Arc::new(error);
    batch.into_iter().for_each(|job| job.fail(&error));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    async fn start(folder: &tempfile::TempDir) -> Writer {
        let path = folder.path().join("payments.db");
        Writer::start(move || File::make(&path), 10).await.unwrap().0
    }

    #[tokio::test]
    async fn a_thread_that_died_answers_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let writer = start(&folder).await;
        writer.ask(Kind::Write, |_| Ok(())).await.unwrap();
        let died = writer.ask::<()>(Kind::Write, |_| panic!("as if there were a bug")).await;
        assert_eq!(died.unwrap_err().kind(), StoreErrorKind::Unavailable);
        let after = writer.ask(Kind::Read, |_| Ok(())).await;
        assert_eq!(after.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn a_step_in_which_sqlite_fails_is_undone_alone() {
        let folder = tempfile::tempdir().unwrap();
        let writer = start(&folder).await;
        let count = move |tx: &Tx<'_>| {
            let counters = tx.counters()?;
            tx.set_counters(Counters { token: counters.token + 1, ..counters });
            Ok(())
        };
        let wrong = move |tx: &Tx<'_>| {
            count(tx)?;
            tx.connection.execute("INSERT INTO counters VALUES (2, 0, 0)", [])?;
            Ok(())
        };
        let (first, failed, last) = tokio::join!(
            writer.ask(Kind::Write, count),
            writer.ask(Kind::Write, wrong),
            writer.ask(Kind::Write, count)
        );
        first.unwrap();
        last.unwrap();
        assert_eq!(failed.unwrap_err().kind(), StoreErrorKind::Unavailable);
        assert_eq!(writer.ask(Kind::Read, |tx| Ok(tx.counters()?.token)).await.unwrap(), 2);
    }

    #[test]
    fn a_connection_that_had_to_be_closed_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::make(&folder.path().join("payments.db")).unwrap();
        drop(file.open().unwrap());
        let mut thread = Thread { file, connection: None, commits: Arc::default() };
        let (job, mut answer) = asked(Kind::Write, |tx: &Tx<'_>| Ok(tx.counters()?.token));
        thread.work(vec![job]);
        assert_eq!(answer.try_recv().unwrap().unwrap(), 0);
        assert!(thread.connection.is_some());
    }
}
