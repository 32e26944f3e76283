//! The stand-in for Stripe behaves as Stripe documents it, or was seen to behave in test mode. What a
//! test of the rail shows is worth no more than this.
//!
//! Beside these tests the stand-in was driven once with Stripe's own Python SDK (16.1.0): see the list
//! at the end of this file.
#![cfg(feature = "stripe")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/stripe.rs"]
mod standin;

use std::time::Duration;

use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;
use standin::{SECRET_KEY, StripeStandIn};

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn replayed(&self) -> bool {
        self.headers.contains_key("idempotent-replayed")
    }

    fn error(&self, member: &str) -> &str {
        self.body["error"][member].as_str().unwrap_or_default()
    }
}

/// `None` when the connection was lost.
async fn call(stripe: &StripeStandIn, method: Method, path: &str, key: Option<&str>, form: &str) -> Option<Answer> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", stripe.base_url()))
        .header("authorization", format!("Basic {}", STANDARD.encode(format!("{SECRET_KEY}:"))))
        .header("stripe-version", "2026-07-29.preview");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
    let response = client.request(request.body(Full::new(form.to_owned().into_bytes().into())).unwrap()).await.ok()?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

async fn post(stripe: &StripeStandIn, path: &str, key: &str, form: &str) -> Answer {
    call(stripe, Method::POST, path, Some(key), form).await.unwrap()
}

async fn get(stripe: &StripeStandIn, path: &str) -> Answer {
    call(stripe, Method::GET, path, None, "").await.unwrap()
}

fn pay(token: &str) -> String {
    format!("amount=50&currency=usd&confirm=true&shared_payment_granted_token={token}&metadata%5Border%5D=7")
}

const INTENTS: &str = "/v1/payment_intents";

#[tokio::test]
async fn a_key_answers_the_same_again_and_charges_once() {
    let stripe = StripeStandIn::start().await;
    let first = post(&stripe, INTENTS, "k", &pay("spt_ok")).await;
    let second = post(&stripe, INTENTS, "k", &pay("spt_ok")).await;
    assert_eq!((first.status, first.replayed()), (200, false));
    assert_eq!((second.status, second.replayed()), (200, true));
    assert_eq!(first.body, second.body);
    assert_eq!(first.body["status"], "succeeded");
    assert_eq!(first.body["metadata"]["order"], "7");
    assert_eq!(stripe.charges().len(), 1);
}

#[tokio::test]
async fn refusals_are_repeated_too_unless_nothing_was_executed() {
    let stripe = StripeStandIn::start().await;
    for token in ["spt_declined", "spt_expired", "spt_stored5xx"] {
        let first = post(&stripe, INTENTS, token, &pay(token)).await;
        let second = post(&stripe, INTENTS, token, &pay(token)).await;
        assert_eq!((first.status, &first.body), (second.status, &second.body), "{token}");
        assert!(second.replayed(), "{token}");
    }
    for token in ["spt_unauthorized", "spt_ratelimited", "spt_badrequest"] {
        post(&stripe, INTENTS, token, &pay(token)).await;
        assert!(!post(&stripe, INTENTS, token, &pay(token)).await.replayed(), "{token}");
    }
    let first = post(&stripe, INTENTS, "5xx", &pay("spt_5xx")).await;
    let second = post(&stripe, INTENTS, "5xx", &pay("spt_5xx")).await;
    assert_eq!((first.status, second.status, second.replayed()), (500, 200, false));
}

#[tokio::test]
async fn a_key_is_bound_to_its_parameters() {
    let stripe = StripeStandIn::start().await;
    post(&stripe, INTENTS, "k", &pay("spt_ok")).await;
    let other = post(&stripe, INTENTS, "k", &pay("spt_ok2")).await;
    assert_eq!((other.status, other.error("type")), (400, "idempotency_error"));
    assert_eq!(stripe.charges().len(), 1);
}

#[tokio::test]
async fn a_key_that_is_at_work_conflicts() {
    let stripe = StripeStandIn::start().await;
    stripe.set_delay(Duration::from_millis(200));
    let form = pay("spt_slow");
    let (first, second) = tokio::join!(post(&stripe, INTENTS, "k", &form), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        post(&stripe, INTENTS, "k", &form).await
    });
    assert_eq!(first.status, 200);
    assert_eq!((second.status, second.error("code")), (409, "idempotency_key_in_use"));
    assert!(post(&stripe, INTENTS, "k", &form).await.replayed());
}

