//! How often a step goes to the server, and what becomes of it when the answer is lost on the way.

use std::time::Duration;

use bytes::Bytes;
use tower_mpp::store::{
    AnswerStore as _, Claimed, End, EntryState, Lease, NonceStore as _, Page, PostgresNonceStore, ReceiptStore as _,
    RefundReason, Release, Reservation, StoreErrorKind, Take, Taken,
};

use crate::{at, claim, id, new_schema, outcome, proxy::Proxy, receipt, server, settlement, won};

async fn through(proxy: &Proxy, connections: u32) -> PostgresNonceStore {
    let server = server().await;
    let url = proxy.url(server.port(), &server.url());
    PostgresNonceStore::builder().schema(new_schema()).max_connections(connections).connect(&url).await.unwrap()
}

/// Every step, in an order that is possible. Answers how many trips each took.
async fn every_step(store: &PostgresNonceStore, proxy: &Proxy, n: u32) -> Vec<(&'static str, usize)> {
    let mut trips = Vec::new();
    macro_rules! count {
        ($name:literal, $step:expr) => {{
            let before = proxy.trips();
            let answer = $step.await.unwrap();
            trips.push(($name, proxy.trips() - before));
            answer
        }};
    }
    let Claimed::Won { lease, .. } = count!("claim", store.claim(claim(n, n))) else { panic!() };
    assert!(matches!(count!("claim of a busy one", store.claim(claim(n, n))), Claimed::Busy));
    count!("renew", store.renew(lease, at(70)));
    count!("settle", store.settle(lease, &settlement()));
    count!("commit", store.commit(lease, End::Delivered));
    count!("release", store.release(lease, Release::Undelivered));
    let Claimed::Settled { lease, .. } = count!("claim of a settled one", store.claim(claim(n, n))) else { panic!() };
    count!("refund", store.refund(lease, RefundReason::Requested));
    count!("put_off", store.put_off(lease, at(10)));
    let take = Take { id: id(n), now: at(10), lease_until: at(60), asked_for: false };
    let Taken::Won { lease, .. } = count!("take", store.take(take)) else { panic!() };
    count!("find", store.find(id(n)));
    count!("unfinished", store.unfinished(Page { now: at(100), after: None, limit: 10, due: true }));
    count!("commit of the refund", store.commit(lease, End::Refunded));
    count!("forget", tower_mpp::store::NonceStore::forget(store, at(200), 10));

    let lease = Lease { id: id(n), token: 1 };
    let request = [1; 32];
    count!("reserve", store.reserve(Reservation { lease, request, now: at(0), until: at(60), keep_until: at(100) }));
    count!("keep", store.keep(lease, Bytes::from_static(b"answer"), at(100)));
    count!("look_up", store.look_up(lease.id, at(0)));
    count!("give_up", store.give_up(lease));
    count!("forget answers", tower_mpp::store::AnswerStore::forget(store, at(200), 10));

    count!("append", store.append(receipt(n)));
    count!("append it again", store.append(receipt(n)));
    count!("get", store.get(receipt(n).id));
    count!("of_payment", store.of_payment(id(n), 10));
    count!("children", store.children(receipt(n).id, 10));
    count!("public_page", store.public_page(None, 50));
    count!("totals", store.totals(10, 0));
    count!("append_outcome", store.append_outcome(outcome(n)));
    count!("outcomes", store.outcomes(receipt(n).id, 10));
    trips
}

