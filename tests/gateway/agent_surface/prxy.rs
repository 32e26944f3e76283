//! The whole configuration of `examples/gateway/prxy.toml`, in the running gateway.

use std::{fs, path::PathBuf};

use http::Method;
use serde_json::{Value, json};

use super::{MESSAGES, call};
use crate::{
    config::uncommented,
    gateway::Opened,
    harness::{Gateway, app, opened, settings_with},
    programs::{command, run},
    stripe::{LIVE_KEY, StripeStandIn},
    support::{self, Server, challenge, pay_with},
};

/// What says in the running gateway that sessions and MCP are not there yet, as JSON pointers into the document.
/// Nothing else may differ from the deployment that it is a copy of, but for the time of day.
const NOT_BUILT: &[&str] = &[
    "/capabilities/atxp_mcp/bedrock_tool_price_usd",
    "/capabilities/atxp_mcp/blockers/0",
    "/capabilities/atxp_mcp/connection_configured",
    "/capabilities/atxp_mcp/endpoint",
    "/capabilities/atxp_mcp/oauth_connection_configured",
    "/capabilities/atxp_mcp/paid_smoke_price_usd",
    "/capabilities/atxp_mcp/payment_authorization_blocker",
    "/capabilities/atxp_mcp/provider_cost_included",
    "/capabilities/atxp_mcp/server_url",
    "/capabilities/atxp_mcp/status",
    "/capabilities/atxp_mcp_tools/0/status",
    "/capabilities/atxp_mcp_tools/1/status",
    "/capabilities/atxp_mcp_tools/2/status",
    "/capabilities/atxp_mcp_tools/3/provider_inference_included",
    "/capabilities/atxp_mcp_tools/3/status",
    "/capabilities/atxp_mcp_tools/4/status",
    "/capabilities/mpp_model_options/0/session_price_usd_per_call",
    "/capabilities/mpp_model_options/1/session_price_usd_per_call",
    "/capabilities/mpp_model_options/2/session_price_usd_per_call",
    "/capabilities/mpp_provider_billing/effective_session_price_usd_per_call",
    "/capabilities/sessions/endpoints/0",
    "/capabilities/sessions/endpoints/1",
    "/capabilities/sessions/production_requirement",
    "/capabilities/sessions/status",
    "/mpp_model_options/0/session_price_usd_per_call",
    "/mpp_model_options/1/session_price_usd_per_call",
    "/mpp_model_options/2/session_price_usd_per_call",
    "/mpp_provider_billing/effective_session_price_usd_per_call",
    // The offer of a session.
    "/offers/1",
    "/routes/0/model_options/0/session_price_usd_per_call",
    "/routes/0/model_options/1/session_price_usd_per_call",
    "/routes/0/model_options/2/session_price_usd_per_call",
    "/routes/0/mpp_provider_billing/effective_session_price_usd_per_call",
    // Its two routes.
    "/routes/1",
    "/routes/2",
];

fn example() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gateway/prxy.toml"))
}

/// The file, with a stand-in for Stripe, a Bedrock that nobody asks, and a port of its own.
fn toml(stripe: &StripeStandIn) -> String {
    let file = fs::read_to_string(example()).unwrap();
    file.replace("listen = \"127.0.0.1:8402\"", "listen = \"127.0.0.1:0\"")
        .replace("[rails.stripe]\n", &format!("[rails.stripe]\nbase_url = \"{}\"\n", stripe.base_url()))
        .replace("kind = \"bedrock\"\n", "kind = \"bedrock\"\nendpoint_url = \"http://127.0.0.1:9\"\n")
}