#[tokio::test]
async fn parallel_requests_with_one_key_charge_once() {
    let stripe = std::sync::Arc::new(StripeStandIn::start().await);
    let requests: Vec<_> = (0..32)
        .map(|_| {
            let stripe = stripe.clone();
            tokio::spawn(async move { post(&stripe, INTENTS, "k", &pay("spt_ok")).await })
        })
        .collect();
    for request in requests {
        let answer = request.await.unwrap();
        assert!(answer.status == 200 || answer.status == 409, "{}", answer.status);
    }
    assert_eq!(stripe.charges().len(), 1);
}

#[tokio::test]
async fn parallel_requests_with_one_token_charge_once() {
    let stripe = std::sync::Arc::new(StripeStandIn::start().await);
    let requests: Vec<_> = (0..32)
        .map(|i| {
            let stripe = stripe.clone();
            tokio::spawn(async move { post(&stripe, INTENTS, &format!("k{i}"), &pay("spt_ok")).await.status })
        })
        .collect();
    let mut paid = 0;
    for request in requests {
        paid += u32::from(request.await.unwrap() == 200);
    }
    assert_eq!((paid, stripe.charges().len()), (1, 1));
}

#[tokio::test]
async fn what_was_begun_is_ended_although_nobody_listens() {
    let stripe = StripeStandIn::start().await;
    stripe.set_delay(Duration::from_millis(100));
    let form = pay("spt_slow");
    let hasty = tokio::time::timeout(Duration::from_millis(30), post(&stripe, INTENTS, "k", &form)).await;
    assert!(hasty.is_err());
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(stripe.charges().len(), 1);
    assert!(post(&stripe, INTENTS, "k", &form).await.replayed());
}

#[tokio::test]
async fn lost_connections_lose_the_answer_or_the_request() {
    let stripe = StripeStandIn::start().await;
    let send = async |token: &str| call(&stripe, Method::POST, INTENTS, Some(token), &pay(token)).await;
    assert!(send("spt_drop_before").await.is_none());
    assert_eq!(stripe.charges().len(), 0);
    assert!(!send("spt_drop_before").await.unwrap().replayed());
    assert!(send("spt_drop").await.is_none());
    assert_eq!(stripe.charges().len(), 2);
    assert!(send("spt_drop").await.unwrap().replayed());
    assert_eq!(stripe.charges().len(), 2);
}

#[tokio::test]
async fn a_granted_token_keeps_its_limits() {
    let stripe = StripeStandIn::start().await;
    let grant = async |key: &str, more: &str| {
        let form = format!("payment_method=pm_card_visa&usage_limits[currency]=usd&usage_limits[max_amount]=60{more}");
        let answer = post(&stripe, "/v1/test_helpers/shared_payment/granted_tokens", key, &form).await;
        assert_eq!(answer.body["object"], "shared_payment.granted_token");
        answer.body["id"].as_str().unwrap().to_owned()
    };
    let token = grant("g1", "").await;
    assert_eq!(post(&stripe, INTENTS, "1", &pay(&token)).await.status, 200);
    let more = post(&stripe, INTENTS, "2", &pay(&token)).await;
    assert_eq!((more.status, more.error("code")), (400, ""));
    assert!(more.error("message").contains("greater than the remaining amount"));

    let expired = grant("g2", "&usage_limits[expires_at]=1000").await;
    let revoked = grant("g3", "").await;
    post(&stripe, &format!("/v1/test_helpers/shared_payment/granted_tokens/{revoked}/revoke"), "r", "").await;
    for (token, reason) in [(expired, "expired"), (revoked, "revoked")] {
        let answer = post(&stripe, INTENTS, &token, &pay(&token)).await;
        assert!(answer.error("message").contains("deactivated state"), "{reason}");
        let object = get(&stripe, &format!("/v1/shared_payment/granted_tokens/{token}")).await;
        assert_eq!(object.body["deactivated_reason"], reason);
    }

    let euro = grant("g4", "").await;
    let form = pay(&euro).replace("usd", "eur");
    assert_eq!(post(&stripe, INTENTS, "e", &form).await.status, 400);
    let nobody = post(&stripe, INTENTS, "n", &pay("spt_x")).await;
    assert_eq!((nobody.status, nobody.error("code")), (400, "resource_missing"));
    assert_eq!(stripe.charges().len(), 1);
}

