//! What is behind the payment: the call, passed on to the provider under the provider's own name of the model.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::json;
use tower_mpp::upstream::{Body, BoxError, Call, Upstream, UpstreamError};

use super::{menu::Menu, messages, provider::Provider};

/// Where every provider in this shape has it.
const PATH: &str = "/v1/messages";

/// About bytes that are not the same any more.
const DIGESTS: [HeaderName; 3] = [
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// The models of a menu, answered by a provider.
pub(super) struct Sold {
    pub(super) provider: Provider,
    pub(super) menu: Menu,
    pub(super) body_limit: usize,
    pub(super) max_tokens: u64,
}

#[async_trait]
impl Upstream for Sold {
    fn name(&self) -> &str {
        self.provider.upstream.name()
    }

    async fn call(&self, request: Request<Body>, call: &Call) -> Result<Response<Body>, UpstreamError> {
        let (mut head, body) = request.into_parts();
        // Behind a payment it is in memory already.
        let body = Limited::new(body, self.body_limit).collect().await.map_err(unreadable)?.to_bytes();
        // The same readings as before the payment. Customers with a key come here without one.
        let option = match self.menu.choose(&head, &body) {
            Ok(option) => option,
            Err(refused) => return Ok(invalid(refused.status(), refused.detail())),
        };
        if let Err(refused) = messages::check(&body, self.max_tokens) {
            return Ok(invalid(refused.status(), refused.detail()));
        }
        let Some(body) = messages::with_model(&body, option.asked_model()) else {
            return Ok(invalid(StatusCode::BAD_REQUEST, "The body is no JSON object."));
        };
        if let Err(refused) = self.provider.check(&body) {
            return Ok(invalid(refused.status(), refused.detail()));
        }
        call.report.update(|receipt| receipt.model_id = Some(option.bare_model().to_owned()));
        head.uri = target(&head.uri);
        for name in &DIGESTS {
            head.headers.remove(name);
        }
        if let Some(extras) = &self.provider.anthropic {
            extras.filter(&mut head.headers);
        }
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        head.headers.insert(CONTENT_LENGTH, body.len().into());
        let answer = self.provider.upstream.call(Request::from_parts(head, Body::from(body)), call).await;
        self.provider.health.note(answer.as_ref().is_ok_and(|answer| !answer.status().is_server_error()));
        // No model has run, as with what Bedrock refuses.
        if self.provider.anthropic.is_some() && answer.as_ref().is_ok_and(|answer| is_refusal(answer.status())) {
            call.report.refused();
        }
        answer
    }
}

/// An API of models answers these before it asks a model: the request is wrong, not allowed, too large, or too early.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::TOO_MANY_REQUESTS
    )
}

fn unreadable(error: BoxError) -> UpstreamError {
    if error.is::<LengthLimitError>() { UpstreamError::BodyTooLarge } else { UpstreamError::BodyUnreadable(error) }
}

/// The provider's path, with the query of the client.
fn target(uri: &Uri) -> Uri {
    let target = uri.query().map(|query| format!("{PATH}?{query}")).and_then(|target| target.parse().ok());
    Uri::from(target.unwrap_or(PathAndQuery::from_static(PATH)))
}

/// An error of the Messages API.
fn invalid(status: StatusCode, message: &str) -> Response<Body> {
    let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
    let mut response = Response::new(Body::from(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Some call was answered, and the last one was not.
const ANSWERED: u8 = 1;
const FAILED: u8 = 2;

/// How the last call of a provider went.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<AtomicU8>);

impl Health {
    fn note(&self, is_well: bool) {
        let next = |was| Some(if is_well { ANSWERED } else { FAILED | (was & ANSWERED) });
        let _ = self.0.fetch_update(Relaxed, Relaxed, next);
    }

    /// Whether it has answered since the start: then there are credentials.
    pub(super) fn has_answered(&self) -> bool {
        self.0.load(Relaxed) & ANSWERED != 0
    }

    /// `answered` or `failed`; nothing before the first call.
    pub(super) fn last_call(&self) -> Option<&'static str> {
        match self.0.load(Relaxed) {
            0 => None,
            ANSWERED => Some("answered"),
            _ => Some("failed"),
        }
    }
}
