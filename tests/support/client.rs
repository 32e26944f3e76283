//! A paying client for tests: parses challenges, pays with the sandbox or a custom payload, repeats.

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use serde_json::Value;
use tower_mpp::{
    method::SandboxKey,
    protocol::{Challenge, authorization},
};

/// The challenges of an answer.
pub fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    Challenge::parse_all(headers.get_all(WWW_AUTHENTICATE)).expect("readable challenges")
}

/// The only challenge of an answer.
pub fn challenge(headers: &HeaderMap) -> Challenge {
    let mut all = challenges(headers);
    assert_eq!(all.len(), 1, "one challenge: {all:?}");
    all.remove(0)
}

/// A credential of the sandbox.
pub fn pay_sandbox(challenge: &Challenge, key: &SandboxKey) -> HeaderValue {
    authorization(challenge, Some(&key.did()), &key.payload(&challenge.id)).expect("a credential")
}

/// A credential with any payload.
pub fn pay_with(challenge: &Challenge, source: Option<&str>, payload: &Value) -> HeaderValue {
    authorization(challenge, source, payload).expect("a credential")
}
