//! Many requests at once for one payment: money moves once, one of them is served, and nobody is asked
//! to pay again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, routing};
use http::{HeaderValue, Response};
use http_body_util::Full;
use serde_json::json;
use support::*;
use tokio::sync::Barrier;
use tower::service_fn;
use tower_layer::Layer as _;
use tower_mpp::{Payment, Price, store::MemoryNonceStore};

const PARALLEL: usize = 64;

/// A service behind a layer, without a socket, and how often its handler was called.
struct Stand {
    rail: TestRail,
    served: Arc<AtomicUsize>,
    service: Payment<Handler>,
}

impl Stand {
    /// Rail and handler give way `yields` times at every step, and so does the journal when it is not zero.
    fn open(yields: usize) -> Self {
        let rail = TestRail::new("demo").yielding(yields);
        let memory = MemoryNonceStore::single_process(1_000_000);
        let builder = builder(&rail);
        let builder = match yields {
            0 => builder.nonce_store(memory),
            _ => builder.nonce_store(YieldingStore(memory)),
        };
        let served = Arc::new(AtomicUsize::new(0));
        let handler = {
            let served = Arc::clone(&served);
            service_fn(move |_| {
                let served = Arc::clone(&served);
                async move {
                    served.fetch_add(1, Ordering::SeqCst);
                    for _ in 0..yields {
                        tokio::task::yield_now().await;
                    }
                    Ok::<_, Infallible>(Response::new(Full::from("served")))
                }
            })
        };
        let layer = builder.build().unwrap().charge(Price::usd("1.00").unwrap()).unwrap();
        Self { rail, served, service: layer.layer(Handler::new(handler)) }
    }

    async fn credential(&self, payload: &serde_json::Value) -> HeaderValue {
        pay_with(&ask(&self.service, get("/")).await, None, payload)
    }

    /// Sends all at once.
    async fn race(&self, credentials: Vec<HeaderValue>) -> Vec<Answer> {
        let gate = Arc::new(Barrier::new(credentials.len()));
        let racers: Vec<_> = credentials
            .into_iter()
            .map(|credential| {
                let (gate, service) = (Arc::clone(&gate), self.service.clone());
                tokio::spawn(async move {
                    gate.wait().await;
                    call(&service, get_paid("/", &credential)).await
                })
            })
            .collect();
        let mut answers = Vec::new();
        for racer in racers {
            answers.push(racer.await.unwrap());
        }
        answers
    }

    /// Asserts that the money for one thing has moved and one thing was served since `before`.
    fn assert_one(&self, answers: &[Answer], before: (usize, usize)) {
        assert_one_winner(answers);
        assert_eq!((self.rail.settlements(), self.served.load(Ordering::SeqCst)), (before.0 + 1, before.1 + 1));
    }

    fn so_far(&self) -> (usize, usize) {
        (self.rail.settlements(), self.served.load(Ordering::SeqCst))
    }
}

#[track_caller]
fn assert_one_winner(answers: &[Answer]) {
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(won.len(), 1, "{answers:?}");
    won[0].receipt();
    for answer in lost {
        assert!(answer.status == 409 || answer.status == 403, "{answer:?}");
        assert_eq!(answer.status == 409, answer.headers.contains_key("retry-after"));
        answer.assert_no_challenge();
    }
}

fn ok() -> serde_json::Value {
    json!({"token": "ok"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_credential_many_times_is_charged_and_served_once() {
    for yields in [0, 1, YIELDS] {
        let stand = Stand::open(yields);
        for _ in 0..140 {
            let before = stand.so_far();
            let credential = stand.credential(&ok()).await;
            let answers = stand.race(vec![credential.clone(); PARALLEL]).await;
            stand.assert_one(&answers, before);
            // Who comes later is too late.
            assert_eq!(call(&stand.service, get_paid("/", &credential)).await.status, 403);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_exclusive_proof_pays_one_of_many_challenges() {
    for yields in [0, 1, YIELDS] {
        let stand = Stand::open(yields);
        for round in 0..90 {
            let before = stand.so_far();
            let payload = json!({"token": "ok", "proof": format!("transaction {round}")});
            let mut credentials = Vec::new();
            for _ in 0..PARALLEL {
                credentials.push(stand.credential(&payload).await);
            }
            stand.assert_one(&stand.race(credentials).await, before);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_challenge_is_paid_by_one_of_many_proofs() {
    for yields in [0, 1, YIELDS] {
        let stand = Stand::open(yields);
        for round in 0..90 {
            let before = stand.so_far();
            let challenge = ask(&stand.service, get("/")).await;
            // In turn proofs that are claimed beside the challenge, and such that are only remembered with it.
            let proof = |n: usize| match round % 2 {
                0 => json!({"token": "ok", "proof": format!("transaction {round} {n}")}),
                _ => json!({"token": "ok", "note": n}),
            };
            let credentials = (0..PARALLEL).map(|n| pay_with(&challenge, None, &proof(n))).collect();
            stand.assert_one(&stand.race(credentials).await, before);
            assert_eq!(stand.rail.settlements_of(id_of(&challenge)), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_declined_proof_is_nobodys_loss() {
    // Half of the payers of one challenge are declined: the claim must come back each time, and the
    // others pay once between them.
    let stand = Stand::open(YIELDS);
    for _ in 0..20 {
        let before = stand.so_far();
        let challenge = ask(&stand.service, get("/")).await;
        let token = |n: usize| json!({"token": if n.is_multiple_of(2) { "decline" } else { "ok" }, "note": n});
        let answers = stand.race((0..PARALLEL).map(|n| pay_with(&challenge, None, &token(n))).collect()).await;
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(won <= 1);
        assert_eq!(stand.so_far(), (before.0 + won, before.1 + won));
        for answer in &answers {
            assert!([200, 402, 403, 409].contains(&answer.status.as_u16()), "{answer:?}");
        }
        if won == 0 {
            // The decliners kept the others out; nothing stands in the way now.
            assert_eq!(call(&stand.service, get_paid("/", &pay_with(&challenge, None, &ok()))).await.status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_credential_many_times_over_sockets() {
    for yields in [0, YIELDS] {
        let rail = TestRail::new("demo").yielding(yields);
        let layer = merchant(&rail).charge(Price::usd("1.00").unwrap()).unwrap();
        let server =
            Server::start(Router::new().route("/", routing::get(|| async { "served" }).route_layer(layer))).await;
        for round in 0..20 {
            let challenge = challenge(&server.get("/").await.headers);
            let credential = pay_with(&challenge, None, &ok());
            let racers: Vec<_> = (0..PARALLEL)
                .map(|_| {
                    let (server, credential) = (server.clone(), credential.clone());
                    tokio::spawn(async move { server.get_paid("/", &credential).await })
                })
                .collect();
            let mut answers = Vec::new();
            for racer in racers {
                answers.push(racer.await.unwrap());
            }
            assert_one_winner(&answers);
            assert_eq!(rail.settlements(), round + 1);
        }
    }
}
