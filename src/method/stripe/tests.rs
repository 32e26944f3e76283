//! Whole settlements and refunds against the stand-in.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../../../tests/support/stripe.rs"]
mod standin;

use std::time::Duration;

use serde_json::json;
use standin::{SECRET_KEY, StripeStandIn};

use super::*;
use crate::{
    method::{DeclineReason, testing::TestPayment},
    protocol::{Amount, Price},
};

fn builder(stripe: &StripeStandIn) -> StripeBuilder {
    Stripe::builder(SECRET_KEY, "profile_test_1").base_url(stripe.base_url())
}

fn usd(decimal: &str) -> Price {
    Price::usd(decimal).unwrap()
}

fn pays(method: &Stripe, token: &str) -> TestPayment {
    TestPayment::new(&method.offer(&usd("0.50")).unwrap()).method(MethodId::STRIPE).payload(json!({ "spt": token }))
}

async fn first(method: &Stripe, token: &str) -> Result<Settlement, SettleError> {
    let payment = pays(method, token).build();
    method.check(&payment).unwrap();
    method.settle(&payment, Attempt::First).await
}

async fn resumed(method: &Stripe, token: &str) -> Result<Settlement, SettleError> {
    method.settle(&pays(method, token).build(), Attempt::Resumed).await
}

fn declined(result: Result<Settlement, SettleError>) -> DeclineReason {
    match result {
        Err(SettleError::Declined(declined)) => {
            assert!(!declined.detail().contains("SECRET"), "{declined}");
            declined.reason()
        }
        other => panic!("not declined: {other:?}"),
    }
}

fn unknown(result: Result<Settlement, SettleError>) -> Duration {
    match result {
        Err(SettleError::Unknown(unknown)) => unknown.retry_after().unwrap(),
        other => panic!("not unknown: {other:?}"),
    }
}

fn faulty(result: Result<Settlement, SettleError>) -> Option<Duration> {
    match result {
        Err(SettleError::Fault(fault)) => fault.retry_after(),
        other => panic!("not a fault: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_becomes_one_payment_intent() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).metadata("product", "search & find").build().unwrap();
    let payment = pays(&method, "spt_ok_1")
        .source("did:web:payer.example")
        .payload(json!({"spt": "spt_ok_1", "externalId": "client_order_789"}))
        .build();
    let settlement = method.settle(&payment, Attempt::First).await.unwrap();

    let charges = stripe.charges();
    assert_eq!(charges.len(), 1);
    assert_eq!((charges[0].amount, &*charges[0].currency), (50, "usd"));
    assert_eq!(settlement.reference, charges[0].payment_intent);
    assert_eq!(settlement.receipt["externalId"], "client_order_789");
    assert_eq!(settlement.payer, payment.claimed_payer());

    let request = &stripe.requests()[0];
    let id = payment.challenge_id().to_string();
    assert_eq!(request.header("idempotency-key"), Some(&*format!("{id}_spt_ok_1")));
    assert_eq!(request.header("stripe-version"), Some("2026-07-29.preview"));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.header("stripe-account"), None);
    let form: Vec<_> = request.form.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(
        form,
        [
            ("amount", "50"),
            ("automatic_payment_methods[allow_redirects]", "never"),
            ("automatic_payment_methods[enabled]", "true"),
            ("confirm", "true"),
            ("currency", "usd"),
            ("shared_payment_granted_token", "spt_ok_1"),
            ("metadata[product]", "search & find"),
            ("metadata[mpp_challenge_id]", &*id),
            ("metadata[mpp_intent]", "charge"),
        ]
    );
}

#[tokio::test]
async fn a_repeat_after_an_unknown_outcome_is_success_and_charges_once() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    let settlement = first(&method, "spt_ok_1").await.unwrap();
    assert_eq!(resumed(&method, "spt_ok_1").await.unwrap(), settlement);
    assert_eq!(stripe.charges().len(), 1);
}

#[tokio::test]
async fn what_the_bank_refuses_is_declined() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    for (token, reason) in [
        ("spt_declined", DeclineReason::Refused),
        ("spt_insufficient", DeclineReason::Insufficient),
        ("spt_expired", DeclineReason::Refused),
        ("spt_overlimit", DeclineReason::Insufficient),
        ("spt_nobody_granted_this", DeclineReason::Refused),
    ] {
        assert_eq!(declined(first(&method, token).await), reason, "{token}");
        // Stripe repeats a refusal as it repeats a success.
        assert_eq!(declined(resumed(&method, token).await), reason, "{token} again");
    }
    assert_eq!(stripe.charges(), []);
}

