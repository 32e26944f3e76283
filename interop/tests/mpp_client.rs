//! The `mpp` crate's client, unmodified, pays over a real socket.
//!
//! Each case runs against mpp's own server first: what fails there is not this crate's fault.

mod support;

use axum::{
    Json, Router,
    body::Body,
    extract::Form,
    http::StatusCode,
    routing::{any, post},
};
use mpp::{
    PaymentErrorDetails, ReceiptStatus,
    client::{AcceptPaymentPolicy, Fetch, PaymentProvider},
    parse_receipt, parse_www_authenticate_all,
    server::middleware::{PaymentBodyLayer, PaymentLayer, PaymentVerifier},
};
use reqwest::Response;
use serde_json::{Value, json};
use support::{DemoWallet, client, serve, stripe_wallet};
use tower_mpp_interop::mpp_merchant::{demo_charge, stripe_charge};

const JSON: &str = r#"{"model":"coding"}"#;

async fn pay(url: &str, wallet: &impl PaymentProvider) -> Response {
    let paid = client().get(url).send_with_payment_policy(wallet, &AcceptPaymentPolicy::Always).await;
    paid.expect("the flow ends with an answer")
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("readable"))
}

async fn assert_delivered(response: Response, method: &str) -> String {
    assert_eq!(response.status(), StatusCode::OK);
    let receipt = parse_receipt(header(&response, "payment-receipt").expect("a receipt")).expect("a readable receipt");
    assert_eq!(receipt.status, ReceiptStatus::Success);
    assert_eq!(receipt.method.as_str(), method);
    assert!(header(&response, "cache-control").expect("a cache policy").contains("private"));
    assert_eq!(response.json::<Value>().await.expect("JSON")["ok"], true);
    receipt.reference
}

/// What an agent sees before it pays.
async fn assert_offered(url: &str, method: &str) {
    let response = client().get(url).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(header(&response, "cache-control"), Some("no-store"));
    assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
    let offers: Vec<_> = parse_www_authenticate_all(header(&response, "www-authenticate")).into_iter().collect();
    let offer = offers.into_iter().next().expect("an offer").expect("a readable offer");
    assert_eq!(offer.method.as_str(), method);
    offer.validate_for_charge(method).expect("a charge that has not expired");
    let problem: PaymentErrorDetails = response.json().await.expect("a problem document");
    assert_eq!(problem.problem_type, "https://paymentauth.org/problems/payment-required");
    assert_eq!(problem.status, 402);
}

async fn demo_is_paid(merchant: &str) {
    let url = format!("{merchant}/demo");
    assert_offered(&url, "demo").await;
    assert_delivered(pay(&url, &DemoWallet("tok_demo_ok")).await, "demo").await;
}

async fn demo_that_is_declined_is_not_delivered(merchant: &str) {
    let paid = pay(&format!("{merchant}/demo"), &DemoWallet("tok_demo_decline")).await;
    assert_eq!(paid.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(header(&paid, "payment-receipt"), None);
    assert!(header(&paid, "www-authenticate").is_some_and(|offer| offer.starts_with("Payment ")));
}

async fn demo_is_paid_for_a_body(merchant: &str) {
    let request = client().post(format!("{merchant}/body")).header("content-type", "application/json").body(JSON);
    let paid = request.send_with_payment_policy(&DemoWallet("tok_demo_ok"), &AcceptPaymentPolicy::Always).await;
    assert_delivered(paid.expect("the flow ends with an answer"), "demo").await;
}

async fn stripe_is_paid(merchant: &str, stripe: &str) {
    let url = format!("{merchant}/stripe");
    assert_offered(&url, "stripe").await;
    let reference = assert_delivered(pay(&url, &stripe_wallet(stripe)).await, "stripe").await;
    assert!(reference.starts_with("pi_"), "{reference}");
}

mod mpp_server {
    use super::*;

    fn charged(charge: impl PaymentVerifier) -> Router {
        Router::new()
            .fallback(any(async || Json(json!({ "ok": true }))))
            .layer(PaymentLayer::new(charge).with_problem_details(Body::from))
    }

    async fn demo_merchant() -> String {
        let body = Router::new()
            .route("/body", post(async |Json(_): Json<Value>| Json(json!({ "ok": true }))))
            .route_layer(PaymentBodyLayer::new(demo_charge().expect("a route")).with_problem_details(Body::from));
        serve(body.fallback_service(charged(demo_charge().expect("a route")))).await
    }

    /// The least of Stripe that mpp's server needs; the crate's own tests use the real stand-in.
    async fn stripe() -> String {
        let tokens = post(async || Json(json!({ "id": "spt_1", "object": "shared_payment.granted_token" })));
        let intents = post(async |Form(form): Form<Vec<(String, String)>>| {
            let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            assert_eq!(value("shared_payment_granted_token").as_deref(), Some("spt_1"));
            assert_eq!(value("amount").as_deref(), Some("50"));
            Json(json!({ "id": "pi_1", "object": "payment_intent", "status": "succeeded" }))
        });
        let app = Router::new().route("/v1/test_helpers/shared_payment/granted_tokens", tokens);
        serve(app.route("/v1/payment_intents", intents)).await
    }

    #[tokio::test]
    async fn is_paid_by_a_custom_method() {
        demo_is_paid(&demo_merchant().await).await;
    }

    #[tokio::test]
    async fn does_not_deliver_what_is_declined() {
        demo_that_is_declined_is_not_delivered(&demo_merchant().await).await;
    }

    #[tokio::test]
    async fn is_paid_for_a_request_with_a_body() {
        demo_is_paid_for_a_body(&demo_merchant().await).await;
    }

    #[tokio::test]
    async fn is_paid_with_a_shared_payment_token() {
        let stripe = stripe().await;
        let merchant = serve(charged(stripe_charge(&stripe, "0.50").expect("a route"))).await;
        stripe_is_paid(&merchant, &stripe).await;
    }
}
