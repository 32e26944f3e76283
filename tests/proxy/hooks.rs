//! What a merchant does to requests and answers on their way.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use http::{HeaderValue, Method, Request, Response, Uri};
use tower_mpp::{
    proxy::{Context, EndpointOptions, Route},
    upstream::{Body, Call, Retry, ServiceUpstream, Upstream, UpstreamError},
};

use crate::{shop::*, support::call};

#[tokio::test]
async fn mutate_has_its_way_instead_of_bearer_and_headers() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let sync = echo.service("sync").bearer("tok").header("x-key", "k").route("GET /x", Route::free()).mutate(|head| {
        head.headers.insert("authorization", HeaderValue::from_static("Token t"));
    });
    let later = echo.service("later").bearer("tok").route("GET /x", paid("0.01")).mutate_async(|mut request| async {
        tokio::task::yield_now().await;
        request.headers_mut().insert("authorization", HeaderValue::from_static("Token later"));
        Ok(request)
    });
    let fails = echo.service("fails").route("GET /x", paid("0.01")).mutate_async(|_| async { Err("no token".into()) });
    let proxy = proxy_of(&rail).service(sync).service(later).service(fails).build().unwrap();
    call(&proxy, request(Method::GET, "/sync/x", &[("x-key", "evil")], "")).await;
    let seen = echo.only();
    assert_eq!((seen.header("authorization"), seen.header("x-key")), (Some("Token t"), None));
    assert_eq!(buy(&proxy, Method::GET, "/later/x", "").await.0.status, 200);
    assert_eq!(echo.only().header("authorization"), Some("Token later"));
    let (answer, _) = buy(&proxy, Method::GET, "/fails/x", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("payment-outcome")), (502, Some("redeliverable")));
    assert!(!answer.text().contains("no token"));
    assert!(echo.take().is_empty());
}

#[tokio::test]
async fn rewrite_request_comes_last_and_knows_the_route() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let rewrite = |mut request: Request<Body>, context: &Context| {
        let model = context.options().find("model").map_or("none", |model| model.as_str().unwrap());
        let key = format!("{}; key={}", request.headers()["authorization"].to_str().unwrap(), model);
        request.headers_mut().insert("authorization", key.parse().unwrap());
        let id = context.param("id").unwrap_or("none");
        let target = format!("/rewritten/{}/{id}{}?from={}", context.service(), context.pattern(), request.uri());
        *request.uri_mut() = target.parse::<Uri>().unwrap();
        request
    };
    let service = echo
        .service("api")
        .bearer("tok")
        .route("POST /items/:id", Route::paid_with(usd("0.01"), EndpointOptions::new().option("model", "big")))
        .route("GET /free", Route::free())
        .rewrite_request(rewrite);
    let proxy = proxy_of(&rail).service(service).build().unwrap();
    assert_eq!(buy(&proxy, Method::POST, "/api/items/a%20b?q=1", "body").await.0.status, 200);
    let seen = echo.only();
    assert_eq!(seen.target, "/rewritten/api/a%20b/items/:id?from=/items/a%20b?q=1");
    assert_eq!((seen.header("authorization"), &seen.body[..]), (Some("Bearer tok; key=big"), &b"body"[..]));
    assert_eq!(get(&proxy, "/api/free").await.status, 200);
    assert_eq!(echo.only().header("authorization"), Some("Bearer tok; key=none"));
}

#[tokio::test]
async fn rewrite_response_decides_before_the_receipt_and_cannot_forge_one() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let service =
        echo.service("api").route("GET /teapot", paid("0.01")).route("GET /x", paid("0.01")).rewrite_response(
            |mut response, context| {
                if context.pattern() == "/teapot" {
                    *response.status_mut() = http::StatusCode::OK;
                }
                let headers = response.headers_mut();
                headers.insert("x-rewritten", HeaderValue::from_static("yes"));
                headers.insert("payment-receipt", HeaderValue::from_static("forged"));
                headers.insert("set-cookie", HeaderValue::from_static("a=b"));
                response.map(|_| Body::from("rewritten"))
            },
        );
    let proxy = proxy_of(&rail).service(service).build().unwrap();
    for path in ["/api/teapot", "/api/x"] {
        let (answer, _) = buy(&proxy, Method::GET, path, "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.text(), answer.header("x-rewritten")),
            (200, "rewritten", Some("yes"))
        );
        assert_eq!(answer.receipt().reference, "ref_1");
        assert_eq!(answer.header("set-cookie"), None);
    }
}

#[tokio::test]
async fn any_upstream_may_take_the_place_of_the_client() {
    struct Canned;
    #[async_trait::async_trait]
    impl Upstream for Canned {
        fn name(&self) -> &str {
            "canned"
        }
        async fn call(&self, request: Request<Body>, _: &Call) -> Result<Response<Body>, UpstreamError> {
            let key = request.headers()["authorization"].to_str().unwrap().to_owned();
            Ok(Response::new(Body::from(format!("{} {} {key}", request.method(), request.uri()))))
        }
    }
    let rail = Acme::new();
    let service = |id: &str| tower_mpp::proxy::Service::new(id, "").bearer("tok").route("GET /v1/*", paid("0.01"));
    let router = axum::Router::new().route("/v1/{x}", axum::routing::get(|| async { "routed" }));
    let proxy = proxy_of(&rail)
        .service(service("canned").upstream(Canned))
        .service(service("router").upstream(ServiceUpstream::new("router", router)))
        .build()
        .unwrap();
    assert_eq!(buy(&proxy, Method::GET, "/canned/v1/a/b?c", "").await.0.text(), "GET /v1/a/b?c Bearer tok");
    assert_eq!(buy(&proxy, Method::GET, "/router/v1/a", "").await.0.text(), "routed");
}

#[tokio::test]
async fn a_failed_call_is_tried_again_when_the_merchant_says_so_and_never_charged_again() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&attempts);
    let service = echo.service("api").route("POST /teapot", paid("0.01")).on_upstream_error(move |failure| {
        count.fetch_add(1, SeqCst);
        assert_eq!(failure.status().map(|status| status.as_u16()), Some(418));
        if failure.attempt < 3 { Retry::After(std::time::Duration::from_millis(1)) } else { Retry::No }
    });
    let proxy = proxy_of(&rail).service(service).build().unwrap();
    let (answer, _) = buy(&proxy, Method::POST, "/api/teapot", "{\"a\":1}").await;
    assert_eq!((answer.status.as_u16(), attempts.load(SeqCst), rail.charges()), (418, 3, 1));
    let seen = echo.take();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.body == "{\"a\":1}"));
}
