//! The layer among other layers: who answers first, what each of them sees, and how prices are told.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod headers;
mod prices;
#[path = "../support/mod.rs"]
mod support;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    extract::{Path, Request},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::AUTHORIZATION, request::Parts};
use serde_json::{Value, json};
use support::{Answer, KEY, TestRail, ask, builder, call, challenge, challenges, merchant, pay_with, with_credential};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_mpp::{
    HttpsPolicy, KeyRing, Merchant, OverTls, PaymentInfo, Price, Refusal, RefusalKind,
    method::{
        Attempt, Checked, Declined, OfferRequest, PaymentContext, PaymentMethod, RefundError, RefundRequest, Refunded,
        SettleError, Settlement, VerifyError,
    },
    pricing::{self, Prices, Quote, Refused},
    protocol::{Challenge, Intent, MethodId},
    store::MemoryNonceStore,
};

fn usd(text: &str) -> Price {
    Price::usd(text).unwrap()
}

fn request(method: Method, path: &str, body: &'static str) -> Request {
    Request::builder().method(method).uri(path).body(Body::from(body)).unwrap()
}

fn get_(path: &str) -> Request {
    request(Method::GET, path, "")
}

fn header(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers_mut().append(HeaderName::from_static(name), value.parse().unwrap());
    request
}

fn pay(challenge: &Challenge) -> HeaderValue {
    pay_with(challenge, None, &json!({"token": "ok"}))
}

fn amount(challenge: &Challenge) -> String {
    let request: Value = challenge.request_as().unwrap();
    format!("{} {}", request["amount"].as_str().unwrap(), request["currency"].as_str().unwrap())
}

/// Pays what a request costs and sends it again. `copy` makes the same request twice.
async fn buy(app: &Router, copy: impl Fn() -> Request) -> Answer {
    let challenge = ask(app, copy()).await;
    call(app, with_credential(copy(), &pay(&challenge))).await
}

// Who are you? comes before: what will you pay?

async fn authenticate(request: Request, next: Next) -> Response {
    let values = request.headers().get_all(AUTHORIZATION);
    let known =
        |value: &HeaderValue| value.to_str().is_ok_and(|text| text.split(", ").any(|one| one == "Bearer alice"));
    if !values.iter().any(known) {
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")]).into_response();
    }
    next.run(request).await
}

async fn echo_authorization(headers: HeaderMap) -> String {
    let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().map(|value| value.to_str().unwrap()).collect();
    values.join(" | ")
}

#[tokio::test]
async fn who_is_not_known_never_sees_a_price() {
    let rail = TestRail::new("demo");
    let charge = merchant(&rail).charge(usd("1.00")).unwrap();
    let app = Router::new()
        .route("/", get(echo_authorization).route_layer(charge))
        .route_layer(middleware::from_fn(authenticate));
    let stranger = call(&app, get_("/")).await;
    assert_eq!(stranger.status, 401);
    assert_eq!(stranger.header("www-authenticate"), Some("Bearer"));
    let alice = || header(get_("/"), "authorization", "Bearer alice");
    let challenge = ask(&app, alice()).await;
    let credential = pay(&challenge);
    // A payment does not replace a name.
    assert_eq!(call(&app, with_credential(get_("/"), &credential)).await.status, 401);
    assert_eq!(rail.attempts(), 0);
    let both = header(alice(), "authorization", credential.to_str().unwrap());
    assert_eq!(call(&app, both).await.text(), "Bearer alice");
    assert_eq!(rail.settlements(), 1);
}

#[tokio::test]
async fn the_service_sees_every_credential_but_the_payment() {
    let rail = TestRail::new("demo");
    let charge = merchant(&rail).charge(usd("1.00")).unwrap();
    let app = Router::new().route("/", get(echo_authorization).route_layer(charge));
    for (values, left) in [
        (&["{}"][..], ""),
        (&["Bearer alice", "{}"], "Bearer alice"),
        (&["{}", "Bearer alice"], "Bearer alice"),
        (&["Bearer alice, {}"], "Bearer alice"),
        (&["{}, Bearer alice"], "Bearer alice"),
        (&["Basic YWxpY2U6cGF5", "{}", "Bearer alice"], "Basic YWxpY2U6cGF5 | Bearer alice"),
        (&[r#"Digest username="Payment x, y", realm="a", {}"#], r#"Digest username="Payment x, y", realm="a""#),
    ] {
        let credential = pay(&ask(&app, get_("/")).await);
        let mut paid = get_("/");
        for value in values {
            paid = header(paid, "authorization", &value.replace("{}", credential.to_str().unwrap()));
        }
        let answer = call(&app, paid).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, left), "{values:?}");
    }
}

// HTTPS

