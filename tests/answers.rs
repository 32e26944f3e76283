//! Every row of the table of answers, over a socket, with headers and body.

mod support;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Method, StatusCode},
    routing::{any, get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use support::*;
use tower_mpp::{
    ManualClock, MerchantBuilder, PaymentInfo, Price, ReplayAnswer, TRACING_TARGET,
    method::Sandbox,
    protocol::{Challenge, ChallengeId},
    store::MemoryNonceStore,
};

fn usd(text: &str) -> Price {
    Price::usd(text).unwrap()
}

fn ok() -> Value {
    json!({"token": "ok"})
}

async fn paid(payment: PaymentInfo) -> String {
    format!("{} {} by {}", payment.amount(), payment.currency(), payment.payer().map_or("nobody", |payer| &payer.id))
}

/// `/a` and `/b` cost the same, `/dear` more; `/fail/{status}` answers that status; `/missing` is not there.
fn app(builder: MerchantBuilder) -> Router {
    let merchant = builder.build().unwrap();
    let dollar = || merchant.charge(usd("1.00")).unwrap().description("A thing \u{2615}");
    let fail = |axum::extract::Path(status): axum::extract::Path<u16>| async move {
        (
            StatusCode::from_u16(status).unwrap(),
            [("payment-receipt", "forged"), ("www-authenticate", "Payment x")],
            "no",
        )
    };
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "slow"
    };
    Router::new()
        .route("/a", get(paid).post(paid).route_layer(dollar()))
        .route("/b", get(paid).route_layer(dollar()))
        .route("/dear", get(paid).route_layer(merchant.charge(usd("2.00")).unwrap()))
        .route("/fail/{status}", get(fail).route_layer(dollar()))
        .route("/slow", get(slow).route_layer(dollar()))
        .route("/upload", post(|body: String| async move { body }).route_layer(dollar().body_limit(1000)))
        .route("/public", get(|| async { ([("cache-control", "public, max-age=60")], "x") }).route_layer(dollar()))
        .route("/free", any(|| async { "free" }))
}

struct Shop {
    rail: TestRail,
    clock: Arc<ManualClock>,
    server: Server,
}

impl Shop {
    async fn open() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(configure: impl FnOnce(MerchantBuilder) -> MerchantBuilder) -> Self {
        let rail = TestRail::new("demo");
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let server = Server::start(app(configure(builder(&rail).clock(Arc::clone(&clock))))).await;
        Self { rail, clock, server }
    }

    async fn challenge(&self, path: &str) -> Challenge {
        challenge(&self.server.get(path).await.headers)
    }

    async fn credential(&self, path: &str, payload: &Value) -> http::HeaderValue {
        pay_with(&self.challenge(path).await, Some("did:example:alice"), payload)
    }

    async fn buy(&self, path: &str, payload: &Value) -> Answer {
        self.server.get_paid(path, &self.credential(path, payload).await).await
    }
}

#[tokio::test]
async fn no_credential_is_asked_to_pay() {
    let shop = Shop::open().await;
    let answer = shop.server.get("/a").await;
    answer.assert_challenged("payment-required");
    let challenge = challenge(&answer.headers);
    assert_eq!(challenge.realm, "127.0.0.1");
    assert_eq!(challenge.method.as_str(), "demo");
    assert_eq!(challenge.intent.as_str(), "charge");
    assert_eq!(challenge.request_as::<Value>().unwrap(), json!({"amount": "100", "currency": "usd"}));
    assert_eq!(challenge.expires.as_deref(), Some("2026-01-01T00:05:00Z"));
    assert_eq!(challenge.description.as_deref(), Some("A thing \u{2615}"));
    assert_eq!(challenge.digest, None);
    let opaque = challenge.opaque_members().unwrap();
    assert_eq!(opaque["scope"], "GET /a");
    assert_eq!(URL_SAFE_NO_PAD.decode(&opaque["nonce"]).unwrap().len(), 16);
    assert_eq!(answer.json()["challengeId"], challenge.id.as_str());
    // What mppx's validator looks for.
    assert!(answer.header("www-authenticate").unwrap().starts_with("Payment "));
    assert_eq!(shop.rail.attempts(), 0);
}

