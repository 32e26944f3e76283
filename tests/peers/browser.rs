//! The page of a receipt in a real browser: what is good is verified, and what was changed on its way is not.

use serde_json::{Value, json};

use crate::{
    node,
    rows::{KEY_ID, id},
    run,
    shelf::{HMAC, ISSUED, ODD, ODDS, PLAIN, PRIVATE, PROVISIONAL, REFUND, SPARSE},
    site::{self, Change},
};

/// What stands in the badge.
const VERIFIED: &str = "verified";
const FAILED: &str = "failed";
const UNSUPPORTED: &str = "unsupported";

fn is_receipt(path: &str) -> bool {
    path.starts_with("/v1/receipts/")
}

fn is_page(path: &str) -> bool {
    path.starts_with("/r/")
}

fn is_keys(path: &str) -> bool {
    path.ends_with("receipt-keys.json")
}

fn once(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1)
}

/// What a thief changes, and what the page says then.
const CHANGES: [(&str, Change, &str, &str); 14] = [
    (
        "a member of the receipt",
        |path, text| {
            if is_receipt(path) { once(&text, r#""status":"succeeded""#, r#""status":"failed""#) } else { text }
        },
        FAILED,
        "not what was signed",
    ),
    (
        "a number, on the page too",
        |path, text| match path {
            path if is_receipt(path) => once(&text, r#""input_tokens":1812"#, r#""input_tokens":1811"#),
            path if is_page(path) => text.replace("1,812", "1,811").replace(": 1812", ": 1811"),
            _ => text,
        },
        FAILED,
        "not what was signed",
    ),
    (
        "the amount on the page",
        |path, text| if is_page(path) { once(&text, "0.50 USD", "5.00 USD") } else { text },
        FAILED,
        "see amount",
    ),
    (
        "a decimal on the page",
        |path, text| if is_page(path) { once(&text, ">0.00000012 USD", ">0.0000012 USD") } else { text },
        FAILED,
        "see cost_estimated_usd",
    ),
    (
        "a module on the page",
        |path, text| {
            if is_page(path) { once(&text, "<li>cost-guard</li>", "<li>cost-guard</li><li>x</li>") } else { text }
        },
        FAILED,
        "see module_chain",
    ),
    (
        "a fact that is left out of the page",
        |path, text| if is_page(path) { once(&text, "<dd data-show=\"provider\">", "<dd>") } else { text },
        FAILED,
        "see provider",
    ),
    (
        "a fact that nobody has signed",
        |path, text| if is_page(path) { once(&text, "<dl>", "<dl><dd data-show=\"region\">moon</dd>") } else { text },
        FAILED,
        "see region",
    ),
    (
        "a member that is there twice",
        |path, text| if is_receipt(path) { text.replacen('{', r#"{"status":"failed","#, 1) } else { text },
        FAILED,
        "canonical",
    ),
    (
        "another receipt",
        |path, text| if is_receipt(path) { text.replace(&id(PLAIN).to_string(), &id(99).to_string()) } else { text },
        FAILED,
        "another call",
    ),
    (
        "the key",
        |path, text| if is_keys(path) { once(&text, "\"x\":\"", "\"x\":\"AAAA") } else { text },
        FAILED,
        "cannot be used",
    ),
    (
        "another key of the same name",
        |path, text| {
            let start = text.find("\"x\":\"").map(|at| at + 5);
            match start.filter(|_| is_keys(path)) {
                Some(start) => {
                    let other = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
                    format!("{}{other}{}", &text[..start], &text[start + 43..])
                }
                None => text,
            }
        },
        FAILED,
        "not what was signed",
    ),
    (
        "the time of the key",
        |path, text| if is_keys(path) { once(&text, "{\"kty\"", "{\"exp\":1700000000,\"kty\"") } else { text },
        FAILED,
        "outside of the time",
    ),
    (
        "the name of the key",
        |path, text| if is_keys(path) { once(&text, KEY_ID, "another-key") } else { text },
        UNSUPPORTED,
        "not listed",
    ),
    (
        "the signature",
        |path, text| if is_receipt(path) { once(&text, "\"signature\":\"", "\"signature\":\"=") } else { text },
        FAILED,
        "cannot be read",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_checks_receipts() {
    let honest = site::start(None).await;
    let url = |number: u8| format!("http://{honest}/r/{}", id(number));
    let mut visits = Vec::new();
    let mut visit = |name: &str, url: String, state: &str, reason: &str, more: Value| {
        let mut visit = json!({"name": name, "url": url, "state": state, "reason": reason});
        visit.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        visits.push(visit);
    };
    let pictures = |name: &str| json!({"picture": name, "accessible": true});
    visit("plain", url(PLAIN), VERIFIED, KEY_ID, pictures("receipt"));
    visit("refund", url(REFUND), VERIFIED, KEY_ID, pictures("refund"));
    visit("provisional", url(PROVISIONAL), VERIFIED, KEY_ID, Value::Null);
    visit("issued", url(ISSUED), VERIFIED, KEY_ID, Value::Null);
    visit("sparse", url(SPARSE), VERIFIED, KEY_ID, Value::Null);
    for place in 0..ODDS {
        let more = if place == 0 { json!({"picture": "odd"}) } else { Value::Null };
        visit(&format!("odd {place}"), url(ODD + place), VERIFIED, KEY_ID, more);
    }
    visit("the owner's", url(PRIVATE), VERIFIED, KEY_ID, json!({"cookie": "owner=yes", "picture": "owner"}));
    let public = format!("{}?view=public", url(PLAIN));
    visit("the owner as a stranger", public, VERIFIED, KEY_ID, json!({"cookie": "owner=yes"}));
    visit("hmac", url(HMAC), UNSUPPORTED, "signed with a secret", pictures("unsupported"));
    visit("a browser without Ed25519", url(PLAIN), UNSUPPORTED, "does not know Ed25519", json!({"without": "ed25519"}));
    visit("a browser without WebCrypto", url(PLAIN), UNSUPPORTED, "https pages only", json!({"without": "crypto"}));
    visit(
        "no script",
        url(PLAIN),
        "unchecked",
        "needs JavaScript",
        json!({"without": "script", "picture": "unchecked"}),
    );
    visit("private", url(PRIVATE), "", "", json!({"status": 404, "picture": "missing", "accessible": true}));
    visit("absent", url(99), "", "", json!({"status": 404}));
    visit("list", format!("http://{honest}/"), "", "", pictures("list"));
    visit("second page", format!("http://{honest}/ledger?limit=3&before=9"), "", "", Value::Null);
    for (name, change, state, reason) in CHANGES {
        let more = if name == "a member of the receipt" { pictures("failed") } else { Value::Null };
        let url = format!("http://{}/r/{}", site::start(Some(change)).await, id(PLAIN));
        visit(name, url, state, reason, more);
    }
    let slip: Change = |path, text| match is_page(path) {
        true => once(&text, "<main", "<img src=x onerror=\"window.broken=1\"><script>window.broken=1</script><main"),
        false => text,
    };
    let slipped = format!("http://{}/r/{}", site::start(Some(slip)).await, id(PLAIN));
    visit("a script that was slipped in", slipped, VERIFIED, KEY_ID, json!({"violations": true}));

    let mut command = node("page.mjs");
    command.arg(serde_json::to_string(&visits).unwrap());
    let seen = run(command).await;
    let seen = seen.as_array().unwrap();
    assert_eq!(seen.len(), visits.len());
    for (visit, seen) in visits.iter().zip(seen) {
        assert_eq!(seen["state"], visit["state"], "{visit} {seen}");
        let reason = seen["reason"].as_str().unwrap();
        assert!(reason.contains(visit["reason"].as_str().unwrap()), "{visit} {seen}");
        let status = visit.get("status").cloned().unwrap_or_else(|| 200.into());
        assert_eq!(seen["status"], status, "{visit}");
        assert_eq!(seen["broken"], false, "{visit}");
        // What the thief slipped in is reported; else nothing is.
        let expected = visit.get("violations").is_some();
        assert_eq!(seen["violations"].as_array().unwrap().is_empty(), !expected, "{visit} {seen}");
        let errors = seen["errors"].as_array().unwrap();
        let quiet = errors.is_empty() || expected || status == 404;
        assert!(quiet, "{visit} {seen}");
        assert_eq!(seen["left"], json!([]), "a request left: {visit} {seen}");
        assert_eq!(seen["unreadable"], json!([]), "{visit} {seen}");
        assert_eq!(seen["overflows"], false, "{visit}");
    }
}
