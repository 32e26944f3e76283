//! What is tried again, by whose leave, and that it is paid once.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use tokio::{
    io::AsyncReadExt as _,
    time::{Instant, timeout},
};
use tower::ServiceExt as _;
use tower_mpp::{
    receipt::Attribution,
    refund::ProviderCall,
    upstream::{Body, HttpUpstreamBuilder, Report, Retry, Stage},
};

use crate::{
    provider::{PATIENCE, Provider, nobody},
    shop::{Shop, quick, service},
    support::Frames,
};

const SOON: Duration = Duration::from_millis(20);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 x\r\ncontent-length: 4\r\nretry-after: 1\r\n\r\nbusy";

/// Fails as often as it is told, in the way it is told, and reads the whole body each time.
async fn flaky(failures: usize, how: &'static str) -> (Provider, Arc<Mutex<Vec<String>>>) {
    let bodies = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&bodies);
    let provider = Provider::start(move |mut peer| {
        let seen = Arc::clone(&seen);
        async move {
            while let Some(head) = peer.head().await {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                peer.stream.read_exact(&mut body).await.unwrap();
                let turn = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(String::from_utf8(body).unwrap());
                    seen.len()
                };
                if turn > failures {
                    peer.write(OK).await;
                } else if how.is_empty() {
                    return;
                } else {
                    peer.write(how).await;
                }
            }
        }
    })
    .await;
    (provider, bodies)
}

fn always(builder: HttpUpstreamBuilder) -> HttpUpstreamBuilder {
    builder.on_error(|failure| if failure.can_retry { Retry::After(SOON) } else { Retry::No })
}

async fn post(shop: &Shop, body: &str) -> crate::support::Answer {
    let offer = shop.server.send(Method::POST, "/paid/a?q=1", &[], body).await;
    let token = serde_json::json!({"token": "ok"});
    let credential = crate::support::pay_with(&crate::support::challenge(&offer.headers), None, &token);
    shop.server.pay(Method::POST, "/paid/a?q=1", &credential, body).await
}

#[tokio::test]
async fn without_a_hook_nothing_is_tried_again() {
    for how in ["", BUSY] {
        let (provider, bodies) = flaky(1, how).await;
        let shop = Shop::open(service(quick(provider.url()))).await;
        let answer = post(&shop, "hello").await;
        assert!([502, 503].contains(&answer.status.as_u16()));
        assert_eq!(*bodies.lock().unwrap(), ["hello"]);
    }
}

#[tokio::test]
async fn what_is_tried_again_is_the_same_request_and_is_paid_once() {
    for how in ["", BUSY] {
        let (provider, bodies) = flaky(2, how).await;
        let shop = Shop::open(service(always(quick(provider.url())))).await;
        let answer = post(&shop, "hello").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok"));
        answer.receipt();
        assert_eq!(*bodies.lock().unwrap(), ["hello"; 3]);
        assert!(provider.heads().iter().all(|head| head.starts_with("POST /a?q=1 HTTP/1.1\r\n")));
        assert_eq!((shop.rail.settlements(), shop.rail.attempts()), (1, 1));
    }
}

#[tokio::test]
async fn attempts_are_bounded_and_the_last_failure_is_passed_back() {
    let (provider, bodies) = flaky(100, BUSY).await;
    let shop = Shop::open(service(always(quick(provider.url())))).await;
    let answer = post(&shop, "hello").await;
    assert_eq!((answer.status.as_u16(), answer.text(), answer.header("retry-after")), (503, "busy", Some("1")));
    assert_eq!(answer.header("payment-outcome"), Some("redeliverable"));
    assert_eq!(bodies.lock().unwrap().len(), 3);

    let shop = Shop::open(service(always(quick(provider.url())).max_attempts(5))).await;
    post(&shop, "hello").await;
    assert_eq!(bodies.lock().unwrap().len(), 3 + 5);
}