#[tokio::test]
async fn https_is_required_where_it_is_configured() {
    let rail = TestRail::new("demo");
    let app = |realm: &str, policy: HttpsPolicy| {
        let merchant = Merchant::builder(realm, KeyRing::new(KEY).unwrap())
            .method(rail.clone())
            .nonce_store(MemoryNonceStore::single_process(100))
            .require_https(policy)
            .build()
            .unwrap();
        let charge = merchant.charge(|head: &Parts| (head.uri.path() != "/free").then(|| usd("1.00"))).unwrap();
        Router::new().route("/", get("served")).route("/free", get("free")).route_layer(charge)
    };
    let plain = || get_("/");
    let over_tls = || {
        let mut request = plain();
        request.extensions_mut().insert(OverTls);
        request
    };
    let absolute = || get_("https://api.example.com/");
    let forwarded = |value| move || header(plain(), "x-forwarded-proto", value);
    let direct = || app("api.example.com", HttpsPolicy::direct());
    let behind_proxy = || app("api.example.com", HttpsPolicy::direct().trust_x_forwarded_proto());
    let rows: [(Router, &dyn Fn() -> Request, u16); 12] = [
        (direct(), &plain, 403),
        (direct(), &over_tls, 402),
        // Whoever sends the request writes its target.
        (direct(), &absolute, 403),
        (direct(), &|| get_("http://api.example.com/"), 403),
        (direct(), &forwarded("https"), 403),
        (behind_proxy(), &plain, 403),
        (behind_proxy(), &forwarded("https"), 402),
        (behind_proxy(), &forwarded("http"), 403),
        (behind_proxy(), &forwarded("https, http"), 403),
        (app("localhost:3000", HttpsPolicy::direct()), &plain, 402),
        (direct(), &|| get_("/free"), 200),
        (direct(), &|| request(Method::OPTIONS, "/", ""), 405),
    ];
    for (index, (app, request, status)) in rows.into_iter().enumerate() {
        let answer = call(&app, request()).await;
        assert_eq!(answer.status, status, "row {index}");
        if status == 403 {
            answer.assert_no_challenge();
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    }
    // A credential that came over HTTP is not taken.
    let app = behind_proxy();
    let credential = pay(&ask(&app, forwarded("https")()).await);
    assert_eq!(call(&app, with_credential(forwarded("http")(), &credential)).await.status, 403);
    assert_eq!(rail.attempts(), 0);
    assert_eq!(call(&app, with_credential(forwarded("https")(), &credential)).await.status, 200);
}

// Browsers

#[tokio::test]
async fn a_preflight_is_not_gated_and_scripts_can_read_the_answers() {
    let rail = TestRail::new("demo");
    let merchant = builder(&rail).expose_headers_to_browsers(true).build().unwrap();
    let charge = merchant.charge(usd("1.00")).unwrap();
    let route = || Router::new().route("/", get("served").route_layer(charge.clone()));
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::exact("https://shop.example".parse().unwrap()))
        .allow_headers([AUTHORIZATION]);
    let with_cors = [
        route().layer(cors.clone()),
        // Also inside.
        Router::new().route("/", get("served").layer::<_, Infallible>(cors).layer(charge.clone())),
    ];
    for app in with_cors {
        let preflight = header(request(Method::OPTIONS, "/", ""), "origin", "https://shop.example");
        let preflight = header(preflight, "access-control-request-method", "GET");
        let answer = call(&app, header(preflight, "access-control-request-headers", "authorization")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-headers"), Some("authorization"));
        answer.assert_no_challenge();
    }
    let app = route().layer(CorsLayer::permissive());
    let from_script = || header(get_("/"), "origin", "https://shop.example");
    let asked = call(&app, from_script()).await;
    let paid = call(&app, with_credential(from_script(), &pay(&challenge(&asked.headers)))).await;
    for (answer, name) in [(asked, "www-authenticate"), (paid, "payment-receipt")] {
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let exposed: Vec<_> = answer.headers.get_all("access-control-expose-headers").iter().collect();
        let readable = exposed.iter().any(|value| {
            let value = value.to_str().unwrap().to_ascii_lowercase();
            value == "*" || value.split(", ").any(|one| one == name)
        });
        assert!(readable && answer.headers.contains_key(name), "{exposed:?}");
    }
    // Without any CORS layer too.
    assert_ne!(call(&route(), request(Method::OPTIONS, "/", "")).await.status, 402);
}

#[tokio::test]
async fn a_browser_reads_all_ways_to_pay() {
    let rail = TestRail::new("demo");
    let merchant = builder(&rail).method(TestRail::new("yen")).build().unwrap();
    let prices = Prices::all(usd("1234.50"))
        .on(MethodId::new("yen").unwrap(), Price::fiat("jpy", "500").unwrap())
        .description("<script>alert(1)</script>");
    let app = Router::new().route("/", get("served").route_layer(merchant.charge(prices).unwrap()));
    let html = || header(get_("/"), "accept", "text/html");
    let answer = call(&app, html()).await;
    assert_eq!(answer.status, 402);
    for text in ["1234.50 USD", "by demo", "500 JPY", "by yen"] {
        assert!(answer.text().contains(text), "{text}: {}", answer.text());
    }
    assert!(!answer.text().contains("<script"));
    assert_eq!(challenges(&answer.headers).len(), 2);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    // A page for refusals without a challenge too.
    let credential = pay(&challenges(&answer.headers)[0]);
    assert_eq!(call(&app, with_credential(html(), &credential)).await.status, 200);
    let again = call(&app, with_credential(html(), &credential)).await;
    assert_eq!(again.status, 403);
    again.assert_no_challenge();
    assert_eq!(again.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(again.text().contains("Do not pay again") && !again.text().contains("Ways to pay"));
}

// What outer layers see

#[tokio::test]
async fn an_outer_layer_reads_why_a_request_was_refused_and_what_was_paid() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);
    let (rail, log) = (TestRail::new("demo"), Log::default());
    let charge = merchant(&rail).charge(usd("1.00")).unwrap();
    let notes = log.clone();
    let fails = |headers: HeaderMap| async move {
        if headers.contains_key("x-fail") { StatusCode::BAD_GATEWAY } else { StatusCode::OK }
    };
    let app = Router::new().route("/", get(fails).route_layer(charge)).layer(middleware::from_fn(
        move |request: Request, next: Next| {
            let log = notes.clone();
            async move {
                let response = next.run(request).await;
                let note = match (response.extensions().get::<Refusal>(), response.extensions().get::<PaymentInfo>()) {
                    (Some(refusal), None) => {
                        assert_eq!(refusal.status(), response.status());
                        refusal.kind().as_str().to_owned()
                    }
                    (None, Some(payment)) => {
                        format!("paid {} {} by {}", payment.amount(), payment.currency(), payment.method())
                    }
                    (None, None) => "neither".to_owned(),
                    both => format!("{both:?}"),
                };
                log.0.lock().unwrap().push(note);
                response
            }
        },
    ));
    let send = async |credential: &HeaderValue| call(&app, with_credential(get_("/"), credential)).await;
    let challenge = ask(&app, get_("/")).await;
    let credential = pay(&challenge);
    send(&"Payment garbage".parse().unwrap()).await;
    let mut forged = challenge.clone();
    forged.expires = Some("2100-01-01T00:00:00Z".into());
    send(&pay(&forged)).await;
    send(&pay_with(&challenge, None, &json!({"token": "decline"}))).await;
    send(&pay_with(&challenge, None, &json!({"token": "insufficient"}))).await;
    send(&pay_with(&challenge, None, &json!({"token": "fault"}))).await;
    send(&credential).await;
    send(&credential).await;
    send(&pay_with(&challenge, None, &json!({"token": "ok", "other": 1}))).await;
    let unknown = pay_with(&ask(&app, get_("/")).await, None, &json!({"token": "unknown"}));
    send(&unknown).await;
    call(&app, header(with_credential(get_("/"), &credential), "authorization", credential.to_str().unwrap())).await;
    let kinds = [
        "payment_required",
        "malformed_credential",
        "invalid_challenge",
        "verification_failed",
        "payment_insufficient",
        "unavailable",
        "paid 100 usd by demo",
        "already_used",
        "proof_used",
        "payment_required",
        "outcome_unknown",
        "multiple_credentials",
    ];
    assert_eq!(*log.0.lock().unwrap(), kinds);
    assert_eq!(RefusalKind::AlreadyUsed.as_str(), "already_used");
}

