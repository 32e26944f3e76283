//! Signed receipts: issued by the gateway, served by it, and checked by whoever wants to.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower_mpp::{
    method::SandboxKey,
    protocol::ContentDigest,
    receipt::{Jwks, RecipientSecret, open, verify_receipt},
};

use crate::{
    admin::TOKEN,
    harness::{Gateway, PATIENCE, settings, settings_with},
    support::{Answer, Server, challenge, pay_sandbox},
};

const KEYS: &str = "/.well-known/receipt-keys.json";
/// Nobody says this by chance.
const SAID: &str = "xylophone-4711 péché";

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn toml(receipts: &str) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\nrails.sandbox = true\n[receipts]\n{receipts}\n[[routes]]\npath = \"/v1/messages\"\nmethods = [\"POST\"]\nprice = \"0.50\"\n"
    )
}

fn message(stream: bool) -> String {
    json!({"model": "demo-fast", "stream": stream, "messages": [{"role": "user", "content": SAID}]}).to_string()
}

async fn credential(server: &Server, body: &str) -> HeaderValue {
    let asked = server.send(Method::POST, "/v1/messages", &[("content-type", "application/json")], body).await;
    asked.assert_challenged("payment-required");
    assert!(!asked.headers.contains_key("payment-receipt-kid"));
    pay_sandbox(&challenge(&asked.headers), &SandboxKey::generate())
}

/// Buys one message.
async fn buy(server: &Server) -> Answer {
    let body = message(false);
    let credential = credential(server, &body).await;
    let headers = [("content-type", "application/json"), ("authorization", credential.to_str().unwrap())];
    let paid = server.send(Method::POST, "/v1/messages", &headers, &body).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    paid
}

/// The path of the receipt that an answer names.
fn receipt_path(paid: &Answer) -> String {
    let url = paid.receipt().extra["receiptUrl"].as_str().unwrap().to_owned();
    let id = url.rsplit_once("/r/").unwrap().1.to_owned();
    format!("/v1/receipts/{id}")
}

async fn keys(server: &Server) -> Jwks {
    let keys = server.get(KEYS).await;
    assert_eq!((keys.status.as_u16(), keys.header("content-type")), (200, Some("application/jwk-set+json")));
    keys.text().parse().unwrap()
}

/// The receipt that an answer names, as a stranger sees it, checked.
async fn check(server: &Server, paid: &Answer) -> Value {
    let fetched = server.get(&receipt_path(paid)).await;
    assert_eq!(fetched.status, 200, "{fetched:?}");
    let verified = verify_receipt(fetched.text(), &keys(server).await).unwrap();
    assert_eq!(paid.header("payment-receipt-digest"), Some(verified.digest.to_string().as_str()));
    assert_eq!(paid.header("payment-receipt-kid"), Some(verified.key_id.as_str()));
    verified.receipt
}

