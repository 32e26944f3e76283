//! Money: integers of minor units, a currency, and exact decimals. No floats anywhere.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::ids::InvalidName;

/// An amount in minor units of its currency (cents for `usd`, yen for `jpy`, base units of a token).
///
/// On the wire a string of ASCII digits without sign, separators or leading zeros (charge intent
/// draft section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

/// The text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAmount {
    /// A character that is not an ASCII digit (or, in a decimal, one dot between digits).
    #[error("an amount has ASCII digits only, in a decimal with at most one dot between them")]
    Syntax,
    /// More than one spelling of the same number: `007`.
    #[error("an amount has no leading zeros")]
    LeadingZero,
    /// More digits after the dot than the currency has.
    #[error("more digits after the dot than the currency's {0}")]
    TooPrecise(u8),
    /// Larger than 2^128 - 1 minor units.
    #[error("the amount is too large")]
    TooLarge,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Takes a number of minor units.
    pub const fn new(minor_units: u128) -> Self {
        Self(minor_units)
    }

    /// The number of minor units.
    pub const fn minor_units(self) -> u128 {
        self.0
    }

    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` when it is too large.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` when `other` is larger.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Reads a decimal such as `0.50` exactly, for a currency with `decimals` digits after the dot.
    ///
    /// # Errors
    /// [`InvalidAmount`] for signs, exponents, separators, spaces, a missing digit on either side of
    /// the dot, leading zeros, more digits than the currency has, and overflow. Nothing is rounded.
    pub fn from_decimal(decimal: &str, decimals: u8) -> Result<Self, InvalidAmount> {
        let (whole, fraction) = match decimal.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(InvalidAmount::Syntax),
            None => (decimal, ""),
        };
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidAmount::Syntax);
        }
        let missing = usize::from(decimals).checked_sub(fraction.len()).ok_or(InvalidAmount::TooPrecise(decimals))?;
        let Self(whole) = whole.parse()?;
        fraction
            .bytes()
            .map(|b| u128::from(b - b'0'))
            .chain(std::iter::repeat_n(0, missing))
            .try_fold(whole, |sum, digit| sum.checked_mul(10)?.checked_add(digit))
            .map(Self)
            .ok_or(InvalidAmount::TooLarge)
    }

    /// Writes the amount as a decimal with exactly `decimals` digits after the dot.
    pub fn to_decimal(self, decimals: u8) -> String {
        let digits = self.0.to_string();
        let decimals = usize::from(decimals);
        if decimals == 0 {
            return digits;
        }
        let padded = format!("{digits:0>width$}", width = decimals + 1);
        let (whole, fraction) = padded.split_at(padded.len() - decimals);
        format!("{whole}.{fraction}")
    }
}

impl FromStr for Amount {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidAmount::Syntax);
        }
        if text.len() > 1 && text.starts_with('0') {
            return Err(InvalidAmount::LeadingZero);
        }
        text.parse().map(Self).map_err(|_| InvalidAmount::TooLarge)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A currency or asset: a lowercase ISO 4217 code (`usd`), a token address, or whatever a rail
/// defines (charge intent draft section 4.3).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency(Arc<str>);

