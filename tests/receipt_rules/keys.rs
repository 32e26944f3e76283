//! Key sets, and what is not a signature.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use tower_mpp::receipt::{CanonicalError, Jwk, Jwks, VerifyError, canonicalize, verify_receipt};

use super::{
    material::{NOW, SEED, full_body, receipts},
    signed, verified,
};

fn key() -> Jwk {
    receipts().jwks().keys[0].clone()
}

fn keys(key: Jwk) -> Jwks {
    Jwks { keys: vec![key] }
}

/// Signs any JSON with the key of the tests.
fn sign(mut value: Value) -> String {
    let message = canonicalize(&value.to_string()).unwrap();
    let signature = SigningKey::from_bytes(&SEED).sign(message.as_bytes()).to_bytes();
    value["signature"] = json!(URL_SAFE_NO_PAD.encode(signature));
    value.to_string()
}

fn small() -> Value {
    json!({"signing_algorithm": "ed25519", "signing_key_id": "key-1", "receipt_id": "r"})
}

#[test]
fn members_of_the_signature_have_to_be_there_and_to_be_texts() {
    verified(&sign(small())).unwrap();
    for name in ["signing_algorithm", "signing_key_id"] {
        for bad in [None, Some(json!(1)), Some(Value::Null)] {
            let mut value = small();
            match bad {
                Some(bad) => value[name] = bad,
                None => drop(value.as_object_mut().unwrap().remove(name)),
            }
            let found = verified(&sign(value)).unwrap_err();
            assert!(matches!(found, VerifyError::Member(member) if member == name), "{found}");
        }
    }
    for bad in [json!(null), json!(1), json!({})] {
        let mut value = small();
        value["signature"] = bad;
        assert_eq!(verified(&value.to_string()), Err(VerifyError::Member("signature")));
    }
    assert_eq!(verified(&small().to_string()), Err(VerifyError::Member("signature")));
    for bad in ["[]", "null", "\"x\"", "{", ""] {
        assert_eq!(verified(bad), Err(VerifyError::Canonical(CanonicalError::Json)), "{bad}");
    }
}

#[test]
fn a_signature_has_one_spelling() {
    // Until one has a character that the two alphabets write in two ways.
    let (good, signature) = (0..100)
        .find_map(|n| {
            let mut value = small();
            value["n"] = json!(n);
            let good: Value = serde_json::from_str(&sign(value)).unwrap();
            let signature = good["signature"].as_str().unwrap().to_owned();
            signature.contains(['-', '_']).then_some((good, signature))
        })
        .unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(&signature).unwrap();
    let mut trailing = signature.clone();
    // The last character carries four bits that belong to nothing.
    let last = trailing.pop().unwrap();
    trailing.push(char::from(last as u8 + 1));
    for bad in [
        URL_SAFE.encode(&bytes),
        STANDARD_NO_PAD.encode(&bytes),
        format!(" {signature}"),
        format!("{signature}\n"),
        trailing,
        signature[..85].to_owned(),
        URL_SAFE_NO_PAD.encode(&bytes[..63]),
        URL_SAFE_NO_PAD.encode([bytes.as_slice(), &[0]].concat()),
        String::new(),
    ] {
        let mut value = good.clone();
        value["signature"] = json!(bad);
        assert_eq!(verified(&value.to_string()), Err(VerifyError::Signature), "{bad}");
    }
}

#[test]
fn a_receipt_with_two_readings_is_not_read() {
    let good = sign(small());
    let signature = serde_json::from_str::<Value>(&good).unwrap()["signature"].as_str().unwrap().to_owned();
    for more in [
        format!("\"signature\":\"{signature}\""),
        "\"signature\":\"x\"".to_owned(),
        "\"\\u0073ignature\":\"x\"".to_owned(),
        "\"receipt_id\":\"other\"".to_owned(),
        "\"more\":{\"a\":1,\"a\":1}".to_owned(),
    ] {
        let twice = good.replacen('{', &format!("{{{more},"), 1);
        assert_eq!(verified(&twice), Err(VerifyError::Canonical(CanonicalError::Duplicate)), "{more}");
    }
}

