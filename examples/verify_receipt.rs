//! Checks a signed receipt, wherever it comes from.
//!
//! `cargo run --example verify_receipt -- https://receipts.example.com/r/8c5a4e2a-9b6d-4f3e-89a3-aa3e8b1f7fc3` fetches
//! a receipt and the public keys of who serves it. A file or `-` (standard input) needs `--keys <file or URL>`.
//!
//! Exit codes: 0 the receipt is good, 1 it is not, 2 it cannot be told, because something could not be fetched or
//! read.

#[path = "common/https.rs"]
#[allow(dead_code, reason = "for all examples")]
mod https;

use std::{
    fmt::Write as _,
    io::{self, Read as _},
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use clap::Parser;
use http::{Request, Uri, header::ACCEPT};
use http_body_util::{BodyExt as _, Empty, Limited};
use tower_mpp::receipt::{CanonicalError, Jwks, MAX_JSON_BYTES, ReceiptBody, Verified, VerifyError, verify_receipt};

/// For one fetch, from the name look-up to the last byte.
const LIMIT: Duration = Duration::from_secs(15);

/// Checks a signed receipt. Exit code 0: it is good; 1: it is not; 2: it cannot be told.
#[derive(Parser)]
struct Options {
    /// A file, a URL, or `-` for standard input
    receipt: String,
    /// The public keys of who has signed: a file or a URL. Those of who serves the receipt where it is a URL
    #[arg(long)]
    keys: Option<String>,
}

enum Outcome {
    Good(String),
    Bad(String),
    Unknown(String),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match check(Options::parse()).await {
        Outcome::Good(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Outcome::Bad(why) => {
            eprintln!("NOT VERIFIED: {why}");
            ExitCode::from(1)
        }
        Outcome::Unknown(why) => {
            eprintln!("cannot be told: {why}");
            ExitCode::from(2)
        }
    }
}

async fn check(options: Options) -> Outcome {
    match gather(options).await {
        Ok((receipt, keys, asked_for, keys_from)) => judge(&receipt, &keys, asked_for.as_deref(), &keys_from),
        Err(why) => Outcome::Unknown(why),
    }
}

/// The receipt, the keys, the id that was asked for, and where the keys are from.
async fn gather(options: Options) -> Result<(String, Jwks, Option<String>, String), String> {
    let Options { receipt, keys } = options;
    let url = is_url(&receipt).then(|| api_url(&receipt)).transpose()?;
    let keys_from = match (&url, keys) {
        (_, Some(keys)) => keys,
        (Some(url), None) => keys_url(url)?,
        (None, None) => return Err("say with --keys where the public keys of who has signed are".to_owned()),
    };
    let asked_for = url.as_deref().and_then(|url| url.rsplit_once("/v1/receipts/")).map(|(_, id)| id.to_owned());
    let text = read(url.as_deref().unwrap_or(&receipt)).await?;
    let keys = read(&keys_from).await?.parse().map_err(|error| format!("{keys_from}: {error}"))?;
    Ok((text, keys, asked_for, keys_from))
}

fn judge(receipt: &str, keys: &Jwks, asked_for: Option<&str>, keys_from: &str) -> Outcome {
    let verified = match verify_receipt(receipt, keys) {
        Ok(verified) => verified,
        Err(VerifyError::Canonical(error)) if error != CanonicalError::Duplicate => {
            return Outcome::Unknown(format!("the receipt cannot be read: {error}"));
        }
        Err(VerifyError::UnknownKey(name)) => {
            let name = name.escape_debug();
            return Outcome::Bad(format!("the key {name} that it names is not in {keys_from}"));
        }
        Err(VerifyError::Algorithm) => {
            return Outcome::Bad("it is not signed with Ed25519: only who has a secret could check it".to_owned());
        }
        Err(error) => return Outcome::Bad(error.to_string()),
    };
    // A good signature under another receipt answers another question.
    let id = verified.receipt.get("receipt_id").and_then(|id| id.as_str()).unwrap_or_default();
    if let Some(asked_for) = asked_for.map(|id| id.split('?').next().unwrap_or_default())
        && asked_for != id
    {
        return Outcome::Bad(format!("the receipt {} was sent for {asked_for}", id.escape_debug()));
    }
    Outcome::Good(summary(&verified, keys_from))
}

/// What was verified, and nothing else.
fn summary(verified: &Verified, keys_from: &str) -> String {
    let mut out = String::from("VERIFIED\n");
    let mut line = |name: &str, value: String| {
        if !value.trim().is_empty() {
            // Whoever has signed it may not write to the terminal as they like.
            let value: String = value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            let _ = writeln!(out, "  {name:<8} {value}");
        }
    };
    let body = verified.body().unwrap_or_default();
    line("receipt", body.receipt_id.map(|id| id.to_string()).unwrap_or_else(|| "(no id)".to_owned()));
    line("key", format!("{} of {keys_from}", verified.key_id));
    line("digest", verified.digest.to_string());
    line("made", body.created_at.map(|at| at.to_string()).unwrap_or_default());
    line("what", what(&body));
    line("parent", body.parent_receipt_id.map(|id| id.to_string()).unwrap_or_default());
    if let Some(paid) = &body.payment {
        let (method, intent) = (paid.method.as_str(), paid.intent.as_str());
        line("paid", format!("{} minor units of {}, by {method} {intent}", paid.amount, paid.currency));
    }
    if let (Some(input), Some(output)) = (body.input_tokens, body.output_tokens) {
        line("tokens", format!("{input} in, {output} out"));
    }
    match (body.cost_final_usd, body.cost_estimated_usd) {
        (Some(cost), _) => line("cost", format!("${cost}")),
        (None, Some(cost)) => line("cost", format!("about ${cost}")),
        (None, None) => {}
    }
    line("visible", body.visibility.as_str().to_owned());
    out
}

fn what(body: &ReceiptBody) -> String {
    let parts = [
        body.receipt_type.map(|receipt_type| receipt_type.as_str()),
        body.status.as_deref(),
        body.provider.map(|provider| provider.as_str()),
        body.model_id.as_deref(),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// What a person opens is a page; the receipt itself lies beside it.
fn api_url(url: &str) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|_| format!("{url}: this is no URL"))?;
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err("give a URL with a host and without a user name".to_owned());
    }
    let url = url.split('#').next().unwrap_or_default();
    Ok(match url.rsplit_once("/r/") {
        Some((base, id)) if !id.contains('/') => format!("{base}/v1/receipts/{id}"),
        _ => url.to_owned(),
    })
}

fn keys_url(url: &str) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|_| format!("{url}: this is no URL"))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => Ok(format!("{scheme}://{authority}/.well-known/receipt-keys.json")),
        _ => Err(format!("{url}: this is no URL with a host")),
    }
}

