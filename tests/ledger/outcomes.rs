//! What came of a call is said by the owner, and seen by who sees the receipt.

use serde_json::{Value, json};
use tower_mpp::protocol::Visibility;

use crate::{OWNER, STRANGER, get, ledger, post, rows::*, send};

fn said(with: &[(&str, Value)]) -> String {
    let mut body = json!({"receipt_id": id(1), "outcome": "succeeded", "source": "webhook"});
    for (name, value) in with {
        body[*name] = value.clone();
    }
    body.to_string()
}

async fn shelf() -> Shelf {
    Shelf::with([row(members(id(1)), Visibility::PublicMinimal), row(members(id(2)), Visibility::Private)]).await
}

#[tokio::test]
async fn outcomes_are_added_and_seen() {
    let ledger = ledger(&shelf().await);
    let whole = [("score", json!(0.75)), ("labels", json!(["<b>", "é"])), ("notes", json!("only for us"))];
    let added = post(&ledger, "/v1/outcomes", OWNER, &said(&whole)).await;
    assert_eq!(added.status, 201);
    let want = json!({
        "created_at": "2026-11-21T12:00:00.25Z", "labels": ["<b>", "é"], "notes": "only for us",
        "outcome": "succeeded", "receipt_id": id(1), "score": 0.75, "source": "webhook"
    });
    assert_eq!(added.json(), want);
    assert_eq!(post(&ledger, "/v1/outcomes", OWNER, &said(&[("outcome", json!("regressed"))])).await.status, 201);
    let path = format!("/v1/receipts/{}/outcomes", id(1));
    let owners = get(&ledger, &path, OWNER).await.json();
    assert_eq!(owners["outcomes"][0], want);
    assert_eq!(owners["outcomes"][1]["outcome"], "regressed");
    assert_eq!(owners["receipt_id"], id(1).to_string());
    let strangers = get(&ledger, &path, STRANGER).await;
    assert!(strangers.text().contains("0.75") && !strangers.text().contains("only for us"));
    assert!(!strangers.text().contains("notes"));
    // The receipt is what it was.
    assert_eq!(
        get(&ledger, &format!("/v1/receipts/{}", id(1)), OWNER).await.text(),
        sign(&{
            let mut full = members(id(1));
            full.insert("visibility".into(), "public_minimal".into());
            full
        })
    );
}

#[tokio::test]
async fn every_name_of_the_list_is_taken() {
    let ledger = ledger(&shelf().await);
    for outcome in [
        "succeeded",
        "partially_solved",
        "failed",
        "no_progress",
        "regressed",
        "user_satisfied",
        "user_unsatisfied",
        "tool_chain_succeeded",
        "tool_chain_failed",
        "review_pending",
        "out_of_scope",
    ] {
        let answer = post(&ledger, "/v1/outcomes", OWNER, &said(&[("outcome", json!(outcome))])).await;
        assert_eq!(answer.status, 201, "{outcome}");
    }
    for source in ["self_report", "human_reviewer", "webhook", "automated_test", "agent_runner"] {
        let answer = post(&ledger, "/v1/outcomes", OWNER, &said(&[("source", json!(source))])).await;
        assert_eq!(answer.status, 201, "{source}");
    }
}

#[tokio::test]
async fn only_the_owner_says_what_came_of_it() {
    let shelf = shelf().await;
    // The store is not even asked.
    shelf.break_down();
    let ledger = ledger(&shelf);
    let nobody = post(&ledger, "/v1/outcomes", STRANGER, &said(&[])).await;
    assert_eq!((nobody.status.as_u16(), nobody.error()), (401, "authentication_required".into()));
    assert!(nobody.header("www-authenticate").is_some());
    let other = post(&ledger, "/v1/outcomes", &[("authorization", "Bearer other")], &said(&[])).await;
    assert_eq!((other.status.as_u16(), other.error()), (403, "forbidden".into()));
    // A page of another origin may send a form with the owner's cookies, but not this type.
    for media in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        let headers = [OWNER[0], ("content-type", media)];
        let answer = send(&ledger, http::Method::POST, "/v1/outcomes", &headers, &said(&[])).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (415, "unsupported_media_type".into()), "{media}");
    }
    let asked = send(&ledger, http::Method::OPTIONS, "/v1/outcomes", STRANGER, "").await;
    assert_eq!((asked.status.as_u16(), asked.header("access-control-allow-origin")), (204, None));
    // By default nobody is the owner.
    let open = tower_mpp::ledger::Ledger::new(receipts(shelf.clone()));
    assert_eq!(post(&open, "/v1/outcomes", OWNER, &said(&[])).await.status, 403);
}

