//! `POST /v1/agent/quote`: what it says is what a challenge asks, and it leaves nothing behind.

use http::Method;
use serde_json::json;

use super::{ACCOUNT, MESSAGES, Provider, QUOTE, Shop, VARIABLES, call, request_of, toml};
use crate::{
    harness::Gateway,
    stripe::StripeStandIn,
    support::{Answer, Server},
};

async fn quote(server: &Server, body: &str) -> Answer {
    server.send(Method::POST, QUOTE, &[("content-type", "application/json")], body).await
}

#[tokio::test]
async fn a_quote_is_what_the_challenge_asks() {
    let shop = Shop::start().await;
    for body in [String::new(), "{}".into(), r#"{"model":"coding"}"#.into(), call("sonnet"), call("")] {
        let quoted = quote(&shop.server, &body).await;
        assert_eq!(quoted.status, 200, "{quoted:?}");
        quoted.assert_no_challenge();
        assert_eq!(quoted.header("cache-control"), Some("no-store"));
        let quoted = quoted.json();
        let model = quoted["model_option"]["id"].as_str().unwrap();
        let asked = request_of(&shop.ask(&call(model)).await);
        assert_eq!(quoted["price"]["amount"], asked["amount"], "{body}");
        let method = &quoted["payment_methods"][0];
        for member in ["amount", "currency", "recipient", "methodDetails"] {
            assert_eq!(method[member], asked[member], "{member}");
        }
    }
    let quoted = quote(&shop.server, "").await.json();
    assert_eq!(quoted["price"], json!({"amount": "50", "currency": "usd", "decimals": 2, "display": "0.50"}));
    assert_eq!(quoted["model_option"]["price_usd"], "0.50");
    assert_eq!(quoted["payment_methods"][0]["recipient"], ACCOUNT);
    assert_eq!(quoted["challenge"]["expires_in_seconds"], 300);
    assert_eq!(quoted["refunds"]["supported"], false);
    assert_eq!((&quoted["sessions"]["available"], &quoted["payable"]), (&json!(false), &json!(true)));
    assert_eq!(quoted["route"], json!({"method": "POST", "path": MESSAGES}));
    assert!(quoted["note"].as_str().unwrap().contains("402"));
    assert!(shop.provider.calls().is_empty() && shop.stripe.requests().is_empty());
}

#[tokio::test]
async fn what_would_be_refused_is_not_quoted() {
    let shop = Shop::with("body_limit = 2000", "").await;
    for (body, status) in [
        (r#"{"model":"gpt-5"}"#.to_owned(), 400),
        (r#"{"model":"old"}"#.to_owned(), 400),
        (r#"{"model":"fast","model":"coding"}"#.to_owned(), 400),
        ("[]".to_owned(), 400),
        ("{".to_owned(), 400),
        (r#"{"max_tokens":0,"messages":[]}"#.to_owned(), 400),
        (call("fast").replace("user", "system"), 400),
        (format!("{{\"model\":\"fast\"{}}}", " ".repeat(2000)), 413),
    ] {
        let refused = quote(&shop.server, &body).await;
        assert_eq!(refused.status, status, "{body}");
        refused.assert_no_challenge();
    }
    assert_eq!(shop.server.get(QUOTE).await.status, 405);
}

#[tokio::test]
async fn quotes_leave_the_journal_as_it_was() {
    let (stripe, provider) = (StripeStandIn::start().await, Provider::start().await);
    let toml = format!("listen = \"127.0.0.1:0\"\n{}", toml(&stripe, &provider, "", ""));
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &toml, &VARIABLES).await;
    let files = || {
        let journal = gateway.folder.path().join("data");
        ["payments.db", "payments.db-wal"].map(|name| std::fs::read(journal.join(name)).ok())
    };
    let before = files();
    assert!(before[0].is_some());
    let server = gateway.client();
    for _ in 0..20 {
        assert_eq!(quote(&server, &call("coding")).await.status, 200);
        // An unpaid request writes nothing either.
        assert_eq!(server.send(Method::POST, MESSAGES, &[], &call("coding")).await.status, 402);
    }
    assert!(files() == before, "nothing was written");
    assert!(provider.calls().is_empty() && stripe.requests().is_empty());
}