/// A rail that asks for the address of the client.
struct Careful(TestRail);

#[derive(Debug, PartialEq)]
struct Address(&'static str);

#[async_trait]
impl PaymentMethod for Careful {
    fn method(&self) -> &MethodId {
        self.0.method()
    }

    fn intent(&self) -> &Intent {
        self.0.intent()
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        self.0.offer(price)
    }

    fn check(&self, payment: &tower_mpp::method::Payment) -> Result<Checked, Declined> {
        match payment.context::<Address>() {
            Some(Address("203.0.113.7")) => self.0.check(payment),
            _ => Err(Declined::invalid_proof("This network is not served.")),
        }
    }

    async fn verify(&self, payment: &tower_mpp::method::Payment, attempt: Attempt) -> Result<(), VerifyError> {
        self.0.verify(payment, attempt).await
    }

    async fn settle(&self, payment: &tower_mpp::method::Payment, attempt: Attempt) -> Result<Settlement, SettleError> {
        self.0.settle(payment, attempt).await
    }

    async fn refund(&self, refund: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        self.0.refund(refund).await
    }
}

#[tokio::test]
async fn a_rail_knows_what_an_outer_layer_tells_it() {
    let rail = TestRail::new("demo");
    let merchant = Merchant::builder("api.example.com", KeyRing::new(KEY).unwrap())
        .method(Careful(rail.clone()))
        .nonce_store(MemoryNonceStore::single_process(100))
        .build()
        .unwrap();
    let app = Router::new().route("/", get("served").route_layer(merchant.charge(usd("1.00")).unwrap()));
    let credential = pay(&ask(&app, get_("/")).await);
    let from = |address: Option<Address>| {
        let mut request = with_credential(get_("/"), &credential);
        if let Some(address) = address {
            request.extensions_mut().insert(PaymentContext::new(address));
        }
        request
    };
    assert_eq!(call(&app, from(None)).await.status, 402);
    assert_eq!(call(&app, from(Some(Address("198.51.100.1")))).await.status, 402);
    assert_eq!(rail.attempts(), 0);
    assert_eq!(call(&app, from(Some(Address("203.0.113.7")))).await.status, 200);
}
