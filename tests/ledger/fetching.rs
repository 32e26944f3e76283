//! Receipts are fetched by who may see them, with the headers that say what they are.

use http::Method;
use serde_json::{Value, json};
use tower_mpp::{
    protocol::{ContentDigest, Visibility},
    receipt::{canonicalize, verify_receipt},
};

use crate::{OWNER, STRANGER, get, ledger, post, rows, rows::*, send};

const LEVELS: [Visibility; 5] = [
    Visibility::Private,
    Visibility::PublicDemo,
    Visibility::PublicMinimal,
    Visibility::PublicRedacted,
    Visibility::PublicFull,
];

fn all() -> Vec<tower_mpp::store::ReceiptRow> {
    let mut rows = Vec::new();
    for (number, visibility) in (0..).zip(LEVELS) {
        rows.push(row(members(id(number)), visibility));
        let mut provisional = members(id(100 + number));
        provisional.insert("status".into(), "in_progress".into());
        rows.push(tower_mpp::store::ReceiptRow { provisional: true, ..row(provisional, visibility) });
    }
    rows
}

/// The table: visibility, provisional or final, who asks, for how much, and what the answer is.
#[tokio::test]
async fn everybody_sees_what_is_for_them() {
    let shelf = Shelf::with(all()).await;
    let ledger = ledger(&shelf);
    for (number, visibility) in (0..).zip(LEVELS) {
        for provisional in [false, true] {
            let id = id(if provisional { 100 + number } else { number });
            let private = visibility == Visibility::Private;
            let whole = visibility == Visibility::PublicFull;
            for (viewer, view, want) in [
                (OWNER, "", "full"),
                (OWNER, "?view=full", "full"),
                (OWNER, "?view=public", if private { "404" } else { "public" }),
                (STRANGER, "", if private { "404" } else { "public" }),
                (STRANGER, "?view=public", if private { "404" } else { "public" }),
                (
                    STRANGER,
                    "?view=full",
                    if private {
                        "404"
                    } else if whole {
                        "public"
                    } else {
                        "410"
                    },
                ),
            ] {
                let case = format!("{visibility:?} {provisional} {viewer:?} {view}");
                let answer = get(&ledger, &format!("/v1/receipts/{id}{view}"), viewer).await;
                let page = get(&ledger, &format!("/r/{id}{view}"), viewer).await;
                let outcomes = get(&ledger, &format!("/v1/receipts/{id}/outcomes{view}"), viewer).await;
                for other in [page.status, outcomes.status] {
                    assert_eq!(other, answer.status, "{case}");
                }
                match want {
                    "404" => {
                        assert_eq!(
                            (answer.status.as_u16(), answer.error()),
                            (404, "receipt_not_found".into()),
                            "{case}"
                        );
                        continue;
                    }
                    "410" => {
                        assert_eq!((answer.status.as_u16(), answer.error()), (410, "receipt_redacted_only".into()));
                        continue;
                    }
                    _ => assert_eq!(answer.status, 200, "{case}"),
                }
                let sees_all = want == "full" || whole;
                for text in [answer.text(), page.text()] {
                    assert_eq!(text.contains("tenant_secret_1"), sees_all, "{case}");
                    assert_eq!(text.contains("_secret_"), sees_all, "{case}");
                }
                let owned = want == "full";
                let cache = if owned || provisional { "private, no-store" } else { "public, max-age=86400, immutable" };
                assert_eq!(answer.header("cache-control"), Some(cache), "{case}");
                assert_eq!(answer.header("access-control-allow-origin"), (!owned).then_some("*"), "{case}");
                assert_eq!(outcomes.header("access-control-allow-origin"), (!owned).then_some("*"), "{case}");
                assert_eq!(page.header("access-control-allow-origin"), None, "{case}");
                let page_cache = if owned || provisional { "private, no-store" } else { "public, max-age=10" };
                assert_eq!(page.header("cache-control"), Some(page_cache), "{case}");
                assert!(page.text().contains("Provisional:") == provisional, "{case}");
            }
        }
    }
}

