//! Test vectors of the wire: our own, computed a second time by `tests/vectors/generate.py`, and,
//! when `MPP_VECTORS_DIR` names a folder with them, those recorded from deployed peers.
//!
//! That the checked-in files are what the generator writes is checked by
//! `python3 tests/vectors/generate.py --check`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice)]

#[path = "vectors/deviations.rs"]
mod deviations;
#[path = "vectors/own.rs"]
mod own;
#[path = "vectors/peers.rs"]
mod peers;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderValue;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tower_mpp::protocol::{Challenge, CredentialBytes, Intent, MethodId, Receipt, authorization, payment_credential};

/// The seven slots of the core draft, section 5.1.2.1.
fn bound(challenge: &Challenge) -> String {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    [
        challenge.realm.clone(),
        challenge.method.to_string(),
        challenge.intent.to_string(),
        challenge.request.clone(),
        optional(&challenge.expires),
        optional(&challenge.digest),
        optional(&challenge.opaque),
    ]
    .join("|")
}

fn hmac_id(secret: &str, bound: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(bound.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// A challenge from its parameters, or nothing when our types cannot hold them.
fn challenge_from(params: &Value) -> Option<Challenge> {
    let text = |name: &str| params[name].as_str().map(str::to_owned);
    Some(Challenge {
        id: text("id")?,
        realm: text("realm")?,
        method: MethodId::new(text("method")?).ok()?,
        intent: Intent::new(text("intent")?).ok()?,
        request: text("request")?,
        expires: text("expires"),
        digest: text("digest"),
        description: text("description"),
        opaque: text("opaque"),
    })
}

fn challenge_to_json(challenge: &Challenge) -> Value {
    let mut params = Map::new();
    for (name, value) in [
        ("id", Some(&challenge.id)),
        ("realm", Some(&challenge.realm)),
        ("request", Some(&challenge.request)),
        ("expires", challenge.expires.as_ref()),
        ("digest", challenge.digest.as_ref()),
        ("description", challenge.description.as_ref()),
        ("opaque", challenge.opaque.as_ref()),
    ] {
        params.extend(value.map(|value| (name.to_owned(), json!(value))));
    }
    params.insert("method".to_owned(), json!(challenge.method.as_str()));
    params.insert("intent".to_owned(), json!(challenge.intent.as_str()));
    Value::Object(params)
}

/// What we read from the token of a credential.
fn credential_to_json(token: &str) -> Option<Value> {
    let bytes = CredentialBytes::decode(token).ok()?;
    let credential = bytes.parse().ok()?;
    let echoed = &credential.challenge;
    let mut challenge = Map::new();
    for (name, value) in [
        ("id", Some(&echoed.id)),
        ("realm", Some(&echoed.realm)),
        ("method", Some(&echoed.method)),
        ("intent", Some(&echoed.intent)),
        ("request", Some(&echoed.request)),
        ("expires", echoed.expires.as_ref()),
        ("digest", echoed.digest.as_ref()),
        ("description", echoed.description.as_ref()),
        ("opaque", echoed.opaque.as_ref()),
    ] {
        challenge.extend(value.map(|value| (name.to_owned(), json!(value))));
    }
    let payload: Value = serde_json::from_str(credential.payload).unwrap();
    let mut out = json!({"challenge": challenge, "payload": payload});
    if let Some(source) = &credential.source {
        out["source"] = json!(source);
    }
    Some(out)
}

/// What we read from an `Authorization` value.
fn authorization_to_json(value: &str) -> Option<Value> {
    let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
    credential_to_json(payment_credential([&value]).ok()??)
}

/// The JSON in a credential that we write.
fn written_credential(credential: &Value) -> Value {
    let challenge = challenge_from(&credential["challenge"]).unwrap();
    let value = authorization(&challenge, credential["source"].as_str(), &credential["payload"]).unwrap();
    let token = payment_credential([&value]).unwrap().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap()
}

fn receipt_to_json(receipt: &Receipt) -> Value {
    let mut out = Value::Object(receipt.extra.clone());
    out["status"] = json!("success");
    out["method"] = json!(receipt.method.as_str());
    out["timestamp"] = json!(receipt.timestamp.to_string());
    out["reference"] = json!(receipt.reference);
    if let Some(id) = &receipt.challenge_id {
        out["challengeId"] = json!(id);
    }
    out
}
