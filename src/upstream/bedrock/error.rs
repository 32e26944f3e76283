//! Errors in Anthropic's shape, and what they mean for the money.

use std::fmt::{self, Write as _};

use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use serde::Serialize;

use super::super::{Body, Report};

/// The kinds of error of Anthropic's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnthropicErrorKind {
    /// The request is not as it must be.
    InvalidRequest,
    /// Nobody knows who asks.
    Authentication,
    /// The payment is missing or not good.
    Billing,
    /// Whoever asks may not.
    Permission,
    /// There is no such thing here.
    NotFound,
    /// The request is too large.
    RequestTooLarge,
    /// Too many requests of this client.
    RateLimit,
    /// Something went wrong on this side.
    Api,
    /// The answer did not come in time.
    Timeout,
    /// There is too much to do on this side.
    Overloaded,
}

impl AnthropicErrorKind {
    /// As it stands in `error.type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request_error",
            Self::Authentication => "authentication_error",
            Self::Billing => "billing_error",
            Self::Permission => "permission_error",
            Self::NotFound => "not_found_error",
            Self::RequestTooLarge => "request_too_large",
            Self::RateLimit => "rate_limit_error",
            Self::Api => "api_error",
            Self::Timeout => "timeout_error",
            Self::Overloaded => "overloaded_error",
        }
    }

    /// The status that goes with it, as Anthropic has it: 529 where there is too much to do.
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Authentication => StatusCode::UNAUTHORIZED,
            Self::Billing => StatusCode::PAYMENT_REQUIRED,
            Self::Permission => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimit => StatusCode::TOO_MANY_REQUESTS,
            Self::Api => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Overloaded => StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

impl fmt::Display for AnthropicErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as Anthropic's API answers it, `{"type":"error","error":{"type":...,"message":...},"request_id":...}`:
/// what clients of that API understand. A merchant can answer its own refusals with it too.
///
/// ```
/// # use tower_mpp::upstream::bedrock::{AnthropicError, AnthropicErrorKind};
/// let error = AnthropicError::new(AnthropicErrorKind::NotFound, "There is no such route.");
/// let body: serde_json::Value = serde_json::from_str(&error.body("req_1")).unwrap();
/// assert_eq!(body["error"]["type"], "not_found_error");
/// assert_eq!(error.into_response().status(), 404);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct AnthropicError {
    kind: AnthropicErrorKind,
    status: StatusCode,
    message: String,
    retry_after: Option<u32>,
}

impl AnthropicError {
    /// An error with the status of its kind. The message is for the client.
    pub fn new(kind: AnthropicErrorKind, message: impl Into<String>) -> Self {
        Self { kind, status: kind.status(), message: message.into(), retry_after: None }
    }

    /// Another status than that of its kind.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// After how many seconds it is worth another try.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Its kind.
    pub fn kind(&self) -> AnthropicErrorKind {
        self.kind
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The body, as JSON.
    pub fn body(&self, request_id: &str) -> String {
        #[derive(Serialize)]
        struct Envelope<'a> {
            r#type: &'static str,
            error: Inner<'a>,
            request_id: &'a str,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            r#type: &'static str,
            message: &'a str,
        }
        let error = Inner { r#type: self.kind.as_str(), message: &self.message };
        // Three strings can always be written.
        serde_json::to_string(&Envelope { r#type: "error", error, request_id }).unwrap_or_default()
    }

    /// The whole answer. Its request id is drawn here and stands in the header `request-id` too.
    pub fn into_response(self) -> Response<Body> {
        let id = request_id();
        let mut response = Response::new(Body::from(self.body(&id)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = id.try_into() {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    /// The event that ends a stream which has begun.
    pub(super) fn event(&self, out: &mut String) {
        let _ = write!(out, "event: error\ndata: {}\n\n", self.body(&request_id()));
    }
}

pub(super) const REQUEST_ID: &str = "request-id";

pub(super) fn request_id() -> String {
    format!("req_{:032x}", rand::random::<u128>())
}

/// Shorthand for what is wrong with a request.
pub(super) fn invalid(message: impl Into<String>) -> AnthropicError {
    AnthropicError::new(AnthropicErrorKind::InvalidRequest, message)
}

/// What the provider has done for a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It was not asked, or has said that it does nothing.
    None,
    /// It did not begin to answer in time.
    TimedOut,
    /// Nobody can tell.
    Unknown,
}

/// A call that failed: what its client reads, and what refunds and receipts do.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: AnthropicError,
    pub(super) effect: Effect,
    /// A few words for receipts.
    pub(super) class: &'static str,
    /// The provider's name for it.
    pub(super) code: Option<String>,
    /// The status that the provider has answered.
    pub(super) provider_status: Option<u16>,
    /// The provider has no room for it: the same request may be sent again.
    pub(super) throttled: bool,
}

impl Failure {
    pub(super) fn new(effect: Effect, class: &'static str, error: AnthropicError) -> Self {
        Self { error, effect, class, code: None, provider_status: None, throttled: false }
    }

    /// The provider answers what cannot be passed on.
    pub(super) fn broken(code: &'static str) -> Self {
        let error = AnthropicError::new(AnthropicErrorKind::Api, "The model's answer cannot be read.");
        let failure = Self::new(Effect::Unknown, "provider_error", error.with_status(StatusCode::BAD_GATEWAY));
        Self { code: Some(code.to_owned()), ..failure }
    }

    /// The answer has ended before its end.
    pub(super) fn cut() -> Self {
        let error = AnthropicError::new(AnthropicErrorKind::Api, "The model's answer broke off.");
        let failure = Self::new(Effect::Unknown, "provider_error", error.with_status(StatusCode::BAD_GATEWAY));
        Self { code: Some("stream_cut".to_owned()), ..failure }
    }

    /// A wait is over.
    pub(super) fn late(effect: Effect, message: &str) -> Self {
        let failure = Self::new(effect, "provider_timeout", AnthropicError::new(AnthropicErrorKind::Timeout, message));
        Self { code: Some("timeout".to_owned()), ..failure }
    }

    /// Tells refunds and receipts.
    pub(super) fn tell(&self, report: &Report) {
        match self.effect {
            Effect::None => report.refused(),
            Effect::TimedOut => report.timed_out(),
            Effect::Unknown => {}
        }
        report.update(|receipt| {
            receipt.error_class = Some(self.class.to_owned());
            let code = self.code.as_deref().unwrap_or(self.error.kind().as_str());
            receipt.error_code = Some(code.to_owned());
            receipt.provider_status = self.provider_status.or(receipt.provider_status);
        });
    }
}

/// A request that is wrong before anything is sent.
impl From<AnthropicError> for Failure {
    fn from(error: AnthropicError) -> Self {
        Self::new(Effect::None, "invalid_request", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{refund::ProviderCall, upstream::Stage};

    #[test]
    fn an_answer_that_has_begun_is_not_taken_back() {
        let failure = Failure::from(invalid("no"));
        let report = Report::default();
        report.started();
        failure.tell(&report);
        assert_eq!((report.stage(), report.provider_call()), (Stage::NotStarted, ProviderCall::NotStarted));
        report.first_byte();
        failure.tell(&report);
        assert_eq!(report.provider_call(), ProviderCall::FirstByte);
        assert_eq!(report.body().error_class.as_deref(), Some("invalid_request"));
    }
}
