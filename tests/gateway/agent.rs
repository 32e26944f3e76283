//! The agent, against merchants that are not what they should be.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode};
use tower_mpp::protocol::{Challenge, ContentDigest, Intent, MethodId, Receipt};

use crate::{
    harness::{Ended, agent},
    support::Server,
};

/// What the merchant answers to the n-th request with a credential.
type Script = &'static [fn() -> Response];
type Seen = Arc<Mutex<Vec<(String, Bytes)>>>;

fn offer(amount: u32, method: MethodId) -> Challenge {
    Challenge {
        id: "x".repeat(43),
        realm: "localhost".into(),
        method,
        intent: Intent::CHARGE,
        request: URL_SAFE_NO_PAD.encode(format!(r#"{{"amount":"{amount}","currency":"usd"}}"#)),
        expires: Some("2099-01-01T00:00:00Z".into()),
        digest: None,
        description: None,
        opaque: None,
    }
}

/// A merchant with these challenges; gives what came with credentials.
async fn merchant(challenges: Vec<Challenge>, script: Script) -> (Server, Seen) {
    let seen = Seen::default();
    let credentials = Arc::clone(&seen);
    let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| async move {
        let Some(credential) = headers.get("authorization") else {
            let mut response = StatusCode::PAYMENT_REQUIRED.into_response();
            for challenge in challenges {
                response.headers_mut().append("www-authenticate", challenge.to_header_value().unwrap());
            }
            return response;
        };
        let mut seen = credentials.lock().unwrap();
        seen.push((credential.to_str().unwrap().to_owned(), body));
        script[seen.len().min(script.len()) - 1]()
    });
    (Server::start(router).await, seen)
}

async fn buy(server: &Server, arguments: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}/x", server.address);
    agent(folder.path(), &[arguments, &[&url]].concat()).await
}

fn delivered() -> Response {
    let receipt = Receipt::new(MethodId::SANDBOX, "2026-01-01T00:00:00Z".parse().unwrap(), "ref_1");
    ([("payment-receipt", receipt.encode().unwrap())], "delivered").into_response()
}

#[tokio::test]
async fn an_open_outcome_is_asked_for_again_with_the_same_credential() {
    let (server, seen) = merchant(
        vec![offer(50, MethodId::SANDBOX)],
        &[
            || (StatusCode::CONFLICT, [("retry-after", "1")]).into_response(),
            || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]).into_response(),
            || (StatusCode::BAD_GATEWAY, [("payment-outcome", "redeliverable")]).into_response(),
            delivered,
        ],
    )
    .await;
    let bought = buy(&server, &["-d", "{\"a\": 1}"]).await;
    assert!(bought.status.success(), "{bought:?}");
    assert_eq!(bought.stdout, "delivered");
    assert!(bought.stderr.contains("receipt: ref_1 by sandbox at 2026-01-01T00:00:00Z"), "{}", bought.stderr);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|attempt| *attempt == seen[0] && attempt.1 == "{\"a\": 1}"));
}

#[tokio::test]
async fn it_never_pays_twice_by_itself() {
    let refusals: [(Script, &str); 4] = [
        (&[|| StatusCode::PAYMENT_REQUIRED.into_response()], "do not pay again"),
        (&[|| StatusCode::FORBIDDEN.into_response()], "a credential buys one answer"),
        (&[|| StatusCode::SERVICE_UNAVAILABLE.into_response()], "do not pay again before you know it"),
        (
            &[|| (StatusCode::BAD_REQUEST, [("payment-outcome", "redeliverable")]).into_response()],
            "paid, but not delivered",
        ),
    ];
    for (script, advice) in refusals {
        let (server, seen) = merchant(vec![offer(50, MethodId::SANDBOX)], script).await;
        let bought = buy(&server, &[]).await;
        assert_eq!(bought.status.code(), Some(1));
        assert!(bought.stderr.contains(advice), "{advice}: {}", bought.stderr);
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn it_does_not_pay_what_the_user_would_not() {
    let good = offer(50, MethodId::SANDBOX);
    let with = |change: fn(&mut Challenge)| {
        let mut challenge = good.clone();
        change(&mut challenge);
        vec![challenge]
    };
    for (challenges, arguments, expected) in [
        (vec![offer(101, MethodId::SANDBOX)], &[][..], "1.01 USD is more than 1.00 USD"),
        (vec![good.clone()], &["--max", "0.49"], "0.50 USD is more than 0.49 USD"),
        (vec![good.clone()], &["--currency", "eur"], "the price is in usd, not in eur"),
        (
            vec![good.clone()],
            &["--realm", "api.example.com"],
            "the realm is \"localhost\", expected \"api.example.com\"",
        ),
        (with(|challenge| challenge.realm = "evil\u{1b}[2J".into()), &[], "expected \"127.0.0.1\""),
        (with(|challenge| challenge.expires = Some("2020-01-01T00:00:00Z".into())), &[], "has expired"),
        (with(|challenge| challenge.expires = None), &[], "has expired"),
        (
            with(|challenge| challenge.digest = Some(ContentDigest::of(b"other").to_string())),
            &["-d", "mine"],
            "another body",
        ),
        (vec![offer(50, MethodId::STRIPE)], &[], "none of these can be paid here"),
        (vec![], &[], "no challenge of the Payment scheme"),
    ] {
        let (server, seen) = merchant(challenges, &[delivered]).await;
        let refused = buy(&server, arguments).await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(refused.stderr.contains(expected), "{expected}: {}", refused.stderr);
        assert!(!refused.stderr.contains('\u{1b}'), "{:?}", refused.stderr);
        assert!(seen.lock().unwrap().is_empty(), "{expected}");
    }
    // Among several, the one that it can pay.
    let (server, seen) = merchant(vec![offer(50, MethodId::STRIPE), offer(60, MethodId::SANDBOX)], &[delivered]).await;
    assert!(buy(&server, &[]).await.status.success());
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn it_does_not_talk_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["http://api.example.com/", "http://10.0.0.1/", "http://127.0.0.1.example.com/"] {
        let refused = agent(folder.path(), &[url]).await;
        assert!(refused.stderr.contains("over https only"), "{refused:?}");
    }
    for url in ["/x", "ftp://localhost/"] {
        assert!(!agent(folder.path(), &[url]).await.status.success());
    }
}

#[tokio::test]
async fn a_key_file_makes_one_payer_of_many_runs() {
    let (server, seen) = merchant(vec![offer(50, MethodId::SANDBOX)], &[delivered]).await;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}/x", server.address);
    for _ in 0..2 {
        assert!(agent(folder.path(), &["--key", "k", &url]).await.status.success());
    }
    {
        let seen = seen.lock().unwrap();
        assert_eq!(seen[0], seen[1], "same key, same challenge: same credential");
    }
    fs::set_permissions(folder.path().join("k"), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = agent(folder.path(), &["--key", "k", &url]).await;
    assert!(refused.stderr.contains("chmod 600 k"), "{refused:?}");
}
