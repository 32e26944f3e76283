//! A layer that behaves as Tower services expect of each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    cell::Cell,
    convert::Infallible,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, routing};
use bytes::{Bytes, BytesMut};
use futures_util::{future::BoxFuture, poll};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use support::*;
use tokio::time::timeout;
use tower::{
    BoxError, ServiceBuilder, ServiceExt as _,
    limit::{ConcurrencyLimit, ConcurrencyLimitLayer},
    service_fn,
};
use tower_layer::Layer as _;
use tower_mpp::{
    Merchant, Payment, PaymentInfo, PaymentLayer, Price, Refusal, RequestBody, ResponseBody, ResponseFuture, pricing,
};
use tower_service::Service;

type Whole = Full<Bytes>;

fn price() -> Price {
    Price::usd("1.00").unwrap()
}

fn charge(rail: &TestRail) -> PaymentLayer {
    merchant(rail).charge(price()).unwrap()
}

fn ok() -> serde_json::Value {
    json!({"token": "ok"})
}

/// Asks a service of any error for a challenge, and pays it.
async fn credential<S, R>(service: &S, path: &str) -> HeaderValue
where
    S: Service<Request<Whole>, Response = Response<R>> + Clone,
    S::Error: std::fmt::Debug,
{
    let answer = service.clone().oneshot(get(path)).await.unwrap();
    pay_with(&challenge(answer.headers()), None, &ok())
}

/// Panics when it is called without having been polled ready: itself, and not a clone of it.
#[derive(Default)]
struct Strict {
    ready: bool,
    calls: Arc<AtomicUsize>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false, calls: Arc::clone(&self.calls) }
    }
}

impl Service<Request<RequestBody<Whole>>> for Strict {
    type Response = Response<Whole>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Whole>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<RequestBody<Whole>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been ready");
        self.calls.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(Response::new(Full::from("served"))))
    }
}

#[tokio::test]
async fn the_instance_that_was_ready_is_the_one_that_is_called() {
    let rail = TestRail::new("demo").yielding(YIELDS);
    let merchant = merchant(&rail);
    let by_body = |_: &http::request::Parts, body: &Bytes| (!body.is_empty()).then(price);
    let layers = [
        merchant.charge(price()).unwrap().free_when(|head| head.uri.path() == "/free"),
        merchant.charge(|head: &http::request::Parts| (head.uri.path() != "/free").then(price)).unwrap(),
        merchant.charge(pricing::with_body(by_body)).unwrap(),
        merchant.charge(pricing::with_async(move |head, body| std::future::ready(by_body(head, body)))).unwrap(),
    ];
    for layer in layers {
        let strict = Strict::default();
        let calls = Arc::clone(&strict.calls);
        let mut service = layer.layer(strict);
        let post = || request(http::Method::POST, "/paid", "a body");
        for round in 1..=3 {
            // One instance over and over, as one connection may use it, and a clone of it in between.
            let answer = service.ready().await.unwrap().call(get("/free")).await.unwrap();
            assert_eq!(answer.status(), 200);
            let answer = service.ready().await.unwrap().call(post()).await.unwrap();
            assert_eq!(answer.status(), 402);
            let credential = pay_with(&challenge(answer.headers()), None, &ok());
            let mut clone = service.clone();
            for service in [&mut service, &mut clone] {
                let paid = service.ready().await.unwrap().call(with_credential(post(), &credential)).await.unwrap();
                assert!(matches!(paid.status().as_u16(), 200 | 403));
            }
            assert_eq!(calls.load(Ordering::SeqCst), 2 * round);
        }
    }
}

/// Ready when it is told so.
#[derive(Clone, Default)]
struct Gated {
    open: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
}

