//! The public suites, also behind the pointers that a merchant uses the store through, and on two handles.

use std::sync::Arc;

use tower_mpp::{
    conformance::{answer_store, nonce_store},
    store::{AnswerStore, NonceStore, SqliteNonceStore},
};

use crate::bench::Folder;

/// A store that takes its folder with it when it goes.
async fn store() -> SqliteNonceStore {
    Folder::leaked().open().await
}

async fn small() -> SqliteNonceStore {
    SqliteNonceStore::builder(Folder::leaked().path()).max_answer_bytes(100_000).open().await.unwrap()
}

async fn replicas() -> nonce_store::Replicas<SqliteNonceStore> {
    let folder = Folder::leaked();
    nonce_store::Replicas::new(folder.open().await, folder.open().await)
}

#[tokio::test]
async fn payments_keep_the_laws() {
    nonce_store::Suite::new(store).assert().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_keep_the_laws_on_threads() {
    nonce_store::Suite::new(store).assert().await;
}

#[tokio::test]
async fn boxed_payments_keep_the_laws() {
    nonce_store::Suite::new(|| async { Box::new(store().await) as Box<dyn NonceStore> }).assert().await;
}

#[tokio::test]
async fn shared_payments_keep_the_laws() {
    nonce_store::Suite::new(|| async { Arc::new(store().await) as Arc<dyn NonceStore> }).assert().await;
}

#[tokio::test]
async fn payments_of_two_handles_keep_the_laws() {
    nonce_store::Suite::new(replicas).assert().await;
}

#[tokio::test]
async fn answers_keep_the_laws() {
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
async fn answers_of_two_handles_keep_the_laws() {
    let small = || async {
        let folder = Folder::leaked();
        let open = || SqliteNonceStore::builder(folder.path()).max_answer_bytes(100_000).open();
        answer_store::Replicas::new(open().await.unwrap(), open().await.unwrap())
    };
    answer_store::Suite::new(replicas).bounded(small).assert().await;
}
