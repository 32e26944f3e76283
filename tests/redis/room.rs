//! What is forgotten and when, and what happens when there is no room.

use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use tower_mpp::{
    protocol::Timestamp,
    store::{
        AnswerStore as _, Claim, Claimed, End, NonceStore as _, Page, RefundReason, Release, StoreErrorKind, Take,
        Taken,
    },
};

use crate::{
    payments::{KEEP, LEASE, claim, delivered, held, id, now, reservation, settled, settlement, store},
    redis_server::Redis,
};

/// How long the server keeps an entry and its proof by itself, in milliseconds.
async fn left(connection: &mut MultiplexedConnection, n: u64) -> Option<u64> {
    let mut ends = Vec::new();
    for kind in ["e", "p"] {
        let key = format!("{{mpp}}:{kind}:{}", id(n));
        let end: i64 = redis::cmd("PEXPIRETIME").arg(key).query_async(connection).await.unwrap();
        ends.push(end);
    }
    assert_eq!(ends[0], ends[1], "an entry and its proof go together");
    assert_ne!(ends[0], -2, "it is gone");
    (ends[0] != -1).then(|| u64::try_from(ends[0] - now().unix_millis()).unwrap())
}

#[tokio::test]
async fn open_entries_stay_and_ended_ones_are_forgotten_by_the_server() {
    let server = Redis::start().await;
    let store = store(&server.url()).await;
    let connection = &mut server.connection().await;
    let least = |since: Duration| u64::try_from(since.as_millis()).unwrap() - 60_000;

    let lease = held(&store, 1).await;
    assert_eq!(left(connection, 1).await, None, "held");
    store.settle(lease, &settlement(1)).await.unwrap();
    assert_eq!(left(connection, 1).await, None, "settled");
    store.commit(lease, End::Delivered).await.unwrap();
    assert!(left(connection, 1).await.unwrap() > least(KEEP), "delivered");
    store.release(lease, Release::Undelivered).await.unwrap();
    assert_eq!(left(connection, 1).await, None, "taken back");
    let open = Page { now: now(), after: None, limit: 10, due: false };
    assert_eq!(store.unfinished(open).await.unwrap().len(), 1);
    let Claimed::Settled { lease, .. } = store.claim(claim(1)).await.unwrap() else { panic!("not settled") };
    store.refund(lease, RefundReason::Undelivered).await.unwrap();
    assert_eq!(left(connection, 1).await, None, "refunding");
    store.commit(lease, End::Refunded).await.unwrap();
    assert!(left(connection, 1).await.unwrap() > least(KEEP), "refunded");
    assert!(store.unfinished(open).await.unwrap().is_empty());

    // Delivered, then asked for: it stays at least as long as the new lease.
    let lease = delivered(&store, 2).await;
    store.put_off(lease, now()).await.unwrap();
    assert!(left(connection, 2).await.unwrap() > least(KEEP), "put off");
    let until = now().saturating_add(10 * KEEP);
    let take = Take { id: id(2), now: now(), lease_until: until, asked_for: true };
    let Taken::Won { lease, .. } = store.take(take).await.unwrap() else { panic!("not taken") };
    assert!(left(connection, 2).await.unwrap() > least(10 * KEEP), "asked for");
    store.refund(lease, RefundReason::Requested).await.unwrap();
    assert_eq!(left(connection, 2).await, None, "refunding");
    store.release(lease, Release::NotRefundable).await.unwrap();
    assert!(left(connection, 2).await.unwrap() > least(10 * KEEP), "the rail refuses");

    // The merchant's clock is wrong: behind, ahead, or told only once and long ago.
    for (n, shift) in [(3, -86_400), (4, 86_400)] {
        let moved = now().unix() + shift;
        let at = |after: Duration| Timestamp::from_unix(moved).unwrap().saturating_add(after);
        let claim = Claim { now: at(Duration::ZERO), lease_until: at(LEASE), keep_until: at(KEEP), ..claim(n) };
        let Claimed::Won { lease, .. } = store.claim(claim).await.unwrap() else { panic!("not won") };
        store.settle(lease, &settlement(n)).await.unwrap();
        store.commit(lease, End::Delivered).await.unwrap();
        let stays = left(connection, n).await.unwrap();
        assert!(stays > least(KEEP), "{stays}");
    }

    store.reserve(reservation(1)).await.unwrap();
    store.keep(reservation(1).lease, Bytes::from_static(b"answer"), now().saturating_add(2 * KEEP)).await.unwrap();
    let answers: Vec<String> = redis::cmd("KEYS").arg("{mpp}:a:*").query_async(connection).await.unwrap();
    let millis: u64 = redis::cmd("PTTL").arg(&answers[0]).query_async(connection).await.unwrap();
    assert!(millis > least(2 * KEEP), "{millis}");
}

/// Gives the server room for `more` bytes than it has now.
async fn make_room(connection: &mut MultiplexedConnection, more: u64) {
    let report: String = redis::cmd("INFO").arg("memory").query_async(connection).await.unwrap();
    let used: u64 = report.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap();
    redis::cmd("CONFIG").arg(&["SET", "maxmemory"]).arg(used + more).exec_async(connection).await.unwrap();
}

