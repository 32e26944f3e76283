//! Bodies of requests, bound by digest and priced, and the body of an answer that is a stream.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Version, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    process::{Program, ok, soon},
    support::{challenge, pay_with},
};

const MIB: usize = 1024 * 1024;

fn digest(body: &str) -> Option<String> {
    Some(format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body))))
}

#[tokio::test]
async fn the_body_names_the_price() {
    let program = Program::start().await;
    for (body, amount) in
        [(r#"{"model":"fast"}"#, "50"), (r#"{"model":"coding"}"#, "150"), (" {\"model\" : \"f\\u0061st\"}\n", "50")]
    {
        let answer = program.send(Method::POST, "/body", None, body).await;
        assert_eq!(answer.status, 402, "{body}");
        let challenge = challenge(&answer.headers);
        assert_eq!(challenge.request_as::<Value>().unwrap(), json!({"amount": amount, "currency": "usd"}));
        assert_eq!(challenge.digest, digest(body));
        let credential = pay_with(&challenge, None, &ok());
        let answer = program.send(Method::POST, "/body", Some(&credential), body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["route"]), (200, &json!("/body")));
    }
    assert_eq!(program.settlements().await, 3);
}

#[tokio::test]
async fn what_has_no_price_is_refused_before_any_challenge() {
    let program = Program::start().await;
    let credential = program.credential("/demo", &ok()).await;
    for body in [
        "",
        "{",
        "{}",
        "null",
        "\"fast\"",
        "[\"fast\"]",
        r#"{"model":"slow"}"#,
        r#"{"model":"FAST"}"#,
        r#"{"model":null}"#,
        r#"{"model":{"fast":null}}"#,
        r#"{"model":"fast","model":"fast"}"#,
        r#"{"model":"fast","temperature":1}"#,
        r#"{"model":"fast"} x"#,
        "\u{feff}{\"model\":\"fast\"}",
    ] {
        for credential in [None, Some(&credential)] {
            let answer = program.send(Method::POST, "/body", credential, body).await;
            assert_eq!(answer.status, 400, "{body}");
            answer.assert_no_challenge();
        }
    }
    assert_eq!(program.settlements().await, 0);
}

#[tokio::test]
async fn a_payment_is_good_for_one_body() {
    let program = Program::start().await;
    for (index, (path, paid_for, others)) in [
        ("/body", r#"{"model":"fast"}"#, [r#"{"model":"fast" }"#, r#"{"model":"coding"}"#]),
        ("/demo", "one", ["two", ""]),
        ("/items/1", "", ["x", " "]),
    ]
    .into_iter()
    .enumerate()
    {
        let challenge = challenge(&program.send(Method::POST, path, None, paid_for).await.headers);
        assert_eq!(challenge.digest, digest(paid_for).filter(|_| !paid_for.is_empty()));
        let credential = pay_with(&challenge, None, &ok());
        for other in others {
            let answer = program.send(Method::POST, path, Some(&credential), other).await;
            answer.assert_challenged("invalid-challenge");
        }
        assert_eq!(program.settlements().await, index as u64);
        assert_eq!(program.send(Method::POST, path, Some(&credential), paid_for).await.status, 200);
    }
}

#[tokio::test]
async fn framing_makes_no_difference() {
    let program = Program::start().await;
    for method in ["GET", "POST", "DELETE"] {
        let declared = format!("{method} /demo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        let answer = program.wire(&declared).await.answer().await;
        let challenge = challenge(&answer.headers);
        assert_eq!(challenge.digest, digest("hello"), "{method}");
        let credential = pay_with(&challenge, None, &ok());
        let chunked = |body: &str| {
            let authorization = credential.to_str().unwrap();
            format!(
                "{method} /demo HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n"
            )
        };
        let other = program.wire(&chunked("5\r\nhallo\r\n")).await.answer().await;
        other.assert_challenged("invalid-challenge");
        let empty = program.wire(&chunked("")).await.answer().await;
        empty.assert_challenged("invalid-challenge");
        let same = program.wire(&chunked("2\r\nhe\r\n3\r\nllo\r\n")).await.answer().await;
        assert_eq!(same.status, 200, "{method}");
    }
}

#[tokio::test]
async fn a_body_of_one_mebibyte_is_bound_and_a_larger_one_is_refused() {
    let program = Program::start().await;
    let full = "x".repeat(MIB);
    let challenge = challenge(&program.send(Method::POST, "/demo", None, &full).await.headers);
    assert_eq!(challenge.digest, digest(&full));
    let credential = pay_with(&challenge, None, &ok());
    assert_eq!(program.send(Method::POST, "/demo", Some(&credential), &full).await.status, 200);

    for path in ["/demo", "/items/1", "/body", "/compose"] {
        // Nothing of the body is sent, nor is there a 100 to ask for it.
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", MIB + 1);
        let answer = program.wire(&head).await.answer().await;
        assert_eq!(answer.status, 413, "{path}");
        answer.assert_no_challenge();

        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut wire = program.wire(&head).await;
        wire.send(&format!("{MIB:x}\r\n{full}\r\n1\r\n")).await;
        wire.send("x\r\n").await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 413, "{path}");
        answer.assert_no_challenge();
    }
}

#[tokio::test]
async fn who_writes_before_reading_still_learns_that_it_is_too_much() {
    let program = Program::start().await;
    for framing in ["Content-Length: 8388608", "Transfer-Encoding: chunked"] {
        let mut wire = program.wire(&format!("POST /demo HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n")).await;
        if framing.starts_with("Transfer") {
            wire.send("800000\r\n").await;
        }
        wire.send(&"x".repeat(8 * MIB)).await;
        assert_eq!(wire.answer().await.status, 413, "{framing}");
    }
}

#[tokio::test]
async fn http2_makes_no_difference() {
    let program = Program::start().await;
    let client: Client<_, BoxBody<Bytes, Infallible>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let post = async |body: &'static str, credential: Option<&HeaderValue>| {
        // Without a length.
        let frames = body.split_inclusive(' ').map(|part| Ok(Frame::data(Bytes::from(part))));
        let mut request = Request::post(format!("http://{}/demo", program.address));
        if let Some(credential) = credential {
            request = request.header(AUTHORIZATION, credential);
        }
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        soon(client.request(request.body(body).unwrap())).await.unwrap()
    };
    let asked = post("one two", None).await;
    assert_eq!((asked.version(), asked.status().as_u16()), (Version::HTTP_2, 402));
    let challenge = challenge(asked.headers());
    assert_eq!(challenge.digest, digest("one two"));
    let credential = pay_with(&challenge, None, &ok());
    assert_eq!(post("one three", Some(&credential)).await.status(), 402);
    assert_eq!(post("one two", Some(&credential)).await.status(), 200);
    assert_eq!(post("one two", Some(&credential)).await.status(), 403);

    // The connection is idle, and not waited for.
    let started = Instant::now();
    assert_eq!(program.stop().await.status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_stream_begins_with_the_receipt_and_ends_with_it() {
    let program = Program::start().await;
    let credential = program.credential("/stream", &ok()).await;
    let started = Instant::now();
    let request = format!(
        "GET /stream?n=3&ms=300 HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n",
        credential.to_str().unwrap()
    );
    let mut wire = program.wire(&request).await;
    let (status, headers) = wire.head().await;
    assert!(started.elapsed() < Duration::from_millis(300), "the head does not wait for the events");
    assert_eq!((status.as_u16(), &headers["content-type"]), (200, &"text/event-stream".parse().unwrap()));
    let receipt = headers["payment-receipt"].to_str().unwrap();

    let mut events: Vec<(Option<String>, Value)> = Vec::new();
    let mut name = None;
    while events.len() < 4 {
        let line = wire.line().await;
        let line = line.trim_end();
        if let Some(event) = line.strip_prefix("event: ") {
            name = Some(event.to_owned());
        } else if let Some(data) = line.strip_prefix("data: ") {
            let pauses = u32::try_from(events.len()).unwrap().saturating_add(1).min(3);
            let (earliest, latest) = (Duration::from_millis(300) * pauses, Duration::from_millis(300) * (pauses + 1));
            assert!(started.elapsed() >= earliest, "event {} came too early", events.len());
            assert!(events.len() == 3 || started.elapsed() < latest, "event {} was held back", events.len());
            events.push((name.take(), serde_json::from_str(data).unwrap()));
        }
    }
    for (index, (name, event)) in events[..3].iter().enumerate() {
        assert_eq!(*name, None);
        assert_eq!((&event["n"], &event["route"]), (&json!(index + 1), &json!("/stream")));
        assert_eq!(event["run"], events[0].1["run"]);
    }
    let in_head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(receipt).unwrap()).unwrap();
    assert_eq!(events[3], (Some("payment-receipt".to_owned()), in_head));
    assert_eq!(program.runs("/stream").await, 1);
}

#[tokio::test]
async fn a_stream_may_be_empty_or_long() {
    let program = Program::start().await;
    let none = program.buy("/stream?n=0", &ok()).await;
    assert_eq!(none.text().matches("data: ").count(), 1);
    assert!(none.text().starts_with("event: payment-receipt\n"));
    let many = soon(program.buy("/stream?n=10000", &ok())).await;
    assert_eq!(many.text().matches("data: ").count(), 10_001);
    let failed = program.buy("/stream?fail=500", &ok()).await;
    assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (500, Some("redeliverable")));
}