#[tokio::test]
async fn each_step_is_one_round_trip() {
    let proxy = Proxy::start(server().await.port()).await;
    let store = through(&proxy, 1).await;
    // The first time on a connection each statement is prepared.
    every_step(&store, &proxy, 1).await;
    let steps = every_step(&store, &proxy, 2).await;
    assert!(steps.iter().all(|(_, trips)| *trips == 1), "{steps:?}");
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_given_its_lease_on_another_connection() {
    let proxy = Proxy::start(server().await.port()).await;
    let store = through(&proxy, 1).await;
    won(&store, 1).await;
    proxy.cut();
    let Claimed::Won { lease, resumed: false } = store.claim(claim(2, 2)).await.unwrap() else { panic!() };
    assert!(!proxy.will_cut());
    assert!(matches!(store.claim(claim(2, 2)).await.unwrap(), Claimed::Busy), "another call");
    store.settle(lease, &settlement()).await.unwrap();

    // Taken over, with the same luck.
    store.release(lease, Release::Undelivered).await.unwrap();
    proxy.cut();
    let Claimed::Settled { lease, settlement: known } = store.claim(claim(2, 2)).await.unwrap() else { panic!() };
    assert!(!proxy.will_cut());
    assert_eq!(known, settlement());
    store.commit(lease, End::Delivered).await.unwrap();
}

#[tokio::test]
async fn every_other_step_whose_answer_is_lost_is_repeated_too() {
    let proxy = Proxy::start(server().await.port()).await;
    let store = through(&proxy, 1).await;
    let lease = won(&store, 1).await;
    let take = Take { id: id(1), now: at(10), lease_until: at(60), asked_for: false };
    store.put_off(lease, at(10)).await.unwrap();
    store.take(Take { id: id(7), ..take }).await.unwrap();
    proxy.cut();
    let Taken::Won { lease, entry } = store.take(take).await.unwrap() else { panic!() };
    assert_eq!((entry.state, entry.attempts), (EntryState::Held, 1));
    for step in 0..6 {
        // So that the statement is prepared, and the cut meets its call.
        store.find(id(1)).await.unwrap();
        match step {
            0 => _ = store.renew(lease, at(70)).await,
            1 => _ = store.settle(lease, &settlement()).await,
            2 => _ = store.refund(lease, RefundReason::Requested).await,
            _ => {}
        }
        proxy.cut();
        match step {
            0 => store.renew(lease, at(80)).await.unwrap(),
            1 => store.settle(lease, &settlement()).await.unwrap(),
            2 => store.refund(lease, RefundReason::Requested).await.unwrap(),
            3 => store.commit(lease, End::Refunded).await.unwrap(),
            4 => assert_eq!(store.find(id(1)).await.unwrap().unwrap().lease_until, at(80)),
            _ => {
                assert_eq!(store.unfinished(Page { now: at(90), after: None, limit: 9, due: false }).await.unwrap(), [])
            }
        }
        assert!(!proxy.will_cut());
    }
}

#[tokio::test]
async fn receipts_and_outcomes_whose_answer_is_lost_are_added_once() {
    let proxy = Proxy::start(server().await.port()).await;
    let store = through(&proxy, 1).await;
    store.append(receipt(1)).await.unwrap();
    store.append_outcome(outcome(1)).await.unwrap();
    proxy.cut();
    store.append(receipt(2)).await.unwrap();
    assert!(!proxy.will_cut());
    store.append_outcome(outcome(1)).await.unwrap();
    proxy.cut();
    store.append_outcome(outcome(2)).await.unwrap();
    assert!(!proxy.will_cut());
    assert_eq!(store.public_page(None, 10).await.unwrap().receipts.len(), 2);
    assert_eq!(store.totals(10, 0).await.unwrap().names[0].receipts, 2);
    assert_eq!(store.outcomes(receipt(2).id, 10).await.unwrap(), [outcome(2)]);
}

#[tokio::test]
async fn a_network_that_swallows_everything_takes_no_connection_with_it() {
    let proxy = Proxy::start(server().await.port()).await;
    let store = through(&proxy, 1).await;
    won(&store, 1).await;
    proxy.swallow();
    let error = tokio::time::timeout(Duration::from_secs(20), store.claim(claim(2, 2))).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    won(&store, 2).await;
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn steps_that_nobody_waits_for_any_more_leave_the_store_healthy() {
    let proxy = Proxy::start(server().await.port()).await;
    let store = through(&proxy, 2).await;
    for n in 0..50 {
        // As far as to the server, more or less.
        let mut step = Box::pin(store.claim(claim(n, n)));
        for _ in 0..n % 7 {
            if futures_util::poll!(step.as_mut()).is_pending() {
                tokio::task::yield_now().await;
            } else {
                break;
            }
        }
    }
    for n in 100..120 {
        won(&store, n).await;
    }
}
