//! `Authorization: Payment id="...", credential="..."`: a client that echoes nothing of a challenge but its id buys
//! what any other buys, and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use serde_json::json;
use support::*;
use tokio::sync::Barrier;
use tower_layer::Layer as _;
use tower_mpp::{
    KeyRing, Merchant, Payment, PaymentLayer, Price, RequestBody,
    protocol::{Challenge, ChallengeId},
    store::{MemoryAnswerStore, MemoryNonceStore},
};

type Service = Payment<Handler>;

const OTHER_KEY: &str = "another key of 32 bytes and more";

/// One resource that takes bare tokens.
struct Shop {
    rail: TestRail,
    merchant: Merchant,
    service: Service,
    handler: Handler,
    fails: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    /// What the handler saw of `Authorization`.
    seen: Arc<Mutex<Vec<HeaderValue>>>,
}

impl Shop {
    fn open() -> Self {
        Self::with(TestRail::new("demo").taking_tokens())
    }

    fn with(rail: TestRail) -> Self {
        let merchant = builder(&rail)
            .answer_store(MemoryAnswerStore::new(1024 * 1024))
            .clock(RuntimeClock::start())
            .build()
            .unwrap();
        let (fails, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (failing, counted, saw) = (Arc::clone(&fails), Arc::clone(&calls), Arc::clone(&seen));
        let handler: Handler = Handler::new(tower::service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
            let turn = counted.fetch_add(1, Ordering::SeqCst);
            saw.lock().unwrap().extend(request.headers().get_all("authorization").iter().cloned());
            let status = if failing.load(Ordering::SeqCst) { 502 } else { 200 };
            let response = Response::builder().status(status).body(Full::from(format!("turn {turn}"))).unwrap();
            async move { Ok::<_, Infallible>(response) }
        }));
        let service = taking_tokens(&merchant).layer(handler.clone());
        Self { rail, merchant, service, handler, fails, calls, seen }
    }

    async fn challenge(&self) -> Challenge {
        ask(&self.service, get("/")).await
    }

    async fn pay(&self, challenge: &Challenge, token: &str) -> Answer {
        call(&self.service, get_paid("/", &bare(&challenge.id, token))).await
    }

    fn so_far(&self) -> (usize, usize) {
        (self.rail.attempts(), self.calls.load(Ordering::SeqCst))
    }
}

fn charge(merchant: &Merchant) -> PaymentLayer {
    merchant.charge(Price::usd("1.00").unwrap()).unwrap()
}

fn taking_tokens(merchant: &Merchant) -> PaymentLayer {
    charge(merchant).accept_token_credentials(true)
}

fn bare(id: &str, token: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("Payment id=\"{id}\", credential=\"{token}\"")).unwrap()
}

/// The credential of the core draft for the same token.
fn spec(challenge: &Challenge) -> HeaderValue {
    pay_with(challenge, None, &json!({"token": "ok"}))
}

fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    request(Method::POST, path, body)
}

