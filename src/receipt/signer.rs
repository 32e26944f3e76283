//! Keys that sign receipts.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use ed25519_dalek::{Signer as _, SigningKey, pkcs8::DecodePrivateKey as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{Jwk, SigningAlgorithm};

/// A receipt could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the receipt could not be signed")]
pub struct SignError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Signs receipts: with a key at hand, or far away in a key service.
///
/// # Contract
///
/// * [`sign`](Self::sign) signs exactly the bytes it is given, with the key that [`key_id`](Self::key_id) names:
///   64 bytes of Ed25519 (RFC 8032, not prehashed), or 32 bytes of HMAC-SHA256.
/// * It may take its time; the merchant waits for a bounded one only and then answers without a signed receipt.
#[async_trait]
pub trait ReceiptSigner: Send + Sync + 'static {
    /// The name of the key, the `kid` of its JWK: `A-Z a-z 0-9 . _ -`, at most 64 characters.
    fn key_id(&self) -> &str;

    /// The algorithm.
    fn algorithm(&self) -> SigningAlgorithm;

    /// The public key, to be listed. `None` for a secret one.
    fn public_key(&self) -> Option<Jwk>;

    /// Signs.
    ///
    /// # Errors
    /// [`SignError`].
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

macro_rules! forward_signer {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        impl<T: ReceiptSigner + ?Sized> ReceiptSigner for $pointer<T> {
            fn key_id(&self) -> &str {
                (**self).key_id()
            }

            fn algorithm(&self) -> SigningAlgorithm {
                (**self).algorithm()
            }

            fn public_key(&self) -> Option<Jwk> {
                (**self).public_key()
            }

            async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
                (**self).sign(message).await
            }
        }
    )*};
}

forward_signer!(Arc, Box);

/// A key for receipts cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReceiptKey {
    /// Not a PKCS#8 private key for Ed25519 in PEM.
    #[error("not an Ed25519 private key in PKCS#8 PEM; make one with `openssl genpkey -algorithm ed25519`")]
    Pem,
    /// A name that does not fit into a header.
    #[error("the key id must be 1 to 64 of A-Z a-z 0-9 . _ -")]
    KeyId,
    /// A secret that can be guessed.
    #[error("the secret is shorter than 32 bytes")]
    TooShort,
}

/// The least length of a secret in bytes.
pub(super) const MIN_SECRET_BYTES: usize = 32;

/// Whether a text can be the name of a key, in a header and in a URL.
pub(super) fn is_name(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=64).contains(&id.len()) && id.bytes().all(fits)
}

fn checked_id(id: String) -> Result<String, InvalidReceiptKey> {
    if is_name(&id) { Ok(id) } else { Err(InvalidReceiptKey::KeyId) }
}

/// Signs with Ed25519. The key is wiped from memory when dropped.
pub struct Ed25519Signer {
    id: String,
    key: SigningKey,
}

impl Ed25519Signer {
    /// From a 32-byte seed (RFC 8032).
    ///
    /// # Errors
    /// `KeyId`.
    pub fn from_seed(key_id: impl Into<String>, seed: &[u8; 32]) -> Result<Self, InvalidReceiptKey> {
        Ok(Self { id: checked_id(key_id.into())?, key: SigningKey::from_bytes(seed) })
    }

    /// From a PKCS#8 private key in PEM, for instance of `openssl genpkey -algorithm ed25519`.
    ///
    /// # Errors
    /// `KeyId`, `Pem`.
    pub fn from_pkcs8_pem(key_id: impl Into<String>, pem: &str) -> Result<Self, InvalidReceiptKey> {
        // Files end with a line end, and some with more than one.
        let key = SigningKey::from_pkcs8_pem(pem.trim()).map_err(|_| InvalidReceiptKey::Pem)?;
        Ok(Self { id: checked_id(key_id.into())?, key })
    }
}

#[async_trait]
impl ReceiptSigner for Ed25519Signer {
    fn key_id(&self) -> &str {
        &self.id
    }

    fn algorithm(&self) -> SigningAlgorithm {
        SigningAlgorithm::Ed25519
    }

    fn public_key(&self) -> Option<Jwk> {
        Some(Jwk::ed25519(&self.id, self.key.verifying_key().as_bytes()))
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(self.key.sign(message).to_bytes().to_vec())
    }
}

impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ed25519Signer").field("key_id", &self.id).finish_non_exhaustive()
    }
}

/// Signs with HMAC-SHA256, for the time of a migration: only who has the secret can verify.
pub struct HmacSigner {
    id: String,
    mac: Hmac<Sha256>,
}

impl HmacSigner {
    /// With a random secret of 32 bytes or more.
    ///
    /// # Errors
    /// `KeyId`, `TooShort`.
    pub fn new(key_id: impl Into<String>, secret: &[u8]) -> Result<Self, InvalidReceiptKey> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(InvalidReceiptKey::TooShort);
        }
        let mac = Hmac::new_from_slice(secret).map_err(|_| InvalidReceiptKey::TooShort)?;
        Ok(Self { id: checked_id(key_id.into())?, mac })
    }
}

#[async_trait]
impl ReceiptSigner for HmacSigner {
    fn key_id(&self) -> &str {
        &self.id
    }

    fn algorithm(&self) -> SigningAlgorithm {
        SigningAlgorithm::HmacSha256
    }

    fn public_key(&self) -> Option<Jwk> {
        None
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(self.mac.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}

impl fmt::Debug for HmacSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HmacSigner").field("key_id", &self.id).finish_non_exhaustive()
    }
}
