//! `RECEIPT_KEY`: every paid answer names a signed receipt that anybody can fetch and check, also after `kill -9`.

use ed25519_dalek::{
    SigningKey,
    pkcs8::{EncodePrivateKey as _, spki::der::pem::LineEnding},
};
use serde_json::Value;
use tower_mpp::receipt::{Jwks, Verified, verify_receipt};

use crate::{
    process::{Program, ok, run, soon},
    support::Answer,
};

const KEYS: &str = "/.well-known/receipt-keys.json";

/// The receipt of an answer, checked against what the program lists.
async fn check(program: &Program, id: &str) -> Verified {
    let receipt = program.get(&format!("/v1/receipts/{id}")).await;
    assert_eq!(receipt.status, 200, "{receipt:?}");
    let keys: Jwks = program.get(KEYS).await.text().parse().unwrap();
    verify_receipt(receipt.text(), &keys).unwrap()
}

/// The members that the MPP receipt of an answer has for the signed one.
fn named(answer: &Answer) -> (String, Value, Value) {
    let extra = answer.receipt().extra;
    let id = extra["receiptUrl"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    (id, extra["receiptDigest"].clone(), extra["receiptKid"].clone())
}

#[tokio::test]
async fn a_paid_answer_names_a_receipt_that_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let (key, store) = (folder.path().join("key.pem"), folder.path().join("pay.db"));
    let pem = SigningKey::from_bytes(&[7; 32]).to_pkcs8_pem(LineEnding::LF).unwrap();
    std::fs::write(&key, pem.as_bytes()).unwrap();
    let store = format!("sqlite:{}", store.display());
    let variables = [("RECEIPT_KEY", key.to_str().unwrap()), ("STORE", store.as_str())];
    let program = Program::with(&variables).await;
    let credential = program.credential("/demo", &ok()).await;
    let paid = program.pay("/demo", &credential).await;
    let (id, digest, kid) = named(&paid);
    let verified = check(&program, &id).await;
    assert_eq!((digest, kid), (verified.digest.to_string().into(), verified.key_id.as_str().into()));
    assert_eq!(verified.receipt["visibility"], "public_full");
    assert_eq!(verified.receipt["payment"]["amount"], "100");
    assert_eq!(program.get(&format!("/r/{id}")).await.status, 200);

    let credential = program.credential("/demo?fail=500", &ok()).await;
    let failed = program.pay("/demo?fail=500", &credential).await;
    let link = failed.header("link").unwrap().to_owned();
    let failure = link.strip_suffix(">; rel=\"receipt\"").unwrap().rsplit('/').next().unwrap();
    assert!(!failed.headers.contains_key("payment-receipt"));
    // A failure does not wait for its receipt.
    soon(async {
        while program.get(&format!("/v1/receipts/{failure}")).await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    program.kill().await;

    let program = Program::with(&variables).await;
    assert_eq!(check(&program, &id).await.receipt, verified.receipt);
    assert_eq!(check(&program, failure).await.receipt["receipt_type"], "failed");
    assert_eq!(program.get("/v1/receipts/8c5a4e2a-9b6d-4f3e-89a3-aa3e8b1f7fc3").await.status, 404);
}

#[tokio::test]
async fn a_key_that_cannot_be_used_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.pem");
    std::fs::write(&none, "no key").unwrap();
    for path in [none.to_str().unwrap(), folder.path().to_str().unwrap(), ""] {
        let ended = run(&[("RECEIPT_KEY", path)]).await;
        assert!(!ended.status.success() && !ended.stdout.contains("ready"), "{path:?}");
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert!(lines.len() == 1 && lines[0].contains("RECEIPT_KEY"), "{path:?}: {lines:?}");
    }
}
