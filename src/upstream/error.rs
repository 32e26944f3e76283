//! Why there is no answer of an upstream.

use http::StatusCode;

use super::BoxError;
use crate::refund::ProviderCall;

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
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the refund rules want to know, where the report does not say more.
    pub fn provider_call(&self) -> ProviderCall {
        match self {
            Self::Unreachable(_) | Self::ConnectTimeout | Self::Request(_) | Self::BodyTooLarge | Self::Busy => {
                ProviderCall::NotStarted
            }
            Self::Timeout => ProviderCall::TimedOut,
            Self::Broken(_) | Self::RefusesUs(_) | Self::BodyUnreadable(_) => ProviderCall::Started,
        }
    }
}
