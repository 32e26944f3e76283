//! The canonical form of receipts: Unicode NFC on names and values, then RFC 8785.

use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization as _;

/// The text has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// It is not JSON, or has a lone surrogate or a number that is too large.
    #[error("not JSON that can be canonicalised")]
    Json,
    /// Two members of one object have the same name, at the latest after normalisation.
    #[error("two members of one object have the same name")]
    Duplicate,
}

/// Writes JSON in the canonical form of receipts.
///
/// # Errors
/// [`CanonicalError`].
pub fn canonicalize(json: &str) -> Result<String, CanonicalError> {
    let value: Value = serde_json::from_str(json).map_err(|_| CanonicalError::Json)?;
    to_string(value)
}

pub(super) fn to_string(value: Value) -> Result<String, CanonicalError> {
    serde_json_canonicalizer::to_string(&normalize(value)?).map_err(|_| CanonicalError::Json)
}

fn normalize(value: Value) -> Result<Value, CanonicalError> {
    Ok(match value {
        Value::String(text) => Value::String(text.nfc().collect()),
        Value::Array(items) => Value::Array(items.into_iter().map(normalize).collect::<Result<_, _>>()?),
        Value::Object(members) => {
            let mut normal = Map::new();
            for (name, value) in members {
                if normal.insert(name.nfc().collect(), normalize(value)?).is_some() {
                    return Err(CanonicalError::Duplicate);
                }
            }
            Value::Object(normal)
        }
        other => other,
    })
}
