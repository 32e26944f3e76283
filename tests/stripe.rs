//! Shared Payment Tokens over HTTP: an agent, a merchant and the stand-in for Stripe on three sockets.
//! Every row of the table in the docs of `method::stripe`, as the payer sees it.
#![cfg(all(feature = "stripe", feature = "axum"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

#[path = "support/stripe.rs"]
mod standin;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::HeaderValue, routing::get};
use serde_json::{Value, json};
use standin::{SECRET_KEY, StripeStandIn};
use support::{Answer, Server, challenge, challenges, pay_sandbox, pay_with};
use tower_mpp::{
    ConfigError, KeyRing, ManualClock, Merchant, MerchantBuilder, Price,
    method::{
        Sandbox, SandboxKey,
        stripe::{Stripe, StripeBuilder},
    },
    store::MemoryNonceStore,
};

struct Shop {
    stripe: StripeStandIn,
    server: Server,
    clock: Arc<ManualClock>,
    /// How often the handler ran.
    served: Arc<AtomicUsize>,
}

fn merchant_with(stripe: StripeBuilder) -> MerchantBuilder {
    Merchant::builder("127.0.0.1", KeyRing::new("a test key of thirty-two bytes..").unwrap())
        .method(stripe.build().unwrap())
        .nonce_store(MemoryNonceStore::single_process(10_000))
        .test_mode(true)
}

impl Shop {
    async fn open() -> Self {
        Self::with(|stripe| stripe, |merchant| merchant).await
    }

    async fn with(
        stripe_settings: impl FnOnce(StripeBuilder) -> StripeBuilder,
        settings: impl FnOnce(MerchantBuilder) -> MerchantBuilder,
    ) -> Self {
        let stripe = StripeStandIn::start().await;
        let rail = Stripe::builder(SECRET_KEY, "profile_test_1").base_url(stripe.base_url());
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let merchant = settings(merchant_with(stripe_settings(rail)).clock(clock.clone())).build().unwrap();
        let served = Arc::new(AtomicUsize::new(0));
        let count = served.clone();
        let fails_once = Arc::new(AtomicUsize::new(0));
        let charge = || merchant.charge(Price::usd("0.50").unwrap()).unwrap();
        let app = Router::new()
            .route(
                "/paid",
                get(move || async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    "here you are"
                })
                .route_layer(charge()),
            )
            .route("/bare", get(|| async { "here you are" }).route_layer(charge().accept_token_credentials(true)))
            .route(
                "/fails-once",
                get(move || async move {
                    if fails_once.fetch_add(1, Ordering::SeqCst) == 0 { Err("sorry") } else { Ok("here you are") }
                        .map_err(|text| (http::StatusCode::BAD_GATEWAY, text))
                })
                .route_layer(charge()),
            );
        Self { stripe, server: Server::start(app).await, clock, served }
    }

    async fn credential(&self, payload: &Value) -> HeaderValue {
        let answer = self.server.get("/paid").await;
        let challenge = challenges(&answer.headers).into_iter().find(|c| c.method.as_str() == "stripe").unwrap();
        pay_with(&challenge, None, payload)
    }

    async fn token(&self, token: &str) -> HeaderValue {
        self.credential(&json!({ "spt": token })).await
    }

    async fn buy(&self, credential: &HeaderValue) -> Answer {
        self.server.get_paid("/paid", credential).await
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// 503 without anything that makes an agent pay again.
#[track_caller]
fn assert_waits(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 503, "{answer:?}");
    answer.assert_no_challenge();
    assert!(!answer.text().contains("API Key") && !answer.text().contains("SECRET"), "{}", answer.text());
    answer.header("retry-after").unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_challenge_has_what_wallets_need_and_nothing_of_ours() {
    let connect = |stripe: StripeBuilder| stripe.metadata("product", "search").transfer_data("acct_1", None);
    let shop = Shop::with(connect, |merchant| merchant).await;
    let answer = shop.server.get("/paid").await;
    answer.assert_challenged("payment-required");
    let challenge = challenge(&answer.headers);
    assert_eq!((challenge.method.as_str(), challenge.intent.as_str()), ("stripe", "charge"));
    assert_eq!(
        challenge.request_as::<Value>().unwrap(),
        json!({
            "amount": "50",
            "currency": "usd",
            "methodDetails": {
                "networkId": "profile_test_1",
                "paymentMethodTypes": ["card", "link"],
                "metadata": {"product": "search"},
            },
        })
    );
    assert_eq!(shop.stripe.requests().len(), 0);
}

#[tokio::test]
async fn a_token_buys_one_answer() {
    let shop = Shop::open().await;
    let credential = shop.credential(&json!({"spt": "spt_ok", "externalId": "client_order_789"})).await;
    let answer = shop.buy(&credential).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "here you are"));
    let (receipt, charges) = (answer.receipt(), shop.stripe.charges());
    assert_eq!(charges.len(), 1);
    assert_eq!((charges[0].amount, &*charges[0].currency), (50, "usd"));
    assert_eq!(receipt.method.as_str(), "stripe");
    assert_eq!(receipt.reference, charges[0].payment_intent);
    assert_eq!(receipt.extra["externalId"], "client_order_789");

    let again = shop.buy(&credential).await;
    assert_eq!(again.status, 403);
    again.assert_no_challenge();
    assert_eq!((shop.stripe.creations().len(), shop.served()), (1, 1));
}

