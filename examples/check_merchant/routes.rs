//! The routes, and what a request can ask of them in its query:
//!
//! | query | on | what it does |
//! |---|---|---|
//! | `ms=N` | paid routes | the handler sleeps; on `/stream` a pause before each event |
//! | `fail=STATUS` | paid routes | the handler answers that status, 200 to 599 |
//! | `settle_ms=N` | paid routes | settling on the `demo` rail takes that long |
//! | `n=N` | `/stream` | how many events, 3 by default |
//! | `route=NAME` | `/runs` | whose runs, by its name in [`NAMES`]; `/paid` by default |
//!
//! The query is no part of what is bought. One that cannot be read is answered 400 before any challenge.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    extract::{MatchedPath, Query, Request, State},
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response, Sse, sse::Event},
    routing::{MethodFilter, MethodRouter, get, on, post},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Deserializer, Serialize};
use tower_mpp::{
    Merchant, PaymentInfo, PaymentLayer, Price,
    ledger::Ledger,
    method::{PaymentContext, PaymentMethod as _},
    pricing::{self, Prices, Refused},
    protocol::MethodId,
    receipt::{Attribution, Receipts},
};

use crate::demo::{Demo, SettleDelay};

/// The routes whose handlers are counted. Those at the end come with their rails.
const NAMES: [&str; 10] =
    ["/free", "/stripe", "/demo", "/demo2", "/items/{id}", "/body", "/compose", "/stream", "/zero", "/paid"];

/// What the handlers share.
#[derive(Clone)]
struct Shop {
    demo: Arc<Demo>,
    runs: Arc<BTreeMap<&'static str, AtomicU64>>,
}

pub(crate) fn app(merchant: &Merchant, demo: Arc<Demo>, receipts: Option<Receipts>) -> Result<Router, Box<dyn Error>> {
    let on_demo = |usd| Price::usd(usd).map(|price| Prices::only(demo.method().clone(), price));
    let (cheap, dear) = (on_demo("0.50")?, on_demo("1.50")?);
    let by_model = pricing::with_body(move |_, body| match model(body).as_deref() {
        Some("fast") => Ok(cheap.clone()),
        Some("coding") => Ok(dear.clone()),
        _ => Err(Refused::bad_request(r#"The body must be {"model":"fast"} or {"model":"coding"}."#)),
    });
    let dollar = merchant.charge(on_demo("1.00")?)?;
    let half_dollar = Price::usd("0.50")?;

    let any = |charge: PaymentLayer| {
        let methods = [MethodFilter::POST, MethodFilter::PUT, MethodFilter::PATCH, MethodFilter::DELETE];
        // HEAD is served where GET is.
        paid(on(methods.into_iter().fold(MethodFilter::GET, MethodFilter::or), buy), charge)
    };
    let mut router = Router::new()
        .route("/free", get(free))
        .route("/demo", any(dollar.clone()))
        .route("/demo2", any(dollar.clone()))
        .route("/items/{id}", any(dollar.clone()))
        .route("/body", paid(post(buy), merchant.charge(by_model)?))
        .route("/compose", any(merchant.charge(half_dollar.clone())?))
        .route("/stream", paid(get(watch), dollar))
        .route("/runs", get(runs))
        .route("/settlements", get(settlements));
    if merchant.methods().any(|method| *method == MethodId::STRIPE) {
        router = router.route("/stripe", any(merchant.charge(Prices::only(MethodId::STRIPE, half_dollar))?));
    }
    if let Some(receipts) = receipts {
        let keys = receipts.keys_path();
        let ledger = Ledger::new(receipts);
        for path in ["/v1/receipts/{id}", "/r/{id}", keys.as_str()] {
            router = router.route_service(path, ledger.clone());
        }
    }
    let runs = NAMES.into_iter().map(|name| (name, AtomicU64::new(0))).collect();
    Ok(router.with_state(Shop { demo, runs: Arc::new(runs) }))
}

/// Charges on the methods that a route serves, so that others stay 405, and reads the query before that.
fn paid(route: MethodRouter<Shop>, charge: PaymentLayer) -> MethodRouter<Shop> {
    route.route_layer(charge).route_layer(from_fn(steer))
}

/// What a request asks of its handler and of its rail.
#[derive(Clone, Copy, Deserialize)]
struct Wishes {
    #[serde(default)]
    ms: u64,
    #[serde(default)]
    settle_ms: u64,
    #[serde(default = "three")]
    n: u64,
    #[serde(default, deserialize_with = "status")]
    fail: Option<StatusCode>,
}

fn three() -> u64 {
    3
}

/// A status that a handler can answer: no interim one.
fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<StatusCode>, D::Error> {
    let status = u16::deserialize(deserializer)?;
    let status = StatusCode::from_u16(status).ok().filter(|_| (200..600).contains(&status));
    status.map(Some).ok_or_else(|| serde::de::Error::custom("no status from 200 to 599"))
}

async fn steer(Query(wishes): Query<Wishes>, mut request: Request, next: Next) -> Response {
    let delay = SettleDelay(Duration::from_millis(wishes.settle_ms));
    request.extensions_mut().insert(PaymentContext::new(delay));
    request.extensions_mut().insert(wishes);
    next.run(request).await
}

/// The model that a body names, if it names one and nothing else.
fn model(body: &Bytes) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order<'a> {
        #[serde(borrow)]
        model: Cow<'a, str>,
    }
    // An array would be read as an order too.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    serde_json::from_slice(body).ok().filter(|_| is_object).map(|Order { model }| model)
}

