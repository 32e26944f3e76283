//! Costs in US dollars, exactly.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of US dollars for a cost: a decimal number without rounding, in steps of 10⁻¹² dollars.
///
/// A receipt has it as a JSON number. Such a number is the same for every reader as long as it has at most
/// [15 significant digits](Self::is_exact); a receipt with a longer one is not signed.
///
/// ```
/// # use tower_mpp::receipt::UsdCost;
/// let cost: UsdCost = "0.0000012".parse()?;
/// assert_eq!(cost.pico(), 1_200_000);
/// # Ok::<(), tower_mpp::receipt::InvalidCost>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UsdCost(i64);

/// The text is not a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCost {
    /// Not a decimal number.
    #[error("a cost is a decimal number of dollars such as 0.0000012")]
    Syntax,
    /// Finer than 10⁻¹² dollars.
    #[error("a cost has at most 12 digits after the dot")]
    TooPrecise,
    /// More than 15 significant digits, or more than nine million dollars.
    #[error("a cost has at most 15 significant digits and 9 million dollars")]
    TooLarge,
}

const DECIMALS: i32 = 12;

impl UsdCost {
    /// So many 10⁻¹² dollars.
    pub const fn from_pico(pico: i64) -> Self {
        Self(pico)
    }

    /// In 10⁻¹² dollars.
    pub const fn pico(self) -> i64 {
        self.0
    }

    /// Whether it has at most 15 significant digits, as receipts need it.
    pub fn is_exact(self) -> bool {
        let mut rest = self.0.unsigned_abs();
        while rest >= 10_u64.pow(15) && rest.is_multiple_of(10) {
            rest /= 10;
        }
        rest < 10_u64.pow(15)
    }

    /// Writes it as ECMAScript writes the number, or nothing where it is not exact.
    pub(super) fn write(self, out: &mut String) -> Option<()> {
        if !self.is_exact() {
            return None;
        }
        if self.0 < 0 {
            out.push('-');
        }
        let padded = self.0.unsigned_abs().to_string();
        let digits = padded.trim_end_matches('0');
        if digits.is_empty() {
            out.push('0');
            return Some(());
        }
        // ECMA-262, Number::toString: the value is 0.digits * 10^point. It never exceeds 10^7.
        let point = i32::try_from(padded.len()).ok()? - DECIMALS;
        let length = i32::try_from(digits.len()).ok()?;
        if point >= length {
            out.push_str(digits);
            out.extend(std::iter::repeat_n('0', usize::try_from(point - length).ok()?));
        } else if point > 0 {
            let (whole, fraction) = digits.split_at_checked(usize::try_from(point).ok()?)?;
            out.extend([whole, ".", fraction]);
        } else if point > -6 {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', usize::try_from(-point).ok()?));
            out.push_str(digits);
        } else {
            let (first, more) = digits.split_at_checked(1)?;
            out.extend([first, if more.is_empty() { "" } else { "." }, more, "e-"]);
            out.push_str(&(1 - point).to_string());
        }
        Some(())
    }

    /// Reads a decimal number with an exponent of ten.
    fn scaled(text: &str, exponent: i32) -> Result<Self, InvalidCost> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(InvalidCost::Syntax),
            None => (text, ""),
        };
        let digits = || whole.bytes().chain(fraction.bytes());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || leading_zero || !digits().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidCost::Syntax);
        }
        let mut pico: i64 = 0;
        // Where the last digit that was read stands.
        let mut place = i32::try_from(whole.len()).map_err(|_| InvalidCost::TooLarge)?.saturating_add(exponent);
        for digit in digits().map(|byte| i64::from(byte - b'0')) {
            place = place.saturating_sub(1);
            if place >= -DECIMALS {
                pico = pico.checked_mul(10).and_then(|sum| sum.checked_add(digit)).ok_or(InvalidCost::TooLarge)?;
            } else if digit != 0 {
                return Err(InvalidCost::TooPrecise);
            }
        }
        let missing = place.max(-DECIMALS).saturating_add(DECIMALS);
        if pico != 0 {
            let factor = u32::try_from(missing).ok().and_then(|zeros| 10_i64.checked_pow(zeros));
            pico = factor.and_then(|factor| pico.checked_mul(factor)).ok_or(InvalidCost::TooLarge)?;
        }
        let cost = Self(if negative { -pico } else { pico });
        if cost.is_exact() { Ok(cost) } else { Err(InvalidCost::TooLarge) }
    }
}

impl FromStr for UsdCost {
    type Err = InvalidCost;

    /// Reads dollars as a decimal number: `0.0000012`, `-4.5`. No exponent, no sign but `-`, nothing rounded.
    fn from_str(text: &str) -> Result<Self, InvalidCost> {
        Self::scaled(text, 0)
    }
}

