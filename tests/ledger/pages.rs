//! Pages say what was signed, and nothing that a receipt says becomes a part of them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tower_mpp::{ledger::Ledger, protocol::Visibility};

use crate::{Answer, OWNER, STRANGER, get, ledger, rows::*};

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).unwrap().1.split_once(after).unwrap().0
}

/// Nothing but the one style and the one script, by their hashes.
fn assert_policy(page: &Answer, scripted: bool) {
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let text = page.text();
    assert!(policy.contains(&format!("style-src {};", hash(between(text, "<style>", "</style>")))));
    assert_eq!(text.matches("<script").count(), usize::from(scripted));
    assert_eq!(policy.contains("script-src"), scripted);
    if scripted {
        assert!(policy.contains(&format!("script-src {};", hash(between(text, "<script>", "</script>")))));
    }
    let markup = text.replace(between(text, "<style>", "</style>"), "");
    assert!(!markup.contains(" style=") && !markup.contains(" onclick="));
}

#[tokio::test]
async fn every_page_has_its_policy() {
    let shelf = Shelf::with([row(members(id(1)), Visibility::PublicFull)]).await;
    let ledger = ledger(&shelf);
    assert_policy(&get(&ledger, &format!("/r/{}", id(1)), STRANGER).await, true);
    assert_policy(&get(&ledger, "/", STRANGER).await, false);
    assert_policy(&get(&ledger, &format!("/r/{}", id(2)), STRANGER).await, false);
    assert_policy(&get(&ledger, "/?limit=0", STRANGER).await, false);
    // Nothing is loaded from anywhere.
    let page = get(&ledger, &format!("/r/{}", id(1)), STRANGER).await;
    for attribute in ["src=", "@import", "url("] {
        assert!(!page.text().contains(attribute), "{attribute}");
    }
    let json = get(&ledger, "/leaderboard.json", STRANGER).await;
    assert_eq!(json.header("content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
}

const HOSTILE: &str = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;<!--]]>\u{202e}\u{0}\r\n\
                       \u{2028}{{x}}${x}</pre></dd></main>";