#[tokio::test]
async fn a_payment_that_needs_the_payer_is_cancelled_before_it_is_declined() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    assert_eq!(declined(first(&method, "spt_action").await), DeclineReason::Refused);
    let cancel = stripe.requests().into_iter().find(|request| request.path.ends_with("/cancel")).unwrap();
    assert!(cancel.header("idempotency-key").unwrap().ends_with("_cancel"));
    let intent = cancel.path.split('/').nth(3).unwrap().to_owned();
    assert_eq!(stripe.status_of(&intent).unwrap(), "canceled");
    // The stored answer still says requires_action: the PaymentIntent itself is asked.
    assert_eq!(declined(resumed(&method, "spt_action").await), DeclineReason::Refused);
    stripe.payer_acts();
    assert_eq!(stripe.charges(), []);
}

#[tokio::test]
async fn a_payment_that_succeeds_before_it_is_cancelled_is_settled() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    stripe.acts_before_cancel();
    let settlement = first(&method, "spt_action").await.unwrap();
    assert_eq!(settlement.reference, stripe.charges()[0].payment_intent);
}

#[tokio::test]
async fn a_payment_that_takes_its_time_is_unknown_until_it_is_known() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    unknown(first(&method, "spt_processing").await);
    // Stripe repeats `processing` for this key for ever; only the PaymentIntent moves on.
    unknown(resumed(&method, "spt_processing").await);
    stripe.finish_processing();
    let settlement = resumed(&method, "spt_processing").await.unwrap();
    assert_eq!(stripe.charges().len(), 1);
    assert_eq!(settlement.reference, stripe.charges()[0].payment_intent);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_once_more() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    first(&method, "spt_drop").await.unwrap();
    first(&method, "spt_drop_before").await.unwrap();
    assert_eq!(stripe.charges().len(), 2);
    assert_eq!(stripe.creations().len(), 4);

    unknown(first(&method, "spt_drop_twice").await);
    resumed(&method, "spt_drop_twice").await.unwrap();
    assert_eq!(stripe.charges().len(), 3);
}

#[tokio::test]
async fn no_answer_in_time_is_unknown_and_the_repeat_charges_once() {
    let stripe = StripeStandIn::start().await;
    stripe.set_delay(Duration::from_millis(1200));
    let quick = builder(&stripe).connect_timeout(Duration::from_millis(300)).timeout(Duration::from_millis(600));
    let quick = quick.build().unwrap();
    unknown(first(&quick, "spt_slow").await);
    assert_eq!(stripe.charges(), []);
    // Still at work: asked again after a pause, then given up in time.
    unknown(resumed(&quick, "spt_slow").await);
    let settlement = loop {
        match resumed(&quick, "spt_slow").await {
            Err(SettleError::Unknown(_)) => {}
            settled => break settled.unwrap(),
        }
    };
    assert_eq!(stripe.charges().len(), 1);
    assert_eq!(settlement.reference, stripe.charges()[0].payment_intent);
}

#[tokio::test]
async fn concurrent_attempts_charge_once() {
    let stripe = StripeStandIn::start().await;
    stripe.set_delay(Duration::from_millis(50));
    let method = std::sync::Arc::new(builder(&stripe).build().unwrap());
    let attempts: Vec<_> = (0..8)
        .map(|_| {
            let method = method.clone();
            tokio::spawn(async move { resumed(&method, "spt_slow").await })
        })
        .collect();
    for attempt in attempts {
        attempt.await.unwrap().unwrap();
    }
    assert_eq!(stripe.charges().len(), 1);
}

#[tokio::test]
async fn a_server_error_is_unknown_and_the_repeat_decides() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    unknown(first(&method, "spt_5xx").await);
    assert_eq!(stripe.charges(), []);
    resumed(&method, "spt_5xx").await.unwrap();
    assert_eq!(stripe.charges().len(), 1);
}

#[tokio::test]
async fn a_stored_server_error_is_resolved_by_a_search() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    unknown(first(&method, "spt_stored5xx").await);
    let settlement = resumed(&method, "spt_stored5xx").await.unwrap();
    assert_eq!(settlement.reference, stripe.charges()[0].payment_intent);
    assert_eq!(stripe.charges().len(), 1);
}

