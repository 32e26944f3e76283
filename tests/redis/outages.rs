//! The server is away, and comes back.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use tower_mpp::store::{AnswerStore as _, Claimed, End, EntryState, NonceStore as _, RedisNonceStore, Release};

use crate::{
    payments::{DEADLINE, claim, delivered, held, id, now, reservation, settled, settlement, store, unavailable},
    redis_server::Redis,
};

#[tokio::test]
async fn a_server_that_is_stopped_is_unavailable_and_heals_without_reopening() {
    let server = Redis::start().await;
    let store = store(&server.url()).await;
    let lease = settled(&store, 1).await;
    for _ in 0..2 {
        server.stop().await;
        unavailable(store.claim(claim(2))).await;
        unavailable(store.commit(lease, End::Delivered)).await;
        unavailable(store.find(id(1))).await;
        unavailable(store.reserve(reservation(1))).await;
        // Many at once do not wait for each other.
        for failed in join_all((10..200).map(|n| unavailable(store.claim(claim(n))))).await {
            assert!(!failed.is_empty());
        }
        unavailable(RedisNonceStore::connect(&server.url())).await;
        server.restart().await;
        assert!(matches!(store.find(id(1)).await.unwrap().unwrap().state, EntryState::Settled { .. }));
    }
    store.commit(lease, End::Delivered).await.unwrap();
    held(&store, 2).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable_in_bounded_time() {
    let server = Redis::start().await;
    let store = RedisNonceStore::builder().timeout(Duration::from_millis(200)).connect(&server.url()).await.unwrap();
    server.pause();
    // With the connection that it had, and without one.
    for n in 0..2 {
        let slow = unavailable(store.claim(claim(n))).await;
        assert!(slow.contains("did not answer in time"), "{slow}");
    }
    join_all((10..200).map(|n| unavailable(store.claim(claim(n))))).await;
    server.resume();
    held(&store, 1000).await;

    // Nobody ever says a word.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", mute.local_addr().unwrap());
    unavailable(RedisNonceStore::builder().timeout(Duration::from_millis(200)).connect(&url)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_nothing_that_was_answered() {
    let server = Redis::start().await;
    let store = store(&server.url()).await;
    for round in 0..3 {
        let answered = AtomicU64::new(0);
        let first = round * 1_000_000;
        // Each payer pays until the server is gone.
        let payer = |payer: u64| {
            let (store, answered) = (&store, &answered);
            async move {
                let (mut held, mut settled, mut delivered) = (Vec::new(), Vec::new(), Vec::new());
                for n in (first + payer * 10_000).. {
                    let lease = match store.claim(claim(n)).await {
                        Ok(Claimed::Won { lease, resumed: false }) => lease,
                        Ok(other) => panic!("{other:?}"),
                        Err(_) => break,
                    };
                    held.push(n);
                    if store.settle(lease, &settlement(n)).await.is_err() {
                        break;
                    }
                    settled.push(n);
                    if n % 2 == 0 {
                        if store.commit(lease, End::Delivered).await.is_err() {
                            break;
                        }
                        delivered.push(n);
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                (held, settled, delivered)
            }
        };
        let killer = async {
            while answered.load(Ordering::Relaxed) < 100 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            server.kill().await;
        };
        let paid = join_all((0..16).map(payer));
        let (paid, ()) = tokio::time::timeout(DEADLINE, async { tokio::join!(paid, killer) }).await.unwrap();
        server.restart().await;
        for (held, settled, delivered) in paid {
            for n in held {
                assert!(store.find(id(n)).await.unwrap().is_some(), "{n} was held");
                assert!(!matches!(store.claim(claim(n)).await.unwrap(), Claimed::Won { .. }), "{n} was held");
            }
            for n in settled {
                let entry = store.find(id(n)).await.unwrap().unwrap();
                assert_eq!(entry.settlement(), Some(&settlement(n)));
            }
            for n in delivered {
                let claimed = store.claim(claim(n)).await.unwrap();
                assert!(matches!(claimed, Claimed::Spent(End::Delivered)), "{n} was delivered: {claimed:?}");
            }
        }
    }
}

#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_given_again() {
    let server = Redis::start().await;
    let store = store(&server.url()).await;
    let mut operator = server.connection().await;
    let lease = settled(&store, 1).await;
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut operator).await.unwrap();
    join_all((10..50).map(|n| delivered(&store, n))).await;
    store.release(lease, Release::Undelivered).await.unwrap();
    store.reserve(reservation(1)).await.unwrap();
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut operator).await.unwrap();
    store.keep(reservation(1).lease, Bytes::from_static(b"answer"), now()).await.unwrap();
    assert!(store.look_up(id(1), now()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_replica_that_is_waited_for_has_every_step_and_without_one_nothing_counts() {
    let server = Redis::start().await;
    let builder = RedisNonceStore::builder().wait_for_replicas(1, Duration::from_secs(20));
    let impatient = RedisNonceStore::builder().wait_for_replicas(1, Duration::from_millis(50));
    let store = impatient.connect(&server.url()).await.unwrap();
    let alone = unavailable(store.claim(claim(1))).await;
    assert!(alone.contains("0 replicas") && alone.contains("1 must"), "{alone}");
    unavailable(store.reserve(reservation(1))).await;
    // Looks need nobody.
    assert!(store.find(id(1)).await.unwrap().is_some());
    assert!(store.look_up(id(1), now()).await.unwrap().is_some());

    let port = server.url().split([':', '/']).nth(4).unwrap().to_owned();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]).await;
    let patient = builder.connect(&server.url()).await.unwrap();
    for lease in join_all((10..40).map(|n| settled(&patient, n))).await {
        patient.commit(lease, End::Delivered).await.unwrap();
        // Said again, as after a lost reply: the replica must have the first one too.
        patient.commit(lease, End::Delivered).await.unwrap();
    }
    let lease = settled(&patient, 2).await;

    // The primary is gone, and the replica takes its place.
    server.kill().await;
    redis::cmd("REPLICAOF").arg(&["NO", "ONE"]).exec_async(&mut replica.connection().await).await.unwrap();
    let promoted = RedisNonceStore::connect(&replica.url()).await.unwrap();
    for n in 10..40 {
        let claimed = promoted.claim(claim(n)).await.unwrap();
        assert!(matches!(claimed, Claimed::Spent(End::Delivered)), "{claimed:?}");
    }
    promoted.commit(lease, End::Delivered).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_the_primary_any_more_is_unavailable() {
    let server = Redis::start().await;
    let store = store(&server.url()).await;
    let lease = settled(&store, 1).await;
    let mut operator = server.connection().await;
    redis::cmd("REPLICAOF").arg(&["127.0.0.1", "1"]).exec_async(&mut operator).await.unwrap();
    for _ in 0..3 {
        unavailable(store.commit(lease, End::Delivered)).await;
        unavailable(store.claim(claim(2))).await;
    }
    redis::cmd("REPLICAOF").arg(&["NO", "ONE"]).exec_async(&mut operator).await.unwrap();
    store.commit(lease, End::Delivered).await.unwrap();
    held(&store, 3).await;
}
