//! Stripe: Shared Payment Tokens (SPT), method `stripe`, intent `charge`
//! (`draft-stripe-charge-00`).
//!
//! The payer's wallet grants a token for this merchant's Business Network Profile; the merchant turns
//! it into a confirmed PaymentIntent. What Stripe answers becomes one of four outcomes:
//!
//! | Stripe | outcome |
//! |---|---|
//! | `succeeded`, with our amount and currency | settled, `reference` is the PaymentIntent id |
//! | 402 `card_error`, `requires_payment_method`, `canceled` | declined (insufficient when the card says so) |
//! | 400 or 404 about the token: unknown, spent, expired, over its limit | declined |
//! | `requires_capture`, with [`manual_capture`](StripeBuilder::manual_capture) and our amount and currency | held: captured, or cancelled when the handler fails |
//! | `requires_action`, `requires_confirmation`, another `requires_capture` | the PaymentIntent is cancelled, then declined; settled when it succeeded meanwhile |
//! | `processing`, a time-out, a lost connection, 5xx, anything unreadable | unknown |
//! | 409 `idempotency_key_in_use` | repeated once after a pause, then unknown |
//! | 401, 403, other 400 and 404, no connection at all | our fault; unknown when an earlier attempt may have moved money |
//! | 429 | our fault with `Retry-After` (at most a minute); unknown as above |
//! | `succeeded` with another amount or currency | unknown, and an error in the log |
//!
//! An unknown outcome is resolved by the same request with the same idempotency key
//! (`<challenge id>_<token>`). Stripe repeats its first answer for at least 24 hours, so a repeated
//! answer that was not final is followed by a look at the PaymentIntent. When the key no longer helps
//! (Stripe stored a server error for it, the parameters have changed, the challenge has expired) nothing
//! is sent again: the PaymentIntent is searched by its metadata. A restricted key therefore needs to
//! read PaymentIntents as well.
//!
//! With manual capture a credential whose handler failed is good again: its PaymentIntent is cancelled, and
//! the next one has the key `<challenge id>_<id of the cancelled PaymentIntent>`, at most eight in all. Before a
//! capture is asked for, its PaymentIntent is the only one of its challenge that is not cancelled. A payment
//! whose process was lost in between is found by the same credential, or by
//! [`resolve`](PaymentMethod::resolve), which cancels it once the challenge has expired.
//!
//! No text of Stripe reaches the payer, and neither keys nor tokens reach the log: events of target
//! `tower_mpp` carry the challenge id, Stripe's request id, `code` and `decline_code`.
//!
//! Shared Payment Tokens were never run against Stripe itself by this crate's tests; they run against a
//! stand-in that is driven by Stripe's own SDKs.

mod amount;
mod api;
mod books;
mod config;
mod form;
mod reply;
mod settle;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::Instant;

pub use self::config::{StripeBuilder, StripeConfigError};
use self::{
    api::{Api, CallError, Reply},
    books::Books,
    config::{Settings, is_id},
    reply::RefundReply,
    settle::Settling,
};
use super::{
    Attempt, Authorization, Authorized, Checked, Declined, Fault, LostPayment, OfferRequest, Payment, PaymentMethod,
    RefundError, RefundRequest, Refunded, Resolution, SettleError, Settlement, Unknown, VerifyError,
};
use crate::protocol::{ChallengeId, Intent, MethodId, Price};

/// `<43 characters>_<token>` must fit into the 255 characters of an idempotency key.
const MAX_TOKEN: usize = 200;
const MAX_EXTERNAL_ID: usize = 255;
/// How long a spent token is remembered. Stripe itself refuses a token that is used up, and a token
/// with money left that is presented for another challenge is charged again and never served for
/// nothing; within the life of an idempotency key not even that happens.
const REMEMBER: Duration = Duration::from_secs(24 * 60 * 60);

