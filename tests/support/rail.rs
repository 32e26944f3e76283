//! A rail for tests that does what the payload's `token` says, counts the money that it takes, and can
//! be made to wait at every step.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde::Deserialize;
use tower_mpp::{
    Price,
    method::{
        Attempt, Checked, DeclineReason, Declined, Fault, LostPayment, OfferRequest, Payment, PaymentMethod,
        RefundError, RefundRequest, Refunded, Resolution, SettleError, Settlement, Unknown, VerifyError,
    },
    protocol::{ChallengeId, Intent, MethodId},
};

/// A stand-in for a rail. Tokens: `ok`, `decline`, `insufficient`, `fault`, `verify_fault`,
/// `unknown` (no money the first time), `lost` (money moves, the reply is lost the first time),
/// `never` (does not answer), `panic`.
#[derive(Clone)]
pub struct TestRail {
    id: MethodId,
    state: Arc<State>,
}

/// How a refund fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundFault {
    /// Nobody knows, and no money moved.
    Unknown,
    /// Nobody knows, and the money moved.
    Lost,
    /// The merchant's side cannot work.
    Fault,
    /// The rail refuses for good.
    Refused,
    /// The rail does not answer.
    Never,
    /// A bug in a rail.
    Panic,
}

#[derive(Default)]
struct State {
    charged: Mutex<HashMap<ChallengeId, usize>>,
    /// What was given back for each challenge, in minor units.
    refunded: Mutex<HashMap<ChallengeId, String>>,
    refund_faults: Mutex<VecDeque<RefundFault>>,
    refund_attempts: AtomicUsize,
    /// How many lost payments it cannot tell anything about.
    blind: AtomicUsize,
    attempts: AtomicUsize,
    yields: AtomicUsize,
    delay: Mutex<Duration>,
    after: AtomicBool,
    tokens: AtomicBool,
}

#[derive(Deserialize)]
struct Payload {
    token: String,
    proof: Option<String>,
}

impl TestRail {
    pub fn new(id: &'static str) -> Self {
        Self { id: MethodId::new(id).expect("a method id"), state: Arc::default() }
    }

    /// Makes every step give way this many times before it goes on.
    pub fn yielding(self, times: usize) -> Self {
        self.state.yields.store(times, Ordering::SeqCst);
        self
    }

    /// Makes settling take this long.
    pub fn delay(self, delay: Duration) -> Self {
        *self.state.delay.lock().expect("lock") = delay;
        self
    }

    /// Can take the money after the handler too.
    pub fn settling_after(self) -> Self {
        self.state.after.store(true, Ordering::SeqCst);
        self
    }

    /// Takes bare tokens too: `token`, or `token:proof`.
    pub fn taking_tokens(self) -> Self {
        self.state.tokens.store(true, Ordering::SeqCst);
        self
    }

    /// How often money has moved.
    pub fn settlements(&self) -> usize {
        self.state.charged.lock().expect("lock").values().sum()
    }

    /// How often money has moved for one challenge.
    pub fn settlements_of(&self, id: ChallengeId) -> usize {
        self.state.charged.lock().expect("lock").get(&id).copied().unwrap_or(0)
    }

    /// How often money was given back.
    pub fn refunds(&self) -> usize {
        self.state.refunded.lock().expect("lock").len()
    }

    /// What was given back for one challenge, in minor units.
    pub fn refunded(&self, id: ChallengeId) -> Option<String> {
        self.state.refunded.lock().expect("lock").get(&id).cloned()
    }

    /// Makes the next refunds fail, one after the other.
    pub fn fail_refunds(&self, faults: impl IntoIterator<Item = RefundFault>) {
        self.state.refund_faults.lock().expect("lock").extend(faults);
    }

    /// How often a refund was tried.
    pub fn refund_attempts(&self) -> usize {
        self.state.refund_attempts.load(Ordering::SeqCst)
    }

    /// Makes it unable to tell what became of the next lost payments that it is asked about.
    pub fn blind(&self, times: usize) {
        self.state.blind.store(times, Ordering::SeqCst);
    }

    /// How often settling was tried.
    pub fn attempts(&self) -> usize {
        self.state.attempts.load(Ordering::SeqCst)
    }