#[tokio::test(start_paused = true)]
async fn an_id_and_a_token_buy_one_answer() {
    let shop = Shop::open();
    let challenge = shop.challenge().await;
    let paid = shop.pay(&challenge, "ok").await;
    assert_eq!((paid.status.as_u16(), paid.text()), (200, "turn 0"));
    let receipt = paid.receipt();
    assert_eq!(receipt.challenge_id, Some(challenge.id.clone()));
    assert_eq!(receipt.reference, format!("ref_{}", challenge.id));
    for _ in 0..3 {
        let replay = shop.pay(&challenge, "ok").await;
        assert_eq!((replay.status.as_u16(), &*replay.problem()), (403, "invalid-challenge"));
        replay.assert_no_challenge();
    }
    // In whatever form.
    assert_eq!(call(&shop.service, get_paid("/", &spec(&challenge))).await.status, 403);
    assert_eq!(shop.so_far(), (1, 1));
    assert!(shop.seen.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_token_stays_at_the_gate_and_other_schemes_pass_it() {
    let shop = Shop::open();
    let id = shop.challenge().await.id;
    let value = format!("Bearer abc, payment Credential=\"ok:hush\", x=\"y\", ID={id}, Basic Zm9v");
    let paid = call(&shop.service, get_paid("/", &value.parse().unwrap())).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    assert!(!format!("{paid:?}").contains("hush"));
    assert_eq!(*shop.seen.lock().unwrap(), ["Bearer abc, Basic Zm9v"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_one_id_and_one_token_is_malformed() {
    let shop = Shop::open();
    let id = shop.challenge().await.id;
    for text in [
        format!("Payment id=\"{id}\""),
        "Payment credential=\"ok\"".to_owned(),
        format!("Payment id=\"{id}\", credential=\"\""),
        format!("Payment id=\"{id}\", ID=\"{id}\", credential=\"ok\""),
        format!("Payment id=\"{id}\", credential=\"ok\", credential=\"ok\""),
        format!("Payment id=\"{id}\", credential=\"\\o\\k\""),
        format!("Payment e30, id=\"{id}\", credential=\"ok\""),
        format!("Payment {{\"id\":\"{id}\",\"credential\":\"ok\"}}"),
    ] {
        let answer = call(&shop.service, get_paid("/", &text.parse().unwrap())).await;
        answer.assert_challenged("malformed-credential");
    }
    let two = format!("Payment id=\"{id}\", credential=\"ok\", Payment id=\"{id}\", credential=\"ok\"");
    let answer = call(&shop.service, get_paid("/", &two.parse().unwrap())).await;
    assert_eq!(answer.status, 400);
    answer.assert_no_challenge();
    assert_eq!(shop.so_far(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_credential_of_the_draft_is_taken_beside_it() {
    let shop = Shop::open();
    let challenge = shop.challenge().await;
    assert_eq!(call(&shop.service, get_paid("/", &spec(&challenge))).await.status, 200);
    // One that was issued before the route took tokens, too.
    let off = charge(&shop.merchant).layer(shop.handler.clone());
    let before = ask(&off, get("/")).await;
    assert_eq!(call(&shop.service, get_paid("/", &spec(&before))).await.status, 200);
    assert_eq!(shop.so_far(), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn routes_that_take_no_tokens_take_neither_the_form_nor_the_ids() {
    let shop = Shop::open();
    let off = charge(&shop.merchant).layer(shop.handler.clone());
    let (plain, compact) = (ask(&off, get("/")).await, shop.challenge().await);
    for id in [&plain.id, &compact.id] {
        call(&off, get_paid("/", &bare(id, "ok"))).await.assert_challenged("malformed-credential");
    }
    call(&off, get_paid("/", &spec(&compact))).await.assert_challenged("invalid-challenge");
    // The id of a plain challenge says nothing that it could be rebuilt from.
    shop.pay(&plain, "ok").await.assert_challenged("invalid-challenge");
    assert_eq!(shop.so_far(), (0, 0));
    assert_eq!(call(&off, get_paid("/", &spec(&plain))).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn an_id_with_any_bit_changed_buys_nothing() {
    let shop = Shop::open();
    let challenge = shop.challenge().await;
    let id = *id_of(&challenge).as_bytes();
    for bit in 0..256 {
        let mut forged = id;
        forged[bit / 8] ^= 1 << (bit % 8);
        let forged = Challenge { id: ChallengeId::from_bytes(forged).to_string(), ..challenge.clone() };
        shop.pay(&forged, "ok").await.assert_challenged("invalid-challenge");
        let answer = call(&shop.service, get_paid("/", &spec(&forged))).await;
        answer.assert_challenged("invalid-challenge");
    }
    for text in ["x", &challenge.id[1..], &format!("{}A", challenge.id), &format!("{}=", challenge.id)] {
        let answer = call(&shop.service, get_paid("/", &bare(text, "ok"))).await;
        answer.assert_challenged("invalid-challenge");
    }
    assert_eq!(shop.so_far(), (0, 0));
    assert_eq!(shop.pay(&challenge, "ok").await.status, 200);
}

/// Takes each parameter from one of two challenges; bit by bit.
fn mixed(one: &Challenge, two: &Challenge, choice: u32) -> Challenge {
    let pick = |bit: u32| if choice & (1 << bit) == 0 { one } else { two };
    Challenge {
        id: pick(0).id.clone(),
        request: pick(1).request.clone(),
        expires: pick(2).expires.clone(),
        digest: pick(3).digest.clone(),
        opaque: pick(4).opaque.clone(),
        ..one.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn challenges_cannot_be_put_together_from_parts_of_others() {
    let shop = Shop::open();
    let off = charge(&shop.merchant).layer(shop.handler.clone());
    let own = ask(&shop.service, post("/", "one")).await;
    for other in [
        ask(&shop.service, post("/", "one")).await,
        ask(&shop.service, post("/", "two")).await,
        ask(&off, post("/", "one")).await,
        {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ask(&shop.service, post("/", "one")).await
        },
    ] {
        for choice in 0..32 {
            let forged = mixed(&own, &other, choice);
            if forged != own && forged != other {
                let answer = call(&shop.service, with_credential(post("/", "one"), &spec(&forged))).await;
                answer.assert_challenged("invalid-challenge");
            }
        }
    }
    assert_eq!(shop.so_far(), (0, 0));
    assert_eq!(call(&shop.service, with_credential(post("/", "one"), &bare(&own.id, "ok"))).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn an_id_buys_nothing_but_what_it_was_issued_for() {
    let shop = Shop::open();
    let layer = |merchant: &Merchant, price: &str| {
        merchant.charge(Price::usd(price).unwrap()).unwrap().accept_token_credentials(true).layer(served())
    };
    let rail = &shop.rail;
    let other_realm = Merchant::builder("www.example.com", KeyRing::new(KEY).unwrap())
        .method(rail.clone())
        .nonce_store(MemoryNonceStore::single_process(100));
    let others: Vec<(&str, Service, Request<Full<Bytes>>)> = vec![
        ("path", shop.service.clone(), post("/other", "one")),
        ("method", shop.service.clone(), request(Method::PUT, "/", "one")),
        ("body", shop.service.clone(), post("/", "two")),
        ("no body", shop.service.clone(), post("/", "")),
        ("price", layer(&shop.merchant, "2.00"), post("/", "one")),
        ("label", taking_tokens(&shop.merchant).scope("label").layer(served()), post("/", "one")),
        ("bound body", taking_tokens(&shop.merchant).bind_body(false).layer(served()), post("/", "one")),
        ("realm", layer(&other_realm.build().unwrap(), "1.00"), post("/", "one")),
    ];
    let id = ask(&shop.service, post("/", "one")).await.id;
    for (name, service, mut request) in others {
        request.headers_mut().insert("authorization", bare(&id, "ok"));
        let answer = call(&service, request).await;
        assert_eq!(&*answer.problem(), "invalid-challenge", "{name}");
        answer.assert_challenged("invalid-challenge");
    }
    assert_eq!(rail.attempts(), 0);
    assert_eq!(call(&shop.service, with_credential(post("/", "one"), &bare(&id, "ok"))).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_query_is_bound_where_it_is() {
    let shop = Shop::open();
    let service = taking_tokens(&shop.merchant).bind_query(true).layer(served());
    let id = ask(&service, get("/?a=1")).await.id;
    for other in ["/?a=2", "/", "/?a=1&b=2"] {
        call(&service, get_paid(other, &bare(&id, "ok"))).await.assert_challenged("invalid-challenge");
    }
    assert_eq!(call(&service, get_paid("/?a=1", &bare(&id, "ok"))).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_retired_key_buys_as_long_as_it_is_on_the_ring() {
    let rail = TestRail::new("demo").taking_tokens();
    let store = Arc::new(MemoryNonceStore::single_process(1000));
    let shop = |keys: KeyRing| {
        let merchant = Merchant::builder("api.example.com", keys).method(rail.clone()).nonce_store(store.clone());
        taking_tokens(&merchant.build().unwrap()).layer(served())
    };
    let old = shop(KeyRing::new(KEY).unwrap());
    let rotated = shop(KeyRing::new(OTHER_KEY).unwrap().previous(KEY).unwrap());
    let new = shop(KeyRing::new(OTHER_KEY).unwrap());
    let present = async |shop, id: &str| call(shop, get_paid("/", &bare(id, "ok"))).await.status.as_u16();

    let by_old = ask(&old, get("/")).await.id;
    assert_eq!(present(&new, &by_old).await, 402);
    assert_eq!(present(&rotated, &by_old).await, 200);
    assert_eq!(present(&old, &by_old).await, 403);
    let by_new = ask(&rotated, get("/")).await.id;
    assert_eq!(present(&old, &by_new).await, 402);
    assert_eq!(present(&new, &by_new).await, 200);
    assert_eq!(rail.settlements(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_id_expires_with_its_challenge() {
    let shop = Shop::open();
    let (one, two) = (shop.challenge().await, shop.challenge().await);
    let instant = one.expires_at().unwrap();
    assert_eq!(instant.unix(), "2026-01-01T00:05:00Z".parse::<tower_mpp::protocol::Timestamp>().unwrap().unix());
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert_eq!(shop.pay(&one, "ok").await.status, 200);
    tokio::time::sleep(Duration::from_secs(1)).await;
    shop.pay(&two, "ok").await.assert_challenged("payment-expired");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    shop.pay(&two, "ok").await.assert_challenged("payment-expired");
    assert_eq!(shop.so_far(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_rail_declines_is_asked_for_again() {
    let shop = Shop::open();
    let challenge = shop.challenge().await;
    shop.pay(&challenge, "decline").await.assert_challenged("verification-failed");
    shop.pay(&challenge, "insufficient").await.assert_challenged("payment-insufficient");
    shop.pay(&challenge, "ok").await.receipt();
    assert_eq!((shop.rail.settlements(), shop.so_far()), (1, (3, 1)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_resumed_by_the_same_id_and_token() {
    for token in ["unknown", "lost"] {
        let shop = Shop::open();
        let challenge = shop.challenge().await;
        let unknown = shop.pay(&challenge, token).await;
        assert_eq!(unknown.status, 503);
        unknown.assert_no_challenge();
        assert_eq!(shop.pay(&challenge, token).await.status, 200);
        assert_eq!((shop.rail.settlements(), shop.so_far()), (1, (2, 1)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_paid_and_not_delivered_is_delivered_without_a_second_charge() {
    let shop = Shop::open();
    for by_spec in [false, true] {
        let challenge = shop.challenge().await;
        shop.fails.store(true, Ordering::SeqCst);
        let failed = shop.pay(&challenge, "ok").await;
        assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (502, Some("redeliverable")));
        shop.fails.store(false, Ordering::SeqCst);
        // In either form: it is the same payment.
        let credential = if by_spec { spec(&challenge) } else { bare(&challenge.id, "ok") };
        let delivered = call(&shop.service, get_paid("/", &credential)).await;
        assert_eq!(delivered.status, 200);
        assert_eq!(shop.rail.settlements_of(id_of(&challenge)), 1);
    }
    assert_eq!(shop.rail.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_comes_again_for_its_key() {
    let shop = Shop::open();
    let challenge = ask(&shop.service, post("/", "one")).await;
    let send = async |key: &str, body: &'static str| {
        let mut request = with_credential(post("/", body), &bare(&challenge.id, "ok"));
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        call(&shop.service, request).await
    };
    let first = send("k", "one").await;
    assert_eq!(first.status, 200);
    for _ in 0..3 {
        let again = send("k", "one").await;
        assert_eq!((again.status, &again.headers, &again.body), (first.status, &first.headers, &first.body));
    }
    // Another body under this key is a mistake that must not make anybody pay again; under another key it is a
    // request that was never paid for.
    let other_body = send("k", "two").await;
    assert_eq!(other_body.status, 422);
    other_body.assert_no_challenge();
    send("other", "two").await.assert_challenged("invalid-challenge");
    assert_eq!(send("other", "one").await.status, 403);
    assert_eq!(shop.so_far(), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_at_once_in_both_forms_are_charged_and_served_once() {
    for yields in [0, 1, YIELDS] {
        let shop = Shop::with(TestRail::new("demo").taking_tokens().yielding(yields));
        for round in 0..20 {
            let challenge = shop.challenge().await;
            let gate = Arc::new(Barrier::new(50));
            let racers: Vec<_> = (0..50)
                .map(|n| {
                    let credential = if n % 5 == 4 { spec(&challenge) } else { bare(&challenge.id, "ok") };
                    let (gate, service) = (Arc::clone(&gate), shop.service.clone());
                    tokio::spawn(async move {
                        gate.wait().await;
                        call(&service, get_paid("/", &credential)).await
                    })
                })
                .collect();
            let mut served = 0;
            for racer in racers {
                let answer = racer.await.unwrap();
                match answer.status.as_u16() {
                    200 => served += 1,
                    403 | 409 => answer.assert_no_challenge(),
                    _ => panic!("{answer:?}"),
                }
            }
            assert_eq!((served, shop.so_far()), (1, (round + 1, round + 1)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_token_pays_one_challenge_in_whatever_form() {
    let shop = Shop::open();
    let (one, two, three) = (shop.challenge().await, shop.challenge().await, shop.challenge().await);
    assert_eq!(shop.pay(&one, "ok:spt_1").await.status, 200);
    let again = shop.pay(&two, "ok:spt_1").await;
    assert_eq!(again.status, 403);
    again.assert_no_challenge();
    let again = pay_with(&three, None, &json!({"token": "ok", "proof": "spt_1"}));
    assert_eq!(call(&shop.service, get_paid("/", &again)).await.status, 403);
    // Another token for a challenge that is paid.
    assert_eq!(shop.pay(&one, "ok:spt_2").await.status, 403);
    assert_eq!(shop.so_far(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_bare_token_is_for_the_rails_that_know_one() {
    let (plain, tokens) = (TestRail::new("plain"), TestRail::new("tokens").taking_tokens());
    let merchant = builder(&plain).method(tokens.clone()).build().unwrap();
    let service = taking_tokens(&merchant).layer(served());
    let offers = challenges(&call(&service, get("/")).await.headers);
    assert_eq!((offers[0].method.as_str(), offers[1].method.as_str()), ("plain", "tokens"));
    assert_ne!(offers[0].id, offers[1].id);
    call(&service, get_paid("/", &bare(&offers[0].id, "ok"))).await.assert_challenged("invalid-challenge");
    assert_eq!(call(&service, get_paid("/", &bare(&offers[1].id, "ok"))).await.status, 200);
    assert_eq!((plain.settlements(), tokens.settlements()), (0, 1));
    assert_eq!(call(&service, get_paid("/", &spec(&offers[0]))).await.status, 200);

    let nobody = taking_tokens(&support::merchant(&plain)).layer(served());
    let id = ask(&nobody, get("/")).await.id;
    let answer = call(&nobody, get_paid("/", &bare(&id, "ok"))).await;
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (400, "method-unsupported"));
    answer.assert_no_challenge();
}

#[tokio::test(start_paused = true)]
async fn ids_are_unique_and_spread_by_their_first_bytes() {
    let shop = Shop::open();
    let mut ids = BTreeSet::new();
    let mut first = BTreeSet::new();
    for _ in 0..500 {
        let id = id_of(&shop.challenge().await);
        first.insert(id.as_bytes()[..2].to_vec());
        assert!(ids.insert(id));
    }
    assert!(first.len() > 450, "{}", first.len());
}

#[tokio::test(start_paused = true)]
async fn a_challenge_is_what_it_was_but_for_its_id() {
    let shop = Shop::open();
    let off = charge(&shop.merchant).layer(shop.handler.clone());
    let (on, off) = (ask(&shop.service, post("/", "one")).await, ask(&off, post("/", "one")).await);
    let without = |challenge: &Challenge| Challenge { id: "x".into(), opaque: None, ..challenge.clone() };
    assert_eq!(without(&on), without(&off));
    let members = |challenge: &Challenge| challenge.opaque_members().unwrap().into_keys().collect::<Vec<_>>();
    assert_eq!(members(&on), members(&off));
    // The nonce is the first half of the id.
    let nonce = URL_SAFE_NO_PAD.decode(&on.opaque_members().unwrap()["nonce"]).unwrap();
    assert_eq!(nonce, id_of(&on).as_bytes()[..16]);
}

#[tokio::test(start_paused = true)]
async fn another_scheme_is_refused_where_only_payments_are_taken() {
    let shop = Shop::open();
    let only = charge(&shop.merchant).refuse_other_schemes(true).layer(shop.handler.clone());
    let credential = spec(&ask(&only, get("/")).await).to_str().unwrap().to_owned();
    let both = format!("{credential}, Bearer abc");
    for value in ["Bearer abc", "bearer abc", "Basic Zm9v", "sk-0123", "Bearer", "Bearer \"open", &both] {
        let answer = call(&only, get_paid("/", &value.parse().unwrap())).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (403, "OnlyPayments"), "{value}");
        answer.assert_no_challenge();
    }
    let mut two_lines = get_paid("/", &credential.parse().unwrap());
    two_lines.headers_mut().append("authorization", HeaderValue::from_static("Bearer abc"));
    assert_eq!(call(&only, two_lines).await.status, 403);
    assert_eq!(shop.so_far(), (0, 0));
    // Preflights are for browsers, and carry nothing.
    assert_eq!(call(&only, request(Method::OPTIONS, "/", "")).await.status, 200);
    call(&only, get("/")).await.assert_challenged("payment-required");
    let garbage = call(&only, get_paid("/", &HeaderValue::from_static("Payment \"open"))).await;
    garbage.assert_challenged("malformed-credential");
    assert_eq!(call(&only, get_paid("/", &credential.parse().unwrap())).await.status, 200);
    // Elsewhere a Bearer is not treated as a payment.
    let answer = call(&shop.service, get_paid("/", &HeaderValue::from_static("Bearer abc"))).await;
    answer.assert_challenged("payment-required");
}
