//! `GET /health`: that the gateway runs, since when, and how its provider is. No provider is asked for it.

use std::time::Instant;

use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, header::CACHE_CONTROL};
use serde_json::{Map, Value, json};
use tower_mpp::{Clock as _, SystemClock, protocol::Timestamp};

use super::Provider;

/// When the gateway was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    since: Instant,
    at: Timestamp,
}

impl Started {
    pub(crate) fn now() -> Self {
        Self { since: Instant::now(), at: SystemClock.now() }
    }

    /// The answer. `ok` is what programs looked for before there was more.
    pub(crate) fn health(&self, provider: Option<&Provider>) -> Response {
        let providers: Map<String, Value> =
            provider.into_iter().map(|provider| (provider.name().to_owned(), provider.health())).collect();
        let mut response = axum::Json(json!({
            "ok": true,
            "status": "ok",
            "version": env!("CARGO_PKG_VERSION"),
            "uptime": self.since.elapsed().as_secs(),
            "startedAt": self.at.to_string(),
            "providers": providers,
        }))
        .into_response();
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
