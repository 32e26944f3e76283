//! A price by the model that the JSON body names.
//!
//! The upstream reads the same bytes with another parser, so whatever two parsers could read
//! differently is refused: a model that is named twice, in whatever case, and a body that is not
//! declared as JSON.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use http::{StatusCode, header::CONTENT_TYPE, request::Parts};
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

fn price(prices: &BTreeMap<String, Price>, head: &Parts, body: &Bytes) -> Result<Price, Refused> {
    if !is_json(head) {
        return Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The price depends on the model in a JSON body: send content-type: application/json, without a content-encoding.",
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

fn is_json(head: &Parts) -> bool {
    let mut types = head.headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let essence = only.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") && !head.headers.contains_key(http::header::CONTENT_ENCODING)
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

    fn quote(content_type: &str, body: &str) -> Result<Price, Refused> {
        let prices = BTreeMap::from([("fast".to_owned(), Price::usd("0.50").unwrap())]);
        let head = http::Request::post("/").header("content-type", content_type).body(()).unwrap().into_parts().0;
        price(&prices, &head, &Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn a_model_has_one_reading() {
        let json = "application/json";
        assert!(quote(json, r#"{"a":[{"model":"x"}],"model":"fast"}"#).is_ok());
        assert!(quote("Application/JSON; charset=utf-8", r#"{"model":"f\u0061st"}"#).is_ok());
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
            assert_eq!(quote(json, bad).unwrap_err().status(), 400, "{bad}");
        }
        for other in ["text/plain", "application/x-www-form-urlencoded", ""] {
            assert_eq!(quote(other, r#"{"model":"fast"}"#).unwrap_err().status(), 415, "{other}");
        }
    }
}
