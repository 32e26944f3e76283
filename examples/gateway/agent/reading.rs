//! Documents that are read before anybody pays, and how they are answered.

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tower_mpp::{
    Clock as _, SystemClock,
    discovery::{Catalog, Discovery, well_known::WellKnown},
};

use super::{super::config::ConfigError, super::problem::Problem, Stated};

/// The discovery document in parts. What is said elsewhere is taken from it, so that nothing can disagree.
pub(super) struct Reading(Value);

impl Reading {
    /// Of a document with everything that there is to say.
    pub(super) fn new(document: &WellKnown) -> Result<Self, ConfigError> {
        let unreadable = |problem: &dyn std::fmt::Display| ConfigError::new("well_known", problem);
        let document = document.document(SystemClock.now()).ok_or_else(|| unreadable(&"there is no document"))?;
        serde_json::from_slice(&document).map(Self).map_err(|error| unreadable(&error))
    }

    /// A member, or null.
    pub(super) fn member(&self, name: &str) -> Value {
        self.0.get(name).cloned().unwrap_or_default()
    }

    /// What works, and why.
    pub(super) fn stated(&self) -> Stated {
        let mpp = self.member("mpp");
        let text = |name: &str| mpp.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let settles = mpp.get("settlement").and_then(Value::as_bool).unwrap_or(false);
        Stated { status: text("status"), payable: settles, reason: text("reason") }
    }

    /// `/v1/capabilities`.
    pub(super) fn capabilities(&self) -> Value {
        json!({
            "spec_version": self.member("spec_version"),
            "realm": self.member("realm"),
            "mpp": self.member("mpp"),
            "capabilities": self.member("capabilities"),
        })
    }
}

/// A document that changes with the configuration, and at no other time.
pub(super) fn json(document: &Value) -> Response {
    of_type("application/json", document.to_string().into())
}

pub(super) fn markdown(text: Bytes) -> Response {
    of_type("text/markdown; charset=utf-8", text)
}

/// The discovery document, over HTTP.
pub(super) fn well_known(document: WellKnown) -> Result<Discovery, ConfigError> {
    // Of what else is sold the gateway tells itself.
    let alone = Discovery::new(&Catalog::new()).map_err(|error| ConfigError::new("well_known", error))?;
    Ok(alone.well_known(document))
}

/// The discovery document as it is now.
pub(super) fn answer(document: &Discovery, request: Request) -> Response {
    let (head, _) = request.into_parts();
    match document.try_answer(&head) {
        Some(answer) => answer.map(Body::new),
        None => absent(),
    }
}

/// There is no such thing here.
pub(super) fn absent() -> Response {
    Problem::new(StatusCode::NOT_FOUND, "There is no such resource.").into_response()
}

fn of_type(media_type: &'static str, document: Bytes) -> Response {
    let mut response = document.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    response
}
