//! How answers of the ledger are made.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_LENGTH,
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, RETRY_AFTER, VARY,
        WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
    request::Parts,
};
use http_body_util::Full;
use serde_json::json;

use crate::{protocol::ContentDigest, store::StoreError};

pub(super) type Answer = Response<Bytes>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// What scripts of other origins may read beside the body.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Content-Digest, ETag, Link, Payment-Receipt-Digest, Payment-Receipt-Kid, Retry-After");
/// What decides who somebody is, as far as we can know.
const WHO: HeaderValue = HeaderValue::from_static("Authorization, Cookie");

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// How long an answer may be kept, and by whom.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
pub(super) const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");
pub(super) const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=86400, immutable");
pub(super) const SHORT: HeaderValue = HeaderValue::from_static("public, max-age=10");
pub(super) const MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// How long to wait when the store does not say.
const RETRY: Duration = Duration::from_secs(5);

/// Why a request is not served. It says nothing that its sender does not know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) message: &'static str,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, kind: &'static str, message: &'static str) -> Self {
        Self { status, kind, message, retry_after: None }
    }

    pub(super) const fn bad_request(kind: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, message)
    }

    pub(super) const fn unavailable() -> Self {
        let message = "The ledger cannot be read at the moment.";
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", message);
        Self { retry_after: Some(RETRY), ..refusal }
    }

    /// As JSON.
    pub(super) fn to_json(self) -> Answer {
        let body = json!({"error": {"type": self.kind, "message": self.message}});
        let mut answer = json(body.to_string(), NO_STORE);
        self.mark(&mut answer);
        answer
    }

    /// The status, and the headers that belong to it.
    pub(super) fn mark(self, answer: &mut Answer) {
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.remove(ETAG);
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: zero would mean "at once".
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ledger\""));
        }
    }
}

/// What cannot be read is not the same as what is not there.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(target: crate::trace::TARGET, kind = ?error.kind(), "the ledger's store failed");
        let refusal = Self::unavailable();
        Self { retry_after: error.retry_after().or(refusal.retry_after), ..refusal }
    }
}

/// An answer with a digest of its body and a name for this state of it.
pub(super) fn answer(body: impl Into<Bytes>, content_type: HeaderValue, cache: HeaderValue) -> Answer {
    let body = body.into();
    let digest = ContentDigest::of(&body);
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, cache);
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest.as_bytes()));
    insert(headers, ETAG, &tag);
    insert(headers, CONTENT_DIGEST, digest.encode(&mut [0; 54]));
    answer
}

pub(super) fn json(body: impl Into<Bytes>, cache: HeaderValue) -> Answer {
    answer(body, JSON, cache)
}

/// Inserts a text that has been made for a header.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// Lets scripts of other origins read it.
pub(super) fn open(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    answer
}

/// What all answers have in common, and what the method and the conditions of the request make of them.
pub(super) fn finish(head: &Parts, answer: Answer) -> Response<Full<Bytes>> {
    let (mut parts, mut body) = answer.into_parts();
    let headers = &mut parts.headers;
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(NOTHING);
    headers.entry(VARY).or_insert(WHO);
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    if reads && parts.status == StatusCode::OK && headers.get(ETAG).is_some_and(|tag| is_known(&head.headers, tag)) {
        parts.status = StatusCode::NOT_MODIFIED;
        headers.remove(CONTENT_TYPE);
        headers.remove(CONTENT_DIGEST);
        body = Bytes::new();
    } else if head.method == Method::HEAD {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        body = Bytes::new();
    }
    Response::from_parts(parts, Full::new(body))
}

/// Whether `If-None-Match` names this state (RFC 9110 section 13.1.2).
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let mut named = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    // Our own tags have no comma in them.
    named.any(|value| {
        value
            .split(',')
            .map(str::trim)
            .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes())
    })
}
