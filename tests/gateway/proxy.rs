//! What passes through the gateway, and what does not.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
    routing::any,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Method, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};

use crate::{
    harness::{PATIENCE, gateway, gateway_with, pay, raw_upstream, upstream},
    stripe::StripeStandIn,
    support::{Server, challenge, challenges, pay_sandbox, pay_with},
};

const PAID: &str =
    "[[routes]]\npath = \"/paid/{*rest}\"\nprice = \"0.50\"\n[[routes]]\npath = \"/free/{*rest}\"\nfree = true\n";
const BY_MODEL: &str =
    "[[routes]]\npath = \"/m\"\nmethods = [\"POST\"]\nprice_by_model = { fast = \"0.50\", deep = \"1.50\" }\n";

type Seen = Arc<Mutex<Vec<(Method, String, HeaderMap, Bytes)>>>;

/// An upstream that writes down what it is asked, and answers with `headers`.
pub async fn recorder(status: u16, headers: &'static [(&'static str, &'static str)]) -> (std::net::SocketAddr, Seen) {
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let handler = any(move |request: Request| async move {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        record.lock().unwrap().push((head.method, head.uri.to_string(), head.headers, body));
        let mut response = (StatusCode::from_u16(status).unwrap(), "from upstream").into_response();
        for (name, value) in headers {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    });
    (upstream(Router::new().fallback(handler)).await, seen)
}

const HOSTILE_ANSWER: &[(&str, &str)] = &[
    ("payment-receipt", "forged"),
    ("payment-outcome", "refunded"),
    ("www-authenticate", "Payment id=\"x\", realm=\"evil\", method=\"sandbox\", intent=\"charge\", request=\"e30\""),
    ("www-authenticate", "Basic realm=\"inner\""),
    ("payment-required", "x402"),
    ("x-payment-response", "x"),
    ("set-cookie", "session=1"),
    ("connection", "x-hop"),
    ("x-hop", "1"),
    ("alt-svc", "h3=\":443\""),
    ("openai-organization", "org-operator"),
    ("cache-control", "public, max-age=60"),
    ("x-request-id", "kept"),
];

#[tokio::test]
async fn an_upstream_can_neither_bill_nor_forge_receipts_nor_set_cookies() {
    let (address, _) = recorder(200, HOSTILE_ANSWER).await;
    let server = gateway(address, PAID).await;
    let free = server.get("/free/a").await;
    let (paid, _) = pay(&server, Method::GET, "/paid/a", "").await;
    for answer in [&free, &paid] {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), "from upstream");
        for (name, _) in HOSTILE_ANSWER
            .iter()
            .filter(|(name, _)| !["cache-control", "x-request-id", "payment-receipt"].contains(name))
        {
            assert!(!answer.headers.contains_key(*name), "{name}");
        }
        assert_eq!(answer.header("x-request-id"), Some("kept"));
    }
    assert!(!free.headers.contains_key("payment-receipt"));
    assert_eq!(free.header("cache-control"), Some("public, max-age=60"));
    assert_eq!(paid.headers.get_all("payment-receipt").iter().count(), 1);
    assert_eq!(paid.receipt().method.as_str(), "sandbox");
    assert_eq!(paid.header("cache-control"), Some("private, max-age=60"));
}