#[tokio::test]
async fn what_cannot_be_taken_is_named() {
    let ledger = ledger(&shelf().await);
    let many = |count: usize| json!(vec!["x"; count]);
    for (with, kind) in [
        (("receipt_id", Value::Null), "missing_receipt_id"),
        (("receipt_id", json!("")), "missing_receipt_id"),
        (("receipt_id", json!(5)), "missing_receipt_id"),
        (("outcome", json!("great")), "invalid_outcome"),
        (("outcome", Value::Null), "invalid_outcome"),
        (("outcome", json!(["succeeded"])), "invalid_outcome"),
        (("source", json!("Webhook")), "invalid_source"),
        (("source", Value::Null), "invalid_source"),
        (("score", json!("1")), "invalid_request"),
        (("labels", json!("a")), "invalid_request"),
        (("labels", many(17)), "invalid_request"),
        (("labels", json!([""])), "invalid_request"),
        (("labels", json!(["x".repeat(65)])), "invalid_request"),
        (("notes", json!("x".repeat(4097))), "invalid_request"),
        (("note", json!("misspelt")), "invalid_request"),
    ] {
        let answer = post(&ledger, "/v1/outcomes", OWNER, &said(std::slice::from_ref(&with))).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, kind.into()), "{with:?}");
    }
    for body in ["", "{", "[]", r#"{"outcome":"failed","outcome":"succeeded"}"#] {
        assert_eq!(post(&ledger, "/v1/outcomes", OWNER, body).await.error(), "invalid_request", "{body}");
    }
    for missing in [id(9).to_string(), "x".into(), id(1).to_string().to_uppercase()] {
        let answer = post(&ledger, "/v1/outcomes", OWNER, &said(&[("receipt_id", json!(missing))])).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (404, "receipt_not_found".into()));
    }
    let most = [("labels", many(16)), ("notes", json!("x".repeat(4096))), ("score", json!(-3))];
    assert_eq!(post(&ledger, "/v1/outcomes", OWNER, &said(&most)).await.status, 201);
    // A private one has outcomes too, for its owner.
    assert_eq!(post(&ledger, "/v1/outcomes", OWNER, &said(&[("receipt_id", json!(id(2)))])).await.status, 201);
    let path = format!("/v1/receipts/{}/outcomes", id(2));
    assert_eq!(get(&ledger, &path, OWNER).await.json()["outcomes"].as_array().unwrap().len(), 1);
    assert_eq!(get(&ledger, &path, STRANGER).await.status, 404);
}

#[tokio::test]
async fn none_is_left_out_of_a_list_because_there_are_many() {
    let ledger = ledger(&shelf().await);
    for n in 0..100 {
        // The same one at the same instant would be one.
        assert_eq!(post(&ledger, "/v1/outcomes", OWNER, &said(&[("notes", json!(n.to_string()))])).await.status, 201);
    }
    let more = post(&ledger, "/v1/outcomes", OWNER, &said(&[])).await;
    assert_eq!((more.status.as_u16(), more.error()), (409, "too_many_outcomes".into()));
    let all = get(&ledger, &format!("/v1/receipts/{}/outcomes", id(1)), STRANGER).await.json();
    assert_eq!(all["outcomes"].as_array().unwrap().len(), 100);
}
