//! Receipts and keys from the running ledger, checked with nothing of ours.

use serde_json::json;
use tokio::process::Command;

use crate::{
    node,
    rows::id,
    run, script,
    shelf::{HMAC, ISSUED, ODD, ODDS, PLAIN, REFUND, SPARSE},
    site,
    third_parties::installed,
};

/// Gives a program the address of the ledger and ids, and asserts what it says of them.
async fn check(mut command: Command) {
    let ledger = site::start(None).await;
    let good: Vec<String> = [PLAIN, REFUND, SPARSE, ISSUED]
        .into_iter()
        .chain(ODD..ODD + ODDS)
        .map(|number| id(number).to_string())
        .collect();
    command.arg(format!("http://{ledger}")).arg(id(HMAC).to_string()).args(&good);
    let seen = run(command).await;
    for id in &good {
        let found = &seen[id];
        assert_eq!(found["verified"], true, "{id} {found}");
        assert_eq!(found["digest"], true, "{id} {found}");
        // Each member was changed, taken out, or doubled, one after the other.
        assert!(found["tampered"].as_u64().unwrap() > 1, "{id} {found}");
        assert_eq!(found["believed"], json!([]), "{id}");
    }
    assert_eq!(seen["other key"], false);
    assert_eq!(seen["hmac"], "hmac_sha256");
}

#[tokio::test]
async fn python_checks_receipts() {
    let mut python = Command::new(installed("venv/bin/python"));
    python.arg("-B").arg(script("verify.py"));
    check(python).await;
}

#[tokio::test]
async fn node_checks_receipts() {
    check(node("verify.mjs")).await;
}
