//! What the operator can ask: behind a token, never charged for, and never passed on.
//!
//! ```text
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8402/admin/status
//! curl -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:8402/admin/payments/unfulfilled?limit=100'
//! curl -H "Authorization: Bearer $TOKEN" -X POST http://127.0.0.1:8402/admin/refunds/CHALLENGE_ID
//! ```

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tower_mpp::{Merchant, protocol::ChallengeId, store::NonceStore};

use super::problem::Problem;

/// How many payments a page has, unless the operator asks for fewer or more.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;
/// The journal is not well when it takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the operator asks about.
#[derive(Clone)]
pub(super) struct Operated {
    pub(super) merchant: Merchant,
    pub(super) payments: Arc<dyn NonceStore>,
    /// What kind of journal it is.
    pub(super) store: &'static str,
}

/// The hash of the operator's token: hashes are of one length, and say nothing about it.
#[derive(Clone, Copy)]
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, token)) = value.as_bytes().split_at_checked("Bearer ".len()) else { return false };
        let given: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.ct_eq(&self.0))
    }
}

/// The routes under `/admin`.
pub(super) fn router(operated: Operated, token: Token) -> Router {
    Router::new()
        .route("/status", get(status))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "There is no such resource.") })
        .with_state(operated)
        .layer(middleware::from_fn(move |request, next| let_in(token, request, next)))
}

/// Who has no token learns nothing, not even what there is.
async fn let_in(token: Token, request: Request, next: Next) -> Response {
    let mut response = if token.is_in(request.headers()) {
        next.run(request).await
    } else {
        let mut refusal = Problem::new(StatusCode::UNAUTHORIZED, "This needs the operator's token.").into_response();
        refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        refusal
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn status(State(Operated { merchant, payments, store }): State<Operated>) -> Response {
    let nobodys = ChallengeId::from_bytes([0; 32]);
    let healthy = matches!(tokio::time::timeout(PATIENCE, payments.find(nobodys)).await, Ok(Ok(_)));
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({"in_flight": merchant.in_flight(), "store": {"kind": store, "healthy": healthy}});
    (status, Json(body)).into_response()
}
