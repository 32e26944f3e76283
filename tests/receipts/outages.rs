//! A signer or a ledger that fails: the payment and its answer do not depend on them.

use std::time::Duration;

use http::Response;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower_mpp::ReceiptHeader;

use crate::{shop::*, support::*};

/// An answer as without a signed receipt.
#[track_caller]
fn assert_bare(answer: &All) {
    assert_eq!(answer.status, 200);
    let names: Vec<_> = answer.headers.keys().filter(|name| name.as_str().starts_with("payment-")).collect();
    assert_eq!(names, ["payment-receipt"]);
    let draft = mpp(answer.header("payment-receipt").unwrap());
    assert_eq!((&draft["receiptUrl"], &draft["status"]), (&Value::Null, &json!("success")));
    assert_eq!(answer.header("trailer"), None);
    assert_eq!(answer.trailer("payment-receipt"), None);
    assert!(!answer.body.contains("receipt"));
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_fails_costs_the_receipt_in_the_head_and_nothing_else() {
    for signing in [Signing::Fails, Signing::Hangs, Signing::Panics, Signing::Takes(5000)] {
        for form in [ReceiptHeader::Mpp, ReceiptHeader::Url] {
            for answer in [whole as fn() -> Response<Frames>, events] {
                let plan =
                    Plan { layer: Box::new(move |layer| layer.receipt_header(form).unwrap()), ..Plan::default() };
                let shop = plan.open();
                shop.answers(answer);
                shop.key.is(signing);
                let credential = shop.credential(plain()).await;
                let started = Instant::now();
                let paid = shop.send(with(plain(), &credential)).await;
                let took = started.elapsed();
                let answer = all(paid).await;
                assert!(took <= Duration::from_secs(2) && started.elapsed() <= Duration::from_secs(4), "{signing:?}");
                assert_bare(&answer);
                assert_eq!(shop.rail.settlements(), 1);
                // Used, and so delivered.
                assert_eq!(all(shop.send(with(plain(), &credential)).await).await.status, 403);
                if signing != Signing::Panics {
                    // The receipt comes when the signer is back.
                    shop.key.is(Signing::Works);
                    shop.settle_down().await;
                    let receipt = shop.ledger.only();
                    assert_eq!((&receipt["status"], &receipt["http_status"]), (&json!("succeeded"), &json!(200)));
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_fails_at_the_end_of_a_stream_leaves_it_whole() {
    for signing in [Signing::Fails, Signing::Hangs, Signing::Panics] {
        let shop = Shop::open();
        shop.answers(|| {
            let mut response = events();
            *response.body_mut() = Frames::of(["data: 1\n\n"]).chunked().waiting().trailer("x-sum", "1");
            response
        });
        let paid = shop.pay().await;
        assert_eq!(header(paid.headers(), "payment-receipt-provisional"), Some("true"));
        shop.key.is(signing);
        let started = Instant::now();
        let answer = all(paid).await;
        assert!(started.elapsed() <= Duration::from_secs(2));
        assert_eq!((answer.body.as_str(), answer.trailer("x-sum")), ("data: 1\n\n", Some("1")));
        assert_eq!(answer.trailers.unwrap().len(), 1);
        if signing != Signing::Panics {
            shop.key.is(Signing::Works);
            shop.settle_down().await;
            assert_eq!(shop.ledger.finals().pop().unwrap()["status"], "succeeded");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_signer_is_waited_for() {
    let shop = Shop::open();
    shop.key.is(Signing::Takes(1500));
    for answer in [whole as fn() -> Response<Frames>, events] {
        shop.answers(answer);
        let answer = shop.buy().await;
        shop.settle_down().await;
        let receipt = shop.ledger.finals().pop().unwrap();
        assert_named(answer.trailers.as_ref().unwrap_or(&answer.headers), &receipt);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_away_gets_its_receipts_when_it_is_back() {
    for answer in [whole as fn() -> Response<Frames>, events] {
        let shop = Shop::open();
        shop.answers(answer);
        shop.ledger.down(true);
        let credential = shop.credential(plain()).await;
        let started = Instant::now();
        let paid = shop.send(with(plain(), &credential)).await;
        assert!(started.elapsed() <= Duration::from_secs(1));
        let answer = all(paid).await;
        assert!(started.elapsed() <= Duration::from_secs(1));
        assert_eq!(answer.header("payment-receipt-kid"), Some(KID));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(shop.ledger.rows().is_empty());
        shop.ledger.down(false);
        // Who drains waits for it.
        shop.settle_down().await;
        let [receipt] = shop.ledger.finals().try_into().unwrap();
        assert_named(answer.trailers.as_ref().unwrap_or(&answer.headers), &receipt);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_hangs_is_not_waited_for() {
    let shop = Shop::open();
    shop.ledger.hangs(true);
    let credential = shop.credential(plain()).await;
    let started = Instant::now();
    assert_eq!(all(shop.send(with(plain(), &credential)).await).await.status, 200);
    assert_eq!(started.elapsed().as_millis(), 1000);
    shop.ledger.hangs(false);
    shop.settle_down().await;
    assert_eq!(shop.ledger.only()["status"], "succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_hangs_does_not_hold_a_redelivery_up() {
    let shop = Shop::open();
    let credential = shop.credential(plain()).await;
    shop.does(|_| async { Err(std::io::ErrorKind::BrokenPipe.into()) });
    let _ = tower::ServiceExt::oneshot(shop.service.clone(), with(plain(), &credential)).await;
    shop.settle_down().await;
    shop.ledger.hangs(true);
    shop.answers(events);
    let started = Instant::now();
    let answer = all(shop.send(with(plain(), &credential)).await).await;
    assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
    shop.ledger.hangs(false);
    shop.settle_down().await;
    assert_named(answer.trailers.as_ref().unwrap(), &shop.ledger.finals().pop().unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_the_journal_does_not_call_delivered_has_no_receipt() {
    for (answer, fault) in [
        (whole as fn() -> Response<Frames>, Broken::Before),
        (events, Broken::Before),
        (whole, Broken::After),
        (events, Broken::After),
    ] {
        let shop = Shop::open();
        shop.answers(answer);
        let credential = shop.credential(plain()).await;
        shop.journal.fail(Outage { first: 0, length: 1, fault, step: Some("commit") });
        let answer = all(shop.send(with(plain(), &credential)).await).await;
        assert_eq!((answer.status, answer.header("payment-receipt")), (503, None));
        shop.settle_down().await;
        assert!(shop.ledger.rows().is_empty());
        // The same credential is good again.
        assert_eq!(all(shop.send(with(plain(), &credential)).await).await.status, 200);
        shop.settle_down().await;
        assert_eq!(shop.ledger.finals().len(), 1);
        assert_eq!(shop.rail.settlements(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_while_the_ledger_is_written_is_not_called_served() {
    let shop = Shop::open();
    shop.ledger.hangs(true);
    let credential = shop.credential(plain()).await;
    let send = shop.send(with(plain(), &credential));
    tokio::time::timeout(Duration::from_millis(500), send).await.map(|_| ()).unwrap_err();
    shop.ledger.hangs(false);
    shop.settle_down().await;
    let mut receipts = shop.ledger.finals();
    receipts.sort_by_key(|receipt| receipt["status"] == "failed");
    let [first, second] = receipts.try_into().unwrap();
    assert_eq!((&first["status"], &second["status"]), (&json!("succeeded"), &json!("failed")));
    assert_eq!(second["parent_receipt_id"], first["receipt_id"]);
    assert_eq!(all(shop.send(with(plain(), &credential)).await).await.status, 200);
    assert_eq!(shop.rail.settlements(), 1);
}
