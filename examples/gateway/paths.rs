//! Targets that mean one thing here and another behind us.

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, Uri, uri::PathAndQuery};

use super::problem::Problem;

/// Refuses what an upstream might read as another path than the one that was priced. Forgets the scheme
/// and the host that a client may write into the target: `GET https://.. HTTP/1.1` over plain HTTP is
/// not HTTPS.
pub(super) async fn refuse_ambiguous(mut request: Request, next: Next) -> Response {
    if !is_plain(request.uri().path()) {
        return Problem::new(StatusCode::BAD_REQUEST, "The path has dot segments, backslashes or control characters.")
            .into_response();
    }
    if request.uri().scheme().is_some() {
        let target = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(target);
    }
    next.run(request).await
}

/// Whether no segment of the path is `.` or `..`, in whatever spelling, and nothing in it is a backslash
/// or a control character.
pub(super) fn is_plain(path: &str) -> bool {
    let Some(decoded) = decode(path) else { return false };
    // Some servers cut a segment at a semicolon: `/..;/`.
    decoded.split(|byte| *byte == b'/').all(|segment| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        name != b"." && name != b".." && !segment.iter().any(|byte| *byte == b'\\' || byte.is_ascii_control())
    })
}

/// Undoes percent-encoding, once; `None` when it is broken.
fn decode(path: &str) -> Option<Vec<u8>> {
    let hex = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' { hex(bytes.next())? * 16 + hex(bytes.next())? } else { byte });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn no_spelling_of_a_dot_segment_passes() {
        for bad in [
            "/..",
            "/a/../b",
            "/./a",
            "/a/.",
            "/%2e%2e/a",
            "/%2E./a",
            "/.%2e",
            "/a\\b",
            "/a%5cb",
            "/a%5C..%5Cb",
            "/a%2f..%2fb",
            "/..;/a",
            "/..;x=1/a",
            "/a%00b",
            "/a%0d%0ab",
            "/%zz",
            "/%2",
            "/%",
        ] {
            assert!(!is_plain(bad), "{bad}");
        }
        for good in ["/", "/v1/messages", "/a.b/..c/...", "/a%2fb", "/a%20b;v=1", "//a", "", "/%E2%82%AC", "/a:b@c"] {
            assert!(is_plain(good), "{good}");
        }
    }
}
