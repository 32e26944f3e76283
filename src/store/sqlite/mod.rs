//! The journal of one machine, in a file.

mod answers;
mod reader;
mod receipts;
mod schema;
mod steps;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;

use self::{
    reader::Reader,
    schema::File,
    writer::{Kind, Tx, Writer},
};
use super::{
    AnswerStore, Claim, Claimed, End, JournalEntry, KeptAnswer, Lease, NonceStore, OutcomeRow, Page, PublicPage,
    ReceiptRow, ReceiptStore, RefundReason, Release, Reservation, StoreError, Take, Taken, Totals,
    row::settlement_json,
};
use crate::protocol::{ChallengeId, ReceiptId, Settlement, Timestamp};

/// A journal in a file of SQLite, which is built in. It keeps answers too, as an [`AnswerStore`], and the ledger of
/// signed receipts, as a [`ReceiptStore`].
///
/// ```
/// use std::sync::Arc;
/// use tower_mpp::store::{AnswerStore, NonceStore, SqliteNonceStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("payments.db");
/// let journal = SqliteNonceStore::open(path).await?;
/// // One for the payments, and the same for `MerchantBuilder::answer_store`.
/// let payments: Arc<dyn NonceStore> = Arc::new(journal.clone());
/// let answers: Arc<dyn AnswerStore> = Arc::new(journal);
/// # Ok(())
/// # }
/// ```
///
/// **Durable.** A step is answered when it is on the disk (`journal_mode=WAL`, `synchronous=FULL`): it
/// survives a crash of the process, of the system and of the power, as far as the disk does what it is told.
/// Steps that wait at the same time share one transaction and one write to the disk, so the rate grows with
/// the number of callers.
///
/// **One machine.** Other processes on it may open the same file: they take turns, step by step, and a step
/// that has waited five seconds for the others fails as unavailable. The file must be on a local file
/// system; network file systems do not lock as SQLite needs it. Beside it are two more, `-wal` and `-shm`,
/// which belong to it: copy the journal with SQLite's own backup, or when no process has it open.
///
/// **Failing.** When the disk is full or fails, when another process holds the file or somebody has moved it,
/// steps are answered [`Unavailable`](super::StoreErrorKind::Unavailable) until the cause is gone; nothing
/// needs to be opened again. A file that is gone is not made anew while the journal is open.
///
/// **Size.** A delivered payment takes about 400 bytes and its record, 80 MB for 100,000 of them, until it is
/// [forgotten](NonceStore::forget); that also gives space back to the file system, some megabytes at a time,
/// and keeps some for the next ones.
/// Nothing is forgotten by itself. The journal is as large as the disk allows; answers are
/// [bounded](SqliteNonceStoreBuilder::max_answer_bytes). A receipt takes about 500 bytes beside its texts, for ever:
/// triggers refuse to change or to drop one, also to whoever opens the file by hand.
///
/// **Receipts.** The ledger is read on a second connection, which only reads, on a thread of its own: payments do not
/// wait for whoever reads receipts. Up to 1024 reads wait there; further ones are answered
/// [`Unavailable`](super::StoreErrorKind::Unavailable), as all of them are when that thread cannot read, and payments go
/// on. Receipts are written with the steps of payments. What was appended is found by every read that begins later.
///
/// Clones share these two connections and their threads. When the last one is dropped they do what still waits and close
/// the file. A file that it makes is readable by its owner only.
#[derive(Clone)]
pub struct SqliteNonceStore {
    shared: Arc<Shared>,
}

/// How many entries are forgotten in one step, which takes up to a tenth of a second.
const ENTRIES_AT_ONCE: usize = 200;
/// As [`ENTRIES_AT_ONCE`], of answers, which are larger.
const ANSWERS_AT_ONCE: usize = 20;

struct Shared {
    writer: Writer,
    reader: Reader,
    path: PathBuf,
    max_answer_bytes: i64,
}

/// How a [`SqliteNonceStore`] is opened.
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteNonceStoreBuilder {
    path: PathBuf,
    max_answer_bytes: u64,
    queue: usize,
}

impl SqliteNonceStoreBuilder {
    /// How many bytes all answers together may take, with about 256 for each beside itself: 1 GiB unless it
    /// is said. What would be more is refused ([`Full`](super::StoreErrorKind::Full)).
    pub fn max_answer_bytes(mut self, bytes: u64) -> Self {
        self.max_answer_bytes = bytes;
        self
    }

    /// How many steps can wait for the thread that writes the file: 4096 unless it is said, at least one and at most
    /// 2^20. Callers of further ones wait for a place.
    pub fn queue(mut self, steps: usize) -> Self {
        self.queue = steps;
        self
    }

    /// Opens the file, and makes it when there is none.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable), with the cause as its source: the file cannot be
    /// read and written, it is on a file system without WAL, it is the database of another application, or
    /// it was written by a later version of this library. Such a file is left as it is.
    pub async fn open(self) -> Result<SqliteNonceStore, StoreError> {
        let path = self.path.clone();
        let (writer, file) = Writer::start(move || File::make(&path), self.queue).await?;
        let reader = Reader::start(file, writer.keep_open()).await?;
        let max_answer_bytes = i64::try_from(self.max_answer_bytes).unwrap_or(i64::MAX);
        Ok(SqliteNonceStore { shared: Arc::new(Shared { writer, reader, path: self.path, max_answer_bytes }) })
    }
}

