//! The journal in PostgreSQL, against a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod conformance;
mod outages;
#[path = "../support/postgres.rs"]
mod postgres;
mod proxy;
mod receipts;
mod schema;
mod trips;

use std::{
    error::Error as _,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::sync::OnceCell;
use tower_mpp::{
    protocol::{ChallengeId, ReceiptId, Settlement, SpendKey, Timestamp, Visibility},
    store::{
        Claim, Claimed, Lease, Listed, NonceStore as _, OutcomeRow, PostgresNonceStore, PostgresNonceStoreBuilder,
        Proof, ReceiptRow, StoreError,
    },
};

use crate::postgres::Postgres;

/// The server of all tests that do not stop it.
async fn server() -> &'static Postgres {
    static SERVER: OnceCell<Postgres> = OnceCell::const_new();
    SERVER.get_or_init(Postgres::start).await
}

/// A name of a schema that nobody has used.
fn new_schema() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("shop_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Few connections, for there are many stores on one server.
fn options() -> PostgresNonceStoreBuilder {
    PostgresNonceStore::builder().max_connections(4)
}

/// An empty journal.
async fn store() -> PostgresNonceStore {
    options().schema(new_schema()).connect(&server().await.url()).await.unwrap()
}

/// So many seconds after the tests began, by the merchant's clock.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix(1_750_000_000).unwrap().saturating_add(Duration::from_secs(seconds))
}

fn id(n: u32) -> ChallengeId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    ChallengeId::from_bytes(bytes)
}

fn proof(n: u32) -> Proof {
    Proof::Exclusive(SpendKey::from_bytes(*id(n).as_bytes()))
}

/// A claim of an id, with a proof, for a minute.
fn claim(n: u32, with: u32) -> Claim {
    let record = b"record".as_slice().into();
    Claim { id: id(n), proof: proof(with), now: at(0), lease_until: at(60), keep_until: at(100), record }
}

async fn won(store: &PostgresNonceStore, n: u32) -> Lease {
    match store.claim(claim(n, n)).await.unwrap() {
        Claimed::Won { lease, .. } => lease,
        other => panic!("{other:?}"),
    }
}

fn settlement() -> Settlement {
    Settlement::new("pi_1", at(1))
}

/// The receipt number `n`, which is listed.
fn receipt(n: u32) -> ReceiptRow {
    ReceiptRow {
        id: ReceiptId::from_bytes(std::array::from_fn(|place| n.to_be_bytes()[place % 4])),
        provisional: false,
        parent: None,
        payment: Some(id(n)),
        visibility: Visibility::PublicMinimal,
        created_at: at(n.into()),
        full: format!("{{\"receipt\":{n}}}").into(),
        public: Some(format!("{{\"public\":{n}}}").into()),
        listed: Some(Listed { name: "agent".into(), succeeded: true, paid: true, tokens: 10 }),
    }
}

/// What came of the receipt number `n`.
fn outcome(n: u32) -> OutcomeRow {
    OutcomeRow { receipt: receipt(n).id, created_at: at(1), json: "{\"ok\":true}".into() }
}

/// All that an error says, with its causes.
fn said(error: &StoreError) -> String {
    let mut text = format!("{error:?} {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error:?} {error}");
        cause = error.source();
    }
    text
}
