//! Bodies stream both ways, as they are.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body as AxumBody, response::Response as AxumResponse, routing};
use bytes::Bytes;
use http::{Method, Request, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Channel};
use tokio::{sync::mpsc, time::timeout};
use tower::ServiceExt as _;
use tower_mpp::proxy::{Proxy, Route, Service};

use crate::{shop::*, support::Server};

const PATIENCE: Duration = Duration::from_secs(10);
/// Names, ids, comments, both line ends, a value with a colon, an unfinished last event.
const EVENTS: [&str; 6] = [
    "event: message_start\ndata: {\"a\":1}\n\n",
    "id: 7\r\nevent: delta\r\ndata: x: y\r\n\r\n",
    ": ping\n\n",
    "data: payment-receipt\ndata: event: payment-receipt\n\n",
    "data: [DONE]\n\n",
    "data: cut",
];

/// An upstream that writes what it is told, one piece after the other.
async fn dripping(mut pieces: mpsc::Receiver<&'static str>) -> String {
    let (mut writer, body) = Channel::<Bytes, Infallible>::new(1);
    let body = Arc::new(Mutex::new(Some(body)));
    tokio::spawn(async move {
        while let Some(piece) = pieces.recv().await {
            writer.send_data(Bytes::from_static(piece.as_bytes())).await.unwrap();
        }
    });
    let router =
        Router::new().fallback(move || {
            let body = body.lock().unwrap().take().unwrap();
            async move {
                AxumResponse::builder().header("content-type", "text/event-stream").body(AxumBody::new(body)).unwrap()
            }
        });
    format!("http://{}", Server::start(router).await.address)
}

fn proxy(rail: &Acme, url: String) -> Proxy {
    let service = Service::new("api", url)
        .route("GET /paid", paid("0.01"))
        .route("GET /free", Route::free())
        .route("POST /upload", paid("0.01").bind_body(false))
        .route("POST /free-upload", Route::free());
    proxy_of(rail).service(service).build().unwrap()
}

#[tokio::test]
async fn every_event_arrives_before_the_next_one_is_written() {
    for path in ["/api/paid", "/api/free"] {
        let (say, pieces) = mpsc::channel(1);
        let rail = Acme::new();
        let proxy = proxy(&rail, dripping(pieces).await);
        let mut asked = Request::get(path).body(AxumBody::empty()).unwrap();
        if path == "/api/paid" {
            asked.headers_mut().insert(AUTHORIZATION, credential(&ask(&proxy, Method::GET, path, "").await));
        }
        let answering = tokio::spawn(proxy.clone().oneshot(asked));
        say.send(EVENTS[0]).await.unwrap();
        let answer = timeout(PATIENCE, answering).await.unwrap().unwrap().unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers().contains_key("payment-receipt"), path == "/api/paid");
        let mut body = answer.into_body();
        for (turn, event) in EVENTS.iter().enumerate() {
            let mut got = Vec::new();
            while got.len() < event.len() {
                let frame = timeout(PATIENCE, body.frame()).await.expect("in time").unwrap().unwrap();
                got.extend_from_slice(&frame.into_data().unwrap());
            }
            assert_eq!(got, event.as_bytes());
            if let Some(next) = EVENTS.get(turn + 1) {
                say.send(next).await.unwrap();
            }
        }
        drop(say);
        assert!(timeout(PATIENCE, body.frame()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn an_upload_that_is_not_bound_streams_through() {
    // Answers each piece of the request as soon as it is there.
    let router = Router::new().fallback(routing::post(|body: AxumBody| async { AxumResponse::new(body) }));
    let url = format!("http://{}", Server::start(router).await.address);
    for path in ["/api/upload", "/api/free-upload"] {
        let rail = Acme::new();
        let proxy = proxy(&rail, url.clone());
        let (mut upload, body) = Channel::<Bytes, Infallible>::new(1);
        let mut asked = Request::post(path).body(body).unwrap();
        if path == "/api/upload" {
            // The payment is good for any body.
            asked.headers_mut().insert(AUTHORIZATION, credential(&ask(&proxy, Method::POST, path, "").await));
        }
        let answering = tokio::spawn(proxy.clone().oneshot(asked));
        upload.send_data("first".into()).await.unwrap();
        let mut answer = timeout(PATIENCE, answering).await.unwrap().unwrap().unwrap().into_body();
        let frame = timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "first");
        upload.send_data("second".into()).await.unwrap();
        let frame = timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "second");
        drop(upload);
        assert!(timeout(PATIENCE, answer.frame()).await.unwrap().is_none());
        assert_eq!(rail.charges(), usize::from(path == "/api/upload"));
    }
}

#[tokio::test]
async fn an_unpaid_upload_is_not_read() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let proxy = proxy(&rail, echo.url());
    let (_upload, body) = Channel::<Bytes, Infallible>::new(1);
    // It never ends, and need not.
    let answer = timeout(PATIENCE, proxy.oneshot(Request::post("/api/upload").body(body).unwrap())).await.unwrap();
    assert_eq!(answer.unwrap().status(), 402);
    assert!(echo.take().is_empty());
}
