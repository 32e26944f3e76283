//! What is read before anybody pays: every price in it is the price of a challenge, every flag is true.

use serde_json::{Value, json};

use super::{ACCOUNT, MESSAGES, MODELS, Provider, Shop, VARIABLES, call, request_of, serve, toml};
use crate::{harness::Gateway, stripe::StripeStandIn, support::Server};

/// Every state in which prices are shown, with the word of it. The keys are live ones.
const STATES: [(&str, &str); 3] = [
    ("", "live"),
    ("state = \"private-preview\"", "private_preview"),
    ("state = \"not-in-production\"", "settlement_pending"),
];

async fn json_of(server: &Server, path: &str) -> Value {
    let document = server.get(path).await;
    assert_eq!((document.status.as_u16(), document.header("content-type")), (200, Some("application/json")), "{path}");
    document.json()
}

#[tokio::test]
async fn both_paths_of_the_discovery_document_are_one() {
    let shop = Shop::start().await;
    let first = shop.server.get("/.well-known/mpp").await;
    let alias = shop.server.get("/.well-known/mpp.json").await;
    assert_eq!((first.status.as_u16(), &first.body), (200, &alias.body));
    assert_eq!(first.header("content-type"), Some("application/json"));
    let head = shop.server.send(http::Method::HEAD, "/.well-known/mpp", &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(shop.server.send(http::Method::POST, "/.well-known/mpp", &[], "").await.status, 405);
}

#[tokio::test]
async fn who_has_the_discovery_document_already_is_not_sent_it_again() {
    let shop = Shop::start().await;
    for path in ["/.well-known/mpp", "/.well-known/mpp.json"] {
        let first = shop.server.get(path).await;
        let etag = first.header("etag").unwrap().to_owned();
        let again = shop.server.send(http::Method::GET, path, &[("if-none-match", &etag)], "").await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
        let head = shop.server.send(http::Method::HEAD, path, &[], "").await;
        assert_eq!(head.header("etag"), Some(etag.as_str()));
        assert_eq!(head.header("content-length"), Some(first.body.len().to_string().as_str()));
    }
}

#[tokio::test]
async fn every_document_has_the_prices_of_the_challenges() {
    for (state, word) in STATES {
        agree(&Shop::with(state, "").await, word).await;
    }
    // Test money.
    let (stripe, provider) = (StripeStandIn::start().await, Provider::start().await);
    let test_key = "[rails.stripe]\nsecret_key_env = \"STRIPE_TEST_KEY\"";
    let toml = toml(&stripe, &provider, "", "rails.test_mode = true").replace("[rails.stripe]", test_key);
    agree(&Shop { server: serve(&toml).await, stripe, provider }, "test_mode").await;
}

/// That all documents of a merchant say the same, and in the same words.
async fn agree(shop: &Shop, word: &str) {
    let document = json_of(&shop.server, "/.well-known/mpp").await;
    let catalog = json_of(&shop.server, "/v1/catalog").await;
    let skill = shop.server.get("/SKILL.md").await;
    for (listed, sold) in
        document["mpp_model_options"].as_array().unwrap().iter().zip(catalog["models"].as_array().unwrap())
    {
        let id = listed["id"].as_str().unwrap();
        assert_eq!(sold["id"], id);
        assert_eq!(sold["status"], listed["status"]);
        if listed["status"] != word {
            assert_eq!(listed["status"], "disabled", "{id}");
            assert_eq!((id, shop.ask(&call(id)).await.status.as_u16()), ("old", 400));
            continue;
        }
        let asked = request_of(&shop.ask(&call(id)).await);
        assert_eq!(sold["price"]["amount"], asked["amount"]);
        assert_eq!((&listed["price_usd"], &sold["price_usd"]), (&sold["price"]["display"], &sold["price"]["display"]));
        let quoted = shop.server.send(http::Method::POST, super::QUOTE, &[], &call(id)).await.json();
        assert_eq!((&quoted["status"], &quoted["model_option"]["status"]), (&json!(word), &json!(word)));
        let row = skill.text().lines().find(|line| line.starts_with(&format!("| `{id}` |"))).unwrap();
        assert!(row.contains(&format!("| {} USD |", sold["price_usd"].as_str().unwrap())), "{row}");
    }
    assert_eq!((&catalog["status"], &document["mpp"]["status"]), (&json!(word), &json!(word)));
    assert_eq!(catalog["routes"][0]["prices"], json!([catalog["models"][0]["price"], catalog["models"][2]["price"]]));
    let offer = &document["offers"][0];
    assert_eq!(
        (&offer["amount"], &offer["route"], &offer["recipient"]),
        (&json!("50"), &json!(MESSAGES), &json!(ACCOUNT))
    );
}

#[tokio::test]
async fn openapi_has_the_prices_of_the_challenges_and_llms_txt_the_routes() {
    let shop = Shop::start().await;
    let openapi = shop.server.get("/openapi.json").await.json();
    let operation = &openapi["paths"][MESSAGES]["post"];
    // Offers are alternatives for one call: the one that there is leaves open what the model decides.
    let offers = operation["x-payment-info"]["offers"].as_array().unwrap();
    let [offer] = &offers[..] else { panic!("{offers:?}") };
    assert_eq!((&offer["amount"], &offer["currency"]), (&Value::Null, &json!("usd")));
    assert_eq!((&offer["method"], &offer["intent"]), (&json!("stripe"), &json!("charge")));
    let said = [
        offer["description"].as_str().unwrap().to_owned(),
        model_of(operation)["description"].as_str().unwrap().to_owned(),
        shop.server.get("/discover/agent.md").await.text().to_owned(),
    ];
    for id in ["fast", "balanced", "coding"] {
        let priced = format!("{id} {}", in_dollars(&request_of(&shop.ask(&call(id)).await)));
        assert!(said.iter().all(|text| text.contains(&priced)), "{priced}: {said:?}");
    }
    assert!(said.iter().all(|text| !text.contains("claude-2")), "one that is not sold: {said:?}");
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["properties"]["model"]["enum"], json!(["fast", "balanced", "coding"]), "{operation}");
    assert_eq!(schema["required"], json!(["max_tokens", "messages"]));
    assert!(operation["responses"]["402"].is_object());
    for (path, method) in [(super::QUOTE, "post"), ("/v1/catalog", "get"), ("/SKILL.md", "get")] {
        let free = &openapi["paths"][path][method];
        assert!(free.is_object() && free.get("x-payment-info").is_none(), "{path}: {free}");
    }
    let llms = shop.server.get("/llms.txt").await;
    assert!(llms.text().contains("agent"), "{}", llms.text());
    assert!(shop.server.get("/discover/all.md").await.text().contains(MESSAGES));
}

