//! `Idempotency-Key`: the same key, credential and request get the first answer again, byte for byte, and nothing
//! is charged or executed for that.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use support::*;
use tower::{Layer as _, ServiceExt as _, util::BoxCloneSyncService};
use tower_mpp::{
    Merchant, MerchantBuilder, Price, RefundStatus, RequestBody, ResponseBody,
    refund::RefundPolicy,
    store::{AnswerKeys, EncryptedAnswers, MemoryAnswerStore, MemoryNonceStore, NonceStore as _},
};

type Store = FaultyStore<Arc<MemoryNonceStore>>;
type Service = BoxCloneSyncService<Request<Full<Bytes>>, Response<ResponseBody<Frames>>, Infallible>;

/// Longer than any lease.
const LEASE: Duration = Duration::from_secs(60);

struct Shop {
    rail: TestRail,
    store: Store,
    answers: Arc<MemoryAnswerStore>,
    merchant: Merchant,
    service: Service,
    body: Arc<Mutex<fn() -> Frames>>,
    calls: Arc<AtomicUsize>,
}

fn whole() -> Frames {
    Frames::of(["one ", "two"]).declared()
}

fn stream() -> Frames {
    Frames::of(["data: 1\n\n", "data: 2\n\n"]).chunked().trailer("x-sum", "2")
}

impl Shop {
    fn open() -> Self {
        Self::with(|builder, answers| builder.answer_store(answers))
    }