#[tokio::test]
async fn an_upstream_sees_neither_payments_nor_what_only_we_may_say() {
    let (address, seen) = recorder(200, &[]).await;
    let injected = format!(
        "[upstream]\nurl = \"http://{address}\"\nremove_headers = [\"x-debug\"]\nheaders = {{ x-api-key = {{ env = \"UPSTREAM_KEY\" }}, authorization = {{ env = \"UPSTREAM_KEY\", prefix = \"Bearer \" }} }}\n"
    );
    let server = gateway_with(&injected, PAID).await;
    let hostile = [
        ("authorization", "Bearer client"),
        ("cookie", "a=b"),
        ("accept-payment", "sandbox"),
        ("payment-signature", "x"),
        ("x-payment", "x"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-host", "evil"),
        ("forwarded", "for=1.2.3.4"),
        ("via", "1.1 evil"),
        ("connection", "x-hop, close"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("upgrade", "websocket"),
        ("proxy-authorization", "Basic x"),
        ("accept-encoding", "br"),
        ("openai-organization", "org-client"),
        ("stripe-account", "acct_client"),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/admin"),
        ("x-debug", "1"),
        ("x-api-key", "client"),
        // What all payers would share.
        ("idempotency-key", "client"),
        ("anthropic-beta", "kept"),
    ];
    let free = server.send(Method::POST, "/free/a?q=%20x&q=y", &hostile, "hello").await;
    assert_eq!(free.status, 200);
    let (paid, credential) = pay(&server, Method::POST, "/paid/a", "{}").await;
    assert_eq!(paid.status, 200, "{paid:?}");

    let seen = seen.lock().unwrap();
    let (method, target, headers, body) = &seen[0];
    assert_eq!((method, target.as_str(), &body[..]), (&Method::POST, "/free/a?q=%20x&q=y", &b"hello"[..]));
    assert_eq!(headers["x-api-key"], "sk-upstream");
    assert_eq!(headers["authorization"], "Bearer sk-upstream");
    assert_eq!(headers["host"], address.to_string());
    assert_eq!(headers["content-length"], "5");
    assert_eq!(headers["anthropic-beta"], "kept");
    for (name, _) in hostile[1..20].iter().chain([&("idempotency-key", "")]) {
        assert!(!headers.contains_key(*name), "{name}");
    }
    let (_, _, headers, body) = &seen[1];
    assert_eq!(&body[..], b"{}");
    assert!(headers.values().all(|value| value != credential), "{headers:?}");
}

#[tokio::test]
async fn base_path_and_query_are_put_together_verbatim() {
    let (address, seen) = recorder(200, &[]).await;
    let server = gateway(address, PAID).await;
    server.get("/free/a%2Fb//c;v=1?x=%26&&y=+&z").await;
    assert_eq!(seen.lock().unwrap()[0].1, "/base/free/a%2Fb//c;v=1?x=%26&&y=+&z");
    for path in
        ["/free/../admin", "/free/%2e%2e/admin", "/free/..%2fadmin", "/free/a%5c..%5cb", "/free/./a", "/paid/.."]
    {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 400, "{path}");
        answer.assert_no_challenge();
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn redirects_are_passed_back_and_never_followed() {
    for (location, expected) in [
        ("http://elsewhere.example/steal", Some("http://elsewhere.example/steal")),
        ("/base/free/b?c", Some("/free/b?c")),
        ("http://127.0.0.1:1/admin", None),
    ] {
        let headers: &'static [_] = Box::leak(Box::new([("location", location), ("set-cookie", "a=b")]));
        let (address, seen) = recorder(307, headers).await;
        let server = gateway(address, PAID).await;
        let (answer, _) = pay(&server, Method::GET, "/paid/a", "").await;
        assert_eq!(answer.status, 307);
        assert_eq!(answer.header("location"), expected);
        assert_eq!(answer.header("payment-outcome"), Some("redeliverable"));
        assert!(!answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("payment-receipt"));
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_unknown_model_is_refused_before_any_challenge() {
    let (address, seen) = recorder(200, &[]).await;
    let server = gateway(address, BY_MODEL).await;
    for body in [
        "",
        "{",
        "{}",
        r#"{"model":"other"}"#,
        r#"{"model":"fast","model":"deep"}"#,
        r#"{"model":"fast","Model":"deep"}"#,
    ] {
        let answer = server.send(Method::POST, "/m", &[], body).await;
        assert_eq!(answer.status, 400, "{body}");
        answer.assert_no_challenge();
    }
    let fast = r#"{"model":"fast"}"#;
    let encoded = server.send(Method::POST, "/m", &[("content-encoding", "gzip")], fast).await;
    assert_eq!(encoded.status, 415);
    assert_eq!(server.get("/m").await.status, 405);
    // As curl sends it; the upstream gets it as what it was priced as.
    let form = ("content-type", "application/x-www-form-urlencoded");
    let asked = server.send(Method::POST, "/m", &[form], fast).await;
    asked.assert_challenged("payment-required");
    // A credential for one model does not buy another.
    let (answer, credential) = pay(&server, Method::POST, "/m", fast).await;
    assert_eq!(answer.status, 200);
    assert_eq!(seen.lock().unwrap()[0].2["content-type"], "application/json");
    assert_eq!(server.pay(Method::POST, "/m", &credential, r#"{"model":"deep"}"#).await.status, 402);
}

#[tokio::test]
async fn a_query_selects_what_was_bought() {
    let (address, _) = recorder(200, &[]).await;
    let server = gateway(address, PAID).await;
    let asked = server.get("/paid/a?item=1").await;
    let challenge = challenge(&asked.headers);
    let credential = pay_sandbox(&challenge, &tower_mpp::method::SandboxKey::generate());
    server.get_paid("/paid/a?item=2", &credential).await.assert_challenged("invalid-challenge");
    assert_eq!(server.get_paid("/paid/a?item=1", &credential).await.status, 200);
}

#[tokio::test]
async fn faults_of_the_upstream_cost_nothing_and_say_nothing() {
    // Nobody listens; nobody answers; it breaks off in the head; then it works.
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = gateway(refused, PAID).await;
    let (answer, credential) = pay(&server, Method::GET, "/paid/a", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("payment-outcome")), (502, Some("redeliverable")));
    assert_eq!(answer.problem(), "about:blank");
    assert!(!answer.text().contains("127.0.0.1") && !answer.text().contains("refused"), "{}", answer.text());
    assert_eq!(server.get_paid("/paid/a", &credential).await.status, 502);

    let broken = raw_upstream(&[&["HTTP/1.1 200 O"], &["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]]).await;
    let server = gateway(broken, PAID).await;
    let (answer, credential) = pay(&server, Method::GET, "/paid/a", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("payment-outcome")), (502, Some("redeliverable")));
    let again = server.get_paid("/paid/a", &credential).await;
    assert_eq!((again.status.as_u16(), again.text()), (200, "ok"));
    again.receipt();
    assert_eq!(server.get_paid("/paid/a", &credential).await.status, 403);

    let silent = upstream(Router::new().fallback(|| async { tokio::time::sleep(PATIENCE).await })).await;
    let url = format!("[upstream]\nurl = \"http://{silent}\"\nfirst_byte_timeout_secs = 1\n");
    let (answer, _) = pay(&gateway_with(&url, PAID).await, Method::GET, "/paid/a", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("payment-outcome")), (504, Some("redeliverable")));
}

#[tokio::test]
async fn what_is_between_us_and_the_upstream_is_not_shown_to_the_client() {
    for status in [401, 402, 407] {
        let (address, _) = recorder(status, HOSTILE_ANSWER).await;
        let server = gateway(address, PAID).await;
        let (answer, _) = pay(&server, Method::GET, "/paid/a", "").await;
        assert_eq!(answer.status, 502, "{status}");
        answer.assert_no_challenge();
        assert!(!answer.text().contains("from upstream"));
    }
    // Anything else is the client's.
    for status in [400, 403, 404, 429, 500, 503] {
        let (address, _) = recorder(status, &[("retry-after", "7")]).await;
        let (answer, _) = pay(&gateway(address, PAID).await, Method::GET, "/paid/a", "").await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.text(), "from upstream");
        assert_eq!(answer.header("retry-after"), Some("7"));
        assert_eq!(answer.header("payment-outcome"), Some("redeliverable"));
        assert!(!answer.headers.contains_key("payment-receipt"));
    }
}

#[tokio::test]
async fn an_upstream_that_dies_in_the_middle_ends_one_exchange_only() {
    let address = raw_upstream(&[
        &["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", "half"],
        &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "4\r\nhalf\r\n"],
        &["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"],
    ])
    .await;
    let server = gateway(address, PAID).await;
    for _ in 0..2 {
        let response = client().request(get(&server, "/free/a")).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err(), "the client learns that it is not whole");
    }
    assert_eq!(server.get("/free/a").await.text(), "ok");
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn an_upstream_that_stops_in_the_middle_is_given_up() {
    let stuck = Router::new().fallback(|| async {
        let frames = stream::iter([Ok::<_, Infallible>(Bytes::from("half"))]).chain(stream::pending());
        Response::new(Body::from_stream(frames))
    });
    let url = format!("[upstream]\nurl = \"http://{}\"\nidle_timeout_secs = 1\n", upstream(stuck).await);
    let server = gateway_with(&url, PAID).await;
    let response = client().request(get(&server, "/free/a")).await.unwrap();
    let body = timeout(Duration::from_secs(10), response.into_body().collect()).await.expect("it is given up");
    assert!(body.is_err());
}

#[tokio::test]
async fn answers_stream_frame_by_frame() {
    // The upstream sends the second event only after the client has had the first.
    let (permit, mut permitted) = mpsc::channel::<()>(1);
    let events = Arc::new(tokio::sync::Mutex::new(Some(
        stream::once(async { Bytes::from("event: a\ndata: 1\n\n") }).chain(stream::once(async move {
            permitted.recv().await;
            Bytes::from(": ping\r\n\r\nid: 7\ndata: [DONE]\n\n")
        })),
    )));
    let router = Router::new().fallback(move || {
        let events = Arc::clone(&events);
        async move {
            let body = Body::from_stream(events.lock().await.take().unwrap().map(Ok::<_, Infallible>));
            Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
        }
    });
    let server = gateway(upstream(router).await, PAID).await;
    let asked = server.get("/paid/a").await;
    let credential = pay_sandbox(&challenge(&asked.headers), &tower_mpp::method::SandboxKey::generate());
    let mut request = get(&server, "/paid/a");
    request.headers_mut().insert(AUTHORIZATION, credential);
    let response = timeout(PATIENCE, client().request(request)).await.expect("the head comes first").unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(response.headers().contains_key("payment-receipt"));
    let mut body = response.into_body();
    let first = timeout(PATIENCE, body.frame()).await.expect("the first event comes by itself").unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "event: a\ndata: 1\n\n");
    permit.send(()).await.unwrap();
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(rest, ": ping\r\n\r\nid: 7\ndata: [DONE]\n\n");
}

#[tokio::test]
async fn uploads_stream_where_bodies_are_not_bound() {
    let (arrived, mut arrivals) = mpsc::channel::<Bytes>(4);
    let router = Router::new().fallback(move |request: Request| async move {
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            arrived.send(frame.into_data().unwrap()).await.unwrap();
        }
        "stored"
    });
    let routes = "[[routes]]\npath = \"/free/{*rest}\"\nfree = true\nbody_limit = 10\n";
    let server = gateway(upstream(router).await, routes).await;
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = stream::unfold(receiver, |mut receiver| async {
        let data = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(data)), receiver))
    });
    let request =
        Request::post(format!("http://{}/free/a", server.address)).body(Body::new(StreamBody::new(frames))).unwrap();
    let answer = tokio::spawn(client().request(request));
    sender.send("first".into()).await.unwrap();
    let first = timeout(PATIENCE, arrivals.recv()).await.expect("it does not wait for the end").unwrap();
    assert_eq!(first, "first");
    // The limit holds for what nobody has announced.
    sender.send("too much".into()).await.unwrap();
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().unwrap().status(), 413);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read_or_paid_for() {
    let (address, seen) = recorder(200, &[]).await;
    let routes = format!("body_limit = 10\n{PAID}");
    let url = format!("{}[upstream]\nurl = \"http://{address}\"\n", "body_limit = 10\n");
    let server = gateway_with(&url, &routes.replace("body_limit = 10\n", "")).await;
    for path in ["/paid/a", "/free/a"] {
        let answer = server.send(Method::POST, path, &[], "more than ten bytes").await;
        assert_eq!(answer.status, 413, "{path}");
        answer.assert_no_challenge();
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn browsers_may_pay_where_they_are_let_in() {
    let (address, _) = recorder(200, &[("access-control-allow-origin", "*")]).await;
    let origin = ("origin", "https://app.example.com");
    let preflight =
        [origin, ("access-control-request-method", "POST"), ("access-control-request-headers", "authorization")];
    let server = gateway_with(
        &format!("cors_origins = [\"https://app.example.com\"]\n[upstream]\nurl = \"http://{address}\"\n"),
        PAID,
    )
    .await;
    let answer = server.send(Method::OPTIONS, "/paid/a", &preflight, "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("authorization"));
    let asked = server.send(Method::POST, "/paid/a", &[origin], "").await;
    asked.assert_challenged("payment-required");
    assert!(asked.header("access-control-expose-headers").unwrap().contains("WWW-Authenticate"));
    let free = server.send(Method::GET, "/free/a", &[origin], "").await;
    assert_eq!(free.headers.get_all("access-control-allow-origin").iter().count(), 1);

    let closed = gateway(address, PAID).await;
    for path in ["/paid/a", "/free/a"] {
        let answer = closed.send(Method::OPTIONS, path, &preflight, "").await;
        assert!(answer.status == 405 && !answer.headers.contains_key("access-control-allow-origin"), "{answer:?}");
    }
    assert!(!closed.get("/free/a").await.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn https_is_asked_for_where_it_is_configured() {
    let (address, _) = recorder(200, &[]).await;
    let toml = format!("https = \"x-forwarded-proto\"\n[upstream]\nurl = \"http://{address}\"\n");
    let server = gateway_with(&toml.replace("https =", "realm = \"api.example.com\"\nhttps ="), PAID).await;
    let plain = server.get("/paid/a").await;
    assert_eq!(plain.status, 403);
    plain.assert_no_challenge();
    // A client cannot say by itself that it came over HTTPS.
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET https://api.example.com/paid/a HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 403");
    server
        .send(Method::GET, "/paid/a", &[("x-forwarded-proto", "https")], "")
        .await
        .assert_challenged("payment-required");
    assert_eq!(server.get("/free/a").await.status, 200);
}

#[tokio::test]
async fn stripe_is_offered_beside_the_sandbox_and_takes_tokens() {
    let stripe = StripeStandIn::start().await;
    let (address, _) = recorder(200, &[]).await;
    let toml = format!(
        "[upstream]\nurl = \"http://{address}\"\n[rails.stripe]\nsecret_key_env = \"STRIPE\"\nnetwork_id = \"profile_test_1\"\nbase_url = \"{}\"\n",
        stripe.base_url()
    );
    let server = gateway_with(&toml, PAID).await;
    let offers = challenges(&server.get("/paid/a").await.headers);
    let methods: Vec<_> = offers.iter().map(|offer| offer.method.as_str()).collect();
    assert_eq!(methods, ["stripe", "sandbox"]);
    let credential = pay_with(&offers[0], None, &serde_json::json!({"spt": "spt_ok"}));
    let paid = server.get_paid("/paid/a", &credential).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    assert_eq!((paid.receipt().method.as_str(), stripe.charges().len()), ("stripe", 1));
}

#[tokio::test]
async fn what_there_is_not_is_never_billed() {
    let (address, _) = recorder(200, &[]).await;
    let server = gateway(address, BY_MODEL).await;
    let unknown = server.get("/nothing").await;
    assert_eq!((unknown.status.as_u16(), unknown.problem().as_str()), (404, "about:blank"));
    assert_eq!(server.send(Method::OPTIONS, "/m", &[], "").await.status, 405);
    assert_eq!(server.get("/health").await.json()["ok"], true);
}

fn client<B>() -> Client<hyper_util::client::legacy::connect::HttpConnector, B>
where
    B: hyper::body::Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

fn get(server: &Server, path: &str) -> http::Request<Body> {
    Request::get(format!("http://{}{path}", server.address)).body(Body::empty()).unwrap()
}
