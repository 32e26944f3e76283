//! What agents read and pay for: observed from outside, with a stand-in for Stripe and one for the provider.

mod bedrock;
mod documents;
mod extras;
mod keyed;
mod merchant;
mod prxy;
mod quote;
mod states;
mod streams;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
    routing::any,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    gateway::Opened,
    harness::{app, opened, settings_with, upstream},
    stripe::{LIVE_KEY, SECRET_KEY, StripeStandIn},
    support::{self, Answer, Server, challenge, pay_with},
};

pub const MESSAGES: &str = "/v1/agent/messages";
pub const QUOTE: &str = "/v1/agent/quote";
/// Nobody but the provider may see it.
const PROVIDER_KEY: &str = "sk-ant-provider-secret";
pub const ACCOUNT: &str = "acct_1SCXoFBQFhC8k5Tn";

/// Three models at two prices, answered by the provider.
pub const MODELS: &str = r#"
[[models]]
id = "fast"
label = "Fast"
model = "anthropic/claude-haiku-4-5"
price = "0.50"
session_price = "0.05"
default = true
description = "Quick."
[[models]]
id = "balanced"
model = "anthropic/claude-sonnet-4-6"
aliases = ["sonnet"]
price = "0.50"
[[models]]
id = "coding"
model = "anthropic/claude-opus-4-7"
price = "1.50"
[[models]]
id = "old"
model = "anthropic/claude-2"
price = "0.50"
disabled = true
"#;

/// A provider that writes down what it is asked and answers as Anthropic's API does.
#[derive(Clone)]
pub struct Provider {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Call>>>,
    status: Arc<AtomicU16>,
    /// Pieces of the next answer that streams.
    stream: Arc<Mutex<Option<mpsc::UnboundedReceiver<&'static str>>>>,
}

/// A request as the provider got it.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Provider {
    pub async fn start() -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let mut provider = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            seen: Arc::default(),
            status,
            stream: Arc::default(),
        };
        let behind = provider.clone();
        let handler = any(move |request: Request| {
            let behind = behind.clone();
            async move { behind.answer(request).await }
        });
        provider.address = upstream(Router::new().fallback(handler)).await;
        provider
    }

    async fn answer(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let call = Call { method: head.method, target: head.uri.to_string(), headers: head.headers, body };
        self.seen.lock().unwrap().push(call);
        let status = StatusCode::from_u16(self.status.load(Ordering::SeqCst)).unwrap();
        if !status.is_success() {
            let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
            return (status, axum::Json(error)).into_response();
        }
        if let Some(pieces) = self.stream.lock().unwrap().take() {
            let pieces = futures_util::stream::unfold(pieces, |mut pieces| async move {
                let piece = pieces.recv().await?;
                Some((Ok::<_, Infallible>(Frame::data(Bytes::from(piece))), pieces))
            });
            return ([("content-type", "text/event-stream")], Body::new(StreamBody::new(pieces.boxed())))
                .into_response();
        }
        let usage = json!({"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0});
        axum::Json(json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"],
            "content": [{"type": "text", "text": "Hello."}],
            "stop_reason": "end_turn", "stop_sequence": null, "usage": usage,
        }))
        .into_response()
    }

    pub fn calls(&self) -> Vec<Call> {
        self.seen.lock().unwrap().clone()
    }

    pub fn fails_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// The next answer streams what is sent here.
    pub fn streams(&self) -> mpsc::UnboundedSender<&'static str> {
        let (send, receive) = mpsc::unbounded_channel();
        *self.stream.lock().unwrap() = Some(receive);
        send
    }
}

/// A merchant in this process, with a live key of the stand-in.
pub struct Shop {
    pub server: Server,
    pub stripe: StripeStandIn,
    pub provider: Provider,
}

/// The configuration of a merchant.
pub fn toml(stripe: &StripeStandIn, provider: &Provider, agent: &str, more: &str) -> String {
    format!(
        "realm = \"127.0.0.1\"\n{more}\n[rails.stripe]\nnetwork_id = \"profile_1\"\nrecipient = \"{ACCOUNT}\"\nbase_url = \"{}\"\n[agent]\n{agent}\nprovider = {{ kind = \"anthropic\", url = \"http://{}\", key_env = \"PROVIDER_KEY\" }}\n{MODELS}",
        stripe.base_url(),
        provider.address,
    )
}

pub const VARIABLES: [(&str, &str); 5] = [
    ("STRIPE_SECRET_KEY", LIVE_KEY),
    ("STRIPE_TEST_KEY", SECRET_KEY),
    ("PROVIDER_KEY", PROVIDER_KEY),
    ("MPP_SECRET_KEY", support::KEY),
    ("API_KEYS", "a-customers-key-of-32-characters, another-customers-key-of-some"),
];

impl Shop {
    pub async fn start() -> Self {
        Self::with("", "").await
    }

    /// With lines of `[agent]`, and other lines.
    pub async fn with(agent: &str, more: &str) -> Self {
        let (stripe, provider) = (StripeStandIn::start().await, Provider::start().await);
        let toml = toml(&stripe, &provider, agent, more);
        let server = serve(&toml).await;
        Self { server, stripe, provider }
    }

    pub async fn ask(&self, body: &str) -> Answer {
        self.server.send(Method::POST, MESSAGES, &[("content-type", "application/json")], body).await
    }

    /// A credential for what is asked for.
    pub async fn credential(&self, body: &str, token: &str) -> HeaderValue {
        let asked = self.ask(body).await;
        asked.assert_challenged("payment-required");
        pay_with(&challenge(&asked.headers), None, &json!({"spt": token}))
    }

    pub async fn pay(&self, credential: &HeaderValue, body: &str) -> Answer {
        self.server.pay(Method::POST, MESSAGES, credential, body).await
    }

    /// Pays for one call.
    pub async fn buy(&self, body: &str) -> Answer {
        let credential = self.credential(body, "spt_ok").await;
        self.pay(&credential, body).await
    }
}

/// A gateway of this process with a configuration, receipts included.
pub async fn serve(toml: &str) -> Server {
    let settings = settings_with(toml, &VARIABLES).unwrap_or_else(|error| panic!("{error}\n{toml}"));
    let opened = opened();
    let receipts = settings.receipts.as_ref().zip(opened.journal.ledger.clone());
    let receipts = receipts.map(|(receipts, ledger)| receipts.look(ledger, "127.0.0.1:1").unwrap());
    let provider = settings.agent.as_ref().and_then(|agent| agent.look().unwrap());
    Server::start(app(&settings, Opened { receipts, provider, ..opened }).unwrap()).await
}

/// A call of a model; the default one where it is empty.
pub fn call(model: &str) -> String {
    let model = if model.is_empty() { String::new() } else { format!("\"model\":\"{model}\",") };
    format!("{{{model}\"max_tokens\":16,\"messages\":[{{\"role\":\"user\",\"content\":\"Say hi\"}}]}}")
}

/// What a challenge asks for.
pub fn request_of(answer: &Answer) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(challenge(&answer.headers).request).unwrap()).unwrap()
}
