//! One settlement: create the PaymentIntent, and find out what became of it. With manual capture it is held
//! first and captured later.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{
    Payload, Stripe,
    api::{CallError, Reply},
    books::{ASK_AGAIN, Books, SEARCH_LAG, undecided, unknown},
    config::is_id,
    fault, form, log, log_declined,
    reply::{self, Created, Intent, Status},
};
use crate::method::{
    Attempt, Authorization, Authorized, DeclineReason, Declined, Payment, SettleError, Settlement, Unknown,
};

/// Before the one repeat while the first request is still at work.
const PAUSE: Duration = Duration::from_millis(500);
/// How often one credential is authorised at most. Every time after a handler that failed needs a
/// PaymentIntent of its own, and is found by way of all before it.
const MAX_AUTHORIZATIONS: usize = 8;

pub(super) struct Settling<'a> {
    books: Books<'a>,
    payment: &'a Payment,
    payload: Payload<'a>,
}

impl<'a> Settling<'a> {
    pub(super) fn of(stripe: &'a Stripe, payment: &'a Payment, deadline: Instant) -> Result<Self, Declined> {
        let payload = Payload::read(payment)?;
        Ok(Self { books: Books::of(stripe, payment, deadline), payment, payload })
    }

    /// Takes the money, by way of an authorisation where capture is manual.
    pub(super) async fn settle(&self, attempt: Attempt) -> Result<Settlement, SettleError> {
        match self.authorize(attempt).await? {
            Authorized::Settled(settlement) => Ok(settlement),
            Authorized::Pending(authorization) => match self.capture(&authorization, attempt).await {
                // Nothing may stay held for a payment that nobody remembers.
                Err(SettleError::Fault(fault)) => {
                    self.cancel(&authorization).await?;
                    Err(fault.into())
                }
                captured => captured,
            },
        }
    }

    /// Holds the money where capture is manual; takes it where it is not.
    pub(super) async fn authorize(&self, attempt: Attempt) -> Result<Authorized, SettleError> {
        if !self.books.stripe.settings.connect.fits(self.payment.amount()) {
            return Err(self.refused("the application fee or the transfer is more than the amount", None, attempt));
        }
        if attempt == Attempt::Resumed && self.payment.now() >= self.payment.expires() {
            return self.after_expiry().await.map(Authorized::Settled);
        }
        // Named by the draft, section "Settlement Procedure".
        let mut key = format!("{}_{}", self.books.id, self.payload.spt);
        for _ in 0..MAX_AUTHORIZATIONS {
            let (reply, attempt) = self.create(&key, attempt).await?;
            let intent = match reply::created(&reply) {
                Created::Intent(intent) if reply.replayed && intent.status != Status::Succeeded => {
                    self.books.current(&intent.id).await?
                }
                Created::Intent(intent) => intent,
                Created::Declined(declined) => {
                    log_declined(self.books.id, &reply);
                    return Err(declined.into());
                }
                Created::Refused { why, retry_after } => {
                    log(self.books.id, &reply, why);
                    return Err(self.refused(why, retry_after, attempt));
                }
                Created::InUse => {
                    return Err(unknown("an earlier request for this payment is still at work", PAUSE).into());
                }
                Created::Unknown(why) => {
                    log(self.books.id, &reply, why);
                    return Err(unknown(why, ASK_AGAIN).into());
                }
                Created::LookUp(why) => {
                    log(self.books.id, &reply, why);
                    let Some(intent) = self.books.look_up().await? else { return Err(unknown(why, SEARCH_LAG).into()) };
                    self.books.current(&intent.id).await?
                }
            };
            match intent.status {
                Status::Authorized if self.is_manual() => return self.held(intent).await.map(Authorized::Pending),
                // The handler has failed before, and nothing was charged: once more, with another key. As only a
                // cancelled PaymentIntent has a successor, there is never more than one that can be captured.
                Status::Canceled if self.is_manual() => key = format!("{}_{}", self.books.id, intent.id),
                _ => return self.conclude(intent).await.map(Authorized::Settled),
            }
        }
        Err(Declined::new(DeclineReason::Refused, "This credential was tried too often. Ask for a new challenge.")
            .into())
    }

    fn is_manual(&self) -> bool {
        self.books.stripe.settings.manual_capture
    }

    /// The money is held, if it is the money that was asked for.
    async fn held(&self, intent: Intent) -> Result<Authorization, SettleError> {
        if self.books.is_asked_for(&intent, intent.amount_capturable) {
            return Ok(Authorization::new(intent.id));
        }
        tracing::error!(
            target: "tower_mpp",
            challenge_id = %self.books.id,
            payment_intent = intent.id,
            "Stripe: a PaymentIntent holds another amount or currency than asked for",
        );
        self.cancel(&Authorization::new(intent.id)).await?;
        Err(fault("a PaymentIntent holds another amount or currency than asked for", None).into())
    }

