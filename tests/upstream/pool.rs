//! Connections that are kept, and what becomes of them.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    provider::Provider,
    shop::{Shop, quick, service},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn connections_are_used_again_and_closed_when_idle() {
    let provider = Provider::keeping(OK).await;
    let shop = Shop::open(service(quick(provider.url()).pool(4, Duration::from_millis(300)))).await;
    for _ in 0..5 {
        assert_eq!(shop.server.get("/free/a").await.status, 200);
    }
    assert_eq!(provider.connections(), 1);
    sleep(Duration::from_millis(900)).await;
    assert_eq!(shop.server.get("/free/a").await.status, 200);
    assert_eq!(provider.connections(), 2);
}

/// Many kept connections, then the provider dies under them: no call may hang, and none may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_dies_under_idle_connections_leaves_no_call_waiting() {
    for _ in 0..10 {
        let provider = Provider::start(|mut peer| async move {
            while peer.head().await.is_some() {
                // So that as many calls need as many connections.
                sleep(Duration::from_millis(20)).await;
                peer.write(OK).await;
            }
        })
        .await;
        let shop = Shop::open(service(quick(provider.url()))).await;
        let calls = |count: usize| {
            let calls = (0..count).map(|_| shop.server.get("/free/a"));
            futures_util::future::join_all(calls)
        };
        assert!(calls(16).await.iter().all(|answer| answer.status == 200));
        assert!(provider.connections() > 1);
        // At once, and so in the middle of what the pool does about it.
        let dying = tokio::spawn(provider.kill());
        let begun = Instant::now();
        let answers = calls(16).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(answers.iter().all(|answer| [200, 502, 504].contains(&answer.status.as_u16())));
        dying.await.unwrap();
        let paid = shop.buy("/paid/a").await;
        assert_eq!(paid.status, 502, "{paid:?}");
        assert!(["refunded", "redeliverable"].contains(&paid.outcome().unwrap()), "{paid:?}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_no_fault() {
    // It closes after each answer without saying so.
    let provider = Provider::start(|mut peer| async move {
        peer.head().await;
        peer.write(OK).await;
        sleep(Duration::from_millis(5)).await;
    })
    .await;
    let shop = Shop::open(service(quick(provider.url()))).await;
    for turn in 0..20 {
        assert_eq!(shop.server.get("/free/a").await.status, 200, "{turn}");
        sleep(Duration::from_millis(30)).await;
    }
}

/// What comes without being asked for is not the answer to the next question.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_given_to_nobody() {
    let provider = Provider::start(|mut peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
            .await;
        peer.closed().await;
    })
    .await;
    let shop = Shop::open(service(quick(provider.url()))).await;
    for _ in 0..5 {
        assert_eq!(shop.server.get("/free/a").await.text(), "ok");
        sleep(Duration::from_millis(30)).await;
    }
}
