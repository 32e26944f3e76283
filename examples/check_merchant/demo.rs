//! The payment method `demo`: a rail that does what the payload's `token` says.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Deserializer};
use tower_mpp::{
    Price,
    method::{
        Attempt, Checked, DeclineReason, Declined, OfferRequest, Payment, PaymentMethod, RefundError, RefundRequest,
        Refunded, SettleError, Settlement, Unknown, VerifyError,
    },
    protocol::{ChallengeId, Intent, InvalidName, MethodId},
};

/// Counts the money that it takes. Unlike a real rail it would take it a second time for the same
/// challenge, without a word: so that somebody outside can see that nobody asks it to.
pub(crate) struct Demo {
    method: MethodId,
    settlements: AtomicU64,
    /// Challenges whose first settlement had an unknown outcome.
    unknown: Mutex<HashSet<ChallengeId>>,
}

/// How long the settlement of a request is to take. A layer outside the payment layer puts it into the
/// request's `PaymentContext`.
#[derive(Clone, Copy)]
pub(crate) struct SettleDelay(pub(crate) Duration);

/// What the payer sends. Unknown members are ignored.
#[derive(Deserialize)]
struct Payload {
    token: String,
    /// What was paid with elsewhere: good for one challenge only.
    #[serde(default, deserialize_with = "present")]
    proof: Option<String>,
}

/// What becomes of a payment.
enum Token {
    Ok,
    Decline,
    Unknown,
}

/// A member that may be left out but is a text when it is there, not null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

impl Demo {
    pub(crate) fn new() -> Result<Self, InvalidName> {
        Ok(Self { method: MethodId::new("demo")?, settlements: AtomicU64::new(0), unknown: Mutex::default() })
    }

    /// How often money was taken.
    pub(crate) fn settlements(&self) -> u64 {
        self.settlements.load(Ordering::SeqCst)
    }

    fn read(payment: &Payment) -> Result<(Token, Option<String>), Declined> {
        let Payload { token, proof } = payment.payload()?;
        let token = match token.as_str() {
            "tok_demo_ok" => Token::Ok,
            "tok_demo_decline" => Token::Decline,
            "tok_demo_unknown" => Token::Unknown,
            _ => return Err(Declined::invalid_proof("There is no such token.")),
        };
        Ok((token, proof))
    }

    fn is_first_time(&self, challenge: ChallengeId) -> bool {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).insert(challenge)
    }
}

#[async_trait]
impl PaymentMethod for Demo {
    fn method(&self) -> &MethodId {
        &self.method
    }

    fn intent(&self) -> &Intent {
        &Intent::CHARGE
    }

    fn is_test(&self) -> bool {
        true
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        Some(OfferRequest::of(price))
    }

    fn check(&self, payment: &Payment) -> Result<Checked, Declined> {
        let (_, proof) = Self::read(payment)?;
        Ok(proof.map_or_else(Checked::bound, |proof| Checked::exclusive(payment.spend_key(proof))))
    }

    async fn verify(&self, _: &Payment, _: Attempt) -> Result<(), VerifyError> {
        Ok(())
    }

    async fn settle(&self, payment: &Payment, _: Attempt) -> Result<Settlement, SettleError> {
        if let Some(SettleDelay(delay)) = payment.context() {
            tokio::time::sleep(*delay).await;
        }
        let id = payment.challenge_id();
        let (token, _) = Self::read(payment)?;
        match token {
            Token::Decline => return Err(Declined::new(DeclineReason::Refused, "The token was declined.").into()),
            Token::Unknown if self.is_first_time(id) => return Err(Unknown::new("tok_demo_unknown").into()),
            Token::Ok | Token::Unknown => {}
        }
        self.settlements.fetch_add(1, Ordering::SeqCst);
        Ok(Settlement::new(format!("demo_{id}"), payment.now()).payer(payment.claimed_payer()))
    }

    async fn refund(&self, _: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        Err(RefundError::Unsupported)
    }
}
