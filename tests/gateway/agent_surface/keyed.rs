//! Routes for customers with an API key, beside those for agents.

use http::Method;

use super::{MESSAGES, Shop, call};
use crate::support::Answer;

const KEY: &str = "Bearer a-customers-key-of-32-characters";
const API: &str = "[api]\nkeys_env = \"API_KEYS\"\n[[api.routes]]\npath = \"/v1/messages\"\nto = \"provider\"\n";

async fn ask(shop: &Shop, path: &str, authorization: &[&str], body: &str) -> Answer {
    let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
    shop.server.send(Method::POST, path, &headers, body).await
}

#[tokio::test]
async fn a_customer_calls_the_same_models_without_a_payment() {
    let shop = Shop::with("", API).await;
    let served = ask(&shop, "/v1/messages", &[KEY], &call("sonnet")).await;
    assert_eq!(served.status, 200, "{served:?}");
    served.assert_no_challenge();
    assert_eq!(served.json()["model"], "claude-sonnet-4-6");
    let calls = shop.provider.calls();
    assert!(!format!("{calls:?}").contains("a-customers-key"), "{calls:?}");
    // What is wrong with a body is said as the API of the provider says it.
    for body in [call("gpt-5"), "{".to_owned(), call("fast").replace("16", "0")] {
        let refused = ask(&shop, "/v1/messages", &[KEY], &body).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["error"]["type"]), (400, &"invalid_request_error".into()));
    }
    assert_eq!((shop.provider.calls().len(), shop.stripe.requests().len()), (1, 0));
}

#[tokio::test]
async fn nobody_pays_on_a_route_for_customers() {
    let shop = Shop::with("", API).await;
    let credential = shop.credential(&call("fast"), "spt_ok").await;
    let payment = credential.to_str().unwrap();
    for authorization in [
        &[][..],
        &[payment],
        &["Payment id=\"x\", credential=\"spt_ok\""],
        &["payment x"],
        &["Bearer wrong-key-of-enough-characters"],
        &["Bearer "],
        &[KEY, payment],
        &[KEY, KEY],
        &["Basic YTpi"],
    ] {
        let refused = ask(&shop, "/v1/messages", authorization, &call("fast")).await;
        assert_eq!(refused.status, 401, "{authorization:?}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{authorization:?}");
        assert_eq!(refused.header("cache-control"), Some("no-store"));
        assert!(!refused.headers.contains_key("payment-receipt"));
    }
    assert!(shop.provider.calls().is_empty() && shop.stripe.requests().is_empty());
    // A key is no payment on the other one, and the credential is still good there.
    let refused = ask(&shop, MESSAGES, &[KEY], &call("fast")).await;
    assert!(refused.status.is_client_error());
    refused.assert_no_challenge();
    assert_eq!(shop.pay(&credential, &call("fast")).await.status, 200);
}

#[tokio::test]
async fn no_document_speaks_of_them() {
    let shop = Shop::with("", API).await;
    for path in ["/.well-known/mpp", "/.well-known/mpp.json", "/v1/catalog", "/v1/capabilities", "/SKILL.md"] {
        let document = shop.server.get(path).await;
        assert_eq!(document.status, 200, "{path}");
        assert!(!document.text().contains("\"/v1/messages\"") && !document.text().contains(" /v1/messages"), "{path}");
    }
}

#[tokio::test]
async fn they_may_lead_to_the_other_upstream() {
    let (upstream, seen) = crate::proxy::recorder(200, &[]).await;
    let api = format!(
        "[upstream]\nurl = \"http://{upstream}\"\n[api]\nkeys_env = \"API_KEYS\"\n[[api.routes]]\npath = \"/v1/chat/completions\"\n"
    );
    let shop = Shop::with("", &api).await;
    let served = ask(&shop, "/v1/chat/completions", &[KEY], "{}").await;
    assert_eq!((served.status.as_u16(), served.text()), (200, "from upstream"));
    assert_eq!(ask(&shop, "/v1/chat/completions", &[], "{}").await.status, 401);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].2.contains_key("authorization"));
}
