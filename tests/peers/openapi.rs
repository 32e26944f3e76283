//! `/openapi.json` of the gateway: valid for a validator, and true for a fuzzer that asks whatever it allows and
//! forbids, without paying.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Request};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    programs::{Ended, Running, command, soon},
    run, script,
    third_parties::installed,
};

/// What is true of every answer, whatever was asked. That a call is not paid is never an error of the server.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
     response_schema_conformance";
/// The fuzzer tries as much on each operation. Its examples are the same in each run.
const EXAMPLES: &str = "30";
const SEED: &str = "4711";

/// An example that people copy, what it finds in its environment, and what its own proxy says of a request.
struct Example {
    file: Option<&'static str>,
    variables: &'static [(&'static str, &'static str)],
    header: &'static str,
}

const OURS: [Example; 4] = [
    // The demo.
    Example { file: None, variables: &[], header: "accept: */*" },
    Example { file: Some("gateway.toml"), variables: &[], header: "accept: */*" },
    Example {
        file: Some("proxy.toml"),
        variables: &[
            ("OPENAI_API_KEY", "sk-openai"),
            ("ANTHROPIC_API_KEY", "sk-anthropic"),
            ("STRIPE_API_KEY", "sk_test_upstream"),
            ("MY_API_TOKEN", "tok-upstream"),
        ],
        header: "accept: */*",
    },
    Example {
        file: Some("prxy.toml"),
        variables: &[
            ("STRIPE_SECRET_KEY", "sk_live_0000000000000000000000"),
            ("STRIPE_NETWORK_ID", "profile_1"),
            ("MPP_SECRET_KEY", "a key of the test of thirty-two bytes or more"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "aws-secret"),
        ],
        header: "x-forwarded-proto: https",
    },
];

struct Site {
    gateway: Running,
    folder: TempDir,
    /// What has reached an upstream.
    passed: Passed,
}

type Passed = Arc<Mutex<Vec<String>>>;

