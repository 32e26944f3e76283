//! Why there is no answer of an upstream.

use http::StatusCode;

use super::BoxError;
use crate::{
    protocol::{Problem, ProblemType},
    refund::ProviderCall,
};

/// There is no answer of the provider. For the log; a client reads a problem document without these details.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// Name look-up, TCP or TLS failed.
    #[error("cannot be reached")]
    Unreachable(#[source] BoxError),
    /// The same took too long.
    #[error("cannot be reached in time")]
    ConnectTimeout,
    /// The request was sent, and the answer did not begin in time.
    #[error("did not answer in time")]
    Timeout,
    /// The connection broke before there was an answer.
    #[error("the connection broke before there was an answer")]
    Broken(#[source] BoxError),
    /// It answered something that is between it and this merchant: 401, 402, 407, 101.
    #[error("answered {0}, which is between it and this merchant: check its credentials and account")]
    RefusesUs(StatusCode),
    /// The request cannot be written for this upstream.
    #[error("the request cannot be written")]
    Request(#[source] BoxError),
    /// The body of the request is larger than it may be. Not the upstream's fault.
    #[error("the request body is too large")]
    BodyTooLarge,
    /// The body of the request broke off. Not the upstream's fault.
    #[error("the request body broke off")]
    BodyUnreadable(#[source] BoxError),
    /// It is a request that no upstream gets from us. Not the upstream's fault.
    #[error("the request is not passed on: {why}")]
    NotPassedOn {
        /// The status of our answer.
        status: StatusCode,
        /// For the log and the client.
        why: &'static str,
    },
    /// Nobody was asked: there is too much at work, or the provider takes no more for now.
    #[error("takes no more requests for now")]
    Busy,
}

impl UpstreamError {
    /// The status of our answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::ConnectTimeout | Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Unreachable(_) | Self::Broken(_) | Self::RefusesUs(_) | Self::Request(_) => StatusCode::BAD_GATEWAY,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyUnreadable(_) => StatusCode::BAD_REQUEST,
            Self::NotPassedOn { status, .. } => *status,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What a client is told: nothing that is internal.
    pub(super) fn problem(&self) -> Problem {
        let status = self.status();
        let (kind, detail) = match self {
            Self::ConnectTimeout | Self::Timeout => {
                (ProblemType::InternalError, "The service behind this gateway did not answer in time.")
            }
            Self::Unreachable(_) | Self::Broken(_) | Self::RefusesUs(_) | Self::Request(_) => {
                (ProblemType::InternalError, "The service behind this gateway cannot answer at the moment.")
            }
            Self::BodyTooLarge => (ProblemType::PayloadTooLarge, "The request body is too large."),
            Self::BodyUnreadable(_) => (ProblemType::BadRequest, "The request body broke off."),
            Self::NotPassedOn { why, .. } => (ProblemType::BadRequest, *why),
            Self::Busy => (
                ProblemType::ServiceUnavailable,
                "The service behind this gateway takes no more requests for now. Try again later.",
            ),
        };
        Problem::new(kind, detail).status(status.as_u16())
    }

    /// What the refund rules want to know, where the report does not say more.
    pub fn provider_call(&self) -> ProviderCall {
        match self {
            Self::Unreachable(_)
            | Self::ConnectTimeout
            | Self::Request(_)
            | Self::BodyTooLarge
            | Self::NotPassedOn { .. }
            | Self::Busy => ProviderCall::NotStarted,
            Self::Timeout => ProviderCall::TimedOut,
            Self::Broken(_) | Self::RefusesUs(_) | Self::BodyUnreadable(_) => ProviderCall::Started,
        }
    }
}

/// Whether an error comes from one of this type.
pub(super) fn has_source<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<E>())
}
