//! Our own vectors. Every file and every group in it is used.

use std::{collections::BTreeSet, path::Path};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde_json::{Value, json};
use tower_mpp::protocol::{
    AcceptPayment, AuthorizationError, Challenge, ContentDigest, MethodId, Receipt, jcs, payment_credential,
    remove_payment_credentials,
};

use super::{
    bound, challenge_from, challenge_to_json, credential_to_json, hmac_id, receipt_to_json, written_credential,
};

/// The groups of a file, which must be exactly those that the test handles.
fn load<const N: usize>(file: &str, groups: [&str; N]) -> [Vec<Value>; N] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let Value::Object(mut content) = serde_json::from_str(&text).unwrap() else {
        panic!("{file} is no object");
    };
    let vectors = groups.map(|group| match content.remove(group) {
        Some(Value::Array(vectors)) if !vectors.is_empty() => vectors,
        other => panic!("{file} {group}: {other:?}"),
    });
    assert!(content.is_empty(), "{file}: groups that nothing tests: {content:?}");
    vectors
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn header(value: &Value) -> HeaderValue {
    HeaderValue::from_bytes(text(value).as_bytes()).unwrap()
}

fn headers(value: &Value) -> Vec<HeaderValue> {
    value.as_array().unwrap().iter().map(header).collect()
}

#[test]
fn every_file_is_tested() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .collect();
    let tested = [
        "accept_payment.json",
        "authorization.json",
        "challenges.json",
        "credentials.json",
        "digests.json",
        // By tests/discovery.
        "discovery.json",
        "ids.json",
        "jcs.json",
        // By tests/proxy.
        "proxy_routes.json",
        "receipts.json",
        // By tests/receipt_vectors.rs.
        "signed_receipts.json",
    ];
    assert_eq!(files, tested.map(str::to_owned).into());
}

#[test]
fn ids() {
    let [ids] = load("ids.json", ["ids"]);
    for vector in ids {
        let challenge = challenge_from(&vector["challenge"]).unwrap();
        assert_eq!(bound(&challenge), vector["bound"]);
        assert_eq!(hmac_id(text(&vector["secret"]), &bound(&challenge)), challenge.id);
        // The id survives the way over the wire.
        let value = challenge.to_header_value().unwrap();
        let received = Challenge::parse(value.to_str().unwrap()).unwrap();
        assert_eq!(bound(&received), vector["bound"]);
    }
}

#[test]
fn challenges() {
    let [written, read, refused, lists, not_written] =
        load("challenges.json", ["written", "read", "refused", "lists", "not written"]);
    for vector in written {
        let challenge = challenge_from(&vector["challenge"]).unwrap();
        let value = challenge.to_header_value().unwrap();
        assert_eq!(value.to_str().unwrap(), vector["header"]);
        assert_eq!(Challenge::parse(text(&vector["header"])), Ok(challenge));
    }
    for vector in read {
        let challenge = Challenge::parse(text(&vector["header"]));
        let challenge = challenge.unwrap_or_else(|error| panic!("{}: {error}", vector["why"]));
        assert_eq!(challenge_to_json(&challenge), vector["challenge"], "{}", vector["why"]);
    }
    for vector in refused {
        let challenge = Challenge::parse(text(&vector["header"]));
        assert!(challenge.is_err(), "{}: {challenge:?}", vector["why"]);
    }
    for vector in lists {
        let found = Challenge::parse_all(&headers(&vector["lines"])).unwrap();
        let ids: Vec<_> = found.into_iter().map(|challenge| challenge.id).collect();
        assert_eq!(json!(ids), vector["ids"], "{}", vector["why"]);
    }
    for vector in not_written {
        let value = challenge_from(&vector).unwrap().to_header_value();
        assert!(value.is_err(), "{vector}");
    }
}

