//! mpp's `PaymentLayer` and `PaymentBodyLayer`: its Stripe challenges, and a rail that moves nothing.

use axum::{
    body::Body,
    http::{HeaderValue, Request, StatusCode, header::WWW_AUTHENTICATE},
};
use bytes::Bytes;
use mpp::{
    PaymentCredential, format_authorization, parse_www_authenticate,
    protocol::methods::stripe::StripeCredentialPayload,
    server::middleware::{PaymentBodyLayer, PaymentLayer},
};
use tower::{Layer as _, service_fn};
use tower_mpp_interop::mpp_merchant::{Charge, Noop, stripe_issue, stripe_merchant};

use crate::{
    bare::{ok, truncated, with_credential},
    case,
    harness::{Bench, serve},
};

const NAME: &str = "mpp 0.18.2";

pub fn add(bench: &mut Bench) {
    let empty = || Request::new(Body::empty());
    let required = StatusCode::PAYMENT_REQUIRED;
    let asking = || PaymentLayer::new(route(1)).with_problem_details(Body::from).layer(service_fn(ok));

    bench.service(case::ASK, NAME, asking(), empty, required);
    bench.service(case::ASK, "mpp, empty body", PaymentLayer::new(route(1)).layer(service_fn(ok)), empty, required);
    let eight = PaymentLayer::new(route(8)).with_problem_details(Body::from).layer(service_fn(ok));
    bench.service(case::ASK_8, NAME, eight, empty, required);
    for (case, size) in case::ASK_BODY {
        let body = Bytes::from(vec![b'x'; size]);
        let service = PaymentBodyLayer::new(route(1)).with_problem_details(Body::from).layer(service_fn(ok));
        bench.service(case, NAME, service, move || Request::new(Body::from(body.clone())), required);
    }

    let credential = credential(bench);
    let header = |credential: &str| HeaderValue::from_str(credential).expect("a header value");
    let good = header(&credential);
    bench.service(case::PAID, NAME, asking(), move || with_credential(&good), StatusCode::OK);
    let good = header(&credential);
    bench.service(case::REPLAY, "mpp, which serves it again", asking(), move || with_credential(&good), StatusCode::OK);
    let forged = header(&resigned(&credential));
    bench.service(case::FORGED, NAME, asking(), move || with_credential(&forged), required);
    let garbage = header(&truncated(&credential));
    bench.service(case::GARBAGE, NAME, asking(), move || with_credential(&garbage), required);
}

fn route(offers: usize) -> Charge<Noop> {
    let merchants = ["usd", "eur", "gbp", "chf", "cad", "aud", "nzd", "sgd"].iter().take(offers);
    let merchants = merchants.map(|currency| stripe_merchant("http://127.0.0.1:9", currency).expect("a merchant"));
    Charge::new(Noop("stripe"), stripe_issue(merchants.collect(), "0.50")).expect("a route")
}

/// A credential for a challenge that the layer has made.
fn credential(bench: &Bench) -> String {
    let mut service = PaymentLayer::new(route(1)).layer(service_fn(ok));
    let answer = bench.runtime().block_on(serve(&mut service, Request::new(Body::empty())));
    let challenge = answer.headers()[WWW_AUTHENTICATE].to_str().expect("text");
    let challenge = parse_www_authenticate(challenge).expect("a challenge");
    let payload = StripeCredentialPayload { spt: "spt_1Qx0000000000000000000".into(), external_id: None };
    let credential = PaymentCredential::new(challenge.to_echo(), payload);
    let credential = PaymentCredential { source: Some("did:key:z6MkInterop".into()), ..credential };
    format_authorization(&credential).expect("a credential")
}

/// The same credential under an id that the merchant never made.
fn resigned(credential: &str) -> String {
    let mut credential = mpp::parse_authorization(credential).expect("a credential");
    credential.challenge.id = "A".repeat(credential.challenge.id.len());
    format_authorization(&credential).expect("a credential")
}