impl Service<Request<RequestBody<Whole>>> for Gated {
    type Response = Response<Whole>;
    type Error = io::Error;
    type Future = std::future::Ready<Result<Response<Whole>, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        match (self.broken.load(Ordering::SeqCst), self.open.load(Ordering::SeqCst)) {
            (true, _) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            (false, true) => Poll::Ready(Ok(())),
            (false, false) => Poll::Pending,
        }
    }

    fn call(&mut self, _: Request<RequestBody<Whole>>) -> Self::Future {
        std::future::ready(Ok(Response::new(Full::from("served"))))
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_inner_service() {
    let gated = Gated::default();
    let mut service = charge(&TestRail::new("demo")).layer(gated.clone());
    assert!(poll!(pin!(service.ready())).is_pending());
    gated.open.store(true, Ordering::SeqCst);
    assert!(matches!(poll!(pin!(service.ready())), Poll::Ready(Ok(_))));
    gated.broken.store(true, Ordering::SeqCst);
    let error: io::Error = service.ready().await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

#[tokio::test]
async fn a_place_in_a_limit_is_given_back_in_every_way_a_request_can_end() {
    let rail = TestRail::new("demo").yielding(YIELDS);
    let limit = || ConcurrencyLimit::new(served::<Whole>(), 1);
    let mut service = charge(&rail).layer(limit());
    let soon = async |service: &mut Payment<ConcurrencyLimit<Handler<Whole>>>, request: Request<Whole>| {
        let ready = timeout(Duration::from_secs(5), service.ready()).await.expect("no place");
        ready.unwrap().call(request).await.unwrap()
    };
    for _ in 0..3 {
        let answer = soon(&mut service, get("/")).await;
        let credential = pay_with(&challenge(answer.headers()), None, &ok());
        assert_eq!(soon(&mut service, get_paid("/", &credential)).await.status(), 200);
        assert_eq!(soon(&mut service, get_paid("/", &credential)).await.status(), 403);
        // Hung up while the money moves.
        let credential = pay_with(&challenge(soon(&mut service, get("/")).await.headers()), None, &ok());
        let mut hung = Box::pin(service.ready().await.unwrap().call(get_paid("/", &credential)));
        assert!(poll!(hung.as_mut()).is_pending());
        drop(hung);
        // A body that breaks off.
        let broken = charge(&rail).layer(ConcurrencyLimit::new(served::<Frames>(), 1));
        let post = |body: Frames| Request::post("/").body(body).unwrap();
        for _ in 0..2 {
            assert_eq!(call(&broken, post(Frames::of(["x"]).broken())).await.status, 400);
            assert_eq!(call(&broken, post(Frames::of(["x"]))).await.status, 402);
        }
    }
    // A payment that is at work has the place; the next one waits for it.
    let slow = ConcurrencyLimit::new(
        service_fn(async |_: Request<RequestBody<Whole>>| {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, Infallible>(Response::new(Whole::from("served")))
        }),
        1,
    );
    let mut service = charge(&rail).layer(slow);
    let paid = get_paid("/", &credential(&service, "/").await);
    let first = service.ready().await.unwrap().call(paid);
    let mut second = service.clone();
    assert!(poll!(pin!(second.ready())).is_pending());
    assert_eq!(first.await.unwrap().status(), 200);
    second.ready().await.unwrap();
}

#[tokio::test]
async fn errors_pass_through_and_the_payment_is_good_again() {
    let rail = TestRail::new("demo");
    let merchant = merchant(&rail);
    let first = Arc::new(AtomicBool::new(true));
    let mut service = merchant.charge(price()).unwrap().layer(service_fn(move |_: Request<RequestBody<Whole>>| {
        let fails = first.swap(false, Ordering::SeqCst);
        async move {
            match fails {
                true => Err(io::Error::new(io::ErrorKind::BrokenPipe, "of the handler")),
                false => Ok(Response::new(Whole::from("served"))),
            }
        }
    }));
    let credential = credential(&service, "/").await;
    let mut failed = Box::pin(service.ready().await.unwrap().call(get_paid("/", &credential)));
    let error: io::Error = failed.as_mut().await.err().unwrap();
    assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::BrokenPipe, "of the handler"));
    // Also while somebody still holds the future that has ended.
    timeout(Duration::from_secs(5), merchant.drain()).await.expect("the lease is given back");
    assert_eq!(call(&service, get_paid("/", &credential)).await.status, 200);
    assert_eq!(rail.settlements(), 1);
    drop(failed);
    merchant.drain().await;
    assert_eq!(call(&service, get_paid("/", &credential)).await.status, 403);
}

