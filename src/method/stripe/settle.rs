//! One settlement: create the PaymentIntent, and find out what became of it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{
    Payload, Stripe,
    api::{CallError, Reply},
    fault, form, log, log_declined,
    reply::{self, Created, Status},
};
use crate::method::{Attempt, DeclineReason, Declined, Payment, SettleError, Settlement, Unknown};

/// How long after the expiry of the challenge a search that finds nothing is believed: Stripe's index is
/// a minute behind as a rule, and up to an hour in an outage.
const SEARCH_IS_COMPLETE: Duration = Duration::from_secs(2 * 60 * 60);
/// Before the one repeat while the first request is still at work.
const PAUSE: Duration = Duration::from_millis(500);
/// When to ask again about a payment that takes its time.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Stripe's search lags behind by up to a minute.
const SEARCH_LAG: Duration = Duration::from_secs(60);

pub(super) struct Settling<'a> {
    pub(super) stripe: &'a Stripe,
    pub(super) payment: &'a Payment,
    pub(super) payload: Payload<'a>,
    pub(super) deadline: Instant,
}

impl Settling<'_> {
    pub(super) async fn run(&self, attempt: Attempt) -> Result<Settlement, SettleError> {
        if !self.stripe.settings.connect.fits(self.payment.amount()) {
            return Err(self.refused("the application fee or the transfer is more than the amount", None, attempt));
        }
        if attempt == Attempt::Resumed && self.payment.now() >= self.payment.expires() {
            return self.after_expiry().await;
        }
        let (reply, attempt) = self.create(attempt).await?;
        match reply::created(&reply) {
            Created::Intent(intent) => self.conclude(intent, !reply.replayed).await,
            Created::Declined(declined) => {
                log_declined(self.payment.challenge_id(), &reply);
                Err(declined.into())
            }
            Created::Refused { why, retry_after } => {
                log(self.payment.challenge_id(), &reply, why);
                Err(self.refused(why, retry_after, attempt))
            }
            Created::InUse => Err(unknown("an earlier request for this payment is still at work", PAUSE)),
            Created::Unknown(why) => {
                log(self.payment.challenge_id(), &reply, why);
                Err(unknown(why, ASK_AGAIN))
            }
            Created::LookUp(why) => {
                log(self.payment.challenge_id(), &reply, why);
                match self.look_up().await? {
                    Some(intent) => self.conclude(intent, false).await,
                    None => Err(unknown(why, SEARCH_LAG)),
                }
            }
        }
    }

    /// An attempt from before the expiry is resumed after it. Stripe keeps an idempotency key for at least
    /// 24 hours and a challenge lives at most as long, so up to the expiry a repeat is safe; later it
    /// might charge again, and nobody should be charged for what has expired. So nothing is sent any
    /// more: what there is is looked for.
    async fn after_expiry(&self) -> Result<Settlement, SettleError> {
        match self.look_up().await? {
            Some(intent) => self.conclude(intent, false).await,
            None if self.payment.now() > self.payment.expires().saturating_add(SEARCH_IS_COMPLETE) => {
                Err(reply::declined().into())
            }
            None => Err(unknown("no PaymentIntent was found yet for an expired challenge", SEARCH_LAG)),
        }
    }

    /// Sends the request, and once more with the same key when the answer was lost or the first
    /// request is still at work. From then on money may have moved.
    async fn create(&self, mut attempt: Attempt) -> Result<(Reply, Attempt), SettleError> {
        match self.post_payment_intent().await {
            Ok(reply) if matches!(reply::created(&reply), Created::InUse) => {
                sleep_until((Instant::now() + PAUSE).min(self.deadline)).await;
            }
            Ok(reply) => return Ok((reply, attempt)),
            Err(CallError::Lost) => {}
            Err(error) => return Err(self.not_answered(error, attempt)),
        }
        attempt = Attempt::Resumed;
        match self.post_payment_intent().await {
            Ok(reply) => Ok((reply, attempt)),
            Err(error) => Err(self.not_answered(error, attempt)),
        }
    }

    async fn post_payment_intent(&self) -> Result<Reply, CallError> {
        let (id, token) = (self.payment.challenge_id(), self.payload.spt);
        let form =
            form::payment_intent(&self.stripe.settings, id, self.payment.amount(), self.payment.currency(), token);
        // Named by the draft, section "Settlement Procedure".
        let key = format!("{id}_{token}");
        self.stripe.api.post("/v1/payment_intents", &key, form, self.deadline).await
    }

    /// What a PaymentIntent in this state means; an answer that is not `fresh` may be overtaken.
    async fn conclude(&self, mut intent: reply::Intent, fresh: bool) -> Result<Settlement, SettleError> {
        if !fresh && intent.status != Status::Succeeded {
            intent = self.current(&intent.id).await?;
        }
        if intent.status == Status::Open {
            intent = self.cancel(&intent.id).await?;
            if intent.status == Status::Failed {
                return Err(Declined::new(
                    DeclineReason::Refused,
                    "The payment needs an action of the payer, for which there is no way here.",
                )
                .into());
            }
        }
        match intent.status {
            Status::Succeeded => self.paid(&intent),
            Status::Failed => Err(reply::declined().into()),
            Status::Processing => Err(unknown("the payment is processing", ASK_AGAIN)),
            Status::Open => Err(unknown("a PaymentIntent could not be cancelled", ASK_AGAIN)),
            Status::Other => Err(unknown("a PaymentIntent has a status that is not known", SEARCH_LAG)),
        }
    }

    fn paid(&self, intent: &reply::Intent) -> Result<Settlement, SettleError> {
        let (amount, currency) = (self.payment.amount().minor_units(), self.payment.currency().as_str());
        let received = intent.amount_received.unwrap_or(intent.amount);
        if u128::from(intent.amount) != amount || u128::from(received) != amount || intent.currency != currency {
            tracing::error!(
                target: "tower_mpp",
                challenge_id = %self.payment.challenge_id(),
                payment_intent = intent.id,
                "Stripe: a PaymentIntent succeeded with another amount or currency than asked for: look at it",
            );
            return Err(unknown("a PaymentIntent has another amount or currency than asked for", SEARCH_LAG));
        }
        let settlement = Settlement::new(intent.id.as_str(), self.payment.now()).payer(self.payment.claimed_payer());
        Ok(match &self.payload.external_id {
            Some(id) => settlement.receipt_member("externalId", id.as_str()),
            None => settlement,
        })
    }

    async fn current(&self, id: &str) -> Result<reply::Intent, SettleError> {
        let reply = self
            .stripe
            .api
            .get(&format!("/v1/payment_intents/{id}"), self.deadline)
            .await
            .map_err(|error| unknown(error.as_str(), ASK_AGAIN))?;
        match reply::intent(&reply).filter(|intent| reply.status.is_success() && intent.id == id) {
            Some(intent) => Ok(intent),
            None => {
                log(self.payment.challenge_id(), &reply, "a PaymentIntent cannot be read");
                Err(unknown("a PaymentIntent cannot be read", ASK_AGAIN))
            }
        }
    }

    /// Cancels a PaymentIntent that waits for the payer, so that no money can move any more. Answers
    /// with what it is afterwards.
    async fn cancel(&self, id: &str) -> Result<reply::Intent, SettleError> {
        let reply = self
            .stripe
            .api
            .post(
                &format!("/v1/payment_intents/{id}/cancel"),
                &format!("{}_cancel", self.payment.challenge_id()),
                "cancellation_reason=abandoned".to_owned(),
                self.deadline,
            )
            .await
            .map_err(|error| unknown(error.as_str(), ASK_AGAIN))?;
        match reply::intent(&reply).filter(|intent| reply.status.is_success() && intent.id == id && !reply.replayed) {
            Some(intent) => Ok(intent),
            None => {
                log(self.payment.challenge_id(), &reply, "a PaymentIntent was not cancelled");
                self.current(id).await
            }
        }
    }

    async fn look_up(&self) -> Result<Option<reply::Intent>, SettleError> {
        let path = form::search_path(self.payment.challenge_id());
        let reply =
            self.stripe.api.get(&path, self.deadline).await.map_err(|error| unknown(error.as_str(), ASK_AGAIN))?;
        reply::search_result(&reply).map_err(|()| {
            log(self.payment.challenge_id(), &reply, "PaymentIntents cannot be searched");
            unknown("PaymentIntents cannot be searched", SEARCH_LAG)
        })
    }

    fn not_answered(&self, error: CallError, attempt: Attempt) -> SettleError {
        tracing::warn!(
            target: "tower_mpp",
            challenge_id = %self.payment.challenge_id(),
            "Stripe: {}", error.as_str(),
        );
        match error {
            CallError::NotSent => self.refused(error.as_str(), Some(ASK_AGAIN), attempt),
            CallError::Lost | CallError::TimedOut => unknown(error.as_str(), ASK_AGAIN),
        }
    }

    /// Nothing was done for this request. That is certain for the payment only when nobody asked before.
    fn refused(&self, why: &'static str, retry_after: Option<Duration>, attempt: Attempt) -> SettleError {
        match attempt {
            Attempt::First => fault(why, retry_after).into(),
            Attempt::Resumed => unknown(why, retry_after.unwrap_or(ASK_AGAIN)),
        }
    }
}

fn unknown(why: &'static str, retry_after: Duration) -> SettleError {
    Unknown::new(why).with_retry_after(retry_after).into()
}
