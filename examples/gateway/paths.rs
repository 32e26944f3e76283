//! Targets that mean one thing here and another behind us.

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, Uri, uri::PathAndQuery};
use tower_mpp::upstream::is_plain_path;

use super::problem::Problem;

/// Refuses what an upstream might read as another path than the one that was priced. Forgets the scheme
/// and the host that a client may write into the target: `GET https://.. HTTP/1.1` over plain HTTP is
/// not HTTPS.
pub(super) async fn refuse_ambiguous(mut request: Request, next: Next) -> Response {
    if !is_plain_path(request.uri().path()) {
        return Problem::new(StatusCode::BAD_REQUEST, "The path has dot segments, backslashes or control characters.")
            .into_response();
    }
    if request.uri().scheme().is_some() {
        let target = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(target);
    }
    next.run(request).await
}
