//! Money that was given back has a receipt, once, whoever gave it back.

use std::time::Duration;

use http::Response;
use serde_json::json;
use tower_mpp::{
    MerchantBuilder, RefundStatus,
    protocol::Visibility,
    refund::{ProviderCall, RefundPolicy},
};

use crate::{shop::*, support::*};

const LEASE: Duration = Duration::from_secs(60);
/// Until the challenge has expired and the grace is over.
const TOO_LATE: Duration = Duration::from_secs(300 + 600);

fn plan(policy: RefundPolicy) -> Plan {
    let merchant = Box::new(move |merchant: MerchantBuilder| merchant.refunds(policy));
    Plan { merchant, ..Plan::default() }
}

fn fails() -> Response<Frames> {
    let mut response = whole();
    *response.status_mut() = http::StatusCode::BAD_GATEWAY;
    response.extensions_mut().insert(ProviderCall::NotStarted);
    response
}

#[track_caller]
fn assert_refund_of(receipts: &[serde_json::Value]) {
    let [first, refund] = receipts else { panic!("{receipts:?}") };
    assert_eq!((&refund["receipt_type"], &refund["status"]), (&json!("refund"), &json!("succeeded")));
    assert_eq!(refund["parent_receipt_id"], first["receipt_id"]);
    assert_eq!(refund["visibility"], first["visibility"]);
    for member in ["amount", "currency", "method", "intent", "challenge_id"] {
        assert_eq!(refund["payment"][member], first["payment"][member], "{member}");
    }
    assert_eq!(refund["http_status"], serde_json::Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_gives_the_money_back_at_once() {
    let shop = plan(RefundPolicy::all()).visible(Visibility::PublicDemo).open();
    shop.answers(fails);
    let answer = shop.buy().await;
    assert_eq!(answer.header("payment-outcome"), Some("refunded"));
    shop.settle_down().await;
    assert_refund_of(&shop.ledger.finals());
}

#[tokio::test(start_paused = true)]
async fn the_receipts_know_each_other_although_the_ledger_was_away() {
    let shop = plan(RefundPolicy::all()).open();
    shop.answers(fails);
    shop.ledger.down(true);
    let started = tokio::time::Instant::now();
    let answer = shop.buy().await;
    assert_eq!(answer.header("payment-outcome"), Some("refunded"));
    assert!(started.elapsed() < Duration::from_secs(2));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(shop.ledger.rows().is_empty());
    shop.ledger.down(false);
    shop.settle_down().await;
    let mut receipts = shop.ledger.finals();
    receipts.sort_by_key(|receipt| receipt["receipt_type"] == "refund");
    assert_refund_of(&receipts);
}

#[tokio::test(start_paused = true)]
async fn a_refund_is_seen_by_no_more_than_its_call() {
    for away in [false, true] {
        let shop = plan(RefundPolicy::all()).visible(Visibility::PublicFull).open();
        shop.does(|request| async move {
            let attribution = request.extensions().get::<tower_mpp::receipt::Attribution>().unwrap();
            attribution.update(|receipt| receipt.visibility = Visibility::PublicDemo);
            Ok(fails())
        });
        shop.ledger.down(away);
        assert_eq!(shop.buy().await.header("payment-outcome"), Some("refunded"));
        shop.ledger.down(false);
        shop.settle_down().await;
        let mut receipts = shop.ledger.finals();
        receipts.sort_by_key(|receipt| receipt["receipt_type"] == "refund");
        assert_refund_of(&receipts);
        assert_eq!(receipts[1]["visibility"], "public_demo");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refund_of_a_call_that_the_ledger_does_not_know_is_private() {
    let shop = Plan::default().visible(Visibility::PublicFull).open();
    shop.key.is(Signing::Hangs);
    let answer = shop.buy().await;
    let id = mpp(answer.header("payment-receipt").unwrap())["challengeId"].as_str().unwrap().parse().unwrap();
    tokio::time::sleep(LEASE).await;
    assert!(shop.ledger.rows().is_empty());
    assert_eq!(shop.merchant.refund(id).await.unwrap(), RefundStatus::Refunded);
    shop.key.is(Signing::Works);
    shop.settle_down().await;
    let receipts = shop.ledger.finals();
    let refund = receipts.iter().find(|receipt| receipt["receipt_type"] == "refund").unwrap();
    assert_eq!(refund["visibility"], "private");
}

#[tokio::test(start_paused = true)]
async fn the_sweeper_and_whoever_asks_leave_one_receipt() {
    let shop = plan(RefundPolicy::all()).open();
    shop.answers(|| {
        let mut response = fails();
        response.extensions_mut().remove::<ProviderCall>();
        response
    });
    let credential = shop.credential(plain()).await;
    let id = {
        let answer = all(shop.send(with(plain(), &credential)).await).await;
        assert_eq!(answer.header("payment-outcome"), Some("redeliverable"));
        shop.settle_down().await;
        shop.ledger.only()["payment"]["challenge_id"].as_str().unwrap().parse().unwrap()
    };
    tokio::time::sleep(TOO_LATE).await;
    // The first time the journal does not hear of it, and so it is done once more.
    shop.rail.fail_refunds([RefundFault::Lost]);
    assert_eq!(shop.merchant.sweeper().sweep().await.unwrap().pending, 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(shop.merchant.sweeper().sweep().await.unwrap().refunded, 1);
    assert_eq!(shop.merchant.refund(id).await.unwrap(), RefundStatus::Refunded);
    shop.settle_down().await;
    assert_refund_of(&shop.ledger.finals());
    assert_eq!(shop.rail.refunds(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_delivered_payment_given_back_by_hand() {
    let shop = Shop::open();
    shop.buy().await;
    let id = shop.ledger.only()["payment"]["challenge_id"].as_str().unwrap().parse().unwrap();
    tokio::time::sleep(LEASE).await;
    assert_eq!(shop.merchant.refund(id).await.unwrap(), RefundStatus::Refunded);
    shop.settle_down().await;
    assert_refund_of(&shop.ledger.finals());
    assert_eq!(shop.merchant.refund(id).await.unwrap(), RefundStatus::Refunded);
    shop.settle_down().await;
    assert_eq!(shop.ledger.rows().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_forgets_the_end_of_a_refund_makes_no_second_receipt() {
    let shop = Shop::open();
    shop.buy().await;
    let id = shop.ledger.only()["payment"]["challenge_id"].as_str().unwrap().parse().unwrap();
    tokio::time::sleep(LEASE).await;
    shop.journal.fail(Outage { first: 0, length: 9, fault: Broken::Before, step: Some("commit") });
    shop.merchant.refund(id).await.unwrap_err();
    shop.journal.heal();
    tokio::time::sleep(TOO_LATE).await;
    assert_eq!(shop.merchant.refund(id).await.unwrap(), RefundStatus::Refunded);
    shop.settle_down().await;
    assert_refund_of(&shop.ledger.finals());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_failed_at_its_beginning_is_given_back() {
    let shop = plan(RefundPolicy::all()).open();
    shop.answers(|| {
        let mut response = Response::new(Frames::none().chunked().broken());
        response.extensions_mut().insert(ProviderCall::Started);
        response
    });
    let paid = shop.pay().await;
    http_body_util::BodyExt::collect(paid.into_body()).await.map(|_| ()).unwrap_err();
    shop.settle_down().await;
    assert_eq!(shop.rail.refunds(), 1);
    let mut receipts = shop.ledger.finals();
    receipts.sort_by_key(|receipt| receipt["receipt_type"] == "refund");
    assert_refund_of(&receipts);
}
