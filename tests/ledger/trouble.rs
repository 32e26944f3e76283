//! Stores that fail, bodies that do not end, and methods that are not served.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, buf::Chain};
use http::{Method, Request};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tower::ServiceExt as _;
use tower_mpp::protocol::Visibility;

use crate::{OWNER, STRANGER, get, ledger, post, rows::*, send};

#[tokio::test]
async fn a_store_that_fails_is_not_an_absent_receipt() {
    let shelf = Shelf::with([row(members(id(1)), Visibility::PublicFull)]).await;
    let ledger = ledger(&shelf);
    shelf.break_down();
    for path in ["/v1/receipts/ID", "/v1/receipts/ID/outcomes", "/v1/receipts/public", "/leaderboard.json"] {
        let answer = get(&ledger, &path.replace("ID", &id(1).to_string()), STRANGER).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (503, "ledger_unavailable".into()), "{path}");
        assert_eq!((answer.header("retry-after"), answer.header("cache-control")), (Some("5"), Some("no-store")));
    }
    for path in ["/r/ID", "/", "/ledger"] {
        let answer = get(&ledger, &path.replace("ID", &id(1).to_string()), STRANGER).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("5")), "{path}");
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    }
    let said = format!(r#"{{"receipt_id":"{}","outcome":"failed","source":"webhook"}}"#, id(1));
    assert_eq!(post(&ledger, "/v1/outcomes", OWNER, &said).await.status, 503);
    // Keys are at hand, and what cannot be an id is not looked up.
    assert_eq!(get(&ledger, "/.well-known/receipt-keys.json", STRANGER).await.status, 200);
    assert_eq!(get(&ledger, "/v1/receipts/x", STRANGER).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_not_waited_for_for_ever() {
    let shelf = Shelf::default();
    shelf.hang();
    let ledger = ledger(&shelf);
    let answer = get(&ledger, &format!("/v1/receipts/{}", id(1)), STRANGER).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("5")));
    let page = get(&ledger, "/", STRANGER).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (503, Some("text/html; charset=utf-8")));
}

#[tokio::test]
async fn a_body_has_a_size() {
    let ledger = ledger(&Shelf::default());
    let blank = |length| " ".repeat(length);
    // A receipt may have payloads in it.
    for (path, viewer, limit, fits) in [
        ("/v1/receipts/verify", STRANGER, 1024 * 1024, "invalid_json"),
        ("/v1/outcomes", OWNER, 64 * 1024, "invalid_request"),
    ] {
        assert_eq!(post(&ledger, path, viewer, &blank(limit)).await.error(), fits);
        let answer = post(&ledger, path, viewer, &blank(limit + 1)).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (413, "payload_too_large".into()));
    }
    // The same of a body that does not say how long it is.
    let frames = (0..20_000).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b' '; 64]))));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let request = Request::post("/v1/receipts/verify").body(body).unwrap();
    assert_eq!(ledger.clone().oneshot(request).await.unwrap().status(), 413);
}

/// A body of nothing, for ever; neither `Unpin` nor of `Bytes`.
struct Never(std::marker::PhantomPinned);

impl Body for Never {
    type Data = Chain<Bytes, Bytes>;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, io::Error>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_has_a_time() {
    let ledger = ledger(&Shelf::default());
    let request = Request::post("/v1/receipts/verify").body(Never(std::marker::PhantomPinned)).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(60), ledger.clone().oneshot(request)).await.unwrap().unwrap();
    assert_eq!(answer.status(), 408);
    // What is not read is not waited for.
    let request = Request::get("/v1/receipts/public").body(Never(std::marker::PhantomPinned)).unwrap();
    assert_eq!(ledger.clone().oneshot(request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_body() {
    let ledger = ledger(&Shelf::default());
    let frames = [Ok(Frame::data(Bytes::from_static(b"{}"))), Err(io::Error::other("gone"))];
    let request =
        Request::post("/v1/receipts/verify").body(StreamBody::new(futures_util::stream::iter(frames))).unwrap();
    let answer = ledger.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 400);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{\"error\":{\"message\":\"The body broke off.\""), "{body:?}");
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let ledger = ledger(&Shelf::with([row(members(id(1)), Visibility::PublicFull)]).await);
    let receipt = format!("/v1/receipts/{}", id(1));
    let reads = [
        receipt.clone(),
        format!("{receipt}/outcomes"),
        format!("/r/{}", id(1)),
        "/v1/receipts/public".into(),
        "/leaderboard.json".into(),
        "/.well-known/receipt-keys.json".into(),
        "/".into(),
        "/ledger".into(),
    ];
    for path in &reads {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE] {
            // Nothing changes a receipt.
            let answer = send(&ledger, method.clone(), path, OWNER, "{}").await;
            assert_eq!((answer.status.as_u16(), answer.error()), (405, "method_not_allowed".into()), "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
    }
    for path in ["/v1/receipts/verify", "/v1/outcomes"] {
        for method in [Method::GET, Method::HEAD, Method::DELETE] {
            let answer = send(&ledger, method, path, OWNER, "").await;
            assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST, OPTIONS")), "{path}");
        }
    }
    for path in reads.iter().map(String::as_str).chain(["/v1/receipts/verify", "/v1/outcomes"]) {
        let answer = send(&ledger, Method::OPTIONS, path, STRANGER, "").await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0), "{path}");
        assert!(answer.header("allow").unwrap().ends_with("OPTIONS"), "{path}");
    }
    for path in
        ["/v1", "/v1/receipts", "/v2/receipts/x", "/R/x", "/ledger/", "//", "/.well-known/receipt-keys", "/favicon.ico"]
    {
        let answer = get(&ledger, path, STRANGER).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (404, "not_found".into()), "{path}");
        assert_eq!(send(&ledger, Method::OPTIONS, path, STRANGER, "").await.status, 404, "{path}");
    }
}
