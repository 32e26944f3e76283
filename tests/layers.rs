//! The layer among other layers: who answers first, what each of them sees, and how prices are told.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

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

// Prices

#[tokio::test]
async fn subscribers_are_free() {
    let rail = TestRail::new("demo");
    let who = |payment: Option<PaymentInfo>| async move {
        payment.map_or("subscriber".to_owned(), |payment| format!("paid {}", payment.amount()))
    };
    let charge = merchant(&rail).charge(usd("1.00")).unwrap();
    let charge = charge.free_when(|head| head.headers.get("x-plan").is_some_and(|plan| plan == "gold"));
    let app = Router::new().route("/", get(who).route_layer(charge));
    let gold = call(&app, header(get_("/"), "x-plan", "gold")).await;
    assert_eq!((gold.status.as_u16(), gold.text()), (200, "subscriber"));
    gold.assert_no_challenge();
    assert_eq!(call(&app, header(get_("/"), "x-plan", "tin")).await.status, 402);
    assert_eq!(buy(&app, || get_("/")).await.text(), "paid 100");
    assert_eq!(rail.settlements(), 1);
}

#[tokio::test]
async fn a_handler_that_asks_who_paid_on_a_free_route_is_a_500_and_not_a_lie() {
    let app = Router::new().route("/", get(|payment: PaymentInfo| async move { payment.reference().to_owned() }));
    let answer = call(&app, get_("/")).await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn a_price_by_head_is_what_is_asked_and_what_is_taken() {
    let rail = TestRail::new("demo");
    let pricing = |head: &Parts| match head.uri.path().rsplit('/').next() {
        Some("small") => Ok(Some(usd("0.10"))),
        Some("large") => Ok(Some(usd("10.00"))),
        Some("free") => Ok(None),
        _ => Err(Refused::new(StatusCode::NOT_FOUND, "There is no such size.")),
    };
    let charge = merchant(&rail).charge(pricing).unwrap();
    let paid = |Path(_): Path<String>, payment: Option<PaymentInfo>| async move {
        payment.map_or("free".to_owned(), |payment| format!("{} {}", payment.amount(), payment.currency()))
    };
    let app = Router::new().route("/{size}", get(paid).route_layer(charge));
    assert_eq!(amount(&ask(&app, get_("/small")).await), "10 usd");
    assert_eq!(amount(&ask(&app, get_("/large")).await), "1000 usd");
    assert_eq!(buy(&app, || get_("/small")).await.text(), "10 usd");
    assert_eq!(call(&app, get_("/free")).await.text(), "free");
    let unknown = call(&app, get_("/huge")).await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("There is no such size."));
    unknown.assert_no_challenge();
}

#[tokio::test]
async fn a_price_that_changed_is_asked_anew_and_the_old_one_not_taken() {
    let rail = TestRail::new("demo");
    let price = Arc::new(Mutex::new(usd("1.00")));
    let current = Arc::clone(&price);
    let charge = merchant(&rail).charge(move |_: &Parts| current.lock().unwrap().clone()).unwrap();
    let app = Router::new().route("/", get("served").route_layer(charge));
    let credential = pay(&ask(&app, get_("/")).await);
    *price.lock().unwrap() = usd("0.50");
    let answer = call(&app, with_credential(get_("/"), &credential)).await;
    answer.assert_challenged("invalid-challenge");
    assert_eq!(amount(&challenge(&answer.headers)), "50 usd");
    *price.lock().unwrap() = usd("1.00");
    assert_eq!(call(&app, with_credential(get_("/"), &credential)).await.status, 200);
    // More prices than a route remembers.
    for cents in 1..200_u32 {
        *price.lock().unwrap() = usd(&format!("3.{:02}", cents % 100));
        assert_eq!(buy(&app, || get_("/")).await.status, 200);
    }
}

