//! What is priced as JSON is read as JSON.

use http::Method;
use tower_mpp::{
    pricing::ModelOptions,
    proxy::{Proxy, Route},
};

use crate::{
    shop::*,
    support::{call, challenge},
};

const CHEAP: &str = r#"{"model":"cheap","x":"&model=dear&y="}"#;

fn proxy(echo: &Echo) -> Proxy {
    let models = || ModelOptions::by_name([("cheap", usd("0.01")), ("dear", usd("1.00"))]).unwrap();
    let service =
        echo.service("svc").route("POST /v1/chat", Route::paid(models())).route("POST /v1/fixed", paid("0.02"));
    proxy_of(&Acme::new()).service(service).build().unwrap()
}

#[tokio::test]
async fn a_form_is_not_priced_as_json() {
    let echo = Echo::start().await;
    let proxy = proxy(&echo);
    let open = ask(&proxy, Method::POST, "/svc/v1/chat", CHEAP).await;
    let credential = credential(&open);
    let credential = credential.to_str().unwrap();
    for other in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json, application/x-www-form-urlencoded",
        "",
    ] {
        let plain = request(Method::POST, "/svc/v1/chat", &[("content-type", other)], CHEAP);
        let paid = [("content-type", other), ("authorization", credential)];
        let paid = request(Method::POST, "/svc/v1/chat", &paid, CHEAP);
        for asked in [plain, paid] {
            let answer = call(&proxy, asked).await;
            assert_eq!(answer.status, 415, "{other:?}");
            answer.assert_no_challenge();
        }
    }
    let twice = [("content-type", "application/json"), ("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(call(&proxy, request(Method::POST, "/svc/v1/chat", &twice, CHEAP)).await.status, 415);
    assert!(echo.take().is_empty());
    // None of this has used the payment up, and the type that is missing is added.
    let paid = request(Method::POST, "/svc/v1/chat", &[("authorization", credential)], CHEAP);
    assert_eq!(call(&proxy, paid).await.status, 200);
    assert_eq!(echo.only().header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn json_of_every_kind_passes_as_it_was_declared() {
    let echo = Echo::start().await;
    let proxy = proxy(&echo);
    for kind in ["application/json", "application/json; charset=UTF-8", "application/vnd.api+json"] {
        let asked =
            call(&proxy, request(Method::POST, "/svc/v1/chat", &[("content-type", kind)], r#"{"model":"dear"}"#)).await;
        asked.assert_challenged("payment-required");
        let credential = credential(&challenge(&asked.headers));
        let headers = [("content-type", kind), ("authorization", credential.to_str().unwrap())];
        let answer = call(&proxy, request(Method::POST, "/svc/v1/chat", &headers, r#"{"model":"dear"}"#)).await;
        assert_eq!(answer.status, 200, "{kind}");
        assert_eq!(echo.only().header("content-type"), Some(kind));
    }
}

#[tokio::test]
async fn a_price_that_no_body_decides_asks_for_no_type() {
    let echo = Echo::start().await;
    let proxy = proxy(&echo);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    call(&proxy, request(Method::POST, "/svc/v1/fixed", &form, "a=b")).await.assert_challenged("payment-required");
    buy(&proxy, Method::POST, "/svc/v1/fixed", "a=b").await;
    assert_eq!(echo.only().header("content-type"), None);
}
