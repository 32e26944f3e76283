//! A rail that makes the offers it is told to make, and never takes any money.

use async_trait::async_trait;
use tower_mpp::{
    Price,
    method::{
        Attempt, Checked, Declined, OfferRequest, Payment, PaymentMethod, RefundError, RefundRequest, Refunded,
        SettleError, Settlement, VerifyError,
    },
    protocol::{Amount, Currency, Intent, MethodId},
};

#[derive(Clone)]
pub(crate) struct Rail {
    method: MethodId,
    intent: Intent,
    recipient: Option<&'static str>,
    least: u128,
    token: Option<(&'static str, u32)>,
}

impl Rail {
    pub(crate) fn new(method: &'static str, intent: &'static str) -> Self {
        let intent = Intent::new(intent).unwrap();
        Self { method: MethodId::new(method).unwrap(), intent, recipient: None, least: 1, token: None }
    }

    pub(crate) fn recipient(self, recipient: &'static str) -> Self {
        Self { recipient: Some(recipient), ..self }
    }

    /// Takes nothing below this, in minor units of the price.
    pub(crate) fn least(self, least: u128) -> Self {
        Self { least, ..self }
    }

    /// Is paid in a token with six digits after the dot.
    pub(crate) fn token(self, address: &'static str) -> Self {
        Self { token: Some((address, 10_000)), ..self }
    }
}

#[async_trait]
impl PaymentMethod for Rail {
    fn method(&self) -> &MethodId {
        &self.method
    }

    fn intent(&self) -> &Intent {
        &self.intent
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        let units = price.amount().minor_units();
        if units < self.least {
            return None;
        }
        let offer = match self.token {
            None => OfferRequest::of(price),
            Some((address, times)) => {
                OfferRequest::new(Amount::new(units * u128::from(times)), Currency::new(address).unwrap())
            }
        };
        Some(match self.recipient {
            Some(recipient) => offer.recipient(recipient),
            None => offer,
        })
    }

    fn check(&self, _: &Payment) -> Result<Checked, Declined> {
        Err(Declined::invalid_proof("Nothing is paid here."))
    }

    async fn verify(&self, _: &Payment, _: Attempt) -> Result<(), VerifyError> {
        unreachable!("no proof is good")
    }

    async fn settle(&self, _: &Payment, _: Attempt) -> Result<Settlement, SettleError> {
        unreachable!("no proof is good")
    }

    async fn refund(&self, _: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        Err(RefundError::Refused("nothing was paid".into()))
    }
}
