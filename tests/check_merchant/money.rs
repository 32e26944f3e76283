//! What happens to the money.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Method};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    process::{Program, ok},
    support::{Answer, pay_with},
};

#[tokio::test]
async fn a_payment_is_good_once() {
    let program = Program::start().await;
    let credential = program.credential("/demo", &ok()).await;
    assert_eq!(program.pay("/demo", &credential).await.status, 200);
    for _ in 0..3 {
        let again = program.pay("/demo", &credential).await;
        assert_eq!((again.status.as_u16(), again.problem().as_str()), (403, "invalid-challenge"));
        again.assert_no_challenge();
    }
    assert_eq!((program.settlements().await, program.runs("/demo").await), (1, 1));
}

#[tokio::test]
async fn a_payment_is_good_for_one_route_path_and_method() {
    let program = Program::start().await;
    for (bought, others) in [
        ("/demo", ["/demo2", "/items/1", "/stream"]),
        ("/items/1", ["/items/2", "/items/%31", "/demo"]),
        ("/stream", ["/demo", "/demo2", "/items/1"]),
    ] {
        let credential = program.credential(bought, &ok()).await;
        for other in others {
            program.pay(other, &credential).await.assert_challenged("invalid-challenge");
        }
        // Another price.
        program.pay("/compose", &credential).await.assert_challenged("invalid-challenge");
        if bought != "/stream" {
            let posted = program.send(Method::POST, bought, Some(&credential), "").await;
            posted.assert_challenged("invalid-challenge");
        }
    }
    assert_eq!(program.settlements().await, 0);
}

#[tokio::test]
async fn what_is_declined_costs_nothing() {
    let program = Program::start().await;
    for payload in [
        json!({"token": "tok_demo_decline"}),
        json!({"token": "tok_demo_other"}),
        json!({"token": "TOK_DEMO_OK"}),
        json!({"token": {"tok_demo_ok": null}}),
        json!({"token": "tok_demo_ok", "proof": 5}),
        json!({"token": "tok_demo_ok", "proof": null}),
        json!({}),
    ] {
        let answer = program.buy("/demo", &payload).await;
        answer.assert_challenged("verification-failed");
    }
    // A declined challenge can still be paid.
    let challenge = program.challenge("/demo").await;
    program.pay("/demo", &pay_with(&challenge, None, &json!({"token": "tok_demo_decline"}))).await;
    assert_eq!(program.settlements().await, 0);
    let more = json!({"token": "tok_demo_ok", "memo": {"a": [1]}});
    assert_eq!(program.pay("/demo", &pay_with(&challenge, None, &more)).await.status, 200);
    assert_eq!(program.settlements().await, 1);
}

#[tokio::test]
async fn a_proof_pays_one_challenge_only_byte_for_byte() {
    let program = Program::start().await;
    let proof = |proof: &str| json!({"token": "tok_demo_ok", "proof": proof});
    assert_eq!(program.buy("/demo", &proof("0xAb")).await.status, 200);
    for path in ["/demo", "/demo2", "/compose"] {
        let answer = program.buy(path, &proof("0xAb")).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        answer.assert_no_challenge();
    }
    for other in ["0xab", "0xAB", " 0xAb", "", "0xAb\u{0}", "\u{e9}", "e\u{301}"] {
        assert_eq!(program.buy("/demo", &proof(other)).await.status, 200, "{other:?}");
    }
    assert_eq!(program.settlements().await, 8);
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_by_the_same_credential() {
    let program = Program::start().await;
    let payload = json!({"token": "tok_demo_unknown"});
    let credential = program.credential("/demo", &payload).await;
    let answer = program.pay("/demo", &credential).await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    answer.assert_no_challenge();
    assert_eq!((program.settlements().await, program.runs("/demo").await), (0, 0));
    assert_eq!(program.pay("/demo", &credential).await.status, 200);
    assert_eq!(program.pay("/demo", &credential).await.status, 403);
    assert_eq!((program.settlements().await, program.runs("/demo").await), (1, 1));
    // Every challenge has its own first time.
    assert_eq!(program.buy("/demo", &payload).await.status, 503);
}

#[tokio::test]
async fn what_was_paid_and_not_delivered_is_delivered_later() {
    let program = Program::start().await;
    let credential = program.credential("/demo", &ok()).await;
    for status in [500, 404, 302] {
        let answer = program.pay(&format!("/demo?fail={status}"), &credential).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("payment-outcome"), Some("redeliverable"));
        answer.assert_no_challenge();
    }
    let answer = program.pay("/demo", &credential).await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains_key("payment-receipt"));
    assert_eq!(program.pay("/demo", &credential).await.status, 403);
    assert_eq!((program.settlements().await, program.runs("/demo").await), (1, 4));
    // A 2xx of whatever kind is a delivery.
    let answer = program.buy("/demo?fail=204", &ok()).await;
    assert_eq!(answer.status, 204);
    answer.receipt();
}

