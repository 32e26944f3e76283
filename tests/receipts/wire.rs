//! The same over sockets: HTTP/1.1 and HTTP/2, with a client that reads trailers.

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body, response::IntoResponse as _, routing::get};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Channel, Empty};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tower_mpp::{Merchant, Price, receipt::Receipts};

use crate::{shop::*, support::*};

struct Site {
    ledger: Ledger,
    merchant: Merchant,
    address: std::net::SocketAddr,
}

fn streamed(kind: &'static str) -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for part in ["data: 1\n\n", "data: [DONE]\n\n"] {
            if sender.send_data(part.into()).await.is_err() {
                return;
            }
        }
    });
    ([("content-type", kind)], Body::new(body)).into_response()
}

fn endless() -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move { while sender.send_data("data: 1\n\n".into()).await.is_ok() {} });
    ([("content-type", "text/event-stream")], Body::new(body)).into_response()
}

async fn site() -> Site {
    let shop = Shop::open();
    let receipts = Receipts::builder(BASE, shop.key.clone()).store(shop.ledger.clone()).build().unwrap();
    let merchant = builder(&shop.rail).receipts(receipts).build().unwrap();
    let paid = || merchant.charge(Price::usd("1.00").unwrap()).unwrap();
    let app = Router::new()
        .route("/events", get(|| async { streamed("text/event-stream") }).route_layer(paid()))
        .route("/text", get(|| async { streamed("text/plain") }).route_layer(paid()))
        .route("/endless", get(|| async { endless() }).route_layer(paid()))
        .route("/whole", get(|| async { "one two" }).route_layer(paid()));
    let address = Server::start(app).await.address;
    Site { ledger: shop.ledger.clone(), merchant, address }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Http {
    One,
    Two,
}

impl Site {
    async fn send(&self, version: Http, path: &str, headers: HeaderMap) -> Response<Incoming> {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let mut request = Request::get(path).body(Empty::<Bytes>::new()).unwrap();
        *request.headers_mut() = headers;
        match version {
            Http::One => {
                request.headers_mut().insert("host", "127.0.0.1".parse().unwrap());
                let (mut sender, connection) = conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await.unwrap()
            }
            Http::Two => {
                *request.uri_mut() = format!("http://127.0.0.1{path}").parse().unwrap();
                let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await.unwrap()
            }
        }
    }

    async fn pay(&self, version: Http, path: &str, trailers: bool) -> Response<Incoming> {
        let challenge = challenge(self.send(version, path, HeaderMap::new()).await.headers());
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, pay_with(&challenge, None, &json!({"token": "ok"})));
        if trailers {
            headers.insert("te", "trailers".parse().unwrap());
        }
        self.send(version, path, headers).await
    }
}

#[tokio::test]
async fn a_stream_ends_with_trailers_and_an_event_on_the_wire() {
    for version in [Http::One, Http::Two] {
        for path in ["/events", "/text"] {
            let site = site().await;
            let (head, body) = site.pay(version, path, true).await.into_parts();
            let body = body.collect().await.unwrap();
            let trailers = body.trailers().cloned().unwrap_or_else(|| panic!("{version:?} {path}"));
            let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
            site.merchant.drain().await;
            let [receipt] = site.ledger.finals().try_into().unwrap();
            assert_eq!(head.status, 200);
            assert_eq!(header(&head.headers, "payment-receipt-provisional"), Some("true"));
            assert_named(&trailers, &receipt);
            let rest = text.strip_prefix("data: 1\n\ndata: [DONE]\n\n").unwrap();
            assert_eq!(rest.starts_with("event: payment-receipt\ndata: {"), path == "/events", "{rest}");
            assert_eq!((&receipt["status"], &receipt["http_status"]), (&json!("succeeded"), &json!(200)));
        }
    }
}

#[tokio::test]
async fn a_client_that_takes_no_trailers_still_gets_the_event() {
    let site = site().await;
    let body = site.pay(Http::One, "/events", false).await.into_body().collect().await.unwrap();
    assert!(body.trailers().is_none());
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    let (_, data) = text.split_once("event: payment-receipt\ndata: ").unwrap();
    let event: Value = serde_json::from_str(data.trim_end()).unwrap();
    site.merchant.drain().await;
    let [receipt] = site.ledger.finals().try_into().unwrap();
    assert_eq!(event["receiptDigest"], digest(&receipt));
}

#[tokio::test]
async fn a_whole_answer_keeps_its_length_and_has_the_final_receipt_in_its_head() {
    for version in [Http::One, Http::Two] {
        let site = site().await;
        let (head, body) = site.pay(version, "/whole", true).await.into_parts();
        let body = body.collect().await.unwrap();
        assert!(body.trailers().is_none());
        assert_eq!((header(&head.headers, "content-length"), body.to_bytes()), (Some("7"), "one two".into()));
        site.merchant.drain().await;
        assert_named(&head.headers, &site.ledger.only());
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_middle_leaves_a_partial_receipt() {
    for version in [Http::One, Http::Two] {
        let site = site().await;
        let mut body = site.pay(version, "/endless", true).await.into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if !site.ledger.finals().is_empty() {
                break;
            }
        }
        site.merchant.drain().await;
        let [receipt] = site.ledger.finals().try_into().unwrap();
        assert_eq!((&receipt["receipt_type"], &receipt["status"]), (&json!("failed"), &json!("partial")));
        assert_eq!((&receipt["http_status"], &receipt["error_class"]), (&json!(200), &json!("client_gone")));
    }
}