fn model_of(operation: &Value) -> &Value {
    &operation["requestBody"]["content"]["application/json"]["schema"]["properties"]["model"]
}

/// `0.50 USD` of a challenge.
fn in_dollars(request: &Value) -> String {
    let cents: u64 = request["amount"].as_str().unwrap().parse().unwrap();
    assert_eq!(request["currency"], "usd");
    format!("{}.{:02} USD", cents / 100, cents % 100)
}

#[tokio::test]
async fn one_price_of_all_models_is_the_amount_of_the_offer() {
    let (stripe, provider) = (StripeStandIn::start().await, Provider::start().await);
    let toml = toml(&stripe, &provider, "", "").replace("price = \"1.50\"", "price = \"0.50\"");
    let shop = Shop { server: serve(&toml).await, stripe, provider };
    let openapi = shop.server.get("/openapi.json").await.json();
    let operation = &openapi["paths"][MESSAGES]["post"];
    let asked = request_of(&shop.ask(&call("coding")).await);
    let offers = operation["x-payment-info"]["offers"].as_array().unwrap();
    assert_eq!((offers.len(), &offers[0]["amount"]), (1, &asked["amount"]), "{offers:?}");
    assert!(model_of(operation)["description"].as_str().unwrap().contains("coding 0.50 USD"));
}

