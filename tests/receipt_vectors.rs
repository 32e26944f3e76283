//! Test vectors of signed receipts: our own, computed a second time by `tests/vectors/signed_receipts.py`, and, when
//! `MPP_VECTORS_DIR` names a folder with `receipts.json`, those of the description of such receipts.
//!
//! Every section of both files is run, and a section that nothing tests is a failure.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice)]

#[path = "receipt_vectors/shared.rs"]
mod shared;

use std::path::Path;

use serde_json::{Map, Value};
use tower_mpp::receipt::{
    Ed25519Signer, Jwks, OpenError, ReceiptBody, Receipts, RecipientSecret, VerifyError, canonicalize, open,
    verify_receipt, verify_receipt_with_secret,
};

/// A file of vectors, section by section.
struct File {
    sections: Map<String, Value>,
}

impl File {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { sections: serde_json::from_str(&text).unwrap() }
    }

    fn section(&mut self, name: &str) -> Value {
        self.sections.remove(name).unwrap_or_else(|| panic!("no section {name}"))
    }

    fn list(&mut self, name: &str) -> Vec<Value> {
        let Value::Array(list) = self.section(name) else { panic!("{name} is no list") };
        assert!(!list.is_empty(), "{name} is empty");
        list
    }

    fn end(self) {
        let left: Vec<&String> = self.sections.keys().filter(|name| !name.starts_with('_')).collect();
        assert!(left.is_empty(), "sections that nothing tests: {left:?}");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn unhex<const N: usize>(text: &Value) -> [u8; N] {
    bytes(text).try_into().unwrap()
}

fn bytes(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn without_signature(receipt: &str) -> String {
    let mut value: Value = serde_json::from_str(receipt).unwrap();
    value.as_object_mut().unwrap().remove("signature").unwrap();
    canonicalize(&value.to_string()).unwrap()
}

/// A key at hand signs at once, so that no runtime is needed.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut cx) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("it waits for something"),
    }
}

#[test]
fn our_own() {
    let mut file = File::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/signed_receipts.json"));
    for vector in file.list("texts") {
        assert_eq!(canonicalize(text(&vector["read"])).as_deref(), Ok(text(&vector["written"])), "{vector}");
        assert_eq!(canonicalize(text(&vector["written"])).as_deref(), Ok(text(&vector["written"])));
    }
    for vector in file.list("refused_texts") {
        assert!(canonicalize(text(&vector)).is_err(), "{vector}");
    }

    let keys = file.list("keys").remove(0);
    let jwks: Jwks = keys["jwks"].to_string().parse().unwrap();
    let signer = Ed25519Signer::from_seed(&*jwks.keys[0].kid, &unhex(&keys["seed_hex"])).unwrap();
    let receipts = Receipts::builder("https://receipts.example.com", signer).build().unwrap();
    assert_eq!(receipts.jwks(), jwks);
    assert_eq!(jwks.keys[0].thumbprint(), text(&keys["thumbprint"]));

    for vector in file.list("verified") {
        let receipt = text(&vector["receipt"]);
        let verified = verify_receipt(receipt, &jwks).unwrap_or_else(|error| panic!("{}: {error}", vector["why"]));
        assert_eq!(verified.key_id, jwks.keys[0].kid);
        assert_eq!(verified.digest.to_string(), vector["digest"]);
        assert_eq!(without_signature(receipt), text(&vector["canonical"]));
        assert_eq!(canonicalize(&verified.receipt.to_string()).unwrap(), text(&vector["canonical"]));
    }
    for vector in file.list("refused") {
        assert!(verify_receipt(text(&vector["receipt"]), &jwks).is_err(), "{}", vector["why"]);
    }
    let secret: [u8; 32] = unhex(&keys["secret_hex"]);
    for vector in file.list("hmac") {
        let receipt = text(&vector["receipt"]);
        let verified = verify_receipt_with_secret(receipt, "hmac-1", &secret).unwrap();
        assert_eq!(verified.digest.to_string(), vector["digest"]);
        assert_eq!(without_signature(receipt), text(&vector["canonical"]));
        assert_eq!(verify_receipt(receipt, &jwks), Err(VerifyError::Algorithm));
        let touched = receipt.replacen("\"receipt_id\": \"", "\"receipt_id\": \"x", 1);
        assert_eq!(verify_receipt_with_secret(&touched, "hmac-1", &secret), Err(VerifyError::Signature));
    }
    for vector in file.list("issued") {
        let body: ReceiptBody = serde_json::from_value(vector["body"].clone()).unwrap();
        let signed = run(receipts.sign(body, false)).unwrap();
        assert_eq!(signed.json(), vector["full"]);
        assert_eq!(signed.public_json(), vector["public"].as_str());
        assert_eq!(signed.digest().to_string(), vector["digest"]);
    }
    for vector in file.list("envelopes") {
        let secret: RecipientSecret = text(&vector["secret"]).parse().unwrap();
        assert_eq!(secret.recipient().to_string(), vector["recipient"]);
        let envelope = vector["envelope"].to_string();
        assert_eq!(open(&secret, &envelope).unwrap(), bytes(&vector["payload_hex"]));
        assert_eq!(open(&RecipientSecret::random(), &envelope), Err(OpenError::OtherKey));
    }
    file.end();
}
