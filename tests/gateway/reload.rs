//! A new configuration while the gateway runs: what changes at once, what is refused, and what is not disturbed.

use std::{fs, path::Path, sync::Arc};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Method, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::BodyExt as _;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;
use tokio::sync::Notify;
use tower_mpp::method::SandboxKey;

use crate::{
    gateway::{CommandLine, Environment, Foundation, Live, Reload, Settings, reload::Refused, router},
    harness::{Gateway, opened, upstream},
    support::{self, Answer, Server, challenge, pay_sandbox},
};

/// A piece at once, and the other one when it is told to.
async fn slow_upstream() -> (std::net::SocketAddr, Arc<Notify>) {
    let release = Arc::new(Notify::new());
    let told = Arc::clone(&release);
    let handler = move || {
        let told = Arc::clone(&told);
        async move {
            let pieces = stream::iter(["first ", "last"]).enumerate().then(move |(index, piece)| {
                let told = Arc::clone(&told);
                async move {
                    if index > 0 {
                        told.notified().await;
                    }
                    Ok::<_, std::convert::Infallible>(Bytes::from_static(piece.as_bytes()))
                }
            });
            Body::from_stream(pieces)
        }
    };
    (upstream(Router::new().route("/slow", get(handler)).fallback(|| async { "answer" })).await, release)
}

fn toml(upstream: std::net::SocketAddr, price: &str) -> String {
    format!(
        "rails.sandbox = true\n[upstream]\nurl = \"http://{upstream}\"\n[[routes]]\npath = \"/{{*rest}}\"\nmethods = [\"GET\"]\nprice = \"{price}\"\n"
    )
}

fn price_of(answer: &Answer) -> Value {
    answer.assert_challenged(&answer.problem());
    challenge(&answer.headers).request_as::<Value>().unwrap()["amount"].clone()
}

fn pay_for(answer: &Answer) -> HeaderValue {
    pay_sandbox(&challenge(&answer.headers), &SandboxKey::generate())
}

#[tokio::test]
async fn a_new_price_is_asked_for_at_once_and_an_answer_in_flight_ends_undisturbed() {
    let (upstream, release) = slow_upstream().await;
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &toml(upstream, "0.50"), &[]).await;
    let client = gateway.client();
    let asked_before = client.get("/a").await;
    assert_eq!(price_of(&asked_before), "50");

    let credential = pay_for(&client.get("/slow").await);
    let request = Request::get(gateway.url("/slow")).header(AUTHORIZATION, credential).body(Body::empty()).unwrap();
    let streamed = Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap();
    assert!(streamed.status() == 200 && streamed.headers().contains_key("payment-receipt"));
    let mut body = streamed.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first ");

    fs::write(gateway.folder.path().join("gateway.toml"), toml(upstream, "0.75")).unwrap();
    gateway.signal("HUP").await;
    gateway.said("reloaded file=gateway.toml changed=\"routes[0].price\"").await;

    // On the connection that was there before, too. What was asked for at the old price, and not paid, buys nothing more.
    assert_eq!(price_of(&client.get("/a").await), "75");
    let late = client.get_paid("/a", &pay_for(&asked_before)).await;
    late.assert_challenged("invalid-challenge");
    assert_eq!(price_of(&late), "75");
    assert_eq!(client.get_paid("/a", &pay_for(&late)).await.text(), "answer");

    // The end of the gateway waits for what the old router still answers.
    gateway.signal("TERM").await;
    gateway.said("shutting down requests=1").await;
    release.notify_one();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "last");
    let (ended, _folder) = gateway.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("ended in order"), "{}", ended.stderr);
}

#[tokio::test]
async fn what_was_paid_before_and_not_delivered_is_delivered_after() {
    let (dead, _) = slow_upstream().await;
    let unreachable = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &toml(unreachable, "0.50"), &[]).await;
    let client = gateway.client();
    let credential = pay_for(&client.get("/a").await);
    assert_eq!(client.get_paid("/a", &credential).await.status, 502);
    // The upstream of the new configuration can be reached; the journal and the keys are those of before.
    fs::write(gateway.folder.path().join("gateway.toml"), toml(dead, "0.50")).unwrap();
    gateway.signal("HUP").await;
    gateway.said("changed=\"upstream.url\"").await;
    let delivered = client.get_paid("/a", &credential).await;
    assert_eq!((delivered.status, delivered.text()), (StatusCode::OK, "answer"));
    assert_eq!(client.get_paid("/a", &credential).await.status, 403);
}

