//! What passes: heads, bodies, trailers, redirects, and the end of a client's interest.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, routing::any};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::{
    io::AsyncReadExt as _,
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tower::ServiceExt as _;
use tower_mpp::{
    receipt::{Attribution, Provider as Wire},
    refund::ProviderCall,
    upstream::{Body, BoxError, HttpUpstream, MountedAt, Report, ServiceUpstream, Stage, UpstreamService},
};

use crate::{
    provider::{PATIENCE, Provider},
    shop::{Shop, client, quick, service},
    support::Frames,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn ask(service: &UpstreamService, request: Request<Body>) -> Response<Body> {
    timeout(PATIENCE, service.clone().oneshot(request)).await.expect("an answer in time").unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_no_key_reaches_another_origin() {
    let other = Provider::keeping(OK).await;
    let location = format!("HTTP/1.1 307 x\r\ncontent-length: 0\r\nlocation: {}/steal\r\n\r\n", other.url());
    let redirecting = Provider::keeping(location.leak()).await;
    let upstream = quick(redirecting.url()).header("authorization", "Bearer sk-merchant");
    let shop = Shop::open(service(upstream)).await;
    let paid = shop.buy("/paid/a").await;
    assert_eq!((paid.status.as_u16(), paid.outcome()), (307, Some("redeliverable")));
    // It is the same host under another port: an address that is nobody's business.
    assert!(!paid.headers.contains_key("location"), "{paid:?}");
    assert!(redirecting.heads()[0].contains("authorization: Bearer sk-merchant\r\n"));
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn redirects_within_the_upstream_come_back_under_the_mount() {
    let provider = Provider::keeping("HTTP/1.1 302 x\r\ncontent-length: 0\r\nlocation: /base/b?c\r\n\r\n").await;
    let upstream = service(quick(format!("{}/base/", provider.url())));
    let mut request = get("/a?q=%20");
    request.extensions_mut().insert(MountedAt("/svc".into()));
    assert_eq!(ask(&upstream, request).await.headers()["location"], "/svc/b?c");
    assert_eq!(ask(&upstream, get("/a")).await.headers()["location"], "/b?c");
    assert!(provider.heads()[0].starts_with("GET /base/a?q=%20 HTTP/1.1\r\n"), "{:?}", provider.heads());
}

#[tokio::test]
async fn credentials_of_clients_stay_here_and_those_of_the_merchant_go_there() {
    let provider = Provider::keeping(OK).await;
    let upstream = service(quick(provider.url()).header("x-api-key", "sk-merchant").remove_header("x-debug"));
    let mut request = get("/a");
    for (name, value) in [
        ("authorization", "Payment e30"),
        ("x-api-key", "sk-client"),
        ("x-goog-api-key", "client"),
        ("cookie", "client=1"),
        ("anthropic-organization", "org-client"),
        ("payment-signature", "client"),
        ("x-payment-method", "client"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-debug", "client"),
        ("te", "trailers"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-request-id", "kept"),
        ("anthropic-version", "2023-06-01"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    assert_eq!(ask(&upstream, request).await.status(), 200);
    let head = provider.heads()[0].clone();
    assert!(head.contains("x-api-key: sk-merchant\r\n"), "{head}");
    assert!(!head.contains("client") && !head.contains("Payment") && !head.contains("1.2.3.4"), "{head}");
    for kept in ["traceparent: 00-", "x-request-id: kept", "anthropic-version: 2023-06-01"] {
        assert!(head.contains(kept), "{head}");
    }
    assert!(!format!("{upstream:?}").contains("sk-merchant"));
}

#[tokio::test]
async fn trailers_pass_both_ways_and_forge_nothing() {
    let provider = Provider::start(|mut peer| async move {
        let head = peer.head().await.unwrap();
        assert!(head.contains("trailer: x-checksum\r\n") && head.contains("transfer-encoding: chunked"), "{head}");
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            body.push(peer.stream.read_u8().await.unwrap());
        }
        assert_eq!(String::from_utf8(body).unwrap(), "5\r\nhello\r\n0\r\nx-checksum: sent\r\n\r\n");
        peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: X-Checksum, payment-receipt\r\n\r\n")
            .await;
        peer.write("5\r\nworld\r\n0\r\nx-checksum: back\r\npayment-receipt: forged\r\nset-cookie: a=b\r\n\r\n").await;
        peer.closed().await;
    })
    .await;
    let upstream = service(quick(provider.url()));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "sent".parse().unwrap());
    trailers.insert("authorization", "Bearer client".parse().unwrap());
    let body = Full::new(Bytes::from("hello")).with_trailers(async { Some(Ok::<_, Infallible>(trailers)) });
    let mut request = Request::post("/a").body(Body::new(body)).unwrap();
    request.headers_mut().insert("trailer", "X-Checksum, Authorization".parse().unwrap());
    let answer = ask(&upstream, request).await;
    assert_eq!(answer.headers()["trailer"], "x-checksum");
    let whole = answer.into_body().collect().await.unwrap();
    let trailers = whole.trailers().unwrap().clone();
    assert_eq!((trailers.len(), &trailers["x-checksum"]), (1, &"back".parse().unwrap()));
    assert_eq!(whole.to_bytes(), "world");
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_call() {
    for answer in ["", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"] {
        let closed = Arc::new(Notify::new());
        let tell = Arc::clone(&closed);
        let provider = Provider::start(move |mut peer| {
            let tell = Arc::clone(&tell);
            async move {
                peer.head().await;
                if peer.turn > 0 {
                    peer.write(OK).await;
                    return;
                }
                peer.write(answer).await;
                peer.closed().await;
                tell.notify_one();
            }
        })
        .await;
        let patient = |limit| Duration::from_secs(limit);
        let shop =
            Shop::open(service(quick(provider.url()).first_byte_timeout(patient(60)).idle_timeout(patient(60)))).await;
        let credential = shop.credential("/paid/a").await;
        let request = Request::get(shop.url("/paid/a")).header("authorization", &credential);
        let client = client();
        let call = client.request(request.body(Empty::<Bytes>::new()).unwrap());
        if answer.is_empty() {
            let call = tokio::spawn(call);
            while provider.heads().is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
            call.abort();
        } else {
            let mut body = call.await.unwrap().into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        }
        timeout(PATIENCE, closed.notified()).await.expect("the provider sees the end");
        assert_eq!(shop.rail.settlements(), 1);
        // What had not begun to be delivered can be had again; what had, was.
        if answer.is_empty() {
            let again = shop.redeemed("/paid/a", &credential).await;
            assert_eq!((again.status.as_u16(), again.text()), (200, "ok"));
            again.receipt();
        } else {
            assert!(shop.is_spent("/paid/a", &credential).await);
        }
        assert_eq!((shop.rail.settlements(), shop.rail.refunds()), (1, 0));
    }
}

#[tokio::test]
async fn the_report_tells_how_far_a_call_came() {
    let (step, mut steps) = mpsc::channel::<&str>(1);
    let steps = Arc::new(tokio::sync::Mutex::new(Some({
        step.send("").await.unwrap();
        steps.recv().await;
        steps
    })));
    let provider = Provider::start(move |mut peer| {
        let steps = Arc::clone(&steps);
        async move {
            peer.head().await;
            let mut steps = steps.lock().await.take().unwrap();
            while let Some(text) = steps.recv().await {
                peer.write(text).await;
            }
        }
    })
    .await;
    let upstream = service(quick(provider.url()).first_byte_timeout(PATIENCE).provider(Wire::OpenAi));
    let attribution = Attribution::new();
    let report = Report::new(attribution.clone());
    let mut request = get("/a");
    request.extensions_mut().insert(report.clone());
    assert_eq!(report.stage(), Stage::NotStarted);
    let call = tokio::spawn({
        let upstream = upstream.clone();
        async move { ask(&upstream, request).await }
    });
    while provider.heads().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(report.stage(), Stage::Started);
    step.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
    let answer = call.await.unwrap();
    assert_eq!(answer.extensions().get::<ProviderCall>(), Some(&ProviderCall::Started));
    assert_eq!(report.stage(), Stage::Started);
    let mut body = answer.into_body();
    step.send("ab").await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
    assert_eq!(report.stage(), Stage::FirstByte);
    step.send("cd").await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "cd");
    assert_eq!(report.stage(), Stage::Finished, "nobody need ask for a frame behind the last");
    let said = attribution.body();
    assert_eq!((said.provider, said.provider_status), (Some(Wire::OpenAi), Some(200)));
}

#[tokio::test]
async fn any_tower_service_is_an_upstream() {
    let router = Router::new().fallback(any(|request: axum::extract::Request| async move {
        assert!(!request.headers().contains_key("authorization"));
        let mut response = axum::response::IntoResponse::into_response((
            StatusCode::GATEWAY_TIMEOUT,
            [("set-cookie", "a=b"), ("payment-receipt", "forged"), ("x-kept", "1")],
            format!("{} {}", request.method(), request.uri().path()),
        ));
        response.extensions_mut().insert(ProviderCall::SideEffect);
        response
    }));
    let shop = Shop::open(UpstreamService::of_service(router.clone())).await;
    let paid = shop.buy("/paid/tea").await;
    assert_eq!((paid.status.as_u16(), paid.text()), (504, "GET /tea"));
    assert!(paid.headers.contains_key("x-kept") && !paid.headers.contains_key("set-cookie"));
    assert!(!paid.headers.contains_key("payment-receipt"));
    // What the service says about itself stands: another 504 would be given back, and this one is not.
    assert_eq!((paid.outcome(), shop.rail.refunds()), (Some("redeliverable"), 0), "{paid:?}");
    let answer = ask(&UpstreamService::of_service(router), get("/x")).await;
    assert_eq!(text(answer).await, "GET /x");
}

#[tokio::test]
async fn a_service_that_is_not_ready_was_not_asked() {
    #[derive(Clone)]
    struct Never;
    impl tower_service::Service<Request<Body>> for Never {
        type Response = Response<Body>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Response<Body>, BoxError>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Err("closed".into()))
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            panic!("it was not ready")
        }
    }
    let shop = Shop::open(UpstreamService::new(ServiceUpstream::new("never", Never))).await;
    let paid = shop.buy("/paid/a").await;
    assert_eq!((paid.status.as_u16(), paid.outcome()), (502, Some("refunded")));

    let failing = tower::service_fn(|_: Request<Body>| async { Err::<Response<Body>, BoxError>("broken".into()) });
    let shop = Shop::open(UpstreamService::of_service(failing)).await;
    let paid = shop.buy("/paid/a").await;
    assert_eq!((paid.status.as_u16(), paid.outcome()), (502, Some("redeliverable")), "it was asked");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_cut_wherever_it_is_found_out() {
    let provider = Provider::start(|mut peer| async move {
        peer.head().await;
        peer.closed().await;
    })
    .await;
    let upstream = service(quick(provider.url())).body_limit(10);
    let declared = Request::post("/a").body(Body::from("more than ten bytes")).unwrap();
    let answer = ask(&upstream, declared).await;
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.extensions().get::<ProviderCall>(), Some(&ProviderCall::NotStarted));
    assert_eq!(provider.connections(), 0);
    let streamed = Frames::of(["seven..", "seven.."]).chunked().waiting();
    let answer = ask(&upstream, Request::post("/a").body(Body::new(streamed)).unwrap()).await;
    assert_eq!(answer.status(), 413);
    assert!(text(answer).await.contains("too large"));
    // Also when the upstream puts it otherwise.
    let reading = tower::service_fn(|request: Request<Body>| async {
        request.into_body().collect().await.map_err(|_| BoxError::from("something went wrong"))?;
        Ok::<_, BoxError>(Response::new(Body::empty()))
    });
    let upstream = UpstreamService::of_service(reading).body_limit(10);
    let streamed = Frames::of(["seven..", "seven.."]).chunked();
    assert_eq!(ask(&upstream, Request::post("/a").body(Body::new(streamed)).unwrap()).await.status(), 413);
}

#[tokio::test]
async fn a_client_that_breaks_off_or_stops_is_not_the_providers_fault() {
    let provider = Provider::start(|mut peer| async move {
        peer.head().await;
        peer.closed().await;
    })
    .await;
    let upstream = service(quick(provider.url()));
    for body in [Frames::of(["begun"]).chunked().broken(), Frames::of(["begun"]).chunked().hanging()] {
        let answer = ask(&upstream, Request::post("/a").body(Body::new(body)).unwrap()).await;
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.extensions().get::<ProviderCall>(), Some(&ProviderCall::Started));
    }
}

#[tokio::test]
async fn a_slow_upload_is_not_a_slow_provider() {
    let provider = Provider::start(|mut peer| async move {
        peer.head().await;
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(peer.stream.read_u8().await.unwrap());
        }
        peer.write(OK).await;
    })
    .await;
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let data = receiver.recv().await?;
        Some((Ok::<_, Infallible>(http_body::Frame::data(data)), receiver))
    });
    let body = Body::new(http_body_util::StreamBody::new(futures_util::StreamExt::boxed(frames)));
    let upstream = service(quick(provider.url()));
    let call = tokio::spawn(async move { ask(&upstream, Request::post("/a").body(body).unwrap()).await.status() });
    // Longer in all than the first byte may take, but it moves.
    for _ in 0..5 {
        sleep(Duration::from_millis(200)).await;
        sender.send("piece".into()).await.unwrap();
    }
    drop(sender);
    assert_eq!(call.await.unwrap(), 200);
}

