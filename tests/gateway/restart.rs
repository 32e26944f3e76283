//! The gateway is stopped, or killed, and started again: what was paid stays paid, and is delivered once.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::any};
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tower_mpp::method::SandboxKey;

use crate::{
    harness::{Gateway, PATIENCE, upstream},
    programs::Ended,
    stripe::{SECRET_KEY, StripeStandIn},
    support::{Answer, Server, challenge, pay_sandbox, pay_with},
};

/// How a gateway ends.
const ENDS: [&str; 2] = ["TERM", "KILL"];

/// A credential of the sandbox for a path.
async fn credential(server: &Server, path: &str) -> HeaderValue {
    let asked = server.get(path).await;
    asked.assert_challenged("payment-required");
    pay_sandbox(&challenge(&asked.headers), &SandboxKey::generate())
}

/// An upstream that fails as often as its path says, `/fail/2`, and then answers; and how often it was asked.
async fn unreliable() -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let handler = any(move |request: axum::extract::Request| async move {
        let fails = request.uri().path().rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        match count.fetch_add(1, Ordering::SeqCst) {
            turn if turn < fails => Err(StatusCode::INTERNAL_SERVER_ERROR),
            turn => Ok(format!("answer {turn}")),
        }
    });
    (format!("http://{}", upstream(Router::new().fallback(handler)).await), asked)
}

