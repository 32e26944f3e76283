//! What is asked for, and whether that is what the user wants to pay.

use std::fmt;

use http::{HeaderMap, Uri, header::WWW_AUTHENTICATE};
use serde::Deserialize;
use tower_mpp::{
    Clock as _, Price, SystemClock,
    protocol::{Amount, Challenge, ChallengeError, ContentDigest, Currency, Intent, InvalidPrice, MethodId},
};

use super::printable;

/// A challenge with its price read.
pub(super) struct Offer {
    pub(super) challenge: Challenge,
    pub(super) price: Price,
}

/// The part of a request that all methods of intent `charge` have in common.
#[derive(Deserialize)]
struct ChargeRequest {
    amount: String,
    currency: Currency,
}

impl Offer {
    /// All offers of a 402 that can be read.
    pub(super) fn all(headers: &HeaderMap) -> Result<Vec<Self>, ChallengeError> {
        let challenges = Challenge::parse_all(headers.get_all(WWW_AUTHENTICATE))?;
        if challenges.is_empty() {
            return Err(ChallengeError::NotPayment);
        }
        Ok(challenges.into_iter().filter_map(Self::read).collect())
    }

    fn read(challenge: Challenge) -> Option<Self> {
        let request: ChargeRequest = challenge.request_as().ok()?;
        let amount: Amount = request.amount.parse().ok()?;
        let decimals = request.currency.iso_decimals().unwrap_or(0);
        let price = Price::minor(request.currency, amount, decimals);
        Some(Self { challenge, price })
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let challenge = &self.challenge;
        write!(f, "{} by {}/{}", self.price, challenge.method, challenge.intent)?;
        if let Some(description) = &challenge.description {
            write!(f, ", for {:?}", printable(description))?;
        }
        write!(f, ", realm {:?}", printable(&challenge.realm))?;
        match &challenge.expires {
            Some(expires) => write!(f, ", until {}", printable(expires)),
            None => f.write_str(", without end"),
        }
    }
}

/// What the user is ready to pay, and to whom.
pub(super) struct Expectation {
    realm: Realm,
    max: Price,
}

enum Realm {
    Named(String),
    HostOf(String),
}

/// Why nothing is paid.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotPaid {
    #[error("none of these can be paid here: this agent has play money only (method sandbox, intent charge)")]
    NoSandbox,
    #[error("not paid: the realm is {0:?}, expected {1:?}; if it is the right one, add --realm {0:?}")]
    OtherRealm(String, String),
    #[error("not paid: {0} is more than {1}; if it is worth it, raise --max")]
    TooMuch(Price, Price),
    #[error("not paid: the price is in {0}, not in {1}; see --currency")]
    OtherCurrency(Currency, Currency),
    #[error("not paid: the challenge has expired")]
    Expired,
    #[error("not paid: the challenge is for another body than the one that was sent")]
    OtherBody,
}

impl Expectation {
    pub(super) fn new(url: &Uri, realm: Option<&str>, max: &str, currency: &str) -> Result<Self, InvalidPrice> {
        let realm = match realm {
            Some(realm) => Realm::Named(realm.to_owned()),
            None => Realm::HostOf(url.host().unwrap_or_default().to_owned()),
        };
        Ok(Self { realm, max: Price::fiat(currency, max)? })
    }

    /// The first offer that this agent can pay, if it is a good one. The price that counts is the one
    /// in the challenge: what a page or a description says is not bound to anything.
    pub(super) fn choose<'o>(&self, offers: &'o [Offer], body: &[u8]) -> Result<&'o Offer, NotPaid> {
        let payable =
            |offer: &&Offer| offer.challenge.method == MethodId::SANDBOX && offer.challenge.intent == Intent::CHARGE;
        let offer = offers.iter().find(payable).ok_or(NotPaid::NoSandbox)?;
        let Offer { challenge, price } = offer;
        if let Some(expected) = self.realm.unlike(&challenge.realm) {
            return Err(NotPaid::OtherRealm(challenge.realm.clone(), expected.to_owned()));
        }
        if price.currency() != self.max.currency() {
            return Err(NotPaid::OtherCurrency(price.currency().clone(), self.max.currency().clone()));
        }
        if price.amount() > self.max.amount() {
            return Err(NotPaid::TooMuch(price.clone(), self.max.clone()));
        }
        // A challenge that cannot end is as good as none: somebody could keep it for ever.
        if challenge.expires_at().is_none_or(|expires| expires <= SystemClock.now()) {
            return Err(NotPaid::Expired);
        }
        // Where a digest is given, it must be that of our body: else the answer would be for another request.
        match challenge.digest.as_deref().map(str::parse) {
            None => Ok(offer),
            Some(Ok(digest)) if ContentDigest::of(body) == digest => Ok(offer),
            Some(_) => Err(NotPaid::OtherBody),
        }
    }
}

impl Realm {
    /// What was expected, if this is not it.
    fn unlike(&self, realm: &str) -> Option<&str> {
        match self {
            Self::Named(expected) => (expected != realm).then_some(expected),
            Self::HostOf(host) => {
                let same = realm.eq_ignore_ascii_case(host) || (is_loopback(host) && is_loopback(realm));
                (!same).then_some(host)
            }
        }
    }
}

/// Whether a host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
