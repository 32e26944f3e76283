//! A payment for one thing never buys another: every combination against every other one, on one shared
//! journal, so that it is the binding that is tested and not single use.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use serde_json::json;
use support::{Handler, KEY, TestRail, ask, call, challenges, id_of, pay_with, served, with_credential};
use tower_layer::Layer as _;
use tower_mpp::{
    KeyRing, ManualClock, Merchant, Payment, Price,
    method::{
        Attempt, Checked, Declined, OfferRequest, PaymentMethod, RefundError, RefundRequest, Refunded, SettleError,
        Settlement, VerifyError,
    },
    pricing::Prices,
    protocol::{Challenge, Intent, MethodId},
    store::MemoryNonceStore,
};

const OTHER_KEY: &str = "another key of 32 bytes and more";

/// A rail with any intent and recipient.
struct Rail {
    money: TestRail,
    intent: Intent,
    recipient: Option<&'static str>,
}

#[async_trait]
impl PaymentMethod for Rail {
    fn method(&self) -> &MethodId {
        self.money.method()
    }

    fn intent(&self) -> &Intent {
        &self.intent
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        let offer = self.money.offer(price)?;
        Some(match self.recipient {
            Some(recipient) => offer.recipient(recipient),
            None => offer,
        })
    }

    fn check(&self, payment: &tower_mpp::method::Payment) -> Result<Checked, Declined> {
        self.money.check(payment)
    }

    async fn verify(&self, payment: &tower_mpp::method::Payment, attempt: Attempt) -> Result<(), VerifyError> {
        self.money.verify(payment, attempt).await
    }

    async fn settle(&self, payment: &tower_mpp::method::Payment, attempt: Attempt) -> Result<Settlement, SettleError> {
        self.money.settle(payment, attempt).await
    }

    async fn refund(&self, refund: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        self.money.refund(refund).await
    }
}

/// Something that is sold, and the request that buys it.
#[derive(Clone, Debug)]
struct Thing {
    name: String,
    method: Method,
    uri: String,
    body: &'static str,
    price: Price,
    rail: &'static str,
    intent: Intent,
    recipient: Option<&'static str>,
    realm: &'static str,
    key: &'static str,
    label: Option<&'static str>,
    bind_query: bool,
    external_id: Option<&'static str>,
}

impl Thing {
    fn base() -> Self {
        Self {
            name: "base".into(),
            method: Method::GET,
            uri: "/thing?a=1".into(),
            body: "",
            price: Price::usd("1.00").unwrap(),
            rail: "demo",
            intent: Intent::CHARGE,
            recipient: None,
            realm: "api.example.com",
            key: KEY,
            label: None,
            bind_query: false,
            external_id: None,
        }
    }

    /// Whether the two are one resource of one merchant, on different terms.
    fn is_at_other_terms(&self, other: &Self) -> bool {
        let (path, query) = (
            |thing: &Self| thing.uri.split('?').next().unwrap().to_owned(),
            |thing: &Self| thing.bind_query.then(|| thing.uri.clone()),
        );
        (&self.method, path(self), query(self), self.body) == (&other.method, path(other), query(other), other.body)
            && (self.rail, &self.intent, self.realm, self.key) == (other.rail, &other.intent, other.realm, other.key)
            && self.label == other.label
    }

    fn request(&self) -> Request<Full<Bytes>> {
        Request::builder().method(&self.method).uri(&self.uri).body(Full::from(self.body)).unwrap()
    }
}

