//! The public suite against the store in memory, also behind the pointers it is used through.

use std::sync::Arc;

use tower_mpp::{
    conformance::nonce_store::{Law, Replicas, Suite},
    store::{MemoryNonceStore, NonceStore},
};

use crate::{bug::Bug, notebook::Notebook};

fn memory(capacity: usize) -> MemoryNonceStore {
    MemoryNonceStore::single_process(capacity)
}

#[tokio::test]
async fn memory_keeps_the_laws() {
    Suite::new(|| async { memory(1000) }).bounded(|capacity| async move { memory(capacity) }).assert().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_with_many_shards_keeps_the_laws() {
    Suite::new(|| async { memory(1_000_000) }).assert().await;
}

#[tokio::test]
async fn boxed_memory_keeps_the_laws() {
    Suite::new(|| async { Box::new(memory(1000)) as Box<dyn NonceStore> })
        .bounded(|capacity| async move { Box::new(memory(capacity)) as Box<dyn NonceStore> })
        .assert()
        .await;
}

#[tokio::test]
async fn shared_memory_keeps_the_laws() {
    Suite::new(|| async { Arc::new(memory(1000)) as Arc<dyn NonceStore> })
        .bounded(|capacity| async move { Arc::new(memory(capacity)) as Arc<dyn NonceStore> })
        .assert()
        .await;
}

#[tokio::test]
async fn two_handles_of_one_memory_keep_the_laws() {
    let replicas = |capacity| {
        let store = Arc::new(memory(capacity));
        Replicas::new(Arc::clone(&store), store)
    };
    Suite::new(move || async move { replicas(1000) })
        .bounded(move |capacity| async move { replicas(capacity) })
        .assert()
        .await;
}

#[test]
fn the_suite_needs_no_tokio_around_it() {
    let suite = Suite::new(|| async { memory(1000) });
    let mut run = std::pin::pin!(suite.run());
    let waker = std::task::Waker::noop();
    let answer = loop {
        match run.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            std::task::Poll::Ready(answer) => break answer,
            std::task::Poll::Pending => std::thread::yield_now(),
        }
    };
    answer.unwrap();
}

#[tokio::test]
async fn the_model_of_the_other_tests_keeps_the_laws() {
    Suite::new(|| async { Notebook::new(1000, Bug::None) })
        .bounded(|capacity| async move { Notebook::new(capacity, Bug::None) })
        .assert()
        .await;
}

#[tokio::test]
async fn a_second_process_with_a_memory_of_its_own_is_caught() {
    let suite = Suite::new(|| async { Replicas::new(memory(1000), memory(1000)) });
    let violations = suite.run().await.unwrap_err();
    for law in [Law::OneWinnerPerId, Law::OneWinnerPerProof, Law::OneWinnerOnThreads, Law::SpentIsRemembered] {
        assert!(violations.iter().any(|violation| violation.law() == law), "{law:?}: {violations}");
    }
}
