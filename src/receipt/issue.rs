//! Signing receipts and adding them to the ledger.

use std::{fmt, future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    CanonicalError, Jwks, PayloadCapture, ReceiptBody, ReceiptSigner, ReceiptType, SignError, SigningAlgorithm,
    body::millis,
    hash_text,
    project::{self, Projections},
    write::{Part, Signing, Unsigned},
};
use crate::{
    Clock,
    protocol::{ContentDigest, ReceiptId, Visibility},
    store::{ReceiptRow, ReceiptStore, StoreError},
};

/// Signs receipts and keeps them: the signer, the ledger, and what a merchant has decided about them. Cheap to clone.
#[derive(Clone)]
pub struct Receipts(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) base_url: String,
    pub(super) keys_name: String,
    pub(super) signer: Arc<dyn ReceiptSigner>,
    /// The key of the signer first, where it can be listed.
    pub(super) keys: Jwks,
    pub(super) store: Arc<dyn ReceiptStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) visibility: Visibility,
    pub(super) projections: Projections,
    pub(super) capture: PayloadCapture,
    #[cfg(feature = "encrypted-capture")]
    pub(super) recipient: Option<super::Recipient>,
    pub(super) environment: Option<String>,
    pub(super) agent_handle: Option<String>,
    pub(super) sign_timeout: Duration,
}

/// A receipt could not be issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The signer failed or took too long.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The receipt has no canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The key is not valid yet, or no more: nobody would believe the receipt.
    #[error("the receipt would be made outside of the validity of the key that signs")]
    KeyNotValid,
    /// The ledger did not take it. It is signed, and can be added again.
    #[error("the ledger did not take the receipt")]
    Store(#[from] StoreError),
}

/// What can be wrong with a signature beside what the signer itself says.
#[derive(Debug, thiserror::Error)]
enum NoSignature {
    #[error("the signer took longer than {0:?}")]
    Late(Duration),
    #[error("the signer gave {0} bytes, which is no signature of its algorithm")]
    Length(usize),
}

impl From<NoSignature> for IssueError {
    fn from(problem: NoSignature) -> Self {
        Self::Sign(SignError(problem.into()))
    }
}

/// A receipt with its signatures, on its way into the ledger.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedReceipt {
    row: ReceiptRow,
    body: Box<ReceiptBody>,
    digest: ContentDigest,
    key_id: Arc<str>,
}

impl SignedReceipt {
    /// Its id.
    pub fn id(&self) -> ReceiptId {
        self.row.id
    }

    /// The whole receipt as canonical JSON.
    pub fn json(&self) -> &str {
        &self.row.full
    }

    /// What everybody may see of it.
    pub fn public_json(&self) -> Option<&str> {
        self.row.public.as_deref()
    }

    /// What it says, with all that was filled in when it was signed.
    pub fn body(&self) -> &ReceiptBody {
        &self.body
    }

    /// What `Payment-Receipt-Digest` says: of what a stranger can fetch, or else of the whole receipt.
    pub fn digest(&self) -> ContentDigest {
        self.digest
    }

    /// What `Payment-Receipt-Kid` says.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// As a ledger keeps it.
    pub fn row(&self) -> &ReceiptRow {
        &self.row
    }
}

