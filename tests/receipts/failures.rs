//! Calls that failed: their receipts stand in the ledger, and no answer says that it was paid for.

use std::{io, time::Duration};

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{shop::*, support::*};

/// The receipt that an answer links to.
fn linked(headers: &http::HeaderMap) -> String {
    let link = header(headers, "link").unwrap();
    link.strip_prefix(&format!("<{BASE}/r/")).unwrap().strip_suffix(">; rel=\"receipt\"").unwrap().to_owned()
}

#[track_caller]
fn assert_failed(receipt: &Value, status: &str, http_status: Option<u16>) {
    assert_eq!((&receipt["receipt_type"], &receipt["status"]), (&json!("failed"), &json!(status)), "{receipt}");
    assert_eq!(receipt["http_status"], json!(http_status), "{receipt}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_failed_links_to_its_receipt() {
    for status in [302, 400, 404, 500, 503] {
        let shop = Shop::open();
        shop.answers(move || {
            let mut response = whole();
            *response.status_mut() = status.try_into().unwrap();
            for name in
                ["payment-receipt", "payment-receipt-digest", "payment-receipt-kid", "payment-receipt-provisional"]
            {
                response.headers_mut().insert(name, HeaderValue::from_static("forged"));
            }
            response
        });
        let answer = shop.buy().await;
        assert_eq!((answer.status, answer.body.as_str()), (status, "one two"));
        assert_eq!(answer.header("payment-outcome"), Some("redeliverable"));
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("payment-receipt")), "{answer:?}");
        shop.settle_down().await;
        let receipt = shop.ledger.only();
        assert_failed(&receipt, "failed", Some(status));
        assert_eq!(receipt["receipt_id"], linked(&answer.headers));
        assert_eq!(receipt["payment"]["amount"], "100");
        assert_eq!(receipt["client_response_hash"], Value::Null);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_a_panic_and_a_hangup_have_receipts() {
    let shop = Shop::open();
    shop.does(|_| async { Err(io::ErrorKind::BrokenPipe.into()) });
    let credential = shop.credential(plain()).await;
    shop.service.clone().oneshot(with(plain(), &credential)).await.map(|_| ()).unwrap_err();
    shop.settle_down().await;
    assert_failed(&shop.ledger.only(), "failed", None);

    let shop = Shop::open();
    shop.does(|_| async { panic!("a bug in a service") });
    let credential = shop.credential(plain()).await;
    let call = shop.service.clone().oneshot(with(plain(), &credential));
    tokio::spawn(async move { call.await.map(|_| ()) }).await.unwrap_err();
    shop.settle_down().await;
    assert_failed(&shop.ledger.only(), "failed", None);

    let shop = Shop::open();
    shop.does(|_| std::future::pending());
    let credential = shop.credential(plain()).await;
    let call = shop.service.clone().oneshot(with(plain(), &credential));
    tokio::time::timeout(Duration::from_secs(5), call).await.map(|_| ()).unwrap_err();
    shop.settle_down().await;
    let receipt = shop.ledger.only();
    assert_failed(&receipt, "failed", None);
    assert_eq!((&receipt["error_class"], &receipt["payment"]["amount"]), (&json!("no_answer"), &json!("100")));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_before_it_leaves_is_not_delivered() {
    // One breaks; the others have more than they have declared, or less.
    let bodies: [fn() -> Frames; 3] = [
        || Frames::of(["one ", "two"]).declared().broken(),
        || Frames::of(["one "]).declared().and("two"),
        || Frames::of(["one ", "two"]).declared().cut(),
    ];
    for body in bodies {
        let shop = Shop::open();
        shop.answers(move || Response::new(body()));
        let answer = shop.buy().await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("payment-receipt"), None);
        shop.settle_down().await;
        let receipt = shop.ledger.only();
        assert_failed(&receipt, "failed", Some(503));
        assert_eq!(receipt["receipt_id"], linked(&answer.headers));
        assert_eq!(receipt["error_class"], "answer_broke_off");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_or_is_left_says_how_much_of_it_there_was() {
    // What the service sends, how many frames somebody reads, and what the receipt says.
    type Case = (fn() -> Frames, usize, &'static str, &'static str, &'static [u8]);
    let cases: [Case; 6] = [
        (|| Frames::of(["one ", "two"]).chunked().broken(), 3, "partial", "answer_broke_off", b"one two"),
        (|| Frames::none().chunked().broken(), 1, "failed", "answer_broke_off", b""),
        (|| Frames::of(["one ", "two"]).chunked(), 1, "partial", "client_gone", b"one "),
        (|| Frames::of(["one ", "two"]).chunked().hanging(), 2, "partial", "client_gone", b"one two"),
        (|| Frames::of(["one ", "two"]).chunked(), 0, "failed", "client_gone", b""),
        (|| Frames::none().chunked().hanging(), 0, "failed", "client_gone", b""),
    ];
    for (index, (frames, read, status, class, left)) in cases.into_iter().enumerate() {
        let shop = Shop::open();
        shop.answers(move || Response::new(frames()));
        let mut body = shop.pay().await.into_body();
        for _ in 0..read {
            let _ = body.frame().await.unwrap();
        }
        drop(body);
        shop.settle_down().await;
        let [receipt] = shop.ledger.finals().try_into().unwrap();
        assert_failed(&receipt, status, Some(200));
        assert_eq!(
            (&receipt["error_class"], &receipt["client_response_hash"]),
            (&json!(class), &hash(left)),
            "{index}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_finds_nobody_is_corrected_by_a_second_receipt() {
    let shop = Shop::open();
    let credential = shop.credential(plain()).await;
    drop(shop.send(with(plain(), &credential)).await);
    shop.settle_down().await;
    let [first, second] = shop.ledger.finals().try_into().unwrap();
    assert_eq!(first["status"], "succeeded");
    assert_failed(&second, "failed", Some(200));
    assert_eq!(second["parent_receipt_id"], first["receipt_id"]);
    // Nothing was delivered: the same credential is good again, and its receipt adds to the last one.
    let answer = all(shop.send(with(plain(), &credential)).await).await;
    assert_eq!(answer.status, 200);
    let third = shop.ledger.finals().pop().unwrap();
    assert_eq!((&third["status"], &third["parent_receipt_id"]), (&json!("succeeded"), &second["receipt_id"]));
    assert_eq!(shop.rail.settlements(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_adds_to_the_receipt_of_the_failure() {
    for answer in [whole as fn() -> Response<Frames>, stream] {
        let shop = Shop::open();
        shop.answers(|| {
            let mut response = whole();
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        });
        let credential = shop.credential(plain()).await;
        for _ in 0..2 {
            assert_eq!(all(shop.send(with(plain(), &credential)).await).await.status, 502);
            shop.settle_down().await;
        }
        shop.answers(answer);
        assert_eq!(all(shop.send(with(plain(), &credential)).await).await.status, 200);
        shop.settle_down().await;
        let [first, second, third] = shop.ledger.finals().try_into().unwrap();
        assert_eq!(first["parent_receipt_id"], Value::Null);
        assert_eq!(second["parent_receipt_id"], first["receipt_id"]);
        assert_eq!(third["parent_receipt_id"], second["receipt_id"]);
        assert_eq!(third["status"], "succeeded");
        assert_eq!(third["payment"], first["payment"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_is_delivered_again_and_again_does_not_fill_the_ledger() {
    let failing = || {
        let mut response = whole();
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    };
    // It fails, or nobody takes it.
    for answer in [failing as fn() -> Response<Frames>, whole, stream] {
        let shop = Shop::open();
        shop.answers(answer);
        let credential = shop.credential(plain()).await;
        for _ in 0..40 {
            drop(shop.send(with(plain(), &credential)).await);
            shop.settle_down().await;
        }
        let finals = shop.ledger.finals();
        assert_eq!(finals.len(), 20);
        assert!(shop.ledger.rows().len() <= 40);
        // What is said to have succeeded and did not is corrected to the last.
        assert_eq!(finals.last().unwrap()["status"], "failed");
        assert_eq!(shop.rail.settlements(), 1);
        // The payment does not depend on it.
        shop.answers(whole);
        let answer = all(shop.send(with(plain(), &credential)).await).await;
        assert_eq!((answer.status, answer.header("payment-receipt-digest")), (200, None));
        shop.settle_down().await;
        assert_eq!(shop.ledger.finals().len(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_or_free_has_no_receipt() {
    let plan = Plan { layer: Box::new(|layer| layer.free_when(|head| head.uri.path() == "/free")), ..Plan::default() };
    let shop = plan.open();
    assert_eq!(all(shop.send(plain()).await).await.status, 402);
    let credential = shop.credential_with(plain(), &json!({"token": "decline"})).await;
    assert_eq!(all(shop.send(with(plain(), &credential)).await).await.status, 402);
    let credential = shop.credential(plain()).await;
    assert_eq!(all(shop.send(with(plain(), &credential)).await).await.status, 200);
    assert_eq!(all(shop.send(with(plain(), &credential)).await).await.status, 403);
    assert_eq!(all(shop.send(Request::get("/free").body(Body::empty()).unwrap()).await).await.status, 200);
    shop.settle_down().await;
    assert_eq!(shop.ledger.only()["status"], "succeeded");
}
