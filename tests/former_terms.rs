//! Prices that change while money is on its way: whoever has paid at the former price gets what was paid for and is
//! never asked to pay again, nobody is charged at it any more, and a cheap thing never buys a dear one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, request::Parts};
use http_body_util::Full;
use serde_json::json;
use support::*;
use tower_layer::Layer as _;
use tower_mpp::{
    Merchant, MerchantBuilder, Payment, PaymentLayer, Price, RefundStatus, ReplayAnswer,
    pricing::{HeadQuote, Prices, Pricing, Quote, Refused},
    protocol::{Challenge, ChallengeId, MethodId},
    refund::RefundPolicy,
    store::{MemoryAnswerStore, MemoryNonceStore, NonceStore as _},
};

type Service = Payment<Handler>;

/// A price list that changes: what it says depends on nothing else.
#[derive(Clone)]
struct List(Arc<Mutex<Quote>>);

#[async_trait]
impl Pricing for List {
    fn is_by_resource(&self) -> bool {
        true
    }

    fn quote_head(&self, head: &Parts) -> HeadQuote {
        // Both ways of a quote.
        if head.method == Method::POST {
            HeadQuote::NeedsBody
        } else {
            HeadQuote::Quote(self.0.lock().unwrap().clone())
        }
    }

    async fn quote(&self, _: &Parts, _: &Bytes) -> Quote {
        self.0.lock().unwrap().clone()
    }
}

fn usd(price: &str) -> Quote {
    Quote::Charge(Prices::all(Price::usd(price).unwrap()))
}

fn disabled() -> Quote {
    Quote::Refused(Refused::bad_request("This model is not sold at present."))
}

struct Shop {
    rail: TestRail,
    store: FaultyStore<Arc<MemoryNonceStore>>,
    merchant: Merchant,
    list: List,
    handler: Handler,
    service: Service,
    fails: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Shop {
    /// At 0.50.
    fn open() -> Self {
        Self::with(TestRail::new("demo"), |builder| builder)
    }

    fn with(rail: TestRail, adjust: impl FnOnce(MerchantBuilder) -> MerchantBuilder) -> Self {
        let store = FaultyStore::new(Arc::new(MemoryNonceStore::single_process(1000)));
        let builder = builder(&rail)
            .nonce_store(store.clone())
            .answer_store(MemoryAnswerStore::new(1024 * 1024))
            .clock(RuntimeClock::start())
            .refunds(RefundPolicy::off());
        let merchant = adjust(builder).build().unwrap();
        let (fails, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (failing, counted) = (Arc::clone(&fails), Arc::clone(&calls));
        let handler: Handler = Handler::new(tower::service_fn(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let status = if failing.load(Ordering::SeqCst) { 502 } else { 200 };
            async move { Ok::<_, Infallible>(Response::builder().status(status).body(Full::from("served")).unwrap()) }
        }));
        let list = List(Arc::new(Mutex::new(usd("0.50"))));
        let service = merchant.charge(list.clone()).unwrap().layer(handler.clone());
        Self { rail, store, merchant, list, handler, service, fails, calls }
    }

    fn charge(&self) -> PaymentLayer {
        self.merchant.charge(self.list.clone()).unwrap()
    }

    fn fixed(&self, price: &str) -> Service {
        self.merchant.charge(Price::usd(price).unwrap()).unwrap().layer(self.handler.clone())
    }

    fn change(&self, quote: Quote) {
        *self.list.0.lock().unwrap() = quote;
    }

    async fn credential(&self, token: &str) -> (ChallengeId, HeaderValue) {
        let challenge = ask(&self.service, get("/")).await;
        (id_of(&challenge), pay_with(&challenge, None, &json!({ "token": token })))
    }

    /// One that has paid and was not served.
    async fn paid(&self) -> (ChallengeId, HeaderValue) {
        let (id, credential) = self.credential("ok").await;
        self.pay_in_vain(get_paid("/", &credential)).await;
        (id, credential)
    }

    async fn pay_in_vain(&self, request: Request<Full<Bytes>>) {
        self.fails.store(true, Ordering::SeqCst);
        let failed = call(&self.service, request).await;
        assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (502, Some("redeliverable")));
        self.fails.store(false, Ordering::SeqCst);
        self.merchant.drain().await;
    }

    async fn present(&self, credential: &HeaderValue) -> Answer {
        call(&self.service, get_paid("/", credential)).await
    }

    fn break_step(&self, step: &'static str) {
        self.store.fail(Outage { first: 0, length: usize::MAX, fault: Broken::Before, step: Some(step) });
    }