#[test]
fn keys_that_anybody_can_sign_with_are_no_keys() {
    // Points of small order (RFC 8032 with Ed25519, order 1, 2, 4 and 8): with S = 0 and R = A every message verifies
    // unless they are refused.
    for point in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let point: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&point[at * 2..at * 2 + 2], 16).unwrap()).collect();
        let point: [u8; 32] = point.try_into().unwrap();
        for r in
            [point, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
        {
            let mut forged = small();
            forged["signature"] = json!(URL_SAFE_NO_PAD.encode([r, [0; 32]].concat()));
            let found = verify_receipt(&forged.to_string(), &keys(Jwk::ed25519("key-1", &point)));
            assert_eq!(found, Err(VerifyError::Key));
        }
    }
    for bad in ["", "AAAA", &format!("{}=", key().x), "!"] {
        let found = verify_receipt(&sign(small()), &keys(Jwk { x: bad.into(), ..key() }));
        assert_eq!(found, Err(VerifyError::Key), "{bad}");
    }
    for other in [
        Jwk { kty: "EC".into(), ..key() },
        Jwk { crv: "Ed448".into(), ..key() },
        Jwk { alg: "HS256".into(), ..key() },
        Jwk { use_: "enc".into(), ..key() },
    ] {
        assert_eq!(verify_receipt(&sign(small()), &keys(other)), Err(VerifyError::Algorithm));
    }
}

#[test]
fn a_key_counts_for_receipts_of_its_time() {
    let signed = signed(full_body());
    let made = NOW.parse::<tower_mpp::protocol::Timestamp>().unwrap().unix();
    let with = |nbf, exp| verify_receipt(signed.json(), &keys(Jwk { nbf, exp, ..key() })).map(drop);
    assert_eq!(with(Some(made), Some(made + 1)), Ok(()));
    assert_eq!(with(Some(made), None), Ok(()));
    assert_eq!(with(None, Some(made)), Err(VerifyError::KeyNotValid));
    assert_eq!(with(Some(made + 1), None), Err(VerifyError::KeyNotValid));
    // Who does not say when it was made was not made in time.
    let windowed = keys(Jwk { nbf: Some(0), ..key() });
    assert_eq!(verify_receipt(&sign(small()), &windowed), Err(VerifyError::Member("created_at")));
}

#[test]
fn sets_are_read_strictly_and_foreign_keys_left_out() {
    let set = |keys: Value| json!({ "keys": keys }).to_string().parse::<Jwks>();
    let own = serde_json::to_value(key()).unwrap();
    let bare = json!({"kty": "OKP", "crv": "Ed25519", "x": key().x, "kid": "bare"});
    let rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "rsa", "alg": "RS256"});
    let x25519 = json!({"kty": "OKP", "crv": "X25519", "x": key().x, "kid": "enc"});
    let nameless = json!({"kty": "OKP", "crv": "Ed25519", "x": key().x});
    let read = set(json!([own, rsa, x25519, nameless, bare])).unwrap();
    assert_eq!(read.keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>(), ["key-1", "bare"]);
    assert_eq!(read.get("bare").unwrap().alg, "EdDSA");
    assert_eq!(receipts().jwks(), serde_json::to_string(&receipts().jwks()).unwrap().parse().unwrap());

    let mut private = own.clone();
    private["d"] = json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
    let text = set(json!([private])).unwrap_err().to_string();
    assert!(text.contains("private key") && !text.contains("nWGx"), "{text}");
    assert!(set(json!([{"kty": "oct", "k": "c2VjcmV0", "kid": "s"}])).is_err());
    assert!(set(json!([own, own])).unwrap_err().to_string().contains("same kid"));
    let mut other = rsa.clone();
    other["kid"] = json!("key-1");
    assert!(set(json!([other, own])).is_err(), "which of them is meant?");
    for bad in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[],\"keys\":[]}", &" ".repeat(300 * 1024)] {
        assert!(bad.parse::<Jwks>().is_err());
    }
    assert!(set(json!([{"kty": "OKP", "crv": "Ed25519", "x": 1, "kid": "k"}])).is_err());
    assert!(serde_json::from_str::<Jwks>(&json!({"keys": [own, own]}).to_string()).is_err());
}
