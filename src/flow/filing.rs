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
    store::{ReceiptRow, StoreError, StoreErrorKind},
};

/// How long an answer, or the end of a stream, waits for a signature.
const SIGN_PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits for the ledger, which goes on without it.
const LEDGER_PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits for the receipt of an earlier request.
const PARENT_PATIENCE: Duration = Duration::from_millis(500);
/// How many receipts a payment can have before its next delivery has none: a ledger forgets nothing, and a client
/// that hangs up is delivered to again for the same money.
const OF_ONE_PAYMENT: usize = 20;
/// What a receipt is taken for beside what is encrypted in it, in bytes.
const ONE_RECEIPT: usize = 4096;

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
    /// The payment has so many receipts that there is no further one.
    pub(super) enough: bool,
}

/// What the ledger has of a payment.
enum Before {
    /// Nothing, as far as anybody can say.
    Nothing,
    Last(ReceiptId),
    Enough,
}

impl Filing {
    pub(super) fn new(receipts: &Receipts, settings: &Settings) -> Self {
        Self { receipts: receipts.clone(), step_timeout: settings.store_timeout }
    }

    /// Signs a receipt within the time that somebody waits for it.
    pub(super) async fn seal(self, mut body: ReceiptBody, provisional: bool, of: Option<ChallengeId>) -> Sealed {
        let before = match of {
            Some(payment) => within(PARENT_PATIENCE, self.before(payment)).await,
            None => None,
        };
        let parent = match before {
            Some(Before::Enough) => return Sealed { enough: true, ..Sealed::default() },
            Some(Before::Last(parent)) => Some(parent),
            Some(Before::Nothing) | None => None,
        };
        body.parent_receipt_id = parent.or(body.parent_receipt_id);
        let signed = match within(SIGN_PATIENCE, self.receipts.sign(body, provisional)).await {
            Some(signed) => signed.inspect_err(|error| events::receipt_failed("sign", error)).ok(),
            None => {
                events::receipt_failed("sign", &"the signer took too long");
                None
            }
        };
        Sealed { parent, signed, enough: false }
    }

    /// The last receipt of a payment that is settled and was not delivered.
    async fn before(&self, payment: ChallengeId) -> Before {
        let found = self.step(self.receipts.store().of_payment(payment, OF_ONE_PAYMENT)).await;
        let found = found.inspect_err(|error| events::receipt_failed("find", error)).unwrap_or_default();
        match found.last() {
            Some(_) if found.len() >= OF_ONE_PAYMENT => {
                events::receipts_enough(payment);
                Before::Enough
            }
            Some(last) => Before::Last(last.id),
            None => Before::Nothing,
        }
    }

    /// Whether a receipt is in the ledger. Where nobody can say, it is not.
    async fn is_known(&self, id: ReceiptId) -> bool {
        let known = self.step(self.receipts.store().get(id)).await;
        known.inspect_err(|error| events::receipt_failed("find", error)).is_ok_and(|row| row.is_some())
    }

    /// Adds a receipt to the ledger, in a task.
    pub(super) fn append_later(&self, tasks: &Tasks, row: ReceiptRow) {
        if let Some(append) = self.appending(tasks, row) {
            tasks.spawn_from_drop(append);
        }
    }

    /// The same, and waits for it for a moment.
    pub(super) async fn append_soon(&self, tasks: &Tasks, row: ReceiptRow) {
        let Some(append) = self.appending(tasks, row) else { return };
        if tokio::runtime::Handle::try_current().is_err() {
            return append.await;
        }
        // Late or panicked: the answer does not depend on it.
        let _ = within(LEDGER_PATIENCE, tasks.spawn(append)).await;
    }

    /// Adds a receipt to the ledger, if there is room for one more on its way.
    fn appending(&self, tasks: &Tasks, row: ReceiptRow) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Some(room) = tasks.room(weight_of_row(&row)) else {
            events::receipt_lost(row.id);
            return None;
        };
        let filing = self.clone();
        Some(async move {
            let _room = room;
            filing.append_or_lose(row).await;
        })
    }

    /// Signs a receipt and adds it to the ledger, in a task, for as long as it makes sense to try.
    pub(super) fn issue_later(&self, tasks: &Tasks, mut body: ReceiptBody, of: Option<ChallengeId>) {
        let filing = self.clone();
        let Some(room) = tasks.room(weight_of_body(&body)) else {
            return body.receipt_id.into_iter().for_each(events::receipt_lost);
        };
        tasks.spawn_from_drop(async move {
            let _room = room;
            if let Some(payment) = of {
                match filing.before(payment).await {
                    Before::Enough => return,
                    Before::Last(parent) => body.parent_receipt_id = Some(parent),
                    Before::Nothing => {}
                }
            }
            // What nobody was charged for has the same id each time, and is said once.
            if let (None, Some(id)) = (&body.payment, body.receipt_id)
                && filing.is_known(id).await
            {
                return;
            }
            // Only the row is needed from here on, for as long as the ledger is away.
            let Some(row) = filing.sign(body).await.map(|signed| signed.row().clone()) else { return };
            filing.append_or_lose(row).await;
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
                _ => {
                    body.receipt_id.into_iter().for_each(events::receipt_lost);
                    return None;
                }
            }
        }
    }

    async fn append_or_lose(&self, row: ReceiptRow) {
        let id = row.id;
        let failed = |error: &StoreError| {
            if !is_said(error) {
                events::receipt_failed("append", error);
            }
        };
        let appended = repeat::insist(repeat::LONG, failed, || self.step(self.receipts.store().append(row.clone())));
        if appended.await.is_err_and(|error| !is_said(&error)) {
            events::receipt_lost(id);
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
        let Some(row) = self.sign(body).await.map(|signed| signed.row().clone()) else { return };
        self.append_or_lose(row).await;
    }
}

/// The ledger has another receipt with this id. Ids are random, but for those of what is said once: somebody else has
/// given the same money back, or not charged it, at the same time, and said so.
fn is_said(error: &StoreError) -> bool {
    error.kind() == StoreErrorKind::Conflict
}

/// How many bytes wait for the ledger.
fn weight_of_row(row: &ReceiptRow) -> usize {
    row.full.len() + row.public.as_ref().map_or(0, |public| public.len())
}

/// About how many bytes wait for the signer.
fn weight_of_body(body: &ReceiptBody) -> usize {
    let blobs = [&body.encrypted_request_blob, &body.encrypted_response_blob];
    blobs.into_iter().flatten().map(String::len).sum::<usize>() + ONE_RECEIPT
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
    let Some(room) = merchant.tasks.room(ONE_RECEIPT) else {
        return events::receipt_lost(ReceiptId::of_refund(owed.lease.id));
    };
    let filing = Filing::new(receipts, &merchant.settings);
    let refund = Refund { payment, first: owed.receipt, seen_by: owed.seen_by };
    let task = merchant.tasks.spawn(async move {
        let _room = room;
        filing.refunded(refund).await;
    });
    let _ = within(LEDGER_PATIENCE, task).await;
}
