//! Third parties, which `scripts/test` installs.
//!
//! Receipts that the ledger gives out are checked by a browser with the script of the page, by Python with
//! `cryptography` and `rfc8785`, and by Node with WebCrypto and `canonicalize`. The gateway sells model calls of a
//! stand-in of the providers to the official SDKs of OpenAI and Anthropic, and of a stand-in of Amazon Bedrock. What it
//! tells of itself by OpenAPI is read by a validator and put to the test by a fuzzer.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![recursion_limit = "256"] // A receipt has many members.

mod anthropic_sdk;
mod bedrock_sdk;
mod browser;
mod languages;
mod openai_sdk;
mod openapi;
#[path = "../support/programs.rs"]
mod programs;
#[path = "../ledger/rows.rs"]
mod rows;
mod sdk;
mod shelf;
mod site;
#[path = "../support/third_parties.rs"]
mod third_parties;

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

use crate::third_parties::installed;

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// Runs a program to its end, and gives what it has written: JSON.
async fn run(mut command: Command) -> serde_json::Value {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(300), command.output()).await.expect("in time").unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}: {}\n{error}\n{out}", command.as_std(), output.status);
    serde_json::from_str(&out).unwrap_or_else(|failed| panic!("{failed}:\n{out}\n{error}"))
}

/// A script beside the packages that it uses.
fn node(name: &str) -> Command {
    let copy = installed("node_modules").with_file_name(name);
    std::fs::copy(script(name), &copy).unwrap();
    let mut command = Command::new("node");
    command.arg(copy);
    command
}
