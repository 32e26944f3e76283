//! Which route a request is for, and which requests are for none.

use http::Method;
use tower_mpp::proxy::{Proxy, Route};

use crate::{shop::*, support::call};

async fn proxy(echo: &Echo) -> Proxy {
    let service = echo
        .service("api")
        .bearer("tok")
        .route("GET /v1/items/:id", Route::free())
        .route("GET /v1/items/:id/parts/:part", Route::free())
        .route("GET /v1/paid/:id", paid("0.01"))
        .route("POST /v1/items", Route::free())
        .route("/v1/any", Route::free())
        .route("/v1/any-paid", paid("0.01"))
        .route("GET /files/*", Route::free())
        .route("GET /", Route::free());
    proxy_of(&Acme::new()).service(service).build().unwrap()
}

#[tokio::test]
async fn path_and_query_pass_as_they_were_written() {
    let echo = Echo::start().await;
    let proxy = proxy(&echo).await;
    for (path, seen) in [
        ("/api/v1/items/42?x=1&y=a%20b&x=%2F", "/v1/items/42?x=1&y=a%20b&x=%2F"),
        ("/api/v1/items/a%20b;c@d", "/v1/items/a%20b;c@d"),
        ("/api/v1/items/%E2%82%AC?", "/v1/items/%E2%82%AC?"),
        ("/api/files/a//b%2Fc", "/files/a//b%2Fc"),
        ("/api/files/", "/files/"),
        ("/api/", "/"),
        ("/api/v1/items/api", "/v1/items/api"),
    ] {
        assert_eq!(get(&proxy, path).await.status, 200, "{path}");
        assert_eq!(echo.only().target, seen);
    }
}

#[tokio::test]
async fn what_is_not_listed_is_not_found_and_never_asked_for() {
    let echo = Echo::start().await;
    let proxy = proxy(&echo).await;
    for path in [
        "/",
        "/api",
        "/nope/v1/items/1",
        "/API/v1/items/1",
        "/api/v1/items",
        "/api/v1/items/",
        "/api/v1/items/1/",
        "/api/v1/items/1/2",
        "/api//v1/items/1",
        "//api/v1/items/1",
        "/api/v1/items/1%2Fparts",
        "/api/v1/items/1%2fparts%2f2",
        "/api/v1/ITEMS/1",
        "/api/v1/%69tems/1",
        "/api/files",
        "/ap%69/v1/items/1",
    ] {
        let answer = get(&proxy, path).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (404, "Not Found"), "{path}");
        assert_eq!(answer.header("content-type"), Some("text/plain;charset=UTF-8"));
    }
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::POST] {
        assert_eq!(call(&proxy, request(method, "/api/v1/items/1", &[], "")).await.status, 404);
    }
    for method in [Method::CONNECT, Method::TRACE] {
        assert_eq!(call(&proxy, request(method, "/api/v1/any", &[], "")).await.status, 404);
    }
    assert!(echo.take().is_empty());
}

#[tokio::test]
async fn a_path_with_two_readings_is_refused_before_anything_else() {
    let echo = Echo::start().await;
    let proxy = proxy(&echo).await;
    for path in [
        "/api/v1/items/..",
        "/api/v1/items/.",
        "/api/v1/items/%2e%2e",
        "/api/v1/items/%2E.",
        "/api/v1/items/.%2e/x",
        "/api/v1/items/..;a=b",
        "/api/v1/items/a%5Cb",
        "/api/v1/items/%00",
        "/api/v1/items/%0d%0aX:y",
        "/api/v1/items/%7f",
        "/api/v1/items/%zz",
        "/api/v1/items/%2",
        "/api/v1/items/%252e%252e",
        "/api/files/a/../../v1/paid/1",
        "/api/files/a%2f..%2f..%2fv1%2fpaid%2f1",
        "/nope/../api/v1/items/1",
        "/discover/../api/v1/items/1",
    ] {
        let answer = get(&proxy, path).await;
        assert_eq!(answer.status, 400, "{path}");
        answer.assert_no_challenge();
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    assert!(echo.take().is_empty());
}

#[tokio::test]
async fn a_route_without_a_method_takes_any() {
    let echo = Echo::start().await;
    let proxy = proxy(&echo).await;
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS] {
        assert_eq!(call(&proxy, request(method.clone(), "/api/v1/any", &[], "")).await.status, 200);
        assert_eq!(echo.only().method, method);
    }
    // Preflights are free, so what is paid for must not be had by them.
    let answer = call(&proxy, request(Method::OPTIONS, "/api/v1/any-paid", &[], "")).await;
    assert_eq!(answer.status, 204);
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        ask(&proxy, method, "/api/v1/any-paid", "").await;
    }
    assert!(echo.take().is_empty());
}

