//! Money that is given back: by the rules of the configuration, and by the operator.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::any};
use http::{HeaderValue, Method, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    admin::{TOKEN, ask_as_operator},
    harness::{Gateway, PATIENCE, raw_upstream, upstream},
    stripe::{SECRET_KEY, StripeStandIn},
    support::{Answer, Server, challenge, pay_with},
};

const NOT_STARTED: &str = "refund_if_payment_succeeds_but_no_provider_call_starts = true\n";
const TIMED_OUT: &str = "refund_if_provider_timeout_before_first_token = true\n";

/// A gateway before an upstream that takes its time for one second at most, and is paid by Stripe.
async fn gateway(stripe: &StripeStandIn, upstream: SocketAddr, more: &str) -> Gateway {
    let toml = format!(
        "listen = \"127.0.0.1:0\"\n{more}\n[admin]\ntoken_env = \"TOKEN\"\n[upstream]\nurl = \"http://{upstream}\"\nfirst_byte_timeout_secs = 1\nidle_timeout_secs = 1\n[rails.stripe]\nnetwork_id = \"profile_test_1\"\nbase_url = \"{}\"\n[[routes]]\npath = \"/{{*path}}\"\nprice = \"0.50\"\n",
        stripe.base_url()
    );
    let variables = [("STRIPE_SECRET_KEY", SECRET_KEY), ("TOKEN", TOKEN)];
    Gateway::configured(tempfile::tempdir().unwrap(), &toml, &variables).await
}

