//! The locks of the store under every order of its threads.
//!
//! `RUSTFLAGS="--cfg tower_mpp_loom" cargo test --release --lib store::memory::races`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{sync::Arc, time::Duration};

use loom::thread::{self, JoinHandle};

use super::*;
use crate::protocol::SpendKey;

const LEASE: u64 = 30;
const KEEP: u64 = 300;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix(1_800_000_000).unwrap().saturating_add(Duration::from_secs(seconds))
}

/// Ids whose first byte is even lie in the first of two shards, the others in the second.
fn id(n: u8) -> ChallengeId {
    let mut bytes = [n; 32];
    bytes[0] = if n.is_multiple_of(2) { 0 } else { 0xff };
    ChallengeId::from_bytes(bytes)
}

fn claim(n: u8, proof: u8, now: u64) -> Claim {
    Claim {
        id: id(n),
        proof: Proof::Exclusive(SpendKey::from_bytes([proof; 32])),
        now: at(now),
        lease_until: at(now + LEASE),
        keep_until: at(now + KEEP),
        record: Arc::from([]),
    }
}

fn settlement() -> Settlement {
    Settlement::new("ref", at(0))
}

type Store = Arc<MemoryNonceStore>;

/// Explores every order of the steps of `body` on a store with room for so many, in two shards.
fn model(capacity: usize, body: impl Fn(Store) + Sync + Send + 'static) {
    loom::model(move || body(Arc::new(MemoryNonceStore::with_shards(capacity, 2))));
}

fn spawn<T: 'static>(store: &Store, step: impl FnOnce(&MemoryNonceStore) -> T + 'static) -> JoinHandle<T> {
    let store = Arc::clone(store);
    thread::spawn(move || step(&store))
}

