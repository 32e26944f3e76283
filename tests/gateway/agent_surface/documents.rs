//! What is read before anybody pays: every price in it is the price of a challenge, every flag is true.

use serde_json::{Value, json};

use super::{ACCOUNT, MESSAGES, Provider, Shop, call, request_of, serve, toml};
use crate::{harness::Gateway, stripe::StripeStandIn, support::Server};

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
async fn every_document_has_the_prices_of_the_challenges() {
    let shop = Shop::start().await;
    let document = json_of(&shop.server, "/.well-known/mpp").await;
    let catalog = json_of(&shop.server, "/v1/catalog").await;
    let skill = shop.server.get("/SKILL.md").await;
    for (listed, sold) in
        document["mpp_model_options"].as_array().unwrap().iter().zip(catalog["models"].as_array().unwrap())
    {
        let id = listed["id"].as_str().unwrap();
        assert_eq!(sold["id"], id);
        assert_eq!(sold["status"], listed["status"]);
        if listed["status"] != "live" {
            assert_eq!((id, shop.ask(&call(id)).await.status.as_u16()), ("old", 400));
            continue;
        }
        let asked = request_of(&shop.ask(&call(id)).await);
        assert_eq!(sold["price"]["amount"], asked["amount"]);
        assert_eq!((&listed["price_usd"], &sold["price_usd"]), (&sold["price"]["display"], &sold["price"]["display"]));
        let row = skill.text().lines().find(|line| line.starts_with(&format!("| `{id}` |"))).unwrap();
        assert!(row.contains(&format!("| {} USD |", sold["price_usd"].as_str().unwrap())), "{row}");
    }
    assert_eq!(catalog["routes"][0]["prices"], json!([catalog["models"][0]["price"], catalog["models"][2]["price"]]));
    let offer = &document["offers"][0];
    assert_eq!(
        (&offer["amount"], &offer["route"], &offer["recipient"]),
        (&json!("50"), &json!(MESSAGES), &json!(ACCOUNT))
    );
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
    assert_eq!((&document["mpp"]["status"], &document["mpp"]["test_mode"]), (&json!("live"), &json!(true)));
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