#[tokio::test]
async fn a_bare_token_is_charged_as_in_the_credential_of_the_draft() {
    let shop = Shop::open().await;
    let challenge = challenge(&shop.server.get("/bare").await.headers);
    let id = &challenge.id;
    let bare = |token: &str| format!(r#"Payment id="{id}", credential="{token}""#).parse::<HeaderValue>().unwrap();
    let long = format!("spt_{}", "x".repeat(200));
    for odd in ["ok", "SPT_ok", "spt ok", "spt_", "pm_ok", "spt_ok,spt_ok", "{}", &long] {
        let answer = shop.server.get_paid("/bare", &bare(odd)).await;
        answer.assert_challenged("verification-failed");
        assert!(!answer.text().contains(long.as_str()), "{odd}");
    }
    assert_eq!(shop.stripe.requests().len(), 0);
    let answer = shop.server.get_paid("/bare", &bare("spt_ok")).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "here you are"));
    let creations = shop.stripe.creations();
    assert_eq!(creations.len(), 1);
    assert_eq!(creations[0].header("idempotency-key"), Some(&*format!("{id}_spt_ok")));
    assert_eq!(creations[0].field("metadata[mpp_challenge_id]"), Some(&**id));
    assert_eq!(answer.receipt().reference, shop.stripe.charges()[0].payment_intent);
    // Again, in either form, and for another challenge.
    let other = support::challenge(&shop.server.get("/bare").await.headers);
    for again in [
        bare("spt_ok"),
        pay_with(&challenge, None, &json!({"spt": "spt_ok"})),
        pay_with(&other, None, &json!({"spt": "spt_ok"})),
        format!(r#"Payment id="{}", credential="spt_ok""#, other.id).parse().unwrap(),
    ] {
        let answer = shop.server.get_paid("/bare", &again).await;
        assert_eq!(answer.status, 403);
        answer.assert_no_challenge();
    }
    assert_eq!(shop.stripe.charges().len(), 1);
}

#[tokio::test]
async fn what_the_bank_refuses_is_asked_for_again_in_our_words() {
    let shop = Shop::open().await;
    for (token, problem) in [
        ("spt_declined", "verification-failed"),
        ("spt_insufficient", "payment-insufficient"),
        ("spt_expired", "verification-failed"),
        ("spt_overlimit", "payment-insufficient"),
        ("spt_action", "verification-failed"),
    ] {
        let answer = shop.buy(&shop.token(token).await).await;
        answer.assert_challenged(problem);
        assert!(!answer.text().contains("SECRET"), "{}", answer.text());
    }
    // Nobody can complete what was refused.
    shop.stripe.payer_acts();
    assert_eq!((shop.stripe.charges().len(), shop.served()), (0, 0));
    // A payer who was refused may pay with another token.
    assert_eq!(shop.buy(&shop.token("spt_ok").await).await.status, 200);
}

#[tokio::test]
async fn a_payload_that_is_no_token_never_reaches_stripe() {
    let shop = Shop::open().await;
    for payload in [json!({}), json!({"spt": "tok_1"}), json!({"spt": "spt_a b"}), json!({"spt": ["spt_ok"]})] {
        shop.buy(&shop.credential(&payload).await).await.assert_challenged("verification-failed");
    }
    assert_eq!(shop.stripe.requests().len(), 0);
}

#[tokio::test]
async fn our_own_mistakes_cost_the_payer_nothing() {
    let shop = Shop::open().await;
    for token in ["spt_unauthorized", "spt_forbidden", "spt_badrequest"] {
        assert_waits(&shop.buy(&shop.token(token).await).await);
    }
    assert_eq!(assert_waits(&shop.buy(&shop.token("spt_ratelimited").await).await), 7);
    let nobody = Shop::with(|stripe| stripe.base_url("http://127.0.0.1:1"), |merchant| merchant).await;
    assert_waits(&nobody.buy(&nobody.token("spt_ok").await).await);
    assert_eq!((shop.stripe.charges().len(), shop.served()), (0, 0));
}

#[tokio::test]
async fn a_lost_answer_costs_one_charge() {
    let shop = Shop::open().await;
    // Once is repeated within the request; twice is left to the payer.
    assert_eq!(shop.buy(&shop.token("spt_drop").await).await.status, 200);
    for (number, token) in ["spt_drop_twice", "spt_5xx", "spt_stored5xx"].into_iter().enumerate() {
        let credential = shop.token(token).await;
        assert_waits(&shop.buy(&credential).await);
        let answer = shop.buy(&credential).await;
        assert_eq!(answer.status, 200, "{token}: {answer:?}");
        let charges = shop.stripe.charges();
        assert_eq!(charges.len(), number + 2, "{token}");
        assert_eq!(answer.receipt().reference, charges[number + 1].payment_intent, "{token}");
    }
}