const VARIABLES: [(&str, &str); 6] = [
    ("STRIPE_SECRET_KEY", LIVE_KEY),
    ("STRIPE_NETWORK_ID", "profile_1"),
    ("MPP_SECRET_KEY", support::KEY),
    ("AWS_ACCESS_KEY_ID", "AKIATEST"),
    ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

async fn start(stripe: &StripeStandIn) -> Gateway {
    Gateway::configured(tempfile::tempdir().unwrap(), &toml(stripe), &VARIABLES).await
}

const HTTPS: (&str, &str) = ("x-forwarded-proto", "https");

async fn ask(server: &Server, body: &str) -> support::Answer {
    server.send(Method::POST, MESSAGES, &[HTTPS], body).await
}

#[tokio::test]
async fn the_example_is_a_good_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command("gateway", folder.path());
    command.envs(VARIABLES).args(["--config", example().to_str().unwrap(), "--check"]);
    let checked = run(command).await;
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn every_field_that_it_explains_is_known() {
    // What is commented out, but for other ways to say the same.
    const ALTERNATIVES: [&str; 6] =
        ["kind = ", "key_env = ", "url = ", "first_byte_timeout_secs = ", "network_id = ", "key_hashes_file = "];
    let all = uncommented(&fs::read_to_string(example()).unwrap(), &ALTERNATIVES);
    for line in ["[refunds]", "[[api.routes]]", "profile = \"production\"", "keys_env = \"API_KEYS\""] {
        assert!(all.lines().any(|known| known == line), "{line}");
    }
    let settings = settings_with(&all, &[&VARIABLES[..], &[("API_KEYS", "0123456789abcdef01234567")]].concat());
    let settings = settings.unwrap();
    let provider = settings.agent.as_ref().unwrap().look().unwrap();
    let ledger = opened().journal.ledger.unwrap();
    let receipts = Some(settings.receipts.as_ref().unwrap().look(ledger, "127.0.0.1:1").unwrap());
    app(&settings, Opened { provider, receipts, ..opened() }).map(drop).unwrap();
}

#[tokio::test]
async fn its_document_is_that_of_the_deployment() {
    let Some(vectors) = std::env::var_os("MPP_VECTORS_DIR") else {
        return eprintln!("MPP_VECTORS_DIR is not set: the deployed document is not here to compare with");
    };
    let seed = fs::read_to_string(PathBuf::from(vectors).join("../seeds/well-known-mpp.json")).unwrap();
    let mut seed: Value = serde_json::from_str(&seed).unwrap();
    let stripe = StripeStandIn::start().await;
    let gateway = start(&stripe).await;
    let mut document = gateway.client().get("/.well-known/mpp").await.json();
    for document in [&mut seed, &mut document] {
        document.as_object_mut().unwrap().remove("generated_at").unwrap();
    }
    let mut found = Vec::new();
    differences(&seed, &document, String::new(), &mut found);
    assert_eq!(found, NOT_BUILT);
}

/// Where two documents differ.
fn differences(expected: &Value, found: &Value, at: String, all: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let names: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
            for name in names {
                let null = Value::Null;
                let at = format!("{at}/{name}");
                match (expected.get(name), found.get(name)) {
                    (Some(expected), Some(found)) => differences(expected, found, at, all),
                    (expected, found) => differences(expected.unwrap_or(&null), found.unwrap_or(&null), at, all),
                }
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            for index in 0..expected.len().max(found.len()) {
                let of = |list: &[Value]| list.get(index).cloned().unwrap_or_default();
                differences(&of(expected), &of(found), format!("{at}/{index}"), all);
            }
        }
        (expected, found) if expected == found => {}
        _ => all.push(at),
    }
}

#[tokio::test]
async fn its_prices_are_those_of_the_challenges() {
    let stripe = StripeStandIn::start().await;
    let gateway = start(&stripe).await;
    let server = gateway.client();
    for (model, amount) in [
        ("", "50"),
        ("fast", "50"),
        ("bedrock/us.amazon.nova-micro-v1:0", "50"),
        ("us.amazon.nova-micro-v1:0", "50"),
        ("claude-sonnet-4-6", "50"),
        ("balanced", "50"),
        ("coding", "150"),
        ("bedrock/us.anthropic.claude-opus-4-7", "150"),
    ] {
        let asked = ask(&server, &call(model)).await;
        asked.assert_challenged("payment-required");
        let request = super::request_of(&asked);
        assert_eq!((&request["amount"], &request["currency"]), (&json!(amount), &json!("usd")), "{model}");
        assert_eq!(request["recipient"], super::ACCOUNT);
        assert_eq!(challenge(&asked.headers).realm, "api.prxy.monster");
    }
    // Over plain HTTP nothing is dealt with.
    assert_eq!(server.send(Method::POST, MESSAGES, &[], &call("fast")).await.status, 403);
}

