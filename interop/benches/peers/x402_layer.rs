//! x402-axum's layer (x402 v2, `exact`) with a facilitator in the same process that agrees to everything.

use std::convert::Infallible;

use axum::{
    body::Body,
    http::{HeaderValue, Request, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tower::{Layer as _, service_fn};
use x402_axum::X402Middleware;
use x402_types::{
    facilitator::Facilitator,
    proto::{SettleRequest, SettleResponse, SupportedResponse, VerifyRequest, VerifyResponse, v2::PriceTag},
};

use crate::{bare::ok, case, harness::Bench};

const NAME: &str = "x402-axum 2.0.2";

pub fn add(bench: &mut Bench) {
    let empty = || Request::new(Body::empty());
    let required = StatusCode::PAYMENT_REQUIRED;
    let charged = || middleware().with_price_tag(tag("10000")).layer(service_fn(ok));

    let free = middleware().with_dynamic_price(|_, _, _| async { Vec::<PriceTag>::new() }).layer(service_fn(ok));
    bench.service(case::FREE, NAME, free, empty, StatusCode::OK);
    bench.service(case::ASK, NAME, charged(), empty, required);
    let offers = ["20000", "30000", "40000", "50000", "60000", "70000", "80000"];
    let eight =
        offers.iter().fold(middleware().with_price_tag(tag("10000")), |layer, price| layer.with_price_tag(tag(price)));
    bench.service(case::ASK_8, NAME, eight.layer(service_fn(ok)), empty, required);

    bench.service(case::PAID, NAME, charged(), || paying(&payment("10000")), StatusCode::OK);
    let first = middleware().settle_before_execution().with_price_tag(tag("10000")).layer(service_fn(ok));
    bench.service(case::PAID, "x402-axum, settling first", first, || paying(&payment("10000")), StatusCode::OK);
    bench.service(
        case::REPLAY,
        "x402-axum, which leaves it to the rail",
        charged(),
        || paying(&payment("10000")),
        StatusCode::OK,
    );
    // There is no id to forge: what comes nearest is a payment of something that was not asked for.
    bench.service(case::FORGED, NAME, charged(), || paying(&payment("1")), required);
    let garbage = payment("10000");
    let garbage = garbage[..garbage.len() / 16 * 12].to_owned();
    bench.service(case::GARBAGE, NAME, charged(), move || paying(&garbage), required);
}

fn paying(payment: &str) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert("payment-signature", HeaderValue::from_str(payment).expect("a header value"));
    request
}

fn requirements(amount: &str) -> Value {
    json!({
        "scheme": "exact",
        "network": "eip155:84532",
        "amount": amount,
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045",
        "maxTimeoutSeconds": 60,
        "extra": { "name": "USDC", "version": "2" },
    })
}

fn tag(amount: &str) -> PriceTag {
    PriceTag { requirements: serde_json::from_value(requirements(amount)).expect("requirements"), enricher: None }
}

fn payment(amount: &str) -> String {
    let payment = json!({
        "x402Version": 2,
        "resource": { "url": "https://api.example.com/v1/agent/messages", "description": "One model call" },
        "accepted": requirements(amount),
        "payload": {
            "signature": format!("0x{}", "5c".repeat(65)),
            "authorization": {
                "from": "0x857b06519E91e3A54538791bDbb0E22373e36b66",
                "to": "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045",
                "value": amount,
                "validAfter": "1740672089",
                "validBefore": "1740672154",
                "nonce": format!("0x{}", "f3".repeat(32)),
            },
        },
    });
    STANDARD.encode(payment.to_string())
}

fn middleware() -> X402Middleware<Agreeable> {
    let supported = json!({
        "kinds": [{ "x402Version": 2, "scheme": "exact", "network": "eip155:84532" }],
        "extensions": [],
        "signers": { "eip155:*": ["0x1fc230ee3c13d0d520d49360a967dbd1555c8326"] },
    });
    let facilitator = Agreeable { supported: serde_json::from_value(supported).expect("kinds") };
    X402Middleware::from_facilitator(facilitator).with_base_url("https://api.example.com".parse().expect("a URL"))
}

/// x402-axum's own client keeps what the facilitator supports and hands out copies of it; so does this.
#[derive(Clone)]
struct Agreeable {
    supported: SupportedResponse,
}

impl Facilitator for Agreeable {
    type Error = Infallible;

    async fn verify(&self, _: &VerifyRequest) -> Result<VerifyResponse, Infallible> {
        Ok(VerifyResponse(json!({ "isValid": true, "payer": "0x857b06519E91e3A54538791bDbb0E22373e36b66" })))
    }

    async fn settle(&self, _: &SettleRequest) -> Result<SettleResponse, Infallible> {
        Ok(SettleResponse(json!({
            "success": true,
            "payer": "0x857b06519E91e3A54538791bDbb0E22373e36b66",
            "transaction": "0x89c91c789e57059b17285e7ba1716a1f5ff4c5dace0ea5a5135f26158d0421b9",
            "network": "eip155:84532",
        })))
    }

    async fn supported(&self) -> Result<SupportedResponse, Infallible> {
        Ok(self.supported.clone())
    }
}
