//! The configuration of a merchant, checked once, at `build()`.

use std::{sync::Arc, time::Duration};

use super::{HttpsPolicy, Inner, Merchant, answers::Answers, breaker::Breaker, tasks::Tasks};
use crate::{
    Clock, KeyRing, SystemClock,
    method::PaymentMethod,
    protocol::{InvalidName, MethodId, Realm},
    receipt::Receipts,
    refund::RefundPolicy,
    store::{AnswerStore, NonceStore},
};

/// Collects what a [`Merchant`] needs. Every mistake is found by [`build`](Self::build).
#[must_use = "nothing happens until `build()`"]
pub struct MerchantBuilder {
    realm: String,
    keys: KeyRing,
    methods: Vec<Arc<dyn PaymentMethod>>,
    store: Option<Arc<dyn NonceStore>>,
    answers: Option<Arc<dyn AnswerStore>>,
    receipts: Option<Receipts>,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

/// The numbers and switches of a merchant.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) test_mode: bool,
    pub(crate) challenge_ttl: Duration,
    pub(crate) redelivery_grace: Duration,
    pub(crate) lease: Duration,
    pub(crate) rail_timeout: Duration,
    pub(crate) store_timeout: Duration,
    pub(crate) pricing_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) breaker_failures: u32,
    pub(crate) breaker_pause: Duration,
    pub(crate) answer_limit: usize,
    pub(crate) answer_ttl: Duration,
    pub(crate) receipt_body_limit: usize,
    pub(crate) replay_answer: ReplayAnswer,
    pub(crate) refunds: RefundPolicy,
    pub(crate) expose_headers: bool,
    pub(crate) https: Option<HttpsPolicy>,
}

/// How a credential that was delivered before is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayAnswer {
    /// 403 without a challenge: an agent must not pay again by reflex. It can ask without a credential
    /// for a new challenge.
    #[default]
    Forbidden,
    /// The letter of the core draft (section 4.2): 402 with a fresh challenge. Clients that pay every
    /// challenge they see then pay again.
    Challenge,
}

/// A merchant, or a route of one, is configured wrongly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The realm cannot be used.
    #[error("realm: {0}; give the public host name of the API")]
    Realm(InvalidName),
    /// No payment method.
    #[error("method: no payment method is configured; add at least one with .method(..)")]
    NoMethod,
    /// Two methods with one identifier and intent.
    #[error("method: {0} is configured twice for one intent; remove one")]
    DuplicateMethod(MethodId),
    /// The draft allows lowercase letters only.
    #[error("method: {0:?} is not a method identifier of the core draft; use lowercase letters a-z only")]
    MethodId(MethodId),
    /// A rail without real money outside test mode.
    #[error("method: {0} moves no real money; remove it, or switch on .test_mode(true)")]
    TestMethod(MethodId),
    /// No journal.
    #[error(
        "nonce_store: no payment journal is configured; add one with .nonce_store(..), for one process MemoryNonceStore::single_process(capacity)"
    )]
    NoStore,
    /// A number that makes no sense.
    #[error("{field}: {problem}")]
    Setting {
        /// Which one.
        field: &'static str,
        /// What to do about it.
        problem: &'static str,
    },
    /// A price that none of the rails can take.
    #[error(
        "charge: no configured payment method can take {price}, which may be below its minimum or in a currency that it does not take; change the price, or add a method"
    )]
    NoOffer {
        /// The price.
        price: String,
    },
    /// A rail that cannot take the money after the handler, on a route that wants it to.
    #[error(
        "settle: {0} cannot take the money after the handler; leave .settle(..) at SettleTiming::BeforeHandler on this route, remove the method, or, where it can authorise and capture, switch that on"
    )]
    SettleTiming(MethodId),
    /// A price for a rail that is not there.
    #[error(
        "charge: there is a price for {0}, which is not a payment method of this merchant; add it with .method(..), or remove its price"
    )]
    UnknownMethod(MethodId),
}

impl MerchantBuilder {
    pub(super) fn new(realm: String, keys: KeyRing) -> Self {
        Self {
            realm,
            keys,
            methods: Vec::new(),
            store: None,
            answers: None,
            receipts: None,
            clock: Arc::new(SystemClock),
            settings: Settings {
                test_mode: false,
                challenge_ttl: Duration::from_secs(300),
                redelivery_grace: Duration::from_secs(600),
                lease: Duration::from_secs(60),
                rail_timeout: Duration::from_secs(60),
                store_timeout: Duration::from_secs(5),
                pricing_timeout: Duration::from_secs(5),
                body_timeout: Duration::from_secs(30),
                max_in_flight: 10_000,
                breaker_failures: 5,
                breaker_pause: Duration::from_secs(1),
                answer_limit: 1024 * 1024,
                answer_ttl: Duration::from_secs(24 * 60 * 60),
                receipt_body_limit: 256 * 1024,
                replay_answer: ReplayAnswer::default(),
                refunds: RefundPolicy::off(),
                expose_headers: false,
                https: None,
            },
        }
    }