/// Things that differ from the first one in one respect, and some that differ from each other in one.
fn things() -> Vec<Thing> {
    let base = Thing::base();
    let mut things = vec![base.clone()];
    let mut add = |name: &str, change: &dyn Fn(&mut Thing)| {
        let mut thing = base.clone();
        change(&mut thing);
        thing.name = name.into();
        things.push(thing);
    };
    for method in ["HEAD", "POST", "PUT", "DELETE", "QUERY", "get"] {
        add(method, &|thing| thing.method = method.parse().unwrap());
    }
    let long = |end: &str| format!("/{}{end}", "long/".repeat(60));
    for path in [
        "/other",
        "/Thing",
        "/thing/",
        "//thing",
        "/thing/x",
        "/%74hing",
        "/thing%3Fa=1",
        "/thing%20",
        "/thing;a=1",
        "/./thing",
        "/other/../thing",
        "/thing\"",
        "/th%C3%AFng",
        "/thing%20%23label",
        "/",
        &long("a"),
        &long("b"),
    ] {
        add(&format!("path {path}"), &|thing| thing.uri = path.into());
    }
    for body in ["one", "two", "one "] {
        add(&format!("POST {body}"), &|thing| {
            thing.method = Method::POST;
            thing.body = body;
        });
        add(&format!("GET {body}"), &|thing| thing.body = body);
    }
    for price in ["2.00", "0.99", "10.00", "0.01"] {
        add(&format!("usd {price}"), &|thing| thing.price = Price::usd(price).unwrap());
    }
    add("euro", &|thing| thing.price = Price::fiat("eur", "1.00").unwrap());
    add("yen", &|thing| thing.price = Price::fiat("jpy", "100").unwrap());
    add("rail", &|thing| thing.rail = "other");
    add("intent", &|thing| thing.intent = Intent::new("authorize").unwrap());
    for recipient in ["acct_1", "acct_2"] {
        add(recipient, &|thing| thing.recipient = Some(recipient));
    }
    for realm in ["www.example.com", "API.example.com", "api.example.com:443"] {
        add(realm, &|thing| thing.realm = realm);
    }
    add("key", &|thing| thing.key = OTHER_KEY);
    for label in ["label", "lab", "/thing", ""] {
        add(&format!("label {label:?}"), &|thing| thing.label = Some(label));
    }
    for query in ["", "?", "?a=1", "?a=2", "?a=1&b=2", "?b=2&a=1", "?a=%31"] {
        add(&format!("query {query}"), &|thing| {
            thing.uri = format!("/search{query}");
            thing.bind_query = true;
        });
    }
    for id in ["order-1", "order-2", "Order-1", ""] {
        add(&format!("order {id}"), &|thing| thing.external_id = Some(id));
    }
    // Two respects at once, that cancel each other out for whoever glues texts together.
    add("POST path", &|thing| {
        thing.method = Method::POST;
        thing.uri = "/other".into();
    });
    add("price and order", &|thing| {
        thing.price = Price::usd("2.00").unwrap();
        thing.external_id = Some("order-1");
    });
    things
}

/// All things on one journal, and the rails whose money is counted.
struct Market {
    clock: Arc<ManualClock>,
    rails: [TestRail; 2],
    shops: Vec<(Thing, Payment<Handler>)>,
}

impl Market {
    fn open() -> Self {
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let rails = [TestRail::new("demo"), TestRail::new("other")];
        let store = Arc::new(MemoryNonceStore::single_process(10_000));
        let shop = |thing: Thing| {
            let money = rails[usize::from(thing.rail == "other")].clone();
            let merchant = Merchant::builder(thing.realm, KeyRing::new(thing.key).unwrap())
                .method(Rail { money, intent: thing.intent.clone(), recipient: thing.recipient })
                .nonce_store(Arc::clone(&store))
                .clock(Arc::clone(&clock))
                .build()
                .unwrap();
            let mut prices = Prices::all(thing.price.clone());
            if let Some(id) = thing.external_id {
                prices = prices.external_id(id);
            }
            let mut layer = merchant.charge(prices).unwrap().bind_query(thing.bind_query);
            if let Some(label) = thing.label {
                layer = layer.scope(label);
            }
            (thing, layer.layer(served()))
        };
        Self { shops: things().into_iter().map(shop).collect(), clock, rails }
    }

    fn settlements(&self) -> usize {
        self.rails.iter().map(TestRail::settlements).sum()
    }

    async fn present(&self, at: usize, credential: &HeaderValue) -> support::Answer {
        let (thing, service) = &self.shops[at];
        call(service, with_credential(thing.request(), credential)).await
    }

    async fn challenge(&self, at: usize) -> Challenge {
        let (thing, service) = &self.shops[at];
        ask(service, thing.request()).await
    }
}

