//! Refunds that the merchant asks for, by the id of the challenge.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tower_mpp::{RefundFailed, RefundStatus, protocol::ChallengeId, refund::RefundPolicy};

use crate::{
    shop::{Shop, fails, outcome, works},
    support::{Broken, Outage, RefundFault},
};

#[tokio::test(start_paused = true)]
async fn what_was_not_delivered_is_paid_back_once_however_often_it_is_asked_for() {
    // The rules are about what nobody has asked for.
    let shop = Shop::open(RefundPolicy::off());
    shop.does(fails(None));
    let (id, credential) = shop.paid().await;
    assert_eq!(shop.redeem(&credential).await.status, 502);
    let answers = join_all((0..5).map(|_| shop.merchant.refund(id))).await;
    assert!(answers.iter().any(|answer| matches!(answer, Ok(RefundStatus::Refunded))), "{answers:?}");
    for answer in answers {
        assert!(matches!(answer, Ok(RefundStatus::Refunded) | Err(RefundFailed::InProgress)), "{answer:?}");
    }
    assert!(matches!(shop.merchant.refund(id).await, Ok(RefundStatus::Refunded)));
    assert_eq!((shop.rail.refunded(id).as_deref(), shop.rail.refund_attempts()), (Some("150"), 1));
    shop.does(works());
    assert_eq!(outcome(&shop.redeem(&credential).await), (403, Some("refunded")));
    assert_eq!(shop.listed().await, []);
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_is_paid_back_as_long_as_the_journal_knows_it() {
    let shop = Shop::open(RefundPolicy::off());
    let (id, credential) = shop.paid().await;
    assert_eq!(shop.redeem(&credential).await.text(), "served");
    // The lease of the delivery has to be over.
    assert!(matches!(shop.merchant.refund(id).await, Err(RefundFailed::InProgress)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(matches!(shop.merchant.refund(id).await, Ok(RefundStatus::Refunded)));
    assert_eq!(shop.rail.refunded(id).as_deref(), Some("150"));
    assert_eq!(outcome(&shop.redeem(&credential).await), (403, Some("refunded")));
    assert_eq!(shop.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rail_that_cannot_do_it_yet_is_asked_again() {
    let shop = Shop::open(RefundPolicy::off());
    shop.does(fails(None));
    let (id, credential) = shop.paid().await;
    assert_eq!(shop.redeem(&credential).await.status, 502);
    shop.rail.fail_refunds([RefundFault::Lost, RefundFault::Unknown]);
    assert!(matches!(shop.merchant.refund(id).await, Ok(RefundStatus::Pending)));
    assert_eq!(outcome(&shop.redeem(&credential).await), (403, Some("refund-pending")));
    // By hand at once, although it was put off; and by the sweeper when it is due.
    assert!(matches!(shop.merchant.refund(id).await, Ok(RefundStatus::Pending)));
    assert_eq!(shop.sweep().await.refunded, 0);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(shop.sweep().await.refunded, 1);
    assert_eq!((shop.rail.refunded(id).as_deref(), shop.rail.refunds()), (Some("150"), 1));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_paid_back_is_said() {
    let shop = Shop::open(RefundPolicy::off());
    let nobodys = ChallengeId::from_bytes([7; 32]);
    assert!(matches!(shop.merchant.refund(nobodys).await, Err(RefundFailed::NotFound)));

    // Refused by the rail: it stays as it was.
    shop.does(fails(None));
    let (id, credential) = shop.paid().await;
    assert_eq!(shop.redeem(&credential).await.status, 502);
    shop.rail.fail_refunds([RefundFault::Refused]);
    assert!(matches!(shop.merchant.refund(id).await, Err(RefundFailed::Refused)));
    shop.does(works());
    assert_eq!(shop.redeem(&credential).await.text(), "served");

    // Lost, and not charged, as it turns out; lost, and charged; lost, and nobody knows.
    let (id, credential) = shop.credential(&json!({"token": "unknown"})).await;
    assert_eq!(shop.redeem(&credential).await.status, 503);
    shop.rail.blind(1);
    assert!(matches!(shop.merchant.refund(id).await, Err(RefundFailed::OutcomeUnknown)));
    assert!(matches!(shop.merchant.refund(id).await, Err(RefundFailed::NotCharged)));
    let (id, credential) = shop.credential(&json!({"token": "lost"})).await;
    assert_eq!(shop.redeem(&credential).await.status, 503);
    assert!(matches!(shop.merchant.refund(id).await, Ok(RefundStatus::Refunded)));
    assert_eq!(shop.rail.refunded(id).as_deref(), Some("150"));

    shop.store.fail(Outage { first: 0, length: 1, fault: Broken::Before, step: None });
    assert!(matches!(shop.merchant.refund(id).await, Err(RefundFailed::Store(_))));
    assert!(matches!(shop.merchant.refund(id).await, Ok(RefundStatus::Refunded)));
}
