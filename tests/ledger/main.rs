//! The ledger over HTTP: who sees what, and what the pages say.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![recursion_limit = "256"] // A receipt has many members.

mod faces;
mod fetching;
mod lists;
mod outcomes;
mod pages;
mod rows;
mod trouble;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tower::ServiceExt as _;
use tower_mpp::{ManualClock, ledger::Ledger};

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The type of the error.
    fn error(&self) -> String {
        let json = self.json();
        assert!(json["error"]["message"].is_string(), "{self:?}");
        json["error"]["type"].as_str().unwrap().to_owned()
    }
}

/// A ledger whose owner has a token.
fn ledger(shelf: &rows::Shelf) -> Ledger {
    Ledger::new(rows::receipts(shelf.clone()))
        .owner(|head| head.headers.get("authorization").is_some_and(|value| value == "Bearer owner"))
        .clock(ManualClock::new(rows::today()))
}

const OWNER: &[(&str, &str)] = &[("authorization", "Bearer owner")];
const STRANGER: &[(&str, &str)] = &[];

async fn send(ledger: &Ledger, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
    let (head, body) = ledger.clone().oneshot(request).await.unwrap().into_parts();
    Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

async fn get(ledger: &Ledger, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(ledger, Method::GET, path, headers, "").await
}

async fn post(ledger: &Ledger, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    send(ledger, Method::POST, path, &all, body).await
}
