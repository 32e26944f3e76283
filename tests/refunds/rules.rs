//! The four rules, off and on.

use std::time::Duration;

use http_body_util::BodyExt as _;
use tower_mpp::{
    PaymentOutcome,
    refund::{ProviderCall, RefundPolicy},
};

use crate::{
    shop::{Doing, Shop, TOO_LATE, fails, outcome, works},
    support::{Broken, Frames, Outage, RefundFault},
};

const CALLS: [Option<ProviderCall>; 6] = [
    None,
    Some(ProviderCall::NotStarted),
    Some(ProviderCall::Started),
    Some(ProviderCall::TimedOut),
    Some(ProviderCall::FirstByte),
    Some(ProviderCall::SideEffect),
];

fn not_started() -> RefundPolicy {
    RefundPolicy::off().refund_if_payment_succeeds_but_no_provider_call_starts(true)
}

fn timed_out() -> RefundPolicy {
    RefundPolicy::off().refund_if_provider_timeout_before_first_token(true)
}

#[tokio::test(start_paused = true)]
async fn refunds_are_off_unless_they_are_switched_on() {
    let shop = Shop::open(RefundPolicy::default());
    for call in CALLS {
        shop.does(fails(call));
        let (_, credential) = shop.paid().await;
        assert_eq!(outcome(&shop.redeem(&credential).await), (502, Some("redeliverable")), "{call:?}");
    }
    tokio::time::sleep(TOO_LATE).await;
    let swept = shop.sweep().await;
    assert_eq!((swept.refunded, swept.unfulfilled), (0, CALLS.len()));
    assert_eq!((shop.rail.settlements(), shop.rail.refund_attempts()), (CALLS.len(), 0));
    assert_eq!(shop.listed().await.len(), CALLS.len());
}

