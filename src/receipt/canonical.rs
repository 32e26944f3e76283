//! The canonical form of receipts: Unicode NFC on names and values, then RFC 8785.
//!
//! (The plain form, which never normalises and in which challenges are bound, is
//! [`protocol::jcs`](crate::protocol::jcs).)

use std::{borrow::Cow, cmp::Ordering, fmt};

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use unicode_normalization::{UnicodeNormalization as _, is_nfc};

/// The longest JSON that is read or signed, in bytes: 4 MiB.
pub const MAX_JSON_BYTES: usize = 4 * 1024 * 1024;

/// How many objects and arrays may lie in each other.
const MAX_DEPTH: usize = 64;

/// The largest integer that every reader of JSON reads exactly.
pub(super) const MAX_INTEGER: u64 = (1 << 53) - 1;

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
    /// It is longer than 4 MiB.
    #[error("the JSON is longer than 4 MiB")]
    TooLong,
    /// More than 64 objects and arrays lie in each other.
    #[error("more than 64 objects and arrays lie in each other")]
    TooDeep,
    /// A number that readers would not agree about: a count above 2⁵³ - 1, or a cost with more than 15 digits.
    #[error("{0} is a number that not every reader reads exactly")]
    Number(&'static str),
}

/// Writes JSON in the canonical form of receipts: names and values in Unicode NFC, then RFC 8785.
///
/// # Errors
/// [`CanonicalError`].
pub fn canonicalize(json: &str) -> Result<String, CanonicalError> {
    let mut out = String::with_capacity(json.len());
    Node::parse(json)?.write(&mut out);
    Ok(out)
}

/// JSON whose texts are in NFC and whose objects are sorted and have every name once.
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Members<'a>),
}

pub(super) type Members<'a> = Vec<(Cow<'a, str>, Node<'a>)>;

impl<'a> Node<'a> {
    pub(super) fn parse(json: &'a str) -> Result<Self, CanonicalError> {
        if json.len() > MAX_JSON_BYTES {
            return Err(CanonicalError::TooLong);
        }
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let reader = Reader { depth: MAX_DEPTH };
        // The reader itself objects to one thing only.
        let mut node = reader.deserialize(&mut deserializer).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => CanonicalError::TooDeep,
            _ => CanonicalError::Json,
        })?;
        deserializer.end().map_err(|_| CanonicalError::Json)?;
        node.sort()?;
        Ok(node)
    }

    fn sort(&mut self) -> Result<(), CanonicalError> {
        match self {
            Self::Array(items) => items.iter_mut().try_for_each(Self::sort),
            Self::Object(members) => {
                members.sort_by(|(one, _), (other, _)| compare(one, other));
                if members.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other)) {
                    return Err(CanonicalError::Duplicate);
                }
                members.iter_mut().try_for_each(|(_, value)| value.sort())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(number) => out.push_str(ryu_js::Buffer::new().format(*number)),
            Self::Text(text) => push_normal(out, text),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => write_members(members, out),
        }
    }

    /// The same for who wants to look something up.
    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(bool),
            Self::Number(number) => value_of(number),
            Self::Text(text) => Value::String(text.into_owned()),
            Self::Array(items) => Value::Array(items.into_iter().map(Self::into_value).collect()),
            Self::Object(members) => members_value(members),
        }
    }
}

pub(super) fn write_members(members: &Members<'_>, out: &mut String) {
    out.push('{');
    for (at, (name, value)) in members.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_normal(out, name);
        out.push(':');
        value.write(out);
    }
    out.push('}');
}

pub(super) fn members_value(members: Members<'_>) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.into_owned(), value.into_value())).collect())
}

/// What is a whole number stays one, for readers that want integers.
fn value_of(number: f64) -> Value {
    const MAX: f64 = 9_007_199_254_740_991.0;
    if number.fract() == 0.0 && (-MAX..=MAX).contains(&number) {
        #[allow(clippy::cast_possible_truncation, reason = "it is whole and in range")]
        return Value::from(number as i64);
    }
    Value::from(number)
}

/// By UTF-16 code units (RFC 8785, section 3.2.3).
fn compare(one: &str, other: &str) -> Ordering {
    if one.is_ascii() && other.is_ascii() { one.cmp(other) } else { one.encode_utf16().cmp(other.encode_utf16()) }
}

fn normal(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc(&text) { text } else { Cow::Owned(text.nfc().collect()) }
}

/// Writes a text, normalised, in quotes.
pub(super) fn push_text(out: &mut String, text: &str) {
    push_normal(out, &normal(Cow::Borrowed(text)));
}

/// Writes a text that is in NFC in quotes, with as few escapes as RFC 8785 asks for.
fn push_normal(out: &mut String, text: &str) {
    out.push('"');
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push_str(text);
    } else {
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\u{8}' => out.push_str("\\b"),
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\u{c}' => out.push_str("\\f"),
                '\r' => out.push_str("\\r"),
                control @ '\0'..='\u{1f}' => {
                    out.push_str("\\u00");
                    out.push(if control < '\u{10}' { '0' } else { '1' });
                    out.extend(char::from_digit(u32::from(control) & 15, 16));
                }
                other => out.push(other),
            }
        }
    }
    out.push('"');
}

/// Reads JSON without losing what is there twice.
#[derive(Clone, Copy)]
struct Reader {
    depth: usize,
}

impl Reader {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth }),
            None => Err(E::custom("too deep")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Node<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A name is a text, borrowed where it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(normal(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(normal(Cow::Owned(text.to_owned())))
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node<'de>, A::Error> {
        let inner = self.deeper::<A::Error>()?;
        let mut members = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            members.push((name, map.next_value_seed(inner)?));
        }
        Ok(Node::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node<'de>, A::Error> {
        let inner = self.deeper::<A::Error>()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool(bool))
    }

    // Every number is a double (RFC 8785, section 3.2.2.3), and the nearest one.
    #[allow(clippy::cast_precision_loss, reason = "that is what the specification asks for")]
    fn visit_i64<E>(self, number: i64) -> Result<Node<'de>, E> {
        Ok(Node::Number(number as f64))
    }

    #[allow(clippy::cast_precision_loss, reason = "that is what the specification asks for")]
    fn visit_u64<E>(self, number: u64) -> Result<Node<'de>, E> {
        Ok(Node::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node<'de>, E> {
        Ok(Node::Number(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Node<'de>, E> {
        Name.visit_borrowed_str(text).map(Node::Text)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node<'de>, E> {
        Name.visit_str(text).map(Node::Text)
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }
}
