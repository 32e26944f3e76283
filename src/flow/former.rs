//! Terms of yesterday: credentials for challenges of ours that ask for what is not asked for any more, because the
//! price has changed since, or because there is none any more. Whoever has paid one must not be asked to pay again,
//! and nobody is charged for one.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Inner, Offers, PaymentOutcome, Refusal, RefusalKind, ReplayAnswer,
    answers::{Half, key_half, reused},
    bind::{Requested, issued_for_another_request, may_be_for, verifies},
    gate::find,
    token,
    unfulfilled::Record,
};
use crate::{
    method::{OfferRequest, PaymentMethod},
    protocol::{Amount, ChallengeId, Currency, EchoedChallenge, PaymentCredential},
    store::{End, EntryState, JournalEntry},
};

/// What is to be done with a payment whose challenge asked for former terms. It is never settled: only what has moved
/// before is redeemed.
pub(super) struct Former {
    /// The answer where no money has moved.
    pub(super) otherwise: Refusal,
    /// Whether what was paid may be delivered for this request.
    pub(super) redeemable: bool,
}

/// A challenge of ours, as far as it is paid by a rail that is still there.
pub(super) struct Recognised {
    pub(super) method: Arc<dyn PaymentMethod>,
    pub(super) offer: OfferRequest,
    /// Whether it may be delivered for this request, if it was paid.
    pub(super) redeemable: bool,
}

/// Recognises a challenge that this merchant has issued for just this request, on whatever terms. Costs no HMAC unless
/// everything that is not a secret fits.
pub(super) fn recognise(
    merchant: &Inner,
    offers: &Offers,
    requested: &Requested<'_>,
    id: &ChallengeId,
    echoed: &EchoedChallenge<'_>,
) -> Option<Recognised> {
    let is_its_method = |method: &&Arc<dyn PaymentMethod>| {
        method.method().as_str() == echoed.method && method.intent().as_str() == echoed.intent
    };
    let method = merchant.methods.iter().find(is_its_method)?;
    if !may_be_for(merchant, requested, echoed) || !verifies(merchant, id, echoed) {
        return None;
    }
    // Certain from here on: these terms are our own.
    let terms = Asked::read(&echoed.request)?;
    let mut present = offers.list.iter().filter(|offer| offer.is_for(&echoed.method, &echoed.intent));
    let redeemable = requested.by_resource
        || present.any(|offer| Asked::read(&offer.request).is_some_and(|present| terms.covers(&present)));
    Some(Recognised { method: Arc::clone(method), offer: terms.into_offer(), redeemable })
}

/// The `request` of a challenge of ours.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    amount: Amount,
    currency: Currency,
    recipient: Option<String>,
    external_id: Option<String>,
    #[serde(default)]
    method_details: Map<String, Value>,
}

impl Asked {
    fn read(request: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(request).ok()?).ok()
    }

    /// Whether who has paid this has paid enough for the other.
    fn covers(&self, other: &Self) -> bool {
        self.amount >= other.amount
            && self.currency == other.currency
            && self.recipient == other.recipient
            && self.external_id == other.external_id
    }

    fn into_offer(self) -> OfferRequest {
        let mut offer = OfferRequest::new(self.amount, self.currency);
        offer.recipient = self.recipient;
        offer.method_details = self.method_details;
        offer
    }
}

/// What was paid for another price, where it is not certain that it was for this very request. To deliver it might be
/// to sell the dear thing for the price of the cheap one.
pub(super) fn other_terms() -> Refusal {
    let detail = "This challenge has been paid, on other terms than those of this request. Nothing more is charged. Repeat the request that it was issued for, with the same credential; the merchant has the payment listed.";
    Refusal::detailed(RefusalKind::OutcomeUnknown, detail).with_outcome(PaymentOutcome::Redeliverable)
}

/// A credential that could not be bound and whose challenge may be known all the same.
pub(crate) struct Unbound {
    id: ChallengeId,
    /// The hash of the `Idempotency-Key`.
    key: Option<Half>,
    /// Of a credential that brings nothing but an id, the scope of its request: the id alone does not say whether it
    /// is ours, and the journal may.
    scope: Option<String>,
}

impl Unbound {
    /// `None` where there is nothing to ask.
    pub(crate) fn new(
        merchant: &Inner,
        requested: &Requested<'_>,
        presented: &PaymentCredential<'_>,
        key: Option<&[u8]>,
    ) -> Option<Self> {
        let key = key.map(key_half);
        match presented {
            PaymentCredential::Params(credential) => {
                let id = token::plausible_id(merchant, credential)?;
                Some(Self { id, key, scope: Some(requested.scope.to_owned()) })
            }
            PaymentCredential::Token68(text) => {
                key?;
                Some(Self { id: issued_for_another_request(merchant, requested, text)?, key, scope: None })
            }
        }
    }

    /// Whether its money may have moved for this very request.
    pub(crate) fn may_be_paid(&self) -> bool {
        self.scope.is_some()
    }

    /// The refusal, or what is known.
    pub(crate) async fn refuse(self, merchant: Arc<Inner>, refusal: Refusal) -> Refusal {
        if let Some(key) = self.key
            && let Some(known) = reused(&merchant, self.id, key).await
        {
            return known;
        }
        let Some(scope) = &self.scope else { return refusal };
        match find(&merchant, self.id).await {
            Ok(Some(entry)) => known(&merchant, &entry, scope).map_or(refusal, |known| known.of(self.id)),
            Ok(None) => refusal,
            Err(unavailable) => unavailable,
        }
    }
}

/// What is said of an entry to who names it by its id. `None` where it is of another resource.
fn known(merchant: &Inner, entry: &JournalEntry, scope: &str) -> Option<Refusal> {
    let record = Record::of(entry).filter(|record| record.scope == scope)?;
    let used = |outcome: Option<PaymentOutcome>| {
        let refusal = Refusal::new(RefusalKind::AlreadyUsed);
        outcome.into_iter().fold(refusal, Refusal::with_outcome)
    };
    Some(match &entry.state {
        EntryState::Held => {
            let detail = "This challenge, whose terms have changed, is being paid, or the outcome is not known yet. Nothing more is charged for it; where it was paid, the merchant has it listed.";
            Refusal::detailed(RefusalKind::OutcomeUnknown, detail)
        }
        EntryState::Settled { .. } if merchant.now() < merchant.redeemable_until(record.expires) => other_terms(),
        EntryState::Settled { .. } => used(Some(PaymentOutcome::Unfulfilled)),
        EntryState::Refunding { .. } => used(Some(PaymentOutcome::RefundPending)),
        EntryState::Spent { end, .. } => {
            let outcome = (*end == End::Refunded).then_some(PaymentOutcome::Refunded);
            match merchant.settings.replay_answer {
                ReplayAnswer::Forbidden => used(outcome),
                ReplayAnswer::Challenge => used(outcome).with_challenge(),
            }
        }
    })
}
