//! How receipts get signed and into the ledger. Nothing here moves money or holds it up: when it fails, there is an
//! answer without a signed receipt, or a receipt that comes later.

use std::{future::Future, time::Duration};

use super::{
    Inner, Settings, events,
    refund::Owed,
    repeat,
    tasks::{Tasks, within},
};
use crate::{
    protocol::{ChallengeId, ReceiptId, Visibility},
    receipt::{IssueError, PaidWith, ReceiptBody, ReceiptType, Receipts, SignedReceipt},
    store::{StoreError, StoreErrorKind},
};

/// How long an answer, or the end of a stream, waits for a signature.
const SIGN_PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits for the ledger, which goes on without it.
const LEDGER_PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits for the receipt of an earlier request.
const PARENT_PATIENCE: Duration = Duration::from_millis(500);
/// How many receipts of one payment are looked through.
const OF_ONE_PAYMENT: usize = 100;

/// Signs, and adds to the ledger. Cheap to clone.
#[derive(Clone)]
pub(super) struct Filing {
    pub(super) receipts: Receipts,
    step_timeout: Duration,
}

/// What came of signing.
#[derive(Default)]
pub(crate) struct Sealed {
    /// The receipt of an earlier request for the same payment.
    pub(super) parent: Option<ReceiptId>,
    pub(super) signed: Option<SignedReceipt>,
}

impl Filing {
    pub(super) fn new(receipts: &Receipts, settings: &Settings) -> Self {
        Self { receipts: receipts.clone(), step_timeout: settings.store_timeout }
    }

    /// Signs a receipt within the time that somebody waits for it.
    pub(super) async fn seal(self, mut body: ReceiptBody, provisional: bool, of: Option<ChallengeId>) -> Sealed {
        let parent = match of {
            Some(payment) => within(PARENT_PATIENCE, self.last_of(payment)).await.flatten(),
            None => None,
        };
        body.parent_receipt_id = parent.or(body.parent_receipt_id);
        let signed = match within(SIGN_PATIENCE, self.receipts.sign(body, provisional)).await {
            Some(signed) => signed.inspect_err(|error| events::receipt_failed("sign", error)).ok(),
            None => {
                events::receipt_failed("sign", &"the signer took too long");
                None
            }
        };
        Sealed { parent, signed }
    }

    /// The last receipt of a payment that is settled and was not delivered.
    async fn last_of(&self, payment: ChallengeId) -> Option<ReceiptId> {
        let found = self.step(self.receipts.store().of_payment(payment, OF_ONE_PAYMENT)).await;
        let found = found.inspect_err(|error| events::receipt_failed("find", error)).ok()?;
        found.last().map(|row| row.id)
    }

    /// Adds a receipt to the ledger, in a task.
    pub(super) fn append_later(&self, tasks: &Tasks, signed: SignedReceipt) {
        let filing = self.clone();
        tasks.spawn_from_drop(async move { filing.append_or_lose(&signed).await });
    }

    /// The same, and waits for it for a moment.
    pub(super) async fn append_soon(&self, tasks: &Tasks, signed: SignedReceipt) {
        let filing = self.clone();
        if tokio::runtime::Handle::try_current().is_err() {
            return filing.append_or_lose(&signed).await;
        }
        let task = tasks.spawn(async move { filing.append_or_lose(&signed).await });
        // Late or panicked: the answer does not depend on it.
        let _ = within(LEDGER_PATIENCE, task).await;
    }

    /// Signs a receipt and adds it to the ledger, in a task, for as long as it makes sense to try.
    pub(super) fn issue_later(&self, tasks: &Tasks, mut body: ReceiptBody, of: Option<ChallengeId>) {
        let filing = self.clone();
        tasks.spawn_from_drop(async move {
            if let Some(payment) = of {
                body.parent_receipt_id = filing.last_of(payment).await.or(body.parent_receipt_id);
            }
            if let Some(signed) = filing.sign(body).await {
                filing.append_or_lose(&signed).await;
            }
        });
    }

