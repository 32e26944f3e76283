//! What the merchant asks for, told without a request: for discovery.

use super::Merchant;
use crate::{
    pricing::Prices,
    protocol::{Amount, Currency, Intent, MethodId},
};

/// One way to pay a price, as the challenges of this merchant will ask for it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OfferTerms {
    /// The payment method.
    pub method: MethodId,
    /// The intent.
    pub intent: Intent,
    /// In minor units of `currency`; `None` when it depends on the request.
    pub amount: Option<Amount>,
    /// What the rail is paid in.
    pub currency: Currency,
    /// Digits after the dot, where they are known.
    pub decimals: Option<u8>,
    /// Who receives it, in the rail's own form.
    pub recipient: Option<String>,
    /// The rail's own `methodDetails`.
    pub method_details: serde_json::Map<String, serde_json::Value>,
}

impl Merchant {
    /// What a price is asked for with: one entry for each challenge of a 402, in their order. Empty when no rail
    /// can take it.
    pub fn offers(&self, prices: impl Into<Prices>) -> Vec<OfferTerms> {
        let prices = prices.into();
        let mut offers = Vec::new();
        for method in &self.0.methods {
            for price in prices.of(method.method()) {
                let Some(offer) = method.offer(price) else { continue };
                let same = offer.currency == *price.currency();
                let decimals = if same { Some(price.decimals()) } else { offer.currency.iso_decimals() };
                offers.push(OfferTerms {
                    method: method.method().clone(),
                    intent: method.intent().clone(),
                    amount: Some(offer.amount),
                    decimals,
                    currency: offer.currency,
                    recipient: offer.recipient,
                    method_details: offer.method_details,
                });
            }
        }
        offers
    }
    /// The method and intent of each rail, in order of preference.
    pub(crate) fn rails(&self) -> impl Iterator<Item = (&MethodId, &Intent)> {
        self.0.methods.iter().map(|rail| (rail.method(), rail.intent()))
    }
}