/// Whatever is given out verifies as it is, and its digest is the one of the payment's headers.
#[tokio::test]
async fn what_is_given_out_verifies() {
    let shelf = Shelf::with(all()).await;
    let ledger = ledger(&shelf);
    let keys = get(&ledger, "/.well-known/receipt-keys.json", STRANGER).await;
    assert_eq!(keys.header("content-type"), Some("application/jwk-set+json"));
    assert_eq!(keys.header("cache-control"), Some("public, max-age=300"));
    assert_eq!(keys.header("access-control-allow-origin"), Some("*"));
    let keys = keys.text().parse().unwrap();
    for number in 1..5 {
        for viewer in [OWNER, STRANGER] {
            let answer = get(&ledger, &format!("/v1/receipts/{}", id(number)), viewer).await;
            let verified = verify_receipt(answer.text(), &keys).unwrap();
            assert_eq!(answer.header("payment-receipt-digest").unwrap(), verified.digest.to_string());
            assert_eq!(answer.header("payment-receipt-kid"), Some(KEY_ID));
            assert_eq!(answer.header("content-digest").unwrap(), ContentDigest::of(&answer.body).to_string());
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        }
    }
}

/// What is private, what is not there and what cannot be an id: nobody can tell one from the other.
#[tokio::test]
async fn one_answer_for_all_that_is_not_seen() {
    let shelf = Shelf::with([row(members(id(1)), Visibility::Private)]).await;
    let mut mistaken = row(members(id(2)), Visibility::PublicFull);
    mistaken.visibility = Visibility::Private;
    let mut provisional = row(members(id(3)), Visibility::Private);
    provisional.provisional = true;
    let mut lost = row(members(id(4)), Visibility::PublicFull);
    lost.public = None;
    for row in [mistaken, provisional, lost] {
        tower_mpp::store::ReceiptStore::append(&shelf, row).await.unwrap();
    }
    let ledger = ledger(&shelf);
    for (before, after) in
        [("/v1/receipts/", ""), ("/v1/receipts/", "/outcomes"), ("/r/", ""), ("/v1/receipts/", "?view=full")]
    {
        let absent = get(&ledger, &format!("{before}{}{after}", id(9)), STRANGER).await;
        assert_eq!(absent.status, 404);
        let upper = id(9).to_string().to_uppercase();
        let ids = [id(1), id(2), id(3), id(4)].map(|id| id.to_string());
        for name in ids.iter().map(String::as_str).chain(["x", "", &upper, "%2e%2e", "verify2", "public2"]) {
            let answer = get(&ledger, &format!("{before}{name}{after}"), STRANGER).await;
            assert_eq!(answer.status, 404, "{name}");
            assert_eq!(answer.headers, absent.headers, "{name}");
            assert_eq!(answer.body, absent.body, "{name}");
        }
        assert!(!absent.text().contains(&id(9).to_string()));
    }
}

#[tokio::test]
async fn a_state_that_is_known_is_not_sent_again() {
    let shelf = Shelf::with(all()).await;
    let ledger = ledger(&shelf);
    let path = format!("/v1/receipts/{}", id(2));
    let first = get(&ledger, &path, STRANGER).await;
    let tag = first.header("etag").unwrap();
    for known in [tag.to_owned(), format!("W/{tag}"), format!("\"a\", {tag}"), "*".into()] {
        let again = get(&ledger, &path, &[("if-none-match", &known)]).await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{known}");
        for name in ["etag", "cache-control", "vary", "access-control-allow-origin", "payment-receipt-digest"] {
            assert_eq!(again.headers.get(name), first.headers.get(name), "{name}");
        }
        assert!(again.header("content-digest").is_none() && again.header("content-type").is_none());
    }
    assert_eq!(get(&ledger, &path, &[("if-none-match", "\"a\"")]).await.status, 200);
    // The owner's view is another state.
    let owners = [("if-none-match", tag), OWNER[0]];
    assert_eq!(get(&ledger, &path, &owners).await.status, 200);
    // What is not there has no state.
    let missing = get(&ledger, &format!("/v1/receipts/{}", id(99)), &[("if-none-match", "*")]).await;
    assert_eq!((missing.status.as_u16(), missing.header("etag")), (404, None));
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let shelf = Shelf::with(all()).await;
    let ledger = ledger(&shelf);
    for path in [format!("/v1/receipts/{}", id(2)), format!("/r/{}", id(2)), "/".into(), "/nothing".into()] {
        let whole = get(&ledger, &path, STRANGER).await;
        let head = send(&ledger, Method::HEAD, &path, STRANGER, "").await;
        assert_eq!((head.status, head.body.len()), (whole.status, 0), "{path}");
        assert_eq!(head.header("content-length").unwrap(), whole.body.len().to_string(), "{path}");
        for (name, value) in &whole.headers {
            assert_eq!(head.headers.get(name), Some(value), "{path} {name}");
        }
    }
}

