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
    protocol::{ChallengeId, SpendKey, Timestamp},
    store::{
        AnswerStore, Claim, Claimed, End, JournalEntry, KeptAnswer, Lease, MemoryAnswerStore, NonceStore, Page, Proof,
        RefundReason, Release, Reservation, StoreError, StoreErrorKind, Take, Taken,
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
    /// The lease of the last delivery that was recorded.
    delivered: Mutex<HashMap<ChallengeId, Lease>>,
    /// Cloned for each claim that has yet to arrive.
    under_way: Arc<()>,
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
        Arc::new(Self {
            world,
            inner,
            model: Mutex::default(),
            backs: Mutex::default(),
            delivered: Mutex::default(),
            under_way: Arc::default(),
        })
    }

    fn watch<T: std::fmt::Debug>(
        &self,
        id: Option<ChallengeId>,
        what: impl FnOnce() -> String,
        step: impl Future<Output = Result<T, StoreError>>,
        check: impl FnOnce(&mut Model, Timestamp, &Result<T, StoreError>) -> Result<(), String>,
    ) -> Result<T, StoreError> {
        let now = self.world.now();
        let answer = step.now_or_never().expect("a journal in memory does not wait");
        self.world.note(|| format!("journal: {} -> {answer:?}", what()));
        let mut model = self.model.lock().unwrap();
        if let Err(wrong) = check(&mut model, now, &answer) {
            self.world.wrong(format!("the journal: {wrong}"));
        }
        if let Some(id) = id {
            let phase = model.entries.get(&id).map(|entry| entry.phase);
            self.world.about(id, |facts| facts.phase = phase);
        }
        answer
    }

    fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let what = || format!("claim {} until {}", claim.id, claim.lease_until);
        self.watch(Some(claim.id), what, self.inner.claim(claim.clone()), |model, _, answer| model.claim(claim, answer))
    }

    fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        let what = || format!("renew {lease:?} until {until}");
        self.watch(Some(lease.id), what, self.inner.renew(lease, until), |model, now, answer| {
            model.renew(lease, until, now, answer)
        })
    }

    fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.watch(
            Some(lease.id),
            || format!("settle {lease:?}"),
            self.inner.settle(lease, settlement),
            |model, now, answer| model.settle(lease, settlement, now, answer),
        )
    }

    fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        self.watch(
            Some(lease.id),
            || format!("refund {lease:?} {reason}"),
            self.inner.refund(lease, reason),
            |model, now, answer| model.refund(lease, reason, now, answer),
        )
    }

    fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        let committed = self.watch(
            Some(lease.id),
            || format!("commit {lease:?} {end:?}"),
            self.inner.commit(lease, end),
            |model, now, answer| model.commit(lease, end, now, answer),
        );
        if end == End::Delivered && committed.is_ok() {
            self.delivered.lock().unwrap().insert(lease.id, lease);
        }
        committed
    }

    fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        let released = self.watch(
            Some(lease.id),
            || format!("release {lease:?} {reason:?}"),
            self.inner.release(lease, reason),
            |model, now, answer| model.release(lease, reason, now, answer),
        );
        let lost = released.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::LeaseLost);
        if reason == Release::Undelivered && lost {
            let mut backs = self.backs.lock().unwrap();
            let back = backs.entry(lease).or_default();
            (back.late, back.late_at_first) = (true, back.late_at_first || back.asked == 1);
        }
        if reason == Release::NotCharged && released.is_ok() {
            let charges = self.world.about(lease.id, |facts| {
                facts.let_go += 1;
                facts.charges
            });
            if charges > 0 {
                self.world.wrong(format!("{} was charged, and the journal is told that it was not", lease.id));
            }
        }
        released
    }

    fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.watch(
            Some(lease.id),
            || format!("put off {lease:?} until {until}"),
            self.inner.put_off(lease, until),
            |model, now, answer| model.put_off(lease, until, now, answer),
        )
    }

    fn take(&self, take: Take) -> Result<Taken, StoreError> {
        self.watch(
            Some(take.id),
            || format!("{take:?}"),
            self.inner.take(take),
            |model, _, answer| model.take(take, answer),
        )
    }

    /// The journal in memory forgets by the claims of others: somebody else's payment comes and is let go.
    ///
    /// Not while a claim is under way. Who sends one waits for seconds, and what ended is remembered for a minute
    /// more than anybody can come for it; here the clock jumps over that while the claim has yet to arrive.
    fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let proof = Proof::Exclusive(SpendKey::from_bytes([0xff; 32]));
        let id = ChallengeId::from_bytes([0xff; 32]);
        let claim = Claim { id, proof, now, lease_until: now, keep_until: now, record: [].into() };
        let forget = async {
            if Arc::strong_count(&self.under_way) == 1
                && let Claimed::Won { lease, .. } = self.inner.claim(claim).await?
            {
                self.inner.release(lease, Release::NotCharged).await?;
            }
            self.inner.forget(now, limit).await
        };
        self.watch(
            None,
            || format!("forget {limit}"),
            forget,
            |model, now, _| {
                model.is_told(now);
                Ok(())
            },
        )
    }

    /// An entry as it is, without a fault.
    pub(crate) fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        self.watch(
            None,
            || format!("find {id}"),
            self.inner.find(id),
            |model, _, answer| model.find(id, answer.as_ref().unwrap().as_ref()),
        )
    }

    /// The list as it is, without a fault.
    pub(crate) fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        self.watch(
            None,
            || format!("list {page:?}"),
            self.inner.unfinished(page),
            |model, _, answer| model.unfinished(page, answer.as_ref().unwrap()),
        )
    }

    /// Whether it ended so long ago that it may be forgotten.
    pub(crate) fn is_forgettable(&self, id: ChallengeId) -> bool {
        let now = self.world.now();
        self.model.lock().unwrap().entries.get(&id).is_some_and(|entry| entry.is_forgettable(now))
    }

    /// What the merchant did to take the last delivery of an entry back.
    pub(crate) fn taken_back(&self, id: ChallengeId) -> TakenBack {
        let lease = self.delivered.lock().unwrap().get(&id).copied();
        lease.and_then(|lease| self.backs.lock().unwrap().get(&lease).copied()).unwrap_or_default()
    }
}

