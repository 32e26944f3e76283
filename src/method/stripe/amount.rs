//! Amounts as Stripe counts them: its own minor units, its minimum per currency, its maximum.
//!
//! After Stripe's public page "Supported currencies" (docs.stripe.com/currencies) as of 2026-09.

use crate::protocol::{Amount, Price};

/// Eight digits: what every payment method of Stripe takes.
const MAX: u128 = 99_999_999;

/// Currencies whose amounts have no digits after the dot.
const ZERO_DECIMAL: &[&str] =
    &["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"];

/// Currencies with three digits after the dot, the last of which must be 0.
const THREE_DECIMAL: &[&str] = &["bhd", "jod", "kwd", "omr", "tnd"];

/// Currencies without fractions that Stripe nevertheless counts in hundredths, always `00`.
const WHOLE_IN_HUNDREDTHS: &[&str] = &["isk", "ugx"];

/// The least that Stripe charges, in its minor units. It is defined for the currency that the
/// merchant is paid out in: in a currency that must be converted Stripe may ask for more.
const MINIMUM: &[(&str, u128)] = &[
    ("aed", 200),
    ("ars", 50),
    ("aud", 50),
    ("bgn", 100),
    ("brl", 50),
    ("cad", 50),
    ("chf", 50),
    ("cop", 50),
    ("czk", 1_500),
    ("dkk", 250),
    ("eur", 50),
    ("gbp", 30),
    ("hkd", 400),
    ("huf", 17_500),
    ("idr", 50),
    ("ils", 50),
    ("inr", 50),
    ("jpy", 50),
    ("krw", 50),
    ("mxn", 1_000),
    ("myr", 200),
    ("nok", 300),
    ("nzd", 50),
    ("php", 50),
    ("pln", 200),
    ("ron", 200),
    ("rub", 50),
    ("sek", 300),
    ("sgd", 50),
    ("thb", 1_000),
    ("usd", 50),
    ("zar", 50),
];

/// The price in Stripe's minor units, exactly, or `None` when Stripe could not charge it: no ISO 4217
/// currency, a fraction that the currency does not have, too little or too much.
pub(super) fn stripe_amount(price: &Price) -> Option<Amount> {
    let currency = price.currency().as_str();
    // Unknown to ISO 4217 (a token) or without minor units (gold): nothing that Stripe charges.
    price.currency().iso_decimals()?;
    let units = rescale(price.amount().minor_units(), price.decimals(), decimals(currency))?;
    let step = if THREE_DECIMAL.contains(&currency) {
        10
    } else if WHOLE_IN_HUNDREDTHS.contains(&currency) {
        100
    } else {
        1
    };
    let chargeable = units.is_multiple_of(step) && (minimum(currency)..=MAX).contains(&units);
    chargeable.then(|| Amount::new(units))
}

fn decimals(currency: &str) -> u8 {
    if ZERO_DECIMAL.contains(&currency) {
        0
    } else if THREE_DECIMAL.contains(&currency) {
        3
    } else {
        2
    }
}

/// Where Stripe's page names no minimum the equivalent of the payout currency's minimum applies,
/// which only Stripe knows: then all that is certain is that nothing cannot be charged.
fn minimum(currency: &str) -> u128 {
    MINIMUM.iter().find(|(code, _)| *code == currency).map_or(1, |(_, least)| *least)
}

fn rescale(units: u128, from: u8, to: u8) -> Option<u128> {
    if to >= from {
        units.checked_mul(10_u128.checked_pow(u32::from(to - from))?)
    } else {
        let divisor = 10_u128.checked_pow(u32::from(from - to))?;
        units.is_multiple_of(divisor).then(|| units / divisor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::Currency;

    fn of(currency: &str, decimal: &str) -> Option<u128> {
        stripe_amount(&Price::fiat(currency, decimal).unwrap()).map(Amount::minor_units)
    }

    #[test]
    fn amounts_are_in_the_minor_units_of_stripe() {
        assert_eq!(of("usd", "0.50"), Some(50));
        assert_eq!(of("jpy", "50"), Some(50));
        assert_eq!(of("krw", "700"), Some(700));
        assert_eq!(of("kwd", "1.250"), Some(1250));
        // ISO 4217 has two decimals for the ariary, Stripe has none.
        assert_eq!(of("mga", "10.00"), Some(10));
        assert_eq!(of("mga", "10.50"), None);
    }

    #[test]
    fn special_currencies_take_no_fraction() {
        // ISO 4217 has no decimals for ISK and UGX, Stripe counts both in hundredths.
        assert_eq!(of("isk", "500"), Some(50_000));
        assert_eq!(of("ugx", "500"), Some(50_000));
        assert_eq!(of("kwd", "1.255"), None);
        assert_eq!(of("huf", "175.45"), Some(17_545));
        assert_eq!(of("twd", "20.45"), Some(2_045));
    }

    #[test]
    fn prices_with_other_decimals_are_converted_exactly_or_not_at_all() {
        let usd = |units, decimals| {
            let price = Price::minor(Currency::new("usd").unwrap(), Amount::new(units), decimals);
            stripe_amount(&price).map(Amount::minor_units)
        };
        assert_eq!(usd(500_000, 6), Some(50));
        assert_eq!(usd(505_000, 6), None);
        assert_eq!(usd(5, 0), Some(500));
        assert_eq!(usd(u128::MAX, 0), None);
        assert_eq!(usd(1, 255), None);
    }

    #[test]
    fn too_little_and_too_much_are_not_offered() {
        for (currency, below, least) in [
            ("usd", "0.49", "0.50"),
            ("eur", "0.49", "0.50"),
            ("gbp", "0.29", "0.30"),
            ("jpy", "49", "50"),
            ("mxn", "9.99", "10.00"),
            ("czk", "14.99", "15.00"),
            ("huf", "174.99", "175.00"),
            // No minimum is published for these.
            ("uah", "0.00", "0.01"),
        ] {
            assert_eq!(of(currency, below), None, "{currency}");
            assert!(of(currency, least).is_some(), "{currency}");
        }
        assert_eq!(of("usd", "999999.99"), Some(99_999_999));
        assert_eq!(of("usd", "1000000.00"), None);
    }

    #[test]
    fn assets_are_not_offered() {
        let asset = Price::minor(Currency::new("0x20c0").unwrap(), Amount::new(1_000_000), 6);
        assert_eq!(stripe_amount(&asset), None);
        let gold = Price::minor(Currency::new("xau").unwrap(), Amount::new(100), 2);
        assert_eq!(stripe_amount(&gold), None);
    }
}