    fn with(change: impl FnOnce(MerchantBuilder, Arc<MemoryAnswerStore>) -> MerchantBuilder) -> Self {
        let rail = TestRail::new("demo");
        let store = Store::new(Arc::new(MemoryNonceStore::single_process(1000)));
        let answers = Arc::new(MemoryAnswerStore::new(1024 * 1024));
        let builder = builder(&rail).nonce_store(store.clone()).clock(RuntimeClock::start());
        let merchant = change(builder, Arc::clone(&answers)).build().unwrap();
        let body = Arc::new(Mutex::new(whole as fn() -> Frames));
        let calls = Arc::new(AtomicUsize::new(0));
        let (told, counted) = (Arc::clone(&body), Arc::clone(&calls));
        let inner = tower::service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
            let turn = counted.fetch_add(1, Ordering::SeqCst);
            let mut response = Response::new((told.lock().unwrap())());
            response.headers_mut().insert("x-turn", turn.into());
            response.headers_mut().append("set-cookie", HeaderValue::from_static("a=1"));
            response.headers_mut().append("set-cookie", HeaderValue::from_static("b=2"));
            async { Ok::<_, Infallible>(response) }
        });
        let layer = merchant.charge(Price::usd("1.00").unwrap()).unwrap();
        let service = Service::new(layer.layer(inner));
        Self { rail, store, answers, merchant, service, body, calls }
    }

    fn answers_with(&self, body: fn() -> Frames) {
        *self.body.lock().unwrap() = body;
    }

    async fn credential(&self, path: &str, body: &'static str) -> HeaderValue {
        pay_with(&ask(&self.service, request(Method::POST, path, body)).await, None, &json!({"token": "ok"}))
    }

    fn request(credential: &HeaderValue, key: &str, body: &'static str) -> Request<Full<Bytes>> {
        let mut request = with_credential(request(Method::POST, "/a", body), credential);
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        request
    }

    async fn head(&self, credential: &HeaderValue, key: &str) -> Response<ResponseBody<Frames>> {
        self.service.clone().oneshot(Self::request(credential, key, "")).await.unwrap()
    }

    async fn send(&self, credential: &HeaderValue, key: &str) -> Whole {
        let (head, body) = self.head(credential, key).await.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned();
        Whole { status: head.status, headers: head.headers, body: body.to_bytes(), trailers }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// An answer to its last byte.
#[derive(Debug, PartialEq)]
struct Whole {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Whole {
    /// Which call of the service made it.
    fn turn(&self) -> &str {
        self.headers["x-turn"].to_str().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_comes_again_byte_for_byte() {
    for body in [whole, stream, Frames::none, || Frames::of([Bytes::from(vec![0xff; 100_000])])] {
        let shop = Shop::open();
        shop.answers_with(body);
        let credential = shop.credential("/a", "").await;
        let first = shop.send(&credential, "k").await;
        assert_eq!((first.status.as_u16(), first.turn()), (200, "0"));
        assert!(first.headers.contains_key("payment-receipt"));
        for _ in 0..3 {
            assert_eq!(shop.send(&credential, "k").await, first);
        }
        // Long after the challenge and its grace are over it is still there.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(shop.send(&credential, "k").await, first);
        assert_eq!((shop.calls(), shop.rail.attempts()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn another_request_under_the_same_key_is_422() {
    let shop = Shop::open();
    let credential = shop.credential("/a", "").await;
    assert_eq!(shop.send(&credential, "k").await.status, 200);
    let other = read(shop.service.clone().oneshot(Shop::request(&credential, "k", "other")).await.unwrap()).await;
    assert_eq!(other.status, 422, "{other:?}");
    other.assert_no_challenge();
    assert_eq!((shop.calls(), shop.rail.settlements()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn another_key_and_no_key_are_answered_as_without_the_header() {
    let shop = Shop::open();
    let credential = shop.credential("/a", "").await;
    assert_eq!(shop.send(&credential, "k").await.status, 200);
    assert_eq!(shop.send(&credential, "other").await.status, 403);
    let without = call(&shop.service, with_credential(request(Method::POST, "/a", ""), &credential)).await;
    assert_eq!(without.status, 403);
    without.assert_no_challenge();
    // Another payment is another request, whatever its key.
    let second = shop.credential("/a", "").await;
    assert_eq!(shop.send(&second, "k").await.headers["x-turn"], "1");
    assert_eq!((shop.calls(), shop.rail.settlements()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_first_that_is_still_running_is_409() {
    let shop = Shop::open();
    shop.answers_with(|| Frames::of(["first"]).hanging());
    let credential = shop.credential("/a", "").await;
    let mut running = shop.head(&credential, "k").await;
    assert_eq!(running.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    let second = shop.send(&credential, "k").await;
    assert_eq!((second.status.as_u16(), second.headers.contains_key("retry-after")), (409, true));
    assert_eq!(shop.calls(), 1);
    // It broke off after its first byte: that was a delivery, and there is no answer to give again.
    drop(running);
    shop.merchant.drain().await;
    assert_eq!(shop.send(&credential, "k").await.status, 403);
    assert_eq!((shop.calls(), shop.rail.settlements()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_kept_once_it_is_complete_and_its_last_byte_leaves_after_that() {
    let shop = Shop::open();
    shop.answers_with(stream);
    let credential = shop.credential("/a", "").await;
    let mut first = shop.head(&credential, "k").await;
    let mut got = Vec::new();
    while let Some(frame) = first.body_mut().frame().await {
        let frame = frame.unwrap();
        if frame.is_trailers() {
            // Nothing of the answer is missing now: it can be asked for again.
            assert_eq!(shop.send(&credential, "k").await.body, "data: 1\n\ndata: 2\n\n");
        } else {
            got.extend_from_slice(frame.data_ref().unwrap());
        }
    }
    assert_eq!(got, b"data: 1\n\ndata: 2\n\n");
    assert_eq!(shop.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_before_it_counts_as_delivered() {
    for body in [whole, Frames::none as fn() -> Frames] {
        for fault in [Broken::Before, Broken::After, Broken::Stuck] {
            let shop = Shop::open();
            shop.answers_with(body);
            let credential = shop.credential("/a", "").await;
            shop.store.fail(Outage { first: 0, length: 100, fault, step: Some("commit") });
            // What a process that is killed between the two steps leaves behind.
            let killed = shop.send(&credential, "k").await;
            assert_eq!(killed.status, 503, "{fault:?}");
            shop.store.heal();
            shop.merchant.drain().await;
            tokio::time::sleep(2 * LEASE).await;
            let again = shop.send(&credential, "k").await;
            assert_eq!((again.status.as_u16(), again.turn()), (200, "0"), "{fault:?}");
            assert_eq!(again.body, body().collect().await.unwrap().to_bytes());
            assert_eq!(shop.send(&credential, "k").await, again);
            assert_eq!((shop.calls(), shop.rail.settlements()), (1, 1), "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_kept_and_not_recorded_is_the_only_one() {
    for other in [Some("other"), None] {
        let shop = Shop::open();
        let credential = shop.credential("/a", "").await;
        shop.store.fail(Outage { first: 0, length: 100, fault: Broken::Before, step: Some("commit") });
        assert_eq!(shop.send(&credential, "k").await.status, 503);
        shop.merchant.drain().await;
        shop.store.heal();
        tokio::time::sleep(2 * LEASE).await;
        let mut second = Shop::request(&credential, "other", "");
        if other.is_none() {
            second.headers_mut().remove("idempotency-key");
        }
        assert_eq!(call(&shop.service, second).await.status, 403);
        assert_eq!((shop.send(&credential, "k").await.status.as_u16(), shop.calls()), (200, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_kept_and_not_recorded_is_delivered_when_nobody_comes_in_time() {
    for (policy, asked_back) in
        [(RefundPolicy::all(), false), (RefundPolicy::off(), false), (RefundPolicy::all(), true)]
    {
        let shop = Shop::with(|builder, answers| builder.answer_store(answers).refunds(policy));
        let challenge = ask(&shop.service, request(Method::POST, "/a", "")).await;
        let (id, credential) = (id_of(&challenge), pay_with(&challenge, None, &json!({"token": "ok"})));
        shop.store.fail(Outage { first: 0, length: 100, fault: Broken::Before, step: Some("commit") });
        assert_eq!(shop.send(&credential, "k").await.status, 503);
        shop.merchant.drain().await;
        shop.store.heal();
        tokio::time::sleep(Duration::from_secs(900)).await;
        if asked_back {
            // As with any payment that was delivered.
            assert_eq!(shop.merchant.refund(id).await.unwrap(), RefundStatus::Refunded);
            assert_eq!(shop.send(&credential, "k").await.status, 403);
        } else {
            let swept = shop.merchant.sweeper().sweep().await.unwrap();
            assert_eq!((swept.delivered, swept.refunded, swept.unfulfilled), (1, 0, 0));
            assert_eq!(shop.send(&credential, "k").await.turn(), "0");
        }
        assert_eq!(shop.merchant.unfulfilled(None, 10).await.unwrap(), []);
        // The journal in memory forgets by the claims of others.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        while shop.store.find(id).await.unwrap().is_some() {
            let other = shop.credential("/a", "").await;
            assert_eq!(shop.send(&other, "k").await.status, 200);
        }
        let again = shop.send(&credential, "k").await;
        assert_eq!((again.status.as_u16(), again.turn()), (200, "0"));
        assert_eq!(shop.rail.refund_attempts(), usize::from(asked_back));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_before_it_leaves_is_made_again() {
    let shop = Shop::open();
    shop.answers_with(|| Frames::of(["one "]).declared().broken());
    let credential = shop.credential("/a", "").await;
    let broken = shop.send(&credential, "k").await;
    assert_eq!(broken.status, 503);
    assert!(!broken.headers.contains_key("payment-receipt") && !broken.headers.contains_key("www-authenticate"));
    shop.merchant.drain().await;
    shop.answers_with(whole);
    let again = shop.send(&credential, "k").await;
    assert_eq!((again.status.as_u16(), again.turn()), (200, "1"));
    assert_eq!(shop.send(&credential, "k").await, again);
    assert_eq!(shop.rail.settlements(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_before_its_answer_is_complete_gets_it_later() {
    let shop = Shop::open();
    shop.answers_with(|| Frames::of(["one "]).declared().hanging());
    let credential = shop.credential("/a", "").await;
    tokio::time::timeout(Duration::from_secs(1), shop.head(&credential, "k")).await.unwrap_err();
    shop.merchant.drain().await;
    shop.answers_with(whole);
    assert_eq!(shop.send(&credential, "k").await.body, "one two");
    assert_eq!((shop.calls(), shop.rail.settlements()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_delivered_and_not_kept() {
    for body in [
        || Frames::of([Bytes::from(vec![b'x'; 2000])]).declared(),
        (|| Frames::of([Bytes::from(vec![b'x'; 2000])]).chunked()) as fn() -> Frames,
    ] {
        let shop = Shop::with(|builder, answers| builder.answer_store(answers).answer_limit(1024));
        shop.answers_with(body);
        let credential = shop.credential("/a", "").await;
        let first = shop.send(&credential, "k").await;
        assert_eq!((first.status.as_u16(), first.body.len()), (200, 2000));
        shop.merchant.drain().await;
        assert_eq!(shop.send(&credential, "k").await.status, 403);
        // What stays of it is whose it was, until the payment is forgotten.
        assert_eq!((shop.calls(), shop.answers.len()), (1, 1));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        shop.merchant.sweeper().sweep().await.unwrap();
        assert!(shop.answers.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_forgotten_in_time() {
    let shop = Shop::with(|builder, answers| builder.answer_store(answers).answer_ttl(Duration::from_secs(3600)));
    let credential = shop.credential("/a", "").await;
    assert_eq!(shop.send(&credential, "k").await.status, 200);
    tokio::time::sleep(Duration::from_secs(3599)).await;
    assert_eq!(shop.send(&credential, "k").await.status, 200);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_ne!(shop.send(&credential, "k").await.status, 200);
    shop.merchant.sweeper().sweep().await.unwrap();
    assert!(shop.answers.is_empty());
    assert_eq!(shop.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_can_be_encrypted() {
    let keys = || AnswerKeys::new([7; 32]);
    let shop = Shop::with(|builder, answers| builder.answer_store(EncryptedAnswers::new(answers, keys())));
    let credential = shop.credential("/a", "").await;
    let first = shop.send(&credential, "k").await;
    assert_eq!(shop.send(&credential, "k").await, first);
    assert_eq!(shop.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_none_is_400_before_anything_is_charged() {
    let shop = Shop::open();
    let credential = shop.credential("/a", "").await;
    let long = "k".repeat(256);
    for key in ["", "\"\"", &long, "caf\u{e9}"] {
        let mut bad = with_credential(request(Method::POST, "/a", ""), &credential);
        bad.headers_mut().insert("idempotency-key", HeaderValue::from_bytes(key.as_bytes()).unwrap());
        let answer = call(&shop.service, bad).await;
        assert_eq!(answer.status, 400, "{key}");
        answer.assert_no_challenge();
    }
    let mut two = Shop::request(&credential, "a", "");
    two.headers_mut().append("idempotency-key", HeaderValue::from_static("b"));
    assert_eq!(call(&shop.service, two).await.status, 400);
    assert_eq!(shop.rail.attempts(), 0);
    assert_eq!(shop.send(&credential, "k").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn without_a_store_the_header_is_ignored() {
    let shop = Shop::with(|builder, _| builder);
    let credential = shop.credential("/a", "").await;
    assert_eq!(shop.send(&credential, "k").await.status, 200);
    assert_eq!(shop.send(&credential, "k").await.status, 403);
}

#[tokio::test(start_paused = true)]
async fn a_failed_answer_is_not_kept_and_what_follows_it_is() {
    let shop = Shop::open();
    shop.answers_with(|| Frames::of(["x"]).declared());
    let credential = shop.credential("/a", "").await;
    shop.store.fail(Outage { first: 0, length: 1, fault: Broken::Before, step: Some("settle") });
    // The journal is asked again: it settles all the same.
    assert_eq!(shop.send(&credential, "k").await.status, 200);
    assert_eq!(shop.send(&credential, "k").await.body, "x");
    assert_eq!((shop.calls(), shop.rail.settlements()), (1, 1));
}
