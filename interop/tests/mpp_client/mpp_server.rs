//! The control: the cases against mpp's own server.

use axum::{
    Json, Router,
    body::Body,
    extract::Form,
    routing::{any, post},
};
use mpp::server::middleware::{PaymentBodyLayer, PaymentLayer, PaymentVerifier};
use serde_json::{Value, json};
use tower_mpp_interop::mpp_merchant::{demo_charge, stripe_charge};

use crate::{
    demo_is_paid, demo_is_paid_for_a_body, demo_that_is_declined_is_not_delivered, stripe_is_paid, wallets::serve,
};

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
