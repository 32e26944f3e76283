//! The body of a call in the shape of Anthropic's Messages API: what is checked before anybody is asked for money,
//! and the one member that changes on its way to the provider.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use tower_mpp::pricing::{HeadQuote, ModelOption, Prices, Pricing, Quote, Refused};

use super::{menu::Menu, provider::Provider};

/// What a call costs: the model's price, for a body that the provider will take. A body that it would not take is
/// refused here, because nobody should pay for a 400.
#[derive(Clone)]
pub(super) struct Called {
    pub(super) menu: Menu,
    pub(super) provider: Provider,
    /// The most output that is sold for one price.
    pub(super) max_tokens: u64,
}

#[async_trait]
impl Pricing for Called {
    fn known(&self) -> Vec<Prices> {
        self.menu.options().known()
    }

    fn is_by_resource(&self) -> bool {
        self.menu.options().is_by_resource()
    }

    fn quote_head(&self, _: &Parts) -> HeadQuote {
        HeadQuote::NeedsBody
    }

    async fn quote(&self, head: &Parts, body: &Bytes) -> Quote {
        let priced = self.menu.choose(head, body).and_then(|option| {
            self.check(option, body)?;
            Ok(option.price.clone())
        });
        priced.into()
    }
}

impl Called {
    /// Whether the call of a model could be passed on.
    pub(super) fn check(&self, option: &ModelOption, body: &[u8]) -> Result<(), Refused> {
        check(body, self.max_tokens)?;
        match with_model(body, option.asked_model()) {
            Some(body) => self.provider.check(&body),
            None => Ok(()),
        }
    }
}

/// Whether a body has the members that every call has. The model is not looked at, see [`Menu::choose`], and the rest is
/// for the provider to say: [`Provider::check`].
pub(super) fn check(body: &[u8], most_tokens: u64) -> Result<(), Refused> {
    let Members(members) = serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_data() { error.to_string() } else { "it is no JSON".to_owned() };
        wrong("the body", format_args!("{what}; send one JSON object with model, max_tokens and messages"))
    })?;
    let find = |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    match find("max_tokens").map(Value::as_u64) {
        None => return Err(wrong("max_tokens", "it is missing; say how long the answer may become")),
        Some(Some(tokens)) if (1..=most_tokens).contains(&tokens) => {}
        Some(_) => return Err(wrong("max_tokens", format_args!("give a whole number between 1 and {most_tokens}"))),
    }
    match find("messages").map(Value::as_array) {
        None => Err(wrong("messages", "it is missing; give at least one message of the role user")),
        Some(Some(list)) if !list.is_empty() => Ok(()),
        Some(_) => Err(wrong("messages", "give a list with at least one message of the role user")),
    }
}

fn wrong(what: &str, problem: impl fmt::Display) -> Refused {
    Refused::bad_request(format!("{what}: {problem}. Nothing was charged."))
}

/// The members of an object, none of them twice: whoever reads the body behind us must read the same.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.len() > 100 {
                        return Err(A::Error::custom("it has too many members"));
                    }
                    if members.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// The same body for another model: nothing but the member `model` is changed, or added at the front. `None` when
/// it is no object.
pub(super) fn with_model(body: &[u8], model: &str) -> Option<Bytes> {
    let Model(value) = serde_json::from_slice(body).ok()?;
    let model = serde_json::to_string(model).ok()?;
    let (start, end, before, after) = match value {
        Some(value) => {
            let start = (value.get().as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
            (start, start.checked_add(value.get().len())?, "", "")
        }
        None => {
            let front = body.iter().position(|byte| *byte == b'{')? + 1;
            let is_empty = body.get(front..)?.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
            (front, front, "\"model\":", if is_empty { "" } else { "," })
        }
    };
    let parts = [body.get(..start)?, before.as_bytes(), model.as_bytes(), after.as_bytes(), body.get(end..)?];
    Some(parts.concat().into())
}

/// Where the member `model` is.
struct Model<'a>(Option<&'a RawValue>);

impl<'de> Deserialize<'de> for Model<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Model<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Model<'de>, A::Error> {
                let mut model = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "model" {
                        model = Some(map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Model(model))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"max_tokens":16,"messages":[{"role":"user","content":"hi"}]}"#;

    fn with(member: &str) -> String {
        GOOD.replacen('{', &format!("{{{member},"), 1)
    }

    #[test]
    fn what_every_call_has_is_missed_by_its_name() {
        assert_eq!(check(GOOD.as_bytes(), 16), Ok(()));
        for (bad, named) in [
            (String::new(), "the body"),
            ("[]".into(), "the body"),
            (GOOD.replace("}]}", "}]"), "the body"),
            (format!("{GOOD}x"), "the body"),
            (with("\"Messages\":[]"), "the body"),
            (with("\"max_tokens\":1"), "the body"),
            (GOOD.replace("\"max_tokens\":16,", ""), "max_tokens"),
            (GOOD.replace("16", "0"), "max_tokens"),
            (GOOD.replace("16", "101"), "max_tokens"),
            (GOOD.replace("16", "-1"), "max_tokens"),
            (GOOD.replace("16", "1.5"), "max_tokens"),
            (GOOD.replace("16", "\"16\""), "max_tokens"),
            (r#"{"max_tokens":16}"#.into(), "messages"),
            (r#"{"max_tokens":16,"messages":[]}"#.into(), "messages"),
            (r#"{"max_tokens":16,"messages":"hi"}"#.into(), "messages"),
        ] {
            let refused = check(bad.as_bytes(), 100).unwrap_err();
            assert_eq!(refused.status(), 400, "{bad}");
            assert!(refused.detail().starts_with(&format!("{named}: ")), "{bad}: {}", refused.detail());
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_fatal() {
        let deep = with(&format!("\"x\":{}{}", "[".repeat(100_000), "]".repeat(100_000)));
        assert!(check(deep.as_bytes(), 100).is_err());
    }

    #[test]
    fn only_the_model_changes() {
        for (sent, passed_on) in [
            (r#"{"model":"fast","a":1.00}"#, r#"{"model":"x/\"y","a":1.00}"#),
            (
                "{ \"a\":{\"model\":\"fast\"},\n\t\"model\" : \"f\\u0061st\" }",
                "{ \"a\":{\"model\":\"fast\"},\n\t\"model\" : \"x/\\\"y\" }",
            ),
            (r#" {"a":"é"}"#, r#" {"model":"x/\"y","a":"é"}"#),
            ("{ }", r#"{"model":"x/\"y" }"#),
            (r#"{"mod\u0065l":"fast"}"#, r#"{"mod\u0065l":"x/\"y"}"#),
        ] {
            assert_eq!(with_model(sent.as_bytes(), "x/\"y").unwrap(), passed_on, "{sent}");
        }
        for none in ["", "[]", "\"model\"", "{"] {
            assert_eq!(with_model(none.as_bytes(), "x"), None);
        }
    }
}