#[tokio::test]
async fn what_would_be_another_resource_or_an_echo_of_our_key_is_not_passed_on() {
    let provider = Provider::keeping(OK).await;
    let upstream = service(quick(provider.url()).header("x-api-key", "sk-merchant"));
    for path in ["/free/../admin", "/free/%2e%2e/admin", "/a%5c..%5cb", "/a;/..;/b"] {
        let answer = ask(&upstream, get(path)).await;
        assert_eq!(answer.status(), 400, "{path}");
        assert_eq!(answer.extensions().get::<ProviderCall>(), Some(&ProviderCall::NotStarted));
    }
    for method in [Method::TRACE, Method::CONNECT] {
        let request = Request::builder().method(method).uri("/a").body(Body::empty()).unwrap();
        assert_eq!(ask(&upstream, request).await.status(), 501);
    }
    assert_eq!(provider.connections(), 0);
}

#[test]
fn what_cannot_be_an_upstream_is_named() {
    let build = |url: &str| HttpUpstream::builder(url);
    let long = Duration::from_secs(25 * 60 * 60);
    for (builder, field) in [
        (build("example.com"), "base_url"),
        (build("https://user:secret@example.com"), "base_url"),
        (build("https://example.com/?key=secret"), "base_url"),
        (build("https://example.com/#x"), "base_url"),
        (build("ftp://example.com"), "base_url"),
        (build("http://x").header("a b", "secret"), "header \"a b\""),
        (build("http://x").header("x-api-key", "secret\r\n"), "header x-api-key"),
        (build("http://x").header("payment-receipt", "secret"), "header payment-receipt"),
        (build("http://x").header("host", "secret"), "header host"),
        (build("http://x").remove_header("a b"), "remove_header \"a b\""),
        (build("http://x").connect_timeout(Duration::ZERO), "connect_timeout"),
        (build("http://x").first_byte_timeout(long), "first_byte_timeout"),
        (build("http://x").idle_timeout(Duration::MAX), "idle_timeout"),
        (build("http://x").max_calls(0), "max_calls"),
        (build("http://x").max_attempts(0), "max_attempts"),
    ] {
        assert!(!format!("{builder:?}").contains("secret"));
        let error = builder.build().unwrap_err();
        assert_eq!(error.field(), field, "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let with_key = |url: &str| build(url).header("x-api-key", "secret").build().unwrap();
    assert!(with_key("http://api.example.com").leaks_secrets());
    assert!(!with_key("https://api.example.com").leaks_secrets());
    assert!(!with_key("http://127.0.0.1:1").leaks_secrets());
    assert!(!build("http://api.example.com").build().unwrap().leaks_secrets());
}
