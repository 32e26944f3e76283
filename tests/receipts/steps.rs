//! A client may leave at any step, and the ledger says in the end what the journal says.

use std::{collections::HashSet, future::poll_fn, sync::Arc, task::Poll};

use http::Response;
use serde_json::Value;
use tower_mpp::{MerchantBuilder, SettleTiming, store::MemoryAnswerStore};

use crate::{shop::*, support::*};

/// Polls so often and no more, and drops what is left.
async fn polled<F: Future>(mut left: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Route {
    Before,
    After,
    Keyed,
}

fn open(route: Route) -> Shop {
    let mut plan = Plan { rail: TestRail::new("demo").yielding(1), ..Plan::default() };
    match route {
        Route::Before => {}
        Route::After => {
            plan.rail = plan.rail.settling_after();
            plan.layer = Box::new(|layer| layer.settle(SettleTiming::AfterHandler).unwrap());
        }
        Route::Keyed => {
            let kept = Arc::new(MemoryAnswerStore::new(1024 * 1024));
            plan.merchant = Box::new(move |merchant: MerchantBuilder| merchant.answer_store(kept));
        }
    }
    let shop = plan.open();
    shop.key.is(Signing::Takes(1));
    shop.ledger.slow(true);
    shop
}

fn slow(answer: fn() -> Response<Frames>) -> Response<Frames> {
    answer().map(Frames::waiting)
}

fn request(route: Route) -> http::Request<axum::body::Body> {
    let mut request = plain();
    if route == Route::Keyed {
        request.headers_mut().insert("idempotency-key", "key-1".parse().unwrap());
    }
    request
}

/// What the last of the receipts of a payment says: the one that no other adds to.
#[track_caller]
fn last_word(receipts: &[Value]) -> Option<&Value> {
    let parents: HashSet<_> = receipts.iter().map(|receipt| receipt["parent_receipt_id"].as_str()).collect();
    let mut last = receipts.iter().filter(|receipt| !parents.contains(&receipt["receipt_id"].as_str()));
    let word = last.next();
    assert!(last.next().is_none(), "{receipts:?}");
    word
}

#[tokio::test(start_paused = true)]
async fn the_ledger_says_what_the_journal_says_wherever_the_client_leaves() {
    for route in [Route::Before, Route::After, Route::Keyed] {
        for answer in [whole as fn() -> Response<Frames>, stream, events] {
            for polls in 1.. {
                let shop = open(route);
                shop.answers(move || slow(answer));
                let credential = shop.credential(request(route)).await;
                let buy = async { all(shop.send(with(request(route), &credential)).await).await };
                let bought = polled(polls, buy).await;
                shop.settle_down().await;
                let receipts = shop.ledger.finals();
                let word = last_word(&receipts).map(|receipt| receipt["status"].as_str().unwrap().to_owned());
                let again = all(shop.send(with(request(route), &credential)).await).await;
                // With a key an answer that is there is given again; it is another one when it was not.
                let same = route == Route::Keyed && again.status == 200 && {
                    shop.settle_down().await;
                    shop.ledger.finals().len() == receipts.len()
                };
                let delivered = again.status == 403 || same;
                let case = format!("{route:?}, {polls} polls: {word:?}, then {}", again.status);
                match word.as_deref() {
                    Some("succeeded" | "partial") => assert!(delivered, "{case}"),
                    Some("failed") => assert!(again.status == 200 && !delivered, "{case}"),
                    None => assert!(again.status == 200 && !delivered, "{case}"),
                    Some(_) => panic!("{case}"),
                }
                assert_eq!(shop.rail.settlements(), 1, "{case}");
                if let Some(bought) = bought {
                    assert_eq!((bought.status, word.as_deref()), (200, Some("succeeded")));
                    break;
                }
                assert!(polls < 500);
            }
        }
    }
}
