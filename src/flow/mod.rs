//! The one order of checks, free of any transport: quote, mint, bind, claim, verify, settle, deliver.
//!
//! What a check has proved is a value that only the check can make: a `Bound` payment answers one of
//! our own offers, a `Settled` one has moved money. A receipt can only be issued from `&Settled`.

mod after;
mod answers;
mod bind;
mod breaker;
mod config;
mod delivery;
pub(crate) mod events;
mod filing;
mod former;
mod gate;
mod info;
mod kept;
mod mint;
mod offer;
mod outcome;
mod payload;
mod record;
mod redemption;
mod refund;
mod refusal;
mod repeat;
mod scope;
mod sweep;
mod tasks;
mod terms;
mod token;
mod transport;
mod unfulfilled;

pub(crate) use self::{
    after::check_timing,
    answers::{Held, Keeper, NotServed, idempotency_key},
    bind::{Bound, Requested, bind},
    config::Settings,
    delivery::{Delivery, Step},
    filing::Sealed,
    former::Unbound,
    gate::settle,
    kept::{Kept, Recording, TooLong},
    mint::{Terms, mint},
    offer::{OfferBook, Offers, description_param},
    payload::{Payload, Watch},
    record::{Closing, Failure, PANICKED, Record, Seen},
    scope::scope,
    tasks::{Detached, InFlight, within},
    terms::offers_of,
    token::IdForm,
};
pub use self::{
    after::{PendingPayment, SettleTiming},
    config::{ConfigError, MerchantBuilder, ReplayAnswer},
    info::PaymentInfo,
    outcome::PaymentOutcome,
    redemption::Redemption,
    refund::{RefundFailed, RefundStatus},
    refusal::{Refusal, RefusalKind},
    sweep::{Sweeper, Swept},
    terms::OfferTerms,
    transport::{HttpsPolicy, OverTls},
    unfulfilled::{Unfulfilled, UnfulfilledState},
};

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    Clock, KeyRing,
    method::PaymentMethod,
    protocol::{MethodId, Realm, Timestamp},
    receipt::Receipts,
    store::NonceStore,
};

/// A merchant: its realm, keys, payment methods and journal. Built once, cheap to clone, shared by
/// every route.
///
/// ```
/// use tower_mpp::{KeyRing, Merchant, Price, method::Sandbox, store::MemoryNonceStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let merchant = Merchant::builder("api.example.com", KeyRing::new("a random secret of 32 bytes or more")?)
///     .test_mode(true)
///     .method(Sandbox::new())
///     .nonce_store(MemoryNonceStore::single_process(100_000))
///     .build()?;
/// let layer = merchant.charge(Price::usd("0.50")?)?.description("One model call");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Merchant(pub(crate) Arc<Inner>);

/// What all routes of a merchant share.
pub(crate) struct Inner {
    pub(crate) realm: Realm,
    pub(crate) keys: KeyRing,
    pub(crate) methods: Vec<Arc<dyn PaymentMethod>>,
    pub(crate) store: Arc<dyn NonceStore>,
    pub(crate) answers: Option<answers::Answers>,
    pub(crate) receipts: Option<Receipts>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) tasks: tasks::Tasks,
    pub(crate) breaker: breaker::Breaker,
}

impl Merchant {
    /// Begins a merchant.
    ///
    /// `realm` is the protection space of its challenges, usually its public host name. It is
    /// configuration: every replica needs the same one, no two merchants should share one, and it is
    /// never read from a request.
    pub fn builder(realm: impl Into<String>, keys: KeyRing) -> MerchantBuilder {
        MerchantBuilder::new(realm.into(), keys)
    }

    /// Waits until every settlement and journal step that has begun is finished, also those whose
    /// client has gone. Stop accepting requests first.
    ///
    /// Combine with `tokio::time::timeout` for a limit; [`in_flight`](Self::in_flight) then tells what is left.
    pub async fn drain(&self) {
        self.0.tasks.drain().await;
    }

    /// How many payments are between their claim and the end of their journal entry.
    pub fn in_flight(&self) -> usize {
        self.0.tasks.in_flight()
    }

    /// The realm.
    pub fn realm(&self) -> &Realm {
        &self.0.realm
    }

    /// Whether this merchant takes test payments.
    pub fn is_test_mode(&self) -> bool {
        self.0.settings.test_mode
    }

    /// The identifiers of its payment methods, in order of preference.
    pub fn methods(&self) -> impl Iterator<Item = &MethodId> {
        self.0.methods.iter().map(|method| method.method())
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Until when a credential whose challenge expires at `expires` may still be redeemed for money
    /// that has moved already.
    pub(crate) fn redeemable_until(&self, expires: Timestamp) -> Timestamp {
        expires.saturating_add(self.settings.redelivery_grace)
    }

    /// Until when a journal entry is remembered: beyond the last instant at which its credential could
    /// be accepted, by the clock of any replica.
    pub(crate) fn keep_until(&self, expires: Timestamp) -> Timestamp {
        const CLOCK_LEEWAY: Duration = Duration::from_secs(60);
        self.redeemable_until(expires).saturating_add(CLOCK_LEEWAY)
    }
}

impl fmt::Debug for Merchant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merchant")
            .field("realm", &self.0.realm)
            .field("keys", &self.0.keys)
            .field("methods", &self.methods().collect::<Vec<_>>())
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}
