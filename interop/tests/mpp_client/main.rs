//! The `mpp` crate's client, unmodified, pays over a real socket.
//!
//! The cases in this file run against mpp's own server first: what fails there is not this crate's fault.

mod mpp_server;
mod tower_mpp_server;
mod wallets;

use axum::http::StatusCode;
use mpp::{
    PaymentErrorDetails, ReceiptStatus,
    client::{AcceptPaymentPolicy, Fetch, PaymentProvider},
    parse_receipt, parse_www_authenticate_all,
};
use reqwest::Response;
use serde_json::Value;
use tower_mpp::protocol::ProblemType;
use wallets::{DemoWallet, client, stripe_wallet};

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

async fn assert_problem(response: Response, kind: ProblemType) -> PaymentErrorDetails {
    assert_eq!(header(&response, "cache-control"), Some("no-store"));
    assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
    let status = response.status().as_u16();
    let problem: PaymentErrorDetails = response.json().await.expect("a problem document");
    assert_eq!((problem.problem_type.as_str(), problem.status), (kind.uri(), status));
    problem
}

/// What an agent sees before it pays.
async fn assert_offered(url: &str, method: &str) {
    let response = client().get(url).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    let offers: Vec<_> = parse_www_authenticate_all(header(&response, "www-authenticate")).into_iter().collect();
    let offer = offers.into_iter().next().expect("an offer").expect("a readable offer");
    assert_eq!(offer.method.as_str(), method);
    offer.validate_for_charge(method).expect("a charge that has not expired");
    assert_problem(response, ProblemType::PaymentRequired).await;
}

async fn demo_is_paid(merchant: &str) {
    let url = format!("{merchant}/demo");
    assert_offered(&url, "demo").await;
    assert_delivered(pay(&url, &DemoWallet("ok")).await, "demo").await;
}

async fn demo_that_is_declined_is_not_delivered(merchant: &str) {
    let paid = pay(&format!("{merchant}/demo"), &DemoWallet("decline")).await;
    assert_eq!(paid.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(header(&paid, "payment-receipt"), None);
    assert!(header(&paid, "www-authenticate").is_some_and(|offer| offer.starts_with("Payment ")));
}

async fn demo_is_paid_for_a_body(merchant: &str) {
    let request = client().post(format!("{merchant}/body")).header("content-type", "application/json").body(JSON);
    let paid = request.send_with_payment_policy(&DemoWallet("ok"), &AcceptPaymentPolicy::Always).await;
    assert_delivered(paid.expect("the flow ends with an answer"), "demo").await;
}

async fn stripe_is_paid(merchant: &str, stripe: &str) {
    let url = format!("{merchant}/stripe");
    assert_offered(&url, "stripe").await;
    let reference = assert_delivered(pay(&url, &stripe_wallet(stripe)).await, "stripe").await;
    assert!(reference.starts_with("pi_"), "{reference}");
}
