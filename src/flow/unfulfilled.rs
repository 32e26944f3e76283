//! Payments that have not ended, as their merchant sees them.

use serde::{Deserialize, Serialize};

use super::{Inner, Merchant, gate::store_step};
use crate::{
    protocol::{Amount, ChallengeId, Currency, Intent, MethodId, Payer, Settlement, Timestamp},
    store::{EntryState, JournalEntry, Page, RefundReason, StoreError},
};

/// What the claim of a payment wrote into the journal. Nothing secret.
#[derive(Deserialize)]
pub(super) struct Record {
    pub(super) method: MethodId,
    pub(super) intent: Intent,
    pub(super) amount: Amount,
    pub(super) currency: Currency,
    pub(super) scope: String,
    pub(super) expires: Timestamp,
}

impl Record {
    /// `None` when this library did not write it.
    pub(super) fn of(entry: &JournalEntry) -> Option<Self> {
        serde_json::from_slice(&entry.record).ok()
    }
}

/// How far a payment came that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UnfulfilledState {
    /// Nobody knows whether money moved.
    OutcomeUnknown,
    /// The money has moved and nothing was delivered.
    Paid,
    /// The money is on its way back.
    Refunding,
}

/// A payment that was begun and has neither been delivered nor given back, and that nobody is at work on.
///
/// It serializes into the JSON of the gateway's listing: instants are RFC 3339, amounts strings of minor units.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Unfulfilled {
    /// The challenge: what [`Merchant::refund`] takes.
    pub challenge_id: ChallengeId,
    /// How far it came.
    pub state: UnfulfilledState,
    /// The payment method.
    pub method: MethodId,
    /// The intent.
    pub intent: Intent,
    /// What was asked for, in minor units of `currency`.
    pub amount: Amount,
    /// The currency or asset.
    pub currency: Currency,
    /// The HTTP method and path that were paid for, with what the merchant adds.
    pub scope: String,
    /// When the challenge expires.
    pub expires: Timestamp,
    /// Until when the payer can still come for it with the same credential.
    pub redeemable_until: Timestamp,
    /// The rail's reference, once the money has moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// When the money moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
    /// Who paid, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<Payer>,
    /// Why the money is given back, when it is.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "reason_name")]
    pub refund_reason: Option<RefundReason>,
    /// Whether a rule may give the money back unasked.
    pub refundable: bool,
    /// How often somebody has tried in vain to bring it to an end.
    pub attempts: u32,
    /// Before this instant nobody tries again unless it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
}

fn reason_name<S: serde::Serializer>(reason: &Option<RefundReason>, serializer: S) -> Result<S::Ok, S::Error> {
    reason.map(RefundReason::as_str).serialize(serializer)
}

impl Unfulfilled {
    fn of(merchant: &Inner, entry: JournalEntry) -> Option<Self> {
        let Some(Record { method, intent, amount, currency, scope, expires }) = Record::of(&entry) else {
            super::events::record_unreadable(entry.id);
            return None;
        };
        let (state, settlement, refund_reason, refundable) = match entry.state {
            EntryState::Held => (UnfulfilledState::OutcomeUnknown, None, None, false),
            EntryState::Settled { settlement, refundable } => {
                (UnfulfilledState::Paid, Some(settlement), None, refundable)
            }
            EntryState::Refunding { settlement, reason } => {
                (UnfulfilledState::Refunding, Some(settlement), Some(reason), true)
            }
            EntryState::Spent { .. } => return None,
        };
        let (reference, settled_at, payer) = match settlement {
            Some(Settlement { reference, settled_at, payer, .. }) => (Some(reference), Some(settled_at), payer),
            None => (None, None, None),
        };
        Some(Self {
            challenge_id: entry.id,
            state,
            method,
            intent,
            amount,
            currency,
            scope,
            expires,
            redeemable_until: merchant.redeemable_until(expires),
            reference,
            settled_at,
            payer,
            refund_reason,
            refundable,
            attempts: entry.attempts,
            next_attempt: entry.put_off,
        })
    }
}

impl Merchant {
    /// Lists payments that have neither been delivered nor given back and that nobody is at work on, in
    /// order of the challenge id: at most `limit`, and only those behind `after`. Those that a payer may
    /// still come for are among them, see [`Unfulfilled::redeemable_until`].
    ///
    /// The whole list is there once a page is empty:
    ///
    /// ```
    /// # use tower_mpp::{Merchant, store::StoreError};
    /// # async fn all(merchant: &Merchant) -> Result<(), StoreError> {
    /// let mut after = None;
    /// loop {
    ///     let page = merchant.unfulfilled(after, 100).await?;
    ///     let Some(last) = page.last() else { break };
    ///     after = Some(last.challenge_id);
    ///     for payment in page {
    ///         println!("{}: {} {}", payment.challenge_id, payment.amount, payment.currency);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] when the journal cannot be read.
    pub async fn unfulfilled(&self, after: Option<ChallengeId>, limit: usize) -> Result<Vec<Unfulfilled>, StoreError> {
        let merchant = &*self.0;
        let mut after = after;
        loop {
            let page = Page { now: merchant.now(), after, limit, due: false };
            let entries = store_step(merchant, merchant.store.unfinished(page)).await?;
            after = entries.last().map(|entry| entry.id);
            let listed: Vec<_> = entries.into_iter().filter_map(|entry| Unfulfilled::of(merchant, entry)).collect();
            // An entry that cannot be read must not look like the end of the list.
            if !listed.is_empty() || after.is_none() {
                return Ok(listed);
            }
        }
    }
}