/// Takes Shared Payment Tokens. See the [module](self) for what becomes of a payment.
///
/// With a test key (`sk_test_...`) no real money moves: such a method is refused unless the merchant is
/// in test mode.
///
/// ```
/// use tower_mpp::method::stripe::Stripe;
///
/// let stripe = Stripe::new("sk_test_4eC39HqLyjWDarjtT1zdp7dc", "profile_test_1MqDcVKA5fEO2tZv")?;
///
/// let platform = Stripe::builder("sk_test_4eC39HqLyjWDarjtT1zdp7dc", "profile_test_1MqDcVKA5fEO2tZv")
///     .payment_method_types(["card"])
///     .metadata("product", "search")
///     .transfer_data("acct_1032D82eZvKYlo2C", None)
///     .build()?;
/// # Ok::<(), tower_mpp::method::stripe::StripeConfigError>(())
/// ```
pub struct Stripe {
    method: MethodId,
    intent: Intent,
    api: Api,
    settings: Settings,
}

impl Stripe {
    /// Stripe with the default settings: a secret (`sk_...`) or restricted (`rk_...`) key that may write
    /// PaymentIntents and refunds, and the id of the Business Network Profile (`profile_...`).
    ///
    /// # Errors
    /// [`StripeConfigError`] when one of them cannot be right.
    pub fn new(secret_key: impl Into<String>, network_id: impl Into<String>) -> Result<Self, StripeConfigError> {
        Self::builder(secret_key, network_id).build()
    }

    /// Stripe with further settings.
    pub fn builder(secret_key: impl Into<String>, network_id: impl Into<String>) -> StripeBuilder {
        StripeBuilder::new(secret_key.into(), network_id.into())
    }