/// The journal as the merchant sees it.
pub(crate) struct FaultyStore<S> {
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
        let under_way = Arc::clone(&self.watched.under_way);
        let claim = move |store: &Watched<S>| {
            let _under_way = &under_way;
            store.claim(&claim)
        };
        self.through(Call::Claim, claim).await
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
        self.through(Call::Refund, move |store| store.refund(lease, reason)).await
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.through(Call::PutOff, move |store| store.put_off(lease, until)).await
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        self.through(Call::Take, move |store| store.take(take)).await
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        self.through(Call::Find, move |store| store.find(id)).await
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        self.through(Call::Unfinished, move |store| store.unfinished(page)).await
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.through(Call::Forget, move |store| store.forget(now, limit)).await
    }
}

/// Whether an answer is kept, however long ago.
pub(crate) fn is_complete(answers: &MemoryAnswerStore, id: ChallengeId) -> bool {
    let row = answers.look_up(id, Timestamp::EPOCH).now_or_never().expect("answers in memory do not wait");
    row.unwrap().is_some_and(|row| row.answer.is_some())
}

/// Kept answers, with faults around every call.
#[derive(Clone)]
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

    async fn keep(&self, lease: Lease, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        let world = Arc::clone(&self.world);
        let keep = async move |store: &MemoryAnswerStore| {
            let before = is_complete(store, lease.id);
            store.keep(lease, answer.clone(), keep_until).await?;
            if !before && world.facts(lease.id).refunds > 0 {
                world.wrong(format!("an answer of {lease:?} is kept, and its money was given back"));
            }
            Ok(())
        };
        self.through(Call::Keep, keep).await
    }

    async fn give_up(&self, lease: Lease) -> Result<(), StoreError> {
        self.through(Call::GiveUp, async move |store| store.give_up(lease).await).await
    }

    async fn look_up(&self, id: ChallengeId, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        self.through(Call::LookUp, async move |store| store.look_up(id, now).await).await
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.through(Call::ForgetAnswers, async move |store| store.forget(now, limit).await).await
    }
}
