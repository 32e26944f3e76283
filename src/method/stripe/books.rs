//! What Stripe has on its books for one challenge: read it, and end what is open.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Stripe, form, log,
    reply::{self, Intent, Status},
};
use crate::{
    method::{LostPayment, Payment, Resolution, Settlement, Unknown},
    protocol::{Amount, ChallengeId, Currency, Timestamp},
};

/// How long after the expiry of the challenge a search that finds nothing is believed: Stripe's index is
/// a minute behind as a rule, and up to an hour in an outage.
const SEARCH_IS_COMPLETE: Duration = Duration::from_secs(2 * 60 * 60);
/// When to ask again about a payment that takes its time.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Stripe's search lags behind by up to a minute.
pub(super) const SEARCH_LAG: Duration = Duration::from_secs(60);

/// One challenge, without the payer's credential.
pub(super) struct Books<'a> {
    pub(super) stripe: &'a Stripe,
    pub(super) id: ChallengeId,
    amount: Amount,
    currency: &'a Currency,
    expires: Timestamp,
    now: Timestamp,
    pub(super) deadline: Instant,
}

impl<'a> Books<'a> {
    pub(super) fn of(stripe: &'a Stripe, payment: &'a Payment, deadline: Instant) -> Self {
        let (id, amount, currency) = (payment.challenge_id(), payment.amount(), payment.currency());
        Self { stripe, id, amount, currency, expires: payment.expires(), now: payment.now(), deadline }
    }

    pub(super) fn of_lost(stripe: &'a Stripe, lost: LostPayment<'a>, deadline: Instant) -> Self {
        let LostPayment { challenge_id: id, amount, currency, expires, now } = lost;
        Self { stripe, id, amount, currency, expires, now, deadline }
    }

    /// What became of a payment that nobody has heard of again.
    pub(super) async fn resolve(&self) -> Result<Resolution, Unknown> {
        let Some(mut intent) = self.look_up().await? else { return Ok(Resolution::NotCharged) };
        if intent.status != Status::Succeeded {
            intent = self.current(&intent.id).await?;
        }
        if matches!(intent.status, Status::Open | Status::Authorized) {
            if self.now < self.expires {
                return Err(unknown("a PaymentIntent is open, and the payer may still come back", ASK_AGAIN));
            }
            intent = self.cancel(&intent.id).await?;
        }
        match intent.status {
            Status::Succeeded => self.paid(&intent).map(Resolution::Settled),
            Status::Failed | Status::Canceled => Ok(Resolution::NotCharged),
            status => Err(undecided(status)),
        }
    }

    /// The PaymentIntent that decides, found by its metadata. `None` only when it is certain that there is none.
    pub(super) async fn look_up(&self) -> Result<Option<Intent>, Unknown> {
        let path = form::search_path(self.id);
        let reply = self.stripe.api.get(&path, self.deadline).await;
        let reply = reply.map_err(|error| unknown(error.as_str(), ASK_AGAIN))?;
        let found = reply::search_result(&reply).map_err(|()| {
            log(self.id, &reply, "PaymentIntents cannot be searched");
            unknown("PaymentIntents cannot be searched", SEARCH_LAG)
        })?;
        let complete = self.now > self.expires.saturating_add(SEARCH_IS_COMPLETE);
        match &found {
            None if !complete => Err(unknown("no PaymentIntent was found yet", SEARCH_LAG)),
            // With manual capture there may be another one behind it.
            Some(intent) if intent.status == Status::Canceled && !complete => {
                Err(unknown("only a cancelled PaymentIntent was found yet", SEARCH_LAG))
            }
            _ => Ok(found),
        }
    }

    pub(super) async fn current(&self, id: &str) -> Result<Intent, Unknown> {
        let path = format!("/v1/payment_intents/{id}");
        let reply = self.stripe.api.get(&path, self.deadline).await;
        let reply = reply.map_err(|error| unknown(error.as_str(), ASK_AGAIN))?;
        reply::intent(&reply).filter(|intent| reply.status.is_success() && intent.id == id).ok_or_else(|| {
            log(self.id, &reply, "a PaymentIntent cannot be read");
            unknown("a PaymentIntent cannot be read", ASK_AGAIN)
        })
    }

    /// Cancels a PaymentIntent that waits for the payer or for us, so that no money can move any more.
    /// Answers with what it is afterwards.
    pub(super) async fn cancel(&self, id: &str) -> Result<Intent, Unknown> {
        let (path, key) = (format!("/v1/payment_intents/{id}/cancel"), format!("{id}_cancel"));
        let form = "cancellation_reason=abandoned".to_owned();
        let reply = self.stripe.api.post(&path, &key, form, self.deadline).await;
        let reply = reply.map_err(|error| unknown(error.as_str(), ASK_AGAIN))?;
        match reply::intent(&reply).filter(|intent| reply.status.is_success() && intent.id == id && !reply.replayed) {
            Some(intent) => Ok(intent),
            None => {
                log(self.id, &reply, "a PaymentIntent was not cancelled");
                self.current(id).await
            }
        }
    }

    /// The money has moved, if it is the money that was asked for.
    pub(super) fn paid(&self, intent: &Intent) -> Result<Settlement, Unknown> {
        if !self.is_asked_for(intent, intent.amount_received) {
            tracing::error!(
                target: "tower_mpp",
                challenge_id = %self.id,
                payment_intent = intent.id,
                "Stripe: a PaymentIntent succeeded with another amount or currency than asked for: look at it",
            );
            return Err(unknown("a PaymentIntent has another amount or currency than asked for", SEARCH_LAG));
        }
        Ok(Settlement::new(intent.id.as_str(), self.now))
    }

    /// Whether a PaymentIntent is over what was asked for, and `money` is all of it.
    pub(super) fn is_asked_for(&self, intent: &Intent, money: Option<u64>) -> bool {
        let asked = self.amount.minor_units();
        let all = u128::from(intent.amount) == asked && u128::from(money.unwrap_or(intent.amount)) == asked;
        all && intent.currency == self.currency.as_str()
    }
}

/// A PaymentIntent that is neither at its end nor could be brought there.
pub(super) fn undecided(status: Status) -> Unknown {
    match status {
        Status::Processing => unknown("the payment is processing", ASK_AGAIN),
        Status::Open | Status::Authorized => unknown("a PaymentIntent could not be cancelled", ASK_AGAIN),
        _ => unknown("a PaymentIntent has a status that is not known", SEARCH_LAG),
    }
}

pub(super) fn unknown(why: &'static str, retry_after: Duration) -> Unknown {
    Unknown::new(why).with_retry_after(retry_after)
}