#[tokio::test]
async fn keys_versions_and_parameters_are_checked() {
    let stripe = StripeStandIn::start().await;
    let answer = post(&stripe, INTENTS, "1", &format!("{}&surprise=1", pay("spt_ok"))).await;
    assert_eq!((answer.status, answer.error("code")), (400, "parameter_unknown"));
    let answer = post(&stripe, INTENTS, "2", "amount=50&currency=usd&confirm=true").await;
    assert_eq!((answer.status, answer.error("code")), (400, "parameter_missing"));
    let answer = post(&stripe, INTENTS, "3", &pay("spt_ok").replace("amount=50", "amount=49")).await;
    assert_eq!((answer.status, answer.error("code")), (400, "amount_too_small"));
    assert_eq!(get(&stripe, "/v1/nothing").await.status, 404);
    assert_eq!(get(&stripe, "/v1/payment_intents/pi_nobody").await.error("code"), "resource_missing");
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
    let bare = client.get(format!("{}{INTENTS}/pi_1", stripe.base_url()).parse().unwrap()).await.unwrap();
    assert_eq!(bare.status(), 401);
    assert_eq!(stripe.charges().len(), 0);
}

#[tokio::test]
async fn a_decline_carries_the_payment_intent() {
    let stripe = StripeStandIn::start().await;
    let answer = post(&stripe, INTENTS, "k", &pay("spt_insufficient")).await;
    assert_eq!((answer.status, answer.error("type"), answer.error("code")), (402, "card_error", "card_declined"));
    assert_eq!(answer.error("decline_code"), "insufficient_funds");
    assert_eq!(answer.body["error"]["payment_intent"]["status"], "requires_payment_method");
}

#[tokio::test]
async fn what_waits_can_be_completed_or_cancelled() {
    let stripe = StripeStandIn::start().await;
    let intent = post(&stripe, INTENTS, "a", &pay("spt_action")).await.body;
    let path = format!("{INTENTS}/{}", intent["id"].as_str().unwrap());
    assert_eq!(intent["status"], "requires_action");
    let cancelled = post(&stripe, &format!("{path}/cancel"), "c", "cancellation_reason=abandoned").await;
    assert_eq!(cancelled.body["status"], "canceled");
    stripe.payer_acts();
    assert_eq!(get(&stripe, &path).await.body["status"], "canceled");

    let intent = post(&stripe, INTENTS, "p", &pay("spt_processing")).await.body;
    let path = format!("{INTENTS}/{}", intent["id"].as_str().unwrap());
    let refused = post(&stripe, &format!("{path}/cancel"), "c2", "").await;
    assert_eq!((refused.status, refused.error("code")), (400, "payment_intent_unexpected_state"));
    stripe.finish_processing();
    assert_eq!(get(&stripe, &path).await.body["status"], "succeeded");
    // The stored answer does not move on.
    assert_eq!(post(&stripe, INTENTS, "p", &pay("spt_processing")).await.body["status"], "processing");
    assert_eq!(stripe.charges().len(), 1);
}

#[tokio::test]
async fn what_is_held_moves_when_it_is_captured_and_never_twice() {
    let stripe = StripeStandIn::start().await;
    let hold = async |key: &str, token: &str| {
        let intent = post(&stripe, INTENTS, key, &format!("{}&capture_method=manual", pay(token))).await.body;
        (format!("{INTENTS}/{}", intent["id"].as_str().unwrap()), intent)
    };
    let (path, intent) = hold("a", "spt_ok_a").await;
    assert_eq!((intent["status"].as_str(), intent["amount_capturable"].as_u64()), (Some("requires_capture"), Some(50)));
    assert_eq!((stripe.charges().len(), stripe.held()), (0, vec![intent["id"].as_str().unwrap().to_owned()]));
    let capture = format!("{path}/capture");
    let too_much = post(&stripe, &capture, "c0", "amount_to_capture=51").await;
    assert_eq!((too_much.status, too_much.error("code")), (400, "amount_too_large"));
    let captured = post(&stripe, &capture, "c1", "amount_to_capture=50").await;
    assert_eq!(
        (captured.body["status"].as_str(), captured.body["amount_received"].as_u64()),
        (Some("succeeded"), Some(50))
    );
    assert!(post(&stripe, &capture, "c1", "amount_to_capture=50").await.replayed());
    assert_eq!(post(&stripe, &capture, "c1", "").await.error("type"), "idempotency_error");
    for (path, key) in [(&capture, "c2"), (&format!("{path}/cancel"), "c3")] {
        let refused = post(&stripe, path, key, "").await;
        assert_eq!((refused.status, refused.error("code")), (400, "payment_intent_unexpected_state"));
        assert_eq!(refused.body["error"]["payment_intent"]["status"], "succeeded");
    }
    // The stored answer does not move on.
    let (_, replayed) = hold("a", "spt_ok_a").await;
    assert_eq!((replayed["status"].as_str(), stripe.charges().len()), (Some("requires_capture"), 1));

    let (path, _) = hold("b", "spt_ok_b").await;
    assert_eq!(post(&stripe, &format!("{path}/cancel"), "c4", "").await.body["status"], "canceled");
    assert_eq!(
        post(&stripe, &format!("{path}/capture"), "c5", "").await.error("code"),
        "payment_intent_unexpected_state"
    );
    // What was only held is not used up.
    assert_eq!(hold("c", "spt_ok_b").await.1["status"], "requires_capture");
    stripe.let_lapse();
    assert_eq!((stripe.charges().len(), stripe.held().len(), stripe.cancelled().len()), (1, 0, 2));
    assert_eq!(post(&stripe, INTENTS, "d", &format!("{}&capture_method=later", pay("spt_ok"))).await.status, 400);
}

