//! Random steps at random times, against the model: every answer is the model's.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use proptest::prelude::*;
use tower_mpp::{
    method::Settlement,
    protocol::{ChallengeId, SpendKey, Timestamp},
    store::{
        Claim, Claimed, End, EntryState, JournalEntry, Lease, MemoryNonceStore, NonceStore as _, Page, Proof,
        RefundReason, Release, StoreError, StoreErrorKind, Take, Taken,
    },
};

use crate::{
    bug::Bug,
    model::{Entry, Model},
};

/// Which of the leases that were given out: few back from the newest, as they matter most.
type Nth = usize;

#[derive(Clone, Debug)]
enum Op {
    Claim { id: u8, proof: u8, exclusive: bool, wait: u64, lease: u64, keep: u64 },
    Renew { nth: Nth, until: u64 },
    Settle { nth: Nth, reference: u8 },
    Commit { nth: Nth, end: End },
    Release { nth: Nth, reason: Release },
    Refund { nth: Nth, reason: RefundReason },
    PutOff { nth: Nth, until: u64 },
    Take { id: u8, asked_for: bool, wait: u64, lease: u64 },
    Find { id: u8 },
    Unfinished { after: Option<u8>, limit: usize, wait: u64, due: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let nth = || prop_oneof![4 => Just(0), 2 => 0..4usize, 1 => 0..40usize];
    let end = prop_oneof![3 => Just(End::Delivered), 1 => Just(End::Refunded)];
    let reason = prop_oneof![
        1 => Just(Release::NotCharged),
        1 => Just(Release::Unknown),
        2 => Just(Release::Undelivered),
        1 => Just(Release::NotRefundable),
    ];
    let why = prop_oneof![3 => Just(RefundReason::Undelivered), 1 => Just(RefundReason::Requested)];
    let wait = || prop_oneof![3 => Just(0), 2 => 0..4u64, 1 => 0..40u64];
    prop_oneof![
        6 => (0..6u8, 0..4u8, any::<bool>(), wait(), 0..20u64, 0..40u64)
            .prop_map(|(id, proof, exclusive, wait, lease, keep)| Op::Claim { id, proof, exclusive, wait, lease, keep }),
        1 => (nth(), 0..60u64).prop_map(|(nth, until)| Op::Renew { nth, until }),
        4 => (nth(), 0..3u8).prop_map(|(nth, reference)| Op::Settle { nth, reference: reference / 2 }),
        4 => (nth(), end).prop_map(|(nth, end)| Op::Commit { nth, end }),
        3 => (nth(), reason).prop_map(|(nth, reason)| Op::Release { nth, reason }),
        2 => (nth(), why).prop_map(|(nth, reason)| Op::Refund { nth, reason }),
        2 => (nth(), 0..60u64).prop_map(|(nth, until)| Op::PutOff { nth, until }),
        4 => (0..6u8, any::<bool>(), wait(), 0..20u64)
            .prop_map(|(id, asked_for, wait, lease)| Op::Take { id, asked_for, wait, lease }),
        1 => (0..6u8).prop_map(|id| Op::Find { id }),
        1 => (proptest::option::of(0..6u8), 0..8usize, wait(), any::<bool>())
            .prop_map(|(after, limit, wait, due)| Op::Unfinished { after, limit, wait, due }),
    ]
}

/// Ids that are spread over the shards, out of order.
fn id(n: u8) -> ChallengeId {
    ChallengeId::from_bytes([n.wrapping_mul(97); 32])
}

/// Everything that one run needs to know.
struct Run {
    store: MemoryNonceStore,
    model: Model,
    /// Each lease as the store and as the model gave it out.
    leases: Vec<(Lease, Lease)>,
    /// Entries that the model has forgotten. A store may, but need not, have done so too.
    forgotten: Vec<Entry>,
    start: Timestamp,
    now: u64,
    /// The latest instant that a claim has told.
    told: u64,
}

impl Run {
    fn new(capacity: usize) -> Self {
        Self {
            store: MemoryNonceStore::single_process(capacity),
            model: Model::new(capacity, Bug::None),
            leases: Vec::new(),
            forgotten: Vec::new(),
            start: Timestamp::from_unix(1_800_000_000).unwrap(),
            now: 0,
            told: 0,
        }
    }

    fn at(&self, millis: u64) -> Timestamp {
        self.start.saturating_add(Duration::from_millis(millis))
    }

