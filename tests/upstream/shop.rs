//! A merchant on a socket that charges for an upstream.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tower_mpp::{
    Price,
    refund::RefundPolicy,
    upstream::{HttpUpstream, HttpUpstreamBuilder, UpstreamService},
};

use crate::{
    provider::PATIENCE,
    support::{Answer, Server, TestRail, builder, challenge, pay_with},
};

/// What it costs does not matter here.
pub struct Shop {
    pub server: Server,
    pub rail: TestRail,
}

/// What a client has of a paid call.
#[derive(Debug)]
pub struct Paid {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The body came to its end.
    pub whole: bool,
    pub credential: HeaderValue,
}

impl Paid {
    pub fn outcome(&self) -> Option<&str> {
        self.headers.get("payment-outcome").map(|value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Short limits: nothing here is far away.
pub fn quick(url: impl Into<String>) -> HttpUpstreamBuilder {
    HttpUpstream::builder(url)
        .connect_timeout(Duration::from_secs(2))
        .first_byte_timeout(Duration::from_millis(400))
        .idle_timeout(Duration::from_millis(400))
}

pub fn service(builder: HttpUpstreamBuilder) -> UpstreamService {
    UpstreamService::new(builder.build().unwrap())
}

impl Shop {
    /// With all refund rules.
    pub async fn open(upstream: UpstreamService) -> Self {
        Self::with(upstream, RefundPolicy::all()).await
    }

    pub async fn with(upstream: UpstreamService, refunds: RefundPolicy) -> Self {
        let rail = TestRail::new("demo");
        let merchant = builder(&rail).refunds(refunds).build().unwrap();
        let charge = merchant.charge(Price::usd("0.50").unwrap()).unwrap();
        let streamed = merchant.charge(Price::usd("0.50").unwrap()).unwrap().bind_body(false);
        let router = Router::new()
            .nest_service("/paid", tower::ServiceBuilder::new().layer(charge).service(upstream.clone()))
            .nest_service("/streamed", tower::ServiceBuilder::new().layer(streamed).service(upstream.clone()))
            .nest_service("/free", upstream);
        Self { server: Server::start(router).await, rail }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    /// A credential that has not been used.
    pub async fn credential(&self, path: &str) -> HeaderValue {
        static PAYER: AtomicUsize = AtomicUsize::new(0);
        let offer = challenge(&self.server.get(path).await.headers);
        let proof = format!("proof {}", PAYER.fetch_add(1, Relaxed));
        pay_with(&offer, None, &json!({"token": "ok", "proof": proof}))
    }

    /// Asks, pays and reads what comes.
    pub async fn buy(&self, path: &str) -> Paid {
        let credential = self.credential(path).await;
        let (status, headers, body) = self.begin(path, &credential).await;
        let (body, whole) = read(body).await;
        Paid { status, headers, body, whole, credential }
    }

    /// A paid call whose body is still to be read.
    pub async fn begin(&self, path: &str, credential: &HeaderValue) -> (StatusCode, HeaderMap, Incoming) {
        let request =
            Request::get(self.url(path)).header(AUTHORIZATION, credential).body(Empty::<Bytes>::new()).unwrap();
        let answer = timeout(PATIENCE, client().request(request)).await.expect("the head comes in time").unwrap();
        let (head, body) = answer.into_parts();
        (head.status, head.headers, body)
    }

    /// Whether the money comes back, within some seconds.
    pub async fn is_refunded(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.rail.refunds() == 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        self.rail.refunds() == 1
    }

    /// Whether the credential buys nothing any more.
    pub async fn is_spent(&self, path: &str, credential: &HeaderValue) -> bool {
        self.redeemed(path, credential).await.status == StatusCode::FORBIDDEN
    }

    /// What the credential buys when it is sent again.
    pub async fn redeemed(&self, path: &str, credential: &HeaderValue) -> Answer {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            // While the end of the first call is being written, the credential is at work.
            let answer = self.server.get_paid(path, credential).await;
            if answer.status != StatusCode::CONFLICT || Instant::now() >= deadline {
                return answer;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Reads a body as far as it goes.
pub async fn read(mut body: Incoming) -> (Vec<u8>, bool) {
    let mut read = Vec::new();
    loop {
        match timeout(PATIENCE, body.frame()).await.expect("a body ends, or breaks") {
            Some(Ok(frame)) => read.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..])),
            Some(Err(_)) => return (read, false),
            None => return (read, true),
        }
    }
}

pub fn client<B>() -> Client<HttpConnector, B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}