#[tokio::test]
async fn an_unreadable_answer_is_unknown() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    unknown(first(&method, "spt_garbage").await);
}

#[tokio::test]
async fn another_amount_than_asked_for_is_never_taken_for_payment() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    unknown(first(&method, "spt_wrongamount").await);
}

#[tokio::test]
async fn our_own_mistakes_are_not_the_payers() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    assert_eq!(faulty(first(&method, "spt_unauthorized").await), None);
    assert_eq!(faulty(first(&method, "spt_forbidden").await), None);
    assert_eq!(faulty(first(&method, "spt_badrequest").await), None);
    assert_eq!(faulty(first(&method, "spt_ratelimited").await), Some(Duration::from_secs(7)));
    // After an unknown outcome the same answers say nothing about the money.
    for token in ["spt_unauthorized", "spt_forbidden", "spt_badrequest"] {
        unknown(resumed(&method, token).await);
    }
    assert_eq!(unknown(resumed(&method, "spt_ratelimited").await), Duration::from_secs(7));

    let wrong_key = Stripe::builder("sk_test_wrong", "profile_1").base_url(stripe.base_url()).build().unwrap();
    faulty(first(&wrong_key, "spt_ok").await);
    assert_eq!(stripe.charges(), []);
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let nobody = |url: String| Stripe::builder(SECRET_KEY, "profile_1").base_url(url).build().unwrap();
    let method = nobody(format!("http://{address}"));
    assert!(faulty(first(&method, "spt_ok").await).is_some());
    unknown(resumed(&method, "spt_ok").await);

    // TLS that fails is no connection either.
    let plain = StripeStandIn::start().await;
    let method = nobody(plain.base_url().replace("http://", "https://"));
    faulty(first(&method, "spt_ok").await);
    let unknown_name = nobody("https://stripe.invalid".to_owned());
    faulty(first(&unknown_name, "spt_ok").await);
    assert_eq!(plain.charges(), []);
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_as_a_fault() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let _connection = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    });
    let method = Stripe::builder(SECRET_KEY, "profile_1").base_url(url).connect_timeout(Duration::from_millis(100));
    faulty(first(&method.build().unwrap(), "spt_ok").await);
    silent.abort();
}

#[tokio::test]
async fn after_the_expiry_a_payment_is_looked_for_and_never_sent_again() {
    const HOUR: Duration = Duration::from_secs(3600);
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    let settlement = first(&method, "spt_ok_old").await.unwrap();
    stripe.forget_idempotency_keys();
    for age in [Duration::ZERO, 3 * HOUR, 1000 * HOUR] {
        let payment = pays(&method, "spt_ok_old").after_expiry(age).build();
        let again = method.settle(&payment, Attempt::Resumed).await.unwrap();
        assert_eq!(again.reference, settlement.reference);
    }
    let never = |age| pays(&method, "spt_ok_never").id([9; 32]).after_expiry(age).build();
    // The search may be behind at first.
    unknown(method.settle(&never(Duration::ZERO), Attempt::Resumed).await);
    unknown(method.settle(&never(HOUR), Attempt::Resumed).await);
    declined(method.settle(&never(3 * HOUR), Attempt::Resumed).await);
    assert_eq!(stripe.creations().len(), 1);
    assert_eq!(stripe.charges().len(), 1);
}

#[tokio::test]
async fn changed_settings_do_not_charge_again() {
    let stripe = StripeStandIn::start().await;
    let before = builder(&stripe).build().unwrap();
    let settlement = first(&before, "spt_ok").await.unwrap();
    let after = builder(&stripe).metadata("new", "1").build().unwrap();
    // Stripe answers idempotency_error; the search finds what was paid.
    assert_eq!(resumed(&after, "spt_ok").await.unwrap().reference, settlement.reference);
    assert_eq!(stripe.charges().len(), 1);
}