#[tokio::test]
async fn a_parent_is_linked_where_it_is_said() {
    let mut refund = members(id(2));
    refund.insert("parent_receipt_id".into(), id(1).to_string().into());
    let mut hostile = members(id(3));
    hostile.insert("parent_receipt_id".into(), "x>; rel=\"preload\"\r\nSet-Cookie: a=b".into());
    let mut hostile = row_without_parent(hostile);
    hostile.parent = None;
    let shelf = Shelf::with([row(refund, Visibility::PublicMinimal), hostile]).await;
    let ledger = ledger(&shelf);
    let answer = get(&ledger, &format!("/v1/receipts/{}", id(2)), STRANGER).await;
    assert_eq!(answer.header("link").unwrap(), format!("<{BASE}/v1/receipts/{}>; rel=\"up\"", id(1)));
    let answer = get(&ledger, &format!("/v1/receipts/{}", id(3)), STRANGER).await;
    assert_eq!((answer.status.as_u16(), answer.header("link"), answer.header("set-cookie")), (200, None, None));
}

/// A row whose JSON names a parent that is none.
fn row_without_parent(full: serde_json::Map<String, Value>) -> tower_mpp::store::ReceiptRow {
    let mut harmless = full.clone();
    harmless.insert("parent_receipt_id".into(), Value::Null);
    let mut row = rows::row(harmless, Visibility::PublicFull);
    row.full = sign(&full).into();
    row.public = Some(row.full.clone());
    row
}

#[tokio::test]
async fn everybody_may_ask_whether_a_receipt_is_ours() {
    let shelf = Shelf::with(all()).await;
    let ledger = ledger(&shelf);
    let path = "/v1/receipts/verify";
    let good = sign(&members(id(77)));
    let digest = ContentDigest::of(canonicalize(&serde_json::to_string(&members(id(77))).unwrap()).unwrap().as_bytes());
    let want = json!({"verified": true, "key_id": KEY_ID, "digest": digest.to_string()});
    for body in [good.clone(), format!("{{\"receipt\":{good}}}"), format!(" {good} ")] {
        let answer = send(&ledger, Method::POST, path, STRANGER, &body).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, want.clone()));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let mut other: Value = serde_json::from_str(&good).unwrap();
    other["status"] = "failed".into();
    let answer = post(&ledger, path, STRANGER, &other.to_string()).await.json();
    assert_eq!(answer["verified"], false);
    assert!(answer["reason"].is_string() && answer["digest"].is_string(), "{answer}");
    // A private receipt of ours is spoken of as one of somebody else: nothing is looked up.
    let broken = Shelf::default();
    broken.break_down();
    let blind = crate::ledger(&broken);
    let private = get(&ledger, &format!("/v1/receipts/{}", id(0)), OWNER).await;
    let seen = post(&ledger, path, STRANGER, private.text()).await;
    assert_eq!(seen.json(), post(&blind, path, STRANGER, private.text()).await.json());
    for (body, kind) in
        [("", "invalid_json"), ("[1]", "invalid_json"), ("{\"receipt\":1}", "invalid_json"), ("nul", "invalid_json")]
    {
        let answer = post(&ledger, path, STRANGER, body).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, kind.into()), "{body}");
    }
    for body in ["{}", r#"{"signature":1}"#, r#"{"signature":"AAAA","signing_key_id":"k","signing_algorithm":"none"}"#]
    {
        let answer = post(&ledger, path, STRANGER, body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["verified"]), (200, &Value::Bool(false)), "{body}");
    }
}