#[tokio::test(start_paused = true)]
async fn each_rule_refunds_what_it_names_and_nothing_else() {
    for (policy, refunded) in [
        (not_started(), vec![Some(ProviderCall::NotStarted)]),
        (timed_out(), vec![Some(ProviderCall::TimedOut)]),
        (RefundPolicy::all(), vec![Some(ProviderCall::NotStarted), Some(ProviderCall::TimedOut)]),
    ] {
        let shop = Shop::open(policy);
        for call in CALLS {
            shop.does(fails(call));
            let (id, credential) = shop.paid().await;
            let answer = shop.head(&credential).await;
            let back = refunded.contains(&call);
            let expected = if back { PaymentOutcome::Refunded } else { PaymentOutcome::Redeliverable };
            assert_eq!(answer.extensions().get(), Some(&expected), "{policy:?} {call:?}");
            assert_eq!(answer.headers()["payment-outcome"], expected.as_str());
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "no", "the service's own answer");
            assert_eq!(shop.rail.refunded(id).as_deref(), back.then_some("150"), "{policy:?} {call:?}");

            // Money that came back buys nothing; money that stayed does, once.
            shop.does(works());
            let again = shop.redeem(&credential).await;
            match back {
                true => assert_eq!(outcome(&again), (403, Some("refunded"))),
                false => assert_eq!((again.status.as_u16(), again.text()), (200, "served")),
            }
            assert_eq!(shop.rail.settlements_of(id), 1);
        }
        assert_eq!(shop.listed().await, []);
        assert_eq!(shop.merchant.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_the_gateway_is_one_of_the_provider() {
    let shop = Shop::open(timed_out());
    shop.does(Doing { status: 504, ..fails(Some(ProviderCall::Started)) });
    let (_, credential) = shop.paid().await;
    assert_eq!(outcome(&shop.redeem(&credential).await), (504, Some("refunded")));
    // A timeout that nobody reports may have happened anywhere.
    shop.does(Doing { status: 504, ..fails(None) });
    let (_, credential) = shop.paid().await;
    assert_eq!(outcome(&shop.redeem(&credential).await), (504, Some("redeliverable")));
    assert_eq!(shop.rail.refunds(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_done_or_has_begun_is_not_paid_back_later_either() {
    let shop = Shop::open(RefundPolicy::all());
    for call in [ProviderCall::FirstByte, ProviderCall::SideEffect] {
        shop.does(fails(Some(call)));
        let (_, credential) = shop.paid().await;
        assert_eq!(outcome(&shop.redeem(&credential).await), (502, Some("redeliverable")));
    }
    shop.does(fails(None));
    let (unsaid, credential) = shop.paid().await;
    assert_eq!(outcome(&shop.redeem(&credential).await), (502, Some("redeliverable")));
    tokio::time::sleep(TOO_LATE).await;
    let swept = shop.sweep().await;
    assert_eq!((swept.refunded, swept.unfulfilled), (1, 2));
    assert!(shop.rail.refunded(unsaid).is_some());
    let listed = shop.merchant.unfulfilled(None, 10).await.unwrap();
    assert_eq!(listed.iter().filter(|payment| !payment.refundable).count(), 2);

    // Without those two rules it is money like any other.
    let shop = Shop::open(not_started());
    shop.does(fails(Some(ProviderCall::SideEffect)));
    let (_, credential) = shop.paid().await;
    assert_eq!(outcome(&shop.redeem(&credential).await), (502, Some("redeliverable")));
    tokio::time::sleep(TOO_LATE).await;
    assert_eq!(shop.sweep().await.refunded, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_before_its_first_byte_is_paid_back() {
    let streams = |body| Doing { status: 200, call: Some(ProviderCall::Started), body };
    let shop = Shop::open(RefundPolicy::all());
    shop.does(streams(|| Frames::none().broken()));
    let (id, credential) = shop.paid().await;
    shop.head(&credential).await.into_body().collect().await.unwrap_err();
    shop.merchant.drain().await;
    assert_eq!(shop.rail.refunded(id).as_deref(), Some("150"));
    assert_eq!(outcome(&shop.redeem(&credential).await), (403, Some("refunded")));

    // One that has begun is a delivery.
    shop.does(streams(|| Frames::of(["first token"]).broken()));
    let (id, credential) = shop.paid().await;
    shop.head(&credential).await.into_body().collect().await.unwrap_err();
    shop.merchant.drain().await;
    assert_eq!(shop.rail.refunded(id), None);
    assert_eq!(outcome(&shop.redeem(&credential).await), (403, None));

    // A client that goes is no failure of the provider.
    shop.does(streams(|| Frames::of(["first token"])));
    let (id, credential) = shop.paid().await;
    drop(shop.head(&credential).await);
    shop.merchant.drain().await;
    assert_eq!(shop.rail.refunded(id), None);
    shop.does(works());
    assert_eq!(shop.redeem(&credential).await.text(), "served");
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_the_rail_cannot_do_yet_is_on_its_way_and_comes_once() {
    for fault in [RefundFault::Unknown, RefundFault::Lost, RefundFault::Fault, RefundFault::Never, RefundFault::Panic] {
        let shop = Shop::open(RefundPolicy::all());
        shop.does(fails(Some(ProviderCall::NotStarted)));
        shop.rail.fail_refunds([fault, fault]);
        let (id, credential) = shop.paid().await;
        assert_eq!(outcome(&shop.redeem(&credential).await), (502, Some("refund-pending")), "{fault:?}");
        // From here on it buys nothing.
        shop.does(works());
        assert_eq!(outcome(&shop.redeem(&credential).await), (403, Some("refund-pending")), "{fault:?}");
        assert_eq!(shop.calls(), 1);
        shop.merchant.drain().await;
        let mut passes = 0;
        while shop.sweep().await.refunded == 0 {
            passes += 1;
            assert!(passes < 100, "{fault:?}: nobody pays it back");
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(shop.rail.refund_attempts(), 3, "{fault:?}");
        assert_eq!(shop.rail.refunded(id).as_deref(), Some("150"), "{fault:?}");
        assert_eq!(outcome(&shop.redeem(&credential).await), (403, Some("refunded")), "{fault:?}");
        assert_eq!(shop.listed().await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_the_rail_refuses_leaves_the_money_good_for_the_credential() {
    let shop = Shop::open(RefundPolicy::all());
    shop.does(fails(Some(ProviderCall::NotStarted)));
    shop.rail.fail_refunds([RefundFault::Refused]);
    let (_, credential) = shop.paid().await;
    assert_eq!(outcome(&shop.redeem(&credential).await), (502, Some("redeliverable")));
    assert_eq!(shop.listed().await.len(), 1);
    shop.does(works());
    assert_eq!(shop.redeem(&credential).await.text(), "served");
    assert_eq!((shop.rail.refunds(), shop.rail.settlements()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_does_not_stop_a_refund() {
    let shop = Shop::open(RefundPolicy::all());
    shop.does(fails(Some(ProviderCall::NotStarted)));
    shop.rail.fail_refunds([RefundFault::Never]);
    let (id, credential) = shop.paid().await;
    // Long enough to have asked the rail, not long enough to have an answer.
    tokio::time::timeout(Duration::from_secs(1), shop.head(&credential)).await.unwrap_err();
    assert_eq!(shop.rail.refund_attempts(), 1);
    shop.merchant.drain().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(shop.sweep().await.refunded, 1);
    assert_eq!(shop.rail.refunded(id).as_deref(), Some("150"));
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_fails_around_a_refund_loses_nothing_and_pays_nothing_back_twice() {
    for step in ["refund", "commit", "put_off", "release"] {
        for fault in [Broken::Before, Broken::After, Broken::Stuck] {
            for length in [1, 3, 20] {
                let shop = Shop::open(RefundPolicy::all());
                shop.does(fails(Some(ProviderCall::NotStarted)));
                if step == "put_off" {
                    shop.rail.fail_refunds([RefundFault::Unknown]);
                }
                if step == "release" {
                    shop.rail.fail_refunds([RefundFault::Refused]);
                }
                let (id, credential) = shop.paid().await;
                shop.store.fail(Outage { first: 0, length, fault, step: Some(step) });
                shop.redeem(&credential).await.assert_no_challenge();
                shop.merchant.drain().await;
                shop.store.heal();
                // As long as it takes: leases run out, rests end.
                for _ in 0..400 {
                    shop.sweep().await;
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
                let context = format!("{step} {fault:?} {length}");
                let kept = shop.listed().await.len();
                assert_eq!(shop.rail.refunds() + kept, 1, "{context}");
                assert_eq!(kept == 1, step == "release" && shop.rail.refunds() == 0, "{context}");
                assert!(shop.rail.settlements_of(id) == 1 && shop.rail.refunded(id).is_none_or(|sum| sum == "150"));
                assert_eq!(shop.merchant.in_flight(), 0, "{context}");
            }
        }
    }
}
