//! What can be wrong with the configuration of a proxy.

use crate::{discovery::Invalid, flow::ConfigError};

/// A proxy is configured wrongly. No message shows a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidProxy {
    /// What is said about a service cannot be published: above all its id, which is the first segment of its paths.
    #[error(transparent)]
    Discovery(#[from] Invalid),
    /// The base path cannot be used.
    #[error("base_path {path:?}: {problem}")]
    BasePath {
        /// As it was given.
        path: String,
        /// What to do about it.
        problem: &'static str,
    },
    /// An upstream cannot be used.
    #[error("service {service:?}: upstream: {problem}")]
    Upstream {
        /// Of which service.
        service: String,
        /// What to do about it.
        problem: String,
    },
    /// A credential or a header that is to be sent to an upstream cannot be used.
    #[error("service {service:?}: {}{field}: {problem}", of_route(key))]
    Credential {
        /// Of which service.
        service: String,
        /// The route whose options it is in; empty for the service itself.
        key: String,
        /// `api_key`, `bearer`, or the name of the header.
        field: String,
        /// What to do about it.
        problem: &'static str,
    },
    /// The key of a route cannot be used.
    #[error("service {service:?}: route {key:?}: {problem}")]
    Route {
        /// Of which service.
        service: String,
        /// As it was given.
        key: String,
        /// What to do about it.
        problem: &'static str,
    },
    /// A route that no request reaches, because the first that matches is taken.
    #[error(
        "service {service:?}: route {key:?}: every request for it matches {by:?}, which stands before it; remove one, or put the narrower one first"
    )]
    Unreachable {
        /// Of which service.
        service: String,
        /// The route.
        key: String,
        /// The one before it.
        by: String,
    },
    /// What a route charges cannot be charged.
    #[error("service {service:?}: route {key:?}: {source}")]
    Charge {
        /// Of which service.
        service: String,
        /// The route.
        key: String,
        /// Why.
        source: ConfigError,
    },
}

fn of_route(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("route {key:?}: ") }
}
