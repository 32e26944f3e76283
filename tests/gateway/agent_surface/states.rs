//! Deployments that do not take payments, or not of this kind.

use serde_json::json;

use super::{MESSAGES, Provider, QUOTE, Shop, VARIABLES, call, request_of, toml};
use crate::{
    harness::{Gateway, settings_with},
    stripe::StripeStandIn,
    support::{challenge, pay_with},
};

const PATHS: [&str; 5] = ["/.well-known/mpp", "/.well-known/mpp.json", "/v1/catalog", "/v1/capabilities", "/SKILL.md"];

/// What is wrong with a configuration.
async fn refused(agent: &str, more: &str, changes: &[(&str, &str)]) -> String {
    let (stripe, provider) = (StripeStandIn::start().await, Provider::start().await);
    let mut toml = toml(&stripe, &provider, agent, more);
    for (from, to) in changes {
        assert!(toml.contains(from), "{from}");
        toml = toml.replace(from, to);
    }
    let error = settings_with(&toml, &VARIABLES).err().unwrap_or_else(|| panic!("accepted: {toml}"));
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[tokio::test]
async fn a_disabled_surface_is_not_there() {
    let shop = Shop::with("state = \"disabled\"", "").await;
    for path in PATHS {
        let absent = shop.server.get(path).await;
        assert_eq!((absent.status.as_u16(), absent.problem().as_str()), (404, "about:blank"), "{path}");
    }
    for path in [MESSAGES, QUOTE] {
        let absent = shop.server.send(http::Method::POST, path, &[], &call("fast")).await;
        assert_eq!(absent.status, 404, "{path}");
        absent.assert_no_challenge();
    }
    // Also where everything else is sold.
    let all = Shop::with("state = \"disabled\"", "[[routes]]\npath = \"/{*path}\"\nprice = \"0.50\"\n").await;
    for path in PATHS {
        assert_eq!(all.server.get(path).await.status, 404, "{path}");
    }
    assert_eq!(all.server.get("/x").await.status, 402);
}

#[tokio::test]
async fn a_preview_shows_its_prices_and_takes_no_money() {
    let shop = Shop::with("state = \"private-preview\"", "").await;
    let credential = shop.credential(&call("fast"), "spt_ok").await;
    for _ in 0..2 {
        let refused = shop.pay(&credential, &call("fast")).await;
        assert_eq!(refused.status, 403, "{refused:?}");
        refused.assert_no_challenge();
        let detail = refused.json()["detail"].as_str().unwrap().to_lowercase();
        assert!(detail.contains("preview") && detail.contains("nothing was charged"), "{detail}");
    }
    assert!(shop.stripe.requests().is_empty() && shop.provider.calls().is_empty());
    let mpp = shop.server.get("/.well-known/mpp").await.json()["mpp"].clone();
    assert_eq!(
        (&mpp["status"], &mpp["challenge"], &mpp["charging"]),
        (&json!("private_preview"), &json!(true), &json!(false))
    );
    let quote = shop.server.send(http::Method::POST, QUOTE, &[], "").await.json();
    assert_eq!((&quote["status"], &quote["payable"]), (&json!("private_preview"), &json!(false)));
}

#[tokio::test]
async fn what_is_not_in_production_asks_again_and_takes_no_money() {
    for agent in [
        "state = \"not-in-production\"",
        "production_payments = false",
        "state = \"live\"\nproduction_payments = false",
    ] {
        let shop = Shop::with(agent, "").await;
        let credential = shop.credential(&call("coding"), "spt_ok").await;
        shop.pay(&credential, &call("coding")).await.assert_challenged("verification-failed");
        assert!(shop.stripe.requests().is_empty() && shop.provider.calls().is_empty());
        let mpp = shop.server.get("/.well-known/mpp").await.json()["mpp"].clone();
        assert_eq!((&mpp["production_payments"], &mpp["settlement"]), (&json!(false), &json!(false)), "{mpp}");
    }
    let contradiction = refused("state = \"not-in-production\"\nproduction_payments = true", "", &[]).await;
    assert!(contradiction.contains("agent.production_payments: "), "{contradiction}");
}

#[tokio::test]
async fn states_and_prices_change_while_it_runs_and_the_provider_does_not() {
    let (stripe, provider) = (StripeStandIn::start().await, Provider::start().await);
    let written = |agent: &str| format!("listen = \"127.0.0.1:0\"\n{}", toml(&stripe, &provider, agent, ""));
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &written(""), &VARIABLES).await;
    let (server, body) = (gateway.client(), call("coding"));
    let asked = server.send(http::Method::POST, MESSAGES, &[], &body).await;
    let credential = pay_with(&challenge(&asked.headers), None, &json!({"spt": "spt_ok"}));
    let file = gateway.folder.path().join("gateway.toml");

    // The provider is opened at the start: nothing of a file with another one is used.
    let other =
        written("state = \"private-preview\"").replace("url = \"http://127.0.0.1:", "url = \"http://localhost:");
    let other = other.replace("base_url = \"http://localhost:", "base_url = \"http://127.0.0.1:");
    std::fs::write(&file, other).unwrap();
    gateway.signal("HUP").await;
    gateway.said("field=\"agent.provider.url\"").await;
    assert_eq!(server.get("/.well-known/mpp").await.json()["mpp"]["status"], "live");

    std::fs::write(&file, written("state = \"private-preview\"").replace("\"1.50\"", "\"2.50\"")).unwrap();
    gateway.signal("HUP").await;
    gateway.said("reloaded file=").await;
    assert_eq!(server.get("/.well-known/mpp").await.json()["mpp"]["status"], "private_preview");
    let asked = server.send(http::Method::POST, MESSAGES, &[], &body).await;
    assert_eq!(request_of(&asked)["amount"], "250");
    // What was asked for at the old price is no payment any more, and nothing was charged for it.
    server.pay(http::Method::POST, MESSAGES, &credential, &body).await.assert_challenged("invalid-challenge");
    assert!(stripe.requests().is_empty() && provider.calls().is_empty());
}