#[tokio::test]
async fn connect_parameters_come_from_the_settings_and_stay_out_of_the_challenge() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe)
        .stripe_account("acct_1")
        .application_fee_amount(Amount::new(10))
        .on_behalf_of("acct_2")
        .transfer_data("acct_3", None)
        .transfer_group("group 4")
        .build()
        .unwrap();
    let settlement = first(&method, "spt_ok").await.unwrap();
    let request = &stripe.requests()[0];
    assert_eq!(request.header("stripe-account"), Some("acct_1"));
    assert_eq!(request.field("application_fee_amount"), Some("10"));
    assert_eq!(request.field("on_behalf_of"), Some("acct_2"));
    assert_eq!(request.field("transfer_data[destination]"), Some("acct_3"));
    assert_eq!(request.field("transfer_group"), Some("group 4"));
    assert_eq!(stripe.charges()[0].account.as_deref(), Some("acct_1"));
    let offer = format!("{:?}", method.offer(&usd("0.50")).unwrap());
    assert!(!offer.contains("acct_") && !offer.contains("group"), "{offer}");

    let payment = pays(&method, "spt_ok").build();
    method.refund(refund_of(&payment, &settlement, 50)).await.unwrap();
    let refund = stripe.requests().pop().unwrap();
    assert_eq!(refund.field("reverse_transfer"), Some("true"));
    assert_eq!(refund.field("refund_application_fee"), Some("true"));

    let greedy = builder(&stripe).stripe_account("acct_1").application_fee_amount(Amount::new(51)).build().unwrap();
    assert!(greedy.offer(&usd("0.50")).is_none());
    faulty(greedy.settle(&payment, Attempt::First).await);
}

#[test]
fn an_offer_has_what_wallets_need() {
    let method = Stripe::builder(SECRET_KEY, "profile_1").metadata("product", "search").build().unwrap();
    let offer = method.offer(&usd("0.50")).unwrap();
    assert_eq!(offer.amount, Amount::new(50));
    assert_eq!(
        serde_json::Value::Object(offer.method_details),
        json!({"networkId": "profile_1", "paymentMethodTypes": ["card", "link"], "metadata": {"product": "search"}})
    );
    let plain = Stripe::new("sk_live_1", "profile_1").unwrap();
    assert!(!plain.offer(&usd("0.50")).unwrap().method_details.contains_key("metadata"));
    assert!(!plain.is_test() && method.is_test());
    assert!(plain.offer(&usd("0.49")).is_none());
}

#[test]
fn a_payload_that_is_no_token_is_refused() {
    let method = Stripe::new(SECRET_KEY, "profile_1").unwrap();
    let check = |payload| method.check(&pays(&method, "").payload(payload).build());
    for bad in [
        json!({}),
        json!({"spt": 7}),
        json!({"spt": ""}),
        json!({"spt": "spt_"}),
        json!({"spt": "tok_1"}),
        json!({"spt": "spt_a/b"}),
        json!({"spt": "spt_a\r\nx"}),
        json!({"spt": format!("spt_{}", "a".repeat(200))}),
        json!({"spt": "spt_1", "externalId": 7}),
        json!({"spt": "spt_1", "externalId": "a".repeat(256)}),
        json!({"spt": "spt_1", "externalId": "a\nb"}),
    ] {
        assert!(check(bad.clone()).is_err(), "{bad}");
    }
    let key = |payload| check(payload).unwrap().proof.unwrap();
    // Whatever else stands in the payload: one token is one proof.
    assert_eq!(key(json!({"spt": "spt_1"})), key(json!({"spt": "spt_1", "externalId": "x"})));
    assert_ne!(key(json!({"spt": "spt_1"})), key(json!({"spt": "spt_2"})));
}

fn refund_of<'a>(payment: &'a Payment, settlement: &'a Settlement, amount: u128) -> RefundRequest<'a> {
    RefundRequest {
        challenge_id: payment.challenge_id(),
        settlement,
        amount: Amount::new(amount),
        currency: payment.currency(),
    }
}

#[tokio::test]
async fn a_refund_gives_the_money_back_once() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    let payment = pays(&method, "spt_ok").build();
    let settlement = method.settle(&payment, Attempt::First).await.unwrap();
    let refunded = method.refund(refund_of(&payment, &settlement, 50)).await.unwrap();
    let request = stripe.requests().pop().unwrap();
    assert_eq!(request.field("payment_intent"), Some(&*settlement.reference));
    assert_eq!(request.field("amount"), Some("50"));
    assert_eq!(request.field("reason"), Some("requested_by_customer"));
    assert_eq!(request.field("metadata[mpp_challenge_id]"), Some(&*payment.challenge_id().to_string()));
    assert_eq!(request.header("idempotency-key"), Some(&*format!("{}_refund", payment.challenge_id())));

    assert_eq!(method.refund(refund_of(&payment, &settlement, 50)).await.unwrap(), refunded);
    stripe.forget_idempotency_keys();
    assert_eq!(method.refund(refund_of(&payment, &settlement, 50)).await.unwrap(), refunded);
    assert_eq!(stripe.refunds().len(), 1);
}

