//! No document disagrees with the challenges.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tower::Layer as _;
use tower_mpp::{
    Merchant, Price,
    discovery::{
        Catalog, Discovery, Payment, Route, Service,
        well_known::{Config, Facts, WellKnown, model_options},
    },
    pricing::{ModelOption, ModelOptions, Prices},
    protocol::{Amount, Currency, MethodId},
    store::MemoryNonceStore,
};

use crate::{
    get,
    rail::Rail,
    support::{self, call, challenges, served},
    text,
    well_known::{prxy, seed_time},
};

const TOKEN: &str = "0x20c0000000000000000000000000000000000001";

/// Three rails: a card with a minimum, a token with other decimals, and one that is told its own price.
fn merchant() -> Merchant {
    Merchant::builder("127.0.0.1", tower_mpp::KeyRing::new(support::KEY).unwrap())
        .method(Rail::new("card", "charge").least(50))
        .method(Rail::new("token", "charge").token(TOKEN).recipient("0xpayee"))
        .method(Rail::new("bank", "charge").recipient("acct_1"))
        .nonce_store(MemoryNonceStore::single_process(100))
        .build()
        .unwrap()
}

fn prices() -> [Prices; 3] {
    let bank = MethodId::new("bank").unwrap();
    let yen = Price::minor(Currency::new("jpy").unwrap(), Amount::new(75), 0);
    [
        Price::usd("0.50").unwrap().into(),
        Price::usd("0.10").unwrap().into(),
        Prices::all(Price::usd("1.00").unwrap()).on(bank, yen),
    ]
}

/// What a 402 asks for: method, intent, amount, currency, recipient.
async fn asked(merchant: &Merchant, prices: Prices) -> Vec<[Value; 5]> {
    let paid = merchant.charge(prices).unwrap().layer(served());
    let answer = call(&paid, support::get("/paid")).await;
    assert_eq!(answer.status, StatusCode::PAYMENT_REQUIRED);
    let each = challenges(&answer.headers).into_iter().map(|challenge| {
        let request: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&challenge.request).unwrap()).unwrap();
        let [amount, currency, recipient] = ["amount", "currency", "recipient"].map(|name| request[name].clone());
        [json!(challenge.method.as_str()), json!(challenge.intent.as_str()), amount, currency, recipient]
    });
    each.collect()
}

fn offered(offers: &Value, recipient: bool) -> Vec<[Value; 5]> {
    let of = |offer: &Value| {
        let [method, intent, amount, currency] =
            ["method", "intent", "amount", "currency"].map(|name| offer[name].clone());
        [method, intent, amount, currency, if recipient { offer["recipient"].clone() } else { Value::Null }]
    };
    offers.as_array().unwrap().iter().map(of).collect()
}

#[tokio::test]
async fn every_document_offers_what_a_challenge_asks() {
    let merchant = merchant();
    for prices in prices() {
        let asked = asked(&merchant, prices.clone()).await;
        assert!(asked.len() >= 2, "{asked:?}");
        let route = Route::new(Method::POST, "/shop/buy").payment(Payment::priced(&merchant, prices.clone(), None));
        let catalog = Catalog::new().service(Service::new("shop").route(route));
        let facts = Facts::of(&merchant).sold(Method::POST, "/shop/buy", prices);
        let well_known = WellKnown::new(&Config::default(), &[], &facts).unwrap();
        let discovery = Discovery::new(&catalog).unwrap().well_known(well_known);

        let json: Value = serde_json::from_slice(&get(&discovery, "/discover").await.body).unwrap();
        let route = &json[0]["routes"][0];
        assert_eq!(offered(&route["offers"], true), asked);
        assert_eq!(route["payment"], route["offers"][0]);

        let well_known: Value = serde_json::from_slice(&get(&discovery, "/.well-known/mpp").await.body).unwrap();
        assert_eq!(offered(&well_known["offers"], true), asked);

        let without_recipient: Vec<_> = asked
            .iter()
            .map(|[method, intent, amount, currency, _]| {
                [method.clone(), intent.clone(), amount.clone(), currency.clone(), Value::Null]
            })
            .collect();
        let openapi: Value = serde_json::from_slice(&get(&discovery, "/openapi.json").await.body).unwrap();
        let info = &openapi["paths"]["/shop/buy"]["post"]["x-payment-info"];
        assert_eq!(offered(&info["offers"], false), without_recipient);

        let markdown = get(&discovery, "/discover/shop.md").await;
        for [_, _, amount, currency, _] in &asked {
            let (amount, currency) = (amount.as_str().unwrap(), currency.as_str().unwrap());
            assert!(text(&markdown).contains(amount), "{}", text(&markdown));
            assert!(text(&markdown).contains(currency), "{}", text(&markdown));
        }
    }
}

#[tokio::test]
async fn each_model_costs_what_its_challenge_asks() {
    let prxy = prxy();
    let merchant = Merchant::builder("127.0.0.1", tower_mpp::KeyRing::new(support::KEY).unwrap())
        .method(Rail::new("stripe", "charge").least(50))
        .nonce_store(MemoryNonceStore::single_process(100))
        .build()
        .unwrap();
    let models = model_options(&prxy.models).unwrap();
    let facts = Facts::of(&merchant).models(models.clone()).sold_by_model(Method::POST, "/v1/agent/messages");
    let document = WellKnown::new(&prxy.well_known, &prxy.models, &facts).unwrap().document(seed_time()).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    let paid = merchant.charge(models.clone()).unwrap().layer(served());
    for (at, id) in ["fast", "balanced", "coding"].into_iter().enumerate() {
        let option = &document["mpp_model_options"][at];
        assert_eq!(option["id"], id);
        let body: &'static str = Box::leak(json!({"model": option["model"]}).to_string().into_boxed_str());
        let answer = call(&paid, support::request(Method::POST, "/v1/agent/messages", body)).await;
        let request = challenges(&answer.headers).remove(0).request;
        let request: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(request).unwrap()).unwrap();
        let cents = Price::usd(option["price_usd"].as_str().unwrap()).unwrap().amount().to_string();
        assert_eq!(request["amount"], cents, "{id}");
    }
    assert_eq!(document["offers"][0]["amount"], "50");

    // One list of offers cannot say which model they are for: the amount is left open, and the text says the range.
    let Payment::Offers(offers) = Payment::by_model(&merchant, &models, Some("One model call")) else { panic!() };
    assert_eq!(offers[0].find("amount"), Some(&Value::Null));
    assert_eq!(offers[0].find("description"), Some(&json!("One model call (0.50 USD to 1.50 USD, by the model)")));
}

#[test]
fn models_in_two_currencies_have_no_currency_in_their_offer() {
    let euro = Price::fiat("eur", "0.50").unwrap();
    let models = [ModelOption::new("a", "x/a", Price::usd("0.50").unwrap()), ModelOption::new("b", "x/b", euro)];
    let models = ModelOptions::new(models).unwrap();
    let Payment::Offers(offers) = Payment::by_model(&merchant(), &models, Some("a 0.50 USD; b 0.50 EUR")) else {
        panic!("free")
    };
    assert_eq!(offers.len(), 3);
    for offer in offers {
        assert_eq!((offer.find("amount"), offer.find("currency")), (Some(&Value::Null), None), "{offer:?}");
    }
}
