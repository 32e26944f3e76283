//! The gateway as people run it, in front of a stand-in of the model providers, and an official SDK as its customer.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    programs::{Running, command},
    run, script,
    third_parties::{ThirdParty, installed},
};

/// The key that the provider knows, and no customer.
const UPSTREAM_KEY: &str = "sk-upstream-4711";
const AWS_KEY: &str = "aws-secret-4711";

const STORY: &str = "Once upon a time there was a story so long that nobody has ever heard its end, for all who \
    listened had something else to do, or the line broke, or both.";

/// What the provider says to what it is asked; and how many tokens that was.
fn fixtures() -> Value {
    let usage = |prompt: u64, completion: u64| json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion});
    json!([
        {"match": {"userMessage": "hello"}, "response": {"content": "Hello! How can I help you today?", "usage": usage(11, 7)}},
        {"match": {"userMessage": "weather", "hasToolResult": true},
            "response": {"content": "It is 21 degrees in Paris.", "usage": usage(40, 9)}},
        {"match": {"userMessage": "weather"}, "response": {
            "toolCalls": [{"id": "call_weather", "name": "get_weather", "arguments": {"city": "Paris"}}],
            "usage": usage(30, 12),
        }},
        {"match": {"userMessage": "busy at first", "sequenceIndex": 0},
            "response": {"error": {"message": "Slow down.", "type": "rate_limit_error"}, "status": 429}},
        {"match": {"userMessage": "busy at first", "sequenceIndex": 1},
            "response": {"content": "Now there is time.", "usage": usage(5, 4)}},
        {"match": {"userMessage": "too much"},
            "response": {"error": {"message": "Slow down.", "type": "rate_limit_error"}, "status": 429}},
        {"match": {"userMessage": "overloaded"},
            "response": {"error": {"message": "Overloaded", "type": "overloaded_error"}, "status": 529}},
        {"match": {"userMessage": "a long story"}, "latency": 100, "chunkSize": 10, "response": {"content": STORY}},
        {"match": {"userMessage": "breaks off"}, "latency": 100, "chunkSize": 10, "truncateAfterChunks": 4,
            "response": {"content": STORY}},
    ])
}

/// What every gateway here has.
const GATEWAY: &str = "listen = \"127.0.0.1:0\"\nrails.sandbox = true\n[receipts]\nvisibility = \"public_full\"\n";

/// The routes of both providers, each with a price by model.
fn routes(provider: &ThirdParty) -> String {
    format!(
        r#"[upstream]
url = "http://{}"
[upstream.headers]
x-api-key = {{ env = "UPSTREAM_KEY" }}
[[routes]]
path = "/v1/chat/completions"
methods = ["POST"]
price_by_model = {{ gpt-small = "0.50", gpt-large = "1.50" }}
[[routes]]
path = "/v1/messages"
methods = ["POST"]
price_by_model = {{ claude-small = "0.50", claude-large = "1.50" }}
"#,
        provider.address
    )
}

/// The same providers as services of the paid proxy.
fn services(provider: &ThirdParty) -> String {
    format!(
        r#"[[services]]
preset = "openai"
url = "http://{0}"
api_key = {{ env = "UPSTREAM_KEY" }}
[services.routes]
"POST /v1/chat/completions" = {{ price_by_model = {{ gpt-small = "0.50", gpt-large = "1.50" }} }}
[[services]]
preset = "anthropic"
url = "http://{0}"
api_key = {{ env = "UPSTREAM_KEY" }}
[services.routes]
"POST /v1/messages" = {{ price_by_model = {{ claude-small = "0.50", claude-large = "1.50" }} }}
"#,
        provider.address
    )
}

/// The route of agents, before models of Bedrock.
fn agents(cloud: &ThirdParty) -> String {
    format!(
        r#"[agent]
provider = {{ kind = "bedrock", region = "us-east-1", endpoint_url = "http://{}" }}
[[models]]
id = "fast"
label = "Fast"
model = "bedrock/us.amazon.nova-micro-v1:0"
price = "0.50"
default = true
description = "Small and fast."
[[models]]
id = "balanced"
label = "Balanced"
model = "bedrock/us.anthropic.claude-sonnet-4-6"
price = "0.50"
description = "Neither."
"#,
        cloud.address
    )
}

/// An SDK, and what it is told.
pub struct Sdk {
    pub script: &'static str,
    /// Its base URL, below the gateway.
    pub base: &'static str,
    pub model: &'static str,
}

pub struct Shop {
    gateway: Running,
    provider: ThirdParty,
    _cloud: Option<ThirdParty>,
    _folder: TempDir,
}

impl Shop {
    /// Sells calls of OpenAI and of Anthropic by their own routes.
    pub async fn open() -> Self {
        let provider = ThirdParty::aimock_with(&fixtures(), &[], &[UPSTREAM_KEY]).await;
        let routes = routes(&provider);
        Self::sells(&routes, provider, None).await
    }

    /// Sells the same as services of the paid proxy.
    pub async fn of_services() -> Self {
        let provider = ThirdParty::aimock_with(&fixtures(), &[], &[UPSTREAM_KEY]).await;
        let services = services(&provider);
        Self::sells(&services, provider, None).await
    }

    /// Sells calls of models of Amazon Bedrock to agents.
    pub async fn of_bedrock() -> Self {
        let provider = ThirdParty::aimock(&fixtures(), &[]).await;
        let cloud = ThirdParty::ministack(Some(provider.address)).await;
        let agents = agents(&cloud);
        Self::sells(&agents, provider, Some(cloud)).await
    }

