//! Payloads that only their owner can read.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce, aead::Aead as _};
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

use super::{canonical::Node, payload_hash};

/// The name of the algorithm, as it stands in `encryption_alg`.
pub const ENCRYPTION_ALG: &str = "x25519-xchacha20-poly1305-v1";

const INFO: &[u8] = b"prxy-payload-v1";

/// For whom payloads are encrypted: an X25519 public key.
///
/// Its text form is the 32 bytes in base64url without padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    key: PublicKey,
    fingerprint: String,
}

/// Who can read what was encrypted: an X25519 secret key, wiped from memory when dropped.
///
/// Its text form is the 32 bytes in base64url without padding.
#[derive(Clone)]
pub struct RecipientSecret(StaticSecret);

/// The text is not an X25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an X25519 key: 32 bytes in base64url without padding")]
pub struct InvalidRecipient;

/// An envelope cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not an envelope.
    #[error("not an envelope: an object with the texts alg, ephemeral_pub, nonce, ciphertext and fingerprint")]
    Envelope,
    /// Another algorithm.
    #[error("the envelope says another algorithm than {ENCRYPTION_ALG}")]
    Algorithm,
    /// It was made for another key.
    #[error("the envelope is for another key")]
    OtherKey,
    /// It was changed.
    #[error("the envelope was changed")]
    Changed,
}

impl Recipient {
    /// The recipient with this public key.
    ///
    /// # Errors
    /// [`InvalidRecipient`] for a key of small order: everybody could read what is encrypted for it.
    pub fn new(public_key: [u8; 32]) -> Result<Self, InvalidRecipient> {
        let key = PublicKey::from(public_key);
        // Which secret it is does not matter: with such a key none makes a difference.
        if !StaticSecret::from([1; 32]).diffie_hellman(&key).was_contributory() {
            return Err(InvalidRecipient);
        }
        Ok(Self { key, fingerprint: payload_hash(key.as_bytes()) })
    }

    /// The public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// What names the key in receipts and envelopes: `sha256-` and the hexadecimal hash of its 32 bytes.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl RecipientSecret {
    /// A new random key.
    pub fn random() -> Self {
        Self::from_bytes(rand::random())
    }

    /// A key that was kept as its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// Its 32 bytes.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Whom to encrypt for, so that this key opens it.
    pub fn recipient(&self) -> Recipient {
        let key = PublicKey::from(&self.0);
        Recipient { key, fingerprint: payload_hash(key.as_bytes()) }
    }
}

fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

impl FromStr for Recipient {
    type Err = InvalidRecipient;

    fn from_str(text: &str) -> Result<Self, InvalidRecipient> {
        decoded(text).ok_or(InvalidRecipient).and_then(Self::new)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.public_key()))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.fingerprint)
    }
}

impl FromStr for RecipientSecret {
    type Err = InvalidRecipient;

    fn from_str(text: &str) -> Result<Self, InvalidRecipient> {
        decoded(text).map(Self::from_bytes).ok_or(InvalidRecipient)
    }
}

impl fmt::Debug for RecipientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecipientSecret(..)")
    }
}

/// As it stands in `encrypted_request_blob`. The binary members are base64url without padding.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    alg: String,
    ephemeral_pub: String,
    nonce: String,
    ciphertext: String,
    fingerprint: String,
}

/// HKDF-SHA256 of the shared secret, salted with both public keys.
fn cipher(shared: &SharedSecret, ephemeral: &PublicKey, recipient: &PublicKey) -> Option<XChaCha20Poly1305> {
    let salt = [ephemeral.as_bytes().as_slice(), recipient.as_bytes()].concat();
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(&salt), shared.as_bytes()).expand(INFO, key.as_mut_slice()).ok()?;
    XChaCha20Poly1305::new_from_slice(key.as_slice()).ok()
}

/// Encrypts a payload for its owner, as `encrypted_request_blob` and `encrypted_response_blob` of a receipt have it:
/// JSON with the members
///
/// * `alg`: [`ENCRYPTION_ALG`];
/// * `ephemeral_pub`: an X25519 public key made for this envelope alone, 32 bytes;
/// * `nonce`: 24 random bytes;
/// * `ciphertext`: the payload under XChaCha20-Poly1305, with its tag of 16 bytes behind it. The key is HKDF-SHA256
///   of the shared secret with the salt `ephemeral_pub ‖ recipient's key` and the info `prxy-payload-v1`;
/// * `fingerprint`: of the recipient's key, see [`Recipient::fingerprint`].
///
/// Bytes are in base64url without padding.
///
/// # Errors
/// None for payloads that fit into memory: the cipher's own limit is 256 GiB.
pub fn seal(recipient: &Recipient, payload: &[u8]) -> Result<String, SealError> {
    let ephemeral = StaticSecret::from(*Zeroizing::new(rand::random::<[u8; 32]>()));
    seal_with(recipient, payload, &ephemeral, rand::random()).ok_or(SealError)
}

/// A payload cannot be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload cannot be encrypted")]
pub struct SealError;

fn seal_with(recipient: &Recipient, payload: &[u8], ephemeral: &StaticSecret, nonce: [u8; 24]) -> Option<String> {
    let ephemeral_pub = PublicKey::from(ephemeral);
    let cipher = cipher(&ephemeral.diffie_hellman(&recipient.key), &ephemeral_pub, &recipient.key)?;
    let ciphertext = cipher.encrypt(&XNonce::from(nonce), payload).ok()?;
    let envelope = Envelope {
        alg: ENCRYPTION_ALG.to_owned(),
        ephemeral_pub: URL_SAFE_NO_PAD.encode(ephemeral_pub),
        nonce: URL_SAFE_NO_PAD.encode(nonce),
        ciphertext: URL_SAFE_NO_PAD.encode(ciphertext),
        fingerprint: recipient.fingerprint.clone(),
    };
    serde_json::to_string(&envelope).ok()
}

