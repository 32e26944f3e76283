//! Authorise, answer, capture: on the stand-in for Stripe.

#[path = "../support/stripe.rs"]
mod standin;

use standin::{SECRET_KEY, StripeStandIn};
use tower_mpp::{
    ConfigError, ManualClock,
    method::{
        LostPayment, PaymentMethod as _, Resolution,
        stripe::{Stripe, StripeBuilder},
    },
};

use super::*;

type Shelf = Handler<Full<Bytes>, Full<Bytes>>;

struct Till {
    stripe: StripeStandIn,
    rail: Arc<Stripe>,
    clock: Arc<ManualClock>,
    store: Arc<MemoryNonceStore>,
    merchant: Merchant,
    service: Payment<Shelf>,
    plan: Arc<Mutex<VecDeque<Does>>>,
    /// How often the handler ran.
    served: Arc<AtomicUsize>,
}

fn rail(stripe: &StripeStandIn) -> StripeBuilder {
    Stripe::builder(SECRET_KEY, "profile_test_1").base_url(stripe.base_url()).manual_capture(true)
}

impl Till {
    async fn open(plan: impl IntoIterator<Item = Does>) -> Self {
        Self::with(SettleTiming::AfterHandler, plan).await
    }

    async fn with(timing: SettleTiming, plan: impl IntoIterator<Item = Does>) -> Self {
        let stripe = StripeStandIn::start().await;
        let rail = Arc::new(rail(&stripe).build().unwrap());
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let store = Arc::new(MemoryNonceStore::single_process(1_000));
        let merchant = Merchant::builder("127.0.0.1", tower_mpp::KeyRing::new(KEY).unwrap())
            .shared_method(rail.clone())
            .nonce_store(store.clone())
            .clock(clock.clone())
            .test_mode(true)
            .build()
            .unwrap();
        let plan = Arc::new(Mutex::new(plan.into_iter().collect::<VecDeque<_>>()));
        let served = Arc::<AtomicUsize>::default();
        let (does, count) = (plan.clone(), served.clone());
        let shelf = Shelf::new(service_fn(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            let does = does.lock().unwrap().pop_front().unwrap_or(Does::Serve);
            async move {
                let mut response = Response::new(Full::from("served"));
                match does {
                    Does::Answer(status) => *response.status_mut() = StatusCode::from_u16(status).unwrap(),
                    Does::Hang => std::future::pending().await,
                    _ => {}
                }
                Ok(response)
            }
        }));
        let service = merchant.charge(price()).unwrap().settle(timing).unwrap().layer(shelf);
        Self { stripe, rail, clock, store, merchant, service, plan, served }
    }

    async fn credential(&self, token: &str) -> (ChallengeId, HeaderValue) {
        let challenge = ask(&self.service, get("/")).await;
        (id_of(&challenge), pay_with(&challenge, None, &json!({ "spt": token })))
    }

    async fn buy(&self, credential: &HeaderValue) -> Answer {
        call(&self.service, get_paid("/", credential)).await
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// Captured, held, cancelled.
    fn money(&self) -> (usize, usize, usize) {
        (self.stripe.charges().len(), self.stripe.held().len(), self.stripe.cancelled().len())
    }

    /// The process dies while its handler works.
    async fn crash(&self, credential: &HeaderValue) {
        self.plan.lock().unwrap().push_front(Does::Hang);
        let before = self.served();
        let mut request = Box::pin(self.service.clone().oneshot(get_paid("/", credential)));
        while self.served() == before {
            assert!(futures_util::poll!(&mut request).is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::mem::forget(request);
        self.clock.advance(LEASE_OVER);
    }

    async fn assert_delivered(&self, credential: &HeaderValue) {
        let answer = self.buy(credential).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "served"), "{answer:?}");
        let charges = self.stripe.charges();
        assert_eq!((charges.len(), charges[0].amount), (1, 100));
        assert_eq!(answer.receipt().reference, charges[0].payment_intent);
        assert_eq!(self.stripe.held(), [""; 0]);
        assert_eq!(self.buy(credential).await.status, 403);
    }
}

