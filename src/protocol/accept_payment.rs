//! `Accept-Payment`: which offers a client can pay, and which it likes best (core draft section 7.4).

use std::{cmp::Reverse, fmt, ops::Range};

use http::HeaderValue;

use super::ids::{Intent, MethodId};

/// The most bytes of `Accept-Payment`, over all its lines; a longer one is ignored.
const MAX_BYTES: usize = 8 * 1024;

/// The most ranges; a header with more is ignored.
const MAX_RANGES: usize = 64;

/// What `q=1` and a range without `q` mean.
const FULL: u16 = 1000;

/// The preferences of a client, parsed from `Accept-Payment`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptPayment {
    /// In the order of the header.
    ranges: Vec<PaymentRange>,
    /// What the ranges point into.
    names: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PaymentRange {
    /// `None` is `*`.
    method: Option<Range<usize>>,
    /// `None` is `*`.
    intent: Option<Range<usize>>,
    /// Thousandths.
    quality: u16,
}

impl PaymentRange {
    /// A range that names both is more specific than one that names one, and one that names the
    /// method more than one that names the intent: the draft leaves that tie open, its example reads
    /// `tempo/*, */session;q=0.3` as "anything of tempo, and sessions of others if need be", and it
    /// is how media ranges work.
    fn specificity(&self) -> u8 {
        2 * u8::from(self.method.is_some()) + u8::from(self.intent.is_some())
    }
}

impl AcceptPayment {
    /// Reads all `Accept-Payment` values. `None` when there is none, and when it is malformed, which
    /// the draft allows to ignore: either way any offer is welcome.
    ///
    /// The name `q` has no case, its value has at most three decimals; other parameters of a range
    /// are passed over.
    pub fn parse<'h>(values: impl IntoIterator<Item = &'h HeaderValue>) -> Option<Self> {
        let mut parsed = Self { ranges: Vec::new(), names: String::new() };
        let mut room = MAX_BYTES;
        for value in values {
            let value = value.to_str().ok()?;
            room = room.checked_sub(value.len())?;
            for element in value.split(',').map(trim).filter(|element| !element.is_empty()) {
                if parsed.ranges.len() == MAX_RANGES {
                    return None;
                }
                parsed.push(element)?;
            }
        }
        (!parsed.ranges.is_empty()).then_some(parsed)
    }

    /// The weight of an offer in thousandths: that of the most specific range that matches, 0 when
    /// none does. Of two ranges for the same thing the first counts.
    pub fn quality(&self, method: &str, intent: &str) -> u16 {
        let matches = |name: &Option<Range<usize>>, offered: &str| name.is_none() || self.text(name) == offered;
        self.ranges
            .iter()
            .filter(|range| matches(&range.method, method) && matches(&range.intent, intent))
            // The least key is the first of several equal ones.
            .min_by_key(|range| Reverse(range.specificity()))
            .map_or(0, |range| range.quality)
    }

    /// Keeps the offers that the client accepts, best first; offers of equal weight keep the
    /// merchant's order. `key` gives method and intent of an offer.
    ///
    /// When the client accepts none, also when it refuses every one by `q=0`, all stay as they are:
    /// a 402 must carry a challenge, the draft allows to ignore the header then, and to refuse
    /// service instead would not help the client, which is free not to pay.
    pub fn arrange<T>(&self, offers: &mut Vec<T>, key: impl Fn(&T) -> (&str, &str)) {
        let quality = |offer: &T| {
            let (method, intent) = key(offer);
            self.quality(method, intent)
        };
        if offers.iter().any(|offer| quality(offer) > 0) {
            offers.retain(|offer| quality(offer) > 0);
            offers.sort_by_key(|offer| Reverse(quality(offer)));
        }
    }

    /// A name of a range, or `*`.
    fn text(&self, name: &Option<Range<usize>>) -> &str {
        name.clone().and_then(|name| self.names.get(name)).unwrap_or("*")
    }

    fn push(&mut self, element: &str) -> Option<()> {
        let mut parts = element.split(';').map(trim);
        let (method, intent) = parts.next()?.split_once('/')?;
        let method = self.name(trim(method), MethodId::is_valid)?;
        let intent = self.name(trim(intent), Intent::is_valid)?;
        let mut quality = None;
        for parameter in parts.filter(|part| !part.is_empty()) {
            let (name, value) = parameter.split_once('=')?;
            let (name, value) = (trim(name), trim(value));
            if name.eq_ignore_ascii_case("q") {
                let value = thousandths(value)?;
                if quality.replace(value).is_some() {
                    return None;
                }
            } else if !is_token(name) || !is_token(value) {
                return None;
            }
        }
        self.ranges.push(PaymentRange { method, intent, quality: quality.unwrap_or(FULL) });
        Some(())
    }

    /// Takes a name or `*`.
    fn name(&mut self, name: &str, is_valid: fn(&str) -> bool) -> Option<Option<Range<usize>>> {
        if name == "*" {
            return Some(None);
        }
        if !is_valid(name) {
            return None;
        }
        let start = self.names.len();
        self.names.push_str(name);
        Some(Some(start..self.names.len()))
    }
}

