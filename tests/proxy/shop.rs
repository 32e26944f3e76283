//! A rail, an upstream that keeps what it sees, and proxies between them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use axum::{Router, body::to_bytes, extract::Request as AxumRequest, response::Response as AxumResponse};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::json;
use tower_mpp::{
    KeyRing, Merchant, MerchantBuilder, Price,
    method::{
        Attempt, Checked, DeclineReason, Declined, OfferRequest, Payment, PaymentMethod, RefundError, RefundRequest,
        Refunded, SettleError, Settlement, VerifyError,
    },
    protocol::{Challenge, ChallengeId, Intent, MethodId},
    proxy::{Proxy, ProxyBuilder, Route, Service},
    store::MemoryNonceStore,
};

use crate::support::{Answer, KEY, Server, call, challenge, pay_with};

/// The rail of the recordings: `{"proof":"ok"}` pays.
#[derive(Clone)]
pub struct Acme {
    id: MethodId,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    charged: HashMap<ChallengeId, usize>,
    refunded: HashMap<ChallengeId, usize>,
}

#[derive(Deserialize)]
struct Payload {
    proof: String,
}

impl Acme {
    pub fn new() -> Self {
        Self { id: MethodId::new("acme").unwrap(), books: Arc::default() }
    }

    /// How often money has moved.
    pub fn charges(&self) -> usize {
        self.books.lock().unwrap().charged.values().sum()
    }

    /// How often it was given back.
    pub fn refunds(&self) -> usize {
        self.books.lock().unwrap().refunded.values().sum()
    }
}

#[async_trait]
impl PaymentMethod for Acme {
    fn method(&self) -> &MethodId {
        &self.id
    }

    fn intent(&self) -> &Intent {
        &Intent::CHARGE
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        Some(OfferRequest::of(price).recipient("acct_1"))
    }

    fn check(&self, payment: &Payment) -> Result<Checked, Declined> {
        payment.payload::<Payload>().map(|_| Checked::bound())
    }

    async fn verify(&self, payment: &Payment, _: Attempt) -> Result<(), VerifyError> {
        let Payload { proof } = payment.payload()?;
        if proof == "ok" { Ok(()) } else { Err(Declined::new(DeclineReason::InvalidProof, "Bad proof.").into()) }
    }

    async fn settle(&self, payment: &Payment, _: Attempt) -> Result<Settlement, SettleError> {
        *self.books.lock().unwrap().charged.entry(payment.challenge_id()).or_default() += 1;
        Ok(Settlement::new("ref_1", payment.now()))
    }

    async fn refund(&self, refund: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        *self.books.lock().unwrap().refunded.entry(refund.challenge_id).or_default() += 1;
        Ok(Refunded::new("back_1"))
    }
}

pub fn merchant_of(rail: &Acme) -> MerchantBuilder {
    Merchant::builder("proxy.test", KeyRing::new(KEY).unwrap())
        .method(rail.clone())
        .nonce_store(MemoryNonceStore::single_process(10_000))
}

pub fn proxy_of(rail: &Acme) -> ProxyBuilder {
    Proxy::builder(merchant_of(rail).build().unwrap())
}

pub fn usd(price: &str) -> Price {
    Price::usd(price).unwrap()
}

pub fn paid(price: &str) -> Route {
    Route::paid(usd(price))
}

/// What an upstream was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// An upstream on a socket: answers `{"ok":true}`, 418 for what ends in `/teapot`, and keeps what it was asked.
#[derive(Clone)]
pub struct Echo {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Echo {
    pub async fn start() -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let notes = Arc::clone(&seen);
        let router = Router::new().fallback(move |request: AxumRequest| {
            let notes = Arc::clone(&notes);
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let target = head.uri.path_and_query().unwrap().as_str().to_owned();
                let status =
                    if head.uri.path().ends_with("/teapot") { StatusCode::IM_A_TEAPOT } else { StatusCode::OK };
                notes.lock().unwrap().push(Seen { method: head.method, target, headers: head.headers, body });
                let mut response = AxumResponse::new(axum::body::Body::from(r#"{"ok":true}"#));
                *response.status_mut() = status;
                for (name, value) in [
                    ("content-type", "application/json"),
                    ("x-up", "1"),
                    ("set-cookie", "sid=evil"),
                    ("payment-receipt", "forged"),
                    ("www-authenticate", "Payment id=\"forged\""),
                ] {
                    response.headers_mut().insert(name, HeaderValue::from_static(value));
                }
                response
            }
        });
        Self { address: Server::start(router).await.address, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked since the last time.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// The only request since the last time.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let mut seen = self.take();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// A service in front of it.
    pub fn service(&self, id: &str) -> Service {
        Service::new(id, self.url())
    }
}

pub fn request(method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

pub async fn get(proxy: &Proxy, path: &str) -> Answer {
    call(proxy, request(Method::GET, path, &[], "")).await
}

/// Asks for the challenge of a request.
pub async fn ask(proxy: &Proxy, method: Method, path: &str, body: &str) -> Challenge {
    let asked = call(proxy, request(method, path, &[], body)).await;
    asked.assert_challenged("payment-required");
    challenge(&asked.headers)
}

pub fn credential(challenge: &Challenge) -> HeaderValue {
    pay_with(challenge, None, &json!({"proof": "ok"}))
}

pub async fn send_paid(proxy: &Proxy, method: Method, path: &str, body: &str, credential: &HeaderValue) -> Answer {
    call(proxy, request(method, path, &[("authorization", credential.to_str().unwrap())], body)).await
}

/// Asks, pays and asks again.
pub async fn buy(proxy: &Proxy, method: Method, path: &str, body: &str) -> (Answer, HeaderValue) {
    let credential = credential(&ask(proxy, method.clone(), path, body).await);
    (send_paid(proxy, method, path, body, &credential).await, credential)
}
