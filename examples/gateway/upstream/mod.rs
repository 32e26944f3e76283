//! Whatever answers the requests that were paid for.

pub(super) mod settings;

use axum::body::Body;
use http::Request;
use hyper::body::Body as _;
use tower_mpp::upstream::UpstreamService;

use self::settings::UpstreamSettings;
use super::demo;

/// The upstream of the configuration as a service.
pub(super) fn service(settings: UpstreamSettings) -> UpstreamService {
    match settings {
        UpstreamSettings::Demo => UpstreamService::of_service(demo::router()),
        UpstreamSettings::Http(upstream) => {
            if upstream.leaks_secrets() {
                tracing::warn!(?upstream, "the injected headers travel unencrypted");
            }
            UpstreamService::new(*upstream)
        }
    }
}

/// Whether a request is known to be too large before any of it was read.
pub(super) fn too_large(request: &Request<Body>, limit: usize) -> bool {
    request.body().size_hint().lower() > limit as u64
}
