//! The public suites, also behind the pointers that a merchant uses the store through, and on two handles.

use std::sync::Arc;

use tower_mpp::{
    conformance::{answer_store, nonce_store, receipt_store},
    store::{AnswerStore, NonceStore, ReceiptStore, SqliteNonceStore},
};

use crate::home::Home;

/// What makes something of a fresh file, again and again.
macro_rules! each {
    ($home:ident => $make:expr) => {{
        let home = Home::new();
        move || {
            let $home = home.clone();
            async move { $make }
        }
    }};
}

async fn small(home: Home) -> SqliteNonceStore {
    SqliteNonceStore::builder(home.path()).max_answer_bytes(100_000).open().await.unwrap()
}

/// Two handles of one file.
async fn replicas(home: Home, max_answer_bytes: u64) -> nonce_store::Replicas<SqliteNonceStore> {
    let builder = SqliteNonceStore::builder(home.path()).max_answer_bytes(max_answer_bytes);
    nonce_store::Replicas::new(builder.clone().open().await.unwrap(), builder.open().await.unwrap())
}

#[tokio::test]
async fn payments_keep_the_laws() {
    nonce_store::Suite::new(each!(home => home.store().await)).assert().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_keep_the_laws_on_threads() {
    nonce_store::Suite::new(each!(home => home.store().await)).assert().await;
}

#[tokio::test]
async fn boxed_payments_keep_the_laws() {
    nonce_store::Suite::new(each!(home => Box::new(home.store().await) as Box<dyn NonceStore>)).assert().await;
}

#[tokio::test]
async fn shared_payments_keep_the_laws() {
    nonce_store::Suite::new(each!(home => Arc::new(home.store().await) as Arc<dyn NonceStore>)).assert().await;
}

#[tokio::test]
async fn payments_of_two_handles_keep_the_laws() {
    nonce_store::Suite::new(each!(home => replicas(home, 1 << 30).await)).assert().await;
}

#[tokio::test]
async fn answers_keep_the_laws() {
    answer_store::Suite::new(each!(home => home.store().await))
        .bounded(each!(home => small(home).await))
        .assert()
        .await;
}

#[tokio::test]
async fn boxed_answers_keep_the_laws() {
    answer_store::Suite::new(each!(home => Box::new(home.store().await) as Box<dyn AnswerStore>))
        .bounded(each!(home => Box::new(small(home).await) as Box<dyn AnswerStore>))
        .assert()
        .await;
}

#[tokio::test]
async fn shared_answers_keep_the_laws() {
    answer_store::Suite::new(each!(home => Arc::new(home.store().await) as Arc<dyn AnswerStore>))
        .bounded(each!(home => Arc::new(small(home).await) as Arc<dyn AnswerStore>))
        .assert()
        .await;
}

#[tokio::test]
async fn answers_of_two_handles_keep_the_laws() {
    answer_store::Suite::new(each!(home => replicas(home, 1 << 30).await))
        .bounded(each!(home => replicas(home, 100_000).await))
        .assert()
        .await;
}

#[tokio::test]
async fn receipts_keep_the_laws() {
    receipt_store::Suite::new(each!(home => home.store().await)).assert().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_keep_the_laws_on_threads() {
    receipt_store::Suite::new(each!(home => home.store().await)).assert().await;
}

#[tokio::test]
async fn boxed_receipts_keep_the_laws() {
    receipt_store::Suite::new(each!(home => Box::new(home.store().await) as Box<dyn ReceiptStore>)).assert().await;
}

#[tokio::test]
async fn shared_receipts_keep_the_laws() {
    receipt_store::Suite::new(each!(home => Arc::new(home.store().await) as Arc<dyn ReceiptStore>)).assert().await;
}

#[tokio::test]
async fn receipts_of_two_handles_keep_the_laws() {
    receipt_store::Suite::new(each!(home => replicas(home, 1 << 30).await)).assert().await;
}
