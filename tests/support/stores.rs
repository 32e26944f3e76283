//! Journals that give way or fail where they are told to, around any other journal.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tower_mpp::{
    method::Settlement,
    protocol::{ChallengeId, Timestamp},
    store::{
        Claim, Claimed, End, JournalEntry, Lease, NonceStore, Page, RefundReason, Release, StoreError, StoreErrorKind,
        Take, Taken,
    },
};

/// How often it takes to be seen waiting: who puts a limit on the time of a step polls it once more when
/// it does not end at once, and limits can stand in each other.
pub const YIELDS: usize = 4;

/// Lets everybody else have their turn.
pub async fn give_way(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// Gives way before and after every step of the journal inside, as one across a network does: whoever
/// hangs up can hang up before the step, or after it has taken effect and before its answer is there.
pub struct YieldingStore<T>(pub T);

impl<T> YieldingStore<T> {
    async fn around<R>(step: impl Future<Output = R>) -> R {
        give_way(YIELDS).await;
        let result = step.await;
        give_way(YIELDS).await;
        result
    }
}

#[async_trait]
impl<T: NonceStore> NonceStore for YieldingStore<T> {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        Self::around(self.0.claim(claim)).await
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        Self::around(self.0.renew(lease, until)).await
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        Self::around(self.0.settle(lease, settlement)).await
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        Self::around(self.0.commit(lease, end)).await
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        Self::around(self.0.release(lease, reason)).await
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        Self::around(self.0.refund(lease, reason)).await
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        Self::around(self.0.put_off(lease, until)).await
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        Self::around(self.0.take(take)).await
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        Self::around(self.0.find(id)).await
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        Self::around(self.0.forget(now, limit)).await
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        self.0.unfinished(page).await
    }
}

/// How a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The step never reached the journal.
    Before,
    /// The step took effect and its answer was lost.
    After,
    /// The step took effect and its answer never comes.
    Stuck,
}

/// Which steps fail, and how.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// The first step that fails, counted from 0 over all steps, or over those of one `step`.
    pub first: usize,
    /// How many fail from there.
    pub length: usize,
    /// How they fail.
    pub fault: Broken,
    /// Only this kind of step is counted and fails, by the name of the method.
    pub step: Option<&'static str>,
}

/// Fails some of the steps of the journal inside as one that cannot be reached does.
#[derive(Clone)]
pub struct FaultyStore<T>(Arc<Faulty<T>>);

struct Faulty<T> {
    inner: T,
    outage: Mutex<Option<Outage>>,
    steps: AtomicUsize,
    failed: AtomicUsize,
}

impl<T> FaultyStore<T> {
    /// Fails nothing yet.
    pub fn new(inner: T) -> Self {
        Self(Arc::new(Faulty {
            inner,
            outage: Mutex::new(None),
            steps: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
        }))
    }

    /// Begins to count, and fails these steps.
    pub fn fail(&self, outage: Outage) {
        self.0.steps.store(0, Ordering::SeqCst);
        self.0.failed.store(0, Ordering::SeqCst);
        *self.0.outage.lock().unwrap() = Some(outage);
    }

    /// Fails nothing from now on.
    pub fn heal(&self) {
        *self.0.outage.lock().unwrap() = None;
    }

    /// How many steps failed.
    pub fn failures(&self) -> usize {
        self.0.failed.load(Ordering::SeqCst)
    }

    fn fault(&self, step: &str) -> Option<Broken> {
        let outage = (*self.0.outage.lock().unwrap())?;
        if outage.step.is_some_and(|only| only != step) {
            return None;
        }
        let at = self.0.steps.fetch_add(1, Ordering::SeqCst);
        let fails = (outage.first..outage.first.saturating_add(outage.length)).contains(&at);
        fails.then(|| {
            self.0.failed.fetch_add(1, Ordering::SeqCst);
            outage.fault
        })
    }

    async fn through<R>(&self, name: &str, step: impl Future<Output = Result<R, StoreError>>) -> Result<R, StoreError> {
        match self.fault(name) {
            None => step.await,
            Some(Broken::Before) => Err(StoreErrorKind::Unavailable.into()),
            Some(Broken::After) => {
                let _ = step.await;
                Err(StoreErrorKind::Unavailable.into())
            }
            Some(Broken::Stuck) => {
                let _ = step.await;
                std::future::pending().await
            }
        }
    }
}

#[async_trait]
impl<T: NonceStore> NonceStore for FaultyStore<T> {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.through("claim", self.0.inner.claim(claim)).await
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.through("renew", self.0.inner.renew(lease, until)).await
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.through("settle", self.0.inner.settle(lease, settlement)).await
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        self.through("commit", self.0.inner.commit(lease, end)).await
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        self.through("release", self.0.inner.release(lease, reason)).await
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        self.through("refund", self.0.inner.refund(lease, reason)).await
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.through("put_off", self.0.inner.put_off(lease, until)).await
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        self.through("take", self.0.inner.take(take)).await
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        self.through("find", self.0.inner.find(id)).await
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.through("forget", self.0.inner.forget(now, limit)).await
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        self.through("unfinished", self.0.inner.unfinished(page)).await
    }
}
