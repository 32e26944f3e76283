//! The public keys of receipts (RFC 7517, RFC 8037).

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::Error as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::canonical::{Node, push_text};
use crate::protocol::Timestamp;

/// The longest key set that is read, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// A public key. `nbf` and `exp` (Unix seconds) are its validity window: receipts made before `nbf`, or at `exp` or
/// later, do not verify, whenever they are looked at. (The RFC knows neither; other readers ignore them.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the RFCs")]
pub struct Jwk {
    pub kty: String,
    pub crv: String,
    pub x: String,
    pub kid: String,
    #[serde(default = "eddsa")]
    pub alg: String,
    #[serde(rename = "use", default = "sig")]
    pub use_: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nbf: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exp: Option<i64>,
}

fn eddsa() -> String {
    "EdDSA".into()
}

fn sig() -> String {
    "sig".into()
}

impl Jwk {
    /// The JWK of an Ed25519 key.
    pub fn ed25519(kid: &str, public_key: &[u8; 32]) -> Self {
        Self {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: URL_SAFE_NO_PAD.encode(public_key),
            kid: kid.into(),
            alg: eddsa(),
            use_: sig(),
            nbf: None,
            exp: None,
        }
    }

    /// The SHA-256 thumbprint of the key (RFC 7638), in base64url.
    pub fn thumbprint(&self) -> String {
        let mut members = String::from("{\"crv\":");
        push_text(&mut members, &self.crv);
        members.push_str(",\"kty\":");
        push_text(&mut members, &self.kty);
        members.push_str(",\"x\":");
        push_text(&mut members, &self.x);
        members.push('}');
        URL_SAFE_NO_PAD.encode(Sha256::digest(members))
    }

    /// Whether this key is for Ed25519 signatures.
    pub(super) fn is_ed25519(&self) -> bool {
        let algorithm = matches!(self.alg.as_str(), "EdDSA" | "Ed25519");
        self.kty == "OKP" && self.crv == "Ed25519" && algorithm && self.use_ == "sig"
    }

    /// The key itself, unless it is one that everybody can forge signatures of.
    pub(super) fn verifying_key(&self) -> Option<ed25519_dalek::VerifyingKey> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.x).ok()?.try_into().ok()?;
        ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak())
    }

    /// Whether the key has a validity window at all.
    pub(super) fn has_window(&self) -> bool {
        self.nbf.is_some() || self.exp.is_some()
    }

    /// Whether a receipt of this instant may be signed with the key.
    pub(super) fn is_valid_at(&self, at: Timestamp) -> bool {
        self.nbf.is_none_or(|from| at.unix() >= from) && self.exp.is_none_or(|until| at.unix() < until)
    }
}

/// A set of public keys. Keys of other kinds than Ed25519 are left out when it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Jwks {
    /// The keys.
    pub keys: Vec<Jwk>,
}

/// The text is not a set of public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON Web Key Set: {problem}")]
pub struct InvalidJwks {
    problem: &'static str,
}

impl Jwks {
    fn checked(set: Value) -> Result<Self, InvalidJwks> {
        let problem = |problem| InvalidJwks { problem };
        let Some(Value::Array(entries)) = set.get("keys") else {
            return Err(problem("there is no list of keys in the member \"keys\""));
        };
        let mut names = HashSet::new();
        let mut keys = Vec::new();
        for entry in entries {
            let text = |name| entry.get(name).and_then(Value::as_str);
            if ["d", "k", "p", "q"].iter().any(|secret| entry.get(secret).is_some()) {
                return Err(problem("it has a private key in it, which must not be used any more"));
            }
            // A key without a name cannot have signed a receipt.
            let Some(name) = text("kid") else { continue };
            if !names.insert(name.to_owned()) {
                return Err(problem("two keys have the same kid"));
            }
            if (text("kty"), text("crv")) != (Some("OKP"), Some("Ed25519")) {
                continue;
            }
            let key: Jwk = serde_json::from_value(entry.clone())
                .map_err(|_| problem("an Ed25519 key has a member of another type than RFC 8037 says"))?;
            if key.is_ed25519() {
                keys.push(key);
            }
        }
        Ok(Self { keys })
    }

    /// The key with this name.
    pub fn get(&self, kid: &str) -> Option<&Jwk> {
        self.keys.iter().find(|key| key.kid == kid)
    }
}

impl std::str::FromStr for Jwks {
    type Err = InvalidJwks;

    /// Refuses what is not JSON or has a member twice, private keys, and two keys with one `kid`. Leaves out keys of
    /// other kinds than Ed25519 for signatures, and keys without a `kid`.
    fn from_str(json: &str) -> Result<Self, InvalidJwks> {
        if json.len() > MAX_BYTES {
            return Err(InvalidJwks { problem: "it is longer than 256 KiB" });
        }
        let node = Node::parse(json).map_err(|_| InvalidJwks { problem: "not JSON, or a member is there twice" })?;
        Self::checked(node.into_value())
    }
}

impl<'de> Deserialize<'de> for Jwks {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::checked(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
