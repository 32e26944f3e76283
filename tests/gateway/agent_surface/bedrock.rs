//! Amazon Bedrock behind the surface: whose account it is stays unsaid, and what was opened at the start stays open.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use axum::{Router, extract::Request, response::IntoResponse as _, routing::any};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tower_mpp::method::SandboxKey;

use super::{MESSAGES, QUOTE, call};
use crate::{
    harness::{Gateway, upstream},
    support::{self, Answer, Server, challenge, pay_sandbox},
};

const ACCOUNT: &str = "123456789012";
const ARN: &str = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3";
const AWS: [(&str, &str); 4] = [
    ("MPP_SECRET_KEY", support::KEY),
    ("AWS_ACCESS_KEY_ID", "AKIATEST"),
    ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// A Bedrock that says hello, and the paths at which it was asked.
async fn bedrock() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let handler = any(move |request: Request| async move {
        notes.lock().unwrap().push(request.uri().path().to_owned());
        axum::Json(json!({
            "output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10},
            "metrics": {"latencyMs": 1},
        }))
    });
    (upstream(Router::new().fallback(handler)).await, seen)
}

/// With models as lines of `model` and what else there is to say.
fn toml(bedrock: SocketAddr, models: &[&str]) -> String {
    let head = format!(
        "rails.sandbox = true\n[receipts]\nvisibility = \"public_full\"\n[agent]\nprovider = {{ kind = \"bedrock\", region = \"us-east-1\", endpoint_url = \"http://{bedrock}\" }}\n"
    );
    let model = |(at, lines): (usize, &&str)| format!("[[models]]\nid = \"m{at}\"\nprice = \"0.50\"\n{lines}\n");
    head + &models.iter().enumerate().map(model).collect::<String>()
}

async fn post(server: &Server, path: &str, body: &str) -> Answer {
    server.send(Method::POST, path, &[("content-type", "application/json")], body).await
}

async fn buy(server: &Server, body: &str) -> Answer {
    let asked = post(server, MESSAGES, body).await;
    asked.assert_challenged("payment-required");
    let credential = pay_sandbox(&challenge(&asked.headers), &SandboxKey::generate());
    server.pay(Method::POST, MESSAGES, &credential, body).await
}

fn named() -> String {
    format!("model = \"bedrock/{ARN}\"\nname = \"house-haiku\"")
}

#[tokio::test]
async fn nobody_reads_the_account_of_an_arn() {
    let (address, seen) = bedrock().await;
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &toml(address, &[&named()]), &AWS).await;
    let server = gateway.client();
    let mut read = Vec::new();
    for path in [
        "/.well-known/mpp",
        "/v1/catalog",
        "/v1/capabilities",
        "/SKILL.md",
        "/openapi.json",
        "/llms.txt",
        "/discover/all",
        "/discover/all.md",
        "/health",
    ] {
        let document = server.get(path).await;
        assert_eq!(document.status, 200, "{path}");
        read.push(document);
    }
    assert_eq!(read[1].json()["models"][0]["model"], "bedrock/house-haiku");
    read.push(post(&server, QUOTE, &call("m0")).await);
    for name in ["m0", "house-haiku", "bedrock/house-haiku"] {
        let paid = buy(&server, &call(name)).await;
        assert_eq!((paid.status.as_u16(), &paid.json()["model"]), (200, &json!("house-haiku")), "{paid:?}");
        let url = paid.receipt().extra["receiptUrl"].as_str().unwrap().to_owned();
        let id = url.rsplit_once("/r/").unwrap().1;
        let receipt = gateway.client().get(&format!("/v1/receipts/{id}")).await;
        assert_eq!(receipt.json()["model_id"], "house-haiku");
        read.extend([paid, receipt]);
    }
    // Nor in what is refused, before a payment and after.
    for name in [ARN, &format!("bedrock/{ARN}"), "a1b2c3", "bedrock/a1b2c3"] {
        let refused = post(&server, MESSAGES, &call(name)).await;
        assert_eq!(refused.status, 400, "{name}");
        read.push(refused);
    }
    let by_url = call("m0")
        .replace("\"Say hi\"", r#"[{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}]"#);
    read.push(post(&server, MESSAGES, &by_url).await);
    for answer in &read {
        assert!(!answer.text().contains(ACCOUNT) && !answer.text().contains("arn:"), "{answer:?}");
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|path| path.contains(ACCOUNT)), "Bedrock is asked by the ARN: {seen:?}");
}

