//! What a merchant decides about its receipts.

use std::{sync::Arc, time::Duration};

use http::Uri;

use super::{
    Jwk, Jwks, PayloadCapture, ReceiptSigner, Receipts, RedactionPolicy, SigningAlgorithm, issue::Inner,
    project::Projections, signer::is_name,
};
use crate::{
    Clock, SystemClock,
    protocol::{Timestamp, Visibility},
    store::{MemoryReceiptStore, ReceiptStore},
};

/// Collects what [`Receipts`] need. Every mistake is found by [`build`](Self::build).
#[must_use = "nothing happens until `build()`"]
pub struct ReceiptsBuilder {
    inner: Inner,
    redaction: RedactionPolicy,
    previous: Vec<Jwk>,
    valid_from: Option<Timestamp>,
    valid_until: Option<Timestamp>,
}

/// Receipts are configured wrongly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("receipts.{field}: {problem}")]
pub struct ReceiptsError {
    field: &'static str,
    problem: &'static str,
}

impl ReceiptsError {
    /// Which option of the builder.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

impl Receipts {
    /// Begins. `base_url` is where the ledger is served, without a slash at the end: receipts are fetched from
    /// `{base_url}/v1/receipts/{id}` and read at `{base_url}/r/{id}`.
    ///
    /// With a signer whose key is secret ([`HmacSigner`](super::HmacSigner)) receipts can be public too, but then only
    /// who has the secret can verify them: it is for the time of a migration.
    pub fn builder(base_url: impl Into<String>, signer: impl ReceiptSigner) -> ReceiptsBuilder {
        ReceiptsBuilder {
            inner: Inner {
                base_url: base_url.into(),
                keys_name: String::new(),
                signer: Arc::new(signer),
                keys: Jwks::default(),
                store: Arc::new(MemoryReceiptStore::new(100_000)),
                clock: Arc::new(SystemClock),
                visibility: Visibility::Private,
                projections: Projections::new(RedactionPolicy::default()),
                capture: PayloadCapture::HashOnly,
                #[cfg(feature = "encrypted-capture")]
                recipient: None,
                environment: None,
                agent_handle: None,
                sign_timeout: Duration::from_secs(2),
            },
            redaction: RedactionPolicy::default(),
            previous: Vec::new(),
            valid_from: None,
            valid_until: None,
        }
    }
}

impl ReceiptsBuilder {
    /// The ledger. In memory unless this says otherwise.
    pub fn store(mut self, store: impl ReceiptStore) -> Self {
        self.inner.store = Arc::new(store);
        self
    }

    /// Who may see the receipts: nobody but the owner unless this says otherwise.
    ///
    /// `PublicFull` shows everything, with the rail's reference, the idempotency key and the names of accounts.
    pub fn visibility(mut self, visibility: Visibility) -> Self {
        self.inner.visibility = visibility;
        self
    }

    /// What a receipt with the visibility `PublicRedacted` shows. [`RedactionPolicy::default`] unless this says
    /// otherwise.
    pub fn redaction(mut self, policy: RedactionPolicy) -> Self {
        self.redaction = policy;
        self
    }

    /// What is kept of requests and answers: hashes unless this says otherwise. For `EncryptedAtRest` say with
    /// `encrypt_for` who can read them (feature `encrypted-capture`).
    pub fn capture(mut self, capture: PayloadCapture) -> Self {
        self.inner.capture = capture;
        self
    }

    /// Keeps requests and answers, encrypted for their owner.
    #[cfg(feature = "encrypted-capture")]
    pub fn encrypt_for(mut self, recipient: super::Recipient) -> Self {
        self.inner.capture = PayloadCapture::EncryptedAtRest;
        self.inner.recipient = Some(recipient);
        self
    }

    /// The `environment` of receipts that do not say it themselves, for instance `production`.
    pub fn environment(mut self, environment: impl Into<String>) -> Self {
        self.inner.environment = Some(environment.into());
        self
    }

    /// The `agent_handle` of receipts that do not say it themselves.
    pub fn agent_handle(mut self, handle: impl Into<String>) -> Self {
        self.inner.agent_handle = Some(handle.into());
        self
    }

    /// Puts a name into the path of the public keys: `/.well-known/{name}-receipt-keys.json`.
    pub fn keys_name(mut self, name: impl Into<String>) -> Self {
        self.inner.keys_name = name.into();
        self
    }

    /// Lists a key that signed before this one: what it signed still verifies. Give it an `exp`, the Unix time of
    /// the change, so that nobody who finds it can sign receipts that look newer.
    pub fn previous_key(mut self, key: Jwk) -> Self {
        self.previous.push(key);
        self
    }

    /// The first instant at which the key may sign.
    pub fn key_valid_from(mut self, from: Timestamp) -> Self {
        self.valid_from = Some(from);
        self
    }

    /// The instant from which on the key may sign no more.
    pub fn key_valid_until(mut self, until: Timestamp) -> Self {
        self.valid_until = Some(until);
        self
    }

    /// How long the signer may take: 2 seconds unless this says otherwise.
    pub fn sign_timeout(mut self, limit: Duration) -> Self {
        self.inner.sign_timeout = limit;
        self
    }

