//! Others check the receipts that the ledger gives out: a browser with the script of the page, Python with
//! `cryptography` and `rfc8785`, and Node with WebCrypto and `canonicalize`. `scripts/test` installs them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![recursion_limit = "256"] // A receipt has many members.

mod browser;
mod languages;
#[path = "../ledger/rows.rs"]
mod rows;
mod shelf;
mod site;

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

/// What `scripts/test` has installed.
fn installed(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(name);
    assert!(path.exists(), "{} is missing: run ./scripts/test, which installs it", path.display());
    path
}

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
