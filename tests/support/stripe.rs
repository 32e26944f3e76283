//! A stand-in for the part of Stripe's API that a merchant of Shared Payment Tokens needs, for tests and
//! demos without a network. Named so that nobody takes it for Stripe: it shows what this crate does with
//! Stripe's answers, not that Stripe gives them.
//!
//! Kept honest in three ways: `tests/stripe_standin.rs` pins its behaviour, Stripe's own SDKs can drive
//! it (see there), and its errors about tokens have the form that Stripe's test mode was seen to answer
//! (`invalid_request_error` with a message, without `code` and `param`).
//!
//! What happens to a payment is decided by the name of its token:
//!
//! | token | what happens |
//! |---|---|
//! | `spt_ok*` | succeeds |
//! | `spt_declined*`, `spt_insufficient*` | 402 `card_declined`, with decline code `generic_decline` or `insufficient_funds` |
//! | `spt_action*` | `requires_action`; [`StripeStandIn::payer_acts`] completes it |
//! | `spt_processing*` | `processing`; [`StripeStandIn::finish_processing`] completes it |
//! | `spt_expired*`, `spt_overlimit*` | 400 about the token |
//! | `spt_unauthorized*`, `spt_forbidden*`, `spt_ratelimited*` | 401, 403, 429 with `Retry-After: 7`, always |
//! | `spt_badrequest*` | 400 about another parameter |
//! | `spt_5xx*` | 500 before anything is done, once |
//! | `spt_stored5xx*` | charges, answers 500 and stores that answer |
//! | `spt_slow*` | succeeds after [`StripeStandIn::set_delay`] |
//! | `spt_drop_before*` | the connection is lost before anything is done, once |
//! | `spt_drop_twice*` | charges; the connection is lost without an answer, twice |
//! | `spt_drop*` | charges; the connection is lost without an answer, once |
//! | `spt_garbage*` | charges; the answer is HTML |
//! | `spt_wrongamount*` | charges one unit less than asked for |
//!
//! Any other token has to be granted first: `POST /v1/test_helpers/shared_payment/granted_tokens`.
//! `*refund_pending*`, `*refund_failed*`, `*refund_balance*` and `*refund_drop*` in a token's name decide
//! about the refund of its payment. With `capture_method=manual` what would succeed is held instead, and these
//! decide about its capture:
//!
//! | token | what happens |
//! |---|---|
//! | `*capture_declined*` | 402 `card_declined`; the money stays held |
//! | `*capture_lapsed*` | 400 `charge_expired_for_capture`; the PaymentIntent is cancelled |
//! | `*capture_ratelimited*` | 429, always |
//! | `*capture_5xx*` | 500 before anything is done, once |
//! | `*capture_stored5xx*` | captures, answers 500 and stores that answer |
//! | `*capture_drop_before*` | the connection is lost before anything is done, twice |
//! | `*capture_drop*` | captures; the connection is lost without an answer, twice |
//! | `*cancel_drop*` | cancels; the connection is lost without an answer, once |
#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]

// The path is spelt out because tests include this file from more than one place.
#[path = "stripe/state.rs"]
mod state;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use self::state::{State, Used};

/// The keys that are accepted.
pub const SECRET_KEY: &str = "sk_test_standin";
/// One that has the form of a live key: no money moves here.
pub const LIVE_KEY: &str = "sk_live_standin";

/// A running stand-in. It stops when it is dropped.
pub struct StripeStandIn {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    /// The form (or the query of a GET), in order.
    pub form: Vec<(String, String)>,
    /// 0 when the connection was dropped instead.
    pub status: u16,
}

impl Recorded {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Money that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub payment_intent: String,
    pub token: String,
    pub amount: u64,
    pub currency: String,
    pub account: Option<String>,
}

/// Money that moved back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    pub id: String,
    pub payment_intent: String,
    pub amount: u64,
}

