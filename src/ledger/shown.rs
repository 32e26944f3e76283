//! What a served receipt says, read from its canonical JSON, and how it is shown to people.
//!
//! The script of the page (`pages/verify.js`) shows the same members in the same words, and compares: who changes
//! something here changes it there.

use std::{borrow::Cow, fmt, fmt::Write as _};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::protocol::{Amount, Currency, Timestamp};

/// The members of a JSON object, in their order and as they are written.
pub(super) struct Members<'j>(Vec<(Cow<'j, str>, &'j RawValue)>);

impl<'j> Members<'j> {
    pub(super) fn parse(json: &'j str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// A member as it is written. `None` also when it is null.
    pub(super) fn raw(&self, name: &str) -> Option<&'j str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value.get()).filter(|raw| *raw != "null")
    }

    /// Whether there is such a member, be it null.
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// A member that is a text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.raw(name)?).ok()
    }

    /// Whether there is nothing but a member of this name.
    pub(super) fn is_only(&self, name: &str) -> bool {
        matches!(self.0.as_slice(), [(known, _)] if known == name)
    }

    /// The same object without a member: of canonical JSON, canonical again.
    pub(super) fn without(&self, name: &str) -> String {
        let mut json = String::from("{");
        for (known, value) in self.0.iter().filter(|(known, _)| known != name) {
            if json.len() > 1 {
                json.push(',');
            }
            let _ = write!(json, "{}:{}", Quoted(known), value.get());
        }
        json.push('}');
        json
    }

    /// With every member on a line of its own.
    pub(super) fn lines(&self) -> String {
        let mut json = String::from("{");
        for (place, (name, value)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let _ = write!(json, "{comma}\n  {}: {}", Quoted(name), value.get());
        }
        json.push_str("\n}");
        visible(&json)
    }
}

impl<'de: 'j, 'j> Deserialize<'de> for Members<'j> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(80);
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object).map(Self)
    }
}

/// A name, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Name<'j>(#[serde(borrow)] Cow<'j, str>);

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).unwrap_or_default())
    }
}

/// What a person should see and would not: control characters, and those that turn the direction of text or have no
/// width, are spelt out. A name must not look like another one, and browsers drop some of them.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let hidden = match character {
            '\n' => false,
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => true,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => true,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
            '\u{fff9}'..='\u{fffb}' => true,
            _ => false,
        };
        match hidden {
            true => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(character));
            }
            false => shown.push(character),
        }
    }
    shown
}

/// How a member is shown.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// As it is.
    Plain,
    /// A whole number, in groups of three digits.
    Count,
    /// A number of dollars.
    Dollars,
    /// An instant.
    Instant,
}

/// A member as people read it.
pub(super) fn shown(raw: &str, kind: Kind) -> String {
    if raw.starts_with('"') {
        let text: String = serde_json::from_str(raw).unwrap_or_default();
        return match kind {
            Kind::Instant => instant(&text),
            _ => visible(&text).replace('\n', "\\u{a}"),
        };
    }
    match kind {
        Kind::Count => grouped(raw),
        Kind::Dollars => format!("{} USD", without_exponent(raw)),
        _ => visible(raw),
    }
}

fn grouped(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return visible(number);
    }
    let mut shown = sign.to_owned();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `1.2e-7` as `0.00000012`. What has no small negative exponent stays as it is.
fn without_exponent(number: &str) -> String {
    let Some((mantissa, exponent)) = number.split_once("e-") else { return visible(number) };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    match exponent.parse::<usize>() {
        Ok(places @ 1..=40) => format!("{sign}0.{}{}", "0".repeat(places - 1), mantissa.replace('.', "")),
        _ => visible(number),
    }
}

/// The instant in milliseconds, where it has the form that instants in receipts have.
pub(super) fn millis(text: &str) -> Option<i64> {
    let shape = b"dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = text.len() == shape.len()
        && text.bytes().zip(shape).all(|(byte, class)| match class {
            b'd' => byte.is_ascii_digit(),
            literal => byte == *literal,
        });
    if !fits {
        return None;
    }
    text.parse().ok().map(Timestamp::unix_millis)
}