#[tokio::test]
async fn what_bedrock_would_not_be_sent_is_refused_before_anybody_pays() {
    let stripe = StripeStandIn::start().await;
    let gateway = start(&stripe).await;
    let image = r#"[{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}]"#;
    let tool = |tool: &str| format!("{{\"tools\":[{tool}],");
    for (body, named) in [
        // Over Converse, and to a model of Anthropic as it is.
        (call("fast").replace("\"Say hi\"", image), "messages.0.content.0.source.type"),
        (call("balanced").replace("\"Say hi\"", image), "messages.0.content.0.source.type"),
        (call("balanced").replace("\"Say hi\"", r#"[{"type":"text"}]"#), "messages.0.content.0.text"),
        (call("balanced").replacen('{', &tool(r#"{"name":"f"}"#), 1), "tools.0.input_schema"),
        (call("coding").replacen('{', &tool(r#"{"type":"bash_20250124","name":"bash"}"#), 1), "tools.0.type"),
        (call("coding").replacen('{', "{\"frequency_penalty\":1,", 1), "frequency_penalty"),
    ] {
        for path in [MESSAGES, super::QUOTE] {
            let refused = gateway.client().send(Method::POST, path, &[HTTPS], &body).await;
            assert_eq!(refused.status, 400, "{refused:?}");
            refused.assert_no_challenge();
            assert!(refused.json()["detail"].as_str().unwrap().starts_with(&format!("{named}: ")), "{refused:?}");
        }
    }
    let pixel = r#"[{"type":"image","source":{"type":"base64","media_type":"image/gif","data":"R0lGODlh"}}]"#;
    for model in ["fast", "balanced"] {
        ask(&gateway.client(), &call(model).replace("\"Say hi\"", pixel)).await.assert_challenged("payment-required");
    }
}

#[tokio::test]
async fn a_call_that_never_reaches_bedrock_leaves_the_payment_good() {
    let stripe = StripeStandIn::start().await;
    let gateway = start(&stripe).await;
    let server = gateway.client();
    let asked = ask(&server, &call("coding")).await;
    let credential = pay_with(&challenge(&asked.headers), None, &json!({"spt": "spt_ok"}));
    let paid = [HTTPS, ("authorization", credential.to_str().unwrap())];
    for _ in 0..2 {
        let failed = server.send(Method::POST, MESSAGES, &paid, &call("coding")).await;
        assert_eq!(
            (failed.status.as_u16(), failed.header("payment-outcome")),
            (502, Some("redeliverable")),
            "{failed:?}"
        );
        assert_eq!((&failed.json()["type"], &failed.json()["error"]["type"]), (&json!("error"), &json!("api_error")));
        assert!(!failed.text().contains("127.0.0.1"), "{failed:?}");
        failed.assert_no_challenge();
    }
    assert_eq!(stripe.charges().iter().map(|charge| charge.amount).collect::<Vec<_>>(), [150]);
    assert_eq!(server.get("/health").await.json()["providers"]["bedrock"]["last_call"], "failed");
}

#[tokio::test]
async fn it_starts_without_credentials_of_aws_and_says_so() {
    let stripe = StripeStandIn::start().await;
    let folder = tempfile::tempdir().unwrap();
    let none = VARIABLES.iter().copied().filter(|(name, _)| !name.starts_with("AWS_A") && !name.starts_with("AWS_S"));
    let gateway = Gateway::configured(folder, &toml(&stripe), &none.collect::<Vec<_>>()).await;
    let health = gateway.client().get("/health").await.json();
    assert_eq!(health["providers"]["bedrock"]["status"], "no_credentials");
    let (ended, _) = gateway.stop().await;
    assert!(ended.stdout.contains("no AWS credentials"), "{}", ended.stdout);
}