fn pay(challenge: &Challenge) -> HeaderValue {
    pay_with(challenge, None, &json!({"token": "ok"}))
}

#[tokio::test]
async fn a_payment_for_one_thing_never_buys_another() {
    let market = Market::open();
    let count = market.shops.len();
    assert!(count > 50);
    for paid in 0..count {
        let credential = pay(&market.challenge(paid).await);
        // Before it is spent, and after.
        for spent in [false, true] {
            for other in (0..count).filter(|other| *other != paid) {
                let before = market.settlements();
                let answer = market.present(other, &credential).await;
                let names = (&market.shops[paid].0.name, &market.shops[other].0.name);
                if spent && market.shops[paid].0.is_at_other_terms(&market.shops[other].0) {
                    // The same thing at another price: it is known as used, and not asked to be paid again.
                    assert_eq!(answer.status, 403, "{names:?}: {answer:?}");
                } else {
                    assert!(matches!(answer.status.as_u16(), 400 | 402), "{names:?}: {answer:?}");
                }
                assert_eq!(market.settlements(), before, "{names:?}");
            }
            let before = market.settlements();
            let answer = market.present(paid, &credential).await;
            assert_eq!(answer.status, if spent { 403 } else { 200 }, "{}", market.shops[paid].0.name);
            assert_eq!(market.settlements(), before + usize::from(!spent));
        }
    }
}

/// Takes each parameter from one of two challenges; bit by bit.
fn mixed(one: &Challenge, two: &Challenge, choice: u32) -> Challenge {
    let mut mixed = one.clone();
    let mut take = |bit: u32, copy: fn(&mut Challenge, &Challenge)| {
        if choice & (1 << bit) != 0 {
            copy(&mut mixed, two);
        }
    };
    take(0, |to, from| to.id.clone_from(&from.id));
    take(1, |to, from| to.realm.clone_from(&from.realm));
    take(2, |to, from| to.method.clone_from(&from.method));
    take(3, |to, from| to.intent.clone_from(&from.intent));
    take(4, |to, from| to.request.clone_from(&from.request));
    take(5, |to, from| to.expires.clone_from(&from.expires));
    take(6, |to, from| to.digest.clone_from(&from.digest));
    take(7, |to, from| to.opaque.clone_from(&from.opaque));
    mixed
}

#[tokio::test]
async fn challenges_cannot_be_put_together_from_parts_of_others() {
    let market = Market::open();
    let own = market.challenge(0).await;
    for other in 1..market.shops.len() {
        // Another second, so that the times of expiry differ.
        market.clock.advance(Duration::from_secs(1));
        let theirs = market.challenge(other).await;
        for choice in 0..=0xff {
            let forged = mixed(&own, &theirs, choice);
            for (at, genuine) in [(0, &own), (other, &theirs)] {
                if forged != *genuine {
                    let answer = market.present(at, &pay(&forged)).await;
                    assert!(matches!(answer.status.as_u16(), 400 | 402), "{choice:b} {}", market.shops[other].0.name);
                }
            }
        }
        assert_eq!(market.settlements(), other - 1);
        assert_eq!(market.present(other, &pay(&theirs)).await.status, 200);
    }
    assert_eq!(market.present(0, &pay(&own)).await.status, 200);
}

#[tokio::test]
async fn of_two_offers_of_one_price_each_is_paid_on_its_own_rail() {
    let (alpha, beta) = (TestRail::new("alpha"), TestRail::new("beta"));
    let merchant = support::builder(&alpha).method(beta.clone()).build().unwrap();
    let shop = merchant.charge(Price::usd("1.00").unwrap()).unwrap().layer(served());
    let offers = challenges(&call(&shop, support::get("/")).await.headers);
    assert_eq!(offers[0].request, offers[1].request);
    for choice in 0..=0xff {
        let forged = mixed(&offers[0], &offers[1], choice);
        if !offers.contains(&forged) {
            assert_eq!(call(&shop, support::get_paid("/", &pay(&forged))).await.status, 402, "{choice:b}");
        }
    }
    assert_eq!((alpha.settlements(), beta.settlements()), (0, 0));
    assert_eq!(call(&shop, support::get_paid("/", &pay(&offers[1]))).await.status, 200);
    assert_eq!((alpha.settlements(), beta.settlements()), (0, 1));
    assert_eq!(beta.settlements_of(id_of(&offers[1])), 1);
    // The other offer of the same answer is another challenge.
    assert_eq!(call(&shop, support::get_paid("/", &pay(&offers[0]))).await.status, 200);
    assert_eq!((alpha.settlements(), beta.settlements()), (1, 1));
}