/// Every text of a receipt is hostile, one after the other and all together.
#[tokio::test]
async fn nothing_in_a_receipt_becomes_markup() {
    let keep = ["receipt_id", "visibility", "signing_key_id", "signing_algorithm", "parent_receipt_id"];
    let texts: Vec<String> = members(id(1)).keys().filter(|name| !keep.contains(&name.as_str())).cloned().collect();
    let mut changes: Vec<Vec<String>> = texts.iter().map(|name| vec![name.clone()]).collect();
    changes.push(texts.clone());
    let clean = Shelf::with([row(members(id(1)), Visibility::PublicFull)]).await;
    let clean = get(&ledger(&clean), &format!("/r/{}", id(1)), STRANGER).await;
    let scripts =
        |text: &str| (text.matches("<script").count(), text.matches("<img").count(), text.matches("<!--").count());
    for names in changes {
        let mut full = members(id(1));
        for name in &names {
            let hostile = match name.as_str() {
                "module_chain" => serde_json::json!([HOSTILE, HOSTILE]),
                "payment" => serde_json::json!({
                    "amount": HOSTILE, "currency": HOSTILE, "method": HOSTILE, "intent": HOSTILE, "reference": HOSTILE
                }),
                _ => Value::from(HOSTILE),
            };
            full.insert(name.clone(), hostile);
        }
        full.insert(HOSTILE.into(), HOSTILE.into());
        let mut child = full.clone();
        child.insert("receipt_id".into(), id(2).to_string().into());
        child.insert("parent_receipt_id".into(), id(1).to_string().into());
        let shelf = Shelf::with([row(full, Visibility::PublicFull), row(child, Visibility::PublicFull)]).await;
        let ledger = ledger(&shelf).title(HOSTILE);
        for path in [format!("/r/{}", id(1)), "/".into(), format!("/r/{}", id(9))] {
            let page = get(&ledger, &path, STRANGER).await;
            let scripted = path == format!("/r/{}", id(1));
            assert_policy(&page, scripted);
            assert_eq!(scripts(page.text()), (usize::from(scripted), 0, 0), "{names:?} {path}");
            if scripted {
                let ends = page.text().matches("</main>").count();
                assert_eq!(ends, clean.text().matches("</main>").count());
                // What turns the direction of text, and what browsers drop, is spelt out.
                let main = between(page.text(), "<main", "</main>");
                for character in ['\u{202e}', '\0', '\r', '\u{2028}'] {
                    assert!(!main.contains(character), "{names:?} {character:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_page_shows_what_people_want_to_know() {
    let mut refund = members(id(2));
    refund.insert("parent_receipt_id".into(), id(1).to_string().into());
    refund.insert("receipt_type".into(), "refund".into());
    let mut hidden = members(id(3));
    hidden.insert("parent_receipt_id".into(), id(1).to_string().into());
    hidden.insert("receipt_type".into(), "reconciliation_adjustment".into());
    let shelf = Shelf::with([
        row(members(id(1)), Visibility::PublicMinimal),
        row(refund, Visibility::PublicMinimal),
        row(hidden, Visibility::Private),
    ])
    .await;
    let ledger = ledger(&shelf).title("Receipts of Example");
    let page = get(&ledger, &format!("/r/{}", id(1)), STRANGER).await;
    for text in [
        "0.50 USD",
        ">stripe<",
        ">us.amazon.nova-micro-v1:0<",
        ">aws_bedrock<",
        ">1,812<",
        ">405<",
        ">0.00000012 USD<",
        ">1,167 ms<",
        ">2026-06-05 21:10:50.000 UTC<",
        ">succeeded<",
        ">inference<",
        "<li>mcp-optimizer</li><li>cost-guard</li>",
        "Not checked in your browser",
        "Receipts of Example",
        &format!("cargo run --example verify_receipt -- {BASE}/r/{}", id(1)),
        &format!("curl -s {BASE}/v1/receipts/{}", id(1)),
        &format!("<a href=\"/r/{}\">refund</a>", id(2)),
    ] {
        assert!(page.text().contains(text), "{text}");
    }
    // A receipt that is not for a stranger is not named to them.
    assert!(!page.text().contains(&id(3).to_string()));
    let owners = get(&ledger, &format!("/r/{}", id(1)), OWNER).await;
    assert!(owners.text().contains(&id(3).to_string()) && owners.text().contains("tenant_secret_1"));
    let child = get(&ledger, &format!("/r/{}", id(2)), STRANGER).await;
    assert!(child.text().contains(&format!("<a href=\"/r/{}\"><span data-show=\"parent_receipt_id\">", id(1))));
}

#[tokio::test]
async fn programs_get_json_from_the_address_of_the_page() {
    let shelf = Shelf::with([row(members(id(1)), Visibility::PublicMinimal)]).await;
    let ledger = ledger(&shelf);
    let path = format!("/r/{}", id(1));
    let json = get(&ledger, &format!("/v1/receipts/{}", id(1)), STRANGER).await;
    for accept in ["application/json", "application/json, text/html;q=0.9", "Application/JSON;q=0.2"] {
        let answer = get(&ledger, &path, &[("accept", accept)]).await;
        assert_eq!(answer.body, json.body, "{accept}");
        assert_eq!(answer.header("payment-receipt-digest"), json.header("payment-receipt-digest"));
        let missing = get(&ledger, &format!("/r/{}", id(9)), &[("accept", accept)]).await;
        assert_eq!(missing.error(), "receipt_not_found");
    }
    for accept in
        ["*/*", "text/html", "text/html, application/json", "application/json;q=0, text/html", "application/json;q=x"]
    {
        let answer = get(&ledger, &path, &[("accept", accept)]).await;
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{accept}");
        assert_eq!(answer.header("vary"), Some("Accept, Authorization, Cookie"));
    }
}

/// A ledger that is served under a path says so in its links.
#[tokio::test]
async fn links_are_where_the_ledger_is() {
    for (base, prefix) in [("https://example.com/money/ledger", "/money/ledger"), ("https://example.com", "")] {
        let shelf = Shelf::with([row(members(id(1)), Visibility::PublicMinimal)]).await;
        let ledger = Ledger::new(receipts_at(base, shelf));
        let page = get(&ledger, &format!("/r/{}", id(1)), STRANGER).await;
        assert!(page.text().contains(&format!("data-api=\"{prefix}/v1/receipts/{}?view=public\"", id(1))));
        assert!(page.text().contains(&format!("data-keys=\"{prefix}/.well-known/receipt-keys.json\"")));
        let list = get(&ledger, "/", STRANGER).await;
        assert!(list.text().contains(&format!("<a href=\"{prefix}/r/{}\">", id(1))));
    }
}