#[tokio::test]
async fn every_challenge_is_another_one() {
    let shop = Shop::open().await;
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..50 {
        ids.push(shop.challenge("/a").await.id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[tokio::test]
async fn paid_is_delivered_with_a_receipt() {
    let shop = Shop::open().await;
    let challenge = shop.challenge("/a").await;
    let answer = shop.server.get_paid("/a", &pay_with(&challenge, Some("did:example:alice"), &ok())).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "100 usd by did:example:alice");
    assert_eq!(answer.header("cache-control"), Some("private"));
    let receipt = answer.receipt();
    assert_eq!(receipt.method.as_str(), "demo");
    assert_eq!(receipt.reference, format!("ref_{}", challenge.id));
    assert_eq!(receipt.challenge_id.as_deref(), Some(challenge.id.as_str()));
    assert_eq!(receipt.timestamp.to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(shop.rail.settlements(), 1);
}

#[tokio::test]
async fn a_paid_answer_is_private_whatever_the_handler_says() {
    let shop = Shop::open().await;
    assert_eq!(shop.buy("/public", &ok()).await.header("cache-control"), Some("private, max-age=60"));
}

#[tokio::test]
async fn garbage_is_malformed() {
    let shop = Shop::open().await;
    let good = shop.credential("/a", &ok()).await;
    let good = good.to_str().unwrap();
    let json = |text: &str| format!("Payment {}", URL_SAFE_NO_PAD.encode(text));
    for garbage in [
        "Payment !!!".to_owned(),
        "Payment".to_owned(),
        "Payment garbage".to_owned(),
        json("[]"),
        json("{}"),
        json(r#"{"challenge":{},"payload":{}}"#),
        json(r#"{"challenge":{"id":"a","id":"b","realm":"r","method":"m","intent":"i","request":"e30"},"payload":{}}"#),
        json(
            r#"{"challenge":{"id":"a","realm":"r","method":"m","intent":"i","request":"e30"},"payload":{"token":"ok","token":"ok"}}"#,
        ),
        json(r#"{"challenge":{"id":"a","realm":"r","method":"m","intent":"i","request":"e30"},"payload":"text"}"#),
        good[..good.len() / 2].to_owned(),
    ] {
        let answer = shop.server.send(Method::GET, "/a", &[("authorization", &garbage)], "").await;
        answer.assert_challenged("malformed-credential");
    }
    assert_eq!(shop.rail.attempts(), 0);
}

#[tokio::test]
async fn a_header_of_any_bytes_is_answered() {
    let shop = Shop::open().await;
    for bytes in [&b"Payment \xff\xfe"[..], b"Payment caf\xe9", b"\"Payment x", b",,,,"] {
        let mut request =
            http::Request::get(format!("http://{}/a", shop.server.address)).body(Default::default()).unwrap();
        request.headers_mut().insert("authorization", http::HeaderValue::from_bytes(bytes).unwrap());
        assert_eq!(shop.server.request(request).await.status, 402, "{bytes:?}");
    }
}

#[tokio::test]
async fn forged_is_an_invalid_challenge() {
    let shop = Shop::open().await;
    let genuine = shop.challenge("/a").await;
    let forgeries: [fn(&mut Challenge); 6] = [
        |c| c.id = ChallengeId::from_bytes([0; 32]).to_string(),
        |c| c.id.push('='),
        |c| c.expires = Some("2027-01-01T00:00:00Z".into()),
        |c| c.opaque = None,
        |c| c.digest = Some("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:".into()),
        |c| c.request = URL_SAFE_NO_PAD.encode(r#"{"amount":"1","currency":"usd"}"#),
    ];
    for forge in forgeries {
        let mut forged = genuine.clone();
        forge(&mut forged);
        let answer = shop.server.get_paid("/a", &pay_with(&forged, None, &ok())).await;
        answer.assert_challenged("invalid-challenge");
    }
    let mut realm = genuine.clone();
    realm.realm = "elsewhere".into();
    shop.server.get_paid("/a", &pay_with(&realm, None, &ok())).await.assert_challenged("invalid-challenge");
    assert_eq!(shop.rail.attempts(), 0);
    // The genuine one is untouched by all that.
    assert_eq!(shop.server.get_paid("/a", &pay_with(&genuine, None, &ok())).await.status, 200);
}

#[tokio::test]
async fn another_route_price_or_method_is_an_invalid_challenge() {
    let shop = Shop::open().await;
    let credential = shop.credential("/a", &ok()).await;
    shop.server.get_paid("/b", &credential).await.assert_challenged("invalid-challenge");
    shop.server.get_paid("/dear", &credential).await.assert_challenged("invalid-challenge");
    shop.server.pay(Method::POST, "/a", &credential, "").await.assert_challenged("invalid-challenge");
    shop.server.pay(Method::GET, "/a", &credential, "a body").await.assert_challenged("invalid-challenge");
    assert_eq!(shop.rail.attempts(), 0);
}

#[tokio::test]
async fn expired_is_told_apart_and_not_charged() {
    let shop = Shop::open().await;
    let credential = shop.credential("/a", &ok()).await;
    // The instant of expiry is too late.
    shop.clock.advance(Duration::from_secs(300));
    shop.server.get_paid("/a", &credential).await.assert_challenged("payment-expired");
    shop.clock.advance(Duration::from_secs(3600));
    shop.server.get_paid("/a", &credential).await.assert_challenged("payment-expired");
    assert_eq!(shop.rail.attempts(), 0);
}

#[tokio::test]
async fn declined_is_verification_failed_and_the_claim_is_free_again() {
    let shop = Shop::open().await;
    for (token, problem) in [
        ("decline", "verification-failed"),
        ("forged", "verification-failed"),
        ("no such token", "verification-failed"),
        ("insufficient", "payment-insufficient"),
    ] {
        let challenge = shop.challenge("/a").await;
        let declined = pay_with(&challenge, None, &json!({"token": token}));
        shop.server.get_paid("/a", &declined).await.assert_challenged(problem);
        assert_eq!(shop.server.get_paid("/a", &pay_with(&challenge, None, &ok())).await.status, 200, "{token}");
    }
    let unreadable = shop.credential("/a", &json!({"tok": 1})).await;
    shop.server.get_paid("/a", &unreadable).await.assert_challenged("verification-failed");
}

#[tokio::test]
async fn a_method_that_is_not_offered_is_400_and_never_free() {
    let shop = Shop::open().await;
    let mut challenge = shop.challenge("/a").await;
    challenge.method = "tempo".parse().unwrap();
    let answer = shop.server.get_paid("/a", &pay_with(&challenge, None, &ok())).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.problem(), "method-unsupported");
    answer.assert_no_challenge();
}

#[tokio::test]
async fn more_than_one_payment_credential_is_400() {
    let shop = Shop::open().await;
    let credential = shop.credential("/a", &ok()).await;
    let credential = credential.to_str().unwrap();
    let twice = format!("{credential}, {credential}");
    for headers in [
        vec![("authorization", twice.as_str())],
        vec![("authorization", credential), ("authorization", credential)],
        vec![("authorization", credential), ("authorization", "Bearer x"), ("authorization", "payment abc")],
    ] {
        let answer = shop.server.send(Method::GET, "/a", &headers, "").await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer.assert_no_challenge();
    }
    assert_eq!(shop.rail.attempts(), 0);
}

#[tokio::test]
async fn a_payment_behind_another_scheme_is_found() {
    let shop = Shop::open().await;
    let credential = shop.credential("/a", &ok()).await;
    let together = format!("Bearer token123, {}", credential.to_str().unwrap());
    assert_eq!(shop.server.send(Method::GET, "/a", &[("authorization", &together)], "").await.status, 200);
    let credential = shop.credential("/a", &ok()).await;
    let apart = [("authorization", "Bearer token123"), ("authorization", credential.to_str().unwrap())];
    assert_eq!(shop.server.send(Method::GET, "/a", &apart, "").await.status, 200);
}

#[tokio::test]
async fn in_flight_is_409_without_a_challenge() {
    let shop = Shop::open().await;
    let credential = shop.credential("/slow", &ok()).await;
    let first = {
        let (server, credential) = (shop.server.clone(), credential.clone());
        tokio::spawn(async move { server.get_paid("/slow", &credential).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = shop.server.get_paid("/slow", &credential).await;
    assert_eq!(second.status, 409);
    assert!(second.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    second.assert_no_challenge();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(shop.rail.settlements(), 1);
}

#[tokio::test]
async fn delivered_before_is_403_without_a_challenge() {
    let shop = Shop::open().await;
    let credential = shop.credential("/a", &ok()).await;
    assert_eq!(shop.server.get_paid("/a", &credential).await.status, 200);
    let again = shop.server.get_paid("/a", &credential).await;
    assert_eq!(again.status, 403);
    assert_eq!(again.problem(), "invalid-challenge");
    again.assert_no_challenge();
    // Also after the challenge has expired.
    shop.clock.advance(Duration::from_secs(301));
    assert_eq!(shop.server.get_paid("/a", &credential).await.status, 403);
    assert_eq!(shop.rail.settlements(), 1);
}

#[tokio::test]
async fn the_letter_of_the_draft_for_replays_can_be_restored() {
    let shop = Shop::with(|builder| builder.replay_answer(ReplayAnswer::Challenge)).await;
    let credential = shop.credential("/a", &ok()).await;
    assert_eq!(shop.server.get_paid("/a", &credential).await.status, 200);
    shop.server.get_paid("/a", &credential).await.assert_challenged("invalid-challenge");
}

#[tokio::test]
async fn paid_but_failed_is_redeliverable_without_a_second_charge() {
    let shop = Shop::open().await;
    for status in [302, 400, 402, 404, 500, 503] {
        let before = shop.rail.settlements();
        let path = format!("/fail/{status}");
        let credential = shop.credential(&path, &ok()).await;
        for _ in 0..3 {
            let answer = shop.server.get_paid(&path, &credential).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.text(), "no");
            assert_eq!(answer.header("payment-outcome"), Some("redeliverable"));
            answer.assert_no_challenge();
        }
        assert_eq!(shop.rail.settlements(), before + 1);
    }
}

#[tokio::test]
async fn redelivery_outlives_the_challenge_by_the_grace_and_no_longer() {
    let shop = Shop::open().await;
    let credential = shop.credential("/fail/500", &ok()).await;
    assert_eq!(shop.server.get_paid("/fail/500", &credential).await.status, 500);
    shop.clock.advance(Duration::from_secs(300 + 599));
    assert_eq!(shop.server.get_paid("/fail/500", &credential).await.status, 500);
    shop.clock.advance(Duration::from_secs(1));
    // Who has paid is not asked to pay again, and told what became of the money.
    let late = shop.server.get_paid("/fail/500", &credential).await;
    assert_eq!((late.status.as_u16(), late.header("payment-outcome")), (403, Some("unfulfilled")));
    late.assert_no_challenge();
    assert_eq!(shop.rail.settlements(), 1);
    // Who has not is.
    let unpaid = shop.credential("/fail/500", &ok()).await;
    shop.clock.advance(Duration::from_secs(300 + 600));
    shop.server.get_paid("/fail/500", &unpaid).await.assert_challenged("payment-expired");
    assert_eq!(shop.rail.settlements(), 1);
}

#[tokio::test]
async fn a_receipt_of_the_handler_is_not_ours() {
    let shop = Shop::open().await;
    let answer = shop.buy("/fail/200", &ok()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers.get_all("payment-receipt").iter().count(), 1);
    assert_eq!(answer.receipt().method.as_str(), "demo");
    assert!(!answer.headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn unknown_stays_unknown_until_the_same_credential_resolves_it() {
    for token in ["unknown", "lost"] {
        let shop = Shop::open().await;
        let challenge = shop.challenge("/a").await;
        let credential = pay_with(&challenge, None, &json!({"token": token}));
        let first = shop.server.get_paid("/a", &credential).await;
        assert_eq!(first.status, 503);
        assert_eq!(first.problem(), "PaymentOutcomeUnknown");
        assert!(first.headers.contains_key("retry-after"));
        first.assert_no_challenge();
        // Another payment for the same challenge must wait: this one may have gone through.
        let other = shop.server.get_paid("/a", &pay_with(&challenge, None, &ok())).await;
        assert_eq!(other.status, 409);
        other.assert_no_challenge();
        assert_eq!(shop.server.get_paid("/a", &credential).await.status, 200);
        assert_eq!(shop.rail.settlements(), 1);
    }
}

#[tokio::test]
async fn a_rail_that_does_not_answer_is_unknown() {
    let shop = Shop::with(|builder| builder.rail_timeout(Duration::from_millis(50))).await;
    let answer = shop.buy("/a", &json!({"token": "never"})).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.problem(), "PaymentOutcomeUnknown");
    answer.assert_no_challenge();
}

#[tokio::test]
async fn a_rail_that_panics_takes_nothing_down() {
    let shop = Shop::open().await;
    let rail = shop.rail.clone().yielding(1);
    let answer = shop.buy("/a", &json!({"token": "panic"})).await;
    assert_eq!(answer.status, 503);
    answer.assert_no_challenge();
    drop(rail);
    assert_eq!(shop.buy("/a", &ok()).await.status, 200);
}

#[tokio::test]
async fn our_fault_is_503_and_says_nothing_of_the_rail() {
    let shop = Shop::open().await;
    for token in ["fault", "verify_fault"] {
        let challenge = shop.challenge("/a").await;
        let answer = shop.server.get_paid("/a", &pay_with(&challenge, None, &json!({"token": token}))).await;
        assert_eq!(answer.status, 503);
        answer.assert_no_challenge();
        assert!(answer.headers.contains_key("retry-after"));
        assert!(!answer.text().contains("sk_secret") && !answer.text().contains("rail"), "{}", answer.text());
        // Nothing was charged: the same challenge can still be paid.
        assert_eq!(shop.server.get_paid("/a", &pay_with(&challenge, None, &ok())).await.status, 200);
    }
}

#[tokio::test]
async fn a_proof_pays_one_challenge() {
    let shop = Shop::open().await;
    let proof = json!({"token": "ok", "proof": "0xAB"});
    assert_eq!(shop.buy("/a", &proof).await.status, 200);
    let again = shop.buy("/a", &proof).await;
    assert_eq!(again.status, 403);
    again.assert_no_challenge();
    // Byte for byte: another case is another proof.
    assert_eq!(shop.buy("/a", &json!({"token": "ok", "proof": "0xab"})).await.status, 200);
    // A declined proof is free again.
    assert_eq!(shop.buy("/a", &json!({"token": "decline", "proof": "p"})).await.status, 402);
    assert_eq!(shop.buy("/b", &json!({"token": "ok", "proof": "p"})).await.status, 200);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_before_anything_else() {
    let shop = Shop::open().await;
    let large = "x".repeat(1001);
    for headers in [&[][..], &[("authorization", "Payment garbage")]] {
        let answer = shop.server.send(Method::POST, "/upload", headers, &large).await;
        assert_eq!(answer.status, 413);
        answer.assert_no_challenge();
    }
    shop.server.send(Method::POST, "/upload", &[], &large[1..]).await.assert_challenged("payment-required");
}

#[tokio::test]
async fn a_declared_length_over_the_limit_is_refused_without_waiting_for_it() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let shop = Shop::open().await;
    let mut socket = tokio::net::TcpStream::connect(shop.server.address).await.unwrap();
    socket.write_all(b"POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 590000000\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(Duration::from_secs(5), socket.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_full_house_is_503_and_charges_nothing() {
    let shop = Shop::with(|builder| builder.max_in_flight(1)).await;
    let slow = shop.credential("/slow", &ok()).await;
    let first = {
        let server = shop.server.clone();
        tokio::spawn(async move { server.get_paid("/slow", &slow).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = shop.buy("/a", &ok()).await;
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"));
    answer.assert_no_challenge();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(shop.rail.settlements(), 1);
    assert_eq!(shop.buy("/a", &ok()).await.status, 200);
}

#[tokio::test]
async fn a_full_journal_is_503_and_charges_nothing() {
    let shop = Shop::with(|builder| builder.nonce_store(MemoryNonceStore::single_process(1))).await;
    assert_eq!(shop.buy("/a", &ok()).await.status, 200);
    let answer = shop.buy("/a", &ok()).await;
    assert_eq!(answer.status, 503);
    answer.assert_no_challenge();
    assert_eq!(shop.rail.settlements(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_not_sold() {
    let shop = Shop::open().await;
    assert_eq!(shop.server.get("/missing").await.status, 404);
    assert_eq!(shop.server.send(Method::DELETE, "/a", &[], "").await.status, 405);
    assert_eq!(shop.server.get("/free").await.text(), "free");
    // OPTIONS is never asked to pay.
    assert_ne!(shop.server.send(Method::OPTIONS, "/a", &[], "").await.status, 402);
}

#[tokio::test]
async fn head_is_priced_where_get_is() {
    let shop = Shop::open().await;
    let answer = shop.server.send(Method::HEAD, "/a", &[], "").await;
    assert_eq!(answer.status, 402);
    assert!(answer.body.is_empty());
    assert_ne!(answer.header("content-length"), Some("0"));
    let credential = pay_with(&challenge(&answer.headers), None, &ok());
    let paid = shop.server.pay(Method::HEAD, "/a", &credential, "").await;
    assert_eq!(paid.status, 200);
    assert_eq!(paid.receipt().method.as_str(), "demo");
    assert_eq!(shop.server.pay(Method::HEAD, "/a", &credential, "").await.status, 403);
    // HEAD does not buy GET.
    let credential = pay_with(&challenge(&shop.server.send(Method::HEAD, "/a", &[], "").await.headers), None, &ok());
    shop.server.get_paid("/a", &credential).await.assert_challenged("invalid-challenge");
}

#[tokio::test]
async fn a_browser_gets_a_page_and_the_challenge() {
    let shop = Shop::open().await;
    let accept = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    let answer = shop.server.send(Method::GET, "/a", &accept, "").await;
    assert_eq!(answer.status, 402);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(answer.text().contains("1.00 USD"), "{}", answer.text());
    assert_eq!(challenges(&answer.headers).len(), 1);
}

#[tokio::test]
async fn scripts_may_read_the_headers_when_asked_for() {
    let shop = Shop::with(|builder| builder.expose_headers_to_browsers(true)).await;
    let exposed = "access-control-expose-headers";
    assert!(shop.server.get("/a").await.header(exposed).unwrap().contains("WWW-Authenticate"));
    assert!(shop.buy("/a", &ok()).await.header(exposed).unwrap().contains("Payment-Receipt"));
    assert!(Shop::open().await.server.get("/a").await.header(exposed).is_none());
}

#[tokio::test]
async fn several_methods_are_offered_and_accept_payment_chooses() {
    let (first, second) = (TestRail::new("alpha"), TestRail::new("beta"));
    let merchant = builder(&first).method(second).method(Sandbox::new()).test_mode(true).build().unwrap();
    let charge = merchant.charge(usd("1.00")).unwrap();
    let server = Server::start(Router::new().route("/", get(paid).route_layer(charge))).await;
    let offered = async |accept: &str| {
        let headers = [("accept-payment", accept)];
        let answer = server.send(Method::GET, "/", if accept.is_empty() { &[] } else { &headers }, "").await;
        assert_eq!(answer.status, 402);
        let names: Vec<String> = challenges(&answer.headers).iter().map(|c| c.method.to_string()).collect();
        names.join(" ")
    };
    assert_eq!(offered("").await, "alpha beta sandbox");
    assert_eq!(offered("sandbox/charge, alpha/*;q=0.5").await, "sandbox alpha");
    assert_eq!(offered("*/*;q=0.1, beta/charge").await, "beta alpha sandbox");
    assert_eq!(offered("*/charge, alpha/charge;Q=0").await, "beta sandbox");
    // Nothing fits, or it cannot be read: the normal set.
    assert_eq!(offered("tempo/charge").await, "alpha beta sandbox");
    assert_eq!(offered("nonsense").await, "alpha beta sandbox");
    // The credential of any of them buys.
    let all = challenges(&server.get("/").await.headers);
    assert_eq!(server.get_paid("/", &pay_with(&all[1], None, &ok())).await.status, 200);
    assert_eq!(
        server.get_paid("/", &pay_sandbox(&all[2], &tower_mpp::method::SandboxKey::generate())).await.status,
        200
    );
}

#[test]
fn events_have_one_target() {
    assert_eq!(TRACING_TARGET, "tower_mpp");
}
