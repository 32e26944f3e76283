//! The ledger on a socket, and a thief between it and its readers.

use std::net::SocketAddr;

use axum::{Router, body::Body, extract::Request, response::Response};
use http::header::{CONTENT_LENGTH, ETAG};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_mpp::{ManualClock, ledger::Ledger};

use crate::{
    rows::{self, receipts},
    shelf::shelf,
};

/// What the thief does with the answer to a path.
pub type Change = fn(&str, String) -> String;

/// A ledger whose owner has a cookie, as it is or with changes on its way.
pub async fn start(change: Option<Change>) -> SocketAddr {
    let ledger = Ledger::new(receipts(shelf().await))
        .owner(|head| head.headers.get("cookie").is_some_and(|value| value == "owner=yes"))
        .title("Receipts of Example")
        .clock(ManualClock::new(rows::today()));
    let app = match change {
        None => Router::new().fallback_service(ledger),
        Some(change) => Router::new().fallback(move |request: Request| changed(ledger, request, change)),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn changed(ledger: Ledger, request: Request, change: Change) -> Response {
    let path = request.uri().path().to_owned();
    let (mut head, body) = ledger.oneshot(request).await.unwrap().into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(ETAG);
    Response::from_parts(head, Body::from(change(&path, text)))
}
