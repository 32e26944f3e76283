//! What the merchant asks for, told without a request: for discovery.

use super::{Inner, Merchant};
use crate::{
    pricing::{Prices, Pricing},
    protocol::{Amount, Currency, Intent, MethodId, Price},
    refund::RefundPolicy,
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
        terms(&self.0, &prices.into())
    }

    /// What a price is asked for with that depends on the request: one entry for each rail and currency, without an
    /// amount. Which rails can take it is told by `samples`, prices that may be asked for.
    pub fn dynamic_offers(&self, samples: impl IntoIterator<Item = Price>) -> Vec<OfferTerms> {
        let mut offers = merged(samples.into_iter().map(|price| terms(&self.0, &price.into())));
        offers.iter_mut().for_each(|offer| offer.amount = None);
        offers
    }

    /// When money that was paid for nothing is given back unasked.
    pub fn refund_policy(&self) -> RefundPolicy {
        self.0.settings.refunds
    }

    /// Where signed receipts say that they are, when there are any.
    pub fn ledger_url(&self) -> Option<&str> {
        self.0.receipts.as_ref().map(|receipts| receipts.base_url())
    }

    /// Whether a paid answer is kept for whoever sends the same `Idempotency-Key` again.
    pub fn keeps_answers(&self) -> bool {
        self.0.answers.is_some()
    }

    /// How this merchant can be paid, in its order of preference, whatever the price: method and intent.
    pub fn rails(&self) -> impl Iterator<Item = (&MethodId, &Intent)> {
        self.0.methods.iter().map(|rail| (rail.method(), rail.intent()))
    }
}

/// What a route asks for.
pub(crate) fn offers_of(merchant: &Inner, pricing: &dyn Pricing) -> Vec<OfferTerms> {
    match pricing.fixed() {
        Some(prices) => terms(merchant, prices),
        None => merged(pricing.known().iter().map(|prices| terms(merchant, prices))),
    }
}

fn terms(merchant: &Inner, prices: &Prices) -> Vec<OfferTerms> {
    let mut offers = Vec::new();
    for method in &merchant.methods {
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

/// One entry for what is the same in every respect but the amount, which is left out where there are several.
fn merged(all: impl Iterator<Item = Vec<OfferTerms>>) -> Vec<OfferTerms> {
    let mut merged: Vec<OfferTerms> = Vec::new();
    for offer in all.flatten() {
        let same = |known: &&mut OfferTerms| OfferTerms { amount: known.amount, ..offer.clone() } == **known;
        match merged.iter_mut().find(same) {
            Some(known) if known.amount != offer.amount => known.amount = None,
            Some(_) => {}
            None => merged.push(offer),
        }
    }
    merged
}
