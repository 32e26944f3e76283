//! The cases against this crate's merchant, and what mpp's server does not do: single use, one charge whatever
//! happens, a choice of methods.

#[path = "../../../tests/support/rail.rs"]
#[allow(dead_code, clippy::expect_used, clippy::panic)]
mod rail;
#[path = "../../../tests/support/stripe.rs"]
mod standin;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use mpp::{
    PaymentChallenge, PaymentCredential, body_digest,
    client::{
        AcceptPaymentPolicy, ClientEvents, Fetch, HttpError, MultiProvider, PaymentFailureReason, PaymentProvider,
    },
    format_authorization, parse_authorization, parse_receipt, parse_www_authenticate_all,
};
use rail::TestRail;
use reqwest::Response;
use serde_json::{Value, json};
use standin::{SECRET_KEY, StripeStandIn};
use tower_mpp::{
    KeyRing, Merchant, Price,
    method::stripe::Stripe,
    pricing::Prices,
    protocol::{MethodId, ProblemType},
    store::MemoryNonceStore,
};

use crate::{
    JSON, assert_delivered, assert_problem, demo_is_paid, demo_is_paid_for_a_body,
    demo_that_is_declined_is_not_delivered, header, pay, stripe_is_paid,
    wallets::{DemoWallet, Purse, Stubborn, client, serve, stripe_wallet, stripe_wallet_of},
};

/// `/demo` and `/body` take the method `demo`, `/stripe` takes `stripe`, `/any` both.
struct Shop {
    url: String,
    demo: TestRail,
    stripe: StripeStandIn,
    served: Arc<AtomicUsize>,
}

