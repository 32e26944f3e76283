//! What a body is declared to be.

use http::{HeaderMap, header::CONTENT_TYPE};

/// What `Content-Type` makes of a body that is to be read as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    /// Whoever reads it guesses.
    Absent,
    /// Something else, or not clear.
    Other,
}

impl MediaType {
    /// What a refusal says.
    pub(crate) const WANTED: &str = "The body must be declared as Content-Type: application/json, in UTF-8.";

    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut types = headers.get_all(CONTENT_TYPE).iter();
        match (types.next(), types.next()) {
            (None, _) => Self::Absent,
            (Some(only), None) if only.to_str().is_ok_and(is_json) => Self::Json,
            _ => Self::Other,
        }
    }
}

/// `application/json` or `application/*+json` (RFC 6839), with parameters (RFC 9110, section 8.3.1), and no charset
/// but UTF-8 (RFC 8259, section 8.1).
fn is_json(text: &str) -> bool {
    let mut parts = text.split(';').map(|part| part.trim_matches([' ', '\t']));
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_named = match essence.strip_prefix("application/") {
        Some("json") => true,
        Some(subtype) => subtype.strip_suffix("+json").is_some_and(is_token),
        None => false,
    };
    is_named
        && parts.filter(|parameter| !parameter.is_empty()).all(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else { return false };
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            let is_other_charset = name.eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8");
            is_token(name) && is_token(value) && !is_other_charset
        })
}

fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> MediaType {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_TYPE, value.parse().unwrap());
        }
        MediaType::of(&headers)
    }

    #[test]
    fn only_json_in_utf_8_is_json() {
        for json in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/vnd.api+json",
            "application/json; profile=x",
            "application/json;",
        ] {
            assert_eq!(of(&[json]), MediaType::Json, "{json}");
        }
        for other in [
            "",
            "application/x-www-form-urlencoded",
            "text/json",
            "text/plain",
            "application/jsonp",
            "application/+json",
            "application/a b+json",
            "application/json, application/x-www-form-urlencoded",
            "application/json;a=b, text/plain",
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; charset",
            "multipart/form-data; boundary=application/json",
        ] {
            assert_eq!(of(&[other]), MediaType::Other, "{other}");
        }
        assert_eq!(of(&[]), MediaType::Absent);
        assert_eq!(of(&["application/json", "application/json"]), MediaType::Other);
    }
}