/// Dollars with as many digits as are needed: `0.0000012`.
impl fmt::Display for UsdCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, rest) = (self.0.unsigned_abs() / 1_000_000_000_000, self.0.unsigned_abs() % 1_000_000_000_000);
        let sign = if self.0 < 0 { "-" } else { "" };
        if rest == 0 {
            return f.pad(&format!("{sign}{dollars}"));
        }
        f.pad(format!("{sign}{dollars}.{rest:012}").trim_end_matches('0'))
    }
}

impl fmt::Debug for UsdCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UsdCost({self})")
    }
}

/// A JSON number.
impl Serialize for UsdCost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The double that is nearest to an exact decimal number is written as that number.
        match self.to_string().parse::<f64>() {
            Ok(number) if self.is_exact() => serializer.serialize_f64(number),
            _ => Err(serde::ser::Error::custom(InvalidCost::TooLarge)),
        }
    }
}

impl<'de> Deserialize<'de> for UsdCost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl de::Visitor<'_> for Number {
            type Value = UsdCost;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of dollars")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<UsdCost, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<UsdCost, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<UsdCost, E> {
                let mut buffer = ryu_js::Buffer::new();
                let text = buffer.format(number);
                let (text, exponent) = text.split_once('e').unwrap_or((text, "0"));
                let exponent = exponent.parse().map_err(|_| E::custom(InvalidCost::Syntax))?;
                UsdCost::scaled(text, exponent).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(cost: UsdCost) -> Option<String> {
        let mut out = String::new();
        cost.write(&mut out).map(|()| out)
    }

    #[test]
    fn written_as_ecmascript_writes_numbers() {
        for (pico, text) in [
            (0, "0"),
            (1, "1e-12"),
            (-12, "-1.2e-11"),
            (100_000, "1e-7"),
            (123_456, "1.23456e-7"),
            (1_000_000, "0.000001"),
            (1_200_000, "0.0000012"),
            (500_000_000_000, "0.5"),
            (1_000_000_000_000, "1"),
            (4_500_000_000_000, "4.5"),
            (-120_000_000_000_000, "-120"),
            (9_000_000_000_000_000_000, "9000000"),
            (999_999_999_999_999, "999.999999999999"),
        ] {
            assert_eq!(number(UsdCost(pico)).as_deref(), Some(text));
            assert_eq!(serde_json::from_str::<UsdCost>(text).unwrap(), UsdCost(pico), "{text}");
        }
        for pico in [1_000_000_000_000_001, i64::MAX, i64::MIN, -1_000_000_000_000_001] {
            assert_eq!(number(UsdCost(pico)), None);
            assert!(serde_json::to_string(&UsdCost(pico)).is_err());
        }
    }

    #[test]
    fn nothing_is_guessed_or_rounded() {
        for bad in ["", "-", ".5", "5.", "1.2.3", "+1", "1e3", "0x1", "NaN", "1_0", " 1", "007", "00", "--1", "٣"] {
            assert_eq!(bad.parse::<UsdCost>(), Err(InvalidCost::Syntax), "{bad:?}");
        }
        assert_eq!("0.0000000000001".parse::<UsdCost>(), Err(InvalidCost::TooPrecise));
        assert_eq!("0.0000000000010".parse::<UsdCost>(), Ok(UsdCost(1)));
        assert_eq!("1000.000000000001".parse::<UsdCost>(), Err(InvalidCost::TooLarge));
        assert_eq!("99999999999999999999".parse::<UsdCost>(), Err(InvalidCost::TooLarge));
        assert_eq!("-0".parse::<UsdCost>(), Ok(UsdCost(0)));
        for bad in ["1e-13", "1e300", "1e21", "1.23e-11", "\"1\"", "0.1234567890123456"] {
            assert!(serde_json::from_str::<UsdCost>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_way_of_writing_is_read_back(digits in -999_999_999_999_999_i64..=999_999_999_999_999, zeros in 0_u32..5) {
            let Some(pico) = digits.checked_mul(10_i64.pow(zeros)) else { return Ok(()) };
            let cost = UsdCost(pico);
            prop_assert_eq!(cost.to_string().parse(), Ok(cost));
            let text = number(cost).unwrap();
            prop_assert_eq!(serde_json::from_str::<UsdCost>(&text).unwrap(), cost);
            let mut buffer = ryu_js::Buffer::new();
            prop_assert_eq!(&text, buffer.format(text.parse::<f64>().unwrap()));
            let json = serde_json::to_string(&cost).unwrap();
            prop_assert_eq!(serde_json::from_str::<UsdCost>(&json).unwrap(), cost);
        }
    }
}