impl Shop {
    async fn open() -> Self {
        let (demo, stripe) = (TestRail::new("demo"), StripeStandIn::start().await);
        let rail = Stripe::builder(SECRET_KEY, "profile_test_interop").base_url(stripe.base_url()).build();
        let key = KeyRing::new("an HMAC key of more than thirty-two bytes").expect("a key");
        let merchant = Merchant::builder("127.0.0.1", key)
            .method(demo.clone())
            .method(rail.expect("a rail"))
            .nonce_store(MemoryNonceStore::single_process(1000))
            .test_mode(true)
            .build()
            .expect("a merchant");

        let served = Arc::new(AtomicUsize::new(0));
        let count = served.clone();
        let serves = async move || {
            count.fetch_add(1, Ordering::SeqCst);
            Json(json!({ "ok": true }))
        };
        let reads = async |Json(_): Json<Value>| Json(json!({ "ok": true }));
        let price = || Price::usd("0.50").expect("a price");
        let only = |method| Prices::only(MethodId::new(method).expect("a method"), price());
        let charge = |prices: Prices| merchant.charge(prices).expect("a price that can be paid");
        let app = Router::new()
            .route("/demo", get(serves.clone()).route_layer(charge(only("demo"))))
            .route("/body", post(reads).route_layer(charge(only("demo"))))
            .route("/stripe", get(serves.clone()).route_layer(charge(only("stripe"))))
            .route("/any", get(serves).route_layer(charge(price().into())));
        Self { url: serve(app).await, demo, stripe, served }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// How many tokens agents had Stripe make.
    fn tokens(&self) -> usize {
        self.stripe.requests().iter().filter(|request| request.path.ends_with("/granted_tokens")).count()
    }
}

/// The methods of an answer's challenges, as mpp reads them.
fn offers(response: &Response) -> Vec<PaymentChallenge> {
    let values = response.headers().get_all("www-authenticate").iter();
    let values = values.map(|value| value.to_str().expect("readable"));
    parse_www_authenticate_all(values).into_iter().map(|offer| offer.expect("a readable offer")).collect()
}

fn methods(response: &Response) -> Vec<String> {
    offers(response).iter().map(|offer| offer.method.to_string()).collect()
}

#[track_caller]
fn assert_nothing_to_pay(response: &Response, status: u16) {
    assert_eq!(response.status(), status);
    for name in ["www-authenticate", "payment-receipt"] {
        assert_eq!(header(response, name), None);
    }
}

/// Pays and notes every credential of which the client does not know what became.
async fn pay_in_doubt(url: &str, wallet: &impl PaymentProvider) -> (Response, Vec<PaymentCredential>) {
    let doubts = Arc::new(Mutex::new(Vec::new()));
    let (events, noted) = (ClientEvents::default(), doubts.clone());
    let _subscription = events.on_payment_failed(move |failed| {
        if let Some(PaymentFailureReason::OutcomeUnknown { credential, .. }) = &failed.reason {
            noted.lock().expect("lock").push(parse_authorization(credential).expect("a credential"));
        }
        async {}
    });
    let request = client().get(url);
    let answer = request.send_with_payment_options(wallet, &AcceptPaymentPolicy::Always, events).await;
    let doubts = std::mem::take(&mut *doubts.lock().expect("lock"));
    (answer.expect("the flow ends with an answer"), doubts)
}

#[tokio::test]
async fn is_paid_by_a_custom_method() {
    let shop = Shop::open().await;
    demo_is_paid(&shop.url).await;
    assert_eq!((shop.demo.settlements(), shop.served()), (1, 1));
}

#[tokio::test]
async fn does_not_deliver_what_is_declined() {
    let shop = Shop::open().await;
    demo_that_is_declined_is_not_delivered(&shop.url).await;
    // mpp's client answers a refusal with the next challenge, three times in all.
    assert_eq!((shop.demo.attempts(), shop.demo.settlements(), shop.served()), (3, 0, 0));
}

#[tokio::test]
async fn is_paid_for_a_request_with_a_body() {
    let shop = Shop::open().await;
    demo_is_paid_for_a_body(&shop.url).await;
    assert_eq!(shop.demo.settlements(), 1);
}

#[tokio::test]
async fn is_paid_with_a_shared_payment_token() {
    let shop = Shop::open().await;
    stripe_is_paid(&shop.url, &shop.stripe.base_url()).await;
    let charges = shop.stripe.charges();
    assert_eq!((charges.len(), shop.tokens(), shop.served()), (1, 1, 1));
    assert_eq!((charges[0].amount, charges[0].currency.as_str()), (50, "usd"));
}

#[tokio::test]
async fn a_receipt_names_the_payment() {
    let shop = Shop::open().await;
    let purse = Purse::new(stripe_wallet(&shop.stripe.base_url()));
    let paid = pay(&shop.at("/stripe"), &purse).await;
    let receipt = parse_receipt(header(&paid, "payment-receipt").expect("a receipt")).expect("a readable receipt");
    assert_eq!(receipt.reference, shop.stripe.charges()[0].payment_intent);
    assert_eq!(receipt.extensions["challengeId"], purse.paid()[0].0.id.as_str());
    assert!(receipt.timestamp.ends_with('Z'), "{}", receipt.timestamp);
}

#[tokio::test]
async fn a_credential_is_good_once_and_the_client_does_not_pay_again() {
    let shop = Shop::open().await;
    for (path, wallet) in [("/demo", MultiProvider::new().with(DemoWallet("ok"))), ("/stripe", stripe_only(&shop))] {
        let purse = Purse::new(wallet);
        assert_eq!(pay(&shop.at(path), &purse).await.status(), 200);
        let (used, before) = (purse.paid()[0].1.clone(), shop.served());

        // Sent at once, before the server has asked for anything.
        let purse = purse.with_last_in_hand();
        let again = pay(&shop.at(path), &purse).await;
        assert_nothing_to_pay(&again, 403);
        let problem = assert_problem(again, ProblemType::InvalidChallenge).await;
        assert_eq!(problem.challenge_id.as_deref(), Some(used.challenge.id.as_str()));
        // And in answer to a fresh challenge.
        assert_nothing_to_pay(&pay(&shop.at(path), &Stubborn(used)).await, 403);

        assert_eq!((purse.paid().len(), shop.served()), (1, before), "{path}");
    }
    assert_eq!((shop.demo.attempts(), shop.stripe.creations().len(), shop.tokens()), (1, 1, 1));
}

fn stripe_only(shop: &Shop) -> MultiProvider {
    MultiProvider::new().with(stripe_wallet(&shop.stripe.base_url()))
}

#[tokio::test]
async fn a_doubtful_payment_is_resumed_with_one_charge() {
    let shop = Shop::open().await;
    // The rail has no money yet, or has it and the answer was lost.
    for (number, token) in ["unknown", "lost"].into_iter().enumerate() {
        let purse = Purse::new(DemoWallet(token));
        let (answer, doubts) = pay_in_doubt(&shop.at("/demo"), &purse).await;
        assert_nothing_to_pay(&answer, 503);
        assert!(header(&answer, "retry-after").is_some());
        assert_problem(answer, ProblemType::PaymentOutcomeUnknown).await;
        assert_eq!((purse.paid().len(), doubts.len(), shop.served()), (1, 1, number), "{token}");

        let purse = purse.with_last_in_hand();
        assert_delivered(pay(&shop.at("/demo"), &purse).await, "demo").await;
        assert_eq!((purse.paid().len(), shop.demo.settlements(), shop.served()), (1, number + 1, number + 1));
    }
}

#[tokio::test]
async fn a_doubtful_stripe_payment_is_resumed_with_one_charge() {
    let shop = Shop::open().await;
    // Stripe charged and nobody heard of it twice; Stripe did nothing; Stripe charged and said that it failed.
    for (number, token) in ["spt_drop_twice", "spt_5xx", "spt_stored5xx"].into_iter().enumerate() {
        let purse = Purse::new(stripe_wallet_of(&[token]));
        let (answer, doubts) = pay_in_doubt(&shop.at("/stripe"), &purse).await;
        assert_nothing_to_pay(&answer, 503);
        assert_eq!((purse.paid().len(), doubts.len(), shop.served()), (1, 1, number), "{token}");

        // All that the client keeps of it is the header.
        let request = client().get(shop.at("/stripe")).header("authorization", authorization(&doubts[0]));
        let resumed = request.send_with_payment_policy(&purse, &AcceptPaymentPolicy::Always).await;
        let reference = assert_delivered(resumed.expect("an answer"), "stripe").await;
        let charges = shop.stripe.charges();
        assert_eq!((purse.paid().len(), charges.len(), shop.served()), (1, number + 1, number + 1), "{token}");
        assert_eq!(reference, charges[number].payment_intent, "{token}");
    }
}

fn authorization(credential: &PaymentCredential) -> String {
    format_authorization(credential).expect("a credential")
}

#[tokio::test]
async fn a_declined_card_is_tried_three_times_and_never_charged() {
    let shop = Shop::open().await;
    for (token, problem) in
        [("spt_declined", ProblemType::VerificationFailed), ("spt_insufficient", ProblemType::PaymentInsufficient)]
    {
        let before = shop.stripe.creations().len();
        let purse = Purse::new(stripe_wallet_of(&[token]));
        let answer = pay(&shop.at("/stripe"), &purse).await;
        assert_eq!(answer.status(), StatusCode::PAYMENT_REQUIRED);
        assert!(!offers(&answer).is_empty());
        assert_problem(answer, problem).await;

        let mut ids: Vec<_> = purse.paid().into_iter().map(|(challenge, _)| challenge.id).collect();
        ids.dedup();
        assert_eq!((ids.len(), shop.stripe.creations().len() - before), (3, 3), "{token}");
    }
    assert_eq!((shop.stripe.charges().len(), shop.served()), (0, 0));
}

#[tokio::test]
async fn after_a_declined_card_another_one_is_charged_once() {
    let shop = Shop::open().await;
    let purse = Purse::new(stripe_wallet_of(&["spt_declined", "spt_action", "spt_ok"]));
    let reference = assert_delivered(pay(&shop.at("/stripe"), &purse).await, "stripe").await;
    let charges = shop.stripe.charges();
    assert_eq!((purse.paid().len(), charges.len(), shop.served()), (3, 1, 1));
    assert_eq!((reference.as_str(), charges[0].token.as_str()), (charges[0].payment_intent.as_str(), "spt_ok"));
}

#[tokio::test]
async fn the_client_picks_from_several_methods() {
    let shop = Shop::open().await;
    let anonymous = client().get(shop.at("/any")).send().await.expect("an answer");
    assert_eq!(methods(&anonymous), ["demo", "stripe"]);

    assert_delivered(pay(&shop.at("/any"), &DemoWallet("ok")).await, "demo").await;
    assert_delivered(pay(&shop.at("/any"), &stripe_wallet(&shop.stripe.base_url())).await, "stripe").await;
    assert_eq!((shop.demo.settlements(), shop.stripe.charges().len()), (1, 1));

    // A wallet that has both follows what its owner prefers.
    let both = MultiProvider::new().with(DemoWallet("ok")).with(stripe_wallet(&shop.stripe.base_url()));
    for (accept, method) in [
        ("stripe/charge, demo/charge;q=0.5", "stripe"),
        ("stripe/charge;q=0.5, demo/charge", "demo"),
        ("demo/charge;q=0, */*;q=0.1", "stripe"),
    ] {
        let request = client().get(shop.at("/any")).header("accept-payment", accept);
        assert_delivered(request.send_with_payment(&both).await.expect("an answer"), method).await;
    }
    assert_eq!((shop.demo.settlements(), shop.stripe.charges().len(), shop.served()), (2, 3, 5));
}

#[tokio::test]
async fn accept_payment_filters_and_orders_the_challenges() {
    let shop = Shop::open().await;
    for (accept, expected) in [
        ("stripe/charge", &["stripe"][..]),
        ("stripe/charge, demo/charge;q=0.9", &["stripe", "demo"]),
        ("*/charge", &["demo", "stripe"]),
        ("demo/*;q=0, */*", &["stripe"]),
        // Nothing that is offered here: the client sees what there is, and gives up by itself.
        ("tempo/charge", &["demo", "stripe"]),
    ] {
        let request = client().get(shop.at("/any")).header("accept-payment", accept);
        assert_eq!(methods(&request.send().await.expect("an answer")), expected, "{accept}");
    }
    let poor = client().get(shop.at("/stripe"));
    let answer = poor.send_with_payment_policy(&DemoWallet("ok"), &AcceptPaymentPolicy::Always).await;
    assert!(matches!(answer, Err(HttpError::NoSupportedChallenge(_))), "{answer:?}");
    assert_eq!((shop.demo.attempts(), shop.stripe.requests().len()), (0, 0));
}

#[tokio::test]
async fn a_method_that_is_not_offered_here_is_refused_without_a_challenge() {
    let shop = Shop::open().await;
    let purse = Purse::new(DemoWallet("ok"));
    pay(&shop.at("/demo"), &purse).await;
    let elsewhere = pay(&shop.at("/stripe"), &purse.with_last_in_hand()).await;
    assert_nothing_to_pay(&elsewhere, 400);
    assert_problem(elsewhere, ProblemType::MethodUnsupported).await;
    assert_eq!(shop.stripe.requests().len(), 0);
}

#[tokio::test]
async fn a_digest_is_one_that_the_client_can_check() {
    let shop = Shop::open().await;
    let asked = client().post(shop.at("/body")).body(JSON).send().await.expect("an answer");
    let offer = offers(&asked).remove(0);
    let digest = offer.digest.as_deref().expect("a digest");
    assert!(digest.starts_with("sha-256=:"), "{digest}");
    assert!(body_digest::verify(digest, JSON.as_bytes()));
    let empty = client().get(shop.at("/demo")).send().await.expect("an answer");
    assert_eq!(offers(&empty)[0].digest, None);
}

#[tokio::test]
async fn a_payment_for_one_body_does_not_buy_another() {
    let shop = Shop::open().await;
    let purse = Purse::new(DemoWallet("ok"));
    let asked = client().post(shop.at("/body")).body(JSON).send().await.expect("an answer");
    let credential = purse.pay(&offers(&asked)[0]).await.expect("a credential");
    let send = async |body: &'static str| {
        let request = client().post(shop.at("/body")).header("content-type", "application/json");
        request.header("authorization", authorization(&credential)).body(body).send().await.expect("an answer")
    };
    let other = send(r#"{"model":"bigger"}"#).await;
    assert_eq!((other.status().as_u16(), shop.demo.attempts()), (402, 0));
    assert_problem(other, ProblemType::InvalidChallenge).await;
    assert_delivered(send(JSON).await, "demo").await;
    assert_eq!(shop.demo.settlements(), 1);
}