#[tokio::test]
async fn the_money_is_held_while_the_handler_works_and_captured_for_its_answer() {
    let till = Till::open([]).await;
    let (id, credential) = till.credential("spt_ok").await;
    till.assert_delivered(&credential).await;
    let requests = till.stripe.requests();
    let paths: Vec<_> = requests.iter().map(|request| request.path.rsplit('/').next().unwrap()).collect();
    assert_eq!(paths, ["payment_intents", "capture"]);
    assert_eq!(requests[0].field("capture_method"), Some("manual"));
    assert_eq!(requests[0].header("idempotency-key"), Some(&*format!("{id}_spt_ok")));
    assert_eq!(requests[1].field("amount_to_capture"), Some("100"));
    assert!(requests[1].header("idempotency-key").unwrap().ends_with("_capture"));
    assert_eq!(till.served(), 1);
}

#[tokio::test]
async fn what_cannot_be_held_never_reaches_the_handler() {
    let till = Till::open([]).await;
    for (token, status) in
        [("spt_declined", 402), ("spt_insufficient", 402), ("spt_action", 402), ("spt_wrongamount", 503)]
    {
        assert_eq!(till.buy(&till.credential(token).await.1).await.status, status, "{token}");
    }
    till.stripe.payer_acts();
    assert_eq!((till.stripe.charges().len(), till.stripe.held().len(), till.served()), (0, 0, 0));
}

#[tokio::test]
async fn a_handler_that_fails_lets_the_money_go_and_the_same_credential_holds_it_anew() {
    let till = Till::open([Does::Answer(500), Does::Answer(502)]).await;
    let (_, credential) = till.credential("spt_ok").await;
    for (cancelled, status) in [(1, 500), (2, 502)] {
        let failed = till.buy(&credential).await;
        assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (status, Some("not-charged")));
        assert_eq!(till.money(), (0, 0, cancelled));
    }
    till.assert_delivered(&credential).await;
    assert_eq!((till.money(), till.served()), ((1, 0, 2), 3));
}

#[tokio::test]
async fn a_credential_cannot_make_the_handler_fail_for_ever() {
    let till = Till::open([Does::Answer(500); 20]).await;
    let (_, credential) = till.credential("spt_ok").await;
    for _ in 0..8 {
        assert_eq!(till.buy(&credential).await.status, 500);
    }
    till.buy(&credential).await.assert_challenged("verification-failed");
    assert_eq!((till.money(), till.served()), ((0, 0, 8), 8));
}