    async fn give_way(&self) {
        for _ in 0..self.state.yields.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl PaymentMethod for TestRail {
    fn method(&self) -> &MethodId {
        &self.id
    }

    fn intent(&self) -> &Intent {
        &Intent::CHARGE
    }

    fn can_settle_after(&self) -> bool {
        self.state.after.load(Ordering::SeqCst)
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        (!price.amount().is_zero()).then(|| OfferRequest::of(price))
    }

    fn token_payload(&self, token: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
        let (token, proof) = token.split_once(':').map_or((token, None), |(token, proof)| (token, Some(proof)));
        let members = [("token", Some(token)), ("proof", proof)];
        let payload = || members.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))).collect();
        self.state.tokens.load(Ordering::SeqCst).then(payload)
    }

    fn check(&self, payment: &Payment) -> Result<Checked, Declined> {
        let payload: Payload = payment.payload()?;
        Ok(match payload.proof {
            Some(proof) => Checked::exclusive(payment.spend_key(proof)),
            None => Checked::bound(),
        })
    }

    async fn verify(&self, payment: &Payment, _: Attempt) -> Result<(), VerifyError> {
        self.give_way().await;
        let payload: Payload = payment.payload()?;
        match payload.token.as_str() {
            "verify_fault" => Err(Fault::new("the rail's key is wrong: sk_secret").into()),
            "forged" => Err(Declined::invalid_proof("The signature is not the payer's.").into()),
            _ => Ok(()),
        }
    }

    async fn settle(&self, payment: &Payment, attempt: Attempt) -> Result<Settlement, SettleError> {
        self.state.attempts.fetch_add(1, Ordering::SeqCst);
        self.give_way().await;
        let delay = *self.state.delay.lock().expect("lock");
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let payload: Payload = payment.payload()?;
        let id = payment.challenge_id();
        // What a real rail's idempotency key does: money moves once per challenge.
        let charge = || {
            self.state.charged.lock().expect("lock").entry(id).or_insert(1);
        };
        match (payload.token.as_str(), attempt) {
            ("decline", _) => return Err(Declined::new(DeclineReason::Refused, "The card was declined.").into()),
            ("insufficient", _) => {
                return Err(Declined::new(DeclineReason::Insufficient, "There is not enough money.").into());
            }
            ("fault", _) => return Err(Fault::new("401 from the rail: sk_secret").into()),
            ("unknown", Attempt::First) => return Err(Unknown::new("no answer").into()),
            ("lost", Attempt::First) => {
                charge();
                return Err(Unknown::new("the reply was lost").into());
            }
            ("never", _) => std::future::pending().await,
            ("panic", _) => panic!("a bug in a rail"),
            ("ok" | "unknown" | "lost", _) => charge(),
            _ => return Err(Declined::invalid_proof("There is no such token.").into()),
        }
        self.give_way().await;
        Ok(Settlement::new(format!("ref_{id}"), payment.now()).payer(payment.claimed_payer()))
    }

    async fn resolve(&self, lost: LostPayment<'_>) -> Result<Resolution, Unknown> {
        self.give_way().await;
        let blind = |left: usize| left.checked_sub(1);
        if self.state.blind.fetch_update(Ordering::SeqCst, Ordering::SeqCst, blind).is_ok() {
            return Err(Unknown::new("the rail does not know yet"));
        }
        Ok(match self.settlements_of(lost.challenge_id) {
            0 => Resolution::NotCharged,
            _ => Resolution::Settled(Settlement::new(format!("ref_{}", lost.challenge_id), lost.now)),
        })
    }

    async fn refund(&self, refund: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        self.state.refund_attempts.fetch_add(1, Ordering::SeqCst);
        self.give_way().await;
        let id = refund.challenge_id;
        if refund.settlement.reference != format!("ref_{id}") || self.settlements_of(id) != 1 {
            return Err(RefundError::Refused("there is no such payment".into()));
        }
        let fault = self.state.refund_faults.lock().expect("lock").pop_front();
        match fault {
            Some(RefundFault::Unknown) => return Err(Unknown::new("no answer").into()),
            Some(RefundFault::Fault) => return Err(Fault::new("401 from the rail: sk_secret").into()),
            Some(RefundFault::Refused) => return Err(RefundError::Refused("too old".into())),
            Some(RefundFault::Never) => std::future::pending().await,
            Some(RefundFault::Panic) => panic!("a bug in a rail"),
            Some(RefundFault::Lost) | None => {}
        }
        // What a real rail's idempotency key does: money comes back once per challenge.
        self.state.refunded.lock().expect("lock").entry(id).or_insert_with(|| refund.amount.to_string());
        if fault == Some(RefundFault::Lost) {
            return Err(Unknown::new("the reply was lost").into());
        }
        Ok(Refunded::new(format!("refund_{id}")))
    }
}