fn lease(claimed: Result<Claimed, StoreError>) -> Option<Lease> {
    match claimed.unwrap() {
        Claimed::Won { lease, .. } | Claimed::Settled { lease, .. } => Some(lease),
        Claimed::Busy | Claimed::Refunding | Claimed::Spent(_) | Claimed::OtherProof => None,
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> StoreErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn of_three_claims_of_one_id_one_wins() {
    model(8, |store| {
        let others: Vec<_> = (0..2).map(|_| spawn(&store, |store| lease(store.claim_now(&claim(1, 1, 0))))).collect();
        let mine = lease(store.claim_now(&claim(1, 1, 0)));
        let won = others.into_iter().map(|other| other.join().unwrap()).chain([mine]).flatten().count();
        assert_eq!(won, 1);
        assert_eq!(store.len(), 1);
    });
}

#[test]
fn of_three_ids_in_two_shards_with_one_proof_one_wins() {
    model(8, |store| {
        let others: Vec<_> = [1, 2].map(|n| spawn(&store, move |store| lease(store.claim_now(&claim(n, 1, 0))))).into();
        let mine = lease(store.claim_now(&claim(3, 1, 0)));
        let won = others.into_iter().map(|other| other.join().unwrap()).chain([mine]).flatten().count();
        assert_eq!(won, 1);
        assert_eq!(store.len(), 1);
    });
}

#[test]
fn two_ids_with_each_others_proofs_do_not_wait_for_each_other() {
    // Whatever shards the proofs lie in, each of the two locks an id of its own and then a proof.
    model(8, |store| {
        let other = spawn(&store, |store| lease(store.claim_now(&claim(1, 2, 0))));
        let mine = lease(store.claim_now(&claim(2, 1, 0)));
        assert!(mine.is_some() && other.join().unwrap().is_some());
        let other = spawn(&store, |store| lease(store.claim_now(&claim(3, 1, 0))));
        assert!(lease(store.claim_now(&claim(4, 2, 0))).is_none() && other.join().unwrap().is_none());
    });
}

#[test]
fn a_claim_meets_a_release_before_or_after_it() {
    model(8, |store| {
        let held = lease(store.claim_now(&claim(1, 1, 0))).unwrap();
        // Another id wants the proof, and another holder the id, while both are given back.
        let other_id = spawn(&store, |store| lease(store.claim_now(&claim(2, 1, 0))));
        let same_id = spawn(&store, |store| lease(store.claim_now(&claim(1, 1, 0))));
        store.release_now(held, Release::NotCharged).unwrap();
        let (other_id, same_id) = (other_id.join().unwrap(), same_id.join().unwrap());
        assert!(other_id.is_none() || same_id.is_none(), "one proof for two ids");
        let won = usize::from(other_id.is_some()) + usize::from(same_id.is_some());
        assert_eq!(store.len(), won);
        // Whoever did not win while the release was on its way can now, unless the other one has it.
        assert_eq!(lease(store.claim_now(&claim(2, 1, 0))).is_some(), won == 0);
    });
}

#[test]
fn a_late_holder_settles_before_it_is_taken_over_or_not_at_all() {
    model(8, |store| {
        let slow = lease(store.claim_now(&claim(1, 1, 0))).unwrap();
        let taken = spawn(&store, |store| store.claim_now(&claim(1, 1, LEASE)).unwrap());
        let settled = store.settle_now(slow, &settlement());
        match (taken.join().unwrap(), settled) {
            (Claimed::Settled { lease, .. }, Ok(())) => {
                assert_eq!(kind(store.commit_now(slow, End::Delivered)), StoreErrorKind::LeaseLost);
                store.commit_now(lease, End::Delivered).unwrap();
            }
            (Claimed::Won { lease, resumed: true }, Err(error)) => {
                assert_eq!(error.kind(), StoreErrorKind::LeaseLost);
                store.settle_now(lease, &settlement()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn of_two_deliveries_one_commits() {
    model(8, |store| {
        let slow = lease(store.claim_now(&claim(1, 1, 0))).unwrap();
        store.settle_now(slow, &settlement()).unwrap();
        let other = spawn(&store, |store| match store.claim_now(&claim(1, 1, LEASE)).unwrap() {
            Claimed::Settled { lease, .. } => {
                store.refund_now(lease, RefundReason::Requested).unwrap();
                store.commit_now(lease, End::Refunded).is_ok()
            }
            Claimed::Spent(End::Delivered) => false,
            other => panic!("{other:?}"),
        });
        let mine = store.commit_now(slow, End::Delivered).is_ok();
        let other = other.join().unwrap();
        assert!(mine != other, "delivered: {mine}, refunded: {other}");
    });
}

#[test]
fn a_take_back_meets_a_claim_and_an_expiry() {
    model(8, |store| {
        let old = lease(store.claim_now(&claim(1, 1, 0))).unwrap();
        store.settle_now(old, &settlement()).unwrap();
        store.commit_now(old, End::Delivered).unwrap();
        // When the entry may be forgotten, its proof may pay another challenge: never both.
        let other = spawn(&store, |store| lease(store.claim_now(&claim(2, 1, KEEP))));
        let taken_back = store.release_now(old, Release::Undelivered).is_ok();
        let other = other.join().unwrap().is_some();
        assert!(taken_back != other, "taken back: {taken_back}, claimed anew: {other}");
    });
}

#[test]
fn a_full_store_is_not_overfilled() {
    model(1, |store| {
        let spent = lease(store.claim_now(&claim(1, 1, 0))).unwrap();
        store.settle_now(spent, &settlement()).unwrap();
        store.commit_now(spent, End::Delivered).unwrap();
        // The only place may be given to one of two that come when its entry may be forgotten.
        let other = spawn(&store, |store| store.claim_now(&claim(2, 2, KEEP)).is_ok());
        let mine = store.claim_now(&claim(3, 3, KEEP)).is_ok();
        assert!(mine != other.join().unwrap());
        assert_eq!(store.len(), 1);
    });
}

#[test]
fn of_a_claim_and_two_takes_one_wins() {
    let take = || Take { id: id(1), now: at(LEASE), lease_until: at(2 * LEASE), asked_for: true };
    let took = |taken: Result<Taken, StoreError>| matches!(taken, Ok(Taken::Won { .. }));
    model(8, move |store| {
        let lost = lease(store.claim_now(&claim(1, 1, 0))).unwrap();
        let other = spawn(&store, move |store| took(store.take_now(take())));
        let payer = spawn(&store, |store| lease(store.claim_now(&claim(1, 1, LEASE))).is_some());
        let mine = took(store.take_now(take()));
        let won = [mine, other.join().unwrap(), payer.join().unwrap()].into_iter().filter(|won| *won).count();
        assert_eq!(won, 1);
        assert_eq!(kind(store.settle_now(lost, &settlement())), StoreErrorKind::LeaseLost);
    });
}
