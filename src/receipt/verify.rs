//! Checks signed receipts.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::Signature;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize as _;
use serde_json::Value;
use sha2::Sha256;

use super::{
    CanonicalError, Jwks, ReceiptBody, SigningAlgorithm,
    canonical::{Members, Node, members_value, write_members},
    signer::MIN_SECRET_BYTES,
};
use crate::protocol::{ContentDigest, Timestamp};

/// A receipt whose signature is good.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// Which key has signed it.
    pub key_id: String,
    /// The digest of its canonical form without the signature: what `Payment-Receipt-Digest` says.
    pub digest: ContentDigest,
    /// What it says, as it was signed: normalised, and without the signature.
    pub receipt: Value,
}

/// A receipt was signed, and yet does not say what a receipt says.
#[derive(Debug, thiserror::Error)]
#[error("the receipt has a member of another type than the schema says: {0}")]
pub struct InvalidBody(#[source] serde_json::Error);

impl Verified {
    /// What it says in the types of the schema. Members that the schema does not have are left out.
    ///
    /// # Errors
    /// [`InvalidBody`] where a member has another type, or a name that its list does not have.
    pub fn body(&self) -> Result<ReceiptBody, InvalidBody> {
        ReceiptBody::deserialize(&self.receipt).map_err(InvalidBody)
    }
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
    #[error("the signature is wrong: the receipt was changed, or signed with another key")]
    Signature,
}

/// Checks a receipt against the public keys of who has signed it. Nothing else is needed: it works offline.
///
/// The receipt may come in any spelling of its JSON. Its signature is Ed25519 by the strict rules of RFC 8032, in
/// base64url without padding, over its canonical form without the member `signature`.
///
/// # Errors
/// [`VerifyError`]; the receipt must not be believed then.
pub fn verify_receipt(receipt: &str, keys: &Jwks) -> Result<Verified, VerifyError> {
    let claimed = Claimed::read(receipt)?;
    // The key says what it is for, never the receipt.
    if claimed.algorithm != SigningAlgorithm::Ed25519.as_str() {
        return Err(VerifyError::Algorithm);
    }
    let key = keys.get(&claimed.key_id).ok_or_else(|| VerifyError::UnknownKey(claimed.key_id.clone()))?;
    if !key.is_ed25519() {
        return Err(VerifyError::Algorithm);
    }
    let signature = Signature::from_slice(&claimed.signature).map_err(|_| VerifyError::Signature)?;
    let verifying_key = key.verifying_key().ok_or(VerifyError::Key)?;
    verifying_key.verify_strict(claimed.message.as_bytes(), &signature).map_err(|_| VerifyError::Signature)?;
    if key.has_window() && !key.is_valid_at(claimed.created_at()?) {
        return Err(VerifyError::KeyNotValid);
    }
    Ok(claimed.verified())
}

/// Checks a receipt that was signed with HMAC-SHA256, by who has the secret. What it proves, it proves to them only.
///
/// # Errors
/// [`VerifyError`]; `Key` when the secret is shorter than 32 bytes.
pub fn verify_receipt_with_secret(receipt: &str, key_id: &str, secret: &[u8]) -> Result<Verified, VerifyError> {
    let claimed = Claimed::read(receipt)?;
    if claimed.algorithm != SigningAlgorithm::HmacSha256.as_str() {
        return Err(VerifyError::Algorithm);
    }
    if claimed.key_id != key_id {
        return Err(VerifyError::UnknownKey(claimed.key_id));
    }
    if secret.len() < MIN_SECRET_BYTES {
        return Err(VerifyError::Key);
    }
    let mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| VerifyError::Key)?;
    // In constant time, and all 32 bytes of it.
    mac.chain_update(&claimed.message).verify_slice(&claimed.signature).map_err(|_| VerifyError::Signature)?;
    Ok(claimed.verified())
}

/// A receipt that nobody has checked.
struct Claimed<'a> {
    algorithm: String,
    key_id: String,
    signature: Vec<u8>,
    message: String,
    members: Members<'a>,
}

impl<'a> Claimed<'a> {
    fn read(receipt: &'a str) -> Result<Self, VerifyError> {
        let Node::Object(mut members) = Node::parse(receipt)? else {
            return Err(CanonicalError::Json.into());
        };
        let at = members.iter().position(|(name, _)| name == "signature").ok_or(VerifyError::Member("signature"))?;
        let (_, Node::Text(signature)) = members.remove(at) else {
            return Err(VerifyError::Member("signature"));
        };
        let signature = URL_SAFE_NO_PAD.decode(signature.as_bytes()).map_err(|_| VerifyError::Signature)?;
        let algorithm = text(&members, "signing_algorithm")?.to_owned();
        let key_id = text(&members, "signing_key_id")?.to_owned();
        let mut message = String::with_capacity(receipt.len());
        write_members(&members, &mut message);
        Ok(Self { algorithm, key_id, signature, message, members })
    }

    fn created_at(&self) -> Result<Timestamp, VerifyError> {
        text(&self.members, "created_at")?.parse().map_err(|_| VerifyError::Member("created_at"))
    }

    fn verified(self) -> Verified {
        let digest = ContentDigest::of(self.message.as_bytes());
        Verified { key_id: self.key_id, digest, receipt: members_value(self.members) }
    }
}

fn text<'m>(members: &'m Members<'_>, wanted: &'static str) -> Result<&'m str, VerifyError> {
    let found = members.iter().find(|(name, _)| name == wanted);
    match found {
        Some((_, Node::Text(text))) => Ok(text),
        _ => Err(VerifyError::Member(wanted)),
    }
}