impl SqliteNonceStore {
    /// Opens the journal in a file, and makes the file when there is none. Its directory must be there.
    ///
    /// # Errors
    /// As [`SqliteNonceStoreBuilder::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder(path).open().await
    }

    /// The journal in a file, to be opened with other limits.
    pub fn builder(path: impl AsRef<Path>) -> SqliteNonceStoreBuilder {
        let path = path.as_ref().to_owned();
        SqliteNonceStoreBuilder { path, max_answer_bytes: 1 << 30, queue: 4096 }
    }

    /// How many transactions this handle and its clones have written: for tests of how steps share them.
    #[doc(hidden)]
    pub fn commits(&self) -> u64 {
        self.shared.writer.commits()
    }

    async fn ask<T: Send + 'static>(
        &self,
        kind: Kind,
        step: impl FnMut(&Tx<'_>) -> Result<T, writer::Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.shared.writer.ask(kind, step).await
    }

    /// Forgets at most `limit` rows, `at_once` in a step, so that payments have their turn in between.
    async fn forget_some(
        &self,
        limit: usize,
        at_once: usize,
        step: impl Fn(&Tx<'_>, usize) -> Result<usize, writer::Fault> + Clone + Send + 'static,
    ) -> Result<usize, StoreError> {
        let mut forgotten = 0;
        while forgotten < limit {
            let (some, step) = (at_once.min(limit - forgotten), step.clone());
            let dropped = self.ask(Kind::Write, move |tx| step(tx, some)).await?;
            forgotten += dropped;
            if dropped < some {
                break;
            }
        }
        Ok(forgotten)
    }
}

#[async_trait]
impl NonceStore for SqliteNonceStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.ask(Kind::Lease, move |tx| steps::claim(tx, &claim)).await
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.ask(Kind::Write, move |tx| steps::renew(tx, lease, until)).await
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        let settlement = settlement_json(settlement)?;
        self.ask(Kind::Write, move |tx| steps::settle(tx, lease, &settlement)).await
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        self.ask(Kind::Write, move |tx| steps::refund(tx, lease, reason)).await
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        self.ask(Kind::Write, move |tx| steps::commit(tx, lease, end)).await
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        self.ask(Kind::Write, move |tx| steps::release(tx, lease, reason)).await
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.ask(Kind::Write, move |tx| steps::put_off(tx, lease, until)).await
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        self.ask(Kind::Lease, move |tx| steps::take(tx, take)).await
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        self.ask(Kind::Read, move |tx| steps::find(tx, id)).await
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        self.ask(Kind::Read, move |tx| steps::unfinished(tx, page)).await
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.forget_some(limit, ENTRIES_AT_ONCE, move |tx, some| steps::forget(tx, now, some)).await
    }
}

#[async_trait]
impl AnswerStore for SqliteNonceStore {
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        let max_bytes = self.shared.max_answer_bytes;
        self.ask(Kind::Write, move |tx| answers::reserve(tx, &reservation, max_bytes)).await
    }

    async fn keep(&self, lease: Lease, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        let max_bytes = self.shared.max_answer_bytes;
        self.ask(Kind::Write, move |tx| answers::keep(tx, lease, &answer, keep_until, max_bytes)).await
    }

    async fn give_up(&self, lease: Lease) -> Result<(), StoreError> {
        self.ask(Kind::Write, move |tx| answers::give_up(tx, lease)).await
    }

    async fn look_up(&self, id: ChallengeId, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        self.ask(Kind::Read, move |tx| answers::look_up(tx, id, now)).await
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.forget_some(limit, ANSWERS_AT_ONCE, move |tx, some| answers::forget(tx, now, some)).await
    }
}

#[async_trait]
impl ReceiptStore for SqliteNonceStore {
    async fn append(&self, row: ReceiptRow) -> Result<(), StoreError> {
        self.ask(Kind::Write, move |tx| receipts::append(tx, &row)).await
    }

    async fn get(&self, id: ReceiptId) -> Result<Option<ReceiptRow>, StoreError> {
        self.shared.reader.ask(move |tx| receipts::get(tx, id)).await
    }

    async fn of_payment(&self, payment: ChallengeId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.shared.reader.ask(move |tx| receipts::of_payment(tx, payment, limit)).await
    }

    async fn children(&self, parent: ReceiptId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.shared.reader.ask(move |tx| receipts::children(tx, parent, limit)).await
    }

    async fn public_page(&self, before: Option<u64>, limit: usize) -> Result<PublicPage, StoreError> {
        self.shared.reader.ask(move |tx| receipts::public_page(tx, before, limit)).await
    }

    async fn totals(&self, names: usize, since: u32) -> Result<Totals, StoreError> {
        self.shared.reader.ask(move |tx| receipts::totals(tx, names, since)).await
    }

    async fn append_outcome(&self, outcome: OutcomeRow) -> Result<(), StoreError> {
        self.ask(Kind::Write, move |tx| receipts::append_outcome(tx, &outcome)).await
    }

    async fn outcomes(&self, receipt: ReceiptId, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        self.shared.reader.ask(move |tx| receipts::outcomes(tx, receipt, limit)).await
    }
}

impl fmt::Debug for SqliteNonceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteNonceStore")
            .field("path", &self.shared.path)
            .field("max_answer_bytes", &self.shared.max_answer_bytes)
            .finish_non_exhaustive()
    }
}
