//! What the environment can say.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    process::{Program, ok, run},
    stripe::{SECRET_KEY, StripeStandIn},
    support::{challenges, pay_with},
};

const KEY: &str = "a first key of thirty-two bytes..";
const OTHER_KEY: &str = "another key of thirty-two bytes..";

#[tokio::test]
async fn ready_is_the_only_line_on_stdout() {
    let program = Program::with(&[("RUST_LOG", "trace")]).await;
    assert_eq!(program.buy("/demo", &ok()).await.status, 200);
    let ended = program.stop().await;
    assert_eq!((ended.status.code(), ended.stdout.lines().count()), (Some(0), 1));
    assert!(ended.stderr.contains("settled"), "{}", ended.stderr);
}

#[tokio::test]
async fn the_test_key_is_warned_about() {
    let warned = Program::start().await.stop().await.stderr;
    assert!(warned.contains("MPP_SECRET_KEY"), "{warned}");
    assert_eq!(Program::with(&[("MPP_SECRET_KEY", KEY)]).await.stop().await.stderr, "");
}

#[tokio::test]
async fn a_value_that_cannot_be_used_ends_the_program() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let short_at_the_end = format!("{KEY},short-secret");
    let stripe = [("STRIPE_KEY", "sk_test_1"), ("STRIPE_NETWORK_ID", "profile_test_1")];
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("PORT", &[("PORT", "http")]),
        ("PORT", &[("PORT", "65536")]),
        ("PORT", &[("PORT", "+1")]),
        ("PORT", &[("PORT", "")]),
        ("PORT", &[("PORT", &taken)]),
        ("REALM", &[("REALM", "")]),
        ("REALM", &[("REALM", "a\"b")]),
        ("MPP_SECRET_KEY", &[("MPP_SECRET_KEY", "short-secret")]),
        ("MPP_SECRET_KEY", &[("MPP_SECRET_KEY", &short_at_the_end)]),
        ("MPP_SECRET_KEY", &[("MPP_SECRET_KEY", "")]),
        ("CHALLENGE_TTL_SECS", &[("CHALLENGE_TTL_SECS", "0")]),
        ("CHALLENGE_TTL_SECS", &[("CHALLENGE_TTL_SECS", "-1")]),
        ("CHALLENGE_TTL_SECS", &[("CHALLENGE_TTL_SECS", "5m")]),
        ("CHALLENGE_TTL_SECS", &[("CHALLENGE_TTL_SECS", "18446744073709551615")]),
        ("STORE", &[("STORE", "")]),
        ("STORE", &[("STORE", "mysql://short-secret@x")]),
        ("STORE", &[("STORE", "sqlite:/no/such/folder/check.db")]),
        ("STORE", &[("STORE", "postgres://short-secret@127.0.0.1:1/x")]),
        ("STORE", &[("STORE", "redis://127.0.0.1:1")]),
        ("STRIPE_BASE", &[("STRIPE_BASE", "http://127.0.0.1:1")]),
        ("STRIPE_BASE", &[("STRIPE_BASE", "http://stripe.example.com"), stripe[0], stripe[1]]),
        ("STRIPE_KEY", &[("STRIPE_KEY", "short-secret"), stripe[1]]),
        ("STRIPE_NETWORK_ID", &[stripe[0]]),
        ("STRIPE_NETWORK_ID", &[stripe[1]]),
        ("STRIPE_NETWORK_ID", &[stripe[0], ("STRIPE_NETWORK_ID", "")]),
        ("FACILITATOR_URL", &[("FACILITATOR_URL", "http://127.0.0.1:1")]),
        ("PAY_TO", &[("PAY_TO", "0x1")]),
        ("USDC", &[("USDC", "0x1")]),
        ("NETWORK", &[("NETWORK", "eip155:84532")]),
        ("TEMPO_RPC", &[("TEMPO_RPC", "http://127.0.0.1:1")]),
        ("TEMPO_CHAIN_ID", &[("TEMPO_CHAIN_ID", "42431")]),
        ("RECEIPT_KEY", &[("RECEIPT_KEY", "/nowhere")]),
        ("RUST_LOG", &[("RUST_LOG", "a=b=c")]),
    ];
    for (variable, environment) in cases {
        let output = run(environment).await;
        let stderr = output.stderr;
        assert!(!output.status.success() && output.status.code().is_some(), "{environment:?}: {}", output.status);
        assert!(output.stdout.is_empty(), "{environment:?}");
        assert_eq!(stderr.lines().count(), 1, "{environment:?}: {stderr}");
        assert!(stderr.contains(variable) && !stderr.contains("panic"), "{environment:?}: {stderr}");
        assert!(!stderr.contains("short-secret"), "{stderr}");
    }
}