#[tokio::test]
async fn a_call_that_has_started_once_stays_started() {
    // The first attempt is read and broken off; then nobody listens.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let _ = stream.read(&mut [0; 1024]).await;
    });
    let shop = Shop::open(service(always(quick(url)))).await;
    let answer = post(&shop, "hello").await;
    assert_eq!((answer.status.as_u16(), answer.header("payment-outcome")), (502, Some("redeliverable")));
    // And one that never could, did not.
    let shop = Shop::open(service(always(quick(nobody())))).await;
    let answer = post(&shop, "hello").await;
    assert_eq!((answer.status.as_u16(), answer.header("payment-outcome")), (502, Some("refunded")));
}

#[tokio::test]
async fn a_body_that_is_not_there_as_a_whole_is_never_sent_twice() {
    for (frames, attempts) in [
        (Frames::of(["he", "llo"]).declared(), 3),
        (Frames::of(["he", "llo"]).chunked(), 3),
        (Frames::of(["he", "llo"]).declared().waiting(), 1),
        (Frames::of(["he", "llo"]).declared().trailer("x-a", "1"), 1),
    ] {
        let (provider, _) = flaky(100, "HTTP/1.1 500 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        let upstream = service(always(quick(provider.url())));
        let request = Request::post("/a").body(Body::new(frames)).unwrap();
        assert_eq!(upstream.oneshot(request).await.unwrap().status(), 500);
        assert_eq!(provider.heads().len(), attempts);
    }
    let (provider, bodies) = flaky(100, BUSY).await;
    let upstream = service(always(quick(provider.url())).replay_limit(4));
    let request = Request::post("/a").body(Body::from("hello")).unwrap();
    assert_eq!(upstream.oneshot(request).await.unwrap().status(), 503);
    assert_eq!(*bodies.lock().unwrap(), ["hello"]);
}

#[tokio::test]
async fn what_was_begun_to_be_read_for_a_retry_is_sent_whole() {
    let (provider, bodies) = flaky(0, "").await;
    let upstream = service(always(quick(provider.url())));
    let request = Request::post("/a").body(Body::new(Frames::of(["a", "b", "c"]).declared().waiting())).unwrap();
    assert_eq!(upstream.oneshot(request).await.unwrap().status(), 200);
    assert_eq!(*bodies.lock().unwrap(), ["abc"]);
}

#[tokio::test]
async fn no_retry_goes_beyond_the_deadline() {
    let (provider, bodies) = flaky(100, BUSY).await;
    let slow = quick(provider.url()).on_error(|_| Retry::After(Duration::from_secs(60)));
    let upstream = service(slow).timeout(Duration::from_secs(5));
    let begun = Instant::now();
    let request = Request::post("/a").body(Body::from("hello")).unwrap();
    let answer = timeout(PATIENCE, upstream.oneshot(request)).await.unwrap().unwrap();
    assert_eq!(answer.status(), 503);
    assert!(begun.elapsed() < Duration::from_secs(4), "it does not wait for nothing");
    assert_eq!(bodies.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_hook_knows_what_happened_and_may_answer_itself() {
    let (provider, _) = flaky(100, BUSY).await;
    let told = Arc::<Mutex<Vec<String>>>::default();
    let tell = Arc::clone(&told);
    let upstream = service(quick(provider.url()).on_error(move |failure| {
        tell.lock().unwrap().push(format!(
            "{} {} {} {:?} {:?}",
            failure.attempt,
            failure.method,
            failure.path,
            failure.status().map(|status| status.as_u16()),
            failure.header("retry-after"),
        ));
        if failure.attempt < 2 {
            return Retry::After(SOON);
        }
        let mut answer = Response::new(Body::from("later"));
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        answer.headers_mut().insert("payment-receipt", "forged".parse().unwrap());
        Retry::Answer(answer)
    }));
    let attribution = Attribution::new();
    let report = Report::new(attribution.clone());
    let mut request = Request::post("/a?secret=1").body(Body::from(Bytes::from("hello"))).unwrap();
    request.extensions_mut().insert(report.clone());
    let answer = upstream.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(!answer.headers().contains_key("payment-receipt"));
    assert_eq!(answer.extensions().get::<ProviderCall>(), Some(&ProviderCall::Started));
    assert_eq!(report.stage(), Stage::Started);
    assert_eq!(*told.lock().unwrap(), ["1 POST /a Some(503) Some(\"1\")", "2 POST /a Some(503) Some(\"1\")"]);
}