#[tokio::test]
async fn a_key_of_the_other_mode_is_refused() {
    let test_key = ("[rails.stripe]", "[rails.stripe]\nsecret_key_env = \"STRIPE_TEST_KEY\"");
    for (more, changes, expected) in [
        ("rails.test_mode = true", &[][..], "rails.test_mode: it is true, but the Stripe key is a live one"),
        ("rails.test_mode = false", &[test_key], "rails.test_mode: it is false, but the Stripe key is a test key"),
        (
            "rails.test_mode = false\nrails.sandbox = true",
            &[test_key],
            "rails.test_mode: it is false, but rails.sandbox",
        ),
        ("rails.sandbox = true", &[], "rails.sandbox: play money would buy"),
    ] {
        let error = refused("", more, changes).await;
        assert!(error.contains(expected) && !error.contains("standin"), "{error}");
    }
}

#[tokio::test]
async fn the_mode_is_visible() {
    for (more, test_mode) in [("rails.test_mode = false", false), ("rails.test_mode = true", true)] {
        let (stripe, provider) = (StripeStandIn::start().await, Provider::start().await);
        let mut toml = toml(&stripe, &provider, "", more);
        if test_mode {
            toml = toml.replace("[rails.stripe]", "[rails.stripe]\nsecret_key_env = \"STRIPE_TEST_KEY\"");
        }
        let server = super::serve(&toml).await;
        let document = server.get("/.well-known/mpp").await.json();
        assert_eq!(document["mpp"]["test_mode"], test_mode);
        assert_eq!(document["capabilities"]["test_mode"], test_mode);
        assert_eq!(server.get("/v1/catalog").await.json()["test_mode"], test_mode);
        assert_eq!(server.get("/SKILL.md").await.text().contains("test mode"), test_mode);
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_named() {
    for (agent, more, changes, expected) in [
        ("state = \"alive\"", "", &[][..], "unknown variant `alive`"),
        ("max_tokens = 0", "", &[], "agent.max_tokens: "),
        ("timeout_secs = 0", "", &[], "agent.timeout_secs: "),
        ("body_limit = 0", "", &[], "agent.body_limit: "),
        ("prize = 1", "", &[], "prize"),
        ("", "", &[("anthropic/claude-haiku-4-5", "claude-haiku-4-5")], "models[0].model: "),
        ("", "", &[("anthropic/claude-haiku-4-5", "bedrock/claude-haiku-4-5")], "models[0].model: "),
        (
            "",
            "",
            &[("anthropic/claude-haiku-4-5", "anthropic/arn:aws:bedrock:us-east-1:123456789012:inference-profile/x")],
            "models: models.fast.model: an ARN",
        ),
        (
            "",
            "",
            &[("\"sonnet\"", "\"arn:aws:bedrock:us-east-1:123456789012:x/y\"")],
            "models.balanced.aliases: an ARN",
        ),
        ("", "", &[("label = \"Fast\"", "name = \"\"")], "models.fast.name: "),
        ("", "", &[("\"sonnet\"", "\"fast\"")], "models: "),
        ("", "", &[("disabled = true", "default = true")], "models: "),
        ("", "", &[("price = \"1.50\"", "price = \"0\"")], "models[2].price: "),
        ("", "", &[("price = \"1.50\"", "price = \"1,50\"")], "models: models.coding.price"),
        ("", "", &[("\"0.05\"", "\"cheap\"")], "models[0].session_price: "),
        ("", "", &[("PROVIDER_KEY", "NOT_SET")], "NOT_SET"),
        ("", "", &[("kind = \"anthropic\"", "kind = \"antropic\"")], "antropic"),
        ("", "", &[("key_env", "key")], "key"),
        (
            "",
            "[[routes]]\npath = \"/v1/agent/messages\"\nfree = true",
            &[],
            "routes[0].path: /v1/agent/messages is the gateway's own",
        ),
        ("", "[[routes]]\npath = \"/.well-known/mpp\"\nfree = true", &[], "routes[0].path: "),
        ("", "[api]\nkeys_env = \"API_KEYS\"", &[], "api.routes: "),
        ("", "[api]\n[[api.routes]]\npath = \"/v1/messages\"", &[], "api: give exactly one of keys_env"),
        ("", "[api]\nkeys_env = \"NOT_SET\"\n[[api.routes]]\npath = \"/v1/messages\"", &[], "NOT_SET: "),
        (
            "",
            "[api]\nkeys_env = \"PROVIDER_KEY\"\n[[api.routes]]\npath = \"/v1/messages\"",
            &[],
            "PROVIDER_KEY: a key has 24",
        ),
        (
            "",
            "[api]\nkeys_env = \"API_KEYS\"\n[[api.routes]]\npath = \"/v1/agent/messages\"",
            &[],
            "api.routes[0].path: ",
        ),
        (
            "",
            "[api]\nkeys_env = \"API_KEYS\"\n[[api.routes]]\npath = \"/x\"\n[[routes]]\npath = \"/x\"\nmethods = [\"POST\"]\nprice = \"0.50\"",
            &[],
            "routes[0].path: POST /x is there twice",
        ),
        (
            "state = \"disabled\"",
            "[api]\nkeys_env = \"API_KEYS\"\n[[api.routes]]\npath = \"/x\"\nto = \"provider\"",
            &[],
            "api.routes[0].to: ",
        ),
    ] {
        let error = refused(agent, more, changes).await;
        assert!(error.contains(expected), "expected {expected:?}, said {error:?}");
    }
    // Tables that belong to another one.
    for table in ["[[models]]\nid = \"a\"\nmodel = \"demo/a\"\nprice = \"1\"", "[well_known]\nform = \"full\""] {
        let error =
            settings_with(&format!("rails.sandbox = true\n[[routes]]\npath = \"/x\"\nfree = true\n{table}"), &[]);
        let error = error.err().unwrap();
        assert!(error.contains("without [agent]"), "{error}");
    }
}