#[tokio::test]
async fn a_client_that_hangs_up_is_not_charged_and_its_money_is_let_go() {
    let till = Till::open([Does::Hang]).await;
    let (id, credential) = till.credential("spt_ok").await;
    let mut request = Box::pin(till.service.clone().oneshot(get_paid("/", &credential)));
    while till.served() == 0 {
        assert!(futures_util::poll!(&mut request).is_pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(till.money(), (0, 1, 0));
    drop(request);
    till.merchant.drain().await;
    assert_eq!((till.money(), till.store.find(id).await.unwrap()), ((0, 0, 1), None));
    till.assert_delivered(&credential).await;
}

#[tokio::test]
async fn a_capture_that_is_declined_gives_402_and_not_the_body() {
    for token in ["spt_ok_capture_declined", "spt_ok_capture_lapsed"] {
        let till = Till::open([]).await;
        let answer = till.buy(&till.credential(token).await.1).await;
        answer.assert_challenged("verification-failed");
        assert!(!answer.text().contains("served") && !answer.text().contains("SECRET"), "{}", answer.text());
        assert_eq!((till.money(), till.served()), ((0, 0, 1), 1), "{token}");
    }
}

#[tokio::test]
async fn a_capture_that_is_refused_at_the_door_lets_the_money_go() {
    let till = Till::open([]).await;
    let (id, credential) = till.credential("spt_ok_capture_ratelimited").await;
    let answer = till.buy(&credential).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (503, "about:blank".to_owned()));
    answer.assert_no_challenge();
    assert_eq!((till.money(), till.store.find(id).await.unwrap()), ((0, 0, 1), None));
}

#[tokio::test]
async fn an_unknown_capture_gives_503_and_the_same_credential_one_charge() {
    for (token, captured, cancelled) in [
        ("spt_ok_capture_drop", 1, 0),
        ("spt_ok_capture_stored5xx", 1, 0),
        ("spt_ok_capture_drop_before", 0, 0),
        ("spt_ok_capture_5xx", 0, 0),
    ] {
        let till = Till::open([]).await;
        let (id, credential) = till.credential(token).await;
        let answer = till.buy(&credential).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (503, "PaymentOutcomeUnknown".to_owned()), "{token}");
        answer.assert_no_challenge();
        assert!(!answer.text().contains("served"));
        assert_eq!(till.money(), (captured, 1 - captured, cancelled), "{token}");
        assert_eq!(till.store.find(id).await.unwrap().unwrap().state, EntryState::Held);
        till.assert_delivered(&credential).await;
        // One PaymentIntent, whatever happened to the answers.
        assert_eq!((till.money(), till.served()), ((1, 0, 0), 2), "{token}");
    }
}

#[tokio::test]
async fn what_a_lost_process_held_is_captured_once_for_the_same_credential() {
    let till = Till::open([]).await;
    let (_, credential) = till.credential("spt_ok").await;
    till.crash(&credential).await;
    assert_eq!(till.money(), (0, 1, 0));
    till.assert_delivered(&credential).await;
    assert_eq!(till.money(), (1, 0, 0), "it was the same PaymentIntent");
    assert_eq!(till.stripe.creations().len(), 2);
}

#[tokio::test]
async fn a_handler_that_fails_for_a_resumed_credential_charges_nothing_either() {
    let till = Till::open([Does::Answer(500)]).await;
    let (id, credential) = till.credential("spt_ok").await;
    till.crash(&credential).await;
    let failed = till.buy(&credential).await;
    assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (500, Some("not-charged")));
    assert_eq!((till.money(), till.store.find(id).await.unwrap()), ((0, 0, 1), None));
    till.assert_delivered(&credential).await;
}

#[tokio::test]
async fn what_a_lost_process_held_is_let_go_once_the_challenge_has_expired() {
    // By the payer, who comes too late.
    let till = Till::open([]).await;
    let (_, credential) = till.credential("spt_ok").await;
    till.crash(&credential).await;
    till.clock.advance(Duration::from_secs(400));
    till.buy(&credential).await.assert_challenged("verification-failed");
    assert_eq!((till.money(), till.served()), ((0, 0, 1), 1));

    // By whoever looks it up.
    let till = Till::open([]).await;
    let (id, credential) = till.credential("spt_ok").await;
    let expires = tower_mpp::Clock::now(&*till.clock).saturating_add(Duration::from_secs(300));
    till.crash(&credential).await;
    let resolve = || async {
        let (price, now) = (price(), tower_mpp::Clock::now(&*till.clock));
        let currency = price.currency();
        let lost = LostPayment { challenge_id: id, amount: price.amount(), currency, expires, now };
        till.rail.resolve(lost).await
    };
    resolve().await.unwrap_err();
    assert_eq!(till.money(), (0, 1, 0), "the payer may still come back");
    till.clock.advance(Duration::from_secs(400));
    assert_eq!(resolve().await.unwrap(), Resolution::NotCharged);
    assert_eq!(till.money(), (0, 0, 1));
    // One that was cancelled before proves nothing about those that the search may not have seen yet.
    resolve().await.unwrap_err();
    till.clock.advance(Duration::from_secs(3 * 60 * 60));
    assert_eq!(resolve().await.unwrap(), Resolution::NotCharged);
}

