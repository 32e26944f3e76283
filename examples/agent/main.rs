//! An agent that pays, and says what happens step by step.
//!
//! ```text
//! cargo run --example gateway
//! cargo run --example agent -- -d '{"model":"demo-fast","messages":[{"role":"user","content":"Hello"}]}' \
//!     http://127.0.0.1:8402/v1/messages
//! ```
//!
//! The steps stand on standard error, the body of the answer on standard output, as it comes. The agent
//! pays with the sandbox: an Ed25519 key and play money. With `--key FILE` the key is kept there.
//!
//! This is also what there is to know about the client's side of the protocol: ask; read the challenges
//! of the 402; decide whether that is what you want to buy; answer one of them; send the very same
//! request again with the credential. From then on there is one rule: *never make a second credential
//! for the same request by reflex*. Whatever fails, the same credential can be sent again, and is not
//! charged twice.

use std::{error::Error, io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use tokio::time::{Instant, sleep, timeout};
use tower_mpp::protocol::{PAYMENT_OUTCOME, PAYMENT_RECEIPT, Receipt, authorization};

#[path = "../common/mod.rs"]
mod common;
mod offer;
mod wallet;

use self::{
    common::https::{self, Connector},
    offer::{Expectation, Offer},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// How long to go on with one credential whose outcome is open. A merchant may hold on to it for a
/// minute after a connection was lost.
const PATIENCE: Duration = Duration::from_secs(120);
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// Asks for a resource, pays what it costs, and shows how that goes.
#[derive(Parser)]
#[command(name = "agent")]
struct Arguments {
    /// What to ask for; plain http only on this machine
    url: Uri,
    /// HTTP method [default: GET, or POST with a body]
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<Method>,
    /// A header, "name: value"; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header_line)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; JSON unless a content-type is given
    #[arg(short, long = "data", value_name = "BODY")]
    data: Option<String>,
    /// Keep the sandbox key in this file (made when absent); without it every run is another payer
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The most to pay, in --currency
    #[arg(long, value_name = "AMOUNT", default_value = "1.00")]
    max: String,
    /// The currency to pay in
    #[arg(long, value_name = "CODE", default_value = "usd")]
    currency: String,
    /// The realm to deal with [default: the host of the URL]
    #[arg(long)]
    realm: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(status) if status.is_success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("agent: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<StatusCode, Box<dyn Error>> {
    refuse_cleartext(&arguments.url)?;
    let expectation =
        Expectation::new(&arguments.url, arguments.realm.as_deref(), &arguments.max, &arguments.currency)?;
    let key = wallet::open(arguments.key.as_deref())?;
    let agent = Agent::new(arguments)?;

    // 1. Ask.
    let response = agent.send(None).await?;
    if response.status() != StatusCode::PAYMENT_REQUIRED {
        say("nothing to pay");
        return agent.finish(response).await;
    }

    // 2. Read the challenges, and decide.
    let offers = Offer::all(response.headers())?;
    explain(response).await;
    for offer in &offers {
        say(&format!("  {offer}"));
    }
    let offer = expectation.choose(&offers, agent.body.as_ref())?;

    // 3. Answer one of them.
    let challenge = &offer.challenge;
    if challenge.digest.is_some() {
        say("  it is bound to this body: the digest is right");
    }
    say(&format!("paying {} as {}", offer.price, key.did()));
    let credential = authorization(challenge, Some(&key.did()), &key.payload(&challenge.id))?;

    // 4. The same request, byte for byte, with the credential; and again with the same credential until
    //    there is an answer.
    let response = agent.redeem(&credential).await?;
    agent.finish(response).await
}

/// A request that can be sent any number of times.
struct Agent {
    client: Client<Connector, Full<Bytes>>,
    method: Method,
    url: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Agent {
    fn new(arguments: Arguments) -> Result<Self, Box<dyn Error>> {
        let method = match (arguments.method, &arguments.data) {
            (Some(method), _) => method,
            (None, Some(_)) => Method::POST,
            (None, None) => Method::GET,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static("tower-mpp-agent"));
        headers.extend(arguments.headers);
        if arguments.data.is_some() && !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(Self {
            client: https::client(CONNECT_TIMEOUT)?,
            method,
            url: arguments.url,
            headers,
            body: arguments.data.unwrap_or_default().into(),
        })
    }

    async fn send(&self, credential: Option<&HeaderValue>) -> Result<Response<Incoming>, Box<dyn Error>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(credential) = credential {
            request.headers_mut().append(header::AUTHORIZATION, credential.clone());
        }
        let with = if credential.is_some() { " with the credential" } else { "" };
        say(&format!("> {} {}{with}", self.method, self.url));
        let response = timeout(ANSWER_TIMEOUT, self.client.request(request)).await.map_err(|_| "no answer in time")?;
        let response = response.map_err(|error| with_sources(&error))?;
        say(&format!("< {}", response.status()));
        Ok(response)
    }

    /// Sends the credential until it has bought an answer or was refused for good.
    async fn redeem(&self, credential: &HeaderValue) -> Result<Response<Incoming>, Box<dyn Error>> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let pause = match self.send(Some(credential)).await {
                Ok(response) => match pause_before_repeating(&response) {
                    Some(pause) if Instant::now() + pause < give_up => {
                        explain(response).await;
                        pause
                    }
                    _ => return Ok(response),
                },
                // The payment may have gone through: only the same credential can tell.
                Err(error) if Instant::now() + DEFAULT_PAUSE < give_up => {
                    say(&format!("  {error}"));
                    DEFAULT_PAUSE
                }
                Err(error) => return Err(error),
            };
            say(&format!("  the same credential again in {pause:?}; it is not charged twice"));
            sleep(pause).await;
        }
    }

    /// Shows the receipt, and the body as it comes.
    async fn finish(&self, response: Response<Incoming>) -> Result<StatusCode, Box<dyn Error>> {
        let (head, mut body) = response.into_parts();
        if let Some(advice) = advice(head.status, &head.headers) {
            say(&format!("  {advice}"));
        }
        if let Some(value) = head.headers.get(PAYMENT_RECEIPT) {
            show_receipt(value.to_str()?);
        }
        let mut out = std::io::stdout();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(|error| with_sources(&error))?.into_data() {
                out.write_all(&data)?;
                out.flush()?;
            }
        }
        Ok(head.status)
    }
}

