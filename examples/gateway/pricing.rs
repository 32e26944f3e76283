//! A price by the model that the JSON body names.
//!
//! The upstream reads the same bytes with another parser, so whatever two parsers could read
//! differently is refused: a model that is named twice, in whatever case. For the same reason the body
//! goes to the upstream as JSON, whatever the client says that it is.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
    request::Parts,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use tower_mpp::{
    Price,
    pricing::{Pricing, Refused, with_body},
};

/// Unknown models, and bodies that name none, are refused before any challenge.
pub(super) fn by_model(prices: BTreeMap<String, Price>) -> impl Pricing {
    with_body(move |head, body| price(&prices, head, body))
}

/// Declares the body as what it was priced as.
pub(super) fn declare_json(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

fn price(prices: &BTreeMap<String, Price>, head: &Parts, body: &Bytes) -> Result<Price, Refused> {
    if head.headers.contains_key(CONTENT_ENCODING) {
        return Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The body must be JSON without a content-encoding.",
        ));
    }
    let Model(model) = serde_json::from_slice(body).map_err(|_| {
        Refused::bad_request("The body must be a JSON object with exactly one member \"model\", a text.")
    })?;
    prices.get(&model).cloned().ok_or_else(|| {
        let known = prices.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Refused::bad_request(format!("There is no such model here. Models: {known}."))
    })
}

/// The member `model` of an object.
struct Model(String);

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Model;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a member \"model\"")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Model, A::Error> {
                let mut model = None;
                while let Some(name) = members.next_key::<String>()? {
                    if !name.eq_ignore_ascii_case("model") {
                        members.next_value::<IgnoredAny>()?;
                    } else if name != "model" || model.is_some() {
                        return Err(A::Error::duplicate_field("model"));
                    } else {
                        model = Some(members.next_value()?);
                    }
                }
                model.map(Model).ok_or_else(|| A::Error::missing_field("model"))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn quote(body: &str) -> Result<Price, Refused> {
        let prices = BTreeMap::from([("fast".to_owned(), Price::usd("0.50").unwrap())]);
        let head = http::Request::post("/").body(()).unwrap().into_parts().0;
        price(&prices, &head, &Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn a_model_has_one_reading() {
        assert!(quote(r#"{"a":[{"model":"x"}],"model":"fast"}"#).is_ok());
        assert!(quote(r#"{"model":"f\u0061st"}"#).is_ok());
        for bad in [
            "",
            "[]",
            "null",
            r#""fast""#,
            "{}",
            r#"{"model":1}"#,
            r#"{"model":"slow"}"#,
            r#"{"model":"fast"}x"#,
            r#"{"model":"fast","model":"fast"}"#,
            r#"{"model":"fast","Model":"slow"}"#,
            r#"{"MODEL":"fast"}"#,
            r#"{"model":"fast","mod\u0065l":"slow"}"#,
            r#"{"model":"fast""#,
            r#"{"model":"Fast"}"#,
        ] {
            assert_eq!(quote(bad).unwrap_err().status(), 400, "{bad}");
        }
    }
}