/// What every paid route answers.
#[derive(Clone, Serialize)]
struct Bought {
    ok: bool,
    route: String,
    /// The `source` of the credential.
    payer: Option<String>,
    /// New each time the handler runs.
    run: String,
}

impl Shop {
    fn begin(&self, route: &MatchedPath) {
        if let Some(runs) = self.runs.get(route.as_str()) {
            runs.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Bought {
    fn new(route: &MatchedPath, payment: &PaymentInfo) -> Self {
        Self {
            ok: true,
            route: route.as_str().to_owned(),
            payer: payment.payer().map(|payer| payer.id.clone()),
            run: format!("{:032x}", rand::random::<u128>()),
        }
    }

    fn answer(mut self, status: StatusCode) -> Response {
        self.ok = status.is_success();
        (status, Json(self)).into_response()
    }
}

async fn free(State(shop): State<Shop>, route: MatchedPath) -> Json<serde_json::Value> {
    shop.begin(&route);
    Json(serde_json::json!({ "ok": true }))
}

async fn buy(
    State(shop): State<Shop>,
    route: MatchedPath,
    Extension(wishes): Extension<Wishes>,
    payment: PaymentInfo,
) -> Response {
    shop.begin(&route);
    let bought = Bought::new(&route, &payment);
    pause(wishes).await;
    bought.answer(wishes.fail.unwrap_or(StatusCode::OK))
}

/// The events as they come, each with what any paid route answers and its number, then the receipt.
async fn watch(
    State(shop): State<Shop>,
    route: MatchedPath,
    Extension(wishes): Extension<Wishes>,
    attribution: Option<Extension<Attribution>>,
    payment: PaymentInfo,
) -> Response {
    #[derive(Serialize)]
    struct Tick<'a> {
        #[serde(flatten)]
        bought: &'a Bought,
        n: u64,
    }
    shop.begin(&route);
    let bought = Bought::new(&route, &payment);
    if let Some(status) = wishes.fail {
        return bought.answer(status);
    }
    let ticks = stream::iter(1..=wishes.n).then(move |n| {
        let event = Event::default().json_data(Tick { bought: &bought, n });
        async move {
            pause(wishes).await;
            event
        }
    });
    if attribution.is_some() {
        // Where receipts are signed, the layer closes the stream with one.
        return Sse::new(ticks).into_response();
    }
    let receipt = stream::once(async move { Event::default().event("payment-receipt").json_data(payment.receipt()) });
    Sse::new(ticks.chain(receipt)).into_response()
}

async fn pause(wishes: Wishes) {
    if wishes.ms > 0 {
        tokio::time::sleep(Duration::from_millis(wishes.ms)).await;
    }
}

#[derive(Deserialize)]
struct Whose {
    #[serde(default = "paid_route")]
    route: String,
}

fn paid_route() -> String {
    "/paid".to_owned()
}

async fn runs(State(shop): State<Shop>, Query(whose): Query<Whose>) -> Result<Json<u64>, (StatusCode, &'static str)> {
    let runs = shop.runs.get(whose.route.as_str()).ok_or((StatusCode::NOT_FOUND, "There is no such route.\n"))?;
    Ok(Json(runs.load(Ordering::SeqCst)))
}

async fn settlements(State(shop): State<Shop>) -> Json<u64> {
    Json(shop.demo.settlements())
}