#[tokio::test]
async fn a_payment_that_takes_its_time_is_waited_for() {
    let shop = Shop::open().await;
    let credential = shop.token("spt_processing").await;
    assert_waits(&shop.buy(&credential).await);
    assert_waits(&shop.buy(&credential).await);
    shop.stripe.finish_processing();
    assert_eq!(shop.buy(&credential).await.status, 200);
    assert_eq!((shop.stripe.charges().len(), shop.served()), (1, 1));
}

#[tokio::test]
async fn a_payment_in_doubt_is_found_after_the_challenge_expired() {
    let shop = Shop::open().await;
    let credential = shop.token("spt_drop_twice").await;
    assert_waits(&shop.buy(&credential).await);
    shop.stripe.forget_idempotency_keys();
    shop.clock.advance(Duration::from_secs(400));
    let answer = shop.buy(&credential).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((shop.stripe.charges().len(), shop.served()), (1, 1));
    assert_eq!(answer.receipt().reference, shop.stripe.charges()[0].payment_intent);
}

#[tokio::test]
async fn answers_that_cannot_be_believed_buy_nothing() {
    let shop = Shop::open().await;
    for token in ["spt_garbage", "spt_wrongamount"] {
        assert_waits(&shop.buy(&shop.token(token).await).await);
    }
    assert_eq!(shop.served(), 0);
}

#[tokio::test]
async fn parallel_requests_with_one_credential_are_one_payment() {
    let shop = Arc::new(Shop::open().await);
    let credential = shop.token("spt_slow").await;
    let requests: Vec<_> = (0..64)
        .map(|_| {
            let (shop, credential) = (shop.clone(), credential.clone());
            tokio::spawn(async move { shop.buy(&credential).await })
        })
        .collect();
    let mut delivered = 0;
    for request in requests {
        let answer = request.await.unwrap();
        match answer.status.as_u16() {
            200 => delivered += 1,
            403 | 409 => answer.assert_no_challenge(),
            other => panic!("{other}: {answer:?}"),
        }
    }
    assert_eq!((delivered, shop.stripe.charges().len(), shop.served()), (1, 1, 1));
    assert_eq!(shop.stripe.creations().len(), 1);
}

#[tokio::test]
async fn one_token_does_not_buy_two_answers() {
    let shop = Arc::new(Shop::open().await);
    let mut requests = Vec::new();
    for _ in 0..16 {
        let (shop, credential) = (shop.clone(), shop.token("spt_slow").await);
        requests.push(tokio::spawn(async move { shop.buy(&credential).await.status.as_u16() }));
    }
    let mut delivered = 0;
    for request in requests {
        delivered += usize::from(request.await.unwrap() == 200);
    }
    assert_eq!((delivered, shop.stripe.charges().len(), shop.stripe.creations().len()), (1, 1, 1));
    assert_ne!(shop.buy(&shop.token("spt_slow").await).await.status, 200);
    assert_eq!((shop.stripe.creations().len(), shop.served()), (1, 1));
}

#[tokio::test]
async fn what_was_paid_and_not_delivered_is_delivered_without_a_second_charge() {
    let shop = Shop::open().await;
    let challenge = challenge(&shop.server.get("/fails-once").await.headers);
    let credential = pay_with(&challenge, None, &json!({"spt": "spt_ok"}));
    let failed = shop.server.get_paid("/fails-once", &credential).await;
    assert_eq!(failed.status, 502);
    failed.assert_no_challenge();
    let delivered = shop.server.get_paid("/fails-once", &credential).await;
    assert_eq!((delivered.status.as_u16(), shop.stripe.creations().len()), (200, 1));
    assert_eq!(delivered.receipt().reference, shop.stripe.charges()[0].payment_intent);
}

#[tokio::test]
async fn a_payer_may_choose_between_rails() {
    let shop = Shop::with(|stripe| stripe, |merchant| merchant.method(Sandbox::new())).await;
    let answer = shop.server.get("/paid").await;
    let offers = challenges(&answer.headers);
    let methods: Vec<_> = offers.iter().map(|challenge| challenge.method.as_str().to_owned()).collect();
    assert_eq!(methods, ["stripe", "sandbox"]);
    let paid = shop.buy(&pay_sandbox(&offers[1], &SandboxKey::generate())).await;
    assert_eq!((paid.status.as_u16(), &paid.receipt().extra["testMode"]), (200, &json!(true)));
    assert_eq!(shop.stripe.requests().len(), 0);
}

#[test]
fn mistakes_are_reported_at_start_up() {
    let rail = || Stripe::builder(SECRET_KEY, "profile_test_1");
    let no_test_mode = merchant_with(rail()).test_mode(false).build();
    assert!(matches!(no_test_mode, Err(ConfigError::TestMethod(_))));
    let merchant = merchant_with(rail()).build().unwrap();
    assert!(matches!(merchant.charge(Price::usd("0.49").unwrap()), Err(ConfigError::NoOffer { .. })));
}