async fn end(gateway: Gateway, signal: &str) -> (Ended, TempDir) {
    gateway.signal(signal).await;
    gateway.ended().await
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn what_was_delivered_stays_used_and_what_was_not_is_delivered() {
    for signal in ENDS {
        let (upstream, asked) = unreliable().await;
        let variables = [("GATEWAY_UPSTREAM_URL", &*upstream)];
        let gateway = Gateway::start_with(folder(), &variables).await;
        let server = gateway.client();
        // Paid, and the upstream fails twice.
        let open = credential(&server, "/fail/2").await;
        for _ in 0..2 {
            let failed = server.get_paid("/fail/2", &open).await;
            assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (500, Some("redeliverable")));
        }
        let used = credential(&server, "/a").await;
        assert_eq!(server.get_paid("/a", &used).await.status, 200);
        assert_eq!(asked.load(Ordering::SeqCst), 3);

        let (_, folder) = end(gateway, signal).await;
        let gateway = Gateway::start_with(folder, &variables).await;
        let server = gateway.client();
        let again = server.get_paid("/a", &used).await;
        assert_eq!((again.status.as_u16(), again.problem().as_str()), (403, "invalid-challenge"), "{signal}");
        again.assert_no_challenge();
        let delivered = server.get_paid("/fail/2", &open).await;
        assert_eq!((delivered.status.as_u16(), delivered.text()), (200, "answer 3"), "{signal}");
        delivered.receipt();

        // And once more.
        let (_, folder) = end(gateway, signal).await;
        let gateway = Gateway::start_with(folder, &variables).await;
        for (path, credential) in [("/a", &used), ("/fail/2", &open)] {
            assert_eq!(gateway.client().get_paid(path, credential).await.status, 403, "{signal} {path}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }
}

#[tokio::test]
async fn the_journal_is_beside_the_key_and_nobody_else_reads_it() {
    let (ended, folder) = Gateway::start().await.stop().await;
    assert!(ended.stdout.contains("Payments are remembered in data/payments.db (SQLite)."), "{}", ended.stdout);
    assert!(!ended.stdout.contains("forgets"), "{}", ended.stdout);
    for file in fs::read_dir(folder.path().join("data")).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} {mode:03o}", file.path().display());
    }
    assert!(folder.path().join("data/payments.db").is_file());
}

#[tokio::test]
async fn memory_is_warned_about_and_makes_no_file() {
    let (ended, folder) = Gateway::start_with(folder(), &[("GATEWAY_STORE", "memory")]).await.stop().await;
    assert!(ended.stdout.contains("in memory: a restart forgets"), "{}", ended.stdout);
    assert!(!folder.path().join("data/payments.db").exists());
}

/// The same request with the same key.
async fn repeat(server: &Server, path: &str, credential: &HeaderValue, key: &str) -> Answer {
    let headers = [("authorization", credential.to_str().unwrap()), ("idempotency-key", key)];
    server.send(Method::GET, path, &headers, "").await
}

#[tokio::test]
async fn answers_are_kept_for_those_who_ask_again_with_their_key() {
    for signal in ENDS {
        let (upstream, asked) = unreliable().await;
        let variables = [("GATEWAY_UPSTREAM_URL", &*upstream)];
        let gateway = Gateway::start_with(folder(), &variables).await;
        let paid = credential(&gateway.client(), "/a").await;
        let first = repeat(&gateway.client(), "/a", &paid, "k1").await;
        assert_eq!((first.status.as_u16(), first.text()), (200, "answer 0"));
        let deadline = Instant::now() + PATIENCE;
        // The answer is kept when it was taken to its end.
        while repeat(&gateway.client(), "/a", &paid, "k1").await.status != 200 {
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(20)).await;
        }
        let (_, folder) = end(gateway, signal).await;
        let gateway = Gateway::start_with(folder, &variables).await;
        let again = repeat(&gateway.client(), "/a", &paid, "k1").await;
        assert_eq!((again.status, &again.body), (first.status, &first.body), "{signal}");
        assert_eq!(again.receipt().reference, first.receipt().reference);
        assert_eq!(repeat(&gateway.client(), "/a", &paid, "k2").await.status, 403);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}

/// Asks until the answer is no longer that somebody is at work on it.
async fn until_free(server: &Server, path: &str, credential: &HeaderValue) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = server.get_paid(path, credential).await;
        if ![409, 503].contains(&answer.status.as_u16()) || Instant::now() > deadline {
            return answer;
        }
        answer.assert_no_challenge();
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn who_is_killed_between_charge_and_answer_charges_once_and_delivers_once() {
    let stripe = StripeStandIn::start().await;
    // Long enough to be killed in, also on a busy machine.
    let slow = any(|| async {
        sleep(Duration::from_secs(2)).await;
        "answer"
    });
    let upstream = format!("http://{}", upstream(Router::new().fallback(slow)).await);
    let toml = format!(
        "listen = \"127.0.0.1:0\"\nlease_secs = 1\n[upstream]\nurl = \"{upstream}\"\n[rails.stripe]\nnetwork_id = \"profile_test_1\"\nbase_url = \"{}\"\n[[routes]]\npath = \"/{{*path}}\"\nprice = \"0.50\"\n",
        stripe.base_url()
    );
    let variables = [("STRIPE_SECRET_KEY", SECRET_KEY)];
    let mut folder = folder();
    for turn in 0..3 {
        let gateway = Gateway::configured(folder, &toml, &variables).await;
        let server = gateway.client();
        let asked_for = server.get("/a").await;
        let token = json!({"spt": format!("spt_ok{turn}")});
        let credential = pay_with(&challenge(&asked_for.headers), None, &token);
        let paying = {
            let (server, credential) = (server.clone(), credential.clone());
            // The connection breaks.
            tokio::spawn(async move { server.get_paid("/a", &credential).await })
        };
        // Stripe has taken the money, and the upstream answers later.
        let deadline = Instant::now() + PATIENCE;
        while stripe.creations().len() <= turn {
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(10)).await;
        }
        let (_, left) = gateway.kill().await;
        assert!(paying.await.is_err(), "no answer came");
        let gateway = Gateway::configured(left, &toml, &variables).await;
        let server = gateway.client();
        let delivered = until_free(&server, "/a", &credential).await;
        assert_eq!(delivered.status, 200, "{delivered:?}");
        assert_eq!(server.get_paid("/a", &credential).await.status, 403);
        let charges = stripe.charges();
        assert_eq!(charges.len(), turn + 1);
        assert_eq!(delivered.receipt().reference, charges[turn].payment_intent);
        (_, folder) = gateway.kill().await;
    }
}
