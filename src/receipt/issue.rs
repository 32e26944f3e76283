//! Signing receipts and adding them to the ledger.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{CanonicalError, Jwk, Jwks, PayloadCapture, ReceiptBody, ReceiptSigner, SignError, canonical, project};
use crate::{
    Clock, SystemClock,
    protocol::{ContentDigest, ReceiptId, Visibility},
    store::{Listed, MemoryReceiptStore, ReceiptRow, ReceiptStore, StoreError},
};

/// Signs receipts and keeps them: the signer, the ledger, and what a merchant has decided about them. Cheap to clone.
#[derive(Clone)]
pub struct Receipts(Arc<Inner>);

struct Inner {
    base_url: String,
    keys_name: String,
    signer: Arc<dyn ReceiptSigner>,
    previous: Vec<Jwk>,
    store: Arc<dyn ReceiptStore>,
    clock: Arc<dyn Clock>,
    visibility: Visibility,
    capture: PayloadCapture,
    environment: Option<String>,
    sign_timeout: Duration,
}

/// Collects what [`Receipts`] need. Every mistake is found by [`build`](Self::build).
#[must_use = "nothing happens until `build()`"]
pub struct ReceiptsBuilder(Inner);

/// Receipts are configured wrongly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("receipts.{field}: {problem}")]
pub struct ReceiptsError {
    field: &'static str,
    problem: &'static str,
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
    /// The ledger did not take it. It is signed, and can be added again.
    #[error("the ledger did not take the receipt")]
    Store(#[from] StoreError),
}

/// A receipt with its signatures, on its way into the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReceipt {
    row: ReceiptRow,
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

impl Receipts {
    /// Begins. `base_url` is where the ledger is served, without a slash at the end: receipts are fetched from
    /// `{base_url}/v1/receipts/{id}` and read at `{base_url}/r/{id}`.
    pub fn builder(base_url: impl Into<String>, signer: impl ReceiptSigner) -> ReceiptsBuilder {
        ReceiptsBuilder(Inner {
            base_url: base_url.into(),
            keys_name: String::new(),
            signer: Arc::new(signer),
            previous: Vec::new(),
            store: Arc::new(MemoryReceiptStore::new(100_000)),
            clock: Arc::new(SystemClock),
            visibility: Visibility::Private,
            capture: PayloadCapture::HashOnly,
            environment: None,
            sign_timeout: Duration::from_secs(2),
        })
    }

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
        match self.0.keys_name.as_str() {
            "" => "/.well-known/receipt-keys.json".to_owned(),
            name => format!("/.well-known/{name}-receipt-keys.json"),
        }
    }

    /// The public keys: of the signer, and of those before it.
    pub fn jwks(&self) -> Jwks {
        Jwks { keys: self.0.signer.public_key().into_iter().chain(self.0.previous.iter().cloned()).collect() }
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

    /// Who may see a receipt that says nothing else.
    pub fn visibility(&self) -> Visibility {
        self.0.visibility
    }

    /// Signs a receipt. Members that only the issuer knows are filled in where they are missing: the id, the
    /// instant, the algorithm and the key.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn sign(&self, body: ReceiptBody, provisional: bool) -> Result<SignedReceipt, IssueError> {
        let mut body = body;
        let now = self.0.clock.now();
        let id = *body.receipt_id.get_or_insert_with(ReceiptId::random);
        let created_at = *body.created_at.get_or_insert(now);
        if body.environment.is_none() {
            body.environment.clone_from(&self.0.environment);
        }
        let public = match project::public(&body) {
            Some(public) => Some(self.signed(&public).await?),
            None => None,
        };
        let (full, full_digest) = self.signed(&body).await?;
        let row = ReceiptRow {
            id,
            provisional,
            parent: body.parent_receipt_id,
            payment: body.payment.as_ref().and_then(|payment| payment.challenge_id),
            visibility: body.visibility,
            created_at,
            full: full.into(),
            public: public.as_ref().map(|(json, _)| json.as_str().into()),
            listed: public.as_ref().map(|_| Listed::default()),
        };
        let digest = public.map_or(full_digest, |(_, digest)| digest);
        Ok(SignedReceipt { row, digest, key_id: self.key_id().into() })
    }

    async fn signed(&self, body: &ReceiptBody) -> Result<(String, ContentDigest), IssueError> {
        let mut members = Map::new();
        members.insert("receipt_id".into(), json!(body.receipt_id));
        members.insert("signing_algorithm".into(), json!(self.0.signer.algorithm()));
        members.insert("signing_key_id".into(), json!(self.0.signer.key_id()));
        let message = canonical::to_string(Value::Object(members.clone()))?;
        let signature = self.0.signer.sign(message.as_bytes()).await?;
        members.insert("signature".into(), json!(URL_SAFE_NO_PAD.encode(signature)));
        Ok((canonical::to_string(Value::Object(members))?, ContentDigest::of(message.as_bytes())))
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

impl ReceiptsBuilder {
    /// The ledger. In memory unless this says otherwise.
    pub fn store(mut self, store: impl ReceiptStore) -> Self {
        self.0.store = Arc::new(store);
        self
    }

    /// Who may see the receipts: nobody but the owner unless this says otherwise.
    pub fn visibility(mut self, visibility: Visibility) -> Self {
        self.0.visibility = visibility;
        self
    }

    /// What is kept of requests and answers: hashes unless this says otherwise.
    pub fn capture(mut self, capture: PayloadCapture) -> Self {
        self.0.capture = capture;
        self
    }

    /// Where the time comes from. The system clock by default.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.0.clock = Arc::new(clock);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// [`ReceiptsError`], with the name of the field and what to do.
    pub fn build(self) -> Result<Receipts, ReceiptsError> {
        if self.0.base_url.ends_with('/') || !self.0.base_url.contains("://") {
            let problem = "give the public URL of the ledger with its scheme and without a slash at the end";
            return Err(ReceiptsError { field: "base_url", problem });
        }
        Ok(Receipts(Arc::new(self.0)))
    }
}

impl fmt::Debug for Receipts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipts")
            .field("base_url", &self.0.base_url)
            .field("key_id", &self.key_id())
            .finish_non_exhaustive()
    }
}
