//! The journal in memory: what the public suite cannot ask of every store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tower_mpp::{
    method::{Payer, Settlement},
    protocol::{ChallengeId, SpendKey, Timestamp},
    store::{Claim, Claimed, End, Lease, MemoryNonceStore, NonceStore as _, Page, Proof, Release, StoreErrorKind},
};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix(1_800_000_000).unwrap().saturating_add(Duration::from_secs(seconds))
}

/// A key of well-spread bytes, as an HMAC or a hash has.
fn spread(n: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (i, word) in bytes.chunks_exact_mut(8).enumerate() {
        // splitmix64
        let mut z = n.wrapping_mul(4).wrapping_add(i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(z ^ (z >> 31)).to_be_bytes());
    }
    bytes
}

fn claim(n: u64, now: Timestamp) -> Claim {
    Claim {
        id: ChallengeId::from_bytes(spread(2 * n)),
        proof: Proof::Exclusive(SpendKey::from_bytes(spread(2 * n + 1))),
        now,
        lease_until: now.saturating_add(Duration::from_secs(30)),
        keep_until: now.saturating_add(Duration::from_secs(300)),
        record: Arc::from(&b"record"[..]),
    }
}

async fn won(store: &MemoryNonceStore, claim: Claim) -> Lease {
    match store.claim(claim).await {
        Ok(Claimed::Won { lease, .. }) => lease,
        other => panic!("{other:?}"),
    }
}

async fn spend(store: &MemoryNonceStore, n: u64, now: Timestamp) -> Lease {
    let lease = won(store, claim(n, now)).await;
    store.settle(lease, &Settlement::new("ref", now)).await.unwrap();
    store.commit(lease, End::Delivered).await.unwrap();
    lease
}

#[tokio::test]
async fn ended_entries_make_room_in_any_shard() {
    let store = MemoryNonceStore::single_process(10_000);
    for n in 0..10_000 {
        spend(&store, n, at(0)).await;
    }
    assert_eq!(store.len(), 10_000);
    assert_eq!(store.claim(claim(10_000, at(299))).await.unwrap_err().kind(), StoreErrorKind::Full);
    assert_eq!(store.len(), 10_000);
    for n in 10_000..20_000 {
        spend(&store, n, at(300)).await;
    }
    assert_eq!(store.len(), 10_000);
}

#[tokio::test]
async fn ended_entries_are_forgotten_as_others_come() {
    let store = MemoryNonceStore::single_process(1_000_000);
    let mut most = 0;
    for n in 0..100_000 {
        // A hundred a second, each remembered for 300 seconds.
        spend(&store, n, at(n / 100)).await;
        most = most.max(store.len());
    }
    assert!((30_000..40_000).contains(&most), "{most}");
}

#[tokio::test]
async fn an_end_can_be_taken_back_as_long_as_the_lease_lasts() {
    let store = MemoryNonceStore::single_process(1);
    let lease = spend(&store, 0, at(0)).await;
    assert!(matches!(store.claim(claim(0, at(29))).await, Ok(Claimed::Spent(End::Delivered))));
    store.release(lease, Release::Undelivered).await.unwrap();
    let Ok(Claimed::Settled { lease, settlement }) = store.claim(claim(0, at(29))).await else { panic!() };
    assert_eq!(settlement.reference, "ref");
    store.commit(lease, End::Delivered).await.unwrap();
    assert!(matches!(store.claim(claim(0, at(59))).await, Ok(Claimed::Spent(End::Delivered))));
    // The claim above found the lease ended, and dropped what is needed to deliver again.
    assert_eq!(store.release(lease, Release::Undelivered).await.unwrap_err().kind(), StoreErrorKind::LeaseLost);
}

#[tokio::test]
async fn an_end_is_not_taken_back_when_the_proof_pays_another_challenge_by_now() {
    let store = MemoryNonceStore::single_process(100_000);
    let old = spend(&store, 0, at(0)).await;
    let mut other = claim(1, at(300));
    other.proof = claim(0, at(0)).proof;
    let new = won(&store, other.clone()).await;
    assert_eq!(store.release(old, Release::Undelivered).await.unwrap_err().kind(), StoreErrorKind::LeaseLost);
    assert!(matches!(store.claim(claim(2, at(300))).await, Ok(Claimed::Won { .. })));
    store.settle(new, &Settlement::new("other", at(300))).await.unwrap();
    assert!(matches!(store.claim(Claim { id: claim(3, at(0)).id, ..other }).await, Ok(Claimed::OtherProof)));
}

