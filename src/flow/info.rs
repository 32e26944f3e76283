//! What a handler can know about the payment of its request.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use crate::{
    method::{Payer, Settlement},
    protocol::{Amount, ChallengeId, Currency, Intent, MethodId, Receipt, ReceiptId, Timestamp, Visibility},
};

/// The payment behind a request: who paid what. It stands in the extensions of the request for the
/// handler, and in those of the answer for outer layers. With the feature `axum` it is an extractor.
///
/// Cheap to clone. It holds no secret.
#[derive(Clone)]
pub struct PaymentInfo(Arc<Details>);

struct Details {
    challenge_id: ChallengeId,
    method: MethodId,
    intent: Intent,
    amount: Amount,
    currency: Currency,
    settlement: Settlement,
    redelivery: bool,
    test_mode: bool,
    receipt_id: OnceLock<ReceiptId>,
    /// Who may see the receipt of a call that failed.
    seen_by: OnceLock<Visibility>,
}

impl PaymentInfo {
    #[allow(clippy::too_many_arguments, reason = "one caller, which has just these at hand")]
    pub(crate) fn new(
        challenge_id: ChallengeId,
        method: MethodId,
        intent: Intent,
        amount: Amount,
        currency: Currency,
        settlement: Settlement,
        redelivery: bool,
        test_mode: bool,
    ) -> Self {
        let receipt_id = OnceLock::new();
        Self(Arc::new(Details {
            challenge_id,
            method,
            intent,
            amount,
            currency,
            settlement,
            redelivery,
            test_mode,
            receipt_id,
            seen_by: OnceLock::new(),
        }))
    }

    /// The challenge that was paid. Unique per payment: use it to correlate.
    pub fn challenge_id(&self) -> ChallengeId {
        self.0.challenge_id
    }

    /// The payment method, for instance `stripe`.
    pub fn method(&self) -> &MethodId {
        &self.0.method
    }

    /// The intent, for instance `charge`.
    pub fn intent(&self) -> &Intent {
        &self.0.intent
    }

    /// What was paid, in minor units of [`currency`](Self::currency).
    pub fn amount(&self) -> Amount {
        self.0.amount
    }

    /// The currency or asset that was paid.
    pub fn currency(&self) -> &Currency {
        &self.0.currency
    }

    /// The rail's reference: a PaymentIntent id, a transaction hash.
    pub fn reference(&self) -> &str {
        &self.0.settlement.reference
    }

    /// Who paid, if the credential says so. [`Payer::verified`] tells whether the rail proved it.
    pub fn payer(&self) -> Option<&Payer> {
        self.0.settlement.payer.as_ref()
    }

    /// When the money moved.
    pub fn settled_at(&self) -> Timestamp {
        self.0.settlement.settled_at
    }

    /// Whether this was settled by an earlier request that was not delivered.
    pub fn is_redelivery(&self) -> bool {
        self.0.redelivery
    }

    /// Whether no real money moved.
    pub fn is_test(&self) -> bool {
        self.0.test_mode
    }

    /// The id that the signed receipt of this request will have, where the merchant signs receipts. It can be fetched
    /// once the answer has ended.
    pub fn receipt_id(&self) -> Option<ReceiptId> {
        self.0.receipt_id.get().copied()
    }

    pub(super) fn name_receipt(&self, id: ReceiptId) {
        // The first name stays.
        let _ = self.0.receipt_id.set(id);
    }

    /// The call has failed, and so much of its receipt may be seen: of that of a refund, no more.
    pub(super) fn failed_seen_by(&self, visibility: Visibility) {
        let _ = self.0.seen_by.set(visibility);
    }

    pub(super) fn seen_by(&self) -> Option<Visibility> {
        self.0.seen_by.get().copied()
    }

    /// The payment receipt of the core draft, as it stands in `Payment-Receipt` of the delivered answer, without the
    /// members that name a signed receipt. A stream that tells
    /// its client at the end what was paid can send it again as an event.
    pub fn receipt(&self) -> Receipt {
        let Settlement { reference, settled_at, receipt: extra, .. } = &self.0.settlement;
        let mut receipt = Receipt::new(self.0.method.clone(), *settled_at, reference.as_str());
        receipt.challenge_id = Some(self.0.challenge_id.to_string());
        receipt.extra.clone_from(extra);
        receipt
    }

    pub(crate) fn settlement(&self) -> &Settlement {
        &self.0.settlement
    }
}

impl fmt::Debug for PaymentInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentInfo")
            .field("challenge_id", &self.0.challenge_id)
            .field("method", &self.0.method)
            .field("amount", &self.0.amount)
            .field("currency", &self.0.currency)
            .field("reference", &self.0.settlement.reference)
            .finish_non_exhaustive()
    }
}