/// Where a payment is at work: while it is settled, while the handler runs.
async fn while_at_work(query: &str) {
    let program = Arc::new(Program::start().await);
    let credential = program.credential("/demo", &ok()).await;
    let started = Instant::now();
    let first = {
        let (program, credential, path) = (Arc::clone(&program), credential.clone(), format!("/demo?{query}"));
        tokio::spawn(async move { program.pay(&path, &credential).await })
    };
    sleep(Duration::from_millis(400)).await;
    let second = program.pay("/demo", &credential).await;
    assert_eq!(second.status, 409, "{second:?}");
    assert!(second.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    second.assert_no_challenge();
    assert!(started.elapsed() < Duration::from_millis(1500), "the second does not wait for the first");
    assert_eq!(first.await.unwrap().status, 200);
    assert!(started.elapsed() >= Duration::from_millis(1500));
    assert_eq!((program.settlements().await, program.runs("/demo").await), (1, 1));
}

#[tokio::test]
async fn the_same_payment_is_not_settled_twice_at_once() {
    while_at_work("settle_ms=1500").await;
}

#[tokio::test]
async fn the_same_payment_is_not_delivered_twice_at_once() {
    while_at_work("ms=1500").await;
}

#[tokio::test]
async fn a_proof_that_is_at_work_is_busy_for_another_challenge() {
    let program = Arc::new(Program::start().await);
    let payload = json!({"token": "tok_demo_ok", "proof": "p"});
    let first = {
        let (program, credential) = (Arc::clone(&program), program.credential("/demo", &payload).await);
        tokio::spawn(async move { program.pay("/demo?settle_ms=1500", &credential).await })
    };
    sleep(Duration::from_millis(400)).await;
    let second = program.credential("/demo2", &payload).await;
    let busy = program.pay("/demo2", &second).await;
    assert_eq!(busy.status, 409);
    busy.assert_no_challenge();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(program.pay("/demo2", &second).await.status, 403);
    assert_eq!(program.settlements().await, 1);
}

#[tokio::test]
async fn each_request_has_its_own_settlement_time() {
    let program = Arc::new(Program::start().await);
    let mut slow = JoinSet::new();
    for _ in 0..8 {
        let (program, credential) = (Arc::clone(&program), program.credential("/demo", &ok()).await);
        slow.spawn(async move { program.pay("/demo?settle_ms=2000", &credential).await });
    }
    sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    assert_eq!(program.buy("/demo", &ok()).await.status, 200);
    assert!(started.elapsed() < Duration::from_millis(1000));
    assert_eq!(program.settlements().await, 1);
    assert!(slow.join_all().await.iter().all(|answer| answer.status == 200));
    assert_eq!(program.settlements().await, 9);
}

/// Uses of one credential in parallel: one is served, the others are told to wait or that it is used.
async fn race(program: &Arc<Program>, path: &'static str, credentials: Vec<HeaderValue>) {
    let mut uses = JoinSet::new();
    for credential in credentials {
        let program = Arc::clone(program);
        uses.spawn(async move { program.pay(path, &credential).await });
    }
    let answers: Vec<Answer> = uses.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert!([403, 409].contains(&answer.status.as_u16()), "{answer:?}");
        answer.assert_no_challenge();
    }
}

#[tokio::test]
async fn of_64_parallel_uses_one_is_served() {
    let program = Arc::new(Program::start().await);
    for (round, path) in ["/demo", "/demo?settle_ms=50", "/demo?ms=50"].into_iter().enumerate() {
        let credential = program.credential("/demo", &ok()).await;
        race(&program, path, vec![credential; 64]).await;
        let round = round as u64 + 1;
        assert_eq!((program.settlements().await, program.runs("/demo").await), (round, round));
    }
}

#[tokio::test]
async fn of_64_challenges_one_proof_pays_one() {
    let program = Arc::new(Program::start().await);
    let payload = json!({"token": "tok_demo_ok", "proof": "one"});
    let mut credentials = Vec::new();
    for _ in 0..64 {
        credentials.push(program.credential("/demo", &payload).await);
    }
    race(&program, "/demo?settle_ms=50", credentials).await;
    assert_eq!((program.settlements().await, program.runs("/demo").await), (1, 1));
}

#[tokio::test]
async fn who_hangs_up_loses_nothing() {
    let program = Program::start().await;
    // While it is settled, and while the handler runs.
    for query in ["settle_ms=500", "ms=500"] {
        let before = program.settlements().await;
        let credential = program.credential("/demo", &ok()).await;
        let request =
            format!("GET /demo?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n", credential.to_str().unwrap());
        let wire = program.wire(&request).await;
        sleep(Duration::from_millis(200)).await;
        drop(wire);
        sleep(Duration::from_millis(800)).await;
        assert_eq!(program.settlements().await, before + 1, "{query}");
        assert_eq!(program.pay("/demo", &credential).await.status, 200, "{query}");
        assert_eq!(program.settlements().await, before + 1, "{query}");
    }
}

#[tokio::test]
async fn credentials_that_are_none() {
    let program = Program::start().await;
    let garbage = HeaderValue::from_static("Payment bm90IGpzb24");
    program.pay("/demo", &garbage).await.assert_challenged("malformed-credential");
    let mut foreign = program.challenge("/demo").await;
    foreign.method = "other".parse().unwrap();
    let answer = program.pay("/demo", &pay_with(&foreign, None, &ok())).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "method-unsupported"));
    let credential = program.credential("/demo", &ok()).await;
    let twice = format!("{0}, {0}", credential.to_str().unwrap());
    assert_eq!(program.pay("/demo", &twice.parse().unwrap()).await.status, 400);
    assert_eq!((program.settlements().await, program.runs("/demo").await), (0, 0));
}