#[tokio::test]
async fn realm_and_life_are_those_of_the_environment() {
    let program =
        Program::with(&[("STORE", "memory"), ("REALM", "api.example.com"), ("CHALLENGE_TTL_SECS", "1")]).await;
    let challenge = program.challenge("/demo").await;
    assert_eq!(challenge.realm, "api.example.com");
    let credential = pay_with(&challenge, None, &ok());
    // Ends on a full second, so it has expired when its second is over, and surely after two.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    program.pay("/demo", &credential).await.assert_challenged("payment-expired");
    assert_eq!(program.settlements().await, 0);
}

#[tokio::test]
async fn without_settings_the_page_holds() {
    let program = Program::start().await;
    let challenge = program.challenge("/demo").await;
    assert_eq!(challenge.realm, "127.0.0.1");
    let expires: jiff::Timestamp = challenge.expires.unwrap().parse().unwrap();
    let left = expires.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((295..=300).contains(&left), "{left}");
    assert_eq!(program.get("/stripe").await.status, 404);
}

#[tokio::test]
async fn the_first_key_signs_and_all_of_them_verify() {
    let before = Program::with(&[("MPP_SECRET_KEY", OTHER_KEY)]).await;
    let credential = before.credential("/demo", &ok()).await;
    let rotated = Program::with(&[("MPP_SECRET_KEY", &format!("{KEY},{OTHER_KEY}"))]).await;
    assert_eq!(rotated.pay("/demo", &credential).await.status, 200);
    let fresh = rotated.credential("/demo", &ok()).await;
    before.pay("/demo", &fresh).await.assert_challenged("invalid-challenge");
    let after = Program::with(&[("MPP_SECRET_KEY", KEY)]).await;
    assert_eq!(after.pay("/demo", &fresh).await.status, 200);
    after.pay("/demo", &credential).await.assert_challenged("invalid-challenge");
}

#[tokio::test]
async fn stripe_is_offered_when_it_is_set_up() {
    let stand_in = StripeStandIn::start().await;
    let program = Program::with(&[
        ("STRIPE_BASE", &stand_in.base_url()),
        ("STRIPE_KEY", SECRET_KEY),
        ("STRIPE_NETWORK_ID", "profile_test_1"),
    ])
    .await;
    let challenge = program.challenge("/stripe").await;
    assert_eq!(challenge.method.as_str(), "stripe");
    let request: Value = challenge.request_as().unwrap();
    assert_eq!((&request["amount"], &request["currency"]), (&json!("50"), &json!("usd")));
    assert_eq!(request["methodDetails"]["networkId"], "profile_test_1");
    let credential = pay_with(&challenge, Some("did:example:alice"), &json!({"spt": "spt_ok"}));
    let answer = program.pay("/stripe", &credential).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((&answer.json()["route"], &answer.json()["payer"]), (&json!("/stripe"), &json!("did:example:alice")));
    assert_eq!(answer.receipt().reference, stand_in.charges()[0].payment_intent);
    assert_eq!((program.settlements().await, program.runs("/stripe").await), (0, 1));

    let both = program.get("/compose").await;
    assert_eq!(both.status, StatusCode::PAYMENT_REQUIRED);
    let mut methods = Vec::new();
    for challenge in challenges(&both.headers) {
        assert_eq!(challenge.request_as::<Value>().unwrap()["amount"], "50");
        let payload = if challenge.method.as_str() == "demo" { ok() } else { json!({"spt": "spt_ok2"}) };
        assert_eq!(program.pay("/compose", &pay_with(&challenge, None, &payload)).await.status, 200);
        methods.push(challenge.method.to_string());
    }
    methods.sort();
    assert_eq!(methods, ["demo", "stripe"]);
}
