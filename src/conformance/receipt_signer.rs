//! Checks a [`ReceiptSigner`] against every line of its contract.
//!
//! ```
//! use tower_mpp::{conformance::receipt_signer::Suite, receipt::Ed25519Signer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let seed = [7; 32];
//! Suite::new(Ed25519Signer::from_seed("receipts-2026-q2", &seed).unwrap()).assert().await;
//! # }
//! ```
//!
//! Run it against the real key service, with a key made for the test: it signs about a hundred messages.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, VerifyingKey};
use futures_util::future::join_all;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{
    conformance::laws::{Checked, laws, runs},
    protocol::Visibility,
    receipt::{ReceiptBody, ReceiptSigner, Receipts, SigningAlgorithm, verify_receipt, verify_receipt_with_secret},
    store::MemoryReceiptStore,
};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

laws! {
    of "One law of the contract of a [`ReceiptSigner`].";
    broken_by "the signer";
    FittingName "The key id fits into a header and into a URL." fitting_name;
    ListedKey "An Ed25519 key is listed under its key id and can be used; a secret is not listed." listed_key;
    SignsTheBytes "What is signed are the bytes as they are: none, many, and any." signs_the_bytes;
    SignsAtOnce "Signatures that are asked for at once do not get mixed up." signs_at_once;
    SignsAgain "The same bytes can be signed again, with the same key." signs_again;
    StaysItself "Key id, algorithm and public key stay what they are." stays_itself;
    MakesReceipts "Receipts that it signs verify." makes_receipts;
}

/// The laws of a signer.
pub struct Suite(Lab);

/// What the laws are checked on.
pub(super) struct Lab {
    signer: Arc<dyn ReceiptSigner>,
    secret: Option<Vec<u8>>,
}

impl Suite {
    /// A suite for this signer. For one with a secret say it with [`secret`](Self::secret), or its signatures cannot
    /// be checked.
    pub fn new(signer: impl ReceiptSigner) -> Self {
        Self(Lab { signer: Arc::new(signer), secret: None })
    }

    /// The secret of a signer with HMAC-SHA256.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.0.secret = Some(secret.into());
        self
    }

    runs! { suite, law => law.check(&suite.0).await; }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("key_id", &self.0.signer.key_id()).finish_non_exhaustive()
    }
}

impl Lab {
    async fn signed(&self, message: &[u8]) -> Checked<Vec<u8>> {
        let signature = self.signer.sign(message).await;
        let signature = signature.map_err(|error| format!("it did not sign {} bytes: {error:?}", message.len()))?;
        self.check(message, &signature)?;
        Ok(signature)
    }

    fn check(&self, message: &[u8], signature: &[u8]) -> Checked {
        let length = message.len();
        let good = match self.signer.algorithm() {
            SigningAlgorithm::Ed25519 => {
                let signature = Signature::from_slice(signature)
                    .map_err(|_| format!("{} bytes are no Ed25519 signature", signature.len()))?;
                self.verifying_key()?.verify_strict(message, &signature).is_ok()
            }
            SigningAlgorithm::HmacSha256 => {
                let secret = self.secret.as_deref().ok_or("say the secret with Suite::secret")?;
                let mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|error| error.to_string())?;
                mac.chain_update(message).verify_slice(signature).is_ok()
            }
        };
        if good { Ok(()) } else { Err(format!("the signature of {length} bytes is not one of the key")) }
    }

    fn verifying_key(&self) -> Checked<VerifyingKey> {
        let key = self.signer.public_key().ok_or("an Ed25519 signer lists its public key")?;
        let bytes = URL_SAFE_NO_PAD.decode(&key.x).ok().and_then(|bytes| bytes.try_into().ok());
        let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        key.ok_or_else(|| "the listed key is not 32 bytes of a point in base64url without padding".to_owned())
    }
}

fn fitting_name(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let name = lab.signer.key_id();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
            return Ok(());
        }
        Err(format!("{name:?} is not 1 to 64 of A-Z a-z 0-9 . _ -"))
    })
}

fn listed_key(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        match (lab.signer.algorithm(), lab.signer.public_key()) {
            (SigningAlgorithm::HmacSha256, None) => Ok(()),
            (SigningAlgorithm::HmacSha256, Some(_)) => Err("a secret is listed".to_owned()),
            (SigningAlgorithm::Ed25519, None) => Err("the public key is not listed".to_owned()),
            (SigningAlgorithm::Ed25519, Some(key)) => {
                let kind = (key.kty.as_str(), key.crv.as_str(), key.alg.as_str(), key.use_.as_str());
                if kind != ("OKP", "Ed25519", "EdDSA", "sig") {
                    return Err(format!("the key is listed as {kind:?}"));
                }
                if key.kid != lab.signer.key_id() {
                    return Err(format!("it is listed as {:?} and called {:?}", key.kid, lab.signer.key_id()));
                }
                if lab.verifying_key()?.is_weak() {
                    return Err("the listed key is one that everybody can sign with".to_owned());
                }
                Ok(())
            }
        }
    })
}

/// Messages that a signer could take for something else than bytes.
fn messages() -> Vec<Vec<u8>> {
    let hash: Vec<u8> = (0..64).collect();
    let mut messages = vec![Vec::new(), vec![0], b"{}".to_vec(), b"a\r\nb\n".to_vec(), b" a ".to_vec()];
    messages.extend([
        hash.iter().take(32).copied().collect(),
        hash,
        vec![0xff; 100],
        "\u{e9}".into(),
        "e\u{301}".into(),
    ]);
    messages.push((0..200_000_u32).flat_map(u32::to_le_bytes).collect());
    messages
}

fn signs_the_bytes(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        for message in messages() {
            lab.signed(&message).await?;
        }
        Ok(())
    })
}

fn signs_at_once(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let messages: Vec<String> = (0..64).map(|n| format!("message {n}")).collect();
        let signed = join_all(messages.iter().map(|message| lab.signed(message.as_bytes()))).await;
        signed.into_iter().try_for_each(|signed| signed.map(drop))
    })
}

fn signs_again(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let (one, other) = (lab.signed(b"again").await?, lab.signed(b"again").await?);
        // Both algorithms say what the signature of a message is: nothing of it is chosen.
        if one == other { Ok(()) } else { Err("two signatures of the same bytes are not the same".to_owned()) }
    })
}

fn stays_itself(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let itself = || (lab.signer.key_id().to_owned(), lab.signer.algorithm(), lab.signer.public_key());
        let before = itself();
        lab.signed(b"message").await?;
        if itself() == before { Ok(()) } else { Err(format!("it was {before:?} and is {:?}", itself())) }
    })
}

fn makes_receipts(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let receipts = Receipts::builder("https://receipts.example.com", Arc::clone(&lab.signer))
            .store(MemoryReceiptStore::new(10))
            .build()
            .map_err(|error| error.to_string())?;
        let body = ReceiptBody { visibility: Visibility::PublicMinimal, ..ReceiptBody::default() };
        let signed = receipts.issue(body).await.map_err(|error| format!("{error}: {error:?}"))?;
        for json in [Some(signed.json()), signed.public_json()].into_iter().flatten() {
            let verified = match (lab.signer.algorithm(), &lab.secret) {
                (SigningAlgorithm::HmacSha256, Some(secret)) => {
                    verify_receipt_with_secret(json, lab.signer.key_id(), secret)
                }
                _ => verify_receipt(json, &receipts.jwks()),
            };
            verified.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}
