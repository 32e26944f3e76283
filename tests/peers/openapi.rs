//! `/openapi.json` of the gateway: valid for a validator, and true for a fuzzer that asks whatever it allows and
//! forbids, without paying.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    programs::{Ended, Running, command, soon},
    run, script,
    third_parties::installed,
};

/// What is true of every answer, whatever was asked. That a call is not paid is never an error of the server.
const CHECKS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
     response_schema_conformance";
/// The fuzzer tries as much on each operation. Its examples are the same in each run.
const EXAMPLES: &str = "30";
const SEED: &str = "4711";

/// The examples that people copy, and what they find in their environment.
const CONFIGURATIONS: [(Option<&str>, &[(&str, &str)]); 2] = [(None, &[]), (Some("gateway.toml"), &[])];

struct Site {
    gateway: Running,
    folder: TempDir,
}

impl Site {
    async fn start(file: Option<&str>, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut gateway = command("gateway", folder.path());
        gateway.args(["--addr", "127.0.0.1:0", "--data", "data"]).envs(variables.iter().copied()).env("RUST_LOG", "warn");
        if let Some(file) = file {
            let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gateway").join(file);
            gateway.arg("--config").arg(example);
        }
        Self { gateway: Running::start(gateway, "listening on http://").await, folder }
    }

    /// What the validator says.
    async fn validated(&self) -> Value {
        let mut python = Command::new(installed("venv/bin/python"));
        python.env_clear().arg("-B").arg(script("openapi.py")).arg(self.gateway.url("/openapi.json"));
        run(python).await
    }

    /// What the fuzzer found: its report, and all that it said.
    async fn fuzzed(&self) -> (Value, String) {
        let report = self.folder.path().join("report.json");
        let mut fuzzer = Command::new(installed("venv/bin/schemathesis"));
        fuzzer.env_clear().env("HOME", self.folder.path()).current_dir(self.folder.path()).kill_on_drop(true);
        fuzzer.arg("run").arg(self.gateway.url("/openapi.json")).args(["--checks", CHECKS]);
        fuzzer.args(["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--seed", SEED]);
        fuzzer.args(["--continue-on-failure", "--no-shrink", "--warnings", "off", "--workers", "1"]);
        fuzzer.args(["--request-timeout", "20"]).arg("--report-json-path").arg(&report);
        let output = tokio::time::timeout(std::time::Duration::from_secs(300), fuzzer.output()).await.expect("in time");
        let said = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
        let report = fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {said}"));
        (serde_json::from_str(&report).unwrap(), said)
    }

    async fn stop(self) {
        let Ended { status, stderr, .. } = soon(self.gateway.stop()).await;
        assert!(status.success() && !stderr.contains("panicked"), "{stderr}");
    }
}

#[tokio::test]
async fn the_openapi_document_of_each_example_is_valid() {
    for (file, variables) in CONFIGURATIONS {
        let site = Site::start(file, variables).await;
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
    for (file, variables) in CONFIGURATIONS {
        let site = Site::start(file, variables).await;
        let (report, said) = site.fuzzed().await;
        assert_eq!((&report["failures"], &report["errors"]), (&json!([]), &json!([])), "{file:?}\n{said}");
        assert_eq!(report["operations"]["tested"], report["operations"]["total"], "{file:?}\n{said}");
        assert_eq!((&report["complete"], &report["exit_code"]), (&json!(true), &json!(0)), "{file:?}\n{said}");
        assert!(report["test_cases"]["generated"].as_u64().unwrap() > 30, "{file:?}\n{said}");
        site.stop().await;
    }
}
