//! The whole configuration of `examples/gateway/prxy.toml`, in the running gateway.

use std::{fs, path::PathBuf};

use http::Method;
use serde_json::{Value, json};

use super::{MESSAGES, call};
use crate::{
    harness::Gateway,
    programs::{command, run},
    stripe::{LIVE_KEY, StripeStandIn},
    support::{self, Server, challenge},
};

/// What says in the running gateway that sessions and MCP are not there yet, as JSON pointers into the document.
/// Nothing else may differ from the deployment that it is a copy of, but for the time of day.
const NOT_BUILT: &[&str] = &[];

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
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                differences(expected, found, format!("{at}/{index}"), all);
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
