//! The cases that are measured, for the benches (time) and for the tests (allocations), and the bare
//! primitives that each of them cannot do without.
#![allow(dead_code, reason = "not every user measures every case")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

use std::{
    convert::Infallible,
    future::{Ready, ready},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::FutureExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use sha2::{Digest as _, Sha256};
use tower::{Layer as _, Service as _, service_fn};
use tower_mpp::{
    KeyRing, Merchant, Payment as PaymentService, Price, RequestBody,
    method::{
        Attempt, Checked, Declined, OfferRequest, Payment, PaymentMethod, RefundError, RefundRequest, Refunded,
        SettleError, Settlement, VerifyError,
    },
    pricing::Prices,
    protocol::{Challenge, CredentialBytes, Intent, MethodId, Receipt, authorization},
    store::MemoryNonceStore,
};

pub type Body = Full<Bytes>;
type Answer = Ready<Result<Response<Body>, Infallible>>;
type Handler = fn(Request<RequestBody<Body>>) -> Answer;

/// A rail that takes everything and does nothing.
pub struct NoopRail(MethodId);

impl NoopRail {
    pub fn new(id: &'static str) -> Self {
        Self(MethodId::new(id).unwrap())
    }
}

#[async_trait]
impl PaymentMethod for NoopRail {
    fn method(&self) -> &MethodId {
        &self.0
    }

    fn intent(&self) -> &Intent {
        &Intent::CHARGE
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        Some(OfferRequest::of(price))
    }

    fn check(&self, _: &Payment) -> Result<Checked, Declined> {
        Ok(Checked::bound())
    }

    async fn verify(&self, _: &Payment, _: Attempt) -> Result<(), VerifyError> {
        Ok(())
    }

    async fn settle(&self, payment: &Payment, _: Attempt) -> Result<Settlement, SettleError> {
        Ok(Settlement::new("ref_0123456789abcdef", payment.now()))
    }

    async fn refund(&self, _: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        Err(RefundError::Unsupported)
    }
}

/// A paid service, and one call of it.
pub struct Shop {
    service: PaymentService<tower::util::ServiceFn<Handler>>,
}

fn hello(_: Request<RequestBody<Body>>) -> Answer {
    ready(Ok(Response::new(Full::from("hello"))))
}

/// The same service without a layer.
pub fn bare(request: Request<Body>) -> Response<Body> {
    let mut service = service_fn(|_: Request<Body>| -> Answer { ready(Ok(Response::new(Full::from("hello")))) });
    service.call(request).now_or_never().unwrap().unwrap()
}

const NAMES: [&str; 8] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"];

impl Shop {
    /// A merchant with this many offers per challenge.
    pub fn new(offers: usize) -> Self {
        let mut builder = Merchant::builder("api.example.com", KeyRing::new([7; 32]).unwrap())
            .nonce_store(MemoryNonceStore::single_process(10_000_000));
        for name in &NAMES[..offers] {
            builder = builder.method(NoopRail::new(name));
        }
        let merchant = builder.build().unwrap();
        let layer = merchant
            .charge(Prices::from(Price::usd("0.50").unwrap()))
            .unwrap()
            .description("One model call")
            .body_limit(2 * 1024 * 1024)
            .free_when(|head| head.uri.path() == "/free");
        Self { service: layer.layer(service_fn(hello as Handler)) }
    }

    /// One call, with the body read to its end as a server does.
    pub fn call(&mut self, request: Request<Body>) -> Response<()> {
        let answer = self.service.call(request).now_or_never().expect("nothing to wait for").unwrap();
        let (head, mut body) = answer.into_parts();
        while let Some(frame) = body.frame().now_or_never().expect("nothing to wait for") {
            std::hint::black_box(frame.unwrap());
        }
        Response::from_parts(head, ())
    }

    /// A credential that has not been used.
    pub fn credential(&mut self) -> HeaderValue {
        let answer = self.call(get("/paid"));
        let challenges = Challenge::parse_all(answer.headers().get_all(header::WWW_AUTHENTICATE)).unwrap();
        authorization(&challenges[0], Some("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"), &payload())
            .unwrap()
    }
}

fn payload() -> serde_json::Value {
    serde_json::json!({"signature": "0x1b2c3d4e5f60718293a4b5c6d7e8f9000102030405060708090a0b0c0d0e0f"})
}

pub fn get(path: &'static str) -> Request<Body> {
    Request::get(path).body(Full::default()).unwrap()
}

pub fn post(body: &Bytes) -> Request<Body> {
    Request::post("/paid").body(Full::new(body.clone())).unwrap()
}

pub fn paying(credential: &HeaderValue) -> Request<Body> {
    let mut request = get("/paid");
    request.headers_mut().insert(header::AUTHORIZATION, credential.clone());
    request
}

/// A credential whose id is not ours.
pub fn forged(credential: &HeaderValue) -> HeaderValue {
    let token = credential.to_str().unwrap().strip_prefix("Payment ").unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    json["challenge"]["id"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into();
    HeaderValue::try_from(format!("Payment {}", URL_SAFE_NO_PAD.encode(json.to_string()))).unwrap()
}

pub fn garbage() -> HeaderValue {
    HeaderValue::from_static(
        "Payment eyJjaGFsbGVuZ2UiOnsiaWQiOiJ4N1RnMnBMcVI5bUt2TndZM2hCY1phIiwicmVhbG0iOiJhcGkuZXhhbXBsZSJ9fQ",
    )
}

/// The sum of what a path cannot do without, written as plainly as it can be.
pub struct Primitives {
    key: Hmac<Sha256>,
}

const CONSTANT: &str = ", realm=\"api.example.com\", method=\"alpha\", intent=\"charge\", request=\"eyJhbW91bnQiOiI1MCIsImN1cnJlbmN5IjoidXNkIn0\"";
const PROBLEM: &str = r#"{"type":"https://paymentauth.org/problems/payment-required","title":"Payment Required","status":402,"detail":"Payment is required for this resource.","challengeId":""#;

impl Primitives {
    pub fn new() -> Self {
        let mut key = Hmac::new_from_slice(&[7; 32]).unwrap();
        key.update(b"api.example.com|alpha|charge|eyJhbW91bnQiOiI1MCIsImN1cnJlbmN5IjoidXNkIn0|");
        Self { key }
    }

    fn id(&self, expires: &str, opaque: &str) -> [u8; 32] {
        let mut mac = self.key.clone();
        for part in [expires, "||", opaque] {
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    /// Time, randomness, base64, one HMAC, a header value, a problem body, a header map.
    pub fn challenge(&self) -> Response<Body> {
        use std::fmt::Write as _;
        let now = jiff::Timestamp::now().as_second() + 300;
        let mut expires = String::with_capacity(20);
        write!(expires, "{}", jiff::Timestamp::from_second(now).unwrap()).unwrap();
        let mut nonce = [0; 22];
        URL_SAFE_NO_PAD.encode_slice(rand::random::<[u8; 16]>(), &mut nonce).unwrap();
        let mut json = [0; 54];
        json[..10].copy_from_slice(br#"{"nonce":""#);
        json[10..32].copy_from_slice(&nonce);
        json[32..].copy_from_slice(br#"","scope":"GET /paid"}"#);
        let opaque = URL_SAFE_NO_PAD.encode(json);
        let mut id = [0; 43];
        URL_SAFE_NO_PAD.encode_slice(self.id(&expires, &opaque), &mut id).unwrap();
        let id = std::str::from_utf8(&id).unwrap();
        let value = [
            "Payment id=\"",
            id,
            "\"",
            CONSTANT,
            ", expires=\"",
            &expires,
            "\", description=\"One model call\", opaque=\"",
            &opaque,
            "\"",
        ]
        .concat();
        let body = [PROBLEM, id, "\"}"].concat();
        let mut response = Response::new(Full::from(Bytes::from(body)));
        *response.status_mut() = http::StatusCode::PAYMENT_REQUIRED;
        let headers = response.headers_mut();
        *headers = HeaderMap::with_capacity(6);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_maybe_shared(Bytes::from(value)).unwrap());
        response
    }

    /// Decode of the credential, one HMAC.
    pub fn bind(&self, credential: &HeaderValue) -> bool {
        let token = credential.to_str().unwrap().strip_prefix("Payment ").unwrap();
        let bytes = CredentialBytes::decode(token).unwrap();
        let parsed = bytes.parse().unwrap();
        let echoed = &parsed.challenge;
        let id = self.id(echoed.expires.as_deref().unwrap(), echoed.opaque.as_deref().unwrap());
        let mut text = [0; 43];
        URL_SAFE_NO_PAD.encode_slice(id, &mut text).unwrap();
        text == echoed.id.as_bytes()
    }

    /// Decode, HMAC, the answer of the service and a receipt.
    pub fn paid(&self, credential: &HeaderValue) -> Response<Body> {
        let _ = std::hint::black_box(self.bind(credential));
        let now = jiff::Timestamp::now();
        let timestamp = tower_mpp::protocol::Timestamp::from_unix(now.as_second()).unwrap();
        let mut receipt = Receipt::new(MethodId::new("alpha").unwrap(), timestamp, "ref_0123456789abcdef");
        receipt.challenge_id = Some("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned());
        let mut response = Response::new(Full::from("hello"));
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        headers.insert("payment-receipt", receipt.encode().unwrap());
        response
    }

    /// Decode, HMAC, and the answer with a fresh challenge.
    pub fn forged(&self, credential: &HeaderValue) -> Response<Body> {
        let _ = std::hint::black_box(self.bind(credential));
        self.challenge()
    }

    /// An attempt to decode, and the answer with a fresh challenge.
    pub fn garbage(&self, credential: &HeaderValue) -> Response<Body> {
        let token = credential.to_str().unwrap().strip_prefix("Payment ").unwrap();
        let bytes = CredentialBytes::decode(token).unwrap();
        let _ = std::hint::black_box(bytes.parse().is_err());
        self.challenge()
    }

    /// SHA-256 of the body, and the answer with a fresh challenge.
    pub fn body(&self, body: &Bytes) -> Response<Body> {
        let _ = std::hint::black_box(Sha256::digest(body));
        self.challenge()
    }
}