/// Opens an envelope that [`seal`] has made.
///
/// # Errors
/// [`OpenError`].
pub fn open(secret: &RecipientSecret, envelope: &str) -> Result<Vec<u8>, OpenError> {
    // A member that is there twice would have two readings.
    let value = Node::parse(envelope).map_err(|_| OpenError::Envelope)?.into_value();
    let envelope: Envelope = serde_json::from_value(value).map_err(|_| OpenError::Envelope)?;
    if envelope.alg != ENCRYPTION_ALG {
        return Err(OpenError::Algorithm);
    }
    let recipient = secret.recipient();
    if envelope.fingerprint != recipient.fingerprint {
        return Err(OpenError::OtherKey);
    }
    let ephemeral = PublicKey::from(decoded::<32>(&envelope.ephemeral_pub).ok_or(OpenError::Envelope)?);
    let nonce = XNonce::from(decoded::<24>(&envelope.nonce).ok_or(OpenError::Envelope)?);
    let ciphertext = URL_SAFE_NO_PAD.decode(&envelope.ciphertext).map_err(|_| OpenError::Envelope)?;
    let shared = secret.0.diffie_hellman(&ephemeral);
    if !shared.was_contributory() {
        return Err(OpenError::Changed);
    }
    let cipher = cipher(&shared, &ephemeral, &recipient.key).ok_or(OpenError::Changed)?;
    cipher.decrypt(&nonce, ciphertext.as_slice()).map_err(|_| OpenError::Changed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn secret(n: u8) -> RecipientSecret {
        RecipientSecret::from_bytes([n; 32])
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(payload in any::<Vec<u8>>(), key in any::<[u8; 32]>()) {
            let secret = RecipientSecret::from_bytes(key);
            let recipient: Recipient = secret.recipient().to_string().parse().unwrap();
            let envelope = seal(&recipient, &payload).unwrap();
            prop_assert_eq!(open(&secret, &envelope).unwrap(), payload);
        }
    }

    #[test]
    fn every_envelope_has_its_own_key_and_nonce() {
        let recipient = secret(1).recipient();
        let [one, other] =
            [(); 2].map(|()| serde_json::from_str::<Value>(&seal(&recipient, b"payload").unwrap()).unwrap());
        for member in ["ephemeral_pub", "nonce", "ciphertext"] {
            assert_ne!(one[member], other[member]);
        }
        assert_eq!(one["fingerprint"], payload_hash(recipient.public_key()));
    }

    #[test]
    fn another_key_does_not_open_it() {
        let envelope = seal(&secret(1).recipient(), b"payload").unwrap();
        assert_eq!(open(&secret(2), &envelope), Err(OpenError::OtherKey));
        let mut renamed: Value = serde_json::from_str(&envelope).unwrap();
        renamed["fingerprint"] = json!(secret(2).recipient().fingerprint());
        assert_eq!(open(&secret(2), &renamed.to_string()), Err(OpenError::Changed));
    }

    #[test]
    fn nothing_of_it_can_be_changed() {
        let envelope = seal(&secret(1).recipient(), b"payload").unwrap();
        let value: Value = serde_json::from_str(&envelope).unwrap();
        for member in ["ephemeral_pub", "nonce", "ciphertext"] {
            let bytes = URL_SAFE_NO_PAD.decode(value[member].as_str().unwrap()).unwrap();
            for at in 0..bytes.len() {
                let mut touched = bytes.clone();
                touched[at] ^= 1;
                let mut envelope = value.clone();
                envelope[member] = json!(URL_SAFE_NO_PAD.encode(touched));
                assert_eq!(open(&secret(1), &envelope.to_string()), Err(OpenError::Changed), "{member} {at}");
            }
            for bad in [json!(URL_SAFE_NO_PAD.encode(&bytes[1..])), json!("!"), json!(""), json!(1), json!(null)] {
                let mut envelope = value.clone();
                envelope[member] = bad;
                assert!(open(&secret(1), &envelope.to_string()).is_err());
            }
            let mut padded = value.clone();
            padded[member] = json!(format!("{}=", value[member].as_str().unwrap()));
            assert_eq!(open(&secret(1), &padded.to_string()), Err(OpenError::Envelope));
        }
        let mut other = value.clone();
        other["alg"] = json!("x25519-xchacha20-poly1305-v2");
        assert_eq!(open(&secret(1), &other.to_string()), Err(OpenError::Algorithm));
        let mut zero = value.clone();
        zero["ephemeral_pub"] = json!(URL_SAFE_NO_PAD.encode([0; 32]));
        assert_eq!(open(&secret(1), &zero.to_string()), Err(OpenError::Changed));
        let twice = envelope.replacen('{', "{\"nonce\":\"x\",", 1);
        assert_eq!(open(&secret(1), &twice), Err(OpenError::Envelope));
        for bad in ["", "{}", "[]", "null", &envelope[1..]] {
            assert_eq!(open(&secret(1), bad), Err(OpenError::Envelope));
        }
    }

    #[test]
    fn a_key_that_everybody_could_use_is_refused() {
        let mut one = [0; 32];
        assert_eq!(Recipient::new(one), Err(InvalidRecipient));
        one[0] = 1;
        assert_eq!(Recipient::new(one), Err(InvalidRecipient));
        for bad in ["", "AAAA", "é"] {
            assert!(bad.parse::<Recipient>().is_err() && bad.parse::<RecipientSecret>().is_err());
        }
        assert_eq!(format!("{:?}", secret(1)), "RecipientSecret(..)");
    }
}
