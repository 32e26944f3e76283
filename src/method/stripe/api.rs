//! A client for the few calls that are made to Stripe. It never follows a redirect, bounds every wait
//! and every buffer, and keeps what was certainly not sent apart from what may have been.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;
use zeroize::Zeroizing;

/// A PaymentIntent with everything in it has about 4 KB.
const MAX_BODY: usize = 256 * 1024;
const POOL_IDLE: Duration = Duration::from_secs(60);
const POOL_SIZE: usize = 64;
/// However long Stripe asks to wait: clients are not told to wait longer.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

pub(super) struct Api {
    client: Client<Timed<HttpsConnector<HttpConnector>>, Full<Bytes>>,
    base: String,
    /// `Basic <base64 of key:>`.
    authorization: Zeroizing<String>,
    version: HeaderValue,
    account: Option<HeaderValue>,
}

/// What came back.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// The stored answer to an earlier request with the same idempotency key.
    pub(super) replayed: bool,
    pub(super) retry_after: Option<Duration>,
    /// `Request-Id`: what Stripe's support asks for.
    pub(super) request_id: Option<String>,
    pub(super) body: Bytes,
}

/// Nothing readable came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// There was no connection, so Stripe has certainly not seen the request.
    NotSent,
    /// The connection was lost, or the answer was too large, after the request may have been seen.
    Lost,
    /// No answer in time; the request may have been seen.
    TimedOut,
}

impl CallError {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "no connection to Stripe",
            Self::Lost => "the connection to Stripe was lost",
            Self::TimedOut => "Stripe did not answer in time",
        }
    }
}

impl Api {
    pub(super) fn new(
        base: String,
        secret_key: &str,
        version: HeaderValue,
        account: Option<HeaderValue>,
        connect_timeout: Duration,
    ) -> Result<Self, &'static str> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let builder = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(|_| "no TLS: the cryptography provider has no usable protocol version")?;
        let builder = if base.starts_with("https://") { builder.https_only() } else { builder.https_or_http() };
        let connector = Timed { inner: builder.enable_http1().wrap_connector(tcp), timeout: connect_timeout };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .build(connector);
        let pair = Zeroizing::new(format!("{secret_key}:"));
        let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        let authorization = Zeroizing::new(format!("Basic {}", encoded.as_str()));
        Ok(Self { client, base, authorization, version, account })
    }

    /// Repeating a POST with the same key has no further effect.
    pub(super) async fn post(
        &self,
        path: &str,
        idempotency_key: &str,
        form: String,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        // The key contains the token: a bearer secret.
        let mut key = HeaderValue::from_str(idempotency_key).map_err(|_| CallError::NotSent)?;
        key.set_sensitive(true);
        headers.insert("idempotency-key", key);
        self.send(Method::POST, path, headers, Bytes::from(form), deadline).await
    }

    pub(super) async fn get(&self, path: &str, deadline: Instant) -> Result<Reply, CallError> {
        self.send(Method::GET, path, HeaderMap::new(), Bytes::new(), deadline).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        let mut authorization = HeaderValue::from_str(&self.authorization).map_err(|_| CallError::NotSent)?;
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        headers.insert("stripe-version", self.version.clone());
        if let Some(account) = &self.account {
            headers.insert("stripe-account", account.clone());
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tower-mpp/", env!("CARGO_PKG_VERSION"))));

        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.base).parse().map_err(|_| CallError::NotSent)?;
        *request.headers_mut() = headers;

        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                // Everything after the connection may have reached Stripe.
                if error.is_connect() { CallError::NotSent } else { CallError::Lost }
            })?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_| CallError::Lost)?.to_bytes();
            Ok(Reply::new(parts.status, &parts.headers, body))
        };
        timeout_at(deadline, exchange).await.unwrap_or(Err(CallError::TimedOut))
    }
}

impl Reply {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status,
            replayed: text("idempotent-replayed").is_some_and(|value| value.eq_ignore_ascii_case("true")),
            retry_after: text(RETRY_AFTER.as_str()).and_then(retry_after),
            request_id: text("request-id").map(|id| word(id).to_owned()),
            body,
        }
    }
}

/// `Retry-After` in whole seconds, which is what Stripe sends: at least one, at most a minute.
fn retry_after(value: &str) -> Option<Duration> {
    let seconds: u64 = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.max(1)).min(MAX_RETRY_AFTER))
}

/// The part of a text that is safe in a log: what Stripe's ids and codes consist of, at most 64 bytes.
pub(super) fn word(text: &str) -> &str {
    let end = text.bytes().take(64).take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
    text.get(..end).unwrap_or_default()
}

/// Bounds name look-up, TCP and TLS together.
#[derive(Clone)]
struct Timed<C> {
    inner: C,
    timeout: Duration,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<C> Service<Uri> for Timed<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = timeout(self.timeout, self.inner.call(uri));
        Box::pin(async move { connecting.await? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_bounded() {
        assert_eq!(retry_after("0"), Some(Duration::from_secs(1)));
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("86400"), Some(MAX_RETRY_AFTER));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(retry_after("-1"), None);
    }

    #[test]
    fn what_is_logged_has_no_surprises() {
        assert_eq!(word("req_1-a"), "req_1-a");
        assert_eq!(word("card_declined\nINFO fake line"), "card_declined");
        assert_eq!(word(&"a".repeat(100)).len(), 64);
        assert_eq!(word("é"), "");
    }
}