    fn so_far(&self) -> (usize, usize) {
        (self.rail.attempts(), self.calls.load(Ordering::SeqCst))
    }
}

fn with_key(credential: &HeaderValue, key: &str) -> Request<Full<Bytes>> {
    let mut request = get_paid("/", credential);
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

/// Refused without being asked to pay.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16) {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    answer.assert_no_challenge();
}

fn asks(answer: &Answer) -> String {
    let request: serde_json::Value = challenge(&answer.headers).request_as().unwrap();
    request["amount"].as_str().unwrap().to_owned()
}

/// What it can come to cost: more, less, another currency, nothing that can be paid, and no price at all.
fn changes() -> [Quote; 5] {
    let on_no_rail = Quote::Charge(Prices::only(MethodId::new("other").unwrap(), Price::usd("1.00").unwrap()));
    let euro = Quote::Charge(Prices::all(Price::fiat("eur", "0.50").unwrap()));
    [usd("0.75"), usd("0.25"), euro, on_no_rail, disabled()]
}

#[tokio::test(start_paused = true)]
async fn what_was_paid_and_not_delivered_is_delivered_once_whatever_it_costs_now() {
    for change in changes() {
        for expired in [false, true] {
            let shop = Shop::open();
            let (id, credential) = shop.paid().await;
            shop.change(change.clone());
            // Also when it fails once more.
            shop.pay_in_vain(get_paid("/", &credential)).await;
            if expired {
                tokio::time::sleep(Duration::from_secs(301)).await;
            }
            let delivered = shop.present(&credential).await;
            assert_eq!((delivered.status.as_u16(), delivered.text()), (200, "served"), "{change:?}");
            assert_eq!(delivered.receipt().challenge_id, Some(id.to_string()));
            assert_refused(&shop.present(&credential).await, 403);
            assert_eq!(shop.so_far(), (1, 3), "{change:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_paid_is_asked_for_at_the_present_price_and_not_written_down() {
    for token in ["ok", "decline"] {
        let shop = Shop::open();
        let (id, credential) = shop.credential(token).await;
        shop.change(usd("0.75"));
        shop.break_step("claim");
        let answer = shop.present(&credential).await;
        answer.assert_challenged("invalid-challenge");
        assert_eq!(asks(&answer), "75");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        shop.present(&credential).await.assert_challenged("invalid-challenge");
        assert_eq!((shop.so_far(), shop.store.failures()), ((0, 0), 0));
        shop.store.heal();
        assert_eq!(shop.store.find(id).await.unwrap(), None);
        // It is good again at its own price, until it expires.
        let (_, credential) = shop.credential("ok").await;
        shop.change(usd("0.50"));
        shop.present(&credential).await.assert_challenged("invalid-challenge");
        shop.change(usd("0.75"));
        assert_eq!(shop.present(&credential).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_payment_at_work_when_the_price_changes_is_finished_and_asked_for_nothing() {
    for change in changes() {
        let shop = Shop::with(TestRail::new("demo").delay(Duration::from_secs(5)), |builder| builder);
        let (_, credential) = shop.credential("ok").await;
        let running = tokio::spawn({
            let (service, credential) = (shop.service.clone(), credential.clone());
            async move { call(&service, get_paid("/", &credential)).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        shop.change(change);
        let second = shop.present(&credential).await;
        assert_refused(&second, 503);
        assert!(second.headers.contains_key("retry-after"));
        assert_eq!(running.await.unwrap().status, 200);
        assert_refused(&shop.present(&credential).await, 403);
        assert_eq!(shop.so_far(), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_found_out_without_another_charge() {
    for (token, moved) in [("unknown", false), ("lost", true)] {
        let shop = Shop::open();
        let (_, credential) = shop.credential(token).await;
        assert_refused(&shop.present(&credential).await, 503);
        shop.change(usd("0.75"));
        for _ in 0..3 {
            let waiting = shop.present(&credential).await;
            assert_refused(&waiting, 503);
            assert_eq!(&*waiting.problem(), "PaymentOutcomeUnknown");
        }
        shop.merchant.sweeper().sweep().await.unwrap();
        let answer = shop.present(&credential).await;
        if moved {
            assert_eq!(answer.status, 200);
        } else {
            answer.assert_challenged("invalid-challenge");
        }
        assert_eq!((shop.rail.attempts(), shop.rail.settlements()), (1, usize::from(moved)));
    }
}

#[tokio::test(start_paused = true)]
async fn money_that_went_back_or_came_too_late_is_told_of() {
    for change in changes() {
        let shop = Shop::open();
        let (id, refunded) = shop.paid().await;
        let (_, late) = shop.paid().await;
        assert_eq!(shop.merchant.refund(id).await.unwrap(), RefundStatus::Refunded);
        shop.change(change);
        let answer = shop.present(&refunded).await;
        assert_refused(&answer, 403);
        assert_eq!(answer.header("payment-outcome"), Some("refunded"));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let answer = shop.present(&late).await;
        assert_refused(&answer, 403);
        assert_eq!(answer.header("payment-outcome"), Some("unfulfilled"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_answer_is_given_again_whatever_it_costs_now() {
    let shop = Shop::open();
    let (_, credential) = shop.credential("ok").await;
    let first = call(&shop.service, with_key(&credential, "k")).await;
    assert_eq!(first.status, 200);
    for change in changes() {
        shop.change(change);
        let again = call(&shop.service, with_key(&credential, "k")).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_refused(&call(&shop.service, with_key(&credential, "other")).await, 403);
        assert_refused(&shop.present(&credential).await, 403);
    }
    // Long after it can be redeemed no more.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(call(&shop.service, with_key(&credential, "k")).await.body, first.body);
    assert_eq!(shop.so_far(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_sold_any_more_is_refused_as_ever_to_who_has_not_paid() {
    let shop = Shop::with(TestRail::new("demo"), |builder| builder.replay_answer(ReplayAnswer::Challenge));
    let (_, unpaid) = shop.credential("ok").await;
    let (_, spent) = shop.credential("ok").await;
    assert_eq!(shop.present(&spent).await.status, 200);
    shop.change(disabled());
    let mut forged = challenge_of(&shop).await;
    forged.id = "A".repeat(43);
    let forged = pay_with(&forged, None, &json!({"token": "ok"}));
    let garbage = HeaderValue::from_static("Payment garbage");
    for request in [get("/"), get_paid("/", &unpaid), get_paid("/", &garbage), get_paid("/", &forged)] {
        let answer = call(&shop.service, request).await;
        assert_refused(&answer, 400);
        assert!(answer.text().contains("not sold"), "{answer:?}");
    }
    assert_refused(&call(&shop.service, with_key(&unpaid, "k")).await, 400);
    // There is no challenge to give with it.
    assert_refused(&shop.present(&spent).await, 403);
    assert_eq!(shop.so_far(), (1, 1));
}

async fn challenge_of(shop: &Shop) -> Challenge {
    ask(&shop.fixed("0.10"), get("/")).await
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_paid_for_is_the_one_that_is_delivered() {
    for change in changes() {
        let shop = Shop::open();
        let challenge = ask(&shop.service, request(Method::POST, "/", "one")).await;
        let credential = pay_with(&challenge, None, &json!({"token": "ok"}));
        shop.pay_in_vain(with_credential(request(Method::POST, "/", "one"), &credential)).await;
        shop.change(change);
        for other in [request(Method::POST, "/", "two"), request(Method::POST, "/", ""), get("/"), get("/other")] {
            let answer = call(&shop.service, with_credential(other, &credential)).await;
            assert!(matches!(answer.status.as_u16(), 400 | 402 | 500), "{answer:?}");
        }
        assert_eq!(shop.so_far(), (1, 1));
        let delivered = call(&shop.service, with_credential(request(Method::POST, "/", "one"), &credential)).await;
        assert_eq!((delivered.status.as_u16(), shop.so_far()), (200, (1, 2)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_costs_nothing_any_more_is_free_and_the_payment_stays_as_it_was() {
    let shop = Shop::open();
    let (_, credential) = shop.paid().await;
    shop.change(Quote::Free);
    shop.break_step("find");
    let free = shop.present(&credential).await;
    assert_eq!((free.status.as_u16(), free.headers.contains_key("payment-receipt")), (200, false));
    shop.store.heal();
    shop.change(usd("0.75"));
    assert_eq!(shop.present(&credential).await.status, 200);
    assert_eq!(shop.rail.attempts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_uses_at_the_old_price_and_at_the_new_one_are_one_charge_and_one_delivery() {
    for paid_before in [false, true] {
        let shop = Shop::with(TestRail::new("demo").yielding(YIELDS), |builder| builder);
        let (old, new) = (shop.fixed("0.50"), shop.fixed("0.75"));
        let (id, credential) = if paid_before { shop.paid().await } else { shop.credential("ok").await };
        let gate = Arc::new(tokio::sync::Barrier::new(50));
        let racers: Vec<_> = (0..50)
            .map(|at| {
                let service = if at % 2 == 0 { old.clone() } else { new.clone() };
                let (gate, credential) = (Arc::clone(&gate), credential.clone());
                tokio::spawn(async move {
                    gate.wait().await;
                    (at % 2, call(&service, get_paid("/", &credential)).await)
                })
            })
            .collect();
        let mut served = 0;
        for racer in racers {
            let (at_new, answer) = racer.await.unwrap();
            match answer.status.as_u16() {
                200 => served += 1,
                403 | 409 | 503 => answer.assert_no_challenge(),
                // It came before anybody had begun to pay.
                402 if at_new == 1 && !paid_before => answer.assert_challenged("invalid-challenge"),
                _ => panic!("{answer:?}"),
            }
        }
        assert_eq!((served, shop.rail.settlements_of(id)), (1, 1));
        for service in [&old, &new] {
            assert_refused(&call(service, get_paid("/", &credential)).await, 403);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn invented_terms_are_no_former_terms_and_cost_no_look() {
    let shop = Shop::open();
    let (_, paid) = shop.paid().await;
    let (genuine, cheap) = (ask(&shop.fixed("0.75"), get("/")).await, ask(&shop.fixed("0.01"), get("/")).await);
    shop.break_step("find");
    let forgeries: [&dyn Fn(&mut Challenge); 5] = [
        &|forged| forged.id = "A".repeat(43),
        &|forged| forged.request.clone_from(&cheap.request),
        &|forged| forged.opaque.clone_from(&cheap.opaque),
        &|forged| forged.expires = Some("2999-01-01T00:00:00Z".into()),
        &|forged| forged.realm = "www.example.com".into(),
    ];
    for forge in forgeries {
        let mut forged = genuine.clone();
        forge(&mut forged);
        let forged = pay_with(&forged, None, &json!({"token": "ok"}));
        shop.present(&forged).await.assert_challenged("invalid-challenge");
    }
    assert_eq!((shop.so_far(), shop.store.failures()), ((1, 1), 0));
    shop.store.heal();
    // The payload of another payer redeems nothing either.
    let challenge = ask(&shop.service, get("/")).await;
    shop.pay_in_vain(get_paid("/", &pay_with(&challenge, None, &json!({"token": "ok"})))).await;
    shop.change(usd("0.75"));
    let other_payer = pay_with(&challenge, None, &json!({"token": "lost"}));
    assert_refused(&shop.present(&other_payer).await, 403);
    assert_eq!(shop.present(&paid).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_cheap_request_that_was_paid_for_never_buys_a_dear_one_to_the_same_path() {
    let shop = Shop::open();
    // The header is bound to nothing, and so the price alone tells the two apart.
    let by_size = |head: &Parts| match head.headers.contains_key("x-large") {
        true => Ok(Price::usd("5.00").unwrap()),
        false if head.headers.contains_key("x-none") => Err(Refused::bad_request("There is no such size.")),
        false => Ok(Price::usd("0.01").unwrap()),
    };
    let service = shop.merchant.charge(by_size).unwrap().layer(shop.handler.clone());
    let sized = |size: Option<&'static str>, credential: &HeaderValue| {
        let mut request = get_paid("/", credential);
        size.map(|size| request.headers_mut().insert(size, HeaderValue::from_static("1")));
        request
    };
    let cheap = pay_with(&ask(&service, get("/")).await, None, &json!({"token": "ok"}));
    shop.fails.store(true, Ordering::SeqCst);
    assert_eq!(call(&service, get_paid("/", &cheap)).await.status, 502);
    shop.fails.store(false, Ordering::SeqCst);
    shop.merchant.drain().await;
    for size in ["x-large", "x-none"] {
        let answer = call(&service, sized(Some(size), &cheap)).await;
        assert_refused(&answer, 503);
        assert_eq!(answer.header("payment-outcome"), Some("redeliverable"));
        assert!(answer.text().contains("Nothing more is charged"), "{answer:?}");
    }
    assert_eq!(shop.so_far(), (1, 1));
    assert_eq!(call(&service, sized(None, &cheap)).await.status, 200);
    // Who has paid for the dear one may have the cheap one.
    let mut dear = get("/");
    dear.headers_mut().insert("x-large", HeaderValue::from_static("1"));
    let dear = pay_with(&ask(&service, dear).await, None, &json!({"token": "ok"}));
    shop.fails.store(true, Ordering::SeqCst);
    assert_eq!(call(&service, sized(Some("x-large"), &dear)).await.status, 502);
    shop.fails.store(false, Ordering::SeqCst);
    shop.merchant.drain().await;
    assert_eq!(call(&service, sized(None, &dear)).await.status, 200);
    assert_eq!(shop.rail.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_its_journal_nobody_asks_for_more_money() {
    let shop = Shop::with(TestRail::new("demo"), |builder| builder.circuit_breaker(3, Duration::from_secs(60)));
    let (_, credential) = shop.paid().await;
    shop.change(usd("0.75"));
    shop.break_step("find");
    for _ in 0..10 {
        let answer = shop.present(&credential).await;
        assert_refused(&answer, 503);
        assert!(answer.headers.contains_key("retry-after"));
    }
    // After three failures nobody waits for it.
    assert_eq!(shop.store.failures(), 3);
    shop.store.heal();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(shop.present(&credential).await.status, 200);
}

fn bare(id: &str, token: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("Payment id=\"{id}\", credential=\"{token}\"")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_bare_id_that_was_paid_is_not_asked_to_pay_again() {
    for change in changes() {
        let mut shop = Shop::with(TestRail::new("demo").taking_tokens(), |builder| {
            builder.circuit_breaker(3, Duration::from_secs(60))
        });
        shop.service = shop.charge().accept_token_credentials(true).layer(shop.handler.clone());
        let new = async || bare(&ask(&shop.service, get("/")).await.id, "ok");
        let (unpaid, paid, spent, unknown) =
            (new().await, new().await, new().await, { bare(&ask(&shop.service, get("/")).await.id, "lost") });
        shop.pay_in_vain(get_paid("/", &paid)).await;
        assert_eq!(call(&shop.service, with_key(&spent, "k")).await.status, 200);
        assert_refused(&shop.present(&unknown).await, 503);
        let before = shop.so_far();

        shop.change(change);
        let answer = shop.present(&paid).await;
        assert_refused(&answer, 503);
        assert_eq!(answer.header("payment-outcome"), Some("redeliverable"));
        assert_refused(&shop.present(&unknown).await, 503);
        assert_refused(&shop.present(&spent).await, 403);
        assert!(!matches!(call(&shop.service, with_key(&spent, "k")).await.status.as_u16(), 200 | 402));
        for request in [get_paid("/", &unpaid), get_paid("/other", &paid), get_paid("/", &bare(&"A".repeat(43), "ok"))]
        {
            let answer = call(&shop.service, request).await;
            assert!(matches!(answer.status.as_u16(), 400 | 402 | 500), "{answer:?}");
        }
        shop.break_step("find");
        for _ in 0..5 {
            assert_refused(&shop.present(&unpaid).await, 503);
        }
        assert_eq!(shop.store.failures(), 3);
        shop.store.heal();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(shop.so_far(), before);

        // At its own price it is delivered.
        shop.change(usd("0.50"));
        assert_eq!(shop.present(&paid).await.status, 200);
        assert_eq!(shop.so_far(), (before.0, before.1 + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn where_bare_tokens_are_taken_no_more_what_was_paid_is_delivered_all_the_same() {
    let mut shop = Shop::with(TestRail::new("demo").taking_tokens(), |builder| builder);
    let plain = std::mem::replace(
        &mut shop.service,
        shop.merchant.charge(shop.list.clone()).unwrap().accept_token_credentials(true).layer(shop.handler.clone()),
    );
    let (_, unpaid) = shop.credential("ok").await;
    let (_, paid) = shop.paid().await;
    shop.service = plain;
    shop.present(&unpaid).await.assert_challenged("invalid-challenge");
    assert_eq!(shop.present(&paid).await.status, 200);
    assert_eq!(shop.so_far(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn too_much_at_work_is_no_reason_to_ask_for_more_money() {
    let mut shop = Shop::with(TestRail::new("demo").taking_tokens().delay(Duration::from_secs(5)), |builder| {
        builder.max_in_flight(1)
    });
    let (_, paid) = shop.paid().await;
    shop.service = shop.charge().accept_token_credentials(true).layer(shop.handler.clone());
    let token = bare(&ask(&shop.service, get("/")).await.id, "ok");
    let (_, other) = shop.credential("ok").await;
    let service = shop.service.clone();
    let running = tokio::spawn(async move { call(&service, get_paid("/", &other)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    for change in changes() {
        shop.change(change);
        assert_refused(&shop.present(&paid).await, 503);
        assert_refused(&shop.present(&token).await, 503);
    }
    assert_eq!(running.await.unwrap().status, 200);
}