    fn with(api: Api, settings: Settings) -> Self {
        Self { method: MethodId::STRIPE, intent: Intent::CHARGE, api, settings }
    }
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stripe")
            .field("network_id", &self.settings.network_id)
            .field("payment_method_types", &self.settings.payment_method_types)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl PaymentMethod for Stripe {
    fn method(&self) -> &MethodId {
        &self.method
    }

    fn intent(&self) -> &Intent {
        &self.intent
    }

    fn is_test(&self) -> bool {
        self.settings.test_key
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        let amount = amount::stripe_amount(price)?;
        if !self.settings.connect.fits(amount) {
            tracing::warn!(
                target: "tower_mpp",
                %price,
                "no Stripe offer: the price is below the application fee or the transfer amount",
            );
            return None;
        }
        let mut offer = OfferRequest::new(amount, price.currency().clone())
            .method_detail("networkId", self.settings.network_id.as_str())
            .method_detail("paymentMethodTypes", self.settings.payment_method_types.as_slice());
        if let Some(recipient) = &self.settings.recipient {
            offer = offer.recipient(recipient.as_str());
        }
        if self.settings.metadata.is_empty() {
            return Some(offer);
        }
        let metadata: serde_json::Map<_, _> =
            self.settings.metadata.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        Some(offer.method_detail("metadata", metadata))
    }

    fn token_payload(&self, token: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
        Some([("spt".to_owned(), token.into())].into_iter().collect())
    }

    fn check(&self, payment: &Payment) -> Result<Checked, Declined> {
        let payload = Payload::read(payment)?;
        Ok(Checked::exclusive(payment.spend_key(payload.spt)).remember_for(REMEMBER))
    }

    /// With [`manual_capture`](StripeBuilder::manual_capture): a token that was only looked at may be worth
    /// nothing any more when the handler is done.
    fn can_settle_after(&self) -> bool {
        self.settings.manual_capture
    }

    /// Nothing: asking Stripe about the token first would not make the charge more certain.
    async fn verify(&self, _: &Payment, _: Attempt) -> Result<(), VerifyError> {
        Ok(())
    }

    async fn settle(&self, payment: &Payment, attempt: Attempt) -> Result<Settlement, SettleError> {
        Settling::of(self, payment, self.deadline())?.settle(attempt).await
    }

    async fn authorize(&self, payment: &Payment, attempt: Attempt) -> Result<Authorized, SettleError> {
        Settling::of(self, payment, self.deadline())?.authorize(attempt).await
    }

    async fn capture(
        &self,
        payment: &Payment,
        authorization: &Authorization,
        attempt: Attempt,
    ) -> Result<Settlement, SettleError> {
        Settling::of(self, payment, self.deadline())?.capture(authorization, attempt).await
    }

    async fn cancel(&self, payment: &Payment, authorization: &Authorization) -> Result<(), Unknown> {
        let settling = Settling::of(self, payment, self.deadline());
        settling.map_err(|_| Unknown::new("there is no token"))?.cancel(authorization).await
    }

    async fn resolve(&self, lost: LostPayment<'_>) -> Result<Resolution, Unknown> {
        Books::of_lost(self, lost, self.deadline()).resolve().await
    }

    async fn refund(&self, refund: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        let deadline = self.deadline();
        // Looking first makes a refund single for ever, not only as long as Stripe remembers the key.
        if let Some(reference) = self.find_refund(&refund, deadline).await? {
            return Ok(Refunded::new(reference));
        }
        let key = format!("{}_refund", refund.challenge_id);
        let form = form::refund(&self.settings, &refund);
        let reply = self.api.post("/v1/refunds", &key, form, deadline).await.map_err(lost_refund)?;
        match reply::refunded(&reply, refund.amount.minor_units()) {
            RefundReply::Refunded(reference) => Ok(Refunded::new(reference)),
            RefundReply::AlreadyRefunded => Ok(Refunded::new(refund.settlement.reference.clone())),
            other => Err(not_refunded(other, refund.challenge_id, &reply)),
        }
    }
}

impl Stripe {
    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    async fn find_refund(&self, refund: &RefundRequest<'_>, deadline: Instant) -> Result<Option<String>, RefundError> {
        let path = form::refunds_path(&refund.settlement.reference);
        let reply = self.api.get(&path, deadline).await.map_err(lost_refund)?;
        reply::refund_of(&reply, refund.challenge_id, refund.amount.minor_units())
            .map_err(|meaning| not_refunded(meaning, refund.challenge_id, &reply))
    }
}

fn not_refunded(meaning: RefundReply, id: ChallengeId, reply: &Reply) -> RefundError {
    let (why, error) = match meaning {
        RefundReply::Refused(why) => (why, RefundError::Refused(why.into())),
        RefundReply::Fault { why, retry_after } => (why, fault(why, retry_after).into()),
        RefundReply::Unknown(why) => (why, Unknown::new(why).into()),
        // Not an answer to what was asked.
        RefundReply::Refunded(_) | RefundReply::AlreadyRefunded => {
            let why = "Stripe's answer is not a list of refunds";
            (why, Unknown::new(why).into())
        }
    };
    log(id, reply, why);
    error
}

fn lost_refund(error: CallError) -> RefundError {
    match error {
        CallError::NotSent => fault(error.as_str(), None).into(),
        CallError::Lost | CallError::TimedOut => Unknown::new(error.as_str()).into(),
    }
}

fn fault(why: &'static str, retry_after: Option<Duration>) -> Fault {
    match retry_after {
        Some(after) => Fault::new(why).with_retry_after(after),
        None => Fault::new(why),
    }
}

/// Writes down everything about a reply that may be written down.
fn log(id: ChallengeId, reply: &Reply, why: &str) {
    let (code, decline_code) = reply::codes(reply);
    let (status, request_id) = (reply.status.as_u16(), reply.request_id.as_deref().unwrap_or_default());
    tracing::warn!(target: "tower_mpp", challenge_id = %id, status, request_id, code, decline_code, "Stripe: {why}");
}

/// The same for a refusal of the payer's bank, which is nobody's fault.
fn log_declined(id: ChallengeId, reply: &Reply) {
    let (code, decline_code) = reply::codes(reply);
    let (status, request_id) = (reply.status.as_u16(), reply.request_id.as_deref().unwrap_or_default());
    tracing::info!(target: "tower_mpp", challenge_id = %id, status, request_id, code, decline_code, "Stripe declined");
}

/// The payload of a credential (Stripe charge draft, "Credential Schema").
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    /// Borrowed, so without escapes: a token has one spelling.
    spt: &'a str,
    #[serde(default)]
    external_id: Option<String>,
}

impl<'a> Payload<'a> {
    fn read(payment: &'a Payment) -> Result<Self, Declined> {
        let payload: Self = payment.payload()?;
        if payload.spt.len() > MAX_TOKEN || !is_id(payload.spt, "spt_") {
            return Err(Declined::invalid_proof("The spt must be the id of a Shared Payment Token: spt_..."));
        }
        let too_odd = |id: &String| id.len() > MAX_EXTERNAL_ID || id.contains(char::is_control);
        if payload.external_id.as_ref().is_some_and(too_odd) {
            return Err(Declined::invalid_proof(
                "The externalId must have at most 255 bytes and no control characters.",
            ));
        }
        Ok(payload)
    }
}