fn by_model(_: &Parts, body: &Bytes) -> Result<Price, Refused> {
    let request: Value = serde_json::from_slice(body).map_err(|_| Refused::bad_request("The body is not JSON."))?;
    match request["model"].as_str() {
        Some("fast") => Ok(usd("0.10")),
        Some("wise") => Ok(usd("5.00")),
        _ => Err(Refused::bad_request("There is no such model.")),
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_before_any_challenge() {
    let rail = TestRail::new("demo");
    let merchant = merchant(&rail);
    let layers = [
        merchant.charge(pricing::with_body(by_model)).unwrap(),
        merchant
            .charge(pricing::with_async(|head, body| {
                let quote = by_model(head, body);
                async {
                    tokio::task::yield_now().await;
                    quote
                }
            }))
            .unwrap(),
    ];
    for charge in layers {
        let app = Router::new().route("/", post(|body: String| async move { body }).route_layer(charge));
        let ask_for = |body| request(Method::POST, "/", body);
        for (body, words) in [
            (r#"{"model":"unheard of"}"#, "There is no such model."),
            ("{}", "There is no such model."),
            ("not json", "The body is not JSON."),
            ("", "The body is not JSON."),
        ] {
            // With any credential or none.
            for credential in ["", "Payment garbage"] {
                let answer = call(&app, header(ask_for(body), "authorization", credential)).await;
                assert_eq!(answer.status, 400);
                assert!(answer.text().contains(words), "{}", answer.text());
                answer.assert_no_challenge();
            }
        }
        assert_eq!(amount(&ask(&app, ask_for(r#"{"model":"fast"}"#)).await), "10 usd");
        let wise = ask(&app, ask_for(r#"{"model":"wise"}"#)).await;
        assert_eq!(amount(&wise), "500 usd");
        assert_eq!(buy(&app, || ask_for(r#"{"model":"fast"}"#)).await.text(), r#"{"model":"fast"}"#);
        // The price of one model does not buy another.
        let fast = pay(&ask(&app, ask_for(r#"{"model":"fast"}"#)).await);
        let answer = call(&app, with_credential(ask_for(r#"{"model":"wise"}"#), &fast)).await;
        answer.assert_challenged("invalid-challenge");
    }
    assert_eq!(rail.settlements(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_price_that_cannot_be_looked_up_in_time_is_503() {
    let rail = TestRail::new("demo");
    let charge = merchant(&rail)
        .charge(pricing::with_async(|head: &Parts, _| {
            let stuck = head.headers.contains_key("x-stuck");
            async move {
                if stuck {
                    std::future::pending::<()>().await;
                }
                usd("1.00")
            }
        }))
        .unwrap();
    let app = Router::new().route("/", get("served").route_layer(charge));
    let credential = pay(&ask(&app, get_("/")).await);
    let begun = tokio::time::Instant::now();
    let stuck = header(with_credential(get_("/"), &credential), "x-stuck", "1");
    let answer = call(&app, stuck).await;
    assert_eq!((answer.status.as_u16(), begun.elapsed().as_secs()), (503, 5));
    assert!(answer.headers.contains_key("retry-after"));
    answer.assert_no_challenge();
    assert_eq!(rail.attempts(), 0);
    assert_eq!(call(&app, with_credential(get_("/"), &credential)).await.status, 200);
}

#[tokio::test]
async fn a_price_that_no_rail_takes_is_our_mistake_and_says_so_without_a_challenge() {
    let rail = TestRail::new("demo");
    let merchant = merchant(&rail);
    let nobody: [Quote; 2] = [usd("0.00").into(), Prices::only(MethodId::new("unheard").unwrap(), usd("1.00")).into()];
    for quote in nobody {
        let charge = merchant.charge(move |_: &Parts| quote.clone()).unwrap();
        let app = Router::new().route("/", get("served").route_layer(charge));
        let answer = call(&app, get_("/")).await;
        assert_eq!(answer.status, 500);
        answer.assert_no_challenge();
    }
}

#[tokio::test]
async fn every_rail_has_its_price() {
    let (card, coin) = (TestRail::new("card"), TestRail::new("coin"));
    let merchant = builder(&card).method(coin.clone()).build().unwrap();
    let id = |name: &'static str| MethodId::new(name).unwrap();
    let app = |prices: Prices| Router::new().route("/", get("served").route_layer(merchant.charge(prices).unwrap()));
    let offered = async |app: &Router| -> Vec<String> {
        let all = challenges(&call(app, get_("/")).await.headers);
        all.iter().map(|challenge| format!("{} {}", challenge.method, amount(challenge))).collect()
    };
    // `builder` begins with the rail `demo`, which is `card` here.
    let cheaper = app(Prices::all(usd("1.00")).on(id("coin"), usd("0.90")));
    assert_eq!(offered(&cheaper).await, ["card 100 usd", "coin 90 usd"]);
    assert_eq!(offered(&app(Prices::only(id("coin"), usd("0.90")))).await, ["coin 90 usd"]);
    let two = Prices::only(id("coin"), usd("0.90")).on(id("coin"), Price::fiat("eur", "0.80").unwrap());
    assert_eq!(offered(&app(two)).await, ["coin 90 usd", "coin 80 eur"]);
    // The cheap price is not good on the dear rail.
    let all = challenges(&call(&cheaper, get_("/")).await.headers);
    let mut swapped = all[1].clone();
    swapped.method = id("card");
    assert_eq!(call(&cheaper, with_credential(get_("/"), &pay(&swapped))).await.status, 402);
    assert_eq!(call(&cheaper, with_credential(get_("/"), &pay(&all[1]))).await.status, 200);
    assert_eq!((card.settlements(), coin.settlements()), (0, 1));
}

#[tokio::test]
async fn two_routes_of_one_merchant_are_two_things() {
    let rail = TestRail::new("demo");
    let merchant = merchant(&rail);
    let charge = |price| merchant.charge(usd(price)).unwrap();
    let app = Router::new()
        .route("/a", get("a").route_layer(charge("1.00")).post("free post"))
        .route("/b", get("b").route_layer(charge("2.00")).merge(post("paid post").route_layer(charge("3.00"))));
    assert_eq!(amount(&ask(&app, get_("/a")).await), "100 usd");
    assert_eq!(amount(&ask(&app, get_("/b")).await), "200 usd");
    assert_eq!(amount(&ask(&app, request(Method::POST, "/b", "")).await), "300 usd");
    assert_eq!(call(&app, request(Method::POST, "/a", "")).await.text(), "free post");
    for (path, text) in [("/a", "a"), ("/b", "b")] {
        assert_eq!(buy(&app, || get_(path)).await.text(), text);
    }
    assert_eq!(buy(&app, || request(Method::POST, "/b", "x")).await.text(), "paid post");
    assert_eq!(rail.settlements(), 3);
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

// Small and clean headers

/// All header lines of an answer, as HTTP/1 writes them.
fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

#[tokio::test]
async fn many_offers_stay_under_eight_kilobytes() {
    let names: Vec<&'static str> =
        ('a'..='z').flat_map(|a| ['x', 'y'].map(|b| &*format!("rail{a}{b}").leak())).collect();
    let mut builder = Merchant::builder("api.example.com", KeyRing::new(KEY).unwrap())
        .nonce_store(MemoryNonceStore::single_process(100))
        .expose_headers_to_browsers(true);
    for name in &names {
        builder = builder.method(TestRail::new(name));
    }
    let merchant = builder.build().unwrap();
    let charge = || merchant.charge(usd("1.00")).unwrap();
    let long = "A description. ".repeat(200);
    let awkward = "\u{1F600}\"\\\r\n".repeat(300);
    let path = format!("/{}", "\"%22{}".repeat(30));
    for layer in [charge(), charge().description("Short"), charge().description(&long), charge().description(&awkward)]
    {
        let app = Router::new().route("/{*path}", post("served").route_layer(layer));
        for accept in ["", "application/json", "text/html"] {
            let answer = call(&app, header(request(Method::POST, &path, "body"), "accept", accept)).await;
            assert_eq!(answer.status, 402);
            let size = header_bytes(&answer.headers);
            assert!(size < 8192, "{size}");
            // The first ones are the ones that the merchant likes best.
            let all = challenges(&answer.headers);
            assert!(all.len() > 8, "{}", all.len());
            for (challenge, name) in all.iter().zip(&names) {
                assert_eq!(challenge.method.as_str(), *name);
            }
        }
        // What was left out is offered to who asks for it.
        let wanted = header(request(Method::POST, &path, "body"), "accept-payment", "railzy/charge");
        let challenge = ask(&app, wanted).await;
        assert_eq!(challenge.method.as_str(), "railzy");
        let paid = call(&app, with_credential(request(Method::POST, &path, "body"), &pay(&challenge))).await;
        assert_eq!(paid.status, 200);
    }
}

#[tokio::test]
async fn a_description_that_is_too_long_is_left_out_and_never_the_offer() {
    let rail = TestRail::new("demo");
    for length in [100, 1000, 6000, 10_000, 100_000] {
        let text = "x".repeat(length);
        let merchant = merchant(&rail);
        let by_route = merchant.charge(usd("1.00")).unwrap().description(&text);
        let by_price = merchant.charge(Prices::all(usd("1.00")).description(text.clone())).unwrap();
        for layer in [by_route, by_price] {
            let app = Router::new().route("/", get("served").route_layer(layer));
            let answer = call(&app, get_("/")).await;
            assert_eq!(answer.status, 402);
            assert!(header_bytes(&answer.headers) < 8192);
            let description = challenge(&answer.headers).description;
            assert_eq!(description, (length < 6500).then(|| text.clone()), "{length}");
        }
    }
}

#[tokio::test]
async fn long_and_odd_paths_are_bound_and_keep_the_challenge_small() {
    let rail = TestRail::new("demo");
    let charge = merchant(&rail).charge(usd("1.00")).unwrap();
    let app = Router::new().route("/{*path}", get("served").route_layer(charge));
    let paths = [
        format!("/{}", "a".repeat(8000)),
        format!("/{}", "a".repeat(7999)),
        format!("/{}", "%22".repeat(2000)),
        format!("/{}", "\"".repeat(200)),
        format!("/x?{}", "secret=".repeat(1000)),
        "/caf%C3%A9/%F0%9F%98%80".to_owned(),
        "/caf\u{e9}".to_owned(),
        "/%zz%".to_owned(),
        "/a%0d%0aSet-Cookie:%20x=1".to_owned(),
        "/\"quoted\"/{braces}|pipe".to_owned(),
        "/a\\b".to_owned(),
        "/%7C%00%1f%7f".to_owned(),
        "/a,b;c=d, Payment id=\"x\"".replace(' ', "%20"),
    ];
    let mut credentials = Vec::new();
    for path in &paths {
        let Ok(uri) = path.parse::<http::Uri>() else { continue };
        let request = || Request::builder().uri(uri.clone()).body(Body::empty()).unwrap();
        let answer = call(&app, request()).await;
        assert_eq!(answer.status, 402, "{path}");
        let value = answer.headers["www-authenticate"].as_bytes();
        assert!(value.len() < 1024 && value.iter().all(|byte| (b' '..=b'~').contains(byte)), "{path}");
        let challenge = challenge(&answer.headers);
        let opaque = challenge.opaque_members().unwrap();
        assert!(opaque["scope"].len() <= 256 && !opaque["scope"].contains("secret"), "{path}");
        credentials.push((uri, pay(&challenge)));
    }
    assert!(credentials.len() >= 11);
    // Each buys its own, and none another.
    for (own, credential) in &credentials {
        for (uri, _) in &credentials {
            if uri.path() != own.path() {
                let request = Request::builder().uri(uri.clone()).body(Body::empty()).unwrap();
                assert_eq!(call(&app, with_credential(request, credential)).await.status, 402, "{own} {uri}");
            }
        }
        let request = Request::builder().uri(own.clone()).body(Body::empty()).unwrap();
        assert_eq!(call(&app, with_credential(request, credential)).await.status, 200, "{own}");
    }
}

#[tokio::test]
async fn no_text_of_a_merchant_injects_a_header() {
    let texts = [
        "plain",
        "a\r\nSet-Cookie: stolen=1",
        "a\nb",
        "a\rb",
        "\0\u{1}\u{7f}\t",
        "\"quoted\", Payment id=\"forged\"",
        "back\\slash\\",
        "\\",
        "\\u0041 is not A",
        "\u{1F600} caf\u{e9} \u{202e}\u{2028}",
        "",
        ", ",
    ];
    for text in texts {
        let rail = TestRail::new("demo");
        let merchant = merchant(&rail);
        let by_route = merchant.charge(usd("1.00")).unwrap().description(text).scope(text);
        let by_price = merchant.charge(Prices::all(usd("1.00")).description(text).external_id(text)).unwrap();
        for layer in [by_route, by_price] {
            let app = Router::new().route("/", get("served").route_layer(layer));
            let server = support::Server::start(app).await;
            let answer = server.get("/").await;
            assert_eq!(answer.status, 402);
            assert!(!answer.headers.contains_key("set-cookie"));
            let value = answer.headers["www-authenticate"].as_bytes();
            assert!(value.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\t'), "{text:?}");
            let challenge = challenge(&answer.headers);
            assert_eq!(challenge.description.as_deref(), Some(text));
            let paid = server.get_paid("/", &pay(&challenge)).await;
            assert_eq!((paid.status.as_u16(), paid.text()), (200, "served"), "{text:?}");
            let long = Duration::from_secs(60);
            assert!(
                challenge
                    .expires_at()
                    .is_some_and(|at| at > tower_mpp::Clock::now(&tower_mpp::SystemClock).saturating_add(long))
            );
        }
    }
}
