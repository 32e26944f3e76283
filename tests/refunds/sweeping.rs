//! What no payer comes back for.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tower_mpp::{UnfulfilledState, refund::RefundPolicy};

use crate::{
    shop::{Shop, TOO_LATE, fails, outcome},
    support::RefundFault,
};

const LEASE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn money_that_nobody_came_for_in_time_is_paid_back() {
    let shop = Shop::open(RefundPolicy::all());
    shop.does(fails(None));
    let (id, credential) = shop.paid().await;
    assert_eq!(outcome(&shop.redeem(&credential).await), (502, Some("redeliverable")));
    tokio::time::sleep(TOO_LATE - Duration::from_secs(1)).await;
    // The payer may still come.
    assert_eq!(shop.sweep().await, Default::default());
    assert_eq!(shop.redeem(&credential).await.status, 502);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(outcome(&shop.redeem(&credential).await), (403, Some("unfulfilled")));
    assert_eq!(shop.sweep().await.refunded, 1);
    assert_eq!(shop.rail.refunded(id).as_deref(), Some("150"));
    assert_eq!(outcome(&shop.redeem(&credential).await), (403, Some("refunded")));
    assert_eq!(shop.sweep().await.refunded, 0);
    assert_eq!((shop.rail.refund_attempts(), shop.calls()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn lost_payments_are_found_out_about() {
    let shop = Shop::open(RefundPolicy::off());
    for (token, charged) in [("unknown", false), ("lost", true)] {
        let (id, credential) = shop.credential(&json!({"token": token})).await;
        let answer = shop.redeem(&credential).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "PaymentOutcomeUnknown"));
        let listed = shop.merchant.unfulfilled(None, 10).await.unwrap();
        assert_eq!((listed.len(), listed[0].state), (1, UnfulfilledState::OutcomeUnknown));
        shop.rail.blind(2);
        let mut passes = 0;
        let swept = loop {
            let swept = shop.sweep().await;
            if swept.settled + swept.not_charged > 0 {
                break swept;
            }
            passes += 1;
            assert!(passes < 20);
            tokio::time::sleep(Duration::from_secs(5)).await;
        };
        assert!(passes >= 2, "it was asked again");
        assert_eq!((swept.settled, swept.not_charged), (usize::from(charged), usize::from(!charged)));
        assert_eq!(shop.listed().await, if charged { vec![id] } else { vec![] });
        // The payer is served, and charged once.
        assert_eq!(shop.redeem(&credential).await.status, if charged { 200 } else { 503 });
        assert_eq!(shop.rail.settlements_of(id), usize::from(charged));
        shop.sweep().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_payment_that_was_charged_and_that_nobody_comes_for_is_paid_back() {
    let shop = Shop::open(RefundPolicy::all());
    let (id, credential) = shop.credential(&json!({"token": "lost"})).await;
    assert_eq!(shop.redeem(&credential).await.status, 503);
    tokio::time::sleep(TOO_LATE).await;
    assert_eq!(shop.redeem(&credential).await.problem(), "PaymentOutcomeUnknown");
    assert_eq!(shop.sweep().await.refunded, 1);
    assert_eq!(shop.rail.refunded(id).as_deref(), Some("150"));
    assert_eq!(outcome(&shop.redeem(&credential).await), (403, Some("refunded")));
}

#[tokio::test(start_paused = true)]
async fn any_number_of_sweepers_handle_each_payment_once() {
    let shop = Shop::open(RefundPolicy::all());
    let replicas: Vec<_> = (0..3)
        .map(|_| Shop::over(shop.store.clone(), shop.rail.clone().yielding(3), RefundPolicy::all(), |builder| builder))
        .collect();
    shop.does(fails(None));
    for _ in 0..300 {
        let (_, credential) = shop.paid().await;
        assert_eq!(shop.redeem(&credential).await.status, 502);
    }
    tokio::time::sleep(TOO_LATE).await;
    let swept = join_all(replicas.iter().chain([&shop]).map(Shop::sweep)).await;
    assert_eq!(swept.iter().map(|swept| swept.refunded).sum::<usize>(), 300);
    assert_eq!((shop.rail.refund_attempts(), shop.rail.refunds()), (300, 300));
    assert_eq!(shop.listed().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_sweeper_that_runs_needs_nobody() {
    let shop = Shop::open(RefundPolicy::all());
    let sweeper = tokio::spawn(shop.merchant.sweeper().run());
    shop.does(fails(None));
    shop.rail.fail_refunds([RefundFault::Unknown, RefundFault::Never, RefundFault::Panic]);
    for _ in 0..5 {
        let (_, credential) = shop.paid().await;
        assert_eq!(shop.redeem(&credential).await.status, 502);
    }
    tokio::time::sleep(TOO_LATE + 10 * LEASE).await;
    assert_eq!((shop.rail.refunds(), shop.listed().await.len()), (5, 0));
    sweeper.abort();
    shop.merchant.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_sweep_in_an_outage_says_so_and_the_next_one_goes_on() {
    use crate::support::{Broken, Outage};
    let shop = Shop::open(RefundPolicy::all());
    shop.does(fails(None));
    let (_, credential) = shop.paid().await;
    assert_eq!(shop.redeem(&credential).await.status, 502);
    tokio::time::sleep(TOO_LATE).await;
    for fault in [Broken::Before, Broken::Stuck] {
        shop.store.fail(Outage { first: 0, length: usize::MAX, fault, step: None });
        shop.merchant.sweeper().sweep().await.unwrap_err();
        shop.store.heal();
    }
    tokio::time::sleep(LEASE).await;
    assert_eq!(shop.sweep().await.refunded, 1);
}

#[tokio::test(start_paused = true)]
async fn the_list_says_what_an_operator_needs_page_by_page() {
    let shop = Shop::open(RefundPolicy::off());
    shop.does(fails(None));
    let mut ids = Vec::new();
    for _ in 0..5 {
        let (id, credential) = shop.paid().await;
        assert_eq!(shop.redeem(&credential).await.status, 502);
        ids.push(id);
    }
    ids.sort_unstable();
    let (mut after, mut listed) = (None, Vec::new());
    loop {
        let page = shop.merchant.unfulfilled(after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.challenge_id);
        listed.extend(page);
    }
    assert_eq!(listed.iter().map(|payment| payment.challenge_id).collect::<Vec<_>>(), ids);
    let json = serde_json::to_value(&listed[0]).unwrap();
    for (member, expected) in [
        ("state", json!("paid")),
        ("method", json!("demo")),
        ("intent", json!("charge")),
        ("amount", json!("150")),
        ("currency", json!("usd")),
        ("scope", json!("GET /a")),
        ("reference", json!(format!("ref_{}", ids[0]))),
        ("challenge_id", json!(ids[0].to_string())),
        ("refundable", json!(true)),
        ("attempts", json!(0)),
    ] {
        assert_eq!(json[member], expected, "{json}");
    }
}
