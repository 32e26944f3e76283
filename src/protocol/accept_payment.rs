//! `Accept-Payment`: which offers a client can pay, and which it likes best (core draft section 7.4).

use std::{cmp::Reverse, ops::Range};

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
    /// Most specific first; equally specific ones in the order of the header.
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
        let mut parsed = Self {
            ranges: Vec::new(),
            names: String::new(),
        };
        let mut room = MAX_BYTES;
        for value in values {
            let value = value.to_str().ok()?;
            room = room.checked_sub(value.len())?;
            for element in value
                .split(',')
                .map(trim)
                .filter(|element| !element.is_empty())
            {
                if parsed.ranges.len() == MAX_RANGES {
                    return None;
                }
                parsed.push(element)?;
            }
        }
        if parsed.ranges.is_empty() {
            return None;
        }
        // Stable: of two ranges for the same thing the first counts.
        parsed
            .ranges
            .sort_by_key(|range| Reverse(range.specificity()));
        Some(parsed)
    }

    /// The weight of an offer in thousandths: that of the most specific range that matches, 0 when
    /// none does.
    pub fn quality(&self, method: &str, intent: &str) -> u16 {
        let matches = |name: &Option<Range<usize>>, offered: &str| {
            name.clone()
                .is_none_or(|name| self.names.get(name) == Some(offered))
        };
        self.ranges
            .iter()
            .find(|range| matches(&range.method, method) && matches(&range.intent, intent))
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
        self.ranges.push(PaymentRange {
            method,
            intent,
            quality: quality.unwrap_or(FULL),
        });
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
    let fraction = [100, 10, 1]
        .into_iter()
        .zip(decimals.bytes())
        .map(|(unit, digit)| unit * u16::from(digit - b'0'))
        .sum::<u16>();
    Some(whole + fraction).filter(|quality| *quality <= FULL)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(super::auth_params::is_token_byte)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