#[tokio::test]
async fn no_default_is_named_where_a_call_without_a_model_is_refused() {
    let (stripe, provider) = (StripeStandIn::start().await, Provider::start().await);
    let toml = toml(&stripe, &provider, "", "").replace("default = true\n", "");
    let shop = Shop { server: serve(&toml).await, stripe, provider };
    assert_eq!(shop.ask(&call("")).await.status, 400);
    let document = json_of(&shop.server, "/.well-known/mpp").await;
    let policy = &document["mpp_model_policy"];
    assert_eq!((&policy["default_option_id"], &policy["default_model"]), (&Value::Null, &Value::Null), "{policy}");
    assert_eq!(policy["provider"], "anthropic");
    let catalog = json_of(&shop.server, "/v1/catalog").await;
    for text in [document.to_string(), catalog.to_string()] {
        assert!(!text.contains("\"default\":true"), "{text}");
    }
    assert_eq!(document["offers"][0]["amount"], "50", "the price where there is room for one");
}

#[tokio::test]
async fn capabilities_are_those_of_the_discovery_document() {
    let shop = Shop::start().await;
    let document = json_of(&shop.server, "/.well-known/mpp").await;
    let capabilities = json_of(&shop.server, "/v1/capabilities").await;
    assert_eq!((&capabilities["capabilities"], &capabilities["mpp"]), (&document["capabilities"], &document["mpp"]));
    // Also where the discovery document is the short one.
    let short = Shop::with("", "[well_known]\nform = \"minimal\"\n").await;
    let document = json_of(&short.server, "/.well-known/mpp").await;
    assert_eq!(document.as_object().unwrap().keys().collect::<Vec<_>>().len(), 3, "{document}");
    assert_eq!(document["routes"][0]["price_usd_per_call"], 0.5);
    assert_eq!(json_of(&short.server, "/v1/capabilities").await["capabilities"]["idempotency"], true);
}

#[tokio::test]
async fn flags_are_true_only_for_what_is_configured() {
    let (stripe, provider) = (StripeStandIn::start().await, Provider::start().await);
    for (more, refunds, ledger) in [
        ("", false, false),
        ("[refunds]\nrefund_if_provider_timeout_before_first_token = true\n", true, false),
        ("[receipts]\nvisibility = \"public_minimal\"\nbase_url = \"http://127.0.0.1:1\"\n", false, true),
    ] {
        let server = serve(&toml(&stripe, &provider, "", more)).await;
        let document = json_of(&server, "/.well-known/mpp").await;
        let capabilities = &document["capabilities"];
        assert_eq!(document["refunds"]["supported"], refunds, "{more}");
        assert_eq!(capabilities["refunds"], refunds, "{more}");
        assert_eq!(capabilities["ledger_public"], ledger, "{more}");
        assert_eq!(document["mpp"]["quote"], true);
        // What is not built is not offered.
        assert!(!document["offers"].as_array().unwrap().iter().any(|offer| offer["intent"] == "session"));
        assert!(
            !document["routes"]
                .as_array()
                .unwrap()
                .iter()
                .any(|route| route["path"].as_str().unwrap().contains("sessions"))
        );
        let quote = server.send(http::Method::POST, super::QUOTE, &[], "").await.json();
        assert_eq!(quote["refunds"], document["refunds"]);
    }
}

#[tokio::test]
async fn the_skill_says_how_to_pay_and_what_not_to_do() {
    let shop = Shop::start().await;
    let skill = shop.server.get("/SKILL.md").await;
    assert_eq!(skill.header("content-type"), Some("text/markdown; charset=utf-8"));
    for said in [
        "POST /v1/agent/messages",
        "byte for byte the same",
        "Never send `Authorization: Bearer`",
        "`Payment-Receipt`",
        "WWW-Authenticate: Payment",
        "credential=\"TOKEN\"",
        "Idempotency-Key",
        ACCOUNT,
    ] {
        assert!(skill.text().contains(said), "{said}: {}", skill.text());
    }
}

#[tokio::test]
async fn the_skill_names_what_is_there_where_it_is() {
    // A port that nobody knew before, under a realm without one.
    let gateway = Gateway::start().await;
    let skill = gateway.client().get("/SKILL.md").await;
    assert!(skill.text().contains(&format!("curl -i {} ", gateway.url(MESSAGES))), "{}", skill.text());
    for (more, told) in [("", true), ("[discovery]\nenabled = false\n", false)] {
        let shop = Shop::with("", more).await;
        let skill = shop.server.get("/SKILL.md").await;
        for path in ["/openapi.json", "/llms.txt"] {
            assert_eq!(shop.server.get(path).await.status == 200, told, "{path}");
            assert_eq!(skill.text().contains(path), told, "{path}: {}", skill.text());
        }
        assert!(skill.text().contains("`GET /.well-known/mpp`"));
    }
}

