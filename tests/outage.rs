//! The journal is down, or slow: nothing is charged, nobody waits in a queue, and it is all over as soon as the
//! journal is back.

mod support;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Request};
use http_body_util::Full;
use serde_json::json;
use support::*;
use tower::{Layer as _, ServiceExt as _, util::BoxCloneSyncService};
use tower_mpp::{Merchant, Price, ResponseBody, store::MemoryNonceStore};

type Shop = BoxCloneSyncService<Request<Full<Bytes>>, http::Response<ResponseBody<Full<Bytes>>>, Infallible>;
type Store = FaultyStore<Arc<MemoryNonceStore>>;

const FOR_EVER: usize = usize::MAX;

fn shop(rail: &TestRail) -> (Merchant, Store, Shop) {
    let store = FaultyStore::new(Arc::new(MemoryNonceStore::single_process(100_000)));
    let merchant = builder(rail).nonce_store(store.clone()).build().unwrap();
    let layer = merchant.charge(Price::usd("1.00").unwrap()).unwrap();
    let service = Shop::new(layer.layer(served::<Full<Bytes>>()));
    (merchant, store, service)
}

fn down(fault: Broken) -> Outage {
    Outage { first: 0, length: FOR_EVER, fault, step: None }
}

async fn credentials(shop: &Shop, count: usize) -> Vec<HeaderValue> {
    let ask_and_pay = || async { pay_with(&ask(shop, get("/")).await, None, &json!({"token": "ok"})) };
    join_all((0..count).map(|_| ask_and_pay())).await
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_pile_up_payments_and_ends_without_a_restart() {
    let rail = TestRail::new("demo");
    let (merchant, store, shop) = shop(&rail);
    let credentials = credentials(&shop, 600).await;
    // The worst: the journal takes what it is sent and never answers. A minute of it, ten payments a second.
    store.fail(down(Broken::Stuck));
    let (mut at_first, mut later, mut answers) = (0, 0, Vec::new());
    for (n, credential) in credentials.iter().enumerate() {
        let (shop, credential) = (shop.clone(), credential.clone());
        answers.push(tokio::spawn(async move { call(&shop, get_paid("/", &credential)).await }));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let most = if n < 100 { &mut at_first } else { &mut later };
        *most = merchant.in_flight().max(*most);
    }
    // Five seconds' worth until the first of them fails; from then on one tries every second, and waits for five.
    assert!((40..=60).contains(&at_first), "{at_first} payments stood waiting at first");
    assert!((1..=6).contains(&later), "{later} payments stood waiting later");
    for answer in answers {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
        assert!(answer.header("www-authenticate").is_none());
    }
    assert_eq!(rail.settlements(), 0);

    store.heal();
    // The leases of claims that took effect run out; the pause of the breaker is much shorter.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let fresh = pay_with(&ask(&shop, get("/")).await, None, &json!({"token": "ok"}));
    assert_eq!(call(&shop, get_paid("/", &fresh)).await.status, 200);
    assert_eq!(rail.settlements(), 1);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_the_breaker_say_when_to_come_back_and_ask_for_no_money() {
    let rail = TestRail::new("demo");
    let (_merchant, store, shop) = shop(&rail);
    let credentials = credentials(&shop, 7).await;
    store.fail(down(Broken::Before));
    for credential in &credentials {
        let answer = call(&shop, get_paid("/", credential)).await;
        assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (503, None));
    }
    assert_eq!(store.failures(), 5, "after five failures nobody asks the journal");
    let answer = call(&shop, get_paid("/", &credentials[0])).await;
    assert_eq!(answer.header("retry-after"), Some("1"));
    // Nothing that needs no journal is affected.
    assert_eq!(call(&shop, get("/")).await.status, 402);
    store.heal();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for credential in &credentials {
        assert_eq!(call(&shop, get_paid("/", credential)).await.status, 200);
    }
    assert_eq!(rail.settlements(), credentials.len());
}

#[tokio::test(start_paused = true)]
async fn with_the_breaker_open_money_that_has_moved_still_finds_its_way() {
    let rail = TestRail::new("demo").delay(Duration::from_secs(3));
    let (_merchant, store, shop) = shop(&rail);
    let credentials = credentials(&shop, 21).await;
    let (slow, others) = credentials.split_first().unwrap();
    // One payment is between its claim and its settlement when the journal goes down.
    let paid = tokio::spawn({
        let (shop, slow) = (shop.clone(), slow.clone());
        async move { shop.oneshot(get_paid("/", &slow)).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    store.fail(Outage { first: 0, length: FOR_EVER, fault: Broken::Before, step: Some("claim") });
    for credential in others {
        assert_eq!(call(&shop, get_paid("/", credential)).await.status, 503);
    }
    assert_eq!(paid.await.unwrap().status(), 200);
    assert_eq!(rail.settlements(), 1);
}