/// An upstream that answers everything, in place of those that are far away.
async fn upstream(passed: Passed) -> SocketAddr {
    let app = Router::new().fallback(move |request: Request| async move {
        passed.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
        axum::Json(json!({}))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// An example, with upstreams on this machine.
async fn configuration(file: &str, passed: Passed) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gateway").join(file);
    let mut text = fs::read_to_string(path).unwrap();
    let url = format!("http://{}", upstream(passed).await);
    for preset in ["openai", "anthropic", "stripe"] {
        let line = format!("preset = \"{preset}\"\n");
        text = text.replace(&line, &format!("{line}url = \"{url}\"\n"));
    }
    text.replace("url = \"https://api.example.com/base\"", &format!("url = \"{url}/base\""))
}

impl Site {
    async fn start(example: &Example) -> Self {
        let (folder, passed) = (tempfile::tempdir().unwrap(), Passed::default());
        let mut gateway = command("gateway", folder.path());
        gateway.args(["--addr", "127.0.0.1:0", "--data", "data"]).envs(example.variables.iter().copied());
        gateway.env("RUST_LOG", "warn");
        if let Some(file) = example.file {
            fs::write(folder.path().join(file), configuration(file, Arc::clone(&passed)).await).unwrap();
            gateway.args(["--config", file]);
        }
        Self { gateway: Running::start(gateway, "listening on http://").await, folder, passed }
    }

    /// What the validator says.
    async fn validated(&self) -> Value {
        let mut python = Command::new(installed("venv/bin/python"));
        python.env_clear().arg("-B").arg(script("openapi.py")).arg(self.gateway.url("/openapi.json"));
        run(python).await
    }

    /// What the fuzzer found: its report, every exchange as HTTP Archive has it, and all that it said.
    async fn fuzzed(&self, example: &Example) -> (Value, Vec<Value>, String) {
        let [report, archive] = ["report.json", "archive.har"].map(|name| self.folder.path().join(name));
        let mut fuzzer = Command::new(installed("venv/bin/schemathesis"));
        fuzzer.env_clear().env("HOME", self.folder.path()).current_dir(self.folder.path()).kill_on_drop(true);
        fuzzer.arg("run").arg(self.gateway.url("/openapi.json")).args(["--checks", CHECKS, "--header", example.header]);
        // The document names the public address, where nobody should be fuzzed.
        fuzzer.arg("--url").arg(self.gateway.url(""));
        fuzzer.args(["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--seed", SEED]);
        fuzzer.args(["--continue-on-failure", "--no-shrink", "--warnings", "off", "--workers", "1"]);
        fuzzer.args(["--request-timeout", "20"]).arg("--report-json-path").arg(&report);
        fuzzer.arg("--report-har-path").arg(&archive);
        let output = tokio::time::timeout(std::time::Duration::from_secs(300), fuzzer.output()).await.expect("in time");
        let said = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
        let read = |path| {
            let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{error}: {said}"));
            serde_json::from_str::<Value>(&text).unwrap()
        };
        (read(report), read(archive)["log"]["entries"].as_array().unwrap().clone(), said)
    }

    async fn stop(self) {
        let Ended { status, stderr, .. } = soon(self.gateway.stop()).await;
        assert!(status.success() && !stderr.contains("panicked"), "{stderr}");
    }
}

#[tokio::test]
async fn the_openapi_document_of_each_example_is_valid() {
    for example in &OURS {
        let file = example.file;
        let site = Site::start(example).await;
        let said = site.validated().await;
        assert_eq!(said["errors"], json!([]), "{file:?}");
        assert!(said["version"].as_str().unwrap().starts_with("3.1."), "{file:?} {said:#}");
        assert_eq!(said["type"], "application/json", "{file:?}");
        // Who is asked for money is told so before, and nobody else.
        assert!(!said["paid"].as_array().unwrap().is_empty(), "{file:?} {said:#}");
        assert_eq!(said["paid"], said["billed"], "{file:?}");
        site.stop().await;
    }
}

#[tokio::test]
async fn the_gateway_answers_a_fuzzer_as_its_openapi_document_says() {
    for example in &OURS {
        let file = example.file;
        let site = Site::start(example).await;
        let (report, exchanges, said) = site.fuzzed(example).await;
        assert_eq!((&report["failures"], &report["errors"]), (&json!([]), &json!([])), "{file:?}\n{said}");
        assert_eq!(report["operations"]["tested"], report["operations"]["total"], "{file:?}\n{said}");
        assert_eq!((&report["complete"], &report["exit_code"]), (&json!(true), &json!(0)), "{file:?}\n{said}");
        assert!(report["test_cases"]["generated"].as_u64().unwrap() > 30, "{file:?}\n{said}");
        let paid = site.validated().await["paid"].clone();
        let mut bills = 0;
        for exchange in &exchanges {
            let (request, status) = (&exchange["request"], exchange["response"]["status"].as_u64().unwrap());
            let path = request["url"].as_str().unwrap().replace(&site.gateway.url(""), "");
            let operation = format!("{} {path}", request["method"].as_str().unwrap());
            // Whoever does not pay gets a bill, or learns what is wrong before it.
            let is_paid = paid.as_array().unwrap().iter().any(|paid| *paid == operation);
            assert!(status < 500 && !(is_paid && status < 400), "{file:?} {exchange:#}");
            let headers = exchange["response"]["headers"].as_array().unwrap();
            let is_billed = headers.iter().any(|header| header["name"] == "www-authenticate");
            assert_eq!(is_billed, status == 402, "{file:?} {exchange:#}");
            assert!(is_paid || !is_billed, "{file:?} {exchange:#}");
            bills += u32::from(is_billed);
        }
        assert!(bills > 0, "{file:?}\n{said}");
        // Nobody has paid, so nobody was served but by what is free.
        let free: Vec<String> = site.passed.lock().unwrap().clone();
        assert!(free.iter().all(|call| call.starts_with("GET ")), "{file:?} {free:?}");
        site.stop().await;
    }
}