impl StripeStandIn {
    /// Starts on a free port of the loopback interface.
    pub async fn start() -> Self {
        Self::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts on a given address.
    pub async fn bind(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let server = tokio::spawn(serve(listener, shared.clone()));
        Self { address, shared, server }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn charges(&self) -> Vec<Charge> {
        self.shared.state().charges.clone()
    }

    /// PaymentIntents whose money is held and neither captured nor cancelled.
    pub fn held(&self) -> Vec<String> {
        self.with_status("requires_capture")
    }

    pub fn cancelled(&self) -> Vec<String> {
        self.with_status("canceled")
    }

    fn with_status(&self, status: &str) -> Vec<String> {
        let state = self.shared.state();
        state.intents.iter().filter(|(_, intent)| intent["status"] == status).map(|(id, _)| id.clone()).collect()
    }

    /// Cancels what is held, as Stripe does after some days.
    pub fn let_lapse(&self) {
        let mut state = self.shared.state();
        for intent in state.intents.values_mut().filter(|intent| intent["status"] == "requires_capture") {
            state::cancel(intent, Some("automatic"));
        }
    }

    pub fn refunds(&self) -> Vec<Refund> {
        self.shared.state().refunds.iter().map(|refund| refund.record.clone()).collect()
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.state().requests.clone()
    }

    /// Requests that asked for a new PaymentIntent.
    pub fn creations(&self) -> Vec<Recorded> {
        let created = |r: &Recorded| r.method == "POST" && r.path == "/v1/payment_intents";
        self.requests().into_iter().filter(created).collect()
    }

    pub fn status_of(&self, payment_intent: &str) -> Option<String> {
        let state = self.shared.state();
        state.intents.get(payment_intent).map(|intent| intent["status"].as_str().unwrap().to_owned())
    }

    /// How long `spt_slow*` takes (default 300 ms).
    pub fn set_delay(&self, delay: Duration) {
        self.shared.state().delay = Some(delay);
    }

    /// All payments that are processing succeed.
    pub fn finish_processing(&self) {
        self.shared.state().succeed_all("processing");
    }

    /// All payers do what their bank asks of them.
    pub fn payer_acts(&self) {
        self.shared.state().succeed_all("requires_action");
    }

    /// From now on payers do so in the last moment before their payment is cancelled.
    pub fn acts_before_cancel(&self) {
        self.shared.state().acts_before_cancel = true;
    }

    /// As Stripe does with keys that are older than a day.
    pub fn forget_idempotency_keys(&self) {
        self.shared.state().keys.clear();
    }
}

impl Drop for StripeStandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(shared.clone(), request));
            // An error is a connection that was dropped on purpose, or by the client.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, &'static str> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| "body")?.to_bytes();
    let source = if parts.method == Method::GET { parts.uri.query().unwrap_or_default().as_bytes() } else { &body };
    let call = Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        form: form_urlencoded::parse(source).into_owned().collect(),
    };
    // Detached: what Stripe has begun it ends, whether or not anybody still listens.
    let reply = tokio::spawn(handle(shared.clone(), call)).await.map_err(|_| "panic")?;
    let Some(reply) = reply else { return Err("dropped on purpose") };
    let mut response = Response::builder()
        .status(reply.status)
        .header("content-type", reply.content_type())
        .header("request-id", shared.next("req_"));
    if reply.replayed {
        response = response.header("idempotent-replayed", "true");
    }
    if let Some(seconds) = reply.retry_after {
        response = response.header("retry-after", seconds);
    }
    Ok(response.body(Full::new(Bytes::from(reply.body))).unwrap())
}

/// `None`: the connection is lost.
async fn handle(shared: Arc<Shared>, call: Call) -> Option<Reply> {
    let outcome = at_the_door(&shared, &call).await;
    let executed = outcome.is_ok();
    let (Ok(reply) | Err(reply)) = outcome;
    let mut state = shared.state();
    let lost = reply.lost || (executed && state.loses(&call));
    state.requests.push(Recorded {
        method: call.method.to_string(),
        path: call.path,
        headers: call.headers,
        form: call.form,
        status: if lost { 0 } else { reply.status.as_u16() },
    });
    (!lost).then_some(reply)
}

