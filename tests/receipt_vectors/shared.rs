//! The vectors of the description: RFC 8785, RFC 8032, RFC 8037, RFC 9530, and receipts of its author's making.

use std::{env, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tower_mpp::{
    protocol::{ContentDigest, jcs},
    receipt::{
        Ed25519Signer, HmacSigner, Jwk, Jwks, ReceiptSigner as _, VerifyError, canonicalize, verify_receipt,
        verify_receipt_with_secret,
    },
};

use super::{File, bytes, run, text, unhex, without_signature};

fn cases(section: &Value) -> &[Value] {
    let cases = section["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    cases
}

/// Plain RFC 8785, as challenges have it.
fn plain(json: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json).ok()?;
    jcs::to_string(&value).ok()
}

fn codepoints(value: &Value) -> String {
    let of = |text: &Value| char::from_u32(u32::from_str_radix(text.as_str().unwrap(), 16).unwrap()).unwrap();
    value.as_array().unwrap().iter().map(of).collect()
}

#[test]
fn those_of_the_description() {
    let Some(folder) = env::var_os("MPP_VECTORS_DIR") else {
        eprintln!("MPP_VECTORS_DIR is not set: its receipts.json is not run");
        return;
    };
    let mut file = File::read(&Path::new(&folder).join("receipts.json"));
    canonical_form(&mut file);
    signatures(&mut file);
    receipts(&mut file);
    file.end();
}

fn canonical_form(file: &mut File) {
    for case in cases(&file.section("jcs_testdata")) {
        let (input, name) = (text(&case["input"]), &case["name"]);
        let expected = text(&case["canonical_jcs"]);
        assert_eq!(plain(input).unwrap(), expected, "{name}");
        assert_eq!(bytes(&case["canonical_jcs_hex"]), expected.as_bytes(), "{name}");
        let normal = text(&case["canonical_jcs_plus_nfc"]);
        assert_eq!(canonicalize(input).unwrap(), normal, "{name}");
        assert_eq!(bytes(&case["canonical_jcs_plus_nfc_hex"]), normal.as_bytes(), "{name}");
    }
    for case in cases(&file.section("jcs_numbers")) {
        let number = f64::from_bits(u64::from_str_radix(text(&case["ieee754_hex"]), 16).unwrap());
        let expected = text(&case["expected"]);
        if expected.starts_with("ERROR") {
            assert!(!number.is_finite());
            assert!(canonicalize(&number.to_string()).is_err());
        } else {
            assert_eq!(canonicalize(&format!("{number:e}")).unwrap(), expected);
            assert_eq!(canonicalize(&format!("{number}")).unwrap(), expected);
        }
    }
    for case in cases(&file.section("jcs_reject")) {
        assert!(canonicalize(text(&case["input"])).is_err(), "{}", case["name"]);
        if let Some(expected) = case.get("plain_jcs") {
            assert_eq!(plain(text(&case["input"])).unwrap(), text(expected));
        }
    }
    for case in cases(&file.section("nfc")) {
        let (input, expected) = (codepoints(&case["input_codepoints"]), codepoints(&case["nfc_codepoints"]));
        assert_eq!(canonicalize(&json!(input).to_string()).unwrap(), json!(expected).to_string(), "{}", case["name"]);
        let member = canonicalize(&json!({ input: 1 }).to_string()).unwrap();
        assert_eq!(member, json!({ expected: 1 }).to_string(), "{}", case["name"]);
    }
    let order = file.section("nfc_ordering");
    assert_eq!(canonicalize(text(&order["input"])).unwrap(), text(&order["jcs_nfc"]));
    assert_eq!(plain(text(&order["input"])).unwrap(), text(&order["plain_jcs"]));
    assert_ne!(order["jcs_nfc"], order["wrong_sort_then_nfc"]);
    let order = file.section("utf16_ordering");
    assert_eq!(plain(text(&order["input"])).unwrap(), text(&order["canonical"]));
    // NFC takes U+FB33 apart, so that here another character shows the same.
    let input = text(&order["input"]).replace("\\ufb33", "\u{ff21}").replace('\u{fb33}', "\u{ff21}");
    let expected = text(&order["canonical"]).replace('\u{fb33}', "\u{ff21}");
    assert_eq!(canonicalize(&input).unwrap(), expected);
    for case in cases(&file.section("rfc9530")) {
        assert_eq!(ContentDigest::of(text(&case["body"]).as_bytes()).to_string(), case["value"]);
    }
}

fn signatures(file: &mut File) {
    for case in cases(&file.section("ed25519")) {
        let signer = Ed25519Signer::from_seed("k", &unhex(&case["seed"])).unwrap();
        let expected = Jwk::ed25519("k", &unhex(&case["public_key"]));
        assert_eq!(signer.public_key(), Some(expected), "{}", case["name"]);
        let signature = run(signer.sign(&bytes(&case["message"]))).unwrap();
        assert_eq!(signature, bytes(&case["signature"]), "{}", case["name"]);
    }
    // The messages are no receipts: they are checked by the same strict rules, beneath `verify_receipt`.
    let section = file.section("ed25519_reject");
    let key = ed25519_dalek::VerifyingKey::from_bytes(&unhex(&section["public_key"])).unwrap();
    for case in cases(&section) {
        let message = bytes(case.get("message").unwrap_or(&section["message"]));
        let signature = ed25519_dalek::Signature::from_slice(&bytes(&case["signature"]));
        let verified = signature.is_ok_and(|signature| key.verify_strict(&message, &signature).is_ok());
        assert!(!verified && case["node_openssl_verify"] != true, "{}", case["name"]);
    }
    let jwk = file.section("jwk");
    let seed = URL_SAFE_NO_PAD.decode(text(&jwk["private_d"])).unwrap();
    let key = Ed25519Signer::from_seed("k", &seed.try_into().unwrap()).unwrap().public_key().unwrap();
    for name in ["kty", "crv", "x"] {
        assert_eq!(serde_json::to_value(&key).unwrap()[name], jwk["public_jwk"][name]);
    }
    assert_eq!(key.thumbprint(), text(&jwk["rfc7638_thumbprint"]));
}

fn receipts(file: &mut File) {
    let section = file.section("receipts");
    let jwks: Jwks = section["jwks"].to_string().parse().unwrap();
    for case in cases(&section) {
        let receipt = case["receipt"].to_string();
        let message = without_signature(&receipt);
        assert_eq!(message, text(&case["canonical_without_signature"]), "{}", case["name"]);
        let verified = verify_receipt(&receipt, &jwks).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        assert_eq!(verified.digest.to_string(), case["digest_header_over_canonical_without_signature"]);
        let hash = tower_mpp::receipt::payload_hash(message.as_bytes());
        assert_eq!(hash, format!("sha256-{}", text(&case["canonical_without_signature_sha256"])));
        let whole = canonicalize(&receipt).unwrap();
        let other_reading = ContentDigest::of(whole.as_bytes()).to_string();
        assert_eq!(other_reading, case["digest_header_over_canonical_with_signature"]);
        assert_eq!(case["receipt"]["signature"], case["signature_base64url"]);
        // Sent as it was signed it verifies as well.
        verify_receipt(&whole, &jwks).unwrap();
    }
    let good = &cases(&section)[0]["receipt"];
    verify_receipt(&good.to_string(), &jwks).unwrap().body().unwrap();
    for case in section["negative"].as_array().unwrap() {
        negative(text(&case["name"]), good, &jwks);
    }

    let section = file.section("hmac_fallback");
    let secret = bytes(&section["key_hex"]);
    assert_eq!(canonicalize(&section["receipt"].to_string()).unwrap(), text(&section["canonical"]));
    let key_id = text(&section["receipt"]["signing_key_id"]);
    let signer = HmacSigner::new(key_id, &secret).unwrap();
    let signature = run(signer.sign(text(&section["canonical"]).as_bytes())).unwrap();
    assert_eq!(URL_SAFE_NO_PAD.encode(signature), text(&section["signature_base64url"]));
    let mut receipt = section["receipt"].clone();
    receipt["signature"] = section["signature_base64url"].clone();
    verify_receipt_with_secret(&receipt.to_string(), key_id, &secret).unwrap();
    assert_eq!(verify_receipt(&receipt.to_string(), &jwks), Err(VerifyError::Algorithm));
}

/// The cases that the description tells in words.
fn negative(name: &str, good: &Value, jwks: &Jwks) {
    let mut bad = good.clone();
    let refused = |receipt: &str, error: VerifyError| assert_eq!(verify_receipt(receipt, jwks), Err(error), "{name}");
    match name {
        "tampered field" => {
            bad["input_tokens"] = json!(13);
            refused(&bad.to_string(), VerifyError::Signature);
        }
        "unknown kid" => {
            bad["signing_key_id"] = json!("other");
            refused(&bad.to_string(), VerifyError::UnknownKey("other".into()));
        }
        "alg confusion" => {
            let public_key = URL_SAFE_NO_PAD.decode(&jwks.keys[0].x).unwrap();
            bad["signing_algorithm"] = json!("hmac_sha256");
            let signer = HmacSigner::new("k", &public_key).unwrap();
            let mac = run(signer.sign(without_signature(&bad.to_string()).as_bytes())).unwrap();
            bad["signature"] = json!(URL_SAFE_NO_PAD.encode(mac));
            refused(&bad.to_string(), VerifyError::Algorithm);
        }
        "signature with base64 padding or + /" => {
            let signature = text(&good["signature"]);
            bad["signature"] = json!(format!("{signature}=="));
            refused(&bad.to_string(), VerifyError::Signature);
            let other = signature.replace('-', "+").replace('_', "/");
            assert_ne!(other, signature);
            bad["signature"] = json!(other);
            refused(&bad.to_string(), VerifyError::Signature);
        }
        "duplicate signature member" => {
            let twice = good.to_string().replacen('{', "{\"signature\":\"A\",", 1);
            refused(&twice, VerifyError::Canonical(tower_mpp::receipt::CanonicalError::Duplicate));
        }
        "extra member added after signing" => {
            bad["more"] = json!(null);
            refused(&bad.to_string(), VerifyError::Signature);
        }
        _ => panic!("a new negative case: {name}"),
    }
}
