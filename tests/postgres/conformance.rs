//! The public suites, on the store and behind what it is used through.

use std::sync::Arc;

use tower_mpp::{
    conformance::{
        answer_store,
        nonce_store::{Replicas, Suite},
        receipt_store,
    },
    store::{AnswerStore, NonceStore, PostgresNonceStore, ReceiptStore},
};

use crate::{new_schema, options, server, store};

async fn small() -> PostgresNonceStore {
    options().schema(new_schema()).max_answer_bytes(100_000).connect(&server().await.url()).await.unwrap()
}

/// Two pools, as two processes have them.
async fn replicas(max_answer_bytes: usize) -> Replicas<PostgresNonceStore> {
    let options = options().schema(new_schema()).max_answer_bytes(max_answer_bytes);
    let url = server().await.url();
    Replicas::new(options.clone().connect(&url).await.unwrap(), options.connect(&url).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_keeps_the_laws() {
    Suite::new(store).assert().await;
}

#[tokio::test]
async fn a_boxed_journal_keeps_the_laws() {
    Suite::new(|| async { Box::new(store().await) as Box<dyn NonceStore> }).assert().await;
}

#[tokio::test]
async fn a_shared_journal_keeps_the_laws() {
    Suite::new(|| async { Arc::new(store().await) as Arc<dyn NonceStore> }).assert().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_of_a_journal_keep_the_laws() {
    Suite::new(|| replicas(1 << 30)).assert().await;
}

#[tokio::test]
async fn the_answers_keep_the_laws() {
    answer_store::Suite::new(store).bounded(small).assert().await;
}

#[tokio::test]
async fn boxed_answers_keep_the_laws() {
    answer_store::Suite::new(|| async { Box::new(store().await) as Box<dyn AnswerStore> })
        .bounded(|| async { Box::new(small().await) as Box<dyn AnswerStore> })
        .assert()
        .await;
}

#[tokio::test]
async fn shared_answers_keep_the_laws() {
    answer_store::Suite::new(|| async { Arc::new(store().await) as Arc<dyn AnswerStore> })
        .bounded(|| async { Arc::new(small().await) as Arc<dyn AnswerStore> })
        .assert()
        .await;
}

#[tokio::test]
async fn two_replicas_of_answers_keep_the_laws() {
    answer_store::Suite::new(|| replicas(1 << 30)).bounded(|| replicas(100_000)).assert().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receipts_keep_the_laws() {
    receipt_store::Suite::new(store).assert().await;
}

#[tokio::test]
async fn boxed_receipts_keep_the_laws() {
    receipt_store::Suite::new(|| async { Box::new(store().await) as Box<dyn ReceiptStore> }).assert().await;
}

#[tokio::test]
async fn shared_receipts_keep_the_laws() {
    receipt_store::Suite::new(|| async { Arc::new(store().await) as Arc<dyn ReceiptStore> }).assert().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_of_receipts_keep_the_laws() {
    receipt_store::Suite::new(|| replicas(1 << 30)).assert().await;
}
