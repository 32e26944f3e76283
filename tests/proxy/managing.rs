//! Requests about a paid route that it does not serve: they are told its terms, and never charged.

use http::Method;
use serde_json::json;
use tower_mpp::proxy::{Proxy, Route};

use crate::{
    shop::*,
    support::{call, challenge, pay_with},
};

fn proxy(echo: &Echo, rail: &Acme) -> Proxy {
    let service = echo
        .service("api")
        .bearer("tok")
        .route("GET /paid", paid("0.01"))
        .route("GET /free", Route::free())
        .route("GET /two", paid("0.01"))
        .route("PUT /two", paid("0.02"))
        .route("GET /mixed", Route::free())
        .route("DELETE /mixed", paid("0.03"))
        .route("PUT /put", paid("0.02"))
        .route("GET /shadow/:x", Route::free())
        .route("GET /:y/shadowed", paid("0.01"))
        .route("GET /subscribers", paid("0.01").charge(|layer| Ok(layer.free_when(|_| true))));
    proxy_of(rail).service(service).build().unwrap()
}

async fn post(proxy: &Proxy, path: &str, authorization: &str) -> crate::support::Answer {
    call(proxy, request(Method::POST, path, &[("authorization", authorization)], "{}")).await
}

#[tokio::test]
async fn the_challenge_of_a_managing_post_pays_for_the_method_that_is_sold() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&echo, &rail);
    for (path, method, body) in
        [("/api/paid", Method::GET, ""), ("/api/mixed", Method::DELETE, "{}"), ("/api/put", Method::PUT, "{}")]
    {
        let told = post(&proxy, path, "Bearer x").await;
        told.assert_challenged("payment-required");
        assert!(echo.take().is_empty());
        let credential = credential(&challenge(&told.headers));
        // It is no challenge for the POST itself, and not lost by being sent with it.
        let refused = send_paid(&proxy, Method::POST, path, body, &credential).await;
        assert_eq!(refused.status, 405, "{path}");
        assert!(refused.header("allow").unwrap().split(", ").any(|name| name == method.as_str()));
        refused.assert_no_challenge();
        let answer = send_paid(&proxy, method, path, body, &credential).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(echo.take().len(), 1);
    }
    assert_eq!(rail.charges(), 3);
}

#[tokio::test]
async fn no_payment_is_taken_where_nothing_can_be_delivered() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&echo, &rail);
    let open = ask(&proxy, Method::GET, "/api/paid", "").await;
    let good = credential(&open);
    let bad = pay_with(&open, None, &json!({"proof": "bad"}));
    let good = good.to_str().unwrap();
    for authorization in
        [good, bad.to_str().unwrap(), "Payment !!!", "Payment", "payment abc", &format!("Bearer x, {good}")]
    {
        let answer = post(&proxy, "/api/paid", authorization).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("allow")),
            (405, Some("OPTIONS, GET, HEAD")),
            "{authorization}"
        );
        answer.assert_no_challenge();
        assert_eq!(answer.json()["title"], "Method Not Allowed");
    }
    assert_eq!((rail.charges(), echo.take().len()), (0, 0));
}

#[tokio::test]
async fn a_managing_post_never_reaches_a_free_route_or_a_choice() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&echo, &rail);
    for path in ["/api/free", "/api/two", "/api/nope", "/api/shadow/shadowed", "/api/subscribers"] {
        let answer = post(&proxy, path, "x").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (404, "Not Found"), "{path}");
    }
    for path in ["/api/paid", "/api/mixed"] {
        assert_eq!(call(&proxy, request(Method::POST, path, &[], "{}")).await.status, 404, "{path}");
    }
    assert!(echo.take().is_empty());
}

#[tokio::test]
async fn head_shows_the_terms_of_a_paid_get_and_takes_no_money() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&echo, &rail);
    let told = call(&proxy, request(Method::HEAD, "/api/paid", &[], "")).await;
    assert_eq!(told.status, 402);
    let credential = credential(&challenge(&told.headers));
    assert_eq!(send_paid(&proxy, Method::HEAD, "/api/paid", "", &credential).await.status, 405);
    assert_eq!(rail.charges(), 0);
    assert_eq!(send_paid(&proxy, Method::GET, "/api/paid", "", &credential).await.status, 200);
    assert_eq!((rail.charges(), echo.take().len()), (1, 1));
    let free = call(&proxy, request(Method::HEAD, "/api/free", &[], "")).await;
    assert_eq!((free.status.as_u16(), echo.only().method), (200, Method::HEAD));
    assert_eq!(call(&proxy, request(Method::HEAD, "/api/nope", &[], "")).await.status, 404);
}
