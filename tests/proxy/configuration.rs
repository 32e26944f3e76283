//! Every mistake is found when the proxy is built, and its message says where it is.

use tower_mpp::proxy::{EndpointOptions, Proxy, Route, Service, presets};

use crate::shop::*;

fn service(id: &str) -> Service {
    Service::new(id, "https://api.example.com")
}

/// The message for a proxy of one service.
#[track_caller]
fn wrong(service: Service) -> String {
    proxy_of(&Acme::new()).service(service).build().expect_err("it is wrong").to_string()
}

#[track_caller]
fn says(message: String, words: &[&str]) {
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[test]
fn keys_of_routes() {
    for key in [
        "GET",
        "get /x",
        "GET  /x",
        "GET /../x",
        "GET /%zz",
        "GET /:a/:a",
        "GET /x/*/y",
        "GET /{x}",
        "GET /:x:y",
        "TRACE /x",
    ] {
        says(wrong(service("api").route(key, Route::free())), &["service \"api\"", &format!("{key:?}")]);
    }
    for (first, second) in [
        ("GET /x", "GET /x"),
        ("GET /:x", "GET /:y"),
        ("/x", "GET /x"),
        ("GET /v1/*", "GET /v1/x"),
        ("GET /:x", "GET /x"),
    ] {
        // A free route in front of a paid one would give it away.
        let both = service("api").route(first, Route::free()).route(second, paid("0.01"));
        says(wrong(both), &["\"api\"", &format!("{first:?}"), &format!("{second:?}"), "before"]);
    }
    says(wrong(service("api").route("OPTIONS /x", paid("0.01"))), &["\"OPTIONS /x\"", "never charged"]);
    let charged = Route::free().charge(Ok);
    says(wrong(service("api").route("GET /x", charged)), &["\"GET /x\"", "free"]);
    let narrow_first = service("api").route("GET /v1/x", paid("0.01")).route("GET /v1/*", Route::free());
    assert!(proxy_of(&Acme::new()).service(narrow_first).build().is_ok());
}

#[test]
fn ids_and_base_paths() {
    for id in [
        "",
        "a/b",
        "a b",
        "..",
        ".",
        ".well-known",
        "discover",
        "all",
        "llms.txt",
        "openapi.json",
        "x.md",
        "a%20b",
        "\u{e9}",
    ] {
        says(wrong(service(id)), &[&format!("services.{id}")]);
    }
    let twice = proxy_of(&Acme::new()).service(service("api")).service(service("api")).build().unwrap_err();
    says(twice.to_string(), &["services.api", "two"]);
    for path in ["api", "/api/", "/a//b", "/a/../b", "/a/:b", "/a?b", "/a b", "/%2e%2e"] {
        let error = proxy_of(&Acme::new()).base_path(path).build().unwrap_err();
        says(error.to_string(), &["base_path", path]);
    }
    for path in ["", "/", "/api", "/api/proxy"] {
        assert!(proxy_of(&Acme::new()).base_path(path).build().is_ok(), "{path}");
    }
}

#[test]
fn credentials_and_upstreams() {
    let route = |options| Route::free().options(options);
    says(wrong(service("api").bearer("").route("GET /x", Route::free())), &["\"api\"", "bearer", "empty"]);
    says(wrong(service("api").bearer("a b").route("GET /x", Route::free())), &["bearer", "white space"]);
    says(wrong(presets::openai("sk\n").route("GET /x", Route::free())), &["\"openai\"", "api_key"]);
    for name in ["bad name", "Host", "Content-Length", "Connection", "Payment-Receipt", ""] {
        says(wrong(service("api").header(name, "x").route("GET /x", Route::free())), &["\"api\"", name]);
        says(wrong(service("api").remove_header(name).route("GET /x", Route::free())), &[name]);
    }
    let odd = EndpointOptions::new().header("x-a", "line\nbreak");
    says(wrong(service("api").route("GET /x", route(odd))), &["\"GET /x\"", "x-a"]);
    // A service that does not say where a key goes would silently not send it.
    let nowhere = EndpointOptions::new().api_key("sk");
    says(wrong(service("api").route("GET /x", route(nowhere))), &["\"GET /x\"", "api_key"]);
    for url in ["", "api.example.com", "ftp://x", "https://u:p@x", "https://x/?q", "https://x/a/../b"] {
        says(wrong(service("api").base_url(url)), &["\"api\"", "base_url"]);
    }
    let both = service("api")
        .upstream(tower_mpp::upstream::ServiceUpstream::new("router", axum::Router::new()))
        .on_upstream_error(|_| tower_mpp::upstream::Retry::No);
    says(wrong(both), &["\"api\"", "http"]);
    says(wrong(service("api").http(|client| client.max_attempts(0))), &["\"api\"", "max_attempts"]);
}

#[test]
fn prices() {
    use tower_mpp::{pricing::Prices, protocol::MethodId};
    let stripe = Prices::only(MethodId::new("stripe").unwrap(), usd("1.00"));
    says(wrong(service("api").route("GET /x", Route::paid(stripe))), &["\"api\"", "\"GET /x\"", "stripe"]);
}

#[test]
fn a_proxy_without_a_service_is_a_proxy() {
    let proxy: Proxy = proxy_of(&Acme::new()).build().unwrap();
    assert!(proxy.catalog().services.is_empty());
}