#[tokio::test]
async fn what_was_paid_at_the_old_price_is_delivered_at_the_new_one() {
    let (reachable, _) = slow_upstream().await;
    let unreachable = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &toml(unreachable, "0.50"), &[]).await;
    let client = gateway.client();
    let (paid, unpaid) = (pay_for(&client.get("/a").await), pay_for(&client.get("/a").await));
    assert_eq!(client.get_paid("/a", &paid).await.status, 502);
    fs::write(gateway.folder.path().join("gateway.toml"), toml(reachable, "0.75")).unwrap();
    gateway.signal("HUP").await;
    gateway.said("routes[0].price").await;
    assert_eq!(price_of(&client.get_paid("/a", &unpaid).await), "75");
    let delivered = client.get_paid("/a", &paid).await;
    assert_eq!((delivered.status, delivered.text()), (StatusCode::OK, "answer"));
    let again = client.get_paid("/a", &paid).await;
    assert_eq!(again.status, 403);
    again.assert_no_challenge();
}

#[tokio::test]
async fn a_file_that_cannot_be_used_changes_nothing_and_the_log_says_why() {
    let (upstream, _release) = slow_upstream().await;
    let good = toml(upstream, "0.50");
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &good, &[]).await;
    let client = gateway.client();
    let file = gateway.folder.path().join("gateway.toml");
    let dearer = good.replace("0.50", "0.75");
    for (text, said) in [
        (format!("{dearer}= hush"), "gateway.toml, line 8"),
        (dearer.replace("price", "prize"), "unknown field `prize`"),
        (good.replace("0.50", "0,50"), "price \"0,50\""),
        (dearer.replace("/{*rest}", "/health"), "routes[0].path: /health is the gateway's own"),
        (format!("realm = \"127.0.0.1\"\n{dearer}"), "needs a restart field=\"realm\""),
        (format!("{dearer}[admin]\n"), "needs a restart field=\"admin\""),
    ] {
        fs::write(&file, text).unwrap();
        gateway.signal("HUP").await;
        gateway.said(said).await;
        assert_eq!(price_of(&client.get("/a").await), "50", "{said}");
    }
    fs::remove_file(&file).unwrap();
    gateway.signal("HUP").await;
    gateway.said("cannot be read").await;
    assert_eq!(price_of(&client.get("/a").await), "50");

    // And a good one is still taken. What it says of a header is nobody's business.
    let headers = "[upstream.headers]\nx-plan = \"xylophone\"\n[[routes]]";
    fs::write(&file, dearer.replace("[[routes]]", headers)).unwrap();
    gateway.signal("HUP").await;
    gateway.said("changed=\"routes[0].price, upstream.headers\"").await;
    assert_eq!(price_of(&client.get("/a").await), "75");
    let (ended, _folder) = gateway.stop().await;
    assert_eq!(ended.stderr.matches("the old one goes on").count(), 7, "{}", ended.stderr);
    assert!(!ended.stderr.contains("xylophone") && !ended.stderr.contains("hush"), "{}", ended.stderr);
}

