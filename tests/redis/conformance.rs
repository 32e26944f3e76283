//! The public suites, on everything that a merchant may be given. Each law gets an empty database.

use std::sync::Arc;

use tower_mpp::{
    conformance::{answer_store, nonce_store},
    store::{AnswerStore, NonceStore, RedisNonceStore},
};

use crate::redis_server::Redis;

async fn store(url: String) -> RedisNonceStore {
    RedisNonceStore::connect(&url).await.unwrap()
}

#[tokio::test]
async fn redis_keeps_the_laws() {
    let server = Arc::new(Redis::start().await);
    nonce_store::Suite::new(move || store(server.fresh())).assert().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boxed_redis_keeps_the_laws() {
    let server = Arc::new(Redis::start().await);
    nonce_store::Suite::new(move || {
        let url = server.fresh();
        async { Box::new(store(url).await) as Box<dyn NonceStore> }
    })
    .assert()
    .await;
}

#[tokio::test]
async fn shared_redis_keeps_the_laws() {
    let server = Arc::new(Redis::start().await);
    nonce_store::Suite::new(move || {
        let url = server.fresh();
        async { Arc::new(store(url).await) as Arc<dyn NonceStore> }
    })
    .assert()
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_of_a_service_keep_the_laws() {
    let server = Arc::new(Redis::start().await);
    nonce_store::Suite::new(move || {
        let url = server.fresh();
        async { nonce_store::Replicas::new(store(url.clone()).await, store(url).await) }
    })
    .assert()
    .await;
}

#[tokio::test]
async fn redis_keeps_the_laws_of_answers() {
    let server = Arc::new(Redis::start().await);
    answer_store::Suite::new(move || store(server.fresh())).assert().await;
}

#[tokio::test]
async fn boxed_redis_keeps_the_laws_of_answers() {
    let server = Arc::new(Redis::start().await);
    answer_store::Suite::new(move || {
        let url = server.fresh();
        async { Box::new(store(url).await) as Box<dyn AnswerStore> }
    })
    .assert()
    .await;
}

#[tokio::test]
async fn shared_redis_keeps_the_laws_of_answers() {
    let server = Arc::new(Redis::start().await);
    answer_store::Suite::new(move || {
        let url = server.fresh();
        async { Arc::new(store(url).await) as Arc<dyn AnswerStore> }
    })
    .assert()
    .await;
}

#[tokio::test]
async fn two_replicas_of_a_service_keep_the_laws_of_answers() {
    let server = Arc::new(Redis::start().await);
    answer_store::Suite::new(move || {
        let url = server.fresh();
        async { answer_store::Replicas::new(store(url.clone()).await, store(url).await) }
    })
    .assert()
    .await;
}
