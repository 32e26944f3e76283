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

/// What the presets know about their providers reaches the signed receipt.
#[tokio::test]
async fn a_call_of_a_preset_is_told_in_its_receipt() {
    use tower_mpp::{
        receipt::{Ed25519Signer, Receipts},
        store::MemoryReceiptStore,
    };
    const CHAT: &str = r#"{"model":"gpt-x","usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}"#;
    const MESSAGE: &str = r#"{"model":"claude-x","type":"message","usage":{"input_tokens":5,"output_tokens":3}}"#;
    let serve = |body: &'static str| async move {
        let router =
            axum::Router::new().fallback(move || async move { ([("content-type", "application/json")], body) });
        format!("http://{}", crate::support::Server::start(router).await.address)
    };
    let signer = Ed25519Signer::from_seed("shop", &[7; 32]).unwrap();
    let receipts = Receipts::builder("https://r.example", signer).store(MemoryReceiptStore::new(10)).build().unwrap();
    let merchant = merchant_of(&Acme::new()).receipts(receipts.clone()).build().unwrap();
    let proxy = tower_mpp::proxy::Proxy::builder(merchant)
        .service(presets::openai("k").base_url(serve(CHAT).await).route(presets::OpenAi::ChatCompletions, paid("0.01")))
        .service(
            presets::anthropic("k").base_url(serve(MESSAGE).await).route(presets::Anthropic::Messages, paid("0.01")),
        )
        .build()
        .unwrap();
    for (path, provider, model, input, output) in [
        ("/openai/v1/chat/completions", "openai", "gpt-x", 11, 7),
        ("/anthropic/v1/messages", "anthropic", "claude-x", 5, 3),
    ] {
        let (answer, _) = buy(&proxy, Method::POST, path, "{}").await;
        let url = answer.receipt().extra["receiptUrl"].as_str().unwrap().to_owned();
        let id = url.rsplit('/').next().unwrap().parse().unwrap();
        let row = receipts.store().get(id).await.unwrap().unwrap();
        let receipt: Value = serde_json::from_str(&row.full).unwrap();
        assert_eq!((&receipt["provider"], &receipt["model_id"]), (&json!(provider), &json!(model)), "{receipt}");
        assert_eq!((&receipt["input_tokens"], &receipt["output_tokens"]), (&json!(input), &json!(output)), "{receipt}");
        assert_eq!(receipt["provider_status"], 200);
    }
}