#[tokio::test]
async fn a_clock_that_goes_back_makes_nothing_new() {
    let store = MemoryNonceStore::single_process(100_000);
    spend(&store, 0, at(1000)).await;
    let lease = won(&store, claim(1, at(1000))).await;
    for n in 2..1000 {
        spend(&store, n, at(1299)).await;
    }
    for now in [at(0), at(1000), at(1299), at(500)] {
        assert!(matches!(store.claim(claim(0, now)).await, Ok(Claimed::Spent(End::Delivered))));
        let other = Claim { proof: claim(0, now).proof, ..claim(5000, now) };
        assert!(matches!(store.claim(other).await, Ok(Claimed::OtherProof)));
    }
    // Nor does it end a lease.
    assert!(matches!(store.claim(claim(1, at(0))).await, Ok(Claimed::Busy)));
    store.settle(lease, &Settlement::new("ref", at(0))).await.unwrap();
}

#[tokio::test]
async fn memory_goes_back_after_a_burst() {
    // The keys of one shard.
    let one_shard = |n: u64| {
        let mut id = spread(n);
        id[..2].fill(0);
        Claim { id: ChallengeId::from_bytes(id), proof: Proof::Bound(SpendKey::from_bytes(id)), ..claim(n, at(0)) }
    };
    let store = MemoryNonceStore::single_process(1_000_000);
    for n in 0..5000 {
        let lease = won(&store, one_shard(n)).await;
        if n % 100 != 0 {
            store.release(lease, Release::NotCharged).await.unwrap();
        }
    }
    assert_eq!(store.len(), 50);
    // Those that are left are found in their new places.
    for n in (0..5000).step_by(100) {
        assert!(matches!(store.claim(one_shard(n)).await, Ok(Claimed::Busy)), "{n}");
    }
    assert_eq!(store.unfinished(Page { now: at(30), after: None, limit: 100, due: false }).await.unwrap().len(), 50);
}

#[tokio::test]
async fn open_entries_are_listed_in_order_over_all_shards() {
    let store = MemoryNonceStore::single_process(100_000);
    let mut expected = Vec::new();
    for n in 0..1000 {
        if n % 3 == 0 {
            spend(&store, n, at(0)).await;
        } else {
            expected.push(won(&store, claim(n, at(0))).await.id);
        }
    }
    expected.sort();
    let mut listed: Vec<ChallengeId> = Vec::new();
    loop {
        let page = Page { now: at(30), after: listed.last().copied(), limit: 70, due: false };
        let entries = store.unfinished(page).await.unwrap();
        if entries.is_empty() {
            break;
        }
        listed.extend(entries.iter().map(|entry| entry.id));
    }
    assert_eq!(listed, expected);
    assert!(store.unfinished(Page { now: at(29), after: None, limit: 70, due: false }).await.unwrap().is_empty());
}

#[tokio::test]
async fn debug_shows_counts_only() {
    let store = MemoryNonceStore::single_process(7);
    spend(&store, 0, at(0)).await;
    assert_eq!(format!("{store:?}"), "MemoryNonceStore { capacity: 7, len: 1, .. }");
}

/// Live bytes of a store with `entries` entries that have ended, each with an exclusive proof.
fn bytes_when_ended(capacity: usize, entries: u64) -> u64 {
    let mut store = None;
    let used = allocation_counter::measure(|| {
        let journal = store.insert(MemoryNonceStore::single_process(capacity));
        let run = async {
            let payer = Some(Payer::verified("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"));
            for n in 0..entries {
                let claim = Claim { record: Arc::from([7; 200]), ..claim(n, at(0)) };
                let lease = won(journal, claim).await;
                let settlement = Settlement::new("pi_3NabcdefghijklmnopqrstuvX", at(0)).payer(payer.clone());
                journal.settle(lease, &settlement).await.unwrap();
                journal.commit(lease, End::Delivered).await.unwrap();
            }
            // Claims of others pass by after the leases are over.
            for n in 0..entries {
                assert!(matches!(journal.claim(claim(n, at(30))).await, Ok(Claimed::Spent(_))));
            }
        };
        run.now_or_never().unwrap();
        assert_eq!(journal.len() as u64, entries);
    });
    u64::try_from(used.bytes_current).unwrap()
}

#[test]
fn an_ended_entry_takes_less_than_200_bytes() {
    for entries in [25_000, 65_000, 100_000] {
        let each = bytes_when_ended(100_000, entries) / entries;
        println!("{entries} of 100000 entries: {each} bytes each");
        assert!(each < 200, "{entries} of 100000 entries: {each} bytes each");
    }
}
