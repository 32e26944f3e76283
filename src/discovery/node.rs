//! JSON whose members keep the order in which they are written.

use std::borrow::Cow;

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};
use serde_json::{Value, value::RawValue};

/// A JSON value. Text that came from a configuration stays text: nothing is pasted into the document.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Text(String),
    /// A number or a whole value that is JSON already.
    Raw(Box<RawValue>),
    /// Foreign JSON, such as a schema.
    Value(Value),
    List(Vec<Node>),
    Object(Vec<(Cow<'static, str>, Node)>),
}

impl Node {
    pub(super) fn object() -> Self {
        Self::Object(Vec::new())
    }

    pub(super) fn list<T: Into<Self>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// A typed value with its members in the order of its declaration.
    pub(super) fn of(value: &impl Serialize) -> Self {
        serde_json::value::to_raw_value(value).map_or(Self::Null, Self::Raw)
    }

    /// The number that a decimal writes, in its shortest form: `0.50` becomes `0.5`. No float is made of it.
    pub(super) fn number(decimal: &str) -> Self {
        RawValue::from_string(trimmed(decimal).to_owned()).map_or(Self::Null, Self::Raw)
    }

    /// Adds a member. It does nothing to what is no object.
    pub(super) fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Self>) -> Self {
        self.push(name, value);
        self
    }

    /// Adds a member when there is one.
    pub(super) fn maybe(self, name: impl Into<Cow<'static, str>>, value: Option<impl Into<Self>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(super) fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Self>) {
        if let Self::Object(members) = self {
            members.push((name.into(), value.into()));
        }
    }

    /// As compact JSON.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "null".into())
    }
}

/// A decimal without the zeros at its end: `0.50` is `0.5`, and `1.00` is `1`.
pub(super) fn trimmed(decimal: &str) -> &str {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.') } else { decimal }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(on) => serializer.serialize_bool(*on),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Raw(json) => json.serialize(serializer),
            Self::Value(value) => value.serialize(serializer),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Node {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<bool> for Node {
    fn from(on: bool) -> Self {
        Self::Bool(on)
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl From<u8> for Node {
    fn from(number: u8) -> Self {
        Self::Value(number.into())
    }
}

impl From<u64> for Node {
    fn from(number: u64) -> Self {
        Self::Value(number.into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Node {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_text_stays_text() {
        let node = Node::object()
            .with("z", "\"},\"a\":\"")
            .with("a", Node::number("0.50"))
            .maybe("none", None::<&str>)
            .with("m", Node::list(["x"]))
            .with("n", None::<bool>);
        assert_eq!(node.to_json(), r#"{"z":"\"},\"a\":\"","a":0.5,"m":["x"],"n":null}"#);
    }

    #[test]
    fn numbers_are_the_decimals_without_their_last_zeros() {
        for (decimal, number) in
            [("0.50", "0.5"), ("1.00", "1"), ("100", "100"), ("0", "0"), ("0.00", "0"), ("10.010", "10.01")]
        {
            assert_eq!(Node::number(decimal).to_json(), number, "{decimal}");
        }
    }
}
