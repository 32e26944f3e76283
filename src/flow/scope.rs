//! What a challenge is good for: method and path of the request, and what the merchant adds.

use http::request::Parts;
use sha2::{Digest as _, Sha256};

use crate::protocol::SpendKey;

/// Longer scopes are hashed, so that a challenge stays small whatever the client asks for.
pub(super) const MAX_SCOPE: usize = 200;

/// The scope of a request: `POST /v1/messages`, with the concrete path, so that paying for
/// `/customers/1` does not open `/customers/2`. The query is hashed: it may be long, and private.
pub(crate) fn scope(head: &Parts, label: Option<&str>, bind_query: bool) -> String {
    let uri = original_uri(head);
    let path = uri.path();
    let method = head.method.as_str();
    let mut scope = String::with_capacity(method.len() + path.len() + 1);
    scope.push_str(method);
    scope.push(' ');
    scope.push_str(path);
    if let Some(query) = uri.query().filter(|_| bind_query) {
        scope.push('?');
        scope.push_str(&hash(query));
    }
    // A path has no space and no fragment, so nothing that a client sends can look like a label.
    if let Some(label) = label {
        scope.push_str(" #");
        scope.push_str(label);
    }
    if scope.len() <= MAX_SCOPE && is_plain(&scope) { scope } else { format!("sha-256 {}", hash(&scope)) }
}

/// In a nested axum router the path of the request is only the rest of it: `/a/x` and `/b/x` must not
/// be one scope.
#[cfg(feature = "axum")]
fn original_uri(head: &Parts) -> &http::Uri {
    head.extensions.get::<axum::extract::OriginalUri>().map_or(&head.uri, |original| &original.0)
}

#[cfg(not(feature = "axum"))]
fn original_uri(head: &Parts) -> &http::Uri {
    &head.uri
}

/// Whether a text stands in JSON as it is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
}

fn hash(text: &str) -> String {
    SpendKey::from_bytes(Sha256::digest(text).into()).to_string()
}