fn instant(text: &str) -> String {
    match millis(text) {
        Some(_) => text.replace('T', " ").replace('Z', " UTC"),
        None => visible(text).replace('\n', "\\u{a}"),
    }
}

/// What was paid: `0.50 USD`.
pub(super) fn paid(receipt: &Members<'_>) -> String {
    if !receipt.has("payment") {
        return "Payment not shown".to_owned();
    }
    let payment = receipt.raw("payment").and_then(Members::parse);
    let texts = payment.and_then(|payment| Some((payment.text("amount")?, payment.text("currency")?)));
    let Some((amount, currency)) = texts else { return "No payment".to_owned() };
    let decimals = Currency::new(&currency).ok().and_then(|currency| currency.iso_decimals());
    match (amount.parse::<Amount>(), decimals) {
        (Ok(minor), Some(decimals)) => format!("{} {}", minor.to_decimal(decimals), currency.to_ascii_uppercase()),
        _ => {
            let line = |text: &str| visible(text).replace('\n', "\\u{a}");
            format!("{} minor units of {}", line(&amount), line(&currency))
        }
    }
}

/// How long the call took: `167 ms`.
pub(super) fn took(receipt: &Members<'_>) -> Option<String> {
    let [start, end] = ["request_started_at", "request_ended_at"].map(|name| receipt.text(name));
    let took = millis(&end?)?.checked_sub(millis(&start?)?)?;
    Some(format!("{} ms", grouped(&took.to_string())))
}

/// The modules that the call went through.
pub(super) fn modules(receipt: &Members<'_>) -> Vec<String> {
    let modules: Vec<&RawValue> =
        receipt.raw("module_chain").and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    modules.into_iter().map(|module| shown(module.get(), Kind::Plain)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_to_their_last_digit() {
        for (raw, shown) in [
            ("0.0000012", "0.0000012 USD"),
            ("1.2e-7", "0.00000012 USD"),
            ("-1e-12", "-0.000000000001 USD"),
            ("1e+21", "1e+21 USD"),
            ("0", "0 USD"),
        ] {
            assert_eq!(super::shown(raw, Kind::Dollars), shown);
        }
        for (raw, shown) in [("0", "0"), ("999", "999"), ("1000", "1,000"), ("-1234567", "-1,234,567"), ("0.5", "0.5")]
        {
            assert_eq!(super::shown(raw, Kind::Count), shown);
        }
    }

    #[test]
    fn what_nobody_sees_is_spelt_out() {
        assert_eq!(visible("a\u{202e}b\u{0}\r"), "a\\u{202e}b\\u{0}\\u{d}");
        assert_eq!(shown("\"a\\nb\"", Kind::Plain), "a\\u{a}b");
    }

    #[test]
    fn amounts_are_shown_as_their_currency_has_them() {
        for (payment, shown) in [
            (r#"{"amount":"50","currency":"usd"}"#, "0.50 USD"),
            (r#"{"amount":"50","currency":"jpy"}"#, "50 JPY"),
            (r#"{"amount":"50000","currency":"0x20c0"}"#, "50000 minor units of 0x20c0"),
            (r#"{"amount":"-1","currency":"usd"}"#, "-1 minor units of usd"),
            (r#"{"amount":5}"#, "No payment"),
            ("null", "No payment"),
        ] {
            let receipt = format!(r#"{{"payment":{payment}}}"#);
            assert_eq!(paid(&Members::parse(&receipt).unwrap()), shown);
        }
        assert_eq!(paid(&Members::parse("{}").unwrap()), "Payment not shown");
    }

    #[test]
    fn a_member_is_taken_out_and_nothing_else_changes() {
        let json = r#"{"a":1.20,"b\"":{"signature":2},"signature":"x","z":[]}"#;
        assert_eq!(Members::parse(json).unwrap().without("signature"), r#"{"a":1.20,"b\"":{"signature":2},"z":[]}"#);
    }
}
