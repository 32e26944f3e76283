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
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tower_mpp::{Merchant, RefundFailed, RefundStatus, protocol::ChallengeId, store::NonceStore};

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

    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
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
        .route("/payments/unfulfilled", get(unfulfilled))
        .route("/refunds/{id}", post(refund))
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

/// Which page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    after: Option<ChallengeId>,
    limit: Option<usize>,
}

/// What was paid and neither delivered nor given back.
async fn unfulfilled(
    State(Operated { merchant, .. }): State<Operated>,
    page: Result<Query<Page>, QueryRejection>,
) -> Response {
    let page = page.ok().map(|Query(Page { after, limit })| (after, limit.unwrap_or(PAGE)));
    let Some((after, limit)) = page.filter(|(_, limit)| (1..=LARGEST_PAGE).contains(limit)) else {
        let wrong = "Write limit=1 to 1000, and after=ID with an id of the list.";
        return Problem::new(StatusCode::BAD_REQUEST, wrong).into_response();
    };
    match merchant.unfulfilled(after, limit).await {
        Ok(payments) => Json(json!({"payments": payments})).into_response(),
        Err(error) => {
            tracing::error!(%error, "the list of unfulfilled payments cannot be read");
            unavailable("The journal cannot be read at the moment.")
        }
    }
}

/// Gives the money of a payment back.
async fn refund(State(Operated { merchant, .. }): State<Operated>, Path(id): Path<String>) -> Response {
    let no_such = || Problem::new(StatusCode::NOT_FOUND, "There is no such payment in the journal.").into_response();
    let Ok(id) = id.parse::<ChallengeId>() else { return no_such() };
    let answer = |status, text| (status, Json(json!({"challenge_id": id, "status": text}))).into_response();
    let problem = |status, detail| Problem::new(status, detail).into_response();
    match merchant.refund(id).await {
        Ok(RefundStatus::Refunded) => answer(StatusCode::OK, "refunded"),
        Ok(RefundStatus::Pending) => answer(StatusCode::ACCEPTED, "pending"),
        Err(RefundFailed::NotFound) => no_such(),
        Err(RefundFailed::InProgress) => {
            let mut response = problem(StatusCode::CONFLICT, "The payment is at work. Try again.");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Err(RefundFailed::NotCharged) => problem(StatusCode::CONFLICT, "Nothing was charged for this challenge."),
        Err(RefundFailed::Forgotten) => {
            problem(StatusCode::GONE, "It was delivered, and the journal does not remember what to give back.")
        }
        Err(RefundFailed::Refused) => {
            problem(StatusCode::UNPROCESSABLE_ENTITY, "The payment method refuses to give the money back.")
        }
        Err(error) => {
            tracing::error!(challenge_id = %id, %error, "a refund that the operator asked for failed");
            unavailable("It is not known how far it came. Try again.")
        }
    }
}

fn unavailable(detail: &'static str) -> Response {
    let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