#[tokio::test]
async fn options_of_a_known_path_say_what_it_takes() {
    let echo = Echo::start().await;
    let proxy = proxy(&echo).await;
    for (path, allow) in [
        ("/api/v1/items/1", "OPTIONS, GET, HEAD"),
        ("/api/v1/paid/1", "OPTIONS, GET, HEAD"),
        ("/api/v1/items", "OPTIONS, POST"),
        ("/api/v1/any-paid", "OPTIONS, GET, HEAD, POST, PUT, PATCH, DELETE"),
    ] {
        let answer = call(&proxy, request(Method::OPTIONS, path, &[], "")).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (204, Some(allow)), "{path}");
        answer.assert_no_challenge();
    }
    assert_eq!(call(&proxy, request(Method::OPTIONS, "/api/v1/nope", &[], "")).await.status, 404);
    assert!(echo.take().is_empty());
}

#[tokio::test]
async fn a_base_path_is_a_whole_prefix() {
    let echo = Echo::start().await;
    let rail = Acme::new();
    let service = echo.service("api").route("GET /v1/items/:id", Route::free()).route("GET /v1/paid", paid("0.01"));
    let proxy = proxy_of(&rail).base_path("/api/proxy").service(service).build().unwrap();
    assert_eq!(get(&proxy, "/api/proxy/api/v1/items/7?q").await.status, 200);
    assert_eq!(echo.only().target, "/v1/items/7?q");
    for path in
        ["/api/v1/items/7", "/api/proxyX/api/v1/items/7", "/api/proxyapi/v1/items/7", "/api/proxy", "/api/proxy/"]
    {
        assert_eq!(get(&proxy, path).await.status, 404, "{path}");
    }
    let (answer, _) = buy(&proxy, Method::GET, "/api/proxy/api/v1/paid", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(echo.only().target, "/v1/paid");
}

#[tokio::test]
async fn it_is_the_fallback_of_an_axum_router() {
    let echo = Echo::start().await;
    let proxy = proxy(&echo).await;
    let app = axum::Router::new().route("/health", axum::routing::get(|| async { "ok" })).fallback_service(proxy);
    let server = crate::support::Server::start(app).await;
    assert_eq!(server.get("/health").await.text(), "ok");
    assert_eq!(server.get("/api/v1/items/1").await.status, 200);
    assert_eq!(server.get("/api/v1/nope").await.status, 404);
    let head = server.send(Method::HEAD, "/api/v1/items/1", &[], "").await;
    assert_eq!((head.status.as_u16(), head.header("x-up"), head.body.len()), (200, Some("1"), 0));
}

#[tokio::test]
async fn it_is_a_service_of_hyper_by_itself() {
    use hyper_util::{
        rt::{TokioExecutor, TokioIo},
        server::conn::auto,
        service::TowerToHyperService,
    };
    let echo = Echo::start().await;
    let proxy = proxy(&echo).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = crate::support::Server::at(listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(proxy.clone());
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    let asked = server.get("/api/v1/paid/1").await;
    asked.assert_challenged("payment-required");
    let credential = credential(&crate::support::challenge(&asked.headers));
    let answer = server.get_paid("/api/v1/paid/1", &credential).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, r#"{"ok":true}"#));
    assert_eq!(answer.receipt().reference, "ref_1");
    // An absolute target is routed by its path alone, whatever host it names.
    let absolute = server.get("//evil.example/api/v1/items/1").await;
    assert_eq!(absolute.status, 404);
}