    async fn sells(what: &str, provider: ThirdParty, cloud: Option<ThirdParty>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("gateway.toml"), format!("{GATEWAY}{what}")).unwrap();
        let mut gateway = command("gateway", folder.path());
        gateway.args(["--config", "gateway.toml"]).env("RUST_LOG", "debug");
        gateway.envs([
            ("UPSTREAM_KEY", UPSTREAM_KEY),
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", AWS_KEY),
        ]);
        let gateway = Running::start(gateway, "listening on http://").await;
        Self { gateway, provider, _cloud: cloud, _folder: folder }
    }

    /// Plays scenarios.
    pub async fn plays(&self, sdk: &Sdk, scenarios: &[&str]) -> Value {
        let mut python = Command::new(installed("venv/bin/python"));
        python.env_clear().arg("-B").arg(script(sdk.script)).arg(self.gateway.url("")).arg(self.gateway.url(sdk.base));
        python.arg(sdk.model).args(scenarios);
        run(python).await
    }

    /// What reached the provider: the journal of the stand-in, which hides keys.
    pub async fn upstream_calls(&self) -> Vec<Value> {
        let script = "import json, sys, urllib.request as r; \
            q = r.Request(sys.argv[1], headers={'x-api-key': sys.argv[2]}); \
            print(r.urlopen(q, timeout=20).read().decode())";
        let mut python = Command::new(installed("venv/bin/python"));
        python.args(["-c", script, &self.provider.url("/__aimock/journal"), UPSTREAM_KEY]);
        run(python).await.as_array().unwrap().clone()
    }

    /// Ends the gateway in order; nothing that it has said names a key or a credential.
    pub async fn close(self) {
        let ended = self.gateway.stop().await;
        assert!(ended.status.success(), "{ended:?}");
        for said in [&ended.stdout, &ended.stderr] {
            for secret in [UPSTREAM_KEY, AWS_KEY, "sk-of-the-client", "Payment ey", "panicked"] {
                assert!(!said.contains(secret), "{secret}: {said}");
            }
        }
    }
}

/// Asserts that each paid call was asked for once without and once with a credential, byte for byte, without the
/// SDK's own key, and was bought at the price of its model.
pub fn assert_bought(played: &Value, calls: usize) {
    let payments = played["payments"].as_array().unwrap();
    assert_eq!(payments.len(), calls, "{played:#}");
    for payment in payments {
        assert_eq!((&payment["amount"], &payment["currency"]), (&json!("50"), &json!("usd")), "{payment}");
        assert_eq!(payment["private"], true, "{payment}");
        assert_eq!(payment["digest"], payment["receipt"]["receiptDigest"], "{payment}");
    }
    let sent = played["sent"].as_array().unwrap();
    let challenged: Vec<_> = sent.iter().filter(|request| request["status"] == 402).collect();
    assert_eq!(challenged.len(), calls, "{sent:#?}");
    for request in sent {
        let twin = challenged.iter().find(|asked| asked["body"] == request["body"]).unwrap();
        assert_eq!(twin["length"], request["length"], "{sent:#?}");
        let names = request["headers"].as_array().unwrap();
        assert!(!names.contains(&json!("x-api-key")), "{names:?}");
        assert_eq!(names.contains(&json!("authorization")), request["paid"] == true, "{names:?}");
    }
}

/// Asserts that a signed receipt, which the customer has checked, is about this call.
pub fn assert_receipt(played: &Value, call: usize) {
    let receipt = &played["receipts"][call];
    let payment = &played["payments"][call];
    assert_eq!((&receipt["status"], &receipt["http_status"]), (&json!("succeeded"), &json!(200)), "{receipt:#}");
    assert_eq!(receipt["payment"]["amount"], payment["amount"], "{receipt:#}");
    assert_eq!(receipt["payment"]["reference"], payment["receipt"]["reference"], "{receipt:#}");
    let paid = played["sent"].as_array().unwrap().iter().filter(|sent| sent["paid"] == true && sent["status"] == 200);
    let body = paid.clone().nth(call).unwrap()["body"].as_str().unwrap();
    assert_eq!(receipt["client_request_hash"], format!("sha256-{body}"), "{receipt:#}");
}

/// Asserts what a signed receipt says of the provider: as many tokens as the SDK was told.
pub fn assert_provider(played: &Value, call: usize, provider: &str, model: &str, tokens: [u64; 2]) {
    let receipt = &played["receipts"][call];
    assert_eq!((&receipt["provider"], &receipt["model_id"]), (&json!(provider), &json!(model)), "{receipt:#}");
    assert_eq!(
        [&receipt["input_tokens"], &receipt["output_tokens"]],
        tokens.map(|n| json!(n)).each_ref(),
        "{receipt:#}"
    );
    assert_eq!(receipt["tokens_source"], "provider", "{receipt:#}");
}

/// Asserts what an SDK makes of a failure of the provider after it was paid: its own error, and nothing is lost.
pub fn assert_failed(played: &Value, error: &str, status: u16) {
    let seen = &played["seen"];
    assert_eq!((&seen["error"], &seen["status"]), (&json!(error), &json!(status)), "{seen:#}");
    assert_eq!((&seen["outcome"], &seen["challenged"]), (&json!("redeliverable"), &json!(false)), "{seen:#}");
    assert_eq!(played["payments"], json!([]), "there is no receipt: {played:#}");
}