#[tokio::test]
async fn a_model_that_bedrock_was_not_opened_for_is_not_offered_by_a_new_file() {
    let (address, seen) = bedrock().await;
    let nova = "model = \"bedrock/us.amazon.nova-micro-v1:0\"";
    let write = |gateway: &Gateway, text: String| fs::write(gateway.folder.path().join("gateway.toml"), text).unwrap();
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &toml(address, &[nova]), &AWS).await;
    let server = gateway.client();
    write(&gateway, toml(address, &[nova, &named()]));
    gateway.signal("HUP").await;
    gateway.said("needs a restart field=\"models[1].model\"").await;
    assert_eq!(server.get("/v1/catalog").await.json()["models"].as_array().unwrap().len(), 1);
    assert_eq!(post(&server, MESSAGES, &call("house-haiku")).await.status, 400);

    // One by its id can be called at once, and one that is not sold needs nobody who knows it.
    let pro = "model = \"bedrock/us.amazon.nova-pro-v1:0\"";
    write(&gateway, toml(address, &[nova, pro, &format!("{}\ndisabled = true", named())]));
    gateway.signal("HUP").await;
    gateway.said("reloaded file=").await;
    assert_eq!(server.get("/v1/catalog").await.json()["models"][1]["status"], "test_mode");
    assert_eq!(buy(&server, &call("m1")).await.status, 200);
    assert!(seen.lock().unwrap()[0].contains("nova-pro"));
}

#[tokio::test]
async fn a_provider_that_was_not_opened_does_not_come_in_by_two_new_files() {
    let demo = |price: &str| {
        format!(
            "rails.sandbox = true\n[[routes]]\npath = \"/a\"\nprice = \"1\"\n[agent]\nprovider = {{ kind = \"demo\" }}\n[[models]]\nid = \"m0\"\nmodel = \"demo/demo-fast\"\nprice = \"{price}\"\n"
        )
    };
    let without = "rails.sandbox = true\n[[routes]]\npath = \"/a\"\nprice = \"1\"\n";
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &demo("0.50"), &AWS).await;
    let server = gateway.client();
    let reload = async |text: &str, said: &str| {
        fs::write(gateway.folder.path().join("gateway.toml"), text).unwrap();
        gateway.signal("HUP").await;
        gateway.said(said).await;
    };
    reload(without, "changed=\"agent, models\"").await;
    assert_eq!(server.get("/v1/catalog").await.status, 404);
    let opus = toml(SocketAddr::from(([127, 0, 0, 1], 9)), &["model = \"bedrock/us.anthropic.claude-opus-4-7\""]);
    let opus = opus.replace("[receipts]\nvisibility = \"public_full\"\n", "");
    reload(&opus, "needs a restart field=\"agent.provider.kind\"").await;
    assert_eq!(server.get("/v1/catalog").await.status, 404);
    // The one of the start is still there.
    reload(&format!("currency = \"usd\"\n{}", demo("0.75")), "changed=\"agent, currency, models\"").await;
    let asked = post(&server, MESSAGES, &call("m0")).await;
    assert_eq!(challenge(&asked.headers).request_as::<Value>().unwrap()["amount"], "75");
    assert_eq!(buy(&server, &call("m0")).await.status, 200);
}

#[tokio::test]
async fn health_does_not_go_on_missing_credentials_that_have_come() {
    let (address, _seen) = bedrock().await;
    let there = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&there);
    let credentials = upstream(Router::new().fallback(any(move || async move {
        match asked.load(SeqCst) {
            false => StatusCode::NOT_FOUND.into_response(),
            true => axum::Json(json!({
                "AccessKeyId": "AKIATEST", "SecretAccessKey": "not-a-secret", "Token": "t",
                "Expiration": "2100-01-01T00:00:00Z",
            }))
            .into_response(),
        }
    })))
    .await;
    let uri = format!("http://{credentials}/credentials");
    let variables = [AWS[0], AWS[3], ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str())];
    let models = ["model = \"bedrock/us.amazon.nova-micro-v1:0\""];
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &toml(address, &models), &variables).await;
    let server = gateway.client();
    let health = async || server.get("/health").await.json()["providers"]["bedrock"].clone();
    assert_eq!(health().await, json!({"status": "no_credentials", "last_call": null}));
    assert!(buy(&server, &call("m0")).await.status.is_server_error());
    assert_eq!(health().await, json!({"status": "no_credentials", "last_call": "failed"}));
    there.store(true, SeqCst);
    assert_eq!(buy(&server, &call("m0")).await.status, 200);
    assert_eq!(health().await, json!({"status": "configured", "last_call": "answered"}));
}
