//! Routes that settle after the handler, and answers that are given again.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Response};
use serde_json::{Value, json};
use tower_mpp::{
    MerchantBuilder, PaymentInfo, SettleTiming, protocol::Visibility, receipt::ReceiptBody, store::MemoryAnswerStore,
};

use crate::{shop::*, support::*};

fn after() -> Plan {
    Plan {
        rail: TestRail::new("demo").settling_after(),
        layer: Box::new(|layer| layer.settle(SettleTiming::AfterHandler).unwrap()),
        ..Plan::default()
    }
}

#[tokio::test(start_paused = true)]
async fn money_that_is_taken_after_the_handler_stands_in_its_receipt() {
    for answer in [whole as fn() -> Response<Frames>, events] {
        let shop = after().open();
        shop.does(move |request| async move {
            assert!(request.extensions().get::<PaymentInfo>().is_none());
            request.extensions().get::<tower_mpp::receipt::Attribution>().unwrap().update(|receipt| {
                receipt.model_id = Some("kept".into());
            });
            Ok(answer())
        });
        let paid = shop.pay().await;
        let named = paid.extensions().get::<PaymentInfo>().unwrap().receipt_id().unwrap();
        let answer = all(paid).await;
        shop.settle_down().await;
        let [receipt] = shop.ledger.finals().try_into().unwrap();
        assert_named(answer.trailers.as_ref().unwrap_or(&answer.headers), &receipt);
        assert_eq!((&receipt["payment"]["amount"], &receipt["model_id"]), (&json!("100"), &json!("kept")));
        assert_eq!(receipt["receipt_id"], named.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_called_off_failed_and_nothing_was_paid() {
    let shop = after().open();
    shop.answers(|| {
        let mut response = whole();
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let answer = shop.buy().await;
    assert_eq!(answer.header("payment-outcome"), Some("not-charged"));
    assert!(answer.header("link").unwrap().ends_with("; rel=\"receipt\""));
    shop.settle_down().await;
    let receipt = shop.ledger.only();
    assert_eq!((&receipt["receipt_type"], &receipt["status"]), (&json!("failed"), &json!("failed")));
    assert_eq!((&receipt["payment"], &receipt["http_status"]), (&Value::Null, &json!(500)));
    assert_eq!(shop.rail.settlements(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_is_called_off_again_and_again_has_one_receipt_of_it() {
    let shop = after().open();
    shop.answers(|| {
        let mut response = whole();
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let credential = shop.credential(plain()).await;
    let mut links = Vec::new();
    for _ in 0..5 {
        let answer = all(shop.send(with(plain(), &credential)).await).await;
        links.push(answer.header("link").unwrap().to_owned());
        shop.settle_down().await;
    }
    links.dedup();
    let receipt = shop.ledger.only();
    assert_eq!(links, [format!("<{BASE}/r/{}>; rel=\"receipt\"", receipt["receipt_id"].as_str().unwrap())]);
    shop.answers(whole);
    assert_eq!(all(shop.send(with(plain(), &credential)).await).await.status, 200);
    shop.settle_down().await;
    let [failed, paid] = shop.ledger.finals().try_into().unwrap();
    assert_ne!(failed["receipt_id"], paid["receipt_id"]);
    assert_eq!((&failed["payment"], &paid["payment"]["amount"]), (&Value::Null, &json!("100")));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_wait_pays_nothing_and_has_a_receipt_of_the_failure() {
    let shop = after().open();
    shop.does(|_| std::future::pending());
    let credential = shop.credential(plain()).await;
    let send = shop.send(with(plain(), &credential));
    tokio::time::timeout(Duration::from_secs(1), send).await.map(|_| ()).unwrap_err();
    shop.settle_down().await;
    let receipt = shop.ledger.only();
    assert_eq!((&receipt["status"], &receipt["payment"]), (&json!("failed"), &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn money_that_is_refused_after_the_handler_leaves_a_receipt_of_the_failure() {
    let shop = after().open();
    let credential = shop.credential_with(plain(), &json!({"token": "decline"})).await;
    let answer = all(shop.send(with(plain(), &credential)).await).await;
    shop.settle_down().await;
    assert_eq!((answer.status, answer.header("payment-receipt")), (402, None));
    let receipt = shop.ledger.only();
    assert_eq!((&receipt["http_status"], &receipt["payment"]), (&json!(402), &Value::Null));
    assert_eq!((&receipt["receipt_type"], &receipt["status"]), (&json!("failed"), &json!("failed")));
    assert_eq!(
        (&receipt["error_class"], &receipt["error_code"]),
        (&json!("payment_refused"), &json!("verification_failed"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_answer_says_of_its_receipt_holds_when_the_money_is_refused_or_nobody_waits_for_it() {
    let plan = || after().visible(Visibility::PublicFull);
    let answer = || {
        let mut response = whole();
        let body = ReceiptBody { model_id: Some("said".into()), ..ReceiptBody::default() };
        response.extensions_mut().insert(body);
        response
    };
    let shop = plan().open();
    shop.answers(answer);
    let credential = shop.credential_with(plain(), &json!({"token": "decline"})).await;
    assert_eq!(all(shop.send(with(plain(), &credential)).await).await.status, 402);
    shop.settle_down().await;
    let receipt = shop.ledger.only();
    assert_eq!((&receipt["visibility"], &receipt["model_id"]), (&json!("private"), &json!("said")));

    // The client leaves while the money is being taken.
    let shop = plan().open();
    shop.answers(answer);
    let credential = shop.credential(plain()).await;
    shop.journal.fail(Outage { first: 0, length: 2, fault: Broken::Before, step: Some("settle") });
    let send = shop.send(with(plain(), &credential));
    tokio::time::timeout(Duration::from_millis(10), send).await.map(|_| ()).unwrap_err();
    shop.journal.heal();
    shop.settle_down().await;
    let receipt = shop.ledger.finals().pop().unwrap();
    assert_eq!((&receipt["visibility"], &receipt["model_id"]), (&json!("private"), &json!("said")));
}

fn keeping() -> Plan {
    let kept = Arc::new(MemoryAnswerStore::new(1024 * 1024));
    let merchant = Box::new(move |merchant: MerchantBuilder| merchant.answer_store(kept));
    Plan { merchant, ..Plan::default() }
}

fn keyed() -> http::Request<axum::body::Body> {
    let mut request = plain();
    request.headers_mut().insert("idempotency-key", HeaderValue::from_static("key-1"));
    request
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_given_again_has_the_same_receipt_byte_for_byte() {
    let bodies: [fn() -> Response<Frames>; 6] = [
        whole,
        stream,
        events,
        || Response::new(Frames::none()),
        || {
            let mut response = events();
            *response.body_mut() = Frames::of(["data: 1\n\n"]).chunked().waiting().trailer("x-sum", "1");
            response
        },
        || Response::new(Frames::of(["one ", "two"]).declared().trailer("x-sum", "2")),
    ];
    for (index, answer) in bodies.into_iter().enumerate() {
        let shop = keeping().open();
        shop.answers(answer);
        let credential = shop.credential(keyed()).await;
        let first = all(shop.send(with(keyed(), &credential)).await).await;
        shop.settle_down().await;
        let known = shop.ledger.rows();
        for _ in 0..2 {
            let again = all(shop.send(with(keyed(), &credential)).await).await;
            assert_eq!(again, first, "{index}");
        }
        shop.settle_down().await;
        assert_eq!(shop.ledger.rows(), known);
        let [receipt] = shop.ledger.finals().try_into().unwrap();
        let last: &HeaderMap = match &first.trailers {
            Some(trailers) if trailers.contains_key("payment-receipt") => trailers,
            _ => &first.headers,
        };
        assert_named(last, &receipt);
        assert_eq!(receipt["idempotency_key"], "key-1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_answer_that_found_nobody_keeps_its_receipt() {
    let shop = keeping().open();
    let credential = shop.credential(keyed()).await;
    drop(shop.send(with(keyed(), &credential)).await);
    shop.settle_down().await;
    let receipt = shop.ledger.only();
    assert_eq!(receipt["status"], "succeeded");
    let again = all(shop.send(with(keyed(), &credential)).await).await;
    assert_named(&again.headers, &receipt);
    shop.settle_down().await;
    assert_eq!(shop.ledger.rows().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_kept_answer_whose_commit_was_lost_has_its_receipt_all_the_same() {
    let shop = keeping().open();
    let credential = shop.credential(keyed()).await;
    shop.journal.fail(Outage { first: 0, length: 1, fault: Broken::Before, step: Some("commit") });
    let refused = all(shop.send(with(keyed(), &credential)).await).await;
    assert_eq!(refused.status, 503);
    shop.settle_down().await;
    let again = all(shop.send(with(keyed(), &credential)).await).await;
    assert_eq!((again.status, again.body.as_str()), (200, "one two"));
    assert_named(&again.headers, &shop.ledger.only());
}

#[tokio::test(start_paused = true)]
async fn a_kept_answer_without_a_signature_has_its_receipt_later() {
    let shop = keeping().open();
    let credential = shop.credential(keyed()).await;
    shop.key.is(Signing::Fails);
    shop.journal.fail(Outage { first: 0, length: 1, fault: Broken::Before, step: Some("commit") });
    assert_eq!(all(shop.send(with(keyed(), &credential)).await).await.status, 503);
    shop.key.is(Signing::Works);
    shop.settle_down().await;
    let again = all(shop.send(with(keyed(), &credential)).await).await;
    assert_eq!((again.status, again.header("payment-receipt-digest")), (200, None));
    assert_eq!(shop.ledger.only()["status"], "succeeded");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_long_to_be_kept_has_its_receipt_all_the_same() {
    const LONG: &str = "a line of thirty-two characters\n";
    for chunked in [false, true] {
        let mut plan = keeping();
        let keeping = plan.merchant;
        plan.merchant = Box::new(move |merchant| keeping(merchant).answer_limit(1024));
        let shop = plan.open();
        shop.answers(move || {
            let frames = Frames::of([LONG; 64]);
            Response::new(if chunked { frames.chunked() } else { frames.declared() })
        });
        let credential = shop.credential(keyed()).await;
        let answer = all(shop.send(with(keyed(), &credential)).await).await;
        assert_eq!(answer.body, LONG.repeat(64));
        shop.settle_down().await;
        let [receipt] = shop.ledger.finals().try_into().unwrap();
        assert_named(answer.trailers.as_ref().unwrap_or(&answer.headers), &receipt);
        assert_eq!(answer.trailers.is_some(), chunked);
        assert_eq!(all(shop.send(with(keyed(), &credential)).await).await.status, 403);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_stream_that_breaks_off_is_not_kept_and_says_so() {
    let shop = keeping().open();
    shop.answers(|| Response::new(Frames::of(["one "]).chunked().broken()));
    let credential = shop.credential(keyed()).await;
    let paid = shop.send(with(keyed(), &credential)).await;
    http_body_util::BodyExt::collect(paid.into_body()).await.map(|_| ()).unwrap_err();
    shop.settle_down().await;
    let [receipt] = shop.ledger.finals().try_into().unwrap();
    assert_eq!((&receipt["status"], &receipt["client_response_hash"]), (&json!("partial"), &hash(b"one ")));
}