/// A receipt of the core draft, or what else a merchant says instead of one: where a signed one is, or the
/// reference of the rail. It was paid, so nothing of it is an error any more.
fn show_receipt(value: &str) {
    let Ok(receipt) = Receipt::parse(value) else {
        say(&format!("  receipt: {}", printable(value)));
        return;
    };
    let (reference, method) = (printable(&receipt.reference), &receipt.method);
    say(&format!("  receipt: {reference} by {method} at {}", receipt.timestamp));
    if let Some(url) = receipt.extra.get("receiptUrl").and_then(|url| url.as_str()) {
        say(&format!("  signed receipt: {}", printable(url)));
    }
}

/// Credentials and receipts are bearer data: over plain HTTP anybody on the way can read them.
fn refuse_cleartext(url: &Uri) -> Result<(), String> {
    let host = url.host().ok_or("give an absolute URL: http(s)://host/path")?;
    match url.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if offer::is_loopback(host) => Ok(()),
        Some("http") => Err(format!("{host} is not on this machine: payments go over https only")),
        _ => Err("the URL is neither http nor https".into()),
    }
}

/// Whether the same credential may yet buy an answer, and when to try.
fn pause_before_repeating<B>(response: &Response<B>) -> Option<Duration> {
    let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let asked = asked.map(Duration::from_secs);
    match response.status() {
        StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE if asked.is_some() => asked,
        // Paid, but the service failed. A request that is itself wrong (4xx) is not better the next time.
        status if status.is_server_error() && is_redeliverable(response.headers()) => {
            Some(asked.unwrap_or(DEFAULT_PAUSE))
        }
        _ => None,
    }
}

fn is_redeliverable(headers: &HeaderMap) -> bool {
    headers.get(PAYMENT_OUTCOME).is_some_and(|outcome| outcome == "redeliverable")
}

/// What the user may not guess from the status.
fn advice(status: StatusCode, headers: &HeaderMap) -> Option<&'static str> {
    match status {
        _ if is_redeliverable(headers) => {
            Some("paid, but not delivered: the same credential is good again until some time after its challenge ends")
        }
        StatusCode::PAYMENT_REQUIRED => Some("not accepted, and nothing was charged; I do not pay again by myself"),
        StatusCode::FORBIDDEN => Some("refused: a credential buys one answer, or the service does not deal with us"),
        StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE => {
            Some("the outcome is still open; do not pay again before you know it")
        }
        _ => None,
    }
}

/// Shows what a problem document says.
async fn explain(response: Response<Incoming>) {
    let Ok(body) = Limited::new(response.into_body(), MAX_PROBLEM_BYTES).collect().await else { return };
    let problem: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    if let Some(detail) = problem.get("detail").and_then(|detail| detail.as_str()) {
        say(&format!("  {}", printable(detail)));
    }
}

/// What comes from a server may hold control sequences of terminals.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// Standard error may be closed; that is no reason to stop in the middle of a payment.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn header_line(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = line.split_once(':').ok_or("write \"name: value\"")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is no header name"))?;
    let value = value.trim().parse().map_err(|_| "the value cannot stand in a header")?;
    Ok((name, value))
}
