//! Payments to write tests with.

use std::{error::Error as _, time::Duration};

use tower_mpp::{
    Clock as _, SystemClock,
    method::Settlement,
    protocol::{ChallengeId, SpendKey, Timestamp},
    store::{
        Claim, Claimed, End, Lease, NonceStore as _, Proof, RedisNonceStore, Reservation, StoreError, StoreErrorKind,
    },
};

/// Longer than any test may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How long a lease is, and how long an entry is kept.
pub(crate) const LEASE: Duration = Duration::from_secs(60);
pub(crate) const KEEP: Duration = Duration::from_secs(600);

pub(crate) fn id(n: u64) -> ChallengeId {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    ChallengeId::from_bytes(bytes)
}

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// A claim of an id with an exclusive proof of its own, of the size that merchants make.
pub(crate) fn claim(n: u64) -> Claim {
    Claim {
        id: id(n),
        proof: Proof::Exclusive(SpendKey::from_bytes(*id(n).as_bytes())),
        now: now(),
        lease_until: now().saturating_add(LEASE),
        keep_until: now().saturating_add(KEEP),
        record: [b'r'; 200].into(),
    }
}

pub(crate) fn settlement(n: u64) -> Settlement {
    Settlement::new(format!("pi_{n:024}"), Timestamp::from_unix(1_800_000_000).unwrap())
}

pub(crate) fn reservation(n: u64) -> Reservation {
    Reservation {
        lease: Lease { id: id(n), token: 1 },
        request: [9; 32],
        now: now(),
        until: now().saturating_add(LEASE),
        keep_until: now().saturating_add(KEEP),
    }
}

pub(crate) async fn store(url: &str) -> RedisNonceStore {
    RedisNonceStore::connect(url).await.unwrap()
}

/// Claims a new id.
pub(crate) async fn held(store: &RedisNonceStore, n: u64) -> Lease {
    match store.claim(claim(n)).await.unwrap() {
        Claimed::Won { lease, resumed: false } => lease,
        other => panic!("a new id: {other:?}"),
    }
}

pub(crate) async fn settled(store: &RedisNonceStore, n: u64) -> Lease {
    let lease = held(store, n).await;
    store.settle(lease, &settlement(n)).await.unwrap();
    lease
}

pub(crate) async fn delivered(store: &RedisNonceStore, n: u64) -> Lease {
    let lease = settled(store, n).await;
    store.commit(lease, End::Delivered).await.unwrap();
    lease
}

/// The error, with what caused it.
pub(crate) fn text(error: &StoreError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What a step fails with while its server is away, in bounded time.
pub(crate) async fn unavailable<T: std::fmt::Debug>(step: impl Future<Output = Result<T, StoreError>>) -> String {
    let error = tokio::time::timeout(DEADLINE, step).await.expect("it does not end").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{}", text(&error));
    text(&error)
}