#[tokio::test]
async fn a_partial_refund_is_not_repeated_when_stripe_forgot_the_key() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    let payment = pays(&method, "spt_ok").build();
    let settlement = method.settle(&payment, Attempt::First).await.unwrap();
    let refunded = method.refund(refund_of(&payment, &settlement, 20)).await.unwrap();
    stripe.forget_idempotency_keys();
    assert_eq!(method.refund(refund_of(&payment, &settlement, 20)).await.unwrap(), refunded);
    let more = method.refund(refund_of(&payment, &settlement, 30)).await;
    assert!(matches!(more, Err(RefundError::Refused(_))));
    assert_eq!(stripe.refunds().len(), 1);
}

#[tokio::test]
async fn refunds_end_in_four_ways() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    let refund = async |token: &str, id: u8, amount: u128| {
        let payment = pays(&method, token).id([id; 32]).build();
        let settlement = method.settle(&payment, Attempt::First).await.unwrap();
        method.refund(refund_of(&payment, &settlement, amount)).await
    };
    assert!(refund("spt_ok_refund_pending", 1, 50).await.is_ok());
    assert!(matches!(refund("spt_ok_refund_failed", 2, 50).await, Err(RefundError::Refused(_))));
    assert!(matches!(refund("spt_ok_refund_balance", 3, 50).await, Err(RefundError::Fault(_))));
    assert!(matches!(refund("spt_ok_refund_drop", 4, 50).await, Err(RefundError::Unknown(_))));
    assert!(matches!(refund("spt_ok_over", 5, 51).await, Err(RefundError::Refused(_))));
    // What was lost is found.
    let payment = pays(&method, "spt_ok_refund_drop").id([4; 32]).build();
    let settlement = method.settle(&payment, Attempt::Resumed).await.unwrap();
    method.refund(refund_of(&payment, &settlement, 50)).await.unwrap();
    assert_eq!(stripe.refunds().iter().filter(|refund| refund.payment_intent == settlement.reference).count(), 1);
}

#[tokio::test]
async fn what_somebody_gave_back_by_hand_counts_as_refunded() {
    let stripe = StripeStandIn::start().await;
    let method = builder(&stripe).build().unwrap();
    let payment = pays(&method, "spt_ok").build();
    let settlement = method.settle(&payment, Attempt::First).await.unwrap();
    let by_hand = format!("payment_intent={}", settlement.reference);
    let reply = method.api.post("/v1/refunds", "by hand", by_hand, method.deadline()).await.unwrap();
    assert!(reply.status.is_success());
    let refunded = method.refund(refund_of(&payment, &settlement, 50)).await.unwrap();
    assert_eq!(refunded.reference, settlement.reference);
    assert_eq!(stripe.refunds().len(), 1);
}

#[tokio::test]
async fn redirects_are_not_followed_and_long_answers_are_cut() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let thief = StripeStandIn::start().await;
    let location = format!("{}/v1/payment_intents", thief.base_url());
    let redirect = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let endless = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{}", " ".repeat(1_000_000));
    for answer in [redirect, endless] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let method = Stripe::builder(SECRET_KEY, "profile_1").base_url(url).build().unwrap();
        unknown(first(&method, "spt_ok").await);
        server.abort();
    }
    assert_eq!(thief.requests().len(), 0);
}

#[tokio::test]
async fn neither_keys_nor_tokens_nor_the_banks_words_are_logged() {
    #[derive(Clone, Default)]
    struct Lines(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let (lines, stripe) = (Lines::default(), StripeStandIn::start().await);
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let method = builder(&stripe).build().unwrap();
    for token in
        ["ok", "declined", "action", "processing", "expired", "unauthorized", "stored5xx", "drop_twice", "garbage"]
    {
        let token = format!("spt_{token}_hidden");
        for _ in 0..2 {
            if let Err(error) = first(&method, &token).await {
                let text = format!("{error} {error:?}");
                assert!(!text.contains("hidden") && !text.contains("SECRET") && !text.contains(SECRET_KEY), "{text}");
            }
        }
    }
    let log = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert!(log.contains("decline_code=\"generic_decline\"") && log.contains("request_id=\"req_"), "{log}");
    for secret in ["hidden", "SECRET", SECRET_KEY, "c2tfdGVzdF9zdGFuZGlu"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
