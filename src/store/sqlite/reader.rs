//! The other thread of the file: it reads the ledger, for whoever asks.
//!
//! Receipts are read by strangers, in pages of up to a mebibyte. On the thread of the journal they would stand in front
//! of payments, and in its queue too. Here they wait for each other alone. In WAL mode who reads waits for nobody who
//! writes and holds nobody up, and sees all that was committed before: what was answered is found by the next read.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    schema::{File, Unusable},
    writer::{Fault, Job, KeptOpen, Kind, Tx, asked, ended},
};
use crate::store::StoreError;

/// How many reads wait at most. Further ones are refused: strangers are many, and do not wait for long.
const QUEUE: usize = 1024;

/// The way to the thread. It ends when this is dropped.
pub(super) struct Reader {
    reads: mpsc::Sender<Box<dyn Job>>,
}

impl Reader {
    /// Starts the thread, which opens a file that the journal has open, and keeps the journal open until it has closed
    /// the file again.
    pub(super) async fn start(file: File, journal: KeptOpen) -> Result<Self, StoreError> {
        let (reads, waiting) = mpsc::channel(QUEUE);
        let (opened, answer) = oneshot::channel();
        let work = move || {
            match file.open_to_read() {
                Ok(connection) => {
                    if opened.send(Ok(())).is_ok() {
                        Thread { file, connection: Some(connection) }.run(waiting);
                    }
                }
                Err(error) => drop(opened.send(Err(error))),
            }
            drop(journal);
        };
        std::thread::Builder::new().name("mpp-sqlite-read".into()).spawn(work).map_err(StoreError::unavailable)?;
        match answer.await {
            Ok(Ok(())) => Ok(Self { reads }),
            Ok(Err(error)) => Err(StoreError::unavailable(error)),
            Err(_) => Err(ended()),
        }
    }

    /// Has something read.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        step: impl FnMut(&Tx<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, answer) = asked(Kind::Read, step);
        self.reads.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::unavailable("too many wait to read the ledger"),
            mpsc::error::TrySendError::Closed(_) => ended(),
        })?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

struct Thread {
    file: File,
    /// None after an error: the next read opens it again.
    connection: Option<Connection>,
}

impl Thread {
    fn run(mut self, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(mut job) = waiting.blocking_recv() {
            if job.is_abandoned() {
                continue;
            }
            match self.read(&mut *job) {
                Ok(()) => job.answer(),
                Err(error) => {
                    self.connection = None;
                    job.fail(&Arc::new(error));
                }
            }
        }
    }

    /// Reads at one instant, of however many statements the step is.
    fn read(&mut self, job: &mut dyn Job) -> Result<(), Unusable> {
        self.file.is_there()?;
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.file.open_to_read()?,
        };
        let connection = self.connection.insert(connection);
        let instant = connection.unchecked_transaction()?;
        job.run(&Tx::new(&instant))?;
        instant.rollback()?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::{sync::mpsc as plain, time::Duration};

    use tokio::time::timeout;

    use super::*;
    use crate::{
        protocol::{ChallengeId, SpendKey, Timestamp},
        store::{Claim, Claimed, End, NonceStore as _, Proof, ReceiptStore as _, SqliteNonceStore, StoreErrorKind},
    };

    fn claim(n: u8) -> Claim {
        let now = Timestamp::from_unix(1_750_000_000).unwrap();
        let later = now.saturating_add(Duration::from_secs(60));
        Claim {
            id: ChallengeId::from_bytes([n; 32]),
            proof: Proof::Exclusive(SpendKey::from_bytes([n; 32])),
            now,
            lease_until: later,
            keep_until: later,
            record: [n; 8].into(),
        }
    }

    async fn pay(store: &SqliteNonceStore, n: u8) {
        let Claimed::Won { lease, .. } = store.claim(claim(n)).await.unwrap() else { panic!("not won") };
        store.settle(lease, &crate::protocol::Settlement::new("pi", claim(n).now)).await.unwrap();
        store.commit(lease, End::Delivered).await.unwrap();
    }

    #[tokio::test]
    async fn payments_do_not_wait_for_the_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteNonceStore::open(folder.path().join("payments.db")).await.unwrap();
        let (go_on, held) = plain::channel::<()>();
        let slow = store.shared.reader.ask(move |_| {
            held.recv().ok();
            Ok(())
        });
        let mut slow = Box::pin(slow);
        assert!(futures_util::poll!(&mut slow).is_pending());
        let mut reads = Vec::new();
        let refused = loop {
            let mut read = Box::pin(store.totals(10, 0));
            match futures_util::poll!(&mut read) {
                std::task::Poll::Pending => reads.push(read),
                std::task::Poll::Ready(answer) => break answer.unwrap_err(),
            }
            assert!(reads.len() <= QUEUE + 1);
        };
        assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
        let paid = timeout(Duration::from_secs(5), async {
            for n in 0..20 {
                pay(&store, n).await;
            }
        });
        paid.await.unwrap();
        go_on.send(()).unwrap();
        slow.await.unwrap();
        for read in reads {
            read.await.unwrap();
        }
        store.totals(10, 0).await.unwrap();
    }

    #[tokio::test]
    async fn it_cannot_write_and_goes_on_after_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteNonceStore::open(folder.path().join("payments.db")).await.unwrap();
        let write = |tx: &Tx<'_>| Ok(tx.connection.execute("UPDATE counters SET token = 7", [])?);
        assert_eq!(store.shared.reader.ask(write).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
        let token = store.shared.reader.ask(|tx| Ok(tx.counters()?.token)).await.unwrap();
        assert_eq!(token, 0);
        pay(&store, 1).await;
        assert_eq!(store.shared.reader.ask(|tx| Ok(tx.counters()?.token)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_thread_that_died_takes_no_payment_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteNonceStore::open(folder.path().join("payments.db")).await.unwrap();
        let died = store.shared.reader.ask::<()>(|_| panic!("as if there were a bug")).await;
        assert_eq!(died.unwrap_err().kind(), StoreErrorKind::Unavailable);
        assert_eq!(store.totals(10, 0).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
        pay(&store, 1).await;
    }
}