/// Panics at one place, the first time.
#[derive(Clone)]
struct Panics {
    at: &'static str,
    first: Arc<AtomicBool>,
}

impl Service<Request<RequestBody<Whole>>> for Panics {
    type Response = Response<PanickingBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<PanickingBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<RequestBody<Whole>>) -> Self::Future {
        let at = if self.first.swap(false, Ordering::SeqCst) { self.at } else { "" };
        assert_ne!(at, "call");
        Box::pin(async move {
            assert_ne!(at, "poll");
            tokio::task::yield_now().await;
            assert_ne!(at, "later");
            Ok(Response::new(PanickingBody { panics: at == "body", inner: Full::from("served") }))
        })
    }
}

struct PanickingBody {
    panics: bool,
    inner: Whole,
}

impl Body for PanickingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        assert!(!self.panics);
        Pin::new(&mut self.inner).poll_frame(cx)
    }
}

#[tokio::test]
async fn a_handler_that_panics_costs_the_payer_nothing() {
    for at in ["call", "poll", "later", "body"] {
        for yields in [0, YIELDS] {
            let rail = TestRail::new("demo").yielding(yields);
            let merchant = merchant(&rail);
            let panics = Panics { at, first: Arc::new(AtomicBool::new(true)) };
            let service = merchant.charge(price()).unwrap().layer(panics);
            let credential = credential(&service, "/").await;
            let request = get_paid("/", &credential);
            let first = {
                let service = service.clone();
                tokio::spawn(async move { call(&service, request).await }).await
            };
            assert!(first.unwrap_err().is_panic());
            merchant.drain().await;
            assert_eq!(call(&service, get_paid("/", &credential)).await.status, 200, "{at}");
            assert_eq!(rail.settlements(), 1);
            assert_eq!(call(&service, get_paid("/", &credential)).await.status, 403, "{at}");
        }
    }
}

#[tokio::test]
async fn a_handler_that_panics_behind_a_socket_ends_one_exchange() {
    let rail = TestRail::new("demo");
    let merchant = merchant(&rail);
    let first = Arc::new(AtomicBool::new(true));
    let handler = move || {
        let panics = first.swap(false, Ordering::SeqCst);
        async move {
            assert!(!panics);
            "served"
        }
    };
    let charge = merchant.charge(price()).unwrap();
    let server = Server::start(Router::new().route("/", routing::get(handler).route_layer(charge))).await;
    let credential = pay_with(&challenge(&server.get("/").await.headers), None, &ok());
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http::<Whole>();
    let request = get_paid(&format!("http://{}/", server.address), &credential);
    assert!(client.request(request).await.is_err());
    merchant.drain().await;
    assert_eq!(server.get_paid("/", &credential).await.text(), "served");
    assert_eq!(rail.settlements(), 1);
}

/// A body that must stay on its thread.
struct LocalBody(Rc<Cell<Option<&'static str>>>);

impl Body for LocalBody {
    type Data = Bytes;
    type Error = Rc<str>;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rc<str>>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

fn local_body(text: &'static str) -> LocalBody {
    LocalBody(Rc::new(Cell::new(Some(text))))
}

#[tokio::test]
async fn nothing_has_to_be_send_or_static() {
    // The handler borrows from this very function, its future holds an `Rc`, and so do both bodies and
    // its error.
    let counter = Cell::new(0);
    let counter = &counter;
    let rail = TestRail::new("demo").yielding(YIELDS);
    let handler = service_fn(|request: Request<RequestBody<LocalBody>>| async move {
        let kept = Rc::new(());
        tokio::task::yield_now().await;
        counter.set(counter.get() + 1);
        let Ok(body) = request.into_body().collect().await else { return Err(Rc::new(())) };
        assert_eq!(body.to_bytes(), "local");
        drop(kept);
        Ok(Response::new(local_body("served")))
    });
    let post = || Request::post("/").body(local_body("local")).unwrap();
    for layer in [charge(&rail), charge(&rail).bind_body(false)] {
        let service = layer.layer(handler);
        let answer = service.clone().oneshot(post()).await.unwrap();
        let credential = pay_with(&challenge(answer.headers()), None, &ok());
        let paid = service.oneshot(with_credential(post(), &credential)).await.unwrap();
        assert_eq!(paid.into_body().collect().await.unwrap().to_bytes(), "served");
    }
    assert_eq!(counter.get(), 2);
}

#[tokio::test]
async fn a_task_of_one_thread_can_pay() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let rail = TestRail::new("demo").yielding(YIELDS);
            let handler = service_fn(|_: Request<RequestBody<LocalBody>>| async {
                let kept = Rc::new("served");
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(Response::new(local_body(*kept)))
            });
            let service = charge(&rail).layer(handler);
            tokio::task::spawn_local(async move {
                let post = || Request::post("/").body(local_body("local")).unwrap();
                let answer = service.clone().oneshot(post()).await.unwrap();
                let credential = pay_with(&challenge(answer.headers()), None, &ok());
                let paid = service.oneshot(with_credential(post(), &credential)).await.unwrap();
                assert_eq!(paid.status(), 200);
            })
            .await
            .unwrap();
        })
        .await;
}

