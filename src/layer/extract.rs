//! `PaymentInfo` as an axum extractor.

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use crate::{PaymentInfo, PendingPayment};

/// A handler asks for the payment of a request that was not charged for.
///
/// Either the route has no [`PaymentLayer`](crate::PaymentLayer), or the layer let the request through
/// free of charge: take an `Option<PaymentInfo>` where that happens. On a route that settles after the handler
/// take a [`PendingPayment`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this request was not charged for: the route needs a PaymentLayer, or the handler an Option<PaymentInfo>")]
pub struct NotCharged;

impl IntoResponse for NotCharged {
    fn into_response(self) -> Response {
        tracing::error!(target: crate::trace::TARGET, "{self}");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

impl<S: Sync> FromRequestParts<S> for PaymentInfo {
    type Rejection = NotCharged;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, NotCharged> {
        head.extensions.get().cloned().ok_or(NotCharged)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for PaymentInfo {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(head.extensions.get().cloned())
    }
}

impl<S: Sync> FromRequestParts<S> for PendingPayment {
    type Rejection = NotCharged;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, NotCharged> {
        head.extensions.get().cloned().ok_or(NotCharged)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for PendingPayment {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(head.extensions.get().cloned())
    }
}
