//! What the fuzz target `signed_receipt` runs, and the ordinary test run with it: see `protocol::fuzz`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{pin::pin, sync::LazyLock, task};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Map, Value, json};

use super::{CanonicalError, Ed25519Signer, Jwks, ReceiptBody, Receipts, VerifyError};
use super::{canonicalize, payload_hash, verify_receipt};
use crate::protocol::jcs;

const SEED: [u8; 32] = [7; 32];
const KID: &str = "key-1";

static RECEIPTS: LazyLock<Receipts> = LazyLock::new(|| {
    let signer = Ed25519Signer::from_seed(KID, &SEED).unwrap();
    Receipts::builder("https://receipts.example.com", signer).build().unwrap()
});
static KEYS: LazyLock<Jwks> = LazyLock::new(|| RECEIPTS.jwks());

/// A receipt, a set of keys, or any other JSON.
pub fn signed_receipt(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(set) = text.parse::<Jwks>() {
        assert_eq!(serde_json::to_string(&set).unwrap().parse(), Ok(set.clone()));
        assert!(set.keys.iter().all(|key| set.get(&key.kid) == Some(key)));
    }
    let canonical = match canonicalize(&text) {
        Ok(canonical) => canonical,
        Err(error) => {
            assert_eq!(verify_receipt(&text, &KEYS).unwrap_err(), VerifyError::Canonical(error));
            // What is JSON has something that is there twice.
            let json = serde_json::from_str::<Value>(&text).is_ok();
            assert!(!json || matches!(error, CanonicalError::Duplicate | CanonicalError::TooDeep), "{error}");
            return;
        }
    };
    assert_eq!(canonicalize(&canonical).as_ref(), Ok(&canonical));
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(canonicalize(&serde_json::to_string_pretty(&value).unwrap()).as_ref(), Ok(&canonical));
    if text.is_ascii() && !text.contains("\\u") {
        assert_eq!(jcs::to_string(&value).unwrap(), canonical);
    }
    // Signatures take long where nothing is optimised, and one input in sixteen is enough.
    let Value::Object(members) = value else { return };
    if !payload_hash(data).ends_with('0') {
        return;
    }
    assert!(verify_receipt(&text, &KEYS).is_err(), "nobody has signed this");
    signed_members(members);
    if let Ok(body) = serde_json::from_str::<ReceiptBody>(&canonical) {
        signed_body(body);
    }
}

/// Whatever is signed verifies, and nothing else does.
fn signed_members(mut members: Map<String, Value>) {
    members.remove("signature");
    members.insert("signing_algorithm".into(), json!("ed25519"));
    members.insert("signing_key_id".into(), json!(KID));
    let Ok(message) = canonicalize(&json!(members).to_string()) else { return };
    let signature = SigningKey::from_bytes(&SEED).sign(message.as_bytes()).to_bytes();
    members.insert("signature".into(), json!(URL_SAFE_NO_PAD.encode(signature)));
    let verified = verify_receipt(&json!(members).to_string(), &KEYS).unwrap();
    assert_eq!(canonicalize(&verified.receipt.to_string()).unwrap(), message);
    members.insert("one more".into(), Value::Null);
    assert_eq!(verify_receipt(&json!(members).to_string(), &KEYS).unwrap_err(), VerifyError::Signature);
}

/// What is issued is canonical and reads as it was given.
fn signed_body(body: ReceiptBody) {
    let signing = pin!(RECEIPTS.sign(body, false));
    let task::Poll::Ready(signed) = signing.poll(&mut task::Context::from_waker(task::Waker::noop())) else {
        panic!("a key at hand waits for nothing")
    };
    let Ok(signed) = signed else { return };
    assert_eq!(canonicalize(signed.json()).unwrap(), signed.json());
    let verified = verify_receipt(signed.json(), &KEYS).unwrap();
    let given = serde_json::to_string(signed.body()).unwrap();
    let mut given: ReceiptBody = serde_json::from_str(&canonicalize(&given).unwrap()).unwrap();
    let read = verified.body().unwrap();
    given.agent_handle.clone_from(&read.agent_handle);
    assert_eq!(read, given);
    if let Some(public) = signed.public_json() {
        assert_eq!(verify_receipt(public, &KEYS).unwrap().digest, signed.digest());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::fuzz::tests::drive;

    const SEEDS: &[&str] = &[
        r#"{"receipt_id":"8c5a4e2a-9b6d-4f3e-89a3-aa3e8b1f7fc3","provider":"groq","input_tokens":12,"cost_final_usd":1.2e-6,"module_chain":["a","\u00e9"],"visibility":"public_minimal","created_at":"2026-06-05T21:10:50.168Z","agent_handle":"@a"}"#,
        r#"{"payment":{"amount":"50","currency":"usd","intent":"charge","method":"stripe","reference":"pi_1","challenge_id":null},"visibility":"public_redacted","status":"A\u030a","http_status":200}"#,
        r#"{"signature":"AAAA","signing_algorithm":"ed25519","signing_key_id":"key-1","n":[1e21,-0.0,1E-7,9007199254740993,0.1],"z":{"b":null,"a":true}}"#,
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"key-1","alg":"EdDSA","use":"sig","exp":1},{"kty":"RSA","kid":"r"}]}"#,
        "{\"e\u{301}\":\"\u{212b}\",\"\u{1f602}\":1,\"\u{ff21}\":2}",
    ];

    #[test]
    fn signed_receipt_holds() {
        drive(signed_receipt, SEEDS);
    }
}