async fn credential(server: &Server, token: &str) -> HeaderValue {
    let asked = server.get("/a").await;
    asked.assert_challenged("payment-required");
    pay_with(&challenge(&asked.headers), None, &json!({"spt": token}))
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An upstream that reads the request and never answers.
async fn silent() -> SocketAddr {
    upstream(Router::new().fallback(any(|| async { std::future::pending::<()>().await }))).await
}

async fn unfulfilled(server: &Server) -> Vec<Value> {
    let listed = ask_as_operator(server, Method::GET, "/admin/payments/unfulfilled").await;
    assert_eq!(listed.status, 200, "{listed:?}");
    listed.json()["payments"].as_array().unwrap().clone()
}

/// What the rules say of a payment whose upstream does not answer.
async fn outcome(more: &str, upstream: SocketAddr) -> (Answer, usize) {
    let stripe = StripeStandIn::start().await;
    let gateway = gateway(&stripe, upstream, more).await;
    let server = gateway.client();
    let paid = credential(&server, "spt_ok").await;
    let answer = server.get_paid("/a", &paid).await;
    assert_eq!(stripe.charges().len(), 1, "{answer:?}");
    answer.assert_no_challenge();
    let refunded = answer.header("payment-outcome") == Some("refunded");
    // It says what is so: money that came back buys nothing, money that stayed does.
    assert_eq!(stripe.refunds().len(), usize::from(refunded), "{answer:?}");
    let again = server.get_paid("/a", &paid).await;
    again.assert_no_challenge();
    assert_eq!(again.status == 403, refunded, "{again:?}");
    assert_eq!(unfulfilled(&server).await.len(), usize::from(!refunded));
    assert_eq!(stripe.charges().len(), 1);
    (answer, stripe.refunds().len())
}

#[tokio::test]
async fn a_call_that_never_began_is_paid_back_where_the_rules_say_so() {
    let refunds = format!("[refunds]\n{NOT_STARTED}");
    let (answer, refunds) = outcome(&refunds, nobody()).await;
    assert_eq!((answer.status.as_u16(), answer.header("payment-outcome"), refunds), (502, Some("refunded"), 1));
    for other in [String::new(), format!("[refunds]\n{TIMED_OUT}")] {
        let (answer, refunds) = outcome(&other, nobody()).await;
        let expected = (502, Some("redeliverable"), 0);
        assert_eq!((answer.status.as_u16(), answer.header("payment-outcome"), refunds), expected, "{other}");
    }
}

#[tokio::test]
async fn a_call_without_a_first_byte_in_time_is_paid_back_where_the_rules_say_so() {
    let refunds = format!("[refunds]\n{TIMED_OUT}");
    let (answer, refunds) = outcome(&refunds, silent().await).await;
    assert_eq!((answer.status.as_u16(), answer.header("payment-outcome"), refunds), (504, Some("refunded"), 1));
    for other in [String::new(), format!("[refunds]\n{NOT_STARTED}")] {
        let (answer, refunds) = outcome(&other, silent().await).await;
        let expected = (504, Some("redeliverable"), 0);
        assert_eq!((answer.status.as_u16(), answer.header("payment-outcome"), refunds), expected, "{other}");
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_paid_back() {
    let all = format!(
        "[refunds]\n{NOT_STARTED}{TIMED_OUT}no_refund_after_successful_stream_start = true\nno_refund_after_side_effecting_tool_success = true\n"
    );
    let broken: &[&[&str]] = &[&["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", "half of it"]];
    let stripe = StripeStandIn::start().await;
    let gateway = gateway(&stripe, raw_upstream(broken).await, &all).await;
    let server = gateway.client();
    let paid = credential(&server, "spt_ok").await;
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(gateway.url("/a")).header(AUTHORIZATION, &paid).body(Empty::new()).unwrap();
    let mut answer = client.request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut got = Vec::new();
    while let Some(Ok(frame)) = answer.body_mut().frame().await {
        got.extend_from_slice(frame.data_ref().unwrap());
    }
    assert_eq!(got, b"half of it");
    let again = server.get_paid("/a", &paid).await;
    assert_eq!(again.status, 403, "the first byte was a delivery: {again:?}");
    assert_eq!((stripe.charges().len(), stripe.refunds().len()), (1, 0));

    // What the upstream answers, whatever it is, is no reason either.
    let failing = upstream(Router::new().fallback(any(|| async { (StatusCode::BAD_GATEWAY, "no") }))).await;
    let (answer, refunds) = outcome(&all, failing).await;
    assert_eq!((answer.header("payment-outcome"), refunds), (Some("redeliverable"), 0));
}

#[tokio::test]
async fn the_operator_sees_what_was_paid_and_not_delivered_and_pays_it_back() {
    let stripe = StripeStandIn::start().await;
    let gateway = gateway(&stripe, nobody(), "").await;
    let server = gateway.client();
    let mut credentials = Vec::new();
    for number in 0..3 {
        let paid = credential(&server, &format!("spt_ok{number}")).await;
        assert_eq!(server.get_paid("/a", &paid).await.header("payment-outcome"), Some("redeliverable"));
        credentials.push(paid);
    }
    let status = ask_as_operator(&server, Method::GET, "/admin/status").await;
    assert_eq!(status.json(), json!({"in_flight": 0, "store": {"kind": "sqlite", "healthy": true}}));

    let mut listed = unfulfilled(&server).await;
    let mut references: Vec<_> =
        listed.iter().map(|payment| payment["reference"].as_str().unwrap().to_owned()).collect();
    let mut charged: Vec<_> = stripe.charges().into_iter().map(|charge| charge.payment_intent).collect();
    references.sort_unstable();
    charged.sort_unstable();
    assert_eq!(references, charged);

    // Page by page it is the same.
    let mut after = String::new();
    for expected in &listed {
        let page = ask_as_operator(&server, Method::GET, &format!("/admin/payments/unfulfilled?limit=1{after}")).await;
        assert_eq!(page.json()["payments"], json!([expected]));
        after = format!("&after={}", expected["challenge_id"].as_str().unwrap());
    }
    let page = ask_as_operator(&server, Method::GET, &format!("/admin/payments/unfulfilled?limit=1{after}")).await;
    assert_eq!(page.json()["payments"], json!([]));
    for query in ["limit=0", "limit=1001", "limit=x", "after=x", "before=x"] {
        let refused = ask_as_operator(&server, Method::GET, &format!("/admin/payments/unfulfilled?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
    }

    // One of them is paid back, once, however often it is asked for.
    let first = listed.remove(0);
    let path = format!("/admin/refunds/{}", first["challenge_id"].as_str().unwrap());
    for _ in 0..3 {
        let refunded = ask_as_operator(&server, Method::POST, &path).await;
        assert_eq!((refunded.status.as_u16(), &refunded.json()["status"]), (200, &json!("refunded")), "{refunded:?}");
    }
    let refunds = stripe.refunds();
    assert_eq!((refunds.len(), &json!(refunds[0].payment_intent)), (1, &first["reference"]));
    assert_eq!(unfulfilled(&server).await, listed);
    // It buys nothing any more; the others do.
    let mut statuses = Vec::new();
    for paid in &credentials {
        statuses.push(server.get_paid("/a", paid).await.status.as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [403, 502, 502]);

    for (id, expected) in [("A".repeat(43), 404), ("x".to_owned(), 404)] {
        let refused = ask_as_operator(&server, Method::POST, &format!("/admin/refunds/{id}")).await;
        assert_eq!(refused.status, expected, "{refused:?}");
    }
}

#[tokio::test]
async fn what_nobody_comes_back_for_is_paid_back_by_the_sweeper() {
    let stripe = StripeStandIn::start().await;
    let more = format!("challenge_ttl_secs = 1\nredelivery_grace_secs = 1\nlease_secs = 1\n[refunds]\n{TIMED_OUT}");
    let gateway = gateway(&stripe, nobody(), &more).await;
    let server = gateway.client();
    let paid = credential(&server, "spt_ok").await;
    assert_eq!(server.get_paid("/a", &paid).await.header("payment-outcome"), Some("redeliverable"));
    let deadline = Instant::now() + 3 * PATIENCE;
    while stripe.refunds().is_empty() {
        assert!(Instant::now() < deadline, "nobody pays it back");
        sleep(Duration::from_millis(100)).await;
    }
    while !unfulfilled(&server).await.is_empty() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((stripe.charges().len(), stripe.refunds().len()), (1, 1));
}
