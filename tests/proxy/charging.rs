//! What a payment is good for, and how often it is taken.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, request::Parts};
use tower_mpp::{
    Price, SettleTiming,
    pricing::{self, Refused},
    proxy::{Proxy, Route},
};

use crate::{shop::*, support::call};

fn proxy(echo: &Echo, rail: &Acme) -> Proxy {
    let service = echo
        .service("api")
        .bearer("tok")
        .route("GET /customers/:id", paid("0.01"))
        .route("GET /other/:id", paid("0.01"))
        .route("POST /generate", paid("0.01").description("One call"))
        .route("PUT /generate", paid("0.01"))
        .route("GET /teapot", paid("0.01"))
        .route("POST /priced", Route::paid(pricing::with_body(price)));
    proxy_of(rail).service(service).build().unwrap()
}

fn price(_: &Parts, body: &Bytes) -> Result<Price, Refused> {
    match &body[..] {
        b"small" => Ok(usd("0.01")),
        b"large" => Ok(usd("9.00")),
        _ => Err(Refused::bad_request("There is no such size.")),
    }
}

#[tokio::test]
async fn fifty_uses_of_one_payment_are_one_call_of_the_upstream() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&echo, &rail);
    let credential = credential(&ask(&proxy, Method::POST, "/api/generate", "{}").await);
    let uses = (0..50).map(|_| send_paid(&proxy, Method::POST, "/api/generate", "{}", &credential));
    let answers = join_all(uses).await;
    let delivered: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!((delivered.len(), rail.charges(), echo.take().len()), (1, 1, 1));
    assert_eq!(delivered[0].receipt().reference, "ref_1");
    assert_eq!(delivered[0].header("cache-control"), Some("private"));
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert!(matches!(answer.status.as_u16(), 403 | 409), "{answer:?}");
        answer.assert_no_challenge();
    }
}

#[tokio::test]
async fn a_payment_is_good_for_one_route_one_path_one_query_and_one_body() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&echo, &rail);
    let for_one = credential(&ask(&proxy, Method::GET, "/api/customers/1?full=yes", "").await);
    for path in ["/api/customers/2?full=yes", "/api/customers/1?full=no", "/api/customers/1", "/api/other/1?full=yes"] {
        let answer = send_paid(&proxy, Method::GET, path, "", &for_one).await;
        answer.assert_challenged("invalid-challenge");
    }
    let for_body = credential(&ask(&proxy, Method::POST, "/api/generate", "{\"a\":1}").await);
    for (method, body) in [(Method::POST, "{\"a\":2}"), (Method::POST, ""), (Method::PUT, "{\"a\":1}")] {
        let answer = send_paid(&proxy, method, "/api/generate", body, &for_body).await;
        answer.assert_challenged("invalid-challenge");
    }
    assert_eq!((rail.charges(), echo.take().len()), (0, 0));
    assert_eq!(send_paid(&proxy, Method::GET, "/api/customers/1?full=yes", "", &for_one).await.status, 200);
    assert_eq!(echo.only().target, "/customers/1?full=yes");
}

#[tokio::test]
async fn services_of_one_path_are_two_things_to_buy() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let service = |id: &str| echo.service(id).route("GET /x", paid("0.01"));
    let proxy = proxy_of(&rail).service(service("a")).service(service("b")).build().unwrap();
    let for_a = credential(&ask(&proxy, Method::GET, "/a/x", "").await);
    send_paid(&proxy, Method::GET, "/b/x", "", &for_a).await.assert_challenged("invalid-challenge");
    assert_eq!(rail.charges(), 0);
    // The same behind an axum router.
    let server = crate::support::Server::start(axum::Router::new().fallback_service(proxy)).await;
    server.get_paid("/b/x", &for_a).await.assert_challenged("invalid-challenge");
    assert_eq!(server.get_paid("/a/x", &for_a).await.status, 200);
}

#[tokio::test]
async fn a_failed_call_has_no_receipt_and_is_delivered_later_without_another_charge() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&echo, &rail);
    let (failed, credential) = buy(&proxy, Method::GET, "/api/teapot", "").await;
    assert_eq!((failed.status.as_u16(), failed.text()), (418, r#"{"ok":true}"#));
    assert_eq!(failed.header("payment-receipt"), None);
    assert_eq!(failed.header("payment-outcome"), Some("redeliverable"));
    assert_eq!(send_paid(&proxy, Method::GET, "/api/teapot", "", &credential).await.status, 418);
    assert_eq!((rail.charges(), echo.take().len()), (1, 2));
}

#[tokio::test]
async fn a_price_may_depend_on_the_body_and_a_wrong_body_is_refused_before_a_challenge() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&echo, &rail);
    let refused = call(&proxy, request(Method::POST, "/api/priced", &[], "medium")).await;
    assert_eq!(refused.status, 400);
    refused.assert_no_challenge();
    let cheap = credential(&ask(&proxy, Method::POST, "/api/priced", "small").await);
    send_paid(&proxy, Method::POST, "/api/priced", "large", &cheap).await.assert_challenged("invalid-challenge");
    assert_eq!(send_paid(&proxy, Method::POST, "/api/priced", "small", &cheap).await.status, 200);
    assert_eq!(echo.only().body, "small");
    assert_eq!(rail.charges(), 1);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_paid_for() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let service = echo
        .service("api")
        .route("POST /bound", paid("0.01").body_limit(8))
        .route("POST /unbound", paid("0.01").bind_body(false).body_limit(8))
        .route("POST /free", Route::free().body_limit(8));
    let proxy = proxy_of(&rail).service(service).build().unwrap();
    for path in ["/api/bound", "/api/unbound", "/api/free"] {
        let answer = call(&proxy, request(Method::POST, path, &[], "nine byte")).await;
        assert_eq!(answer.status, 413, "{path}");
        answer.assert_no_challenge();
    }
    let declared = request(Method::POST, "/api/unbound", &[("content-length", "9")], "");
    assert_eq!(call(&proxy, declared).await.status, 413);
    assert_eq!((rail.charges(), echo.take().len()), (0, 0));
    assert_eq!(call(&proxy, request(Method::POST, "/api/free", &[], "8 bytes.")).await.status, 200);
    for path in ["/api/bound", "/api/unbound"] {
        assert_eq!(buy(&proxy, Method::POST, path, "8 bytes.").await.0.status, 200);
    }
}

#[tokio::test]
async fn how_a_route_charges_can_be_changed() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let timing = |route: Route| route.charge(|layer| layer.settle(SettleTiming::AfterHandler));
    let service = echo.service("api").route("GET /x", timing(paid("0.01")));
    let wrong = proxy_of(&rail).service(service).build().unwrap_err().to_string();
    assert!(wrong.contains("\"GET /x\"") && wrong.contains("acme"), "{wrong}");
    let subscribed = |head: &Parts| head.headers.contains_key("x-subscriber");
    let service =
        echo.service("api").route("GET /x", paid("0.01").charge(move |layer| Ok(layer.free_when(subscribed))));
    let proxy = proxy_of(&rail).service(service).build().unwrap();
    let free = call(&proxy, request(Method::GET, "/api/x", &[("x-subscriber", "1")], "")).await;
    assert_eq!((free.status.as_u16(), free.header("payment-receipt")), (200, None));
    ask(&proxy, Method::GET, "/api/x", "").await;
}