/// Keys, rate limits and idempotency, in Stripe's order. `Err` is an answer that was not executed.
async fn at_the_door(shared: &Shared, call: &Call) -> Result<Reply, Reply> {
    if !call.is_authorized() || call.token().starts_with("spt_unauthorized") {
        return Err(error(401, json!({"type": "invalid_request_error", "message": "Invalid API Key provided."})));
    }
    if call.token().starts_with("spt_forbidden") {
        let message = "The provided key does not have the required permissions for this endpoint.";
        return Err(error(403, json!({"type": "invalid_request_error", "message": message})));
    }
    if call.token().starts_with("spt_ratelimited") {
        let mut reply = error(429, json!({"type": "invalid_request_error", "code": "rate_limit"}));
        reply.retry_after = Some(7);
        return Err(reply);
    }
    let key = call.header("idempotency-key").filter(|_| call.method == Method::POST);
    let Some(key) = key.map(|key| (call.account(), key.to_owned())) else {
        return execute(shared, call).await;
    };
    let print = format!("{} {:?}", call.path, call.form);
    {
        let mut state = shared.state();
        match state.keys.get(&key) {
            Some(used) if used.print != print => {
                let message = "Keys for idempotent requests can only be used with the same parameters they were \
                               first used with. Try using a key other than the one you sent if you meant to \
                               execute a different request.";
                return Err(error(400, json!({"type": "idempotency_error", "message": message})));
            }
            Some(Used { reply: Some(reply), .. }) => return Ok(Reply { replayed: true, ..reply.clone() }),
            Some(_) => {
                let message = "There is currently another in-progress request using this Idempotent Key.";
                let code = "idempotency_key_in_use";
                return Err(error(409, json!({"type": "idempotency_error", "code": code, "message": message})));
            }
            None => state.keys.insert(key.clone(), Used { print, reply: None }),
        };
    }
    let outcome = execute(shared, call).await;
    let mut state = shared.state();
    match &outcome {
        // Whatever was executed is stored, errors included.
        Ok(reply) => {
            if let Some(used) = state.keys.get_mut(&key) {
                used.reply = Some(reply.clone());
            }
        }
        Err(_) => drop(state.keys.remove(&key)),
    }
    outcome
}

async fn execute(shared: &Shared, call: &Call) -> Result<Reply, Reply> {
    let token = call.token();
    if call.path == "/v1/payment_intents" && call.method == Method::POST {
        if token.starts_with("spt_slow") {
            let delay = shared.state().delay.unwrap_or(Duration::from_millis(300));
            tokio::time::sleep(delay).await;
        }
        if token.starts_with("spt_5xx") && shared.state().first_time(token) {
            return Err(error(500, json!({"type": "api_error", "message": "Sorry, something went wrong."})));
        }
        if token.starts_with("spt_drop_before") && shared.state().first_time(token) {
            return Err(Reply { lost: true, ..error(500, json!({})) });
        }
    }
    if let Some(refused) = shared.state().refuses_capture(call) {
        return Err(refused);
    }
    let mut state = shared.state();
    let segments: Vec<&str> = call.path.trim_start_matches("/v1/").split('/').collect();
    match (call.method.as_str(), segments.as_slice()) {
        ("POST", ["payment_intents"]) => state.create_intent(shared, call),
        ("GET", ["payment_intents", "search"]) => state.search(call),
        ("GET", ["payment_intents", id]) => state.intent(id, call).map(|intent| ok(intent.clone())),
        ("POST", ["payment_intents", id, "cancel"]) => state.cancel(id, call),
        ("POST", ["payment_intents", id, "capture"]) => state.capture(id, call),
        ("POST", ["refunds"]) => state.create_refund(shared, call),
        ("GET", ["refunds"]) => Ok(state.list_refunds(call)),
        ("POST", ["test_helpers", "shared_payment", "granted_tokens"]) => state.grant(shared, call),
        ("POST", ["test_helpers", "shared_payment", "granted_tokens", id, "revoke"]) => state.revoke(id),
        ("GET", ["shared_payment", "granted_tokens", id]) => state
            .tokens
            .get(*id)
            .map(|token| ok(token.object()))
            .ok_or_else(|| no_such("shared_payment_granted_token", id, 404)),
        _ => Err(invalid(404, "Unrecognized request URL.", json!({}))),
    }
}

struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    form: Vec<(String, String)>,
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Stripe takes the key as the user of Basic, or as Bearer, which is what its SDKs send.
    fn is_authorized(&self) -> bool {
        let given = self.header("authorization").unwrap_or_default();
        let is = |key| given == basic(key) || given.strip_prefix("Bearer ") == Some(key);
        is(SECRET_KEY) || is(LIVE_KEY)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn account(&self) -> Option<String> {
        self.header("stripe-account").map(str::to_owned)
    }

    fn token(&self) -> &str {
        self.field("shared_payment_granted_token")
            .or_else(|| self.field("payment_method_data[shared_payment_granted_token]"))
            .unwrap_or_default()
    }

    /// The PaymentIntent of `POST /v1/payment_intents/{id}/{action}`.
    fn intent_in_path(&self, action: &str) -> Option<&str> {
        let rest = self.path.strip_prefix("/v1/payment_intents/").filter(|_| self.method == Method::POST)?;
        rest.strip_suffix(action)?.strip_suffix('/')
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let name = |key: &str| key.strip_prefix("metadata[")?.strip_suffix(']').map(str::to_owned);
        self.form.iter().filter_map(|(key, value)| Some((name(key)?, value.clone()))).collect()
    }

    /// Stripe refuses parameters that it does not know.
    fn only(&self, known: &[&str]) -> Result<(), Reply> {
        let is_known = |key: &str| key.starts_with("metadata[") || key.starts_with("expand[") || known.contains(&key);
        match self.form.iter().find(|(key, _)| !is_known(key)) {
            None => Ok(()),
            Some((key, _)) => Err(invalid(
                400,
                &format!("Received unknown parameter: {key}"),
                json!({"code": "parameter_unknown", "param": key}),
            )),
        }
    }

    fn required(&self, name: &str) -> Result<&str, Reply> {
        self.field(name).ok_or_else(|| {
            let code = "parameter_missing";
            invalid(400, &format!("Missing required param: {name}."), json!({"code": code, "param": name}))
        })
    }

    fn integer(&self, name: &str) -> Result<u64, Reply> {
        self.required(name)?.parse().map_err(|_| {
            let code = "parameter_invalid_integer";
            invalid(400, &format!("Invalid integer: {name}"), json!({"code": code, "param": name}))
        })
    }
}

#[derive(Clone)]
struct Reply {
    status: StatusCode,
    body: String,
    replayed: bool,
    retry_after: Option<u64>,
    lost: bool,
}

impl Reply {
    fn content_type(&self) -> &'static str {
        if self.body.starts_with('<') { "text/html" } else { "application/json" }
    }
}

fn ok(body: Value) -> Reply {
    Reply { status: StatusCode::OK, body: body.to_string(), replayed: false, retry_after: None, lost: false }
}

fn error(status: u16, error: Value) -> Reply {
    let status = StatusCode::from_u16(status).unwrap();
    Reply { status, ..ok(json!({ "error": error })) }
}

fn invalid(status: u16, message: &str, more: Value) -> Reply {
    let mut body = json!({"type": "invalid_request_error", "message": message});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    error(status, body)
}

fn no_such(what: &str, id: &str, status: u16) -> Reply {
    invalid(status, &format!("No such {what}: '{id}'"), json!({"code": "resource_missing"}))
}

fn basic(key: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("{key}:")))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ids: std::sync::atomic::AtomicU64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn next(&self, prefix: &str) -> String {
        format!("{prefix}{:016}", self.ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}
