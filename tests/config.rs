//! What is configured wrongly is found when the merchant is built or a price is set, and said in words
//! that name the setting and what to do about it.
#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::HashSet, time::Duration};

use support::{KEY, TestRail};
use tower_mpp::{
    ConfigError, InvalidKey, KeyRing, Merchant, MerchantBuilder, Price,
    method::Sandbox,
    pricing::{Prices, Pricing},
    protocol::MethodId,
    store::MemoryNonceStore,
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const ALMOST: Duration = Duration::from_nanos(1);

fn keys() -> KeyRing {
    KeyRing::new(KEY).unwrap()
}

fn bare() -> MerchantBuilder {
    Merchant::builder("api.example.com", keys())
}

fn rail(id: &'static str) -> TestRail {
    TestRail::new(id)
}

/// Everything in order.
fn whole() -> MerchantBuilder {
    bare().method(rail("demo")).nonce_store(MemoryNonceStore::single_process(10))
}

#[track_caller]
fn assert_says(error: &ConfigError, field: &str, advice: &str) {
    let text = error.to_string();
    assert!(text.starts_with(&format!("{field}: ")), "{text}");
    assert!(text.contains(advice), "{text}");
    assert!(!text.contains(KEY));
}

#[test]
fn every_mistake_is_found_by_build_and_says_what_to_do() {
    let memory = || MemoryNonceStore::single_process(10);
    let realm = |realm: &str| Merchant::builder(realm, keys()).method(rail("demo")).nonce_store(memory());
    let rows: Vec<(MerchantBuilder, &str, &str)> = vec![
        (realm(""), "realm", "give the public host name"),
        (realm("a|b"), "realm", "give the public host name"),
        (realm("a\"b"), "realm", "give the public host name"),
        (realm("a\r\nb"), "realm", "give the public host name"),
        (realm("caf\u{e9}.example"), "realm", "give the public host name"),
        (realm(" api.example.com"), "realm", "give the public host name"),
        (realm(&"x".repeat(256)), "realm", "give the public host name"),
        (bare().nonce_store(memory()), "method", "add at least one with .method(..)"),
        (whole().method(rail("x402")), "method", "use lowercase letters a-z only"),
        (whole().method(rail("demo")), "method", "remove one"),
        (whole().method(Sandbox::new()), "method", "switch on .test_mode(true)"),
        (bare().method(rail("demo")), "nonce_store", "add one with .nonce_store(..)"),
        (whole().circuit_breaker(0, HOUR), "circuit_breaker", "at least 1 failure"),
        (whole().circuit_breaker(5, Duration::ZERO), "circuit_breaker", "between 1 millisecond"),
        (whole().max_in_flight(0), "max_in_flight", "give at least 1"),
        (whole().max_in_flight(usize::MAX), "max_in_flight", "no more than"),
        (whole().redelivery_grace(30 * 24 * HOUR + ALMOST), "redelivery_grace", "give at most 30 days"),
        (whole().redelivery_grace(Duration::MAX), "redelivery_grace", "give at most 30 days"),
    ];
    for (builder, field, advice) in rows {
        assert_says(&builder.build().unwrap_err(), field, advice);
    }
}

#[test]
fn times_have_bounds_and_the_bounds_are_fine() {
    type Set = fn(MerchantBuilder, Duration) -> MerchantBuilder;
    let second = Duration::from_secs(1);
    let milli = Duration::from_millis(1);
    let rows: [(&str, Set, Duration); 6] = [
        ("challenge_ttl", MerchantBuilder::challenge_ttl, second),
        ("lease", MerchantBuilder::lease, second),
        ("rail_timeout", MerchantBuilder::rail_timeout, milli),
        ("store_timeout", MerchantBuilder::store_timeout, milli),
        ("pricing_timeout", MerchantBuilder::pricing_timeout, milli),
        ("body_timeout", MerchantBuilder::body_timeout, milli),
    ];
    for (field, set, least) in rows {
        for fine in [least, 24 * HOUR] {
            assert!(set(whole(), fine).build().is_ok(), "{field} {fine:?}");
        }
        for wrong in [Duration::ZERO, least - ALMOST, 24 * HOUR + ALMOST, Duration::MAX] {
            assert_says(&set(whole(), wrong).build().unwrap_err(), field, "give a time between 1 ");
        }
    }
    assert!(whole().redelivery_grace(Duration::ZERO).build().is_ok());
    assert!(whole().redelivery_grace(30 * 24 * HOUR).build().is_ok());
    assert!(whole().max_in_flight(1).build().is_ok());
}

#[test]
fn the_defaults_are_in_order() {
    let merchant = whole().build().unwrap();
    assert_eq!(merchant.realm().as_str(), "api.example.com");
    assert!(!merchant.is_test_mode());
    assert_eq!(merchant.methods().map(MethodId::as_str).collect::<Vec<_>>(), ["demo"]);
    assert_eq!(merchant.in_flight(), 0);
    assert!(whole().method(Sandbox::new()).test_mode(true).build().unwrap().is_test_mode());
}

#[test]
fn a_price_that_nobody_can_pay_is_found_when_it_is_set() {
    let merchant = whole().method(rail("other")).build().unwrap();
    let charge = |pricing: Prices| merchant.charge(pricing).map(drop);
    let usd = |text| Price::usd(text).unwrap();
    let id = |id: &'static str| MethodId::new(id).unwrap();

    let nothing = charge(usd("0.00").into()).unwrap_err();
    assert_says(&nothing, "charge", "change the price, or add a method");
    // The price, and whom it was asked of.
    for words in ["demo", "other"] {
        assert!(nothing.to_string().contains(words), "{nothing}");
    }
    assert_says(&charge(Prices::only(id("demo"), usd("0.00"))).unwrap_err(), "charge", "change the price");
    for prices in [Prices::only(id("stripe"), usd("1.00")), Prices::all(usd("1.00")).on(id("stripe"), usd("2.00"))] {
        let error = charge(prices).unwrap_err();
        assert_eq!(error, ConfigError::UnknownMethod(id("stripe")));
        assert_says(&error, "charge", "add it with .method(..), or remove its price");
    }
    // One rail that can is enough.
    assert!(charge(Prices::all(usd("0.00")).on(id("other"), usd("1.00"))).is_ok());
    // What depends on the request is seen when the request comes.
    fn later<P: Pricing>(merchant: &Merchant, pricing: P) -> bool {
        merchant.charge(pricing).is_ok()
    }
    assert!(later(&merchant, move |_: &http::request::Parts| usd("0.00")));
}

#[test]
fn every_mistake_has_its_own_words() {
    let id = || MethodId::new("demo").unwrap();
    let errors = [
        ConfigError::NoMethod,
        ConfigError::DuplicateMethod(id()),
        ConfigError::MethodId(id()),
        ConfigError::TestMethod(id()),
        ConfigError::NoStore,
        ConfigError::NoOffer { price: "0.10 usd by demo".into() },
        ConfigError::UnknownMethod(id()),
    ];
    let words: HashSet<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), errors.len());
    // What went wrong, and behind a semicolon what to do.
    for text in words {
        let (wrong, advice) = text.split_once("; ").unwrap();
        assert!(wrong.contains(": ") && !advice.is_empty() && !text.ends_with('.'), "{text}");
    }
}

#[test]
fn keys_are_checked_where_they_are_given() {
    let long = "a".repeat(32);
    for short in ["", "short", &long[..31]] {
        assert_eq!(KeyRing::new(short).unwrap_err(), InvalidKey::TooShort(short.len()));
        assert_eq!(keys().previous(short).unwrap_err(), InvalidKey::TooShort(short.len()));
        assert!(KeyRing::from_list(&format!("{long},{short}")).is_err());
        assert!(KeyRing::from_list(&format!("{short},{long}")).is_err());
    }
    assert!(KeyRing::new([0_u8; 32]).is_ok());
    assert!(KeyRing::from_list(&format!("{long},{long}")).is_ok());
    let unset = KeyRing::from_env("TOWER_MPP_NO_SUCH_KEY").unwrap_err();
    assert_eq!(unset, InvalidKey::NotSet("TOWER_MPP_NO_SUCH_KEY".into()));
    assert!(unset.to_string().contains("set it to a random text of at least 32 bytes"));
}
