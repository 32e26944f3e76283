//! `POST /v1/agent/messages` with a wallet: what is asked for, what is charged, and what is delivered.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Method;
use serde_json::{Value, json};
use tower_mpp::protocol::ContentDigest;

use super::{ACCOUNT, MESSAGES, PROVIDER_KEY, Shop, VARIABLES, call, request_of, toml};
use crate::{
    harness::{app, opened, settings_with},
    stripe::StripeStandIn,
    support::{challenge, pay_with},
};

#[tokio::test]
async fn without_a_credential_it_is_402_with_everything_a_wallet_needs() {
    let shop = Shop::start().await;
    let asked = shop.ask(&call("fast")).await;
    asked.assert_challenged("payment-required");
    let offered = challenge(&asked.headers);
    assert_eq!((offered.method.as_str(), offered.intent.as_str()), ("stripe", "charge"));
    assert_eq!(offered.realm, "127.0.0.1");
    assert_eq!(offered.digest.as_deref(), Some(ContentDigest::of(call("fast").as_bytes()).to_string().as_str()));
    assert!(offered.expires.is_some());
    assert_eq!(offered.description.as_deref(), Some("One model call"));
    let request = request_of(&asked);
    assert_eq!((&request["amount"], &request["currency"]), (&json!("50"), &json!("usd")));
    assert_eq!(request["recipient"], ACCOUNT);
    assert_eq!(request["methodDetails"]["networkId"], "profile_1");
    assert!(request.get("decimals").is_none(), "the draft has no such member");
    // Nothing was done for it.
    assert!(shop.provider.calls().is_empty() && shop.stripe.requests().is_empty());
    assert_eq!(shop.server.get(MESSAGES).await.status, 405);
}

#[tokio::test]
async fn the_price_is_that_of_the_model_by_each_of_its_names() {
    let shop = Shop::start().await;
    for (model, amount) in [
        ("", "50"),
        ("fast", "50"),
        ("anthropic/claude-haiku-4-5", "50"),
        ("claude-haiku-4-5", "50"),
        ("balanced", "50"),
        ("sonnet", "50"),
        ("claude-sonnet-4-6", "50"),
        ("coding", "150"),
        ("anthropic/claude-opus-4-7", "150"),
    ] {
        assert_eq!(request_of(&shop.ask(&call(model)).await)["amount"], amount, "{model}");
    }
}

#[tokio::test]
async fn a_model_that_is_not_sold_is_refused_before_any_challenge() {
    let shop = Shop::start().await;
    for model in ["gpt-5", "Fast", "old", "claude-2", " ", "bedrock/us.amazon.nova-micro-v1:0"] {
        let refused = shop.ask(&call(model)).await;
        assert_eq!(refused.status, 400, "{model}");
        refused.assert_no_challenge();
        assert!(refused.json()["detail"].as_str().unwrap().contains("Models: fast, balanced, coding."), "{refused:?}");
    }
    // With a credential too, whatever it is for.
    let credential = shop.credential(&call("fast"), "spt_ok").await;
    let refused = shop.pay(&credential, &call("gpt-5")).await;
    assert_eq!(refused.status, 400);
    refused.assert_no_challenge();
    assert!(shop.provider.calls().is_empty() && shop.stripe.requests().is_empty());
}

