//! The stores, with faults around every call and the model beside every execution.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use tower_mpp::{
    Clock as _,
    method::Settlement,
    protocol::{ChallengeId, Timestamp},
    store::{
        AnswerKey, AnswerStore, Claim, Claimed, End, JournalEntry, KeptAnswer, Lease, MemoryAnswerStore,
        MemoryNonceStore, NonceStore, Page, RefundReason, Release, Reservation, StoreError, Take, Taken,
    },
};

use crate::{
    model::Model,
    schedule::{Call, Fault},
    world::World,
};

/// A journal with a model that watches it. Every call is executed at once.
pub(crate) struct Watched<S> {
    world: Arc<World>,
    inner: S,
    model: Mutex<Model>,
    /// What was asked with a lease to take a delivery back.
    backs: Mutex<HashMap<Lease, TakenBack>>,
}

/// How far the merchant came with [`Release::Undelivered`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TakenBack {
    pub(crate) asked: usize,
    /// It arrived when the lease had ended.
    pub(crate) late: bool,
    /// So it did when it was asked for the first time: the first byte had taken longer than the lease.
    pub(crate) late_at_first: bool,
}

impl<S: NonceStore> Watched<S> {
    pub(crate) fn new(world: Arc<World>, inner: S) -> Arc<Self> {
        Arc::new(Self { world, inner, model: Mutex::default(), backs: Mutex::default() })
    }

    fn watch<T: std::fmt::Debug>(
        &self,
        what: impl FnOnce() -> String,
        step: impl Future<Output = Result<T, StoreError>>,
        check: impl FnOnce(&mut Model, Timestamp, &Result<T, StoreError>) -> Result<(), String>,
    ) -> Result<T, StoreError> {
        let now = self.world.now();
        let answer = step.now_or_never().expect("a journal in memory does not wait");
        self.world.note(|| format!("journal: {} -> {answer:?}", what()));
        if let Err(wrong) = check(&mut self.model.lock().unwrap(), now, &answer) {
            self.world.wrong(format!("the journal: {wrong}"));
        }
        answer
    }

    fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let what = || format!("claim {} until {}", claim.id, claim.lease_until);
        self.watch(what, self.inner.claim(claim.clone()), |model, _, answer| model.claim(claim, answer))
    }

    fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        let what = || format!("renew {lease:?} until {until}");
        self.watch(what, self.inner.renew(lease, until), |model, now, answer| model.renew(lease, until, now, answer))
    }

    fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.watch(
            || format!("settle {lease:?}"),
            self.inner.settle(lease, settlement),
            |model, now, answer| model.settle(lease, settlement, now, answer),
        )
    }

    fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        self.watch(
            || format!("refund {lease:?} {reason}"),
            self.inner.refund(lease, reason),
            |model, now, answer| model.refund(lease, reason, now, answer),
        )
    }

    fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        self.watch(
            || format!("commit {lease:?} {end:?}"),
            self.inner.commit(lease, end),
            |model, now, answer| model.commit(lease, end, now, answer),
        )
    }

    fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        let over = |entry: &crate::model::Entry| entry.token == lease.token && entry.lease_until <= self.world.now();
        if self.model.lock().unwrap().entries.get(&lease.id).is_some_and(over) {
            let mut backs = self.backs.lock().unwrap();
            let back = backs.entry(lease).or_default();
            back.late |= reason == Release::Undelivered;
            back.late_at_first |= reason == Release::Undelivered && back.asked == 1;
        }
        self.watch(
            || format!("release {lease:?} {reason:?}"),
            self.inner.release(lease, reason),
            |model, now, answer| model.release(lease, reason, now, answer),
        )
    }

    fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.watch(
            || format!("put off {lease:?} until {until}"),
            self.inner.put_off(lease, until),
            |model, now, answer| model.put_off(lease, until, now, answer),
        )
    }

    fn take(&self, take: Take) -> Result<Taken, StoreError> {
        self.watch(|| format!("{take:?}"), self.inner.take(take), |model, _, answer| model.take(take, answer))
    }

    /// An entry as it is, without a fault.
    pub(crate) fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        self.watch(
            || format!("find {id}"),
            self.inner.find(id),
            |model, _, answer| model.find(id, answer.as_ref().unwrap().as_ref()),
        )
    }

    /// The list as it is, without a fault.
    pub(crate) fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        self.watch(
            || format!("list {page:?}"),
            self.inner.unfinished(page),
            |model, _, answer| model.unfinished(page, answer.as_ref().unwrap()),
        )
    }

    /// What the merchant did to take the last delivery of an entry back.
    pub(crate) fn taken_back(&self, id: ChallengeId) -> TakenBack {
        let token = self.model.lock().unwrap().entries.get(&id).map_or(0, |entry| entry.token);
        self.backs.lock().unwrap().get(&Lease { id, token }).copied().unwrap_or_default()
    }
}

/// The journal as the merchant sees it.
pub(crate) struct FaultyStore<S = MemoryNonceStore> {
    pub(crate) watched: Arc<Watched<S>>,
    pub(crate) yields: usize,
}

impl<S: NonceStore> FaultyStore<S> {
    async fn through<T: Send + 'static>(
        &self,
        call: Call,
        execute: impl Fn(&Watched<S>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let watched = Arc::clone(&self.watched);
        self.watched.world.through(call, self.yields, move || execute(&watched), unavailable).await
    }
}

fn unavailable<T>(fault: Fault) -> Result<T, StoreError> {
    Err(StoreError::unavailable(format!("{fault:?}")))
}

#[async_trait]
impl<S: NonceStore> NonceStore for FaultyStore<S> {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.through(Call::Claim, move |store| store.claim(&claim)).await
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.through(Call::Renew, move |store| store.renew(lease, until)).await
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        let settlement = settlement.clone();
        self.through(Call::Settle, move |store| store.settle(lease, &settlement)).await
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        self.through(Call::Commit, move |store| store.commit(lease, end)).await
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        if reason == Release::Undelivered {
            self.watched.backs.lock().unwrap().entry(lease).or_default().asked += 1;
        }
        self.through(Call::Release, move |store| store.release(lease, reason)).await
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        self.watched.refund(lease, reason)
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.watched.put_off(lease, until)
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        self.watched.take(take)
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        self.through(Call::Find, move |store| store.find(id)).await
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        self.watched.unfinished(page)
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.watched.inner.forget(now, limit).await
    }
}

/// Kept answers, with faults around every call.
pub(crate) struct FaultyAnswers {
    pub(crate) world: Arc<World>,
    pub(crate) inner: Arc<MemoryAnswerStore>,
    pub(crate) yields: usize,
}

impl FaultyAnswers {
    async fn through<T: Send + 'static>(
        &self,
        call: Call,
        execute: impl AsyncFn(&MemoryAnswerStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        let execute = move || execute(&inner).now_or_never().expect("answers in memory do not wait");
        self.world.through(call, self.yields, execute, unavailable).await
    }
}

#[async_trait]
impl AnswerStore for FaultyAnswers {
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        self.through(Call::Reserve, async move |store| store.reserve(reservation).await).await
    }

    async fn keep(&self, key: AnswerKey, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        self.through(Call::Keep, async move |store| store.keep(key, answer.clone(), keep_until).await).await
    }

    async fn give_up(&self, key: AnswerKey) -> Result<(), StoreError> {
        self.through(Call::GiveUp, async move |store| store.give_up(key).await).await
    }

    async fn look_up(&self, key: AnswerKey, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        self.through(Call::LookUp, async move |store| store.look_up(key, now).await).await
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.inner.forget(now, limit).await
    }
}
