//! The price of a path does not depend on how it is spelled.

use http::Method;
use proptest::prelude::*;
use tower_mpp::proxy::{Proxy, Route};

use crate::{
    respelled::{normalised, paths, steps},
    shop::*,
    support::{Answer, call},
};

/// Paid routes in front of free and cheaper ones, which take everything else.
fn proxy(echo: &Echo, rail: &Acme) -> Proxy {
    let service = echo
        .service("svc")
        .bearer("tok")
        .route("POST /v1/generate", paid("0.50"))
        .route("POST /v1/named/dear", paid("0.50"))
        .route("POST /v1/named/:name", paid("0.01"))
        .route("GET /v1/items/:id", paid("0.50"))
        .route("GET /v1/a%20b/", paid("0.50"))
        .route("GET /v1/whole/*", paid("0.50"))
        .route("GET /v1/pair", paid("0.50"))
        .route("GET /v1/pair/", Route::free())
        .route("GET /v1/Pair", Route::free())
        .route("GET /x", paid("0.50"))
        .route("OPTIONS /v1/generate", Route::free())
        .route("/v1/*", Route::free())
        .route("/*", Route::free());
    proxy_of(rail).service(service).build().unwrap()
}

async fn send(proxy: &Proxy, method: Method, path: &str) -> Answer {
    call(proxy, request(method, &format!("/svc{path}"), &[], "")).await
}

#[tokio::test]
async fn another_spelling_of_a_paid_path_is_not_had_from_the_wider_route() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&echo, &rail);
    for path in [
        "/v1/%67enerate",
        "/v1/%2567enerate",
        "/v1/generate/",
        "/v1/generate//",
        "/v1//generate",
        "//v1/generate",
        "/v1/generate;x",
        "/v1;x/generate",
        "/v1/generate%3Bx",
        "/v1/generate%3Fx",
        "/v1/generate%23",
        "/v1/generate%20",
        "/v1/generate.json",
        "/v1/generate.",
        "/v1/Generate",
        "/V1/GENERATE",
        "/v1%2Fgenerate",
        "/v1%252fgenerate",
        "/v1%2F/%47enerate/;a=b.json",
        "/v1/named/Dear",
        "/v1/named/de%61r",
        "/v1/named/dear;x",
        "/v1/named//dear",
        "/v1/named/a%2Fb",
    ] {
        let answer = send(&proxy, Method::POST, path).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (404, "Not Found"), "{path}");
        answer.assert_no_challenge();
    }
    for path in [
        "/v1/items/a%2Fb",
        "/v1/items//a",
        "/v1/items/a/",
        "/v1/Items/a",
        "/v1/it%65ms/a",
        "/v1/a%20b",
        "/v1/a%20b/;v",
        "/v1/A%20b/",
        "/V1/whole/x/y",
        "/v1//whole/x/y",
        "/v1/whole",
        "/%78",
        "/X/",
    ] {
        assert_eq!(send(&proxy, Method::GET, path).await.status, 404, "{path}");
    }
    assert!(echo.take().is_empty());
}

#[tokio::test]
async fn the_plain_spelling_and_what_is_none_of_a_paid_path_are_served() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&echo, &rail);
    for (method, path) in [
        (Method::POST, "/svc/v1/generate"),
        (Method::POST, "/svc/v1/named/dear"),
        (Method::POST, "/svc/v1/named/other"),
        (Method::GET, "/svc/v1/items/a%20b;c.d"),
        (Method::GET, "/svc/v1/a%20b/"),
        (Method::GET, "/svc/v1/whole/a//b%2Fc/"),
    ] {
        let (answer, _) = buy(&proxy, method, path, "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(echo.only().target, path.strip_prefix("/svc").unwrap());
    }
    // A free route that says how it is spelled, and paths that no server takes for a paid one.
    for path in [
        "/v1/pair/",
        "/v1/Pair",
        "/v1/generated",
        "/v1/items",
        "/v1/items/a/b",
        "/v1//b%2Fc/",
        "/v1/a.json",
        "/other/%67enerate",
    ] {
        assert_eq!(send(&proxy, Method::GET, path).await.status, 200, "{path}");
        assert_eq!(echo.only().target, path);
    }
    // Another method has no price here.
    assert_eq!(send(&proxy, Method::PUT, "/v1/%67enerate").await.status, 200);
}

#[tokio::test]
async fn neither_head_nor_options_reach_the_upstream_past_a_paid_route() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&echo, &rail);
    let head = send(&proxy, Method::HEAD, "/x").await;
    head.assert_challenged("payment-required");
    let options = send(&proxy, Method::OPTIONS, "/x").await;
    assert_eq!(options.status, 204);
    assert!(options.header("allow").unwrap().contains("GET"));
    for (method, path) in [(Method::HEAD, "/%78"), (Method::HEAD, "/x/"), (Method::OPTIONS, "/x/")] {
        assert_eq!(send(&proxy, method, path).await.status, 404, "{path}");
    }
    assert!(echo.take().is_empty());
    for (method, path) in [(Method::HEAD, "/y"), (Method::OPTIONS, "/y"), (Method::OPTIONS, "/v1/generate")] {
        assert_eq!(send(&proxy, method.clone(), path).await.status, 200);
        assert_eq!(echo.only().method, method);
    }
}

#[test]
fn a_route_for_head_behind_its_paid_get_is_refused_at_start() {
    let service = tower_mpp::proxy::Service::new("svc", "http://127.0.0.1:9")
        .route("GET /x", paid("0.50"))
        .route("HEAD /x", Route::free());
    let error = proxy_of(&Acme::new()).service(service).build().unwrap_err().to_string();
    assert!(error.contains("HEAD /x") && error.contains("GET /x"), "{error}");
}

fn is_paid_for(method: &Method, path: &str) -> bool {
    let parts: Vec<_> = path.split('/').skip(1).collect();
    match (method.as_str(), &parts[..]) {
        ("POST", ["v1", "generate"] | ["v1", "named", "dear"]) => true,
        ("GET", ["v1", "items", id]) => !id.is_empty(),
        ("GET", ["x"] | ["v1", "whole", _, ..]) => true,
        _ => false,
    }
}

#[test]
fn no_reading_of_a_path_is_cheaper_than_its_plain_spelling() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (echo, rail) = (runtime.block_on(Echo::start()), Acme::new());
    let proxy = proxy(&echo, &rail);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let read_as_paid = std::cell::Cell::new(0);
    let property = |(path, steps, is_post): (String, Vec<u8>, bool)| {
        let method = if is_post { Method::POST } else { Method::GET };
        if !(0..=steps.len()).any(|done| is_paid_for(&method, &normalised(&path, &steps[..done]))) {
            return Ok(());
        }
        read_as_paid.set(read_as_paid.get() + 1);
        let answer = runtime.block_on(send(&proxy, method, &path));
        let asked = echo.take();
        match answer.status.as_u16() {
            400 | 404 => {}
            402 => {
                let challenge = crate::support::challenge(&answer.headers);
                let request: serde_json::Value = challenge.request_as().unwrap();
                prop_assert_eq!(&request["amount"], "50", "{}", path);
            }
            status => prop_assert!(false, "{} was answered {}", path, status),
        }
        prop_assert!(asked.is_empty(), "{}", path);
        Ok(())
    };
    runner.run(&(paths(), steps(), any::<bool>()), property).unwrap();
    assert!(read_as_paid.get() > 1000, "{} paths only", read_as_paid.get());
}