    fn lease(&self, nth: Nth) -> Option<(Lease, Lease)> {
        self.leases.iter().rev().nth(nth).copied()
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Claim { id: n, proof, exclusive, wait, lease, keep } => {
                self.now += wait;
                self.told = self.now;
                let key = SpendKey::from_bytes([proof; 32]);
                self.claim(Claim {
                    id: id(n),
                    proof: if exclusive { Proof::Exclusive(key) } else { Proof::Bound(key) },
                    now: self.at(self.now),
                    lease_until: self.at(self.now + lease),
                    keep_until: self.at(self.now + keep),
                    record: Arc::from([n, proof, self.leases.len() as u8]),
                })?;
            }
            Op::Renew { nth, until } => {
                let Some((real, lease)) = self.lease(nth) else { return Ok(()) };
                let until = self.at(until);
                let found = kind(self.store.renew(real, until).now_or_never().unwrap());
                self.compare(found, lease, |model| model.renew(lease, until))?;
            }
            Op::Settle { nth, reference } => {
                let Some((real, lease)) = self.lease(nth) else { return Ok(()) };
                let settlement = Settlement::new(reference.to_string(), self.start);
                let found = kind(self.store.settle(real, &settlement).now_or_never().unwrap());
                self.compare(found, lease, |model| model.settle(lease, &settlement))?;
            }
            Op::Commit { nth, end } => {
                let Some((real, lease)) = self.lease(nth) else { return Ok(()) };
                let found = kind(self.store.commit(real, end).now_or_never().unwrap());
                self.compare(found, lease, |model| model.commit(lease, end))?;
            }
            Op::Release { nth, reason } => {
                let Some((real, lease)) = self.lease(nth) else { return Ok(()) };
                let found = kind(self.store.release(real, reason).now_or_never().unwrap());
                // What a take-back needs may be gone once the lease has ended.
                if self.is_over(lease) && reason == Release::Undelivered && found == Err(StoreErrorKind::LeaseLost) {
                    return Ok(());
                }
                self.compare(found, lease, |model| model.release(lease, reason))?;
            }
            Op::Refund { nth, reason } => {
                let Some((real, lease)) = self.lease(nth) else { return Ok(()) };
                let found = kind(self.store.refund(real, reason).now_or_never().unwrap());
                // So may be what was settled.
                if self.is_over(lease) && found == Err(StoreErrorKind::LeaseLost) {
                    return Ok(());
                }
                self.compare(found, lease, |model| model.refund(lease, reason))?;
            }
            Op::PutOff { nth, until } => {
                let Some((real, lease)) = self.lease(nth) else { return Ok(()) };
                // Nor need it be remembered that such a lease was given up.
                if self.is_over(lease) {
                    return Ok(());
                }
                let until = self.at(until);
                let found = kind(self.store.put_off(real, until).now_or_never().unwrap());
                self.compare(found, lease, |model| model.put_off(lease, until))?;
            }
            Op::Take { id: n, asked_for, wait, lease } => {
                self.now += wait;
                self.told = self.told.max(self.now);
                let (now, lease_until) = (self.at(self.now), self.at(self.now + lease));
                self.take(Take { id: id(n), now, lease_until, asked_for })?;
            }
            Op::Find { id: n } => {
                let found = self.store.find(id(n)).now_or_never().unwrap().unwrap();
                self.find(id(n), found)?;
            }
            Op::Unfinished { after, limit, wait, due } => {
                self.now += wait;
                let page = Page { now: self.at(self.now), after: after.map(id), limit, due };
                let found = self.store.unfinished(page).now_or_never().unwrap().unwrap();
                let expected = self.model.unfinished(page);
                prop_assert_eq!(printed(&found), printed(&expected));
            }
        }
        let (least, most) = (self.model.entries.len(), self.store.capacity());
        prop_assert!((least..=most).contains(&self.store.len()), "{} entries", self.store.len());
        Ok(())
    }

    /// The entry has ended, and so has its lease: what only its holder needs may be gone.
    fn is_over(&self, lease: Lease) -> bool {
        let known =
            self.model.entries.get(&lease.id).or_else(|| {
                self.forgotten.iter().find(|entry| entry.claim.id == lease.id && entry.token == lease.token)
            });
        known.is_some_and(|entry| entry.end.is_some() && entry.claim.lease_until <= self.at(self.told))
    }

    /// Does a step in the model that may forget entries, and remembers those.
    fn forgetful<T>(&mut self, step: impl FnOnce(&mut Model) -> T) -> T {
        let before = self.model.entries.clone();
        let answer = step(&mut self.model);
        let told = self.at(self.told);
        let gone = before.into_values().filter(|entry| entry.forget_at().is_some_and(|at| at <= told));
        self.forgotten.extend(gone);
        answer
    }

    fn take(&mut self, take: Take) -> Result<(), TestCaseError> {
        let mut ahead = self.model.clone();
        let expected = ahead.take(take);
        let found = self.store.take(take).now_or_never().unwrap().unwrap();
        if let (Taken::Spent(End::Delivered), Taken::Won { entry, .. }) = (&found, &expected) {
            // It has forgotten what was settled.
            let over = matches!(entry.state, EntryState::Spent { .. });
            prop_assert!(over && take.asked_for);
            self.forgetful(|model| model.take(Take { asked_for: false, ..take }));
            return Ok(());
        }
        self.forgetful(|model| model.take(take));
        match (found, expected) {
            (Taken::Won { lease: real, entry: found }, Taken::Won { lease: model, entry: expected }) => {
                prop_assert_eq!(found, expected);
                self.given_out(real, model)
            }
            (found, expected) => {
                prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
                Ok(())
            }
        }
    }

