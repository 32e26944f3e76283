//! Which routes there are, what they cost, and what they answer.

use http::Method;
use serde_json::{Value, json};

use crate::{
    process::{Program, ok},
    support::{challenge, pay_with},
};

const ANY: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
const ANY_ROUTES: [(&str, &str); 4] = [("/demo", "100"), ("/demo2", "100"), ("/items/1", "100"), ("/compose", "50")];

#[tokio::test]
async fn free_routes_are_free() {
    let program = Program::start().await;
    let answer = program.get("/free").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"ok": true})));
    assert!(!answer.headers.contains_key("payment-receipt"));
    assert_eq!(program.settlements().await, 0);
    assert_eq!(program.get("/runs").await.json(), json!(0));
    for route in ["/demo", "/items/{id}", "/zero", "/paid", "/stripe"] {
        assert_eq!(program.runs(route).await, 0);
    }
    assert_eq!(program.get("/runs?route=/items/1").await.status, 404);
}

#[tokio::test]
async fn every_method_of_a_paid_route_has_its_price() {
    let program = Program::start().await;
    for (path, amount) in ANY_ROUTES {
        for method in ANY {
            let answer = program.send(method.clone(), path, None, "").await;
            assert_eq!(answer.status, 402, "{method} {path}");
            let challenge = challenge(&answer.headers);
            assert_eq!((challenge.method.as_str(), challenge.intent.as_str()), ("demo", "charge"));
            let request: Value = challenge.request_as().unwrap();
            assert_eq!(request, json!({"amount": amount, "currency": "usd"}), "{method} {path}");
            assert_eq!(answer.body.is_empty(), method == Method::HEAD);
        }
    }
    for method in [Method::GET, Method::HEAD] {
        assert_eq!(program.send(method, "/stream", None, "").await.status, 402);
    }
}

#[tokio::test]
async fn what_is_not_served_is_not_asked_money_for() {
    let program = Program::start().await;
    for path in ["/", "/nope", "/demo/", "/items", "/items/", "/items/1/2", "/Demo", "/zero", "/paid", "/stripe"] {
        for method in ANY {
            assert_eq!(program.send(method, path, None, "").await.status, 404, "{path}");
        }
    }
    let paths = ["/free", "/demo", "/demo2", "/items/1", "/body", "/compose", "/stream", "/runs", "/settlements"];
    for path in paths {
        for method in [Method::OPTIONS, Method::TRACE, Method::from_bytes(b"BREW").unwrap()] {
            assert_eq!(program.send(method, path, None, "").await.status, 405, "{path}");
        }
    }
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        for path in ["/free", "/stream", "/runs", "/settlements"] {
            assert_eq!(program.send(method.clone(), path, None, "").await.status, 405, "{method} {path}");
        }
    }
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(program.send(method.clone(), "/body", None, "").await.status, 405, "{method}");
    }
}

#[tokio::test]
async fn what_is_paid_is_answered_with_a_receipt() {
    let program = Program::start().await;
    let mut runs = Vec::new();
    for (path, route) in
        [("/demo", "/demo"), ("/demo2", "/demo2"), ("/items/7", "/items/{id}"), ("/compose", "/compose")]
    {
        for method in ANY {
            let challenge = challenge(&program.send(method.clone(), path, None, "").await.headers);
            let credential = pay_with(&challenge, Some("did:example:alice"), &ok());
            let answer = program.send(method.clone(), path, Some(&credential), "").await;
            assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
            assert_eq!(answer.receipt().challenge_id.as_deref(), Some(challenge.id.as_str()));
            assert_eq!(answer.header("cache-control"), Some("private"));
            if method == Method::HEAD {
                assert!(answer.body.is_empty());
                continue;
            }
            let mut json = answer.json();
            let run = json.as_object_mut().unwrap().remove("run").unwrap();
            assert_eq!(json, json!({"ok": true, "route": route, "payer": "did:example:alice"}));
            runs.push(run.as_str().unwrap().to_owned());
        }
        assert_eq!(program.runs(route).await, 6);
    }
    assert!(runs.iter().all(|run| !run.is_empty()));
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), 20);
    assert_eq!(program.settlements().await, 24);
}

#[tokio::test]
async fn who_does_not_say_who_pays_is_nobody() {
    let program = Program::start().await;
    let credential = pay_with(&program.challenge("/demo").await, None, &ok());
    assert_eq!(program.pay("/demo", &credential).await.json()["payer"], Value::Null);
}

#[tokio::test]
async fn the_query_steers_and_is_not_bought() {
    let program = Program::start().await;
    let credential = program.credential("/demo", &ok()).await;
    let started = std::time::Instant::now();
    assert_eq!(program.pay("/demo?ms=300&color=red", &credential).await.status, 200);
    assert!(started.elapsed().as_millis() >= 300);
    // A slip of the pen costs nothing.
    for query in ["ms=x", "ms=-1", "fail=abc", "fail=101", "fail=99", "fail=600", "settle_ms=", "ms=1&ms=2"] {
        let answer = program.get(&format!("/demo?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        answer.assert_no_challenge();
    }
}