/// Says of every field of the file whether it can change while the gateway runs.
#[test]
fn what_was_taken_at_the_start_needs_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    let variables = [("STRIPE_SECRET_KEY", "sk_test_4eC39HqLyjWDarjtT1zdp7dc"), ("TOKEN", support::KEY)];
    let lookup = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned()).ok_or(std::env::VarError::NotPresent)
    };
    let environment = || Environment::new(&lookup);
    let base = "listen = \"127.0.0.1:8402\"\n#\n[rails]\nsandbox = true\n[[routes]]\npath = \"/a\"\nprice = \"1\"\n";
    let write = |text: &str| fs::write(&path, text).unwrap();
    write(base);
    let settings = Settings::load(Some(&path), &CommandLine::default(), environment()).unwrap();
    let foundation = Arc::new(Foundation::new(&settings, opened()).unwrap());
    let live = Live::new(router(&settings, &foundation).unwrap());
    let reload = Reload::new(path.clone(), CommandLine::default(), settings, foundation, live);
    let refused = |text: &str| {
        write(text);
        match reload.read(environment()) {
            Ok(_) => Vec::new(),
            Err(Refused::NeedsRestart(fields)) => fields,
            Err(Refused::Invalid(error)) => panic!("{error}: {text}"),
        }
    };
    for line in [
        "listen = \"127.0.0.1:8403\"",
        "realm = \"127.0.0.1\"",
        "data_dir = \"elsewhere\"",
        "https = \"forwarded\"",
        "challenge_ttl_secs = 299",
        "redelivery_grace_secs = 1",
        "lease_secs = 59",
        "shutdown_secs = 29",
        "store.kind = \"memory\"",
        "refunds.refund_if_provider_timeout_before_first_token = true",
        "admin.token_env = \"TOKEN\"",
        "receipts.visibility = \"public_full\"",
        "rails.stripe.network_id = \"profile_1\"",
    ] {
        let field = line.split([' ', '.']).next().unwrap();
        let expected = if line.starts_with("rails.") { "rails.stripe" } else { field };
        let text = match field {
            "listen" => base.replace("listen = \"127.0.0.1:8402\"", line),
            "rails" => base.replace("[rails]\n", "[rails]\nstripe.network_id = \"profile_1\"\n"),
            _ => base.replace('#', line),
        };
        assert_eq!(refused(&text), [expected], "{line}");
    }
    for line in
        ["body_limit = 7", "currency = \"eur\"", "cors_origins = [\"*\"]", "upstream.url = \"http://x.example\""]
    {
        assert!(refused(&base.replace('#', line)).is_empty(), "{line}");
    }
    // The same in other words is no change.
    for line in ["realm = \"localhost\"", "data_dir = \"data\"", "challenge_ttl_secs = 300", "lease_secs = 60"] {
        assert!(refused(&base.replace('#', line)).is_empty(), "{line}");
    }
    // All of them are named, and what is hot among them does not hide it.
    let many = base.replace('#', "lease_secs = 1\nrealm = \"127.0.0.1\"").replace("price = \"1\"", "price = \"2\"");
    assert_eq!(refused(&many), ["lease_secs", "realm"]);
    assert!(!Path::new(&folder.path().join("data")).exists(), "nothing was made");
}

#[tokio::test]
async fn a_script_may_be_let_in_without_a_restart() {
    let (upstream, _release) = slow_upstream().await;
    let good = toml(upstream, "0.50");
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &good, &[]).await;
    let client: Server = gateway.client();
    let origin = [("origin", "https://app.example.com")];
    let allowed = "access-control-allow-origin";
    assert!(client.send(Method::GET, "/a", &origin, "").await.header(allowed).is_none());
    let text = format!("cors_origins = [\"https://app.example.com\"]\n{good}");
    fs::write(gateway.folder.path().join("gateway.toml"), text).unwrap();
    gateway.signal("HUP").await;
    gateway.said("changed=\"cors_origins\"").await;
    let asked = client.send(Method::GET, "/a", &origin, "").await;
    assert_eq!(asked.header(allowed), Some("https://app.example.com"));
    assert!(asked.header("access-control-expose-headers").unwrap().contains("WWW-Authenticate"));
}

#[tokio::test]
async fn every_document_tells_the_new_price_of_a_model() {
    let file = |price: &str, provider: &str| {
        format!(
            "rails.sandbox = true\n[agent]\nprovider = {provider}\n[[models]]\nid = \"fast\"\nlabel = \"Fast\"\nmodel = \"demo/demo-fast\"\nprice = \"{price}\"\ndefault = true\ndescription = \"Fast\"\n"
        )
    };
    let demo = "{ kind = \"demo\" }";
    let gateway = Gateway::configured(tempfile::tempdir().unwrap(), &file("0.50", demo), &[]).await;
    let client = gateway.client();
    let path = "/v1/agent/messages";
    let body = r#"{"max_tokens":9,"messages":[{"role":"user","content":"Hello"}]}"#;
    let amounts = async || {
        let asked = client.send(Method::POST, path, &[("content-type", "application/json")], body).await;
        let openapi = client.get("/openapi.json").await.json();
        let told = openapi["paths"][path]["post"]["x-payment-info"]["offers"][0]["amount"].clone();
        (price_of(&asked), told)
    };
    assert_eq!(amounts().await, ("50".into(), "50".into()));
    let write = |text: String| fs::write(gateway.folder.path().join("gateway.toml"), text).unwrap();
    write(file("0.75", demo));
    gateway.signal("HUP").await;
    gateway.said("changed=\"models[0].price\"").await;
    assert_eq!(amounts().await, ("75".into(), "75".into()));
    assert!(client.get("/.well-known/mpp").await.text().contains("0.75"));
    // Who answers was opened at the start.
    write(file("0.95", "{ kind = \"bedrock\", region = \"us-east-1\" }").replace("demo/", "bedrock/"));
    gateway.signal("HUP").await;
    gateway.said("needs a restart field=\"agent.provider").await;
    assert_eq!(amounts().await, ("75".into(), "75".into()));
}