#[tokio::test]
async fn the_demo_signs_every_paid_call_and_shows_it() {
    let gateway = Gateway::start().await;
    let server = gateway.client();
    let paid = buy(&server).await;
    let receipt = check(&server, &paid).await;
    assert_eq!(receipt["model_id"], "demo-fast");
    assert_eq!(receipt["status"], "succeeded");
    assert_eq!(receipt["http_status"], 200);
    assert_eq!(receipt["payment"]["amount"], "50");
    assert_eq!(receipt["environment"], "test");
    assert_eq!(receipt["client_response_hash"], format!("sha256-{}", hex(&ContentDigest::of(&paid.body))));
    assert!(receipt["output_tokens"].as_u64().unwrap() > 5);
    // Its page, the list, and what a program asks for.
    let page = server.get(&receipt_path(&paid).replace("/v1/receipts/", "/r/")).await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "{page:?}");
    let list = server.get("/ledger").await;
    assert!(list.text().contains(receipt["receipt_id"].as_str().unwrap()));
    assert!(server.get("/v1/receipts/public").await.text().contains(receipt["receipt_id"].as_str().unwrap()));
    assert_eq!(server.get("/leaderboard.json").await.status, 200);
    let verdict = server.get(&receipt_path(&paid)).await;
    let verdict = server.send(Method::POST, "/v1/receipts/verify", &[], verdict.text()).await;
    assert_eq!(verdict.json()["verified"], true);
    let (ended, folder) = gateway.stop().await;
    assert!(ended.stdout.contains("Every paid call gets a signed receipt: http://127.0.0.1:"), "{}", ended.stdout);
    let mode = fs::metadata(folder.path().join("data/receipt.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn receipts_outlive_a_kill_and_verify_after_a_change_of_keys() {
    let gateway = Gateway::configured(folder(), &toml("visibility = \"public_full\""), &[]).await;
    let paid = buy(&gateway.client()).await;
    check(&gateway.client(), &paid).await;
    let old = gateway.client().get(KEYS).await.text().to_owned();
    let (_, folder) = gateway.kill().await;

    // Another key, and the old one is still listed.
    fs::rename(folder.path().join("data/receipt.key"), folder.path().join("old.key")).unwrap();
    fs::write(folder.path().join("old.json"), &old).unwrap();
    let lines = "visibility = \"public_full\"\nprevious_keys = \"old.json\"";
    let gateway = Gateway::configured(folder, &toml(lines), &[]).await;
    let server = gateway.client();
    let receipt = check(&server, &paid).await;
    let newer = check(&server, &buy(&server).await).await;
    assert_ne!(receipt["signing_key_id"], newer["signing_key_id"]);
    assert_eq!(keys(&server).await.keys.len(), 2);
    let (_, folder) = gateway.stop().await;

    // It is listed no more.
    let gateway = Gateway::configured(folder, &toml("visibility = \"public_full\""), &[]).await;
    let server = gateway.client();
    let fetched = server.get(&receipt_path(&paid)).await;
    assert!(verify_receipt(fetched.text(), &keys(&server).await).unwrap_err().to_string().contains("not listed"));
    let verdict = server.send(Method::POST, "/v1/receipts/verify", &[], fetched.text()).await;
    assert_eq!(verdict.json()["verified"], false);
}

#[tokio::test]
async fn private_receipts_are_the_operators() {
    let gateway = Gateway::configured(folder(), &toml(""), &[("GATEWAY_ADMIN_TOKEN", TOKEN)]).await;
    let server = gateway.client();
    let paid = buy(&server).await;
    let path = receipt_path(&paid);
    let stranger = server.get(&path).await;
    assert_eq!((stranger.status.as_u16(), stranger.json()["error"]["type"].clone()), (404, json!("receipt_not_found")));
    assert_eq!(server.get(&path.replace("/v1/receipts/", "/r/")).await.status, 404);
    let bearer = format!("Bearer {TOKEN}");
    let owned = server.send(Method::GET, &path, &[("authorization", &bearer)], "").await;
    assert_eq!(owned.status, 200);
    let verified = verify_receipt(owned.text(), &keys(&server).await).unwrap();
    assert_eq!(paid.header("payment-receipt-digest"), Some(verified.digest.to_string().as_str()));
    assert_eq!(verified.receipt["payment"]["reference"], paid.receipt().reference.as_str());
    assert_eq!(server.get("/v1/receipts/public").await.json()["receipts"], json!([]));
}

#[tokio::test]
async fn the_form_of_the_header_is_chosen() {
    let lines = "visibility = \"public_minimal\"\nheader = \"url\"\nbase_url = \"https://receipts.example.com\"\nname = \"example\"\nkey_id = \"example-2026-q4\"";
    let gateway = Gateway::configured(folder(), &toml(lines), &[]).await;
    let server = gateway.client();
    let paid = buy(&server).await;
    let url = paid.header("payment-receipt").unwrap();
    let id = url.strip_prefix("https://receipts.example.com/r/").unwrap();
    assert_eq!(paid.headers.get_all("payment-receipt").iter().count(), 1);
    assert_eq!(paid.header("payment-receipt-kid"), Some("example-2026-q4"));
    assert!(paid.headers.contains_key("payment-receipt-mpp"));
    let keys = server.get("/.well-known/example-receipt-keys.json").await.text().parse().unwrap();
    let fetched = server.get(&format!("/v1/receipts/{id}")).await;
    verify_receipt(fetched.text(), &keys).unwrap();
    assert_eq!(server.get(KEYS).await.status, 404);
}

#[tokio::test]
async fn a_stream_ends_with_its_final_receipt() {
    let gateway = Gateway::configured(folder(), &toml("visibility = \"public_full\""), &[]).await;
    let server = gateway.client();
    let body = message(true);
    let credential = credential(&server, &body).await;
    // By hand: what is on the wire, trailers included.
    let mut socket = gateway.connect().await;
    let request = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: close\r\ncontent-type: application/json\r\nauthorization: {}\r\ncontent-length: {}\r\n\r\n{body}",
        credential.to_str().unwrap(),
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
    for expected in ["200 OK", "payment-receipt-provisional: true", "payment-receipt-digest: sha-256=:", "trailer: "] {
        assert!(head.contains(expected), "{expected} is not in {head}");
    }
    let (stream, trailers) = rest.rsplit_once("\r\n0\r\n").unwrap();
    let last = stream.rsplit_once("event: ").unwrap().1;
    assert!(last.starts_with("payment-receipt\n"), "{stream}");
    assert!(stream.find("message_stop").unwrap() < stream.find("event: payment-receipt").unwrap());
    let trailer = |name: &str| {
        let mut lines = trailers.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no {name} in {trailers}")).1.to_owned()
    };
    let (digest, kid) = (trailer("payment-receipt-digest"), trailer("payment-receipt-kid"));
    let data: Value = serde_json::from_str(last.split_once("data: ").unwrap().1.lines().next().unwrap()).unwrap();
    assert_eq!((&data["receiptDigest"], &data["receiptKid"]), (&json!(digest), &json!(kid)));
    let id = data["receiptUrl"].as_str().unwrap().rsplit_once("/r/").unwrap().1;
    let fetched = server.get(&format!("/v1/receipts/{id}")).await;
    let verified = verify_receipt(fetched.text(), &keys(&server).await).unwrap();
    assert_eq!((verified.digest.to_string(), verified.receipt["status"].clone()), (digest, json!("succeeded")));
}

fn hex(digest: &ContentDigest) -> String {
    digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text is in any file below a folder, or in what the program said.
fn is_written(folder: &Path, said: &[&str], text: &str) -> bool {
    let found = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    said.iter().any(|said| found(said.as_bytes())) || files.into_iter().any(|file| found(&fs::read(file).unwrap()))
}

#[tokio::test]
async fn payloads_are_not_written_where_others_can_read_them() {
    let secret = RecipientSecret::random();
    let encrypted = format!(
        "visibility = \"private\"\ncapture = \"encrypted_at_rest\"\nencryption_key = \"{}\"",
        URL_SAFE_NO_PAD.encode(secret.recipient().public_key())
    );
    for lines in ["capture = \"hash_only\"", "capture = \"none\"", &encrypted] {
        let gateway = Gateway::configured(folder(), &toml(lines), &[("GATEWAY_ADMIN_TOKEN", TOKEN)]).await;
        let server = gateway.client();
        let paid = buy(&server).await;
        let bearer = format!("Bearer {TOKEN}");
        let owned = server.send(Method::GET, &receipt_path(&paid), &[("authorization", &bearer)], "").await;
        let receipt = verify_receipt(owned.text(), &keys(&server).await).unwrap().receipt;
        let (ended, folder) = gateway.stop().await;
        let data = folder.path().join("data");
        // The search finds what is there.
        assert!(is_written(&data, &[], receipt["receipt_id"].as_str().unwrap()), "{lines}");
        for text in ["xylophone-4711", "your payment worked, and no model was asked"] {
            assert!(!is_written(&data, &[&ended.stdout, &ended.stderr], text), "{lines}: {text} is written");
        }
        match receipt["payload_capture"].as_str().unwrap() {
            "encrypted_at_rest" => {
                let opened = |name: &str| open(&secret, receipt[name].as_str().unwrap()).unwrap();
                assert_eq!(opened("encrypted_request_blob"), message(false).as_bytes());
                assert_eq!(opened("encrypted_response_blob"), &*paid.body);
                assert_eq!(receipt["encryption_pubkey_fingerprint"], secret.recipient().fingerprint());
            }
            "hash_only" => {
                let digest = ContentDigest::of(message(false).as_bytes());
                assert_eq!(receipt["client_request_hash"], format!("sha256-{}", hex(&digest)));
            }
            _ => assert_eq!(
                (&receipt["client_request_hash"], &receipt["client_response_hash"]),
                (&json!(null), &json!(null))
            ),
        }
    }
}

#[test]
fn what_cannot_be_is_named() {
    assert!(settings(&toml("")).is_ok());
    let route = |path: &str| format!("{}[[routes]]\npath = \"{path}\"\nfree = true\n", toml(""));
    for (text, variables, expected) in [
        (toml("visibility = \"secret\""), &[][..], "visibility"),
        (toml("colour = \"red\""), &[], "unknown field `colour`"),
        (toml("capture = \"encrypted_at_rest\""), &[], "gateway.toml: receipts.encryption_key: it is not set"),
        (toml("encryption_key = \"AAAA\""), &[], "gateway.toml: receipts.encryption_key: nothing is encrypted"),
        (
            toml("capture = \"encrypted_at_rest\"\nencryption_key = \"AAAA\""),
            &[],
            "receipts.encryption_key: it is no X25519 public key",
        ),
        (toml("previous_keys = \"nowhere.json\""), &[], "receipts.previous_keys: nowhere.json: "),
        (toml("ledger = \"\""), &[], "receipts.ledger: it is empty"),
        (toml("ledger = \"a\"\nledger_env = \"B\""), &[], "receipts: give ledger or ledger_env, not both"),
        (toml("ledger_env = \"NOT_SET\""), &[], "NOT_SET: the environment variable is not set"),
        (toml(""), &[("GATEWAY_STORE", "redis://127.0.0.1:1")], "receipts.ledger: Redis keeps no receipts"),
        (route("/r/{id}"), &[], "routes[1].path: /r/{id} is the gateway's own"),
        (route("/r/{other}"), &[], "routes[1].path: /r/{other} cannot be told apart from /r/{id}"),
        (route(KEYS), &[], "is the gateway's own"),
    ] {
        let error = settings_with(&text, variables).err().unwrap_or_else(|| panic!("accepted: {text}"));
        assert!(error.contains(expected), "expected {expected:?}, said {error:?}");
    }
}