#[tokio::test]
async fn a_public_address_stands_in_openapi_and_in_the_skill() {
    let (stripe, provider) = (StripeStandIn::start().await, Provider::start().await);
    let toml = toml(&stripe, &provider, "", "https = \"forwarded\"");
    let public = serve(&toml.replace("realm = \"127.0.0.1\"", "realm = \"api.example.com\"")).await;
    let openapi = public.get("/openapi.json").await.json();
    assert_eq!(openapi["servers"], json!([{"url": "https://api.example.com"}]));
    assert_eq!(openapi["x-service-info"]["docs"]["llms"], "https://api.example.com/llms.txt");
    let skill = public.get("/SKILL.md").await;
    assert!(skill.text().contains(&format!("curl -i https://api.example.com{MESSAGES} ")), "{}", skill.text());
    // A realm that is no host is no address either.
    let named = serve(&toml.replace("realm = \"127.0.0.1\"", "realm = \"The Example Company\"")).await;
    assert_eq!(named.get("/openapi.json").await.json().get("servers"), None);
}

#[tokio::test]
async fn a_key_that_travels_unencrypted_is_said_at_the_start() {
    let stripe = StripeStandIn::start().await;
    for (url, warned) in
        [("http://provider.example", true), ("http://127.0.0.1:9", false), ("https://provider.example", false)]
    {
        let toml = format!("listen = \"127.0.0.1:0\"\n{}", of_provider(&stripe, url));
        let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &toml, &VARIABLES).await;
        let (ended, _folder) = gateway.stop().await;
        assert_eq!(ended.stderr.contains("the key of the provider travels unencrypted"), warned, "{url}");
        assert!(!ended.stderr.contains("sk-ant-provider-secret"), "{}", ended.stderr);
    }
}

/// The configuration of a merchant whose provider is at a URL.
fn of_provider(stripe: &StripeStandIn, url: &str) -> String {
    format!(
        "realm = \"127.0.0.1\"\n[rails.stripe]\nnetwork_id = \"profile_1\"\nrecipient = \"{ACCOUNT}\"\nbase_url = \"{}\"\n[agent]\nprovider = {{ kind = \"anthropic\", url = \"{url}\", key_env = \"PROVIDER_KEY\" }}\n{MODELS}",
        stripe.base_url(),
    )
}

#[tokio::test]
async fn health_tells_since_when_and_how_the_provider_is() {
    let shop = Shop::start().await;
    let health = json_of(&shop.server, "/health").await;
    assert_eq!((&health["ok"], &health["status"]), (&json!(true), &json!("ok")));
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["uptime"].as_u64().unwrap() < 60);
    assert!(health["startedAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(health["providers"], json!({"anthropic": {"status": "configured", "last_call": null}}));
    shop.buy(&call("fast")).await;
    assert_eq!(json_of(&shop.server, "/health").await["providers"]["anthropic"]["last_call"], "answered");
    assert_eq!(shop.provider.calls().len(), 1, "health asks nobody");
}

#[tokio::test]
async fn the_demo_sells_to_agents_out_of_the_box() {
    let gateway = Gateway::start().await;
    let server = gateway.client();
    let document = json_of(&server, "/.well-known/mpp").await;
    assert_eq!((&document["mpp"]["status"], &document["mpp"]["test_mode"]), (&json!("test_mode"), &json!(true)));
    assert_eq!(document["mpp_model_options"][0]["model"], "demo/demo-fast");
    let folder = tempfile::tempdir().unwrap();
    let url = gateway.url(MESSAGES);
    for (model, price) in [("", "0.50"), ("deep", "1.50")] {
        let paid = crate::harness::agent(folder.path(), &["--max", "2.00", "-d", &call(model), &url]).await;
        assert!(paid.status.success(), "{paid:?}");
        assert!(paid.stdout.contains("You said: Say hi"), "{paid:?}");
        assert!(paid.stderr.contains(&format!("paying {price} USD")), "{paid:?}");
    }
    assert_eq!(json_of(&server, "/health").await["providers"]["demo"]["last_call"], "answered");
}