#[tokio::test]
async fn an_answer_may_have_any_data_that_bytes_become() {
    let rail = TestRail::new("demo");
    let service = charge(&rail).layer(service_fn(|_: Request<RequestBody<Whole>>| async {
        Ok::<_, Infallible>(Response::new(Full::<BytesMut>::new(BytesMut::from("served"))))
    }));
    let credential = credential(&service, "/").await;
    let paid = service.oneshot(get_paid("/", &credential)).await.unwrap();
    assert_eq!(paid.into_body().collect().await.unwrap().to_bytes(), "served");
}

#[test]
fn auto_traits_flow_through() {
    fn all<T: Send + Sync + Unpin + 'static>() {}
    fn send<T: Send + 'static>() {}
    fn clone<T: Clone>() {}
    all::<Merchant>();
    all::<PaymentLayer>();
    all::<PaymentInfo>();
    all::<Refusal>();
    all::<Payment<Strict>>();
    all::<RequestBody<Whole>>();
    all::<ResponseBody<Whole>>();
    all::<ResponseBody<Frames>>();
    send::<ResponseFuture<Strict, Whole>>();
    send::<ResponseBody<axum::body::Body>>();
    send::<RequestBody<axum::body::Body>>();
    send::<ResponseFuture<Handler<Frames>, Frames>>();
    clone::<Merchant>();
    clone::<PaymentLayer>();
    clone::<Payment<Strict>>();
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_that_ends_a_settlement_loses_nothing() {
    let rail = TestRail::new("demo").delay(Duration::from_secs(10));
    let merchant = merchant(&rail);
    let service = ServiceBuilder::new()
        .timeout(Duration::from_secs(1))
        .layer(merchant.charge(price()).unwrap())
        .service(served::<Whole>());
    let credential = credential(&service, "/").await;
    let error: BoxError = service.clone().oneshot(get_paid("/", &credential)).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>());
    assert_eq!(rail.settlements(), 0);
    // The money is still on its way.
    let again = service.clone().oneshot(get_paid("/", &credential)).await.unwrap();
    assert_eq!(again.status(), StatusCode::CONFLICT);
    merchant.drain().await;
    assert_eq!(rail.settlements(), 1);
    let again = service.clone().oneshot(get_paid("/", &credential)).await.unwrap();
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!((rail.settlements(), rail.attempts()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_the_handler_leaves_the_payment_good() {
    let rail = TestRail::new("demo");
    let merchant = merchant(&rail);
    let first = Arc::new(AtomicBool::new(true));
    let handler = service_fn(move |_: Request<RequestBody<Whole>>| {
        let slow = first.swap(false, Ordering::SeqCst);
        async move {
            tokio::time::sleep(Duration::from_secs(if slow { 100 } else { 0 })).await;
            Ok::<_, Infallible>(Response::new(Whole::from("served")))
        }
    });
    // Outside and inside of the payment.
    let inside = ServiceBuilder::new()
        .layer(merchant.charge(price()).unwrap())
        .timeout(Duration::from_secs(30))
        .service(handler.clone());
    let credential = credential(&inside, "/").await;
    assert!(inside.clone().oneshot(get_paid("/", &credential)).await.is_err());
    merchant.drain().await;
    let again = inside.oneshot(get_paid("/", &credential)).await.unwrap();
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(rail.settlements(), 1);
}

#[tokio::test]
async fn it_goes_together_with_limits_and_buffers_in_any_order() {
    let rail = TestRail::new("demo").yielding(YIELDS);
    let merchant = merchant(&rail);
    let charge = || merchant.charge(price()).unwrap();
    let limit = || ConcurrencyLimitLayer::new(2);
    let boxed = |response: Response<ResponseBody<Whole>>| response.map(BodyExt::boxed);
    // A buffer inside or outside, a limit inside or outside.
    let services: [tower::util::BoxCloneService<_, Response<_>, BoxError>; 3] = [
        tower::util::BoxCloneService::new(
            ServiceBuilder::new()
                .map_response(boxed)
                .buffer(4)
                .layer(limit())
                .rate_limit(1000, Duration::from_secs(1))
                .layer(charge())
                .service(served::<Whole>()),
        ),
        tower::util::BoxCloneService::new(
            ServiceBuilder::new()
                .map_response(boxed)
                .layer(charge())
                .layer(limit())
                .buffer(4)
                .service(served::<Whole>()),
        ),
        tower::util::BoxCloneService::new(
            ServiceBuilder::new()
                .map_response(boxed)
                .map_err(BoxError::from)
                .layer(limit())
                .layer(charge())
                .service(served::<Whole>()),
        ),
    ];
    for (index, service) in services.into_iter().enumerate() {
        let credential = credential(&service, "/").await;
        let racers: Vec<_> =
            (0..20).map(|_| tokio::spawn(service.clone().oneshot(get_paid("/", &credential)))).collect();
        let mut served = 0;
        for racer in racers {
            let answer = timeout(Duration::from_secs(10), racer).await.expect("no deadlock").unwrap().unwrap();
            assert!(matches!(answer.status().as_u16(), 200 | 403 | 409));
            served += usize::from(answer.status() == 200);
            // A limit outside holds its place until the answer has been read.
            answer.into_body().collect().await.unwrap();
        }
        assert_eq!((served, rail.settlements()), (1, index + 1));
    }
}

#[tokio::test]
async fn what_others_put_into_requests_and_answers_stays() {
    #[derive(Clone, Debug, PartialEq)]
    struct Mark(&'static str);
    let rail = TestRail::new("demo").yielding(YIELDS);
    let layer = charge(&rail).free_when(|head| head.uri.path() == "/free");
    let service = layer.layer(service_fn(|request: Request<RequestBody<Whole>>| async move {
        assert_eq!(request.extensions().get(), Some(&Mark("outside")));
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.headers()["x-mark"], "1");
        assert_eq!(request.uri().query(), Some("q=1"));
        let mut response = Response::new(Whole::from("served"));
        response.extensions_mut().insert(Mark("inside"));
        response.headers_mut().append("x-mark", HeaderValue::from_static("2"));
        response.headers_mut().append("x-mark", HeaderValue::from_static("3"));
        *response.version_mut() = Version::HTTP_2;
        Ok::<_, Infallible>(response)
    }));
    let request = |path: &str| {
        let mut request = get(path);
        request.extensions_mut().insert(Mark("outside"));
        request.headers_mut().insert("x-mark", HeaderValue::from_static("1"));
        *request.version_mut() = Version::HTTP_2;
        request
    };
    let credential = credential(&service, "/paid?q=1").await;
    for path in ["/paid?q=1", "/free?q=1"] {
        let answer = service.clone().oneshot(with_credential(request(path), &credential)).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
        assert_eq!(answer.extensions().get(), Some(&Mark("inside")));
        assert_eq!(answer.headers().get_all("x-mark").iter().collect::<Vec<_>>(), ["2", "3"]);
    }
}

#[tokio::test]
async fn a_future_that_is_polled_after_its_end_does_not_panic() {
    let mut service = charge(&TestRail::new("demo")).layer(served::<Whole>());
    let mut answer = pin!(service.ready().await.unwrap().call(get("/")));
    assert_eq!(answer.as_mut().await.unwrap().status(), 402);
    assert!(poll!(answer.as_mut()).is_pending());
}
