//! What discovery is generated from cannot disagree with what is charged.

use http::{Method, request::Parts};
use serde_json::{Value, json};
use tower_mpp::{
    discovery::{Payment, Terms},
    proxy::{EndpointOptions, Route, presets},
};

use crate::shop::*;

fn offers(payment: &Payment) -> Vec<Value> {
    let Payment::Offers(offers) = payment else { panic!("{payment:?}") };
    offers.iter().map(|terms: &Terms| serde_json::to_value(terms).unwrap()).collect()
}

#[tokio::test]
async fn it_lists_what_is_mounted_at_the_price_of_the_challenge() {
    let (echo, rail) = (Echo::start().await, Acme::new());
    let by_head = |head: &Parts| if head.uri.query().is_some() { usd("0.02") } else { usd("0.01") };
    let service = echo
        .service("api")
        .title("API")
        .description("An API")
        .docs_llms_url("https://docs.example.com/llms.txt")
        .route(
            "POST /v1/items/:id",
            Route::paid_with(usd("1.50"), EndpointOptions::new().bearer("x"))
                .description("One item")
                .request_schema(json!({"type": "object"}))
                .response_schema(json!({"type": "array"})),
        )
        .route("/any", paid("0.01"))
        .route("GET /free/*", Route::free().description("For nothing"))
        .route("GET /dynamic", Route::paid(by_head).description("By length"));
    let proxy = proxy_of(&rail)
        .title("My proxy")
        .description("Sells things")
        .version("2.0.0")
        .categories(["data", "compute"])
        .base_path("/shop")
        .service(service)
        .build()
        .unwrap();
    let catalog = proxy.catalog();
    assert_eq!(catalog.title.as_deref(), Some("My proxy"));
    assert_eq!(catalog.description.as_deref(), Some("Sells things"));
    assert_eq!((catalog.version.as_deref(), catalog.base_path.as_str()), (Some("2.0.0"), "/shop"));
    assert_eq!(catalog.categories, ["data", "compute"]);
    let listed = &catalog.services[0];
    assert_eq!((listed.id.as_str(), listed.title.as_deref()), ("api", Some("API")));
    assert_eq!(listed.docs_llms_url.as_deref(), Some("https://docs.example.com/llms.txt"));
    let [item, any, free, dynamic] = &listed.routes[..] else { panic!("{listed:?}") };
    assert_eq!((item.method.clone(), item.path.as_str()), (Some(Method::POST), "/api/v1/items/:id"));
    assert_eq!(item.request_schema, Some(json!({"type": "object"})));
    assert_eq!(item.response_schema, Some(json!({"type": "array"})));
    assert_eq!((any.method.clone(), any.path.as_str(), &any.docs_llms_url), (None, "/api/any", &None));
    assert_eq!((free.path.as_str(), &free.payment), ("/api/free/*", &Payment::Free));
    assert_eq!(free.description.as_deref(), Some("For nothing"));
    assert_eq!(
        offers(&dynamic.payment),
        [json!({"intent": "charge", "method": "acme", "amount": null, "description": "By length"})]
    );
    // What the challenge asks for is what is listed.
    for (method, path, route) in [(Method::POST, "/shop/api/v1/items/1", item), (Method::PUT, "/shop/api/any", any)] {
        let challenge = ask(&proxy, method, path, "").await;
        let asked: Value = challenge.request_as().unwrap();
        let offer = &offers(&route.payment)[0];
        for name in ["amount", "currency", "recipient"] {
            assert_eq!(asked[name], offer[name], "{path}: {name}");
        }
        assert_eq!(challenge.method.as_str(), offer["method"]);
        assert_eq!(challenge.description.as_deref(), offer["description"].as_str());
    }
}

#[test]
fn every_route_of_the_presets_has_a_key_that_is_taken() {
    use presets::{Anthropic, OpenAi, Stripe};
    let mut openai = presets::openai("k");
    let mut anthropic = presets::anthropic("k");
    let mut stripe = presets::stripe("k");
    for route in OpenAi::ALL {
        openai = openai.route(*route, paid("0.50"));
    }
    for route in Anthropic::ALL {
        anthropic = anthropic.route(*route, paid("0.50"));
    }
    for route in Stripe::ALL {
        stripe = stripe.route(*route, paid("0.50"));
    }
    let proxy = proxy_of(&Acme::new()).service(openai).service(anthropic).service(stripe).build().unwrap();
    let keys: Vec<_> = proxy.catalog().services.iter().map(|service| service.routes.len()).collect();
    assert_eq!(keys, [8, 5, 9]);
    let docs = |service: usize, route: usize| proxy.catalog().services[service].routes[route].docs_llms_url.clone();
    assert_eq!(
        docs(0, 0).as_deref(),
        Some("https://context7.com/websites/platform_openai/llms.txt?topic=POST%20%2Fv1%2Fchat%2Fcompletions")
    );
    assert_eq!(docs(1, 0), None);
    assert_eq!(
        docs(2, 2).as_deref(),
        Some("https://context7.com/websites/stripe/llms.txt?topic=GET%20%2Fv1%2Fcustomers%2F%3Aid")
    );
}
