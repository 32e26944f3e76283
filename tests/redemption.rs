//! Routes that ask for payments and do not take them yet: nobody is charged, and money that moved before is redeemed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use serde_json::json;
use support::*;
use tokio::sync::Barrier;
use tower_layer::Layer as _;
use tower_mpp::{
    Merchant, Payment, Price, Redemption, RefundStatus, Refusal, RefusalKind, SettleTiming,
    method::Settlement,
    protocol::{ChallengeId, Timestamp},
    refund::RefundPolicy,
    store::{
        Claim, Claimed, End, EntryState, JournalEntry, Lease, MemoryAnswerStore, MemoryNonceStore, NonceStore, Page,
        Proof, RefundReason, Release, StoreError, Take, Taken,
    },
};

type Service = Payment<Handler>;

/// One resource, as it is served before, during and after.
struct Shop {
    rail: TestRail,
    store: FaultyStore<Arc<MemoryNonceStore>>,
    merchant: Merchant,
    live: Service,
    preview: Service,
    not_in_production: Service,
    fails: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Shop {
    fn open() -> Self {
        Self::with(TestRail::new("demo"))
    }

    fn with(rail: TestRail) -> Self {
        let store = FaultyStore::new(Arc::new(MemoryNonceStore::single_process(1000)));
        let merchant = builder(&rail)
            .nonce_store(store.clone())
            .answer_store(MemoryAnswerStore::new(1024 * 1024))
            .clock(RuntimeClock::start())
            .refunds(RefundPolicy::off())
            .build()
            .unwrap();
        let (fails, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (failing, counted) = (Arc::clone(&fails), Arc::clone(&calls));
        let handler: Handler = Handler::new(tower::service_fn(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let status = if failing.load(Ordering::SeqCst) { 502 } else { 200 };
            async move { Ok::<_, Infallible>(Response::builder().status(status).body(Full::from("served")).unwrap()) }
        }));
        let layer = merchant.charge(Price::usd("1.00").unwrap()).unwrap();
        let service = |redemption| layer.clone().redemption(redemption).layer(handler.clone());
        Self {
            live: service(Redemption::Live),
            preview: service(Redemption::PrivatePreview),
            not_in_production: service(Redemption::NotInProduction),
            rail,
            store,
            merchant,
            fails,
            calls,
        }
    }

    fn closed(&self) -> [&Service; 2] {
        [&self.preview, &self.not_in_production]
    }

    async fn credential(&self, service: &Service, token: &str) -> (ChallengeId, HeaderValue) {
        let challenge = ask(service, get("/")).await;
        (id_of(&challenge), pay_with(&challenge, None, &json!({ "token": token })))
    }

    /// From now on no step of the journal works that could write.
    fn forbid_writing(&self) {
        self.store.fail(Outage { first: 0, length: usize::MAX, fault: Broken::Before, step: Some("claim") });
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

#[track_caller]
fn assert_preview(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (403, "PrivatePreview"), "{answer:?}");
    assert!(answer.text().contains("private preview") && answer.text().contains("Nothing was charged"));
    assert!(!answer.headers.contains_key("retry-after"));
    answer.assert_no_challenge();
}

#[track_caller]
fn assert_not_in_production(answer: &Answer) {
    answer.assert_challenged("verification-failed");
    assert!(answer.text().contains("not in production") && answer.text().contains("Nothing was charged"));
}

#[tokio::test(start_paused = true)]
async fn challenges_are_issued_in_every_state() {
    let shop = Shop::open();
    for service in [&shop.live, &shop.preview, &shop.not_in_production] {
        call(service, get("/")).await.assert_challenged("payment-required");
        // What is no payment is refused as anywhere.
        let garbage = call(service, get_paid("/", &HeaderValue::from_static("Payment garbage"))).await;
        garbage.assert_challenged("malformed-credential");
        let mut forged = ask(service, get("/")).await;
        forged.id = "A".repeat(43);
        let forged = pay_with(&forged, None, &json!({"token": "ok"}));
        call(service, get_paid("/", &forged)).await.assert_challenged("invalid-challenge");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_payments_at_once_are_neither_taken_nor_written_down() {
    for in_preview in [true, false] {
        let shop = Shop::with(TestRail::new("demo").yielding(YIELDS));
        let service = if in_preview { &shop.preview } else { &shop.not_in_production };
        let (id, credential) = shop.credential(service, "ok").await;
        shop.forbid_writing();
        let gate = Arc::new(Barrier::new(50));
        let racers: Vec<_> = (0..50)
            .map(|_| {
                let (gate, service, credential) = (Arc::clone(&gate), service.clone(), credential.clone());
                tokio::spawn(async move {
                    gate.wait().await;
                    call(&service, get_paid("/", &credential)).await
                })
            })
            .collect();
        for racer in racers {
            let answer = racer.await.unwrap();
            if in_preview { assert_preview(&answer) } else { assert_not_in_production(&answer) }
        }
        assert_eq!((shop.so_far(), shop.store.failures()), ((0, 0), 0));
        shop.store.heal();
        assert_eq!(shop.store.find(id).await.unwrap(), None);
        // Nothing has become of it: it is as good as ever once payments are taken.
        assert_eq!(call(&shop.live, get_paid("/", &credential)).await.status, 200);
        assert_eq!(shop.so_far(), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_paid_and_not_delivered_is_delivered_once() {
    for in_preview in [true, false] {
        let shop = Shop::open();
        let service = if in_preview { &shop.preview } else { &shop.not_in_production };
        let (id, credential) = shop.credential(&shop.live, "ok").await;
        shop.fails.store(true, Ordering::SeqCst);
        let failed = call(&shop.live, get_paid("/", &credential)).await;
        assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (502, Some("redeliverable")));
        // Also when it fails again, and after the challenge has expired.
        let again = call(service, get_paid("/", &credential)).await;
        assert_eq!((again.status.as_u16(), again.header("payment-outcome")), (502, Some("redeliverable")));
        tokio::time::sleep(Duration::from_secs(301)).await;
        shop.fails.store(false, Ordering::SeqCst);
        let delivered = call(service, get_paid("/", &credential)).await;
        assert_eq!((delivered.status.as_u16(), delivered.text()), (200, "served"));
        assert_eq!(delivered.receipt().challenge_id, Some(id.to_string()));
        let replay = call(service, get_paid("/", &credential)).await;
        assert_eq!((replay.status.as_u16(), &*replay.problem()), (403, "invalid-challenge"));
        replay.assert_no_challenge();
        assert_eq!(shop.so_far(), (1, 3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_that_come_for_one_delivery_get_one() {
    let shop = Shop::with(TestRail::new("demo").yielding(YIELDS));
    for service in shop.closed() {
        let before = shop.rail.settlements();
        let (_, credential) = shop.credential(&shop.live, "ok").await;
        shop.fails.store(true, Ordering::SeqCst);
        assert_eq!(call(&shop.live, get_paid("/", &credential)).await.status, 502);
        shop.fails.store(false, Ordering::SeqCst);
        shop.merchant.drain().await;
        let racers: Vec<_> = (0..50)
            .map(|_| {
                let (service, credential) = (service.clone(), credential.clone());
                tokio::spawn(async move { call(&service, get_paid("/", &credential)).await })
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
        assert_eq!((served, shop.rail.settlements()), (1, before + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_answer_is_given_again() {
    let shop = Shop::open();
    let (_, credential) = shop.credential(&shop.live, "ok").await;
    let first = call(&shop.live, with_key(&credential, "k")).await;
    assert_eq!(first.status, 200);
    for service in shop.closed() {
        let again = call(service, with_key(&credential, "k")).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_eq!(call(service, with_key(&credential, "other")).await.status, 403);
    }
    // Long after it can be redeemed no more.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    for service in shop.closed() {
        assert_eq!(call(service, with_key(&credential, "k")).await.body, first.body);
    }
    assert_eq!(shop.so_far(), (1, 1));
    // One that was never paid has none.
    let (_, credential) = shop.credential(&shop.preview, "ok").await;
    assert_preview(&call(&shop.preview, with_key(&credential, "k")).await);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_found_out_by_the_sweeper_and_never_by_another_charge() {
    for (token, moved) in [("unknown", false), ("lost", true)] {
        for in_preview in [true, false] {
            let shop = Shop::open();
            let service = if in_preview { &shop.preview } else { &shop.not_in_production };
            let (_, credential) = shop.credential(&shop.live, token).await;
            assert_eq!(call(&shop.live, get_paid("/", &credential)).await.status, 503);
            for _ in 0..3 {
                let waiting = call(service, get_paid("/", &credential)).await;
                assert_eq!((waiting.status.as_u16(), &*waiting.problem()), (503, "PaymentOutcomeUnknown"));
                assert!(waiting.headers.contains_key("retry-after"));
                waiting.assert_no_challenge();
            }
            assert_eq!(shop.rail.attempts(), 1);
            shop.merchant.sweeper().sweep().await.unwrap();
            let answer = call(service, get_paid("/", &credential)).await;
            match (moved, in_preview) {
                (true, _) => assert_eq!(answer.status, 200),
                (false, true) => assert_preview(&answer),
                (false, false) => assert_not_in_production(&answer),
            }
            assert_eq!((shop.rail.attempts(), shop.rail.settlements()), (1, usize::from(moved)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_is_at_work_when_it_is_switched_off_is_finished() {
    let shop = Shop::with(TestRail::new("demo").delay(Duration::from_secs(5)));
    let (_, credential) = shop.credential(&shop.live, "ok").await;
    let running = tokio::spawn({
        let (service, credential) = (shop.live.clone(), credential.clone());
        async move { call(&service, get_paid("/", &credential)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    for service in shop.closed() {
        let second = call(service, get_paid("/", &credential)).await;
        assert_eq!((second.status.as_u16(), second.headers.contains_key("retry-after")), (503, true));
        second.assert_no_challenge();
    }
    assert_eq!(running.await.unwrap().status, 200);
    assert_eq!(shop.so_far(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn money_that_went_back_is_told_of() {
    let shop = Shop::open();
    let (id, credential) = shop.credential(&shop.live, "ok").await;
    shop.fails.store(true, Ordering::SeqCst);
    assert_eq!(call(&shop.live, get_paid("/", &credential)).await.status, 502);
    shop.merchant.drain().await;
    assert_eq!(shop.merchant.refund(id).await.unwrap(), RefundStatus::Refunded);
    for service in shop.closed() {
        let answer = call(service, get_paid("/", &credential)).await;
        assert_eq!((answer.status.as_u16(), answer.header("payment-outcome")), (403, Some("refunded")));
        answer.assert_no_challenge();
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_payment_is_not_taken_either() {
    let shop = Shop::open();
    let (_, credential) = shop.credential(&shop.preview, "ok").await;
    for pause in [300, 3600] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        assert_preview(&call(&shop.preview, get_paid("/", &credential)).await);
        assert_not_in_production(&call(&shop.not_in_production, get_paid("/", &credential)).await);
    }
    assert_eq!(shop.so_far(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn where_the_money_is_taken_after_the_handler_the_handler_is_not_called() {
    let rail = TestRail::new("demo").settling_after();
    let layer = merchant(&rail).charge(Price::usd("1.00").unwrap()).unwrap();
    let layer = layer.settle(SettleTiming::AfterHandler).unwrap();
    let untouched: Handler = Handler::new(tower::service_fn(|_| async { panic!("called without a payment") }));
    for redemption in [Redemption::PrivatePreview, Redemption::NotInProduction] {
        let service = layer.clone().redemption(redemption).layer(untouched.clone());
        let credential = pay_with(&ask(&service, get("/")).await, None, &json!({"token": "ok"}));
        let answer = call(&service, get_paid("/", &credential)).await;
        assert!(matches!(answer.status.as_u16(), 402 | 403));
    }
    assert_eq!(rail.attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_its_journal_nobody_says_that_nothing_was_charged() {
    let shop = Shop::open();
    for service in shop.closed() {
        let (_, credential) = shop.credential(service, "ok").await;
        shop.store.fail(Outage { first: 0, length: usize::MAX, fault: Broken::Before, step: Some("find") });
        let answer = call(service, get_paid("/", &credential)).await;
        assert_eq!((answer.status.as_u16(), answer.headers.contains_key("retry-after")), (503, true));
        answer.assert_no_challenge();
        shop.store.heal();
    }
}

#[tokio::test(start_paused = true)]
async fn outer_layers_can_tell_a_preview() {
    let shop = Shop::open();
    let (id, credential) = shop.credential(&shop.preview, "ok").await;
    let response = tower::ServiceExt::oneshot(shop.preview.clone(), get_paid("/", &credential)).await.unwrap();
    let refusal = response.extensions().get::<Refusal>().unwrap();
    assert_eq!((refusal.kind(), refusal.challenge_id()), (RefusalKind::PrivatePreview, Some(id)));
}

/// Says that everything was settled, and has forgotten it when it is claimed.
struct Forgetful(MemoryNonceStore);

#[async_trait]
impl NonceStore for Forgetful {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.0.claim(claim).await
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.0.renew(lease, until).await
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.0.settle(lease, settlement).await
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        self.0.refund(lease, reason).await
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        self.0.commit(lease, end).await
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        self.0.release(lease, reason).await
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.0.put_off(lease, until).await
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        self.0.take(take).await
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        Ok(Some(JournalEntry {
            id,
            proof: Proof::Bound(tower_mpp::protocol::SpendKey::from_bytes([0; 32])),
            state: EntryState::Settled { settlement: Settlement::new("ref", now), refundable: true },
            lease_until: now,
            put_off: None,
            attempts: 0,
            keep_until: now,
            record: Arc::from([]),
        }))
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        self.0.unfinished(page).await
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.0.forget(now, limit).await
    }
}

#[tokio::test]
async fn what_the_journal_forgets_between_the_look_and_the_claim_is_not_taken() {
    let rail = TestRail::new("demo");
    let store = Arc::new(Forgetful(MemoryNonceStore::single_process(1000)));
    let merchant = builder(&rail).nonce_store(Arc::clone(&store)).build().unwrap();
    let layer = merchant.charge(Price::usd("1.00").unwrap()).unwrap();
    for redemption in [Redemption::PrivatePreview, Redemption::NotInProduction] {
        let service = layer.clone().redemption(redemption).layer(served());
        for token in ["ok", "unknown"] {
            let credential = pay_with(&ask(&service, get("/")).await, None, &json!({ "token": token }));
            let answer = call(&service, get_paid("/", &credential)).await;
            match redemption {
                Redemption::PrivatePreview => assert_preview(&answer),
                _ => assert_not_in_production(&answer),
            }
        }
    }
    let page = Page { now: "2100-01-01T00:00:00Z".parse().unwrap(), after: None, limit: 10, due: false };
    assert_eq!((rail.attempts(), store.unfinished(page).await.unwrap()), (0, vec![]));
}