#[test]
fn authorization() {
    let [vectors] = load("authorization.json", ["authorization"]);
    for vector in vectors {
        let lines = headers(&vector["lines"]);
        let found = match payment_credential(&lines) {
            Ok(token) => json!(token),
            Err(AuthorizationError::Multiple) => json!("multiple"),
            Err(AuthorizationError::Malformed) => json!("malformed"),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found, vector["found"], "{vector}");
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(AUTHORIZATION, line);
        }
        remove_payment_credentials(&mut map);
        let left: Vec<_> = map.get_all(AUTHORIZATION).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(json!(left), vector["left"], "{vector}");
    }
}

#[test]
fn credentials() {
    let [read, refused] = load("credentials.json", ["read", "refused"]);
    for vector in read {
        let credential = &vector["credential"];
        assert_eq!(credential_to_json(text(&vector["token"])).as_ref(), Some(credential));
        assert_eq!(&written_credential(credential), credential);
    }
    for token in refused {
        assert_eq!(credential_to_json(text(&token)), None, "{token}");
    }
}

#[test]
fn receipts() {
    let [written, read, refused] = load("receipts.json", ["written", "read", "refused"]);
    for vector in written {
        let expected = &vector["receipt"];
        let mut receipt = Receipt::new(
            MethodId::new(text(&expected["method"]).to_owned()).unwrap(),
            text(&expected["timestamp"]).parse().unwrap(),
            text(&expected["reference"]),
        );
        receipt.challenge_id = expected["challengeId"].as_str().map(str::to_owned);
        receipt.extra = expected
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| !["status", "method", "timestamp", "reference", "challengeId"].contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        assert_eq!(receipt.encode().unwrap(), text(&vector["header"]));
        assert_eq!(Receipt::parse(text(&vector["header"])), Ok(receipt));
    }
    for vector in read {
        let receipt = Receipt::parse(text(&vector["header"])).unwrap();
        assert_eq!(receipt_to_json(&receipt), vector["receipt"]);
    }
    for value in refused {
        assert!(Receipt::parse(text(&value)).is_err(), "{value}");
    }
}

#[test]
fn digests() {
    let [written, hello, refused] = load("digests.json", ["written", "hello", "refused"]);
    for vector in written {
        let body = match (vector["hex"].as_str(), vector["repeat"].as_u64()) {
            (Some(hex), None) => {
                (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
            }
            (None, Some(count)) => vec![b'a'; usize::try_from(count).unwrap()],
            _ => panic!("{vector}"),
        };
        let digest = ContentDigest::of(&body);
        assert_eq!(digest.to_string(), vector["digest"]);
        assert_eq!(text(&vector["digest"]).parse(), Ok(digest));
        assert_eq!(ContentDigest::of_chunks(body.chunks(7)), digest);
    }
    for value in hello {
        assert_eq!(text(&value).parse(), Ok(ContentDigest::of(b"hello")), "{value}");
    }
    for value in refused {
        assert!(text(&value).parse::<ContentDigest>().is_err(), "{value}");
    }
}

#[test]
fn accept_payment() {
    let [arranged, ignored] = load("accept_payment.json", ["arranged", "ignored"]);
    for vector in arranged {
        let preferences = AcceptPayment::parse([&header(&vector["header"])]).unwrap();
        let mut offers = vector["offers"].as_array().unwrap().clone();
        preferences.arrange(&mut offers, |offer| text(offer).split_once('/').unwrap());
        assert_eq!(Value::Array(offers), vector["arranged"], "{}", vector["header"]);
    }
    for value in ignored {
        assert_eq!(AcceptPayment::parse([&header(&value)]), None, "{value}");
    }
}

#[test]
fn canonical_json() {
    let [vectors] = load("jcs.json", ["jcs"]);
    for vector in vectors {
        assert_eq!(jcs::to_string(&vector["value"]).unwrap(), vector["jcs"]);
        assert_eq!(jcs::to_base64url(&vector["value"]).unwrap(), vector["base64url"]);
    }
}
