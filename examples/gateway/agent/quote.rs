//! `POST /v1/agent/quote`: what a call would cost, before anybody pays. It costs nothing, asks no provider and
//! leaves nothing behind: nobody has to keep to it but the merchant's own price list, of which it is a page.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use tower_mpp::{Merchant, OfferTerms, pricing::ModelOption, pricing::Refused};

use super::{super::problem::Problem, MESSAGES, Stated, menu, messages::Called};

/// Nobody needs longer for a body that is small enough.
const PATIENCE: Duration = Duration::from_secs(30);
const NOTE: &str = "A quote is not a payment, and nothing is reserved. The 402 answer of the route is authoritative: pay what its challenge says.";

/// What quotes are made of.
pub(super) struct Quoting {
    pub(super) merchant: Merchant,
    pub(super) called: Called,
    pub(super) state: Stated,
    pub(super) body_limit: usize,
    pub(super) challenge_ttl: Duration,
    pub(super) refunds: Value,
    /// Terms of funded sessions, and whether there are any.
    pub(super) sessions: Value,
    pub(super) provider_billing: Value,
}

pub(super) async fn answer(State(quoting): State<Arc<Quoting>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(PATIENCE, Limited::new(body, quoting.body_limit).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large.").into_response();
        }
        Ok(Err(_)) => {
            return Problem::new(StatusCode::BAD_REQUEST, "The request body broke off.").into_response();
        }
        Err(_) => {
            return Problem::new(StatusCode::REQUEST_TIMEOUT, "The request body took too long.").into_response();
        }
    };
    let body = if body.trim_ascii().is_empty() { b"{}" } else { &body[..] };
    match quoting.look_up(&head, body) {
        Ok(option) => json_answer(&quoting.quote(option)),
        Err(refused) => Problem::from(refused).into_response(),
    }
}

/// Good for this moment only.
fn json_answer(document: &Value) -> Response {
    let mut response = Response::new(Body::from(document.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Quoting {
    /// The body is that of a call, or a part of one that names its model at most.
    fn look_up(&self, head: &http::request::Parts, body: &[u8]) -> Result<&ModelOption, Refused> {
        let option = self.called.menu.choose(head, body)?;
        // Whoever shows the whole call is told now what would be wrong with it.
        let is_whole = serde_json::from_slice::<Value>(body)
            .is_ok_and(|body| body.get("messages").is_some() || body.get("max_tokens").is_some());
        if is_whole {
            self.called.check(option, body)?;
        }
        Ok(option)
    }

    fn quote(&self, option: &ModelOption) -> Value {
        let offers = self.merchant.offers(option.price.clone());
        json!({
            "object": "quote",
            "status": self.state.status,
            "payable": self.state.payable,
            "reason": self.state.reason,
            "test_mode": self.merchant.is_test_mode(),
            "realm": self.merchant.realm().as_str(),
            "route": {"method": "POST", "path": MESSAGES},
            "model_option": self.called.menu.entry(option, &self.state.status),
            "price": menu::money(&option.price),
            "payment_methods": offers.iter().map(method).collect::<Vec<_>>(),
            "authorization_scheme": "Authorization: Payment",
            "challenge": {
                "expires_in_seconds": self.challenge_ttl.as_secs(),
                "single_use": true,
                "content_digest": "sha-256",
                "binds": ["method", "path", "query", "body"],
            },
            "limits": {"max_tokens": self.called.max_tokens, "body_bytes": self.body_limit},
            "receipt": {"header": "Payment-Receipt"},
            "refunds": self.refunds,
            "provider_billing": self.provider_billing,
            "sessions": self.sessions,
            "note": NOTE,
        })
    }
}

/// One way to pay, as a challenge will ask for it.
fn method(offer: &OfferTerms) -> Value {
    let mut terms = json!({
        "method": offer.method.as_str(),
        "intent": offer.intent.as_str(),
        "currency": offer.currency.as_str(),
    });
    let optional = [
        ("amount", offer.amount.map(|amount| amount.to_string().into())),
        ("decimals", offer.decimals.map(Value::from)),
        ("recipient", offer.recipient.as_deref().map(Value::from)),
        ("methodDetails", (!offer.method_details.is_empty()).then(|| offer.method_details.clone().into())),
    ];
    if let Some(members) = terms.as_object_mut() {
        members.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    terms
}
