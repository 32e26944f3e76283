//! A folder for files, and payments to write into them.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tower_mpp::{
    method::Settlement,
    protocol::{ChallengeId, ReceiptId, SpendKey, Timestamp, Visibility},
    store::{
        Claim, Claimed, End, Lease, Listed, NonceStore, OutcomeRow, Proof, ReceiptRow, SqliteNonceStore, StoreError,
    },
};

/// A folder that goes when the test is over.
#[derive(Clone)]
pub(crate) struct Home {
    folder: Arc<TempDir>,
    files: Arc<AtomicUsize>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: Arc::new(tempfile::tempdir().unwrap()), files: Arc::default() }
    }

    /// A path in it where nothing is yet.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(format!("{}.db", self.files.fetch_add(1, Ordering::Relaxed)))
    }

    /// A fresh store.
    pub(crate) async fn store(&self) -> SqliteNonceStore {
        SqliteNonceStore::open(self.path()).await.unwrap()
    }
}

/// `seconds` after the instant at which the tests begin.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix(1_750_000_000).unwrap().saturating_add(Duration::from_secs(seconds))
}

/// How long a lease is, in seconds.
pub(crate) const LEASE: u64 = 30;
/// How long an entry is kept, in seconds.
pub(crate) const KEEP: u64 = 300;

/// The claim number `n`, whose record is of about the size that a merchant writes.
pub(crate) fn claim(n: u64) -> Claim {
    let digest = |kind: &str| Sha256::new().chain_update(kind).chain_update(n.to_be_bytes()).finalize().into();
    Claim {
        id: ChallengeId::from_bytes(digest("id")),
        proof: Proof::Exclusive(SpendKey::from_bytes(digest("proof"))),
        now: at(0),
        lease_until: at(LEASE),
        keep_until: at(KEEP),
        record: [b'r'; 400].into(),
    }
}

pub(crate) fn settlement(n: u64) -> Settlement {
    Settlement::new(format!("pi_3RabcdefGHIJKLMNOPQ{n}"), at(1))
}

pub(crate) async fn held(store: &impl NonceStore, n: u64) -> Result<Lease, StoreError> {
    match store.claim(claim(n)).await? {
        Claimed::Won { lease, resumed: false } => Ok(lease),
        answer => panic!("claim {n}: {answer:?}"),
    }
}

/// Claims, settles and delivers.
pub(crate) async fn delivered(store: &impl NonceStore, n: u64) -> Result<Lease, StoreError> {
    let lease = held(store, n).await?;
    store.settle(lease, &settlement(n)).await?;
    store.commit(lease, End::Delivered).await?;
    Ok(lease)
}

/// The receipt number `n`, which is listed.
pub(crate) fn receipt(n: u64) -> ReceiptRow {
    ReceiptRow {
        id: ReceiptId::from_bytes(std::array::from_fn(|place| n.to_be_bytes()[place % 8])),
        provisional: false,
        parent: None,
        payment: Some(claim(n).id),
        visibility: Visibility::PublicMinimal,
        created_at: at(n),
        full: format!("{{\"receipt\":{n}}}").into(),
        public: Some(format!("{{\"public\":{n}}}").into()),
        listed: Some(Listed { name: "agent".into(), succeeded: true, paid: true, tokens: 10 }),
    }
}

/// What came of the receipt number `n`.
pub(crate) fn outcome(n: u64) -> OutcomeRow {
    OutcomeRow { receipt: receipt(n).id, created_at: at(n), json: "{\"ok\":true}".into() }
}

/// Everything that went wrong, down to the first cause.
pub(crate) fn causes(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