    /// Signs, for as long as it makes sense to try.
    async fn sign(&self, body: ReceiptBody) -> Option<SignedReceipt> {
        let mut pauses = repeat::LONG.iter().copied().map(Duration::from_millis);
        loop {
            let error = match within(self.step_timeout, self.receipts.sign(body.clone(), false)).await {
                Some(Ok(signed)) => return Some(signed),
                Some(Err(error)) => error,
                None => IssueError::Store(StoreError::unavailable("the signer took too long")),
            };
            events::receipt_failed("sign", &error);
            match pauses.next() {
                Some(pause) if matches!(error, IssueError::Sign(_) | IssueError::Store(_)) => {
                    tokio::time::sleep(pause).await
                }
                _ => return None,
            }
        }
    }

    async fn append(&self, signed: &SignedReceipt) -> Result<(), StoreError> {
        let failed = |error: &StoreError| events::receipt_failed("append", error);
        repeat::insist(repeat::LONG, failed, || self.step(self.receipts.record(signed))).await
    }

    async fn append_or_lose(&self, signed: &SignedReceipt) {
        if self.append(signed).await.is_err() {
            events::receipt_lost(signed.id());
        }
    }

    /// One step of the ledger, within its time.
    async fn step<T>(&self, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        within(self.step_timeout, step)
            .await
            .unwrap_or_else(|| Err(StoreError::unavailable("the ledger of receipts did not answer in time")))
    }

    /// The receipt of a refund, once.
    async fn refunded(self, refund: Refund) {
        let Refund { payment, first, seen_by } = refund;
        let Some(challenge) = payment.challenge_id else { return };
        let id = ReceiptId::of_refund(challenge);
        let failed = |error: &StoreError| events::receipt_failed("find", error);
        let look = async || {
            let known = self.step(self.receipts.store().get(id)).await?;
            let receipts = self.step(self.receipts.store().of_payment(challenge, OF_ONE_PAYMENT)).await?;
            Ok((known.is_some(), receipts))
        };
        let Ok((known, receipts)) = repeat::insist(repeat::LONG, failed, look).await else {
            events::receipt_lost(id);
            return;
        };
        if known {
            return;
        }
        // It shows the payment: no more of it than every receipt of the call shows. Where none is known, nothing.
        let visibilities = receipts.iter().map(|row| row.visibility).chain(seen_by);
        let body = ReceiptBody {
            receipt_id: Some(id),
            parent_receipt_id: receipts.first().map(|row| row.id).or(first),
            receipt_type: Some(ReceiptType::Refund),
            status: Some("succeeded".to_owned()),
            settlement_protocol: Some("mpp".to_owned()),
            visibility: visibilities.reduce(|one, other| self.receipts.narrower(one, other)).unwrap_or_default(),
            payment: Some(payment),
            ..ReceiptBody::default()
        };
        let Some(signed) = self.sign(body).await else { return };
        // Somebody else has given the same money back at the same time, and said so.
        let said = |error: StoreError| error.kind() == StoreErrorKind::Conflict;
        if self.append(&signed).await.is_err_and(|error| !said(error)) {
            events::receipt_lost(id);
        }
    }
}

/// Money that was given back.
struct Refund {
    payment: PaidWith,
    /// The receipt of the payment, should it not be in the ledger yet.
    first: Option<ReceiptId>,
    /// Who may see that one, where it is known.
    seen_by: Option<Visibility>,
}

/// The rail has given money back: says so in the ledger, where there is one. Called before the journal ends the
/// payment, so that a process that dies in between leaves it to the next, and waits for a moment only.
pub(super) async fn refunded(merchant: &Inner, owed: &Owed<'_>, reference: &str) {
    let Some(receipts) = &merchant.receipts else { return };
    let payment = PaidWith {
        method: owed.method.clone(),
        intent: owed.intent.clone(),
        amount: owed.amount,
        currency: owed.currency.clone(),
        reference: Some(reference.to_owned()),
        challenge_id: Some(owed.lease.id),
    };
    let filing = Filing::new(receipts, &merchant.settings);
    let task = merchant.tasks.spawn(filing.refunded(Refund { payment, first: owed.receipt, seen_by: owed.seen_by }));
    let _ = within(LEDGER_PATIENCE, task).await;
}