#[tokio::test]
async fn nested_routers_and_parameters_are_different_things() {
    let rail = TestRail::new("demo");
    let merchant = support::merchant(&rail);
    // One and the same router and layer, mounted everywhere.
    let charge = merchant.charge(Price::usd("1.00").unwrap()).unwrap();
    let shelf = Router::new()
        .route("/x", get(|| async { "x" }).route_layer(charge.clone()))
        .route("/customers/{id}", get(|| async { "customer" }).route_layer(charge.clone()))
        .route("/files/{*path}", get(|| async { "file" }).route_layer(charge.clone()));
    let app = Router::new()
        .nest("/a", shelf.clone())
        .nest("/b", shelf.clone().nest("/c", shelf.clone()))
        .nest("/t/{tenant}", shelf.clone())
        .nest_service("/service", shelf.clone())
        .nest("/whole", Router::new().route("/x", get(|| async { "x" })).layer(charge))
        .merge(shelf);
    let paths = [
        "/x",
        "/a/x",
        "/b/x",
        "/b/c/x",
        "/t/one/x",
        "/t/two/x",
        "/service/x",
        "/whole/x",
        "/customers/1",
        "/customers/2",
        "/a/customers/1",
        "/b/customers/1",
        "/service/customers/1",
        "/files/x",
        "/files/a/x",
        "/a/files/x",
    ];
    let request = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    for paid in paths {
        let credential = pay(&ask(&app, request(paid)).await);
        let before = rail.settlements();
        for other in paths.iter().filter(|other| **other != paid) {
            let answer = call(&app, with_credential(request(other), &credential)).await;
            assert_eq!(answer.status, 402, "{paid} bought {other}");
        }
        assert_eq!(rail.settlements(), before);
        assert_eq!(call(&app, with_credential(request(paid), &credential)).await.status, 200, "{paid}");
    }
}

#[tokio::test]
async fn a_retired_key_buys_as_long_as_it_is_on_the_ring() {
    let rail = TestRail::new("demo");
    let store = Arc::new(MemoryNonceStore::single_process(1000));
    let shop = |keys: KeyRing| {
        let merchant = Merchant::builder("api.example.com", keys).method(rail.clone()).nonce_store(store.clone());
        merchant.build().unwrap().charge(Price::usd("1.00").unwrap()).unwrap().layer(served())
    };
    let old = shop(KeyRing::new(KEY).unwrap());
    let rotated = shop(KeyRing::new(OTHER_KEY).unwrap().previous(KEY).unwrap());
    let new = shop(KeyRing::new(OTHER_KEY).unwrap());
    let present = async |shop, credential| call(shop, support::get_paid("/", credential)).await.status.as_u16();

    let by_old = pay(&ask(&old, support::get("/")).await);
    assert_eq!(present(&new, &by_old).await, 402);
    assert_eq!(present(&rotated, &by_old).await, 200);
    // Once, whichever key it is checked with.
    assert_eq!(present(&old, &by_old).await, 403);
    // What is issued now is issued with the new key.
    let by_rotated = pay(&ask(&rotated, support::get("/")).await);
    assert_eq!(present(&old, &by_rotated).await, 402);
    assert_eq!(present(&new, &by_rotated).await, 200);
    assert_eq!(rail.settlements(), 2);
}

#[tokio::test]
async fn what_is_shown_and_not_bound_may_change() {
    let rail = TestRail::new("demo");
    let shop = support::merchant(&rail).charge(Price::usd("1.00").unwrap()).unwrap().layer(served());
    let mut challenge = ask(&shop, support::get("/?a=1")).await;
    challenge.description = Some("something else".into());
    assert_eq!(call(&shop, support::get_paid("/?a=2", &pay(&challenge))).await.status, 200);
}