    /// Where the time comes from. The system clock by default.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.inner.clock = Arc::new(clock);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// [`ReceiptsError`], with the name of the field and what to do.
    pub fn build(self) -> Result<Receipts, ReceiptsError> {
        let mut inner = self.inner;
        check_url(&inner.base_url)?;
        let named = inner.keys_name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if inner.keys_name.len() > 64 || !named {
            return Err(wrong("keys_name", "give at most 64 letters, digits and -"));
        }
        for (field, text) in [("environment", &inner.environment), ("agent_handle", &inner.agent_handle)] {
            if text.as_deref().is_some_and(|text| text.trim() != text || text.is_empty() || text.len() > 256) {
                return Err(wrong(field, "give 1 to 256 bytes without white space around them, or leave it out"));
            }
        }
        if inner.sign_timeout.is_zero() {
            return Err(wrong("sign_timeout", "give the signer some time, for instance two seconds"));
        }
        check_capture(&inner)?;

        let own = own_key(inner.signer.as_ref(), self.valid_from, self.valid_until)?;
        for key in &self.previous {
            if !is_name(&key.kid) || !key.is_ed25519() || key.verifying_key().is_none() {
                let problem = "give the public key of an Ed25519 signer, such as Jwk::ed25519 makes it";
                return Err(wrong("previous_key", problem));
            }
            if !has_order(key) {
                return Err(wrong("previous_key", "its nbf must be before its exp"));
            }
        }
        // The name of a secret key is taken too: a listed one of the same name would be a way around it.
        let mut names = vec![inner.signer.key_id()];
        for key in &self.previous {
            if names.contains(&key.kid.as_str()) {
                return Err(wrong("previous_key", "two keys have the same kid: give every new key a new one"));
            }
            names.push(&key.kid);
        }
        inner.keys = Jwks { keys: own.into_iter().chain(self.previous).collect() };
        inner.projections = Projections::new(self.redaction);
        Ok(Receipts(Arc::new(inner)))
    }
}

fn wrong(field: &'static str, problem: &'static str) -> ReceiptsError {
    ReceiptsError { field, problem }
}

fn check_url(url: &str) -> Result<(), ReceiptsError> {
    let uri: Option<Uri> = url.parse().ok();
    let good = uri.is_some_and(|uri| {
        let web = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.authority().is_some_and(|host| !host.as_str().contains('@'));
        web && host && uri.query().is_none()
    });
    if !good || url.ends_with('/') || url.contains('#') {
        let problem = "give the public URL of the ledger, such as https://receipts.example.com, \
                       without a query, a user name or a slash at the end";
        return Err(wrong("base_url", problem));
    }
    Ok(())
}

fn check_capture(inner: &Inner) -> Result<(), ReceiptsError> {
    #[cfg(feature = "encrypted-capture")]
    let (encrypts, problem) =
        (inner.recipient.is_some(), "payloads are encrypted for somebody: say with encrypt_for for whom");
    #[cfg(not(feature = "encrypted-capture"))]
    let (encrypts, problem) = (false, "payloads are only encrypted with the feature encrypted-capture");
    match inner.capture {
        PayloadCapture::EncryptedAtRest if !encrypts => Err(wrong("capture", problem)),
        PayloadCapture::HashOnly | PayloadCapture::None if encrypts => {
            Err(wrong("capture", "leave encrypt_for out where payloads are not kept"))
        }
        _ => Ok(()),
    }
}

/// The key of the signer as it is listed, with its validity.
fn own_key(
    signer: &dyn ReceiptSigner,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Option<Jwk>, ReceiptsError> {
    if !is_name(signer.key_id()) {
        return Err(wrong("signer", "its key id must be 1 to 64 of A-Z a-z 0-9 . _ -"));
    }
    match (signer.algorithm(), signer.public_key()) {
        (SigningAlgorithm::Ed25519, Some(mut key)) => {
            if key.kid != signer.key_id() || !key.is_ed25519() || key.verifying_key().is_none() {
                return Err(wrong("signer", "its public key must be an Ed25519 key with the signer's own key id"));
            }
            key.nbf = from.map(Timestamp::unix).or(key.nbf);
            key.exp = until.map(Timestamp::unix).or(key.exp);
            if !has_order(&key) {
                return Err(wrong("key_valid_until", "it must be after key_valid_from"));
            }
            Ok(Some(key))
        }
        (SigningAlgorithm::Ed25519, None) => Err(wrong("signer", "an Ed25519 signer must give its public key")),
        (SigningAlgorithm::HmacSha256, Some(_)) => {
            Err(wrong("signer", "a signer with a secret must not give a public key"))
        }
        (SigningAlgorithm::HmacSha256, None) if from.is_some() || until.is_some() => {
            Err(wrong("key_valid_from", "a secret key is not listed and so has no validity: leave it out"))
        }
        (SigningAlgorithm::HmacSha256, None) => Ok(None),
    }
}

fn has_order(key: &Jwk) -> bool {
    match (key.nbf, key.exp) {
        (Some(from), Some(until)) => from < until,
        _ => true,
    }
}
