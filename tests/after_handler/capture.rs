//! What becomes of the answer when its money cannot be taken.

use super::*;

#[tokio::test]
async fn a_decline_after_the_handler_is_a_402_and_not_the_body() {
    for (token, problem) in [("decline", "verification-failed"), ("insufficient", "payment-insufficient")] {
        let shop = Shop::open([]);
        let (id, credential) = shop.credential(token).await;
        let answer = shop.buy(&credential).await;
        answer.assert_challenged(problem);
        assert!(!answer.text().contains("served"), "{}", answer.text());
        assert_eq!((shop.handled.all(), shop.polled.all()), (vec![0], vec![]), "the body is dropped unread");
        shop.assert_untouched(id).await;
    }
}

#[tokio::test]
async fn a_fault_after_the_handler_is_a_503_and_nothing_is_charged() {
    let shop = Shop::open([]);
    let (id, credential) = shop.credential("fault").await;
    let answer = shop.buy(&credential).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (503, "about:blank".to_owned()));
    answer.assert_no_challenge();
    assert!(!answer.text().contains("served") && !answer.text().contains("sk_secret"));
    shop.assert_untouched(id).await;
}

#[tokio::test]
async fn an_unknown_outcome_is_a_503_and_the_same_credential_gets_the_answer_for_one_charge() {
    for (token, moved) in [("unknown", 0), ("lost", 1)] {
        let shop = Shop::open([]);
        let (id, credential) = shop.credential(token).await;
        let answer = shop.buy(&credential).await;
        assert_eq!((answer.status.as_u16(), shop.polled.all()), (503, vec![]));
        answer.assert_no_challenge();
        assert!(answer.header("retry-after").is_some() && !answer.text().contains("served"));
        assert_eq!((shop.state(id).await, shop.rail.settlements()), (Some(EntryState::Held), moved));
        shop.assert_good(&credential).await;
        // It was settled before the handler ran again, as any money in doubt.
        assert_eq!(shop.handled.all(), [0, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rail_that_does_not_answer_or_panics_leaves_the_outcome_unknown() {
    for token in ["never", "panic"] {
        let shop = Shop::open([]);
        let (id, credential) = shop.credential(token).await;
        let answer = shop.buy(&credential).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (503, "PaymentOutcomeUnknown".to_owned()));
        shop.merchant.drain().await;
        assert_eq!((shop.state(id).await, shop.polled.all()), (Some(EntryState::Held), vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_while_the_money_is_taken_gets_the_answer_later() {
    let shop = Shop::with(TestRail::new("demo").delay(Duration::from_secs(2)), [], |builder| builder);
    let (id, credential) = shop.credential("ok").await;
    let request = shop.start(&credential).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(shop.rail.settlements(), 0);
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    shop.merchant.drain().await;
    assert_eq!(shop.rail.settlements(), 1);
    assert!(matches!(shop.state(id).await, Some(EntryState::Settled { .. })));
    shop.assert_good(&credential).await;
    assert_eq!((shop.handled.all(), shop.infos.load(Ordering::SeqCst)), (vec![0, 1], 1), "this time it was settled");
}

#[tokio::test(start_paused = true)]
async fn with_the_journal_down_no_money_is_taken() {
    let shop = Shop::open([Does::Take(1), Does::Take(1)]);
    let (id, credential) = shop.credential("ok").await;
    for fault in [Broken::Before, Broken::Stuck] {
        let request = shop.start(&credential).await;
        shop.store.fail(Outage { first: 0, length: usize::MAX, fault, step: None });
        let answer = read(request.await.unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (503, "about:blank".to_owned()));
        answer.assert_no_challenge();
        shop.store.heal();
        shop.assert_untouched(id).await;
    }
    assert_eq!((shop.rail.attempts(), shop.polled.all()), (0, vec![]));
    shop.assert_good(&credential).await;
}

#[tokio::test(start_paused = true)]
async fn money_that_could_not_be_written_down_is_not_charged_again() {
    let shop = Shop::open([]);
    let (_, credential) = shop.credential("ok").await;
    shop.store.fail(Outage { first: 0, length: usize::MAX, fault: Broken::Before, step: Some("settle") });
    let answer = shop.buy(&credential).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (503, "PaymentOutcomeUnknown".to_owned()));
    assert_eq!((shop.rail.settlements(), shop.polled.all()), (1, vec![]));
    shop.store.heal();
    shop.assert_good(&credential).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_handler_with_the_journal_down_promises_nothing_it_cannot_hold() {
    let shop = Shop::open([Does::FailAfter(1)]);
    let (id, credential) = shop.credential("ok").await;
    let request = shop.start(&credential).await;
    shop.store.fail(Outage { first: 0, length: 4, fault: Broken::Before, step: None });
    let answer = read(request.await.unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.header("payment-outcome")), (500, None));
    shop.assert_untouched(id).await;
    shop.assert_good(&credential).await;
}

#[tokio::test]
async fn an_answer_without_a_body_is_charged_for_before_it_leaves() {
    let shop = Shop::open([Does::Answer(204)]);
    let (_, credential) = shop.credential("ok").await;
    let answer = shop.head(&credential).await;
    assert_eq!((answer.status().as_u16(), shop.rail.settlements()), (204, 1));
    assert!(answer.headers().contains_key("payment-receipt"));
    drop(answer);
    shop.merchant.drain().await;
    assert_eq!(shop.buy(&credential).await.status, 403);
}