/// Without what the receipt says.
impl fmt::Debug for SignedReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedReceipt").field("row", &self.row).field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Receipts {
    /// Where a receipt is read: what `Payment-Receipt` says in the form of a URL.
    pub fn url(&self, id: ReceiptId) -> String {
        format!("{}/r/{id}", self.0.base_url)
    }

    /// Where the ledger is served.
    pub fn base_url(&self) -> &str {
        &self.0.base_url
    }

    /// The path of the public keys: `/.well-known/receipt-keys.json`, or with a name before `receipt-keys`.
    pub fn keys_path(&self) -> String {
        Self::keys_path_of(&self.0.keys_name)
    }

    /// The same for a [`keys_name`](super::ReceiptsBuilder::keys_name), before there is anything to sign with.
    pub fn keys_path_of(keys_name: &str) -> String {
        match keys_name {
            "" => "/.well-known/receipt-keys.json".to_owned(),
            name => format!("/.well-known/{name}-receipt-keys.json"),
        }
    }

    /// The public keys: of the signer, and of those before it.
    pub fn jwks(&self) -> Jwks {
        self.0.keys.clone()
    }

    /// The name of the key that signs.
    pub fn key_id(&self) -> &str {
        self.0.signer.key_id()
    }

    /// The ledger.
    pub fn store(&self) -> &Arc<dyn ReceiptStore> {
        &self.0.store
    }

    /// What is kept of requests and answers.
    pub fn capture(&self) -> PayloadCapture {
        self.0.capture
    }

    /// For whom payloads are encrypted, where [`capture`](Self::capture) is [`PayloadCapture::EncryptedAtRest`].
    #[cfg(feature = "encrypted-capture")]
    pub fn recipient(&self) -> Option<&super::Recipient> {
        self.0.recipient.as_ref()
    }

    /// Who may see a receipt that says nothing else.
    pub fn visibility(&self) -> Visibility {
        self.0.visibility
    }

    /// The one that shows less, with the policy of this merchant.
    pub(crate) fn narrower(&self, one: Visibility, other: Visibility) -> Visibility {
        self.0.projections.narrower(one, other)
    }

    /// Signs a receipt. Members that only the issuer knows are filled in where they are missing: the id, the type,
    /// the instant, the environment, the payload capture, the agent's handle; and in any case the algorithm, the
    /// key, the redaction policy and the hash of the public receipt. The visibility stays as it is given.
    ///
    /// What everybody may see is signed on its own, at the same time: a signer is asked twice for such a receipt.
    /// A provisional receipt has nothing that everybody may see, whatever its visibility.
    /// Nothing is waited for longer than the builder's `sign_timeout` where there is a Tokio runtime.
    ///
    /// # Errors
    /// [`IssueError`], never `Store`.
    pub async fn sign(&self, body: ReceiptBody, provisional: bool) -> Result<SignedReceipt, IssueError> {
        let mut body = Box::new(body);
        let id = *body.receipt_id.get_or_insert_with(ReceiptId::random);
        self.fill_in(&mut body);
        let created_at = body.created_at.unwrap_or_else(|| self.0.clock.now());
        // No previous key has the name of this one.
        let own = self.0.keys.get(self.key_id());
        if own.is_some_and(|key| !key.is_valid_at(created_at)) {
            return Err(IssueError::KeyNotValid);
        }

        let signing = Signing { algorithm: self.0.signer.algorithm().as_str(), key_id: self.key_id() };
        // While a call is under way its service may still hide the receipt: until then it is its owner's only.
        let part = self.0.projections.public(body.visibility).filter(|_| !provisional);
        let row = |full: Arc<str>, public: Option<Arc<str>>, body: &ReceiptBody| ReceiptRow {
            id,
            provisional,
            parent: body.parent_receipt_id,
            payment: body.payment.as_ref().and_then(|payment| payment.challenge_id),
            visibility: body.visibility,
            created_at,
            full,
            public,
            listed: part.and_then(|part| project::listed(body, part)),
        };
        let (row, digest) = match part {
            None | Some(Part::Public | Part::Owner) => {
                let unsigned = Unsigned::new(&body, part.unwrap_or(Part::Owner), signing)?;
                let full: Arc<str> = self.in_time(self.signature(&unsigned)).await?.into();
                let public = part.is_some().then(|| Arc::clone(&full));
                (row(full, public, &body), ContentDigest::of(unsigned.message()))
            }
            Some(kept) => {
                let public = Unsigned::new(&body, kept, signing)?;
                let digest = ContentDigest::of(public.message());
                body.public_receipt_hash = Some(hash_text(&digest));
                let full = Unsigned::new(&body, Part::Owner, signing)?;
                let both = both(self.signature(&public), self.signature(&full));
                let (public, full) = self.in_time(both).await?;
                (row(full.into(), Some(public.into()), &body), digest)
            }
        };
        Ok(SignedReceipt { row, body, digest, key_id: self.key_id().into() })
    }

    fn fill_in(&self, body: &mut ReceiptBody) {
        let given = [&mut body.pricing_effective_at, &mut body.request_started_at, &mut body.request_ended_at];
        for at in given.into_iter().flatten() {
            *at = millis::floor(*at);
        }
        body.created_at = Some(millis::floor(body.created_at.unwrap_or_else(|| self.0.clock.now())));
        body.receipt_type.get_or_insert(ReceiptType::Inference);
        body.payload_capture.get_or_insert(self.0.capture);
        if body.environment.is_none() {
            body.environment.clone_from(&self.0.environment);
        }
        if body.agent_handle.is_none() {
            body.agent_handle.clone_from(&self.0.agent_handle);
        }
        let redacted = body.visibility == Visibility::PublicRedacted;
        body.redaction_policy = redacted.then(|| self.0.projections.redacted.name().to_owned());
        body.public_receipt_hash = None;
    }

    async fn signature(&self, unsigned: &Unsigned) -> Result<String, IssueError> {
        let signature = self.0.signer.sign(unsigned.message()).await?;
        let length = match self.0.signer.algorithm() {
            SigningAlgorithm::Ed25519 => 64,
            SigningAlgorithm::HmacSha256 => 32,
        };
        if signature.len() != length {
            return Err(NoSignature::Length(signature.len()).into());
        }
        Ok(unsigned.signed(&URL_SAFE_NO_PAD.encode(signature)))
    }

    /// A key at hand signs at once; a clock is only set for one that is far away.
    async fn in_time<T>(&self, signing: impl Future<Output = Result<T, IssueError>>) -> Result<T, IssueError> {
        let mut signing = pin!(signing);
        let first = std::future::poll_fn(|cx| Poll::Ready(signing.as_mut().poll(cx))).await;
        if let Poll::Ready(signed) = first {
            return signed;
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return signing.await;
        }
        let limit = self.0.sign_timeout;
        tokio::time::timeout(limit, signing).await.unwrap_or_else(|_| Err(NoSignature::Late(limit).into()))
    }

    /// Adds a signed receipt to the ledger. It may be added again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record(&self, receipt: &SignedReceipt) -> Result<(), StoreError> {
        self.0.store.append(receipt.row.clone()).await
    }

    /// Signs a receipt and adds it to the ledger: for what no layer sees, such as settlements, blocked calls,
    /// cache hits and adjustments.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn issue(&self, body: ReceiptBody) -> Result<SignedReceipt, IssueError> {
        let signed = self.sign(body, false).await?;
        self.record(&signed).await?;
        Ok(signed)
    }
}

/// Runs two futures at once; the first failure ends both.
async fn both<T, E>(
    one: impl Future<Output = Result<T, E>>,
    other: impl Future<Output = Result<T, E>>,
) -> Result<(T, T), E> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(done) = one.as_mut().poll(cx)
        {
            first = Some(done?);
        }
        if second.is_none()
            && let Poll::Ready(done) = other.as_mut().poll(cx)
        {
            second = Some(done?);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready(Ok((first, second))),
            unfinished => {
                (first, second) = unfinished;
                Poll::Pending
            }
        }
    })
    .await
}

impl fmt::Debug for Receipts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipts")
            .field("base_url", &self.0.base_url)
            .field("key_id", &self.key_id())
            .finish_non_exhaustive()
    }
}
