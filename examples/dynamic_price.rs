//! Prices that depend on the request. Run `cargo run --example dynamic_price`, then ask without paying:
//!
//! ```text
//! curl -i 'http://127.0.0.1:3000/search?deep=true'                            402, 0.20 USD instead of 0.05
//! curl -i http://127.0.0.1:3000/chat -d '{"model":"coding"}'                  402, 1.50 USD, for this body only
//! curl -i http://127.0.0.1:3000/chat -d '{"model":"none"}'                    400, and no challenge
//! curl -i http://127.0.0.1:3000/convert/eur                                   402, by today's rate
//! curl -i http://127.0.0.1:3000/report                                        402 with two offers
//! curl -i http://127.0.0.1:3000/report -H 'x-api-key: subscriber'             200
//! ```
//!
//! and pay with `cargo run --example agent -- URL`. Whatever a price depends on is looked at again, on
//! this side, when the credential comes: the client cannot choose it.

use std::{collections::HashMap, error::Error};

use axum::{
    Router,
    extract::{Query, Request},
    middleware::{Next, from_fn},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::request::Parts;
use serde::Deserialize;
use tower_mpp::{
    KeyRing, Merchant, Price,
    method::Sandbox,
    pricing::{Prices, Refused, with_async, with_body},
    protocol::{Amount, Currency, InvalidPrice, MethodId},
    store::MemoryNonceStore,
};

/// By the head of the request. The query is read as the handler reads it: with a parser of its own the
/// price could be for one thing and the answer another.
fn search_price() -> Result<impl Fn(&Parts) -> Result<Price, Refused>, InvalidPrice> {
    #[derive(Deserialize)]
    struct Search {
        #[serde(default)]
        deep: bool,
    }
    let (quick, deep) = (Price::usd("0.05")?, Price::usd("0.20")?);
    Ok(move |head: &Parts| match Query::<Search>::try_from_uri(&head.uri) {
        Ok(Query(search)) => Ok(if search.deep { deep.clone() } else { quick.clone() }),
        Err(_) => Err(Refused::bad_request("The query must be ?deep=true, or nothing.")),
    })
}

/// By the body. The closure returns a price, or says why there is none: a client that made a mistake is
/// told before it is asked for money.
fn chat_price() -> Result<impl Fn(&Parts, &Bytes) -> Result<Price, Refused>, InvalidPrice> {
    #[derive(Deserialize)]
    struct Chat {
        model: String,
    }
    let models = HashMap::from([("fast", Price::usd("0.50")?), ("coding", Price::usd("1.50")?)]);
    Ok(move |_: &Parts, body: &Bytes| {
        let chat: Chat = serde_json::from_slice(body)
            .map_err(|_| Refused::bad_request(r#"The body must be JSON with a "model"."#))?;
        models.get(chat.model.as_str()).cloned().ok_or_else(|| Refused::bad_request("There is no such model."))
    })
}

/// By something that has to be looked up. The look-up should be quick, and give the same answer for as
/// long as a challenge lives: a price that has changed when the credential comes is a new challenge.
async fn convert_price(path: String) -> Result<Price, Refused> {
    let code = path.trim_start_matches("/convert/").to_owned();
    let cents = daily_rate(&code).await.ok_or_else(|| Refused::bad_request("We do not trade this currency."))?;
    let currency = Currency::new(code).map_err(|_| Refused::bad_request("This is no currency."))?;
    Ok(Price::minor(currency, Amount::new(cents), 2))
}

/// Stands for a rate service.
async fn daily_rate(code: &str) -> Option<u128> {
    tokio::task::yield_now().await;
    HashMap::from([("usd", 100), ("eur", 92)]).get(code).copied()
}

/// By rail: a price for all of them, and another for one of them, here in two currencies.
fn report_price() -> Result<Prices, InvalidPrice> {
    Ok(Prices::all(Price::usd("5.00")?)
        .on(MethodId::SANDBOX, Price::usd("4.50")?)
        .on(MethodId::SANDBOX, Price::fiat("eur", "4.10")?))
}

/// Somebody who has paid in another way. Only a layer of this program can put that into the extensions
/// of a request; a header alone would let everybody in.
#[derive(Clone)]
struct Subscriber;

async fn authenticate(mut request: Request, next: Next) -> Response {
    if request.headers().get("x-api-key").is_some_and(|key| key == "subscriber") {
        request.extensions_mut().insert(Subscriber);
    }
    next.run(request).await
}

fn app() -> Result<Router, Box<dyn Error>> {
    let merchant = Merchant::builder("localhost", KeyRing::new("replace this by 32 random bytes!")?)
        .test_mode(true)
        .method(Sandbox::new())
        .nonce_store(MemoryNonceStore::single_process(100_000))
        .build()?;
    // The query is part of what is bought here, and so of what the challenge binds.
    let search = merchant.charge(search_price()?)?.bind_query(true).description("A search");
    let chat = merchant.charge(with_body(chat_price()?))?.description("A model call");
    let convert = merchant.charge(with_async(|head, _| convert_price(head.uri.path().to_owned())))?;
    let report = merchant
        .charge(report_price()?)?
        .free_when(|head| head.extensions.get::<Subscriber>().is_some())
        .description("The yearly report");
    Ok(Router::new()
        .route("/search", get(|| async { "Found.\n" }).route_layer(search))
        .route("/chat", post(|| async { "Hello!\n" }).route_layer(chat))
        .route("/convert/{currency}", get(|| async { "Converted.\n" }).route_layer(convert))
        // The layer that is added last is the outer one.
        .route("/report", get(|| async { "The report.\n" }).route_layer(report).route_layer(from_fn(authenticate))))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app()?).await?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use axum::body::Body;
    use http::{HeaderMap, StatusCode};
    use serde_json::Value;
    use tower::ServiceExt as _;
    use tower_mpp::{
        method::SandboxKey,
        protocol::{Challenge, authorization},
    };

    use super::*;

    async fn ask(app: &Router, request: http::Request<Body>) -> (StatusCode, Vec<Challenge>) {
        let answer = app.clone().oneshot(request).await.unwrap();
        (answer.status(), Challenge::parse_all(answer.headers().get_all("www-authenticate")).unwrap())
    }

    fn get(target: &str) -> http::Request<Body> {
        http::Request::get(target).body(Body::empty()).unwrap()
    }

    fn chat(body: &'static str) -> http::Request<Body> {
        http::Request::post("/chat").body(Body::from(body)).unwrap()
    }

    async fn prices(request: http::Request<Body>) -> Vec<(String, String)> {
        let (status, challenges) = ask(&app().unwrap(), request).await;
        assert_eq!(status, 402);
        let price = |challenge: &Challenge| {
            let request: Value = challenge.request_as().unwrap();
            (request["amount"].as_str().unwrap().to_owned(), request["currency"].as_str().unwrap().to_owned())
        };
        challenges.iter().map(price).collect()
    }

    fn price(amount: &str, currency: &str) -> (String, String) {
        (amount.to_owned(), currency.to_owned())
    }

    #[tokio::test]
    async fn a_price_may_depend_on_anything() {
        assert_eq!(prices(get("/search")).await, [price("5", "usd")]);
        assert_eq!(prices(get("/search?deep=true")).await, [price("20", "usd")]);
        assert_eq!(prices(chat(r#"{"model":"fast"}"#)).await, [price("50", "usd")]);
        assert_eq!(prices(chat(r#"{"model":"coding"}"#)).await, [price("150", "usd")]);
        assert_eq!(prices(get("/convert/eur")).await, [price("92", "eur")]);
        assert_eq!(prices(get("/report")).await, [price("450", "usd"), price("410", "eur")]);
    }

    #[tokio::test]
    async fn a_mistake_is_told_before_money_is_asked_for() {
        let app = app().unwrap();
        for request in [chat("{"), chat("{}"), chat(r#"{"model":"none"}"#), get("/convert/xyz"), get("/search?deep=x")]
        {
            let (status, challenges) = ask(&app, request).await;
            assert_eq!((status, challenges.len()), (StatusCode::BAD_REQUEST, 0));
        }
    }

    #[tokio::test]
    async fn a_payment_for_the_cheap_thing_does_not_buy_the_dear_one() {
        let app = app().unwrap();
        for (cheap, dear) in
            [(get("/search"), get("/search?deep=true")), (chat(r#"{"model":"fast"}"#), chat(r#"{"model":"coding"}"#))]
        {
            let challenge = ask(&app, cheap).await.1.remove(0);
            let key = SandboxKey::generate();
            let credential = authorization(&challenge, Some(&key.did()), &key.payload(&challenge.id)).unwrap();
            let (mut head, body) = dear.into_parts();
            head.headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, credential)]);
            assert_eq!(ask(&app, http::Request::from_parts(head, body)).await.0, 402);
        }
    }

    #[tokio::test]
    async fn a_subscriber_is_let_in() {
        let request = http::Request::get("/report").header("x-api-key", "subscriber").body(Body::empty());
        assert_eq!(ask(&app().unwrap(), request.unwrap()).await.0, 200);
    }
}