#[tokio::test]
async fn the_sweeper_lets_go_what_a_lost_process_held() {
    let till = Till::open([]).await;
    let (id, credential) = till.credential("spt_ok").await;
    till.crash(&credential).await;
    assert_eq!((till.merchant.sweeper().sweep().await.unwrap().pending, till.money()), (1, (0, 1, 0)));
    till.clock.advance(Duration::from_secs(400));
    assert_eq!((till.merchant.sweeper().sweep().await.unwrap().not_charged, till.money()), (1, (0, 0, 1)));
    assert_eq!(till.store.find(id).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_captured_is_found_without_the_payer() {
    let till = Till::open([]).await;
    let (id, credential) = till.credential("spt_ok_capture_drop").await;
    assert_eq!(till.buy(&credential).await.status, 503);
    let (price, now) = (price(), tower_mpp::Clock::now(&*till.clock));
    let lost = LostPayment { challenge_id: id, amount: price.amount(), currency: price.currency(), expires: now, now };
    let Resolution::Settled(settlement) = till.rail.resolve(lost).await.unwrap() else { panic!("not settled") };
    assert_eq!(settlement.reference, till.stripe.charges()[0].payment_intent);
}

#[tokio::test]
async fn a_cancellation_whose_answer_is_lost_leaves_nothing_charged_and_the_credential_good() {
    let till = Till::open([Does::Answer(500)]).await;
    let (id, credential) = till.credential("spt_ok_cancel_drop").await;
    let failed = till.buy(&credential).await;
    assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (500, None));
    assert_eq!(till.store.find(id).await.unwrap().unwrap().state, EntryState::Held);
    till.assert_delivered(&credential).await;
    assert_eq!(till.money(), (1, 0, 1));
}

#[tokio::test]
async fn before_the_handler_manual_capture_captures_at_once() {
    let till = Till::with(SettleTiming::BeforeHandler, [Does::Answer(500)]).await;
    let (_, credential) = till.credential("spt_ok").await;
    let failed = till.buy(&credential).await;
    assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (500, Some("redeliverable")));
    assert_eq!(till.money(), (1, 0, 0));
    till.assert_delivered(&credential).await;
    assert_eq!(till.served(), 2);

    let till = Till::with(SettleTiming::BeforeHandler, []).await;
    let (id, credential) = till.credential("spt_ok_capture_ratelimited").await;
    assert_eq!(till.buy(&credential).await.status, 503);
    assert_eq!((till.money(), till.store.find(id).await.unwrap()), ((0, 0, 1), None), "nothing stays held");

    for token in ["spt_ok_capture_drop", "spt_ok_capture_5xx"] {
        let till = Till::with(SettleTiming::BeforeHandler, []).await;
        let (_, credential) = till.credential(token).await;
        assert_eq!((till.buy(&credential).await.status.as_u16(), till.served()), (503, 0));
        till.assert_delivered(&credential).await;
        assert_eq!((till.money(), till.served()), ((1, 0, 0), 1), "{token}");
    }
}

#[tokio::test]
async fn without_manual_capture_stripe_cannot_settle_after_the_handler() {
    let stripe = StripeStandIn::start().await;
    let merchant = Merchant::builder("127.0.0.1", tower_mpp::KeyRing::new(KEY).unwrap())
        .method(rail(&stripe).manual_capture(false).build().unwrap())
        .nonce_store(MemoryNonceStore::single_process(10))
        .test_mode(true)
        .build()
        .unwrap();
    let refused = merchant.charge(price()).unwrap().settle(SettleTiming::AfterHandler);
    assert!(matches!(refused, Err(ConfigError::SettleTiming(method)) if method.as_str() == "stripe"));
}