/// The header as a client sends it.
impl fmt::Display for AcceptPayment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}/{}", self.text(&range.method), self.text(&range.intent))?;
            if range.quality < FULL {
                let decimals = format!("{:03}", range.quality);
                match decimals.trim_end_matches('0') {
                    "" => f.write_str(";q=0")?,
                    decimals => write!(f, ";q=0.{decimals}")?,
                }
            }
        }
        Ok(())
    }
}

/// Reads a `qvalue` (RFC 9110 section 12.4.2): `0` to `1` with at most three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let whole = match whole {
        "0" => 0,
        "1" => FULL,
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction =
        [100, 10, 1].into_iter().zip(decimals.bytes()).map(|(unit, digit)| unit * u16::from(digit - b'0')).sum::<u16>();
    Some(whole + fraction).filter(|quality| *quality <= FULL)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(super::auth_params::is_token_byte)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<AcceptPayment> {
        AcceptPayment::parse(&[HeaderValue::from_str(text).unwrap()])
    }

    fn arranged<'o>(header: &str, offers: &[&'o str]) -> Vec<&'o str> {
        let mut offers = offers.to_vec();
        parse(header).unwrap().arrange(&mut offers, |offer| offer.split_once('/').unwrap());
        offers
    }

    #[test]
    fn quality_is_zero_to_one_with_three_decimals_and_no_float() {
        for (text, value) in [
            ("0", Some(0)),
            ("0.", Some(0)),
            ("0.5", Some(500)),
            ("0.25", Some(250)),
            ("0.001", Some(1)),
            ("0.999", Some(999)),
            ("1", Some(1000)),
            ("1.", Some(1000)),
            ("1.000", Some(1000)),
            ("1.001", None),
            ("0.0001", None),
            ("1.0000", None),
            (".5", None),
            ("2", None),
            ("01", None),
            ("-0", None),
            ("+1", None),
            ("1e0", None),
            ("NaN", None),
            ("0.٣", None),
            ("", None),
        ] {
            assert_eq!(thousandths(text), value, "{text:?}");
        }
    }

    #[test]
    fn a_capital_q_is_a_q() {
        assert_eq!(parse("tempo/charge;Q=0").unwrap().quality("tempo", "charge"), 0);
        assert_eq!(parse("tempo/charge ;\tQ = 0.5").unwrap().quality("tempo", "charge"), 500);
    }

    #[test]
    fn the_most_specific_range_wins_and_not_the_kindest() {
        let preferences = parse("*/*;q=0.1, */charge;q=0.2, tempo/*;q=0.9, tempo/charge;q=0").unwrap();
        assert_eq!(preferences.quality("tempo", "charge"), 0);
        assert_eq!(preferences.quality("tempo", "session"), 900);
        assert_eq!(preferences.quality("stripe", "charge"), 200);
        assert_eq!(preferences.quality("stripe", "session"), 100);
    }

    #[test]
    fn a_named_method_is_more_specific_than_a_named_intent() {
        // The example of the draft, both ways round.
        for header in ["tempo/*, solana/*;q=0.6, */session;q=0.3", "*/session;q=0.3, solana/*;q=0.6, tempo/*"] {
            let preferences = parse(header).unwrap();
            assert_eq!(preferences.quality("tempo", "session"), 1000, "{header}");
            assert_eq!(preferences.quality("solana", "session"), 600, "{header}");
            assert_eq!(preferences.quality("stripe", "session"), 300, "{header}");
            assert_eq!(preferences.quality("stripe", "charge"), 0, "{header}");
        }
    }

    #[test]
    fn of_two_ranges_for_the_same_thing_the_first_counts() {
        assert_eq!(parse("a/b;q=0.2, a/b;q=0.8").unwrap().quality("a", "b"), 200);
    }

    #[test]
    fn offers_are_filtered_and_ordered_as_in_the_draft() {
        let all = ["tempo/session", "tempo/charge", "stripe/charge", "solana/charge"];
        for (header, expected) in [
            (
                "tempo/charge, tempo/session, stripe/charge;q=0.5, solana/charge;q=0.3",
                &["tempo/session", "tempo/charge", "stripe/charge", "solana/charge"][..],
            ),
            (
                "tempo/*, solana/*;q=0.6, stripe/charge;q=0.2",
                &["tempo/session", "tempo/charge", "solana/charge", "stripe/charge"],
            ),
            (
                "tempo/charge, tempo/session;q=0, solana/charge;q=0.8, stripe/charge;q=0.4",
                &["tempo/charge", "solana/charge", "stripe/charge"],
            ),
            ("solana/charge", &["solana/charge"]),
        ] {
            assert_eq!(arranged(header, &all), expected, "{header}");
        }
    }

    #[test]
    fn when_nothing_is_accepted_the_normal_set_stays() {
        let all = ["tempo/charge", "stripe/charge"];
        for header in ["solana/charge", "*/*;q=0", "tempo/charge;q=0, stripe/*;Q=0.000"] {
            assert_eq!(arranged(header, &all), all, "{header}");
        }
        assert_eq!(arranged("*/*", &[]), Vec::<&str>::new());
    }

    #[test]
    fn a_malformed_header_is_no_preference() {
        for text in [
            "",
            ",",
            "tempo",
            "tempo/",
            "/charge",
            "tempo/charge/x",
            "Tempo/charge",
            "te*/charge",
            "tempo/a b",
            "tempo/charge;q",
            "tempo/charge;q=",
            "tempo/charge;q=2",
            "tempo/charge;q=0;q=1",
            "tempo/charge;q=0;Q=1",
            "tempo/charge;q=0=1",
            "tempo/charge;a=\"b\"",
            "tempo/charge, !",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(AcceptPayment::parse(&[]), None);
        let latin_1 = HeaderValue::from_bytes(b"tempo/charge, caf\xe9/charge").unwrap();
        assert_eq!(AcceptPayment::parse(&[latin_1]), None);
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = ["tempo/charge;q=0.5", "", "stripe/charge, x402/charge;q=0.1"];
        let lines = lines.map(|line| HeaderValue::from_str(line).unwrap());
        let preferences = AcceptPayment::parse(&lines).unwrap();
        assert_eq!(preferences.to_string(), "tempo/charge;q=0.5, stripe/charge, x402/charge;q=0.1");
    }

    #[test]
    fn a_flood_of_ranges_is_ignored() {
        assert!(parse(&vec!["a/b"; MAX_RANGES].join(",")).is_some());
        assert_eq!(parse(&vec!["a/b"; MAX_RANGES + 1].join(",")), None);
        assert_eq!(parse(&format!("a/b{}", " ".repeat(MAX_BYTES))), None);
    }

    fn name(pattern: &'static str) -> impl Strategy<Value = String> {
        prop_oneof![Just("*".to_owned()), pattern]
    }

    proptest! {
        #[test]
        fn preferences_round_trip(
            ranges in prop::collection::vec((name("[a-z][a-z0-9:_-]{0,8}"), name("[A-Za-z0-9-]{1,8}"), 0u16..=1000), 1..10),
        ) {
            let header = ranges
                .iter()
                .map(|(method, intent, q)| format!("{method}/{intent};q={}.{:03}", q / 1000, q % 1000))
                .collect::<Vec<_>>()
                .join(" ,");
            let parsed = parse(&header).unwrap();
            prop_assert_eq!(parse(&parsed.to_string()), Some(parsed));
        }

        #[test]
        fn any_text_is_read(text in "[ -~\t]*") {
            if let Some(parsed) = parse(&text) {
                prop_assert_eq!(parse(&parsed.to_string()), Some(parsed));
            }
        }
    }
}
