//! What makes a call at Anthropic cost more than it was sold for, and what its API refuses although it was paid for.

use http::Method;
use serde_json::json;

use super::{MESSAGES, Provider, QUOTE, Shop, call, serve, toml};
use crate::{
    stripe::StripeStandIn,
    support::{challenge, pay_with},
};

const SEARCH: &str = r#""tools":[{"type":"web_search_20250305","name":"web_search"}]"#;

fn with(member: &str) -> String {
    call("fast").replacen('{', &format!("{{{member},"), 1)
}

#[tokio::test]
async fn what_costs_the_merchant_more_is_refused_before_any_challenge() {
    let shop = Shop::start().await;
    for (body, named) in [
        (with(SEARCH), "tools.0.type"),
        (with(r#""service_tier":"auto""#), "service_tier"),
        (with(r#""speed":"fast""#), "speed"),
        (with(r#""mcp_servers":[{"type":"url","url":"https://example.com","name":"m"}]"#), "mcp_servers"),
        (with(r#""container":"c""#), "container"),
        (with(r#""anthropic_beta":["context-1m-2025-08-07"]"#), "anthropic_beta"),
        (call("fast").replace("\"Say hi\"", r#"[{"type":"text"}]"#), "messages.0.content.0.text"),
        (with(r#""tools":[{"name":"f"}]"#), "tools.0.input_schema"),
        (with(r#""frequency_penalty":0"#), "frequency_penalty"),
    ] {
        for path in [MESSAGES, QUOTE] {
            let refused = shop.server.send(Method::POST, path, &[], &body).await;
            assert_eq!(refused.status, 400, "{body}");
            refused.assert_no_challenge();
            let detail = refused.json()["detail"].as_str().unwrap().to_owned();
            assert!(
                detail.starts_with(&format!("{named}: ")) && detail.ends_with(". Nothing was charged."),
                "{detail}"
            );
        }
    }
    assert!(shop.provider.calls().is_empty() && shop.stripe.requests().is_empty());
}

#[tokio::test]
async fn betas_pass_as_far_as_the_merchant_has_allowed_them() {
    for (allow, passed) in
        [("", None), (", allow = { betas = [\"wanted-1\"], tools = [\"web_search_20250305\"] }", Some("wanted-1"))]
    {
        let (stripe, provider) = (StripeStandIn::start().await, Provider::start().await);
        let toml = toml(&stripe, &provider, "", "")
            .replace("key_env = \"PROVIDER_KEY\"", &format!("key_env = \"PROVIDER_KEY\"{allow}"));
        let server = serve(&toml).await;
        let body = if allow.is_empty() { call("fast") } else { with(SEARCH) };
        let asked = server.send(Method::POST, MESSAGES, &[], &body).await;
        let credential = pay_with(&challenge(&asked.headers), None, &json!({"spt": "spt_ok"}));
        let headers = [
            ("authorization", credential.to_str().unwrap()),
            ("anthropic-beta", "dear-1, wanted-1"),
            ("anthropic-user-profile-id", "somebody"),
        ];
        let paid = server.send(Method::POST, MESSAGES, &headers, &body).await;
        assert_eq!(paid.status, 200, "{paid:?}");
        let [call] = &provider.calls()[..] else { panic!("one call") };
        assert_eq!(call.headers.get("anthropic-beta").map(|value| value.to_str().unwrap()), passed);
        assert_eq!(call.headers["anthropic-version"], "2023-06-01");
        assert!(!call.headers.contains_key("anthropic-user-profile-id"));
    }
}

#[tokio::test]
async fn money_for_a_call_that_its_api_has_refused_comes_back_when_the_rules_say_so() {
    let shop = Shop::with("", "[refunds]\nrefund_if_payment_succeeds_but_no_provider_call_starts = true").await;
    // Whether a model has run behind the others, nobody knows.
    for (status, outcome) in [
        (400, "refunded"),
        (403, "refunded"),
        (404, "refunded"),
        (413, "refunded"),
        (422, "refunded"),
        (429, "refunded"),
        (500, "redeliverable"),
        (529, "redeliverable"),
    ] {
        shop.provider.fails_with(status);
        let credential = shop.credential(&call("fast"), &format!("spt_ok{status}")).await;
        let failed = shop.pay(&credential, &call("fast")).await;
        assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (status, Some(outcome)), "{failed:?}");
        failed.assert_no_challenge();
    }
    assert_eq!((shop.stripe.charges().len(), shop.stripe.refunds().len()), (8, 6));
}