async fn read(place: &str) -> Result<String, String> {
    let text = if is_url(place) {
        tokio::time::timeout(LIMIT, fetch(place)).await.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")))
    } else {
        read_file(place).map_err(|error| error.to_string())
    };
    text.map_err(|why| format!("{place}: {why}"))
}

fn read_file(place: &str) -> io::Result<String> {
    let mut text = String::new();
    // One byte more than may be read, so that what is too long is found to be.
    let most = MAX_JSON_BYTES as u64 + 1;
    if place == "-" {
        io::stdin().take(most).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(place)?.take(most).read_to_string(&mut text)?;
    }
    Ok(text)
}

async fn fetch(url: &str) -> Result<String, String> {
    let client = https::client(Duration::from_secs(5)).map_err(|error| error.to_string())?;
    let request = Request::get(url).header(ACCEPT, "application/json").body(Empty::<Bytes>::new());
    let answer = client.request(request.map_err(|error| error.to_string())?).await;
    let answer = answer.map_err(|_| "nobody answers there".to_owned())?;
    if !answer.status().is_success() {
        return Err(format!("the answer is {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), MAX_JSON_BYTES).collect().await;
    let bytes = body.map_err(|error| error.to_string())?.to_bytes();
    String::from_utf8(bytes.into()).map_err(|_| "the answer is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};
    use tower_mpp::{
        protocol::Visibility,
        receipt::{Ed25519Signer, Receipts, SignedReceipt},
    };

    use super::*;

    async fn issued() -> (Receipts, SignedReceipt) {
        let signer = Ed25519Signer::from_seed("key-1", &[7; 32]).unwrap();
        let receipts = Receipts::builder("https://r.example", signer).build().unwrap();
        let body = ReceiptBody {
            visibility: Visibility::PublicMinimal,
            model_id: Some("a model\u{1b}[31m".to_owned()),
            input_tokens: Some(12),
            ..ReceiptBody::default()
        };
        let signed = receipts.issue(body).await.unwrap();
        (receipts, signed)
    }

    /// Serves what is given, whatever is asked for.
    async fn ledger(receipt: String, keys: String) -> String {
        let routes = Router::new()
            .route("/v1/receipts/{id}", get(|| async { receipt }))
            .route("/.well-known/receipt-keys.json", get(|| async { keys }))
            .route("/v1/receipts/moved", get(|| async { (StatusCode::FOUND, [("location", "/")]) }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    async fn outcome(receipt: String, keys: Option<String>) -> (u8, String) {
        match check(Options { receipt, keys }).await {
            Outcome::Good(text) => (0, text),
            Outcome::Bad(text) => (1, text),
            Outcome::Unknown(text) => (2, text),
        }
    }

    #[tokio::test]
    async fn a_page_is_enough_to_check_a_receipt() {
        let (receipts, signed) = issued().await;
        let keys = serde_json::to_string(&receipts.jwks()).unwrap();
        let url = ledger(signed.public_json().unwrap().to_owned(), keys.clone()).await;
        for page in [format!("{url}/r/{}", signed.id()), format!("{url}/v1/receipts/{}?view=x#top", signed.id())] {
            let (code, text) = outcome(page, None).await;
            assert_eq!(code, 0, "{text}");
            assert!(text.starts_with("VERIFIED\n") && text.contains(&signed.digest().to_string()), "{text}");
            assert!(!text.contains('\u{1b}'));
        }
        let (code, text) = outcome(format!("{url}/r/8c5a4e2a-9b6d-4f3e-89a3-aa3e8b1f7fc3"), None).await;
        assert_eq!(code, 1, "another receipt: {text}");
        assert_eq!(outcome(format!("{url}/r/moved"), None).await.0, 2);
        assert_eq!(outcome("http://127.0.0.1:1/r/x".to_owned(), None).await.0, 2);
        assert_eq!(outcome("http://user:secret@127.0.0.1:1/r/x".to_owned(), None).await.0, 2);

        let touched = signed.public_json().unwrap().replace("12", "13");
        let url = ledger(touched, keys).await;
        assert_eq!(outcome(format!("{url}/r/{}", signed.id()), None).await.0, 1);
        let none = ledger(signed.json().to_owned(), "{\"keys\":[]}".to_owned()).await;
        assert_eq!(outcome(format!("{none}/r/{}", signed.id()), None).await.0, 1);
        let endless = ledger(" ".repeat(MAX_JSON_BYTES + 1), "{\"keys\":[]}".to_owned()).await;
        assert_eq!(outcome(format!("{endless}/r/{}", signed.id()), None).await.0, 2);
    }

    #[tokio::test]
    async fn a_file_needs_keys() {
        let (receipts, signed) = issued().await;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let keys = serde_json::to_string(&receipts.jwks()).unwrap();
        for (name, content) in [("good", signed.json()), ("keys", &keys), ("bad", "{\"a\":1,\"a\":1}"), ("no", "x")] {
            std::fs::write(path(name), content).unwrap();
        }
        assert_eq!(outcome(path("good"), Some(path("keys"))).await.0, 0);
        assert_eq!(outcome(path("bad"), Some(path("keys"))).await.0, 1);
        for (receipt, keys) in [("no", Some("keys")), ("good", Some("no")), ("none", Some("keys")), ("good", None)] {
            assert_eq!(outcome(path(receipt), keys.map(path)).await.0, 2, "{receipt} {keys:?}");
        }
    }
}