    fn find(&self, id: ChallengeId, found: Option<JournalEntry>) -> Result<(), TestCaseError> {
        let expected = self.model.find(id);
        let states = (found.as_ref().map(|entry| &entry.state), expected.as_ref().map(|entry| &entry.state));
        match states {
            // It has forgotten what was settled.
            (Some(EntryState::Spent { end, settlement: None }), Some(EntryState::Spent { end: expected, .. })) => {
                prop_assert_eq!(end, expected);
                return Ok(());
            }
            // It has not forgotten the entry yet.
            (Some(EntryState::Spent { .. }), None) => {
                prop_assert!(self.forgotten.iter().any(|entry| entry.claim.id == id));
                return Ok(());
            }
            _ => {}
        }
        prop_assert_eq!(found, expected);
        Ok(())
    }

    fn claim(&mut self, claim: Claim) -> Result<(), TestCaseError> {
        let expected = self.forgetful(|model| model.claim(claim.clone()));
        let found = self.store.claim(claim).now_or_never().unwrap();
        match (found, expected) {
            (
                Ok(Claimed::Won { lease: real, resumed: found }),
                Ok(Claimed::Won { lease: model, resumed: expected }),
            ) => {
                prop_assert_eq!(found, expected);
                self.given_out(real, model)
            }
            (
                Ok(Claimed::Settled { lease: real, settlement: found }),
                Ok(Claimed::Settled { lease: model, settlement: expected }),
            ) => {
                prop_assert_eq!(found, expected);
                self.given_out(real, model)
            }
            (found, expected) => {
                prop_assert_eq!(answer(found), answer(expected));
                Ok(())
            }
        }
    }

    fn given_out(&mut self, real: Lease, model: Lease) -> Result<(), TestCaseError> {
        prop_assert_eq!(real.id, model.id);
        let newest =
            self.leases.iter().map(|(lease, _)| lease).filter(|lease| lease.id == real.id).map(|l| l.token).max();
        prop_assert!(newest.is_none_or(|newest| newest < real.token));
        self.leases.push((real, model));
        Ok(())
    }

    /// Compares the answer to a step other than a claim, and does it in the model.
    fn compare(
        &mut self,
        found: Result<(), StoreErrorKind>,
        lease: Lease,
        step: impl Fn(&mut Model) -> Result<(), StoreError>,
    ) -> Result<(), TestCaseError> {
        let forgotten = |entry: &Entry| entry.claim.id == lease.id && entry.token == lease.token;
        if let Some(place) = self.forgotten.iter().position(forgotten) {
            if found == Err(StoreErrorKind::LeaseLost) {
                return Ok(());
            }
            // The store has not forgotten it yet, so neither its id nor its proof can be in use again.
            let entry = self.forgotten[place].clone();
            prop_assert!(!self.model.entries.contains_key(&lease.id));
            let mut model = self.model.clone();
            if let Proof::Exclusive(key) = entry.claim.proof {
                let reused = model.proofs.insert(key, lease.id).is_some();
                // A repeated commit changes nothing; taking one back would let the proof pay twice.
                prop_assert!(!reused || entry.end.is_some());
                model.proofs.insert(key, lease.id);
            }
            model.entries.insert(lease.id, entry);
            prop_assert_eq!(found, kind(step(&mut model)));
            if model.entries.get(&lease.id).is_some_and(|entry| entry.end.is_none()) {
                if let Proof::Exclusive(key) = model.entries[&lease.id].claim.proof {
                    prop_assert!(!self.model.proofs.contains_key(&key), "a proof that is in use was taken back");
                }
                self.model = model;
                self.forgotten.remove(place);
            }
            return Ok(());
        }
        prop_assert_eq!(found, kind(step(&mut self.model)));
        Ok(())
    }
}

fn kind<T>(result: Result<T, StoreError>) -> Result<T, StoreErrorKind> {
    result.map_err(|error| error.kind())
}

fn answer(claimed: Result<Claimed, StoreError>) -> String {
    format!("{:?}", kind(claimed))
}

fn printed(entries: &[JournalEntry]) -> Vec<String> {
    entries.iter().map(|entry| format!("{entry:?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_small_store_answers_like_the_model(ops in proptest::collection::vec(op(), 1..80)) {
        let mut run = Run::new(4);
        for op in ops {
            run.step(op)?;
        }
    }

    #[test]
    fn a_store_of_many_shards_answers_like_the_model(ops in proptest::collection::vec(op(), 1..80)) {
        let mut run = Run::new(20_000);
        for op in ops {
            run.step(op)?;
        }
    }
}