impl Currency {
    /// Checks and takes a currency. A three-letter code is brought to lower case; anything else is
    /// kept as it is.
    ///
    /// # Errors
    /// When it is empty, over 128 bytes, or has anything but ASCII letters, digits and `:._/-`.
    pub fn new(code: impl AsRef<str>) -> Result<Self, InvalidName> {
        let code = code.as_ref();
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'.' | b'_' | b'/' | b'-');
        if code.is_empty() || code.len() > 128 || !code.bytes().all(known) {
            return Err(InvalidName::new("currency", "it must be an ISO 4217 code or an asset id"));
        }
        if code.len() == 3 {
            return Ok(Self(code.to_ascii_lowercase().into()));
        }
        Ok(Self(code.into()))
    }

    /// The currency as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Digits after the dot by ISO 4217 (`usd` 2, `jpy` 0, `kwd` 3), or `None` when the currency is
    /// not a fiat currency with minor units.
    pub fn iso_decimals(&self) -> Option<u8> {
        if self.0.len() != 3 {
            return None;
        }
        iso_currency::Currency::from_code(&self.0.to_ascii_uppercase())?
            .exponent()
            .and_then(|digits| u8::try_from(digits).ok())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Cow::<str>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A price: an amount of a currency.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Price {
    amount: Amount,
    currency: Currency,
    decimals: u8,
}

/// The text is not a price.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPrice {
    /// The amount cannot be read.
    #[error("price {text:?}: {source}")]
    Amount {
        /// What was given.
        text: String,
        /// Why it is not an amount.
        source: InvalidAmount,
    },
    /// The currency cannot be read.
    #[error(transparent)]
    Currency(#[from] InvalidName),
    /// Not an ISO 4217 currency: its number of decimals must be given, see [`Price::minor`].
    #[error("currency {0:?} is not in ISO 4217: use Price::minor with its decimals")]
    UnknownDecimals(String),
}

impl Price {
    /// A price in US dollars from a decimal string: `Price::usd("0.50")`.
    ///
    /// # Errors
    /// [`InvalidPrice::Amount`] unless the text is an exact decimal with at most two digits after the dot.
    pub fn usd(decimal: &str) -> Result<Self, InvalidPrice> {
        Self::fiat("usd", decimal)
    }

    /// A price in an ISO 4217 currency from a decimal string: `Price::fiat("jpy", "50")`.
    ///
    /// # Errors
    /// [`InvalidPrice`] when the currency is unknown or the decimal has more digits than the currency.
    pub fn fiat(currency: &str, decimal: &str) -> Result<Self, InvalidPrice> {
        let currency = Currency::new(currency)?;
        let decimals = currency.iso_decimals().ok_or_else(|| InvalidPrice::UnknownDecimals(currency.to_string()))?;
        let amount = Amount::from_decimal(decimal, decimals)
            .map_err(|source| InvalidPrice::Amount { text: decimal.to_owned(), source })?;
        Ok(Self { amount, currency, decimals })
    }

    /// A price in minor units of any currency; `decimals` is the number of digits after the dot when
    /// it is shown to a person.
    pub fn minor(currency: Currency, amount: Amount, decimals: u8) -> Self {
        Self { amount, currency, decimals }
    }

    /// The amount in minor units.
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// The currency.
    pub fn currency(&self) -> &Currency {
        &self.currency
    }

    /// Digits after the dot when the price is shown.
    pub fn decimals(&self) -> u8 {
        self.decimals
    }
}

/// For people: `0.50 USD`.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.amount.to_decimal(self.decimals))?;
        f.write_str(" ")?;
        if self.currency.as_str().len() == 3 {
            f.write_str(&self.currency.as_str().to_ascii_uppercase())
        } else {
            f.write_str(self.currency.as_str())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_ascii_digits_are_an_amount() {
        for bad in ["", "+1", "-1", "0x10", "1_000", ".", "1e3", "NaN", " 1", "1 ", "1.0", "٣", "1,000"] {
            assert_eq!(bad.parse::<Amount>(), Err(InvalidAmount::Syntax), "{bad:?}");
        }
        assert_eq!("007".parse::<Amount>(), Err(InvalidAmount::LeadingZero));
        assert_eq!("0".parse::<Amount>(), Ok(Amount::ZERO));
        assert_eq!("340282366920938463463374607431768211456".parse::<Amount>(), Err(InvalidAmount::TooLarge));
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(Amount::from_decimal("0.10", 6).unwrap().minor_units(), 100_000);
        assert_eq!(Amount::from_decimal("0.5", 18).unwrap().minor_units(), 500_000_000_000_000_000);
        assert_eq!(Amount::from_decimal("1", 2).unwrap().minor_units(), 100);
        assert_eq!(Amount::from_decimal("0.001", 2), Err(InvalidAmount::TooPrecise(2)));
        assert_eq!(Amount::from_decimal("1", 39), Err(InvalidAmount::TooLarge));
        for bad in ["", ".", ".5", "5.", "1.2.3", "+1.0", "1e2", " 1.0", "$1", "1.-5"] {
            assert_eq!(Amount::from_decimal(bad, 6), Err(InvalidAmount::Syntax), "{bad:?}");
        }
    }

    #[test]
    fn currencies_without_minor_units_have_none() {
        assert_eq!(Price::fiat("JPY", "50").unwrap().amount().minor_units(), 50);
        assert!(Price::fiat("jpy", "0.5").is_err());
        assert_eq!(Price::fiat("kwd", "0.500").unwrap().amount().minor_units(), 500);
        assert_eq!(Price::usd("0.50").unwrap().to_string(), "0.50 USD");
        assert!(matches!(Price::fiat("xxz", "1"), Err(InvalidPrice::UnknownDecimals(_))));
    }

    proptest! {
        #[test]
        fn decimal_text_round_trips(units in any::<u128>(), decimals in 0u8..20) {
            let amount = Amount::new(units);
            prop_assert_eq!(Amount::from_decimal(&amount.to_decimal(decimals), decimals), Ok(amount));
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }
    }
}
