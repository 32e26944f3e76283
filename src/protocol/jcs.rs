//! JSON Canonicalization Scheme (RFC 8785), and its base64url form, in which `request` and `opaque`
//! stand on the wire.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

/// The value has no canonical JSON: a number that is not finite, or a map whose keys are not text.
#[derive(Debug, thiserror::Error)]
#[error("the value has no canonical JSON form")]
pub struct NotCanonical(#[source] serde_json::Error);

/// Writes a value as canonical JSON.
///
/// # Errors
/// [`NotCanonical`].
pub fn to_string(value: &impl Serialize) -> Result<String, NotCanonical> {
    serde_json_canonicalizer::to_string(value).map_err(NotCanonical)
}

/// Writes a value as canonical JSON in base64url without padding.
///
/// # Errors
/// [`NotCanonical`].
pub fn to_base64url(value: &impl Serialize) -> Result<String, NotCanonical> {
    to_string(value).map(|json| URL_SAFE_NO_PAD.encode(json))
}
