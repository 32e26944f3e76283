//! Who an upstream thinks is calling: the merchant, whatever the client says.

use std::{
    io,
    sync::{Arc, Mutex},
};

use http::Method;
use tower_mpp::proxy::{EndpointOptions, Route, presets};

use crate::{shop::*, support::call};

/// What a client might send to be somebody else.
const FORGED: [(&str, &str); 18] = [
    ("authorization", "Bearer of-the-client"),
    ("cookie", "session=1"),
    ("x-api-key", "of-the-client"),
    ("api-key", "of-the-client"),
    ("openai-organization", "org-evil"),
    ("openai-project", "proj-evil"),
    ("stripe-account", "acct_evil"),
    ("stripe-context", "ctx_evil"),
    ("x-forwarded-for", "1.2.3.4"),
    ("x-payment", "x402"),
    ("payment-signature", "x402"),
    ("payment-receipt", "forged"),
    ("accept-payment", "acme/charge"),
    ("www-authenticate", "Payment"),
    ("connection", "x-secret-hop"),
    ("x-secret-hop", "1"),
    ("te", "trailers"),
    ("proxy-authorization", "Basic x"),
];

#[tokio::test]
async fn each_preset_shows_its_key_in_its_own_way_on_free_routes_too() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let mut proxy = proxy_of(&rail);
    for service in [presets::openai("sk-up"), presets::anthropic("sk-ant-up"), presets::stripe("sk_up")] {
        proxy = proxy.service(
            service.base_url(echo.url()).route("POST /v1/paid", paid("0.01")).route("GET /v1/free/:id", Route::free()),
        );
    }
    let proxy = proxy.build().unwrap();
    for (id, header, value) in [
        ("openai", "authorization", "Bearer sk-up"),
        ("anthropic", "x-api-key", "sk-ant-up"),
        ("stripe", "authorization", "Basic c2tfdXA6"),
    ] {
        let free = call(&proxy, request(Method::GET, &format!("/{id}/v1/free/1"), &FORGED, "")).await;
        assert_eq!(free.status, 200, "{id}");
        let on_free = echo.only();
        let (bought, _) = buy(&proxy, Method::POST, &format!("/{id}/v1/paid"), "{}").await;
        assert_eq!(bought.status, 200);
        for seen in [on_free, echo.only()] {
            assert_eq!(seen.header(header), Some(value), "{id}");
            assert_eq!(seen.headers.get_all(header).iter().count(), 1);
            for (name, _) in FORGED.iter().filter(|(name, _)| *name != header) {
                assert_eq!(seen.header(name), None, "{id}: {name}");
            }
        }
        for answer in [free, bought] {
            for name in ["set-cookie", "www-authenticate"] {
                assert_eq!(answer.header(name), None);
            }
            assert_ne!(answer.header("payment-receipt"), Some("forged"));
        }
    }
}

#[tokio::test]
async fn a_route_may_have_other_credentials_than_its_service() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let openai = presets::openai("sk-up")
        .base_url(echo.url())
        .route("POST /images", Route::paid_with(usd("0.01"), EndpointOptions::new().api_key("sk-images")))
        .route("GET /models", Route::free().options(EndpointOptions::new().api_key("sk-free")));
    let custom = echo
        .service("custom")
        .bearer("tok")
        .header("X-Org-Id", "org-123")
        .route("GET /bearer", Route::free().options(EndpointOptions::new().bearer("other")))
        .route("GET /headers", Route::free().options(EndpointOptions::new().header("x-api-key", "override")))
        .route("GET /plain", Route::free());
    let proxy = proxy_of(&rail).service(openai).service(custom).build().unwrap();
    buy(&proxy, Method::POST, "/openai/images", "{}").await;
    assert_eq!(echo.only().header("authorization"), Some("Bearer sk-images"));
    get(&proxy, "/openai/models").await;
    assert_eq!(echo.only().header("authorization"), Some("Bearer sk-free"));
    let forged = [("x-org-id", "org-evil"), ("x-api-key", "evil"), ("authorization", "Bearer evil")];
    for (path, bearer, key, org) in [
        ("/custom/bearer", "Bearer other", None, Some("org-123")),
        // The map of the route takes the place of the map of the service, and the client's word is still not taken.
        ("/custom/headers", "Bearer tok", Some("override"), None),
        ("/custom/plain", "Bearer tok", None, Some("org-123")),
    ] {
        call(&proxy, request(Method::GET, path, &forged, "")).await;
        let seen = echo.only();
        assert_eq!(seen.header("authorization"), Some(bearer), "{path}");
        assert_eq!((seen.header("x-api-key"), seen.header("x-org-id")), (key, org), "{path}");
    }
}

#[tokio::test]
async fn a_header_that_chooses_an_account_can_be_dropped() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let service = echo.service("api").remove_header("X-Tenant").route("GET /x", Route::free());
    let proxy = proxy_of(&rail).service(service).build().unwrap();
    call(&proxy, request(Method::GET, "/api/x", &[("x-tenant", "other"), ("x-custom", "keep")], "")).await;
    let seen = echo.only();
    assert_eq!((seen.header("x-tenant"), seen.header("x-custom")), (None, Some("keep")));
}

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_shown_by_anything() {
    const SECRETS: [&str; 6] =
        ["s3cret-key", "s3cret-bearer", "s3cret-header", "s3cret-route", "s3cret-option", "czNjcmV0LWtleTo"];
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let (echo, rail) = (Echo::start().await, Acme::new());
    let options =
        || EndpointOptions::new().api_key("s3cret-route").bearer("s3cret-route").option("note", "s3cret-option");
    let service = || {
        presets::stripe("s3cret-key")
            .base_url(echo.url())
            .bearer("s3cret-bearer")
            .header("x-key", "s3cret-header")
            .route("GET /x", Route::paid_with(usd("0.01"), options()))
            .route("GET /free", Route::free())
    };
    let mut shown = vec![format!("{:?} {:?}", service(), options())];
    let builder = proxy_of(&rail).service(service());
    shown.push(format!("{builder:?}"));
    let proxy = builder.build().unwrap();
    shown.push(format!("{proxy:?} {:?}", proxy.catalog()));
    let wrong = [
        service().header("bad name", "s3cret-header"),
        service().header("x-line", "s3cret-header\r\nx-evil: 1"),
        service().bearer("s3cret-bearer\n"),
        service().route("GET /y", Route::free().options(EndpointOptions::new().api_key("s3cret-route\n"))),
        service().base_url("https://user:s3cret-key@api.example.com"),
        service().route("GET  /y", Route::free()),
    ];
    for service in wrong {
        let error = proxy_of(&rail).service(service).build().unwrap_err();
        shown.push(format!("{error} {error:?}"));
    }
    let asked = call(&proxy, request(Method::GET, "/stripe/x", &[], "")).await;
    shown.push(format!("{asked:?}"));
    shown.push(format!("{:?}", buy(&proxy, Method::GET, "/stripe/x", "").await.0));
    shown.push(format!("{:?}", get(&proxy, "/stripe/nope").await));
    let gone = service().base_url("http://127.0.0.1:1");
    let gone = proxy_of(&rail).service(gone).build().unwrap();
    shown.push(format!("{:?}", get(&gone, "/stripe/free").await));
    shown.push(String::from_utf8(log.0.lock().unwrap().clone()).unwrap());
    assert!(shown.last().unwrap().contains("no answer of the upstream"), "the log is heard");
    for text in shown {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}
