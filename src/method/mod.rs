//! Payment methods: the rails that money moves on.
//!
//! [`PaymentMethod`] is implemented once per method and intent. [`Sandbox`] is an embedded rail for
//! tests and demos; [`Stripe`](stripe::Stripe) (feature `stripe`) takes Shared Payment Tokens.

mod authorization;
mod outcome;
mod payment;
mod sandbox;
#[cfg(feature = "stripe")]
pub mod stripe;
#[cfg(test)]
pub(crate) mod testing;

use async_trait::async_trait;

pub use self::{
    authorization::{Authorization, Authorized},
    outcome::{DeclineReason, Declined, Fault, RefundError, Refunded, Resolution, SettleError, Unknown, VerifyError},
    payment::{Attempt, Checked, LostPayment, OfferRequest, Payment, PaymentContext, RefundRequest},
    sandbox::{Sandbox, SandboxKey},
};
use crate::protocol::{Intent, MethodId, Price};
pub use crate::protocol::{Payer, Settlement};

/// A rail: how one payment method asks for money, checks a proof, takes the money and gives it back.
///
/// # Contract
///
/// * Nothing here decides about single use, expiry, route or price: a [`Payment`] has passed all of
///   those checks and was bound to one of the merchant's own offers before it arrives. Amount and
///   currency are read from [`Payment::offer`], never from the credential.
/// * [`settle`](Self::settle) is idempotent per challenge: called again for the same payment after an
///   unknown outcome ([`Attempt::Resumed`]) it must not move money twice.
/// * [`SettleError::Declined`] means it is *certain* that no money moved and none will. A timeout, a
///   lost or unreadable reply or a 5xx of the rail is [`SettleError::Unknown`]. A wrong key or another
///   mistake of the merchant is [`SettleError::Fault`], and also certain not to have moved money.
/// * No text in a [`Declined`] comes from the rail verbatim: the payer reads it.
/// * Futures are run to their end even when the client hangs up; every wait in them has a timeout.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a payment method",
    label = "this must implement `PaymentMethod`",
    note = "`examples/custom_method` shows how to write one"
)]
pub trait PaymentMethod: Send + Sync + 'static {
    /// The method identifier, for instance `stripe`.
    fn method(&self) -> &MethodId;

    /// The intent, for instance `charge`.
    fn intent(&self) -> &Intent;

    /// Whether no real money moves on this rail. Such a method is refused unless the merchant is in
    /// test mode.
    fn is_test(&self) -> bool {
        false
    }

    /// What to ask for in a challenge when something costs `price`, or `None` when this rail makes no
    /// such offer (another currency, below its minimum).
    fn offer(&self, price: &Price) -> Option<OfferRequest>;

    /// The payload of a credential that brings nothing but a token of this rail: a Shared Payment Token. Asked for
    /// where a route takes [token credentials](crate::PaymentLayer::accept_token_credentials); the payload then goes
    /// through [`check`](Self::check) as any other. The same token gives the same payload.
    ///
    /// `None` from a rail on which a token by itself is no proof, which is what a method says that does not implement
    /// this.
    fn token_payload(&self, token: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
        let _ = token;
        None
    }

    /// Checks what can be checked without waiting: the form of the payload, signatures, limits. Names
    /// the proof and the payer.
    ///
    /// # Errors
    /// [`Declined`] when the payload cannot pay the offer.
    fn check(&self, payment: &Payment) -> Result<Checked, Declined>;

    /// Checks what needs the rail, before any money moves. Called with the claim held, and again when
    /// a payment is resumed: it must not decline because of what an earlier attempt of the same
    /// payment did.
    ///
    /// # Errors
    /// [`VerifyError`]; it is certain that no money has moved, in earlier attempts either.
    async fn verify(&self, payment: &Payment, attempt: Attempt) -> Result<(), VerifyError>;

    /// Takes the money.
    ///
    /// # Errors
    /// [`SettleError`], see the contract above.
    async fn settle(&self, payment: &Payment, attempt: Attempt) -> Result<Settlement, SettleError>;

    /// Whether this rail can take the money after the handler has answered
    /// ([`SettleTiming::AfterHandler`](crate::SettleTiming)). `false` unless a method says otherwise: a proof
    /// that may become worthless while the handler works would buy it for nothing.
    fn can_settle_after(&self) -> bool {
        false
    }

    /// Makes as sure as it can that the money can be taken later, without taking it. Called instead of
    /// [`settle`](Self::settle) where the route settles after the handler; the payment has been
    /// [verified](Self::verify). What it returns is given to [`capture`](Self::capture) once the handler has
    /// succeeded, and to [`cancel`](Self::cancel) otherwise.
    ///
    /// [`Attempt::Resumed`]: an earlier attempt may have come to any point, also behind a capture. What that
    /// one has authorised must be found again, and where it has taken the money the answer is
    /// [`Authorized::Settled`].
    ///
    /// A method that does not implement this has nothing to prepare. It cannot tell how far an earlier
    /// attempt came, so resumed it settles at once.
    ///
    /// # Errors
    /// [`SettleError`], see the contract above. Declined and at fault it leaves no authorisation behind.
    async fn authorize(&self, payment: &Payment, attempt: Attempt) -> Result<Authorized, SettleError> {
        match attempt {
            Attempt::First => Ok(Authorized::Pending(Authorization::none())),
            Attempt::Resumed => self.settle(payment, attempt).await.map(Authorized::Settled),
        }
    }

    /// Takes the money that was authorised. Idempotent like [`settle`](Self::settle), which is what a method
    /// calls here that does not implement it.
    ///
    /// # Errors
    /// [`SettleError`], see the contract above. Declined it leaves no authorisation behind; after a
    /// [`Fault`] it is cancelled by the caller.
    async fn capture(
        &self,
        payment: &Payment,
        authorization: &Authorization,
        attempt: Attempt,
    ) -> Result<Settlement, SettleError> {
        let _ = authorization;
        self.settle(payment, attempt).await
    }

    /// Gives an authorisation up that was not captured. Afterwards it is certain that no money has moved for
    /// this payment and none will. The same credential may then be authorised again. May be called twice.
    ///
    /// # Errors
    /// [`Unknown`] when that is not certain; the payment then stays open until it is resumed or
    /// [resolved](Self::resolve).
    async fn cancel(&self, payment: &Payment, authorization: &Authorization) -> Result<(), Unknown> {
        let _ = (payment, authorization);
        Ok(())
    }

    /// Finds out, without the payer's credential, what became of a payment whose outcome is unknown: by
    /// the merchant's own references at the rail. A payment that can still be completed without anybody
    /// being charged for it is ended ([`Resolution::NotCharged`]), one that is only authorised too, as soon as its
    /// challenge has expired.
    ///
    /// # Errors
    /// [`Unknown`] when the rail does not know yet, cannot be reached, or cannot look payments up, which is
    /// what a method says that does not implement this. The payment then stays listed.
    async fn resolve(&self, lost: LostPayment<'_>) -> Result<Resolution, Unknown> {
        let _ = lost;
        Err(Unknown::new("this payment method cannot look payments up"))
    }

    /// Gives the money back. Idempotent per challenge id.
    ///
    /// # Errors
    /// [`RefundError`].
    async fn refund(&self, refund: RefundRequest<'_>) -> Result<Refunded, RefundError>;
}