    /// Adds a payment method. The order is the order of preference in a 402.
    pub fn method(mut self, method: impl PaymentMethod) -> Self {
        self.methods.push(Arc::new(method));
        self
    }

    /// Adds a payment method that is shared with other parts of the program.
    pub fn shared_method(mut self, method: Arc<dyn PaymentMethod>) -> Self {
        self.methods.push(method);
        self
    }

    /// The payment journal.
    pub fn nonce_store(mut self, store: impl NonceStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Where paid answers are kept for requests that come again with the same `Idempotency-Key`: such a
    /// request gets the first answer once more, byte for byte, without a charge and without a call of
    /// the service. Without one the header is ignored. The stores of this crate that outlive the process
    /// are journals and keep answers too: give a clone.
    ///
    /// A kept answer counts as delivered, also when its client hung up before the first byte: it is there for
    /// whoever comes back with the key. No rule gives its money back, also where the journal never heard of the
    /// delivery: the store is asked before that, and while it cannot be reached nothing is given back unasked. See
    /// [`Merchant::refund`] for a refund by hand.
    ///
    /// What is kept is private to whoever has paid: it is given out for the same credential only. Keep
    /// it encrypted where others can read the store.
    #[cfg_attr(feature = "encrypted-answers", doc = "See [`EncryptedAnswers`](crate::store::EncryptedAnswers).")]
    pub fn answer_store(mut self, store: impl AnswerStore) -> Self {
        self.answers = Some(Arc::new(store));
        self
    }

    /// The largest answer that is kept, with its headers: 1 MiB by default, between 1 KiB and 1 GiB. A
    /// larger one is delivered and not kept. Until it is whole it is held in memory.
    pub fn answer_limit(mut self, bytes: usize) -> Self {
        self.settings.answer_limit = bytes;
        self
    }

    /// How long answers are kept: 24 hours by default, between 1 minute and 30 days.
    pub fn answer_ttl(mut self, ttl: Duration) -> Self {
        self.settings.answer_ttl = ttl;
        self
    }

    /// Signs a receipt about every paid call and keeps it in a ledger: see [`Receipts`]. Off by default.
    ///
    /// An answer with a signed receipt has `Payment-Receipt-Digest` and `Payment-Receipt-Kid` beside
    /// `Payment-Receipt`; a stream has them as trailers, and those of a provisional receipt in its head. The service
    /// finds an [`Attribution`](crate::receipt::Attribution) in the extensions of its request to say what only it
    /// knows. No payment depends on the signer or on the ledger.
    pub fn receipts(mut self, receipts: Receipts) -> Self {
        self.receipts = Some(receipts);
        self
    }

    /// The largest body of a known length, in bytes, that is held back until its receipt is signed, so that the final
    /// receipt stands in the head: 256 KiB by default, at most 1 GiB. A larger one leaves at once, as one that streams.
    pub fn receipt_body_limit(mut self, bytes: usize) -> Self {
        self.settings.receipt_body_limit = bytes;
        self
    }

    /// Where the time comes from. The system clock by default.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Allows rails that move no real money, such as [`Sandbox`](crate::method::Sandbox). Off by default.
    pub fn test_mode(mut self, on: bool) -> Self {
        self.settings.test_mode = on;
        self
    }

    /// How long a challenge can be paid: 5 minutes by default, between 1 second and 24 hours.
    pub fn challenge_ttl(mut self, ttl: Duration) -> Self {
        self.settings.challenge_ttl = ttl;
        self
    }

    /// How long after its expiry a challenge that was paid but not delivered can still be redeemed:
    /// 10 minutes by default, at most 30 days.
    pub fn redelivery_grace(mut self, grace: Duration) -> Self {
        self.settings.redelivery_grace = grace;
        self
    }

    /// For how long a step of the journal is held before somebody else may take it over: 60 seconds by
    /// default, at least 1. It is renewed while work goes on, so this is about crashes only.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// The longest that a rail may take to verify, and again to settle: 60 seconds by default. After
    /// that the outcome of a settlement is unknown.
    pub fn rail_timeout(mut self, timeout: Duration) -> Self {
        self.settings.rail_timeout = timeout;
        self
    }

    /// The longest that one step of the journal may take: 5 seconds by default.
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.settings.store_timeout = timeout;
        self
    }

    /// The longest that an asynchronous price may take: 5 seconds by default.
    pub fn pricing_timeout(mut self, timeout: Duration) -> Self {
        self.settings.pricing_timeout = timeout;
        self
    }

