//! This crate's layer, with a journal in memory and a rail that moves nothing.

use std::rc::Rc;

use async_trait::async_trait;
use axum::{
    body::Body,
    http::{
        HeaderValue, Request, StatusCode, Uri,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::{Layer as _, Service, service_fn};
use tower_mpp::{
    KeyRing, Merchant, PaymentLayer, Price, RequestBody,
    method::{
        Attempt, Checked, Declined, OfferRequest, Payment, PaymentMethod, RefundError, RefundRequest, Refunded,
        SettleError, Settlement, VerifyError,
    },
    pricing::Prices,
    protocol::{Challenge, Intent, MethodId, authorization},
    store::MemoryNonceStore,
};

use crate::{
    bare::{ok, truncated},
    case,
    harness::{Bench, serve},
};

const NAME: &str = if cfg!(feature = "metrics") { "tower-mpp, metrics on" } else { "tower-mpp" };
const URL: &str = "/v1/agent/messages";

pub fn add(bench: &mut Bench) {
    let required = StatusCode::PAYMENT_REQUIRED;
    // The service is made anew each time: an opaque type cannot be cloned through a closure.
    let layer = layer(1);
    let charged = || layer.layer(service_fn(ok::<RequestBody<Body>>));

    let free = layer.clone().free_when(|head| head.uri.path() == URL).layer(service_fn(ok::<RequestBody<Body>>));
    bench.service(case::FREE, NAME, free, || request(Body::empty()), StatusCode::OK);
    bench.service(case::ASK, NAME, charged(), || request(Body::empty()), required);
    let eight = self::layer(8).layer(service_fn(ok::<RequestBody<Body>>));
    bench.service(case::ASK_8, NAME, eight, || request(Body::empty()), required);
    for (case, size) in case::ASK_BODY {
        let body = Bytes::from(vec![b'x'; size]);
        bench.service(case, NAME, charged(), move || request(Body::from(body.clone())), required);
    }

    let (runtime, mut till) = (bench.runtime(), charged());
    let fresh = move || paying(&credential(&runtime, &mut till));
    bench.service(case::PAID, NAME, charged(), fresh, StatusCode::OK);

    let runtime = bench.runtime();
    let used = credential(&runtime, &mut charged());
    let once = runtime.block_on(serve(&mut charged(), paying(&used)));
    assert_eq!(once.status(), StatusCode::OK);
    let (forged, garbage) = (resigned(&used), truncated(used.to_str().expect("text")));
    let garbage = HeaderValue::try_from(garbage).expect("a header value");
    bench.service(case::REPLAY, NAME, charged(), move || paying(&used), StatusCode::FORBIDDEN);
    bench.service(case::FORGED, NAME, charged(), move || paying(&forged), required);
    bench.service(case::GARBAGE, NAME, charged(), move || paying(&garbage), required);
}

fn layer(offers: usize) -> PaymentLayer {
    let key = KeyRing::new("an HMAC key of more than thirty-two bytes").expect("a key");
    let merchant = Merchant::builder("api.example.com", key)
        .method(Noop)
        .nonce_store(MemoryNonceStore::single_process(1_000_000))
        .build()
        .expect("a merchant");
    let others = ["eur", "gbp", "chf", "cad", "aud", "nzd", "sgd"].into_iter().take(offers - 1);
    let prices = others
        .map(|currency| Price::fiat(currency, "0.50").expect("a price"))
        .fold(Prices::only(MethodId::STRIPE, Price::fiat("usd", "0.50").expect("a price")), |prices, price| {
            prices.on(MethodId::STRIPE, price)
        });
    merchant.charge(prices).expect("a price that can be paid").description("One model call").body_limit(2 << 20)
}

fn request(body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.uri_mut() = Uri::from_static(URL);
    request
}

fn paying(credential: &HeaderValue) -> Request<Body> {
    let mut request = request(Body::empty());
    request.headers_mut().insert(AUTHORIZATION, credential.clone());
    request
}

/// A credential for a challenge that nobody has answered.
fn credential<S, B>(runtime: &Rc<Runtime>, service: &mut S) -> HeaderValue
where
    S: Service<Request<Body>, Response = axum::http::Response<B>, Error = std::convert::Infallible>,
    B: axum::body::HttpBody,
{
    let answer = runtime.block_on(serve(service, request(Body::empty())));
    let challenges = Challenge::parse_all(answer.headers().get_all(WWW_AUTHENTICATE)).expect("a challenge");
    let payload = json!({ "spt": "spt_1Qx0000000000000000000" });
    authorization(&challenges[0], Some("did:key:z6MkInterop"), &payload).expect("a credential")
}

/// The same credential under an id that the merchant never made.
fn resigned(credential: &HeaderValue) -> HeaderValue {
    let token = credential.to_str().expect("text").strip_prefix("Payment ").expect("a credential");
    let json = URL_SAFE_NO_PAD.decode(token).expect("base64url");
    let mut json: Value = serde_json::from_slice(&json).expect("JSON");
    json["challenge"]["id"] = "A".repeat(43).into();
    HeaderValue::try_from(format!("Payment {}", URL_SAFE_NO_PAD.encode(json.to_string()))).expect("a header value")
}

/// A rail that moves nothing and accepts everything that is a payment at all.
struct Noop;

#[derive(Deserialize)]
struct Payload<'a> {
    spt: &'a str,
}

#[async_trait]
impl PaymentMethod for Noop {
    fn method(&self) -> &MethodId {
        &MethodId::STRIPE
    }

    fn intent(&self) -> &Intent {
        &Intent::CHARGE
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        let offer = OfferRequest::of(price).method_detail("networkId", "profile_interop");
        Some(offer.method_detail("paymentMethodTypes", ["card"].as_slice()))
    }

    fn check(&self, payment: &Payment) -> Result<Checked, Declined> {
        let payload: Payload<'_> = payment.payload()?;
        assert!(!payload.spt.is_empty());
        Ok(Checked::bound())
    }

    async fn verify(&self, _: &Payment, _: Attempt) -> Result<(), VerifyError> {
        Ok(())
    }

    async fn settle(&self, payment: &Payment, _: Attempt) -> Result<Settlement, SettleError> {
        Ok(Settlement::new("pi_3QxNoop0000000000000000", payment.now()))
    }

    async fn refund(&self, _: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        Err(RefundError::Unsupported)
    }
}