#[tokio::test]
async fn a_full_server_refuses_new_payments_and_ends_those_that_it_has() {
    let server = Redis::start().await;
    let store = store(&server.url()).await;
    let connection = &mut server.connection().await;
    let mut settled_ones = Vec::new();
    for n in 0..9 {
        settled_ones.push(settled(&store, n).await);
    }
    let first = held(&store, 100).await;
    let second = held(&store, 101).await;
    for n in 0..2 {
        store.reserve(reservation(n)).await.unwrap();
    }
    make_room(connection, 200_000).await;
    let mut won = 0;
    let full = loop {
        match store.claim(claim(1000 + won)).await {
            Ok(_) => won += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), StoreErrorKind::Full, "after {won} claims");
    assert!(won > 10);
    // There is no room at all any more.
    redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1mb"]).exec_async(connection).await.unwrap();
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(connection).await.unwrap();
    for n in 5000..5005 {
        assert_eq!(store.claim(claim(n)).await.unwrap_err().kind(), StoreErrorKind::Full);
    }
    assert_eq!(store.reserve(reservation(5)).await.unwrap_err().kind(), StoreErrorKind::Full);
    let large = Bytes::from(vec![1; 1000]);
    let until = now().saturating_add(KEEP);
    assert_eq!(store.keep(reservation(0).lease, large, until).await.unwrap_err().kind(), StoreErrorKind::Full);
    store.reserve(reservation(0)).await.unwrap();
    store.give_up(reservation(0).lease).await.unwrap();
    assert_eq!(store.look_up(id(0), now()).await.unwrap().unwrap().until, Timestamp::EPOCH);
    assert!(store.look_up(id(1), now()).await.unwrap().is_some());

    // All that it has goes on, and every step is possible.
    store.renew(first, now().saturating_add(KEEP)).await.unwrap();
    store.settle(first, &settlement(100)).await.unwrap();
    store.settle(first, &settlement(100)).await.unwrap();
    store.release(first, Release::Undelivered).await.unwrap();
    assert!(matches!(store.claim(claim(100)).await.unwrap(), Claimed::Settled { .. }));
    store.release(second, Release::NotCharged).await.unwrap();
    let [a, b, c, d, e, ..] = settled_ones[..] else { panic!("too few") };
    store.commit(a, End::Delivered).await.unwrap();
    store.commit(a, End::Delivered).await.unwrap();
    store.release(a, Release::Undelivered).await.unwrap();
    store.refund(b, RefundReason::Undelivered).await.unwrap();
    store.refund(b, RefundReason::Undelivered).await.unwrap();
    store.commit(b, End::Refunded).await.unwrap();
    store.refund(c, RefundReason::Undelivered).await.unwrap();
    store.release(c, Release::NotRefundable).await.unwrap();
    store.put_off(d, now()).await.unwrap();
    let take = |n| Take { id: id(n), now: now(), lease_until: now().saturating_add(LEASE), asked_for: true };
    let Taken::Won { lease, .. } = store.take(take(3)).await.unwrap() else { panic!("not taken") };
    store.commit(lease, End::Delivered).await.unwrap();
    store.commit(e, End::Delivered).await.unwrap();
    store.put_off(e, now()).await.unwrap();
    let Taken::Won { lease, .. } = store.take(take(4)).await.unwrap() else { panic!("not taken") };
    store.refund(lease, RefundReason::Requested).await.unwrap();
    store.release(lease, Release::NotRefundable).await.unwrap();
    let open = Page { now: now(), after: None, limit: 1000, due: true };
    assert_eq!(store.unfinished(open).await.unwrap().len(), 2);
    assert!(matches!(store.claim(claim(1)).await.unwrap(), Claimed::Spent(End::Refunded)));

    make_room(connection, 10_000_000).await;
    held(&store, 5000).await;
    store.reserve(reservation(5)).await.unwrap();
}

/// More than the server looks at in one go.
#[tokio::test]
async fn thousands_of_open_entries_are_listed() {
    let server = Redis::start_with(&["--appendfsync", "no"]).await;
    let store = store(&server.url()).await;
    for first in (0..2000).step_by(100) {
        futures_util::future::join_all((first..first + 100).map(|n| held(&store, n))).await;
    }
    let later = now().saturating_add(LEASE);
    let page = |after, limit| Page { now: later, after, limit, due: true };
    let none = store.unfinished(Page { now: now(), ..page(None, 10) }).await.unwrap();
    assert!(none.is_empty(), "all are at work");
    let ids =
        |listed: Vec<tower_mpp::store::JournalEntry>| listed.into_iter().map(|entry| entry.id).collect::<Vec<_>>();
    let all = ids(store.unfinished(page(None, usize::MAX)).await.unwrap());
    assert_eq!(all, (0..2000).map(id).collect::<Vec<_>>());
    assert_eq!(ids(store.unfinished(page(Some(id(299)), 700)).await.unwrap()), all[300..1000]);
    assert_eq!(ids(store.unfinished(page(Some(id(1990)), 256)).await.unwrap()), all[1991..]);
}
