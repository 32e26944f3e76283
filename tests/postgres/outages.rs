//! The server goes away and comes back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::timeout;
use tower_mpp::store::{Claimed, Lease, NonceStore as _, PostgresNonceStore, StoreErrorKind};

use crate::{at, claim, id, postgres::Postgres, settlement, won};

/// Longer than a step may take.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn without_the_server_steps_fail_in_bounded_time_and_with_it_they_succeed_again() {
    let server = Postgres::start().await;
    let store = PostgresNonceStore::connect(&server.url()).await.unwrap();
    let lease = won(&store, 1).await;
    server.stop().await;
    let settlement = settlement();
    let failed = timeout(BOUND, async {
        tokio::join!(async { store.claim(claim(2, 2)).await.map(drop) }, store.settle(lease, &settlement), async {
            store.find(id(1)).await.map(drop)
        },)
    });
    let (claimed, settled, found) = failed.await.unwrap();
    for failed in [claimed, settled, found] {
        assert_eq!(failed.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
    let error = timeout(BOUND, PostgresNonceStore::connect(&server.url())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);

    server.restart().await;
    store.settle(lease, &settlement).await.unwrap();
    won(&store, 2).await;
}

#[tokio::test]
async fn a_restart_between_two_steps_fails_none_of_them() {
    let server = Postgres::start().await;
    let store = PostgresNonceStore::connect(&server.url()).await.unwrap();
    let mut leases = Vec::new();
    for round in 0..3 {
        // All connections of the pool are open.
        leases.extend(join_all((0..20).map(|n| won(&store, round * 20 + n))).await);
        if round == 0 {
            server.restart().await;
        } else {
            server.kill().await;
            server.restart().await;
        }
    }
    let settled = join_all(leases.iter().map(|lease| store.renew(*lease, at(90)))).await;
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
}

/// What the callers were told: who won what.
type Wins = BTreeMap<u32, Vec<Lease>>;

const KEYS: u32 = 400;
const CALLERS: u32 = 16;

/// Claims all ids, those of other callers too, with proofs that two ids share.
async fn claim_all(store: PostgresNonceStore, caller: u32, done: Arc<AtomicUsize>) -> Wins {
    let mut wins = Wins::new();
    for step in 0..KEYS {
        let n = (step + caller * 7) % KEYS;
        if let Ok(Claimed::Won { lease, resumed }) = store.claim(claim(n, n / 2)).await {
            assert!(!resumed, "no lease has ended");
            wins.entry(n).or_default().push(lease);
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
    wins
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_the_middle_of_claims_gives_nothing_out_twice() {
    let server = Postgres::start().await;
    let replicas = [
        PostgresNonceStore::connect(&server.url()).await.unwrap(),
        PostgresNonceStore::connect(&server.url()).await.unwrap(),
    ];
    let done = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(claim_all(replicas[caller as usize % 2].clone(), caller, Arc::clone(&done))))
        .collect();
    for kills in 1..=3 {
        let some = kills * (KEYS * CALLERS) as usize / 8;
        timeout(BOUND * 3, async {
            while done.load(Ordering::SeqCst) < some {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
        server.kill().await;
        server.restart().await;
    }
    let mut wins = Wins::new();
    for caller in join_all(callers).await {
        for (n, leases) in caller.unwrap() {
            wins.entry(n).or_default().extend(leases);
        }
    }
    let mut proofs = BTreeMap::new();
    for (n, leases) in &wins {
        assert_eq!(leases.len(), 1, "{n} was won {leases:?}");
        assert_eq!(proofs.insert(n / 2, n), None, "the proof of {n} was won by two");
        // What was answered is still so: it was on disk.
        replicas[0].settle(leases[0], &settlement()).await.unwrap();
    }
    // Nothing is lost but what nobody was told.
    assert!(wins.len() as u32 > KEYS / 2 - 3 * CALLERS, "{}", wins.len());
    for n in 0..KEYS / 2 {
        let mut claimed = 0;
        for id in [id(2 * n), id(2 * n + 1)] {
            claimed += u32::from(replicas[1].find(id).await.unwrap().is_some());
        }
        assert_eq!(claimed, 1, "the proof {n} is claimed by one id");
    }
}