    /// The longest that a request body may take to arrive when it has to be buffered: 30 seconds by default.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.settings.body_timeout = timeout;
        self
    }

    /// How many payments may be at work at once: 10,000 by default. Above that the answer is 503 and
    /// nothing is charged.
    pub fn max_in_flight(mut self, payments: usize) -> Self {
        self.settings.max_in_flight = payments;
        self
    }

    /// After how many claims in a row that the journal did not answer payments are answered 503 at once instead of
    /// waiting for it, and after how long one of them tries it again: 5, and 1 second, by default.
    /// Steps of payments whose money may have moved are always tried.
    pub fn circuit_breaker(mut self, failures: u32, pause: Duration) -> Self {
        self.settings.breaker_failures = failures;
        self.settings.breaker_pause = pause;
        self
    }

    /// How a credential that was delivered before is answered.
    pub fn replay_answer(mut self, answer: ReplayAnswer) -> Self {
        self.settings.replay_answer = answer;
        self
    }

    /// When money that was paid for nothing is given back unasked: never, by default. See
    /// [`RefundPolicy`]; [`Merchant::refund`] works with any.
    pub fn refunds(mut self, policy: RefundPolicy) -> Self {
        self.settings.refunds = policy;
        self
    }

    /// Lets scripts of other origins read the headers of this protocol, by
    /// `Access-Control-Expose-Headers` on 402 and on paid answers. Everything else about CORS is the
    /// work of a CORS layer outside this one. Off by default.
    pub fn expose_headers_to_browsers(mut self, on: bool) -> Self {
        self.settings.expose_headers = on;
        self
    }

    /// Refuses to deal over plain HTTP (core draft section 11.2). See [`HttpsPolicy`] for how a request
    /// is known to have come over TLS. A realm on loopback is excepted, with a warning at start-up.
    pub fn require_https(mut self, policy: HttpsPolicy) -> Self {
        self.settings.https = Some(policy);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// [`ConfigError`], which names the field and says what to do.
    pub fn build(self) -> Result<Merchant, ConfigError> {
        let realm = Realm::new(&self.realm).map_err(ConfigError::Realm)?;
        self.settings.check()?;
        if self.methods.is_empty() {
            return Err(ConfigError::NoMethod);
        }
        for (index, method) in self.methods.iter().enumerate() {
            let id = method.method();
            if !id.is_registrable() {
                return Err(ConfigError::MethodId(id.clone()));
            }
            if method.is_test() && !self.settings.test_mode {
                return Err(ConfigError::TestMethod(id.clone()));
            }
            let same = |other: &Arc<dyn PaymentMethod>| other.method() == id && other.intent() == method.intent();
            if self.methods.iter().take(index).any(same) {
                return Err(ConfigError::DuplicateMethod(id.clone()));
            }
        }
        let store = self.store.ok_or(ConfigError::NoStore)?;
        let mut settings = self.settings;
        if settings.test_mode {
            tracing::warn!(target: crate::trace::TARGET, %realm, "test mode is on: test payments buy real answers");
        }
        if settings.https.is_some() && realm.is_loopback() {
            tracing::warn!(target: crate::trace::TARGET, %realm, "the realm is on loopback: HTTPS is not required");
            settings.https = None;
        }
        Ok(Merchant(Arc::new(Inner {
            realm,
            keys: self.keys,
            methods: self.methods,
            store,
            answers: self.answers.map(|store| Answers {
                store,
                limit: settings.answer_limit,
                ttl: settings.answer_ttl,
            }),
            receipts: self.receipts,
            clock: self.clock,
            tasks: Tasks::new(settings.max_in_flight),
            breaker: Breaker::new(settings.breaker_failures, settings.breaker_pause),
            settings,
        })))
    }
}

impl Settings {
    fn check(&self) -> Result<(), ConfigError> {
        const SECOND: Duration = Duration::from_secs(1);
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let between = |field, value: Duration, least: Duration, most: Duration, problem| {
            if (least..=most).contains(&value) { Ok(()) } else { Err(ConfigError::Setting { field, problem }) }
        };
        let timeout = |field, value| {
            between(field, value, Duration::from_millis(1), DAY, "give a time between 1 millisecond and 24 hours")
        };
        between("challenge_ttl", self.challenge_ttl, SECOND, DAY, "give a time between 1 second and 24 hours")?;
        between("redelivery_grace", self.redelivery_grace, Duration::ZERO, DAY * 30, "give at most 30 days")?;
        between("lease", self.lease, SECOND, DAY, "give a time between 1 second and 24 hours")?;
        timeout("rail_timeout", self.rail_timeout)?;
        timeout("store_timeout", self.store_timeout)?;
        timeout("pricing_timeout", self.pricing_timeout)?;
        timeout("body_timeout", self.body_timeout)?;
        timeout("circuit_breaker", self.breaker_pause)?;
        if self.breaker_failures == 0 {
            return Err(ConfigError::Setting {
                field: "circuit_breaker",
                problem: "give at least 1 failure; a large number switches it off",
            });
        }
        between(
            "answer_ttl",
            self.answer_ttl,
            Duration::from_secs(60),
            DAY * 30,
            "give a time between 1 minute and 30 days",
        )?;
        if !(1024..=1024 * 1024 * 1024).contains(&self.answer_limit) {
            return Err(ConfigError::Setting { field: "answer_limit", problem: "give between 1 KiB and 1 GiB" });
        }
        if self.receipt_body_limit > 1024 * 1024 * 1024 {
            return Err(ConfigError::Setting { field: "receipt_body_limit", problem: "give at most 1 GiB" });
        }
        if self.max_in_flight == 0 || self.max_in_flight > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(ConfigError::Setting {
                field: "max_in_flight",
                problem: "give at least 1, and no more than the machine can hold",
            });
        }
        Ok(())
    }
}