#[tokio::test]
async fn payments_are_found_by_their_metadata() {
    let stripe = StripeStandIn::start().await;
    let intent = post(&stripe, INTENTS, "k", &pay("spt_ok")).await.body;
    let found = get(&stripe, "/v1/payment_intents/search?query=metadata%5B%27order%27%5D%3A%277%27").await;
    assert_eq!(found.body["data"][0]["id"], intent["id"]);
    let none = get(&stripe, "/v1/payment_intents/search?query=metadata%5B%27order%27%5D%3A%278%27").await;
    assert_eq!(none.body["data"], serde_json::json!([]));
    assert_eq!(get(&stripe, "/v1/payment_intents/search?query=x").await.status, 400);
}

#[tokio::test]
async fn refunds_add_up_to_the_payment_and_no_further() {
    let stripe = StripeStandIn::start().await;
    let intent = post(&stripe, INTENTS, "k", &pay("spt_ok")).await.body;
    let id = intent["id"].as_str().unwrap();
    let refund =
        async |key: &str, more: &str| post(&stripe, "/v1/refunds", key, &format!("payment_intent={id}{more}")).await;
    let part = refund("1", "&amount=20&metadata[why]=x").await;
    assert_eq!((part.status, part.body["status"].as_str()), (200, Some("succeeded")));
    assert!(refund("1", "&amount=20&metadata[why]=x").await.replayed());
    assert_eq!(refund("2", "&amount=31").await.status, 400);
    assert_eq!(refund("3", "").await.body["amount"], 30);
    let again = refund("4", "").await;
    assert_eq!((again.status, again.error("code")), (400, "charge_already_refunded"));
    let list = get(&stripe, &format!("/v1/refunds?payment_intent={id}")).await;
    assert_eq!(list.body["data"].as_array().unwrap().len(), 2);
    assert_eq!(stripe.refunds().iter().map(|refund| refund.amount).sum::<u64>(), 50);
    assert_eq!(refund("5", "&reason=x&surprise=1").await.error("code"), "parameter_unknown");
}

// Driven with stripe-python 16.1.0 (`StripeClient`, version 2026-07-29.preview, `base_addresses` set to the
// stand-in):
//
// * the SDK sends the key as Bearer and brackets in form names unescaped; both are read;
// * `payment_intents.create` returns a PaymentIntent; a repeat has the same id and `idempotent-replayed`;
// * `spt_declined`, `spt_insufficient`: CardError 402, code, decline_code and the nested payment_intent;
//   `spt_expired`, `spt_overlimit`: InvalidRequestError without code; `spt_unauthorized`:
//   AuthenticationError; `spt_forbidden`: PermissionError; `spt_ratelimited`: RateLimitError; `spt_5xx`:
//   APIError; `spt_drop_before`: APIConnectionError; other parameters: IdempotencyError; a key that is at
//   work: APIError 409;
// * with `max_network_retries=2` the SDK gets over `spt_drop` by itself, by the replayed answer;
// * cancel, retrieve, search, refunds (create, list, over-refund, `charge_already_refunded`) and, through
//   `raw_request`, the test helpers for granted tokens (create, retrieve, revoke).