    /// Takes what is held.
    pub(super) async fn capture(
        &self,
        authorization: &Authorization,
        attempt: Attempt,
    ) -> Result<Settlement, SettleError> {
        let Some(id) = payment_intent(authorization) else {
            return Err(fault("there is no PaymentIntent to capture", None).into());
        };
        let path = format!("/v1/payment_intents/{id}/capture");
        let form = form::capture(self.payment.amount());
        let (reply, attempt) = self.post_twice(&path, &format!("{id}_capture"), &form, attempt).await?;
        match reply::created(&reply) {
            Created::Intent(intent) if intent.id == id && intent.status == Status::Succeeded => self.paid(&intent),
            // From the door: nothing was looked at.
            Created::Refused { why, retry_after } if !matches!(reply.status.as_u16(), 400 | 404) => {
                log(self.books.id, &reply, why);
                Err(self.refused(why, retry_after, attempt))
            }
            Created::InUse => Err(unknown("the capture is still at work", PAUSE).into()),
            Created::Unknown(why) => {
                log(self.books.id, &reply, why);
                Err(unknown(why, ASK_AGAIN).into())
            }
            // Whatever Stripe says of it, the PaymentIntent decides.
            _ => {
                log(self.books.id, &reply, "a PaymentIntent was not captured");
                self.conclude(self.books.current(id).await?).await
            }
        }
    }

    /// Gives up what is held.
    pub(super) async fn cancel(&self, authorization: &Authorization) -> Result<(), Unknown> {
        let Some(id) = payment_intent(authorization) else { return Err(Unknown::new("there is no PaymentIntent")) };
        match self.books.cancel(id).await?.status {
            Status::Canceled | Status::Failed => Ok(()),
            Status::Succeeded => Err(unknown("a PaymentIntent was captured before it was cancelled", ASK_AGAIN)),
            status => Err(undecided(status)),
        }
    }

    /// An attempt from before the expiry is resumed after it. Stripe keeps an idempotency key for at least
    /// 24 hours and a challenge lives at most as long, so up to the expiry a repeat is safe; later it
    /// might charge again, and nobody should be charged for what has expired. So nothing is sent any
    /// more: what there is is looked for.
    async fn after_expiry(&self) -> Result<Settlement, SettleError> {
        match self.books.look_up().await? {
            Some(intent) if intent.status == Status::Succeeded => self.paid(&intent),
            Some(intent) => self.conclude(self.books.current(&intent.id).await?).await,
            None => Err(reply::declined().into()),
        }
    }

    /// Sends the request for a PaymentIntent.
    async fn create(&self, key: &str, attempt: Attempt) -> Result<(Reply, Attempt), SettleError> {
        let (amount, currency) = (self.payment.amount(), self.payment.currency());
        let settings = &self.books.stripe.settings;
        let form = form::payment_intent(settings, self.books.id, amount, currency, self.payload.spt);
        self.post_twice("/v1/payment_intents", key, &form, attempt).await
    }

    /// Sends a request, and once more with the same key when the answer was lost or the first request is
    /// still at work. From then on money may have moved.
    async fn post_twice(
        &self,
        path: &str,
        key: &str,
        form: &str,
        mut attempt: Attempt,
    ) -> Result<(Reply, Attempt), SettleError> {
        let (api, deadline) = (&self.books.stripe.api, self.books.deadline);
        match api.post(path, key, form.to_owned(), deadline).await {
            Ok(reply) if matches!(reply::created(&reply), Created::InUse) => {
                sleep_until((Instant::now() + PAUSE).min(deadline)).await;
            }
            Ok(reply) => return Ok((reply, attempt)),
            Err(CallError::Lost) => {}
            Err(error) => return Err(self.not_answered(error, attempt)),
        }
        attempt = Attempt::Resumed;
        match api.post(path, key, form.to_owned(), deadline).await {
            Ok(reply) => Ok((reply, attempt)),
            Err(error) => Err(self.not_answered(error, attempt)),
        }
    }

    /// What a PaymentIntent in this state means, as it is now.
    async fn conclude(&self, mut intent: Intent) -> Result<Settlement, SettleError> {
        let before = intent.status;
        if matches!(before, Status::Open | Status::Authorized) {
            intent = self.books.cancel(&intent.id).await?;
        }
        match intent.status {
            Status::Succeeded => self.paid(&intent),
            Status::Failed | Status::Canceled if before == Status::Open => Err(Declined::new(
                DeclineReason::Refused,
                "The payment needs an action of the payer, for which there is no way here.",
            )
            .into()),
            Status::Failed | Status::Canceled => Err(reply::declined().into()),
            status => Err(undecided(status).into()),
        }
    }

    fn paid(&self, intent: &Intent) -> Result<Settlement, SettleError> {
        let settlement = self.books.paid(intent)?.payer(self.payment.claimed_payer());
        Ok(match &self.payload.external_id {
            Some(id) => settlement.receipt_member("externalId", id.as_str()),
            None => settlement,
        })
    }

    fn not_answered(&self, error: CallError, attempt: Attempt) -> SettleError {
        tracing::warn!(target: "tower_mpp", challenge_id = %self.books.id, "Stripe: {}", error.as_str());
        match error {
            CallError::NotSent => self.refused(error.as_str(), Some(ASK_AGAIN), attempt),
            CallError::Lost | CallError::TimedOut => unknown(error.as_str(), ASK_AGAIN).into(),
        }
    }

    /// Nothing was done for this request. That is certain for the payment only when nobody asked before.
    fn refused(&self, why: &'static str, retry_after: Option<Duration>, attempt: Attempt) -> SettleError {
        match attempt {
            Attempt::First => fault(why, retry_after).into(),
            Attempt::Resumed => unknown(why, retry_after.unwrap_or(ASK_AGAIN)).into(),
        }
    }
}

/// The PaymentIntent that holds the money. Its id goes into paths.
fn payment_intent(authorization: &Authorization) -> Option<&str> {
    authorization.reference().filter(|id| is_id(id, "pi_"))
}