#[tokio::test]
async fn a_body_that_the_provider_would_refuse_is_never_paid_for() {
    let shop = Shop::with("max_tokens = 100", "").await;
    let good = call("fast");
    let credential = shop.credential(&good, "spt_ok").await;
    for (bad, named) in [
        ("{".to_owned(), "The body"),
        (String::new(), "The body"),
        ("[]".to_owned(), "The body"),
        (good.replace("\"max_tokens\":16,", ""), "max_tokens"),
        (good.replace("16", "101"), "max_tokens"),
        (good.replace("16", "\"16\""), "max_tokens"),
        (r#"{"max_tokens":16,"messages":[]}"#.to_owned(), "messages"),
        (r#"{"max_tokens":16}"#.to_owned(), "messages"),
        (good.replace("user", "system"), "messages.0.role"),
        (good.replace("\"Say hi\"", "null"), "messages.0.content"),
        (good.replacen('{', r#"{"temperature":2,"#, 1), "temperature"),
        (good.replacen('{', r#"{"model":"coding","#, 1), "The body"),
        (good.replacen('{', r#"{"MAX_TOKENS":99999,"#, 1), "the body"),
    ] {
        for refused in [shop.ask(&bad).await, shop.pay(&credential, &bad).await] {
            assert_eq!(refused.status, 400, "{bad}");
            refused.assert_no_challenge();
            assert!(refused.json()["detail"].as_str().unwrap().contains(named), "{bad}: {refused:?}");
        }
    }
    let encoded = shop.server.send(Method::POST, MESSAGES, &[("content-encoding", "gzip")], &good).await;
    assert_eq!(encoded.status, 415);
    assert!(shop.provider.calls().is_empty() && shop.stripe.requests().is_empty());
}

#[tokio::test]
async fn a_token_buys_one_call_and_only_the_model_is_changed_on_its_way() {
    let shop = Shop::start().await;
    let body = "{ \"max_tokens\":16, \"model\" :\"sonnet\",\n\"temperature\":0.10,\"messages\":[{\"role\":\"user\",\"content\":\"Say h\\u0069\"}] }";
    let credential = shop.credential(body, "spt_ok").await;
    let id = credential_id(&credential);
    let paid = shop.pay(&credential, body).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    assert_eq!(paid.header("cache-control"), Some("private"));
    let message = paid.json();
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!((&message["model"], &message["usage"]["input_tokens"]), (&json!("claude-sonnet-4-6"), &json!(7)));

    // One PaymentIntent, whose key is made of the challenge and the token; and the receipt is about it.
    let charges = shop.stripe.charges();
    assert_eq!((charges.len(), charges[0].amount, charges[0].currency.as_str()), (1, 50, "usd"));
    let created = shop.stripe.creations();
    assert_eq!(created.len(), 1);
    assert_eq!(created[0].header("idempotency-key"), Some(format!("{id}_spt_ok").as_str()));
    assert_eq!(paid.receipt().reference, charges[0].payment_intent);

    let calls = shop.provider.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].method.as_str(), calls[0].target.as_str()), ("POST", "/v1/messages"));
    assert_eq!(calls[0].body, body.replace("\"sonnet\"", "\"claude-sonnet-4-6\""));
    // The provider knows us, and not who paid.
    assert_eq!(calls[0].headers["x-api-key"], PROVIDER_KEY);
    assert_eq!(calls[0].headers["anthropic-version"], "2023-06-01");
    assert_eq!(calls[0].headers["content-type"], "application/json");
    assert!(!calls[0].headers.contains_key("authorization"));
    assert!(!format!("{paid:?}").contains(PROVIDER_KEY));
}

fn credential_id(credential: &http::HeaderValue) -> String {
    let token = credential.to_str().unwrap().strip_prefix("Payment ").unwrap();
    let credential: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    credential["challenge"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn another_body_is_another_call() {
    let shop = Shop::start().await;
    let credential = shop.credential(&call("fast"), "spt_ok").await;
    // At the same price, and at another.
    for other in
        [call("fast").replace("Say hi", "Say more"), call("balanced"), call("coding"), format!("{} ", call("fast"))]
    {
        shop.pay(&credential, &other).await.assert_challenged("invalid-challenge");
    }
    let elsewhere = shop.server.pay(Method::POST, "/v1/agent/messages?beta=true", &credential, &call("fast")).await;
    elsewhere.assert_challenged("invalid-challenge");
    assert!(shop.provider.calls().is_empty() && shop.stripe.requests().is_empty());
    assert_eq!(shop.pay(&credential, &call("fast")).await.status, 200, "none of that has used it up");
}

#[tokio::test]
async fn fifty_that_present_one_credential_get_one_call_for_one_charge() {
    let shop = Shop::start().await;
    let credential = shop.credential(&call("fast"), "spt_slow").await;
    let body = call("fast");
    let answers = futures_util::future::join_all((0..50).map(|_| shop.pay(&credential, &body))).await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(served, 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert!([409, 403].contains(&answer.status.as_u16()), "{answer:?}");
        answer.assert_no_challenge();
    }
    assert_eq!((shop.stripe.charges().len(), shop.provider.calls().len()), (1, 1));
    let again = shop.pay(&credential, &body).await;
    assert_eq!((again.status.as_u16(), again.problem().as_str()), (403, "invalid-challenge"));
    // The token is used up as well: it does not pay a challenge of its own.
    let second = shop.credential(&body, "spt_slow").await;
    assert_ne!(shop.pay(&second, &body).await.status, 200);
    assert_eq!((shop.stripe.charges().len(), shop.provider.calls().len()), (1, 1));
}

#[tokio::test]
async fn a_payment_that_fails_buys_nothing_and_may_be_tried_again() {
    let shop = Shop::start().await;
    for token in ["spt_declined", "spt_insufficient", "spt_action", "spt_expired"] {
        let credential = shop.credential(&call("fast"), token).await;
        let refused = shop.pay(&credential, &call("fast")).await;
        let problem = if token == "spt_insufficient" { "payment-insufficient" } else { "verification-failed" };
        refused.assert_challenged(problem);
        assert_ne!(challenge(&refused.headers).id, credential_id(&credential), "a fresh one");
    }
    assert!(shop.provider.calls().is_empty() && shop.stripe.charges().is_empty());
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_answer_again() {
    let shop = Shop::start().await;
    let credential = shop.credential(&call("fast"), "spt_ok").await;
    let send = |body: String| {
        let (server, credential) = (shop.server.clone(), credential.clone());
        async move {
            let headers = [("authorization", credential.to_str().unwrap()), ("idempotency-key", "k-1")];
            server.send(Method::POST, MESSAGES, &headers, &body).await
        }
    };
    let first = send(call("fast")).await;
    assert_eq!(first.status, 200, "{first:?}");
    for _ in 0..3 {
        let again = send(call("fast")).await;
        assert_eq!((again.status.as_u16(), &again.body), (200, &first.body));
        assert_eq!(again.header("payment-receipt"), first.header("payment-receipt"));
    }
    let other = send(call("balanced")).await;
    assert_eq!(
        (other.status.as_u16(), other.problem().as_str()),
        (422, "ProblemType.html#variant.IdempotencyKeyReused".rsplit('.').next().unwrap())
    );
    other.assert_no_challenge();
    assert_eq!((shop.stripe.charges().len(), shop.provider.calls().len()), (1, 1));
}

#[tokio::test]
async fn an_api_key_is_no_payment() {
    let shop = Shop::start().await;
    for authorization in ["Bearer prxy_live_key", "bearer x", "Basic eDp5"] {
        let refused =
            shop.server.send(Method::POST, MESSAGES, &[("authorization", authorization)], &call("fast")).await;
        assert!(refused.status.is_client_error() && refused.status != 402, "{authorization}: {refused:?}");
        refused.assert_no_challenge();
    }
    // None is needed either.
    assert_eq!(shop.buy(&call("fast")).await.status, 200);
    assert_eq!(shop.provider.calls().len(), 1);
}

#[tokio::test]
async fn a_bare_token_in_parameters_pays_as_well() {
    let shop = Shop::start().await;
    let body = call("coding");
    let asked = shop.ask(&body).await;
    let id = challenge(&asked.headers).id;
    let credential = format!("Payment id=\"{id}\", credential=\"spt_ok\"").parse().unwrap();
    shop.pay(&credential, &call("fast")).await.assert_challenged("invalid-challenge");
    let paid = shop.pay(&credential, &body).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    assert_eq!(shop.stripe.charges()[0].amount, 150);
    let again = shop.pay(&credential, &body).await;
    assert_eq!(again.status, 403);
    let forged = format!("Payment id=\"{}\", credential=\"spt_ok2\"", "A".repeat(43)).parse().unwrap();
    shop.pay(&forged, &body).await.assert_challenged("invalid-challenge");
    let garbage = "Payment id=\"x\", credential=".parse().unwrap();
    shop.pay(&garbage, &body).await.assert_challenged("malformed-credential");
    assert_eq!((shop.stripe.charges().len(), shop.provider.calls().len()), (1, 1));

    let strict = Shop::with("token_credentials = false", "").await;
    let id = challenge(&strict.ask(&body).await.headers).id;
    let credential = format!("Payment id=\"{id}\", credential=\"spt_ok\"").parse().unwrap();
    assert_ne!(strict.pay(&credential, &body).await.status, 200);
    assert!(strict.stripe.requests().is_empty());
}

#[tokio::test]
async fn a_provider_that_fails_leaves_the_payment_good() {
    let shop = Shop::start().await;
    let credential = shop.credential(&call("fast"), "spt_ok").await;
    shop.provider.fails_with(529);
    let failed = shop.pay(&credential, &call("fast")).await;
    assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (529, Some("redeliverable")));
    assert_eq!(failed.json()["error"]["type"], "overloaded_error", "the provider's own words");
    failed.assert_no_challenge();
    shop.provider.fails_with(200);
    let served = shop.pay(&credential, &call("fast")).await;
    assert_eq!(served.status, 200, "{served:?}");
    assert_eq!((shop.stripe.charges().len(), shop.provider.calls().len()), (1, 2));
}

#[tokio::test]
async fn what_is_below_the_minimum_of_the_rail_is_refused_at_the_start() {
    let (stripe, provider) = (StripeStandIn::start().await, super::Provider::start().await);
    for (from, to, named) in [
        ("price = \"0.50\"\nsession", "price = \"0.49\"\nsession", "models[0].price: "),
        ("price = \"1.50\"", "price = \"0.10\"", "models[2].price: "),
    ] {
        let toml = toml(&stripe, &provider, "", "").replace(from, to);
        let settings = settings_with(&toml, &VARIABLES).unwrap();
        let provider = settings.agent.as_ref().unwrap().look().unwrap();
        let error = app(&settings, crate::gateway::Opened { provider, ..opened() }).err().unwrap().to_string();
        assert!(error.contains(named), "{error}");
    }
    // One that is not sold may cost what it likes.
    let off = toml(&stripe, &provider, "", "").replace("price = \"0.50\"\ndisabled", "price = \"0.10\"\ndisabled");
    super::serve(&off).await;
}

#[tokio::test]
async fn a_session_token_of_another_form_is_not_charged() {
    let shop = Shop::start().await;
    let asked = shop.ask(&call("fast")).await;
    for payload in [json!({}), json!({"spt": 7}), json!({"spt": "tok_1"}), json!({"action": "open"})] {
        let credential = pay_with(&challenge(&asked.headers), None, &payload);
        shop.pay(&credential, &call("fast")).await.assert_challenged("verification-failed");
    }
    assert!(shop.stripe.requests().is_empty() && shop.provider.calls().is_empty());
}
