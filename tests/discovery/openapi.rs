//! `/openapi.json`: what an agent finds in it, and how paths become OpenAPI paths.

use http::Method;
use serde_json::{Value, json};
use tower_mpp::discovery::{Catalog, Discovery, Payment, Route, Service};

use crate::{get, header, shop, support};

async fn document(catalog: &Catalog) -> Value {
    let answer = get(&Discovery::new(catalog).unwrap(), &format!("{}/openapi.json", catalog.base_path)).await;
    assert_eq!(header(&answer, "content-type"), Some("application/json"));
    serde_json::from_slice(&answer.body).unwrap()
}

fn routes(routes: impl IntoIterator<Item = Route>) -> Catalog {
    Catalog::new().service(routes.into_iter().fold(Service::new("a"), Service::route))
}

/// Sorted: whether JSON objects keep their order in tests is up to other crates.
fn names(value: &Value) -> Vec<&String> {
    let mut names: Vec<_> = value.as_object().unwrap().keys().collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_paid_operation_says_what_it_costs_and_that_it_answers_402() {
    let document = document(&shop::live()).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["title"], "My Proxy");
    assert_eq!(document["info"]["version"], "1.0.0");
    assert_eq!(document["x-service-info"], json!({"docs": {"llms": "/llms.txt"}}));
    let chat = &document["paths"]["/openai/v1/chat/completions"]["post"];
    assert_eq!(
        chat["x-payment-info"],
        json!({"offers": [
            {"intent": "charge", "method": "acme", "amount": "50", "currency": "usd", "description": "Chat completion"}
        ]})
    );
    assert_eq!(names(&chat["responses"]), ["200", "400", "402", "default"]);
    let required = &chat["responses"]["402"];
    assert_eq!(required["headers"]["WWW-Authenticate"]["$ref"], "#/components/headers/PaymentChallenge");
    assert_eq!(required["content"]["application/problem+json"]["schema"]["$ref"], "#/components/schemas/Problem");
    for reference in ["/components/headers/PaymentChallenge", "/components/headers/PaymentReceipt"] {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    let free = &document["paths"]["/openai/v1/models"]["get"];
    assert_eq!(free.get("x-payment-info"), None);
    assert_eq!(names(&free["responses"]), ["200", "default"]);
}

#[tokio::test]
async fn parameters_are_templates_and_declared() {
    let document = document(&shop::live()).await;
    let path = &document["paths"]["/stripe/v1/customers/{id}"];
    assert_eq!(
        path["parameters"],
        json!([{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}])
    );
    assert_eq!(names(&document["paths"]).iter().filter(|path| path.contains(':')).count(), 0);
}

#[tokio::test]
async fn paths_that_differ_in_the_names_of_parameters_are_one() {
    let document = document(&routes([
        Route::new(Method::GET, "/a/:id").description("first"),
        Route::new(Method::GET, "/a/:name").description("never reached"),
        Route::new(Method::DELETE, "/a/{other}"),
        Route::new(None, "/a/*"),
    ]))
    .await;
    assert_eq!(names(&document["paths"]), ["/a/{id}"]);
    let path = &document["paths"]["/a/{id}"];
    assert_eq!(path["get"]["summary"], "first");
    assert_eq!(names(path), ["delete", "get", "parameters", "patch", "post", "put"]);
}

#[tokio::test]
async fn every_operation_has_an_id_of_its_own() {
    let document = document(&routes([
        Route::new(Method::GET, "/a/b"),
        Route::new(Method::GET, "/a-b"),
        Route::new(Method::GET, "/a/:b"),
        Route::new(Method::from_bytes(b"PURGE").unwrap(), "/a/b"),
    ]))
    .await;
    let ids = ["/a/b", "/a-b", "/a/{b}"].map(|path| document["paths"][path]["get"]["operationId"].clone());
    assert_eq!(ids, ["get_a_b", "get_a_b_2", "get_a_b_3"]);
    assert_eq!(names(&document["paths"]["/a/b"]), ["get"]);
}

#[tokio::test]
async fn schemas_and_links_are_where_openapi_has_them() {
    let schema = json!({"type": "object", "required": ["model"]});
    let mut catalog = routes([Route::new(Method::POST, "/v1/messages")
        .request_schema(schema.clone())
        .response_schema(json!(true))
        .docs_llms_url("https://example.com/llms.txt")])
    .base_path("/api");
    catalog.origin = Some("https://api.example.com".into());
    catalog.version = Some("2".into());
    catalog.categories = vec!["compute".into()];
    catalog.homepage = Some("https://example.com".into());
    catalog.guidance = Some("Ask for a quote first.".into());
    let document = document(&catalog).await;
    assert_eq!(document["servers"], json!([{"url": "https://api.example.com/api"}]));
    assert_eq!(
        document["x-service-info"],
        json!({"categories": ["compute"], "docs": {
            "homepage": "https://example.com", "llms": "https://api.example.com/api/llms.txt"
        }})
    );
    assert_eq!(document["info"], json!({"title": "API Proxy", "version": "2", "x-guidance": "Ask for a quote first."}));
    let operation = &document["paths"]["/v1/messages"]["post"];
    let content = json!({"application/json": {"schema": schema}});
    assert_eq!(operation["requestBody"], json!({"required": true, "content": content}));
    assert_eq!(operation["responses"]["200"]["content"], json!({"application/json": {"schema": true}}));
    assert_eq!(operation["externalDocs"]["url"], "https://example.com/llms.txt");
}

#[tokio::test]
async fn a_price_that_depends_on_the_request_is_null_and_one_that_nobody_knows_is_left_out() {
    let merchant = support::merchant(&support::TestRail::new("demo"));
    let document = document(&routes([
        Route::new(Method::GET, "/dynamic").payment(Payment::dynamic(&merchant, Some("By length"))),
        Route::new(Method::GET, "/unknown").payment(Payment::Offers(Vec::new())),
    ]))
    .await;
    let paths = &document["paths"];
    assert_eq!(
        paths["/dynamic"]["get"]["x-payment-info"]["offers"],
        json!([{"intent": "charge", "method": "demo", "amount": null, "description": "By length"}])
    );
    // A list of no offers would be invalid, so that only the 402 says it.
    assert_eq!(paths["/unknown"]["get"].get("x-payment-info"), None);
    assert_eq!(paths["/unknown"]["get"]["responses"]["402"]["description"], "Payment Required");
}
