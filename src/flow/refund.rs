//! Giving money back: journalled before the rail is asked, idempotent at the rail, and repeated until it is done.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use super::{
    Inner, Merchant, PaymentOutcome, answers, events, filing,
    gate::{keeping, store_step},
    repeat,
    tasks::within,
    unfulfilled::Record,
};
use crate::{
    method::{LostPayment, PaymentMethod, RefundError, RefundRequest, Resolution, Unknown},
    protocol::{Amount, ChallengeId, Currency, Intent, MethodId, ReceiptId, Settlement, Timestamp, Visibility},
    store::{End, EntryState, JournalEntry, Lease, RefundReason, Release, StoreError, StoreErrorKind, Take, Taken},
};

/// What became of a refund that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundStatus {
    /// The money was given back, now or before.
    Refunded,
    /// The journal says that it is to be given back, and the rail could not do it yet. The
    /// [`Sweeper`](crate::Sweeper) goes on, and so does another call.
    Pending,
}

/// Why a payment is not given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefundFailed {
    /// The journal does not know the payment (any more).
    #[error("there is no such payment in the journal")]
    NotFound,
    /// Somebody is at work on it: try again.
    #[error("the payment is at work: try again")]
    InProgress,
    /// No money moved.
    #[error("nothing was charged for this challenge")]
    NotCharged,
    /// Nobody knows yet whether money moved: try again.
    #[error("it is not known yet whether money moved: try again")]
    OutcomeUnknown,
    /// It was delivered, and the journal has forgotten what to give back.
    #[error("the payment was delivered, and the journal does not remember its settlement any more")]
    Forgotten,
    /// The rail gives nothing back for it. The reason stands in the log.
    #[error("the payment method refuses to give the money back")]
    Refused,
    /// The journal failed, or the store of answers did: it is not known how far it came. Try again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Money that is to be given back, by the holder of the lease.
pub(super) struct Owed<'a> {
    pub(super) lease: Lease,
    pub(super) method: &'a MethodId,
    pub(super) intent: &'a Intent,
    pub(super) amount: Amount,
    pub(super) currency: &'a Currency,
    pub(super) settlement: &'a Settlement,
    /// How often it was tried before.
    pub(super) attempts: u32,
    /// The signed receipt of the request that it is given back for.
    pub(super) receipt: Option<ReceiptId>,
    /// Who may see that one, where it is known.
    pub(super) seen_by: Option<Visibility>,
}

/// How it ended for now. The lease is given up, or over with the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenBack {
    Refunded,
    Pending,
    Refused,
}

/// Gives money back.
pub(super) async fn give_back(merchant: &Inner, owed: Owed<'_>, reason: RefundReason) -> Result<GivenBack, StoreError> {
    let Owed { lease, method: id, .. } = owed;
    insist(merchant, "refund", || merchant.store.refund(lease, reason)).await?;
    let Some(method) = merchant.method(id, owed.intent) else {
        events::refund_failed(id, lease.id, &"this method is not configured any more");
        put_off(merchant, lease, owed.attempts, None).await?;
        return Ok(GivenBack::Pending);
    };
    let request = RefundRequest {
        challenge_id: lease.id,
        settlement: owed.settlement,
        amount: owed.amount,
        currency: owed.currency,
    };
    let answer = keeping(merchant, lease, pin!(within(merchant.settings.rail_timeout, method.refund(request)))).await;
    let retry_after = match answer {
        Some(Ok(refunded)) => {
            events::refunded(id, lease.id, reason, &refunded.reference);
            keeping(merchant, lease, pin!(filing::refunded(merchant, &owed, &refunded.reference))).await;
            // If the journal does not hear of it, the rail is asked once more, and says the same.
            insist(merchant, "commit", || merchant.store.commit(lease, End::Refunded)).await?;
            return Ok(GivenBack::Refunded);
        }
        Some(Err(error @ (RefundError::Unsupported | RefundError::Refused(_)))) => {
            events::refund_failed(id, lease.id, &error);
            let_go(merchant, "release", || merchant.store.release(lease, Release::NotRefundable)).await?;
            return Ok(GivenBack::Refused);
        }
        Some(Err(error)) => {
            events::refund_failed(id, lease.id, &error);
            match error {
                RefundError::Unknown(unknown) => unknown.retry_after(),
                RefundError::Fault(fault) => fault.retry_after(),
                RefundError::Unsupported | RefundError::Refused(_) => None,
            }
        }
        None => {
            events::refund_failed(id, lease.id, &"the refund took too long");
            None
        }
    };
    put_off(merchant, lease, owed.attempts, retry_after).await?;
    Ok(GivenBack::Pending)
}

/// Asks the rail what became of a payment whose outcome is unknown.
pub(super) async fn resolve(
    merchant: &Inner,
    lease: Lease,
    method: &dyn PaymentMethod,
    record: &Record,
) -> Result<Resolution, Unknown> {
    let lost = LostPayment {
        challenge_id: lease.id,
        amount: record.amount,
        currency: &record.currency,
        expires: record.expires,
        now: merchant.now(),
    };
    let answer = keeping(merchant, lease, pin!(within(merchant.settings.rail_timeout, method.resolve(lost)))).await;
    match answer.unwrap_or_else(|| Err(Unknown::new("the rail did not say in time")))? {
        Resolution::Settled(mut settlement) => {
            // Milliseconds: there are clients that cannot read more.
            settlement.settled_at =
                Timestamp::from_unix_millis(settlement.settled_at.unix_millis()).unwrap_or(settlement.settled_at);
            Ok(Resolution::Settled(settlement))
        }
        Resolution::NotCharged => Ok(Resolution::NotCharged),
    }
}

/// Gives the lease up until it makes sense to try again: after 5 seconds, then three times as long each
/// time, up to an hour.
pub(super) async fn put_off(
    merchant: &Inner,
    lease: Lease,
    attempts: u32,
    retry_after: Option<Duration>,
) -> Result<(), StoreError> {
    const LONGEST: Duration = Duration::from_secs(60 * 60);
    let pause = Duration::from_secs(5).saturating_mul(3u32.saturating_pow(attempts.min(10))).min(LONGEST);
    let until = merchant.now().saturating_add(pause.max(retry_after.unwrap_or_default()));
    let_go(merchant, "put_off", || merchant.store.put_off(lease, until)).await
}

/// One step of the journal, three times before it is given up. Each of them can be repeated.
pub(super) async fn insist<F>(merchant: &Inner, name: &'static str, step: impl Fn() -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<(), StoreError>>,
{
    let failed = |error: &StoreError| events::journal_failed(name, error, None);
    repeat::insist(repeat::QUICK, failed, || store_step(merchant, step())).await
}

/// The same for a step that gives the lease up. Where it is lost there is nothing to give up any more: an
/// earlier try took effect, or somebody has taken over.
pub(super) async fn let_go<F>(merchant: &Inner, name: &'static str, step: impl Fn() -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<(), StoreError>>,
{
    match insist(merchant, name, step).await {
        Err(error) if error.kind() == StoreErrorKind::LeaseLost => Ok(()),
        result => result,
    }
}

impl Merchant {
    /// Gives the money of a payment back, whatever the rules say: one that was not delivered, or one that
    /// was and whose settlement the journal still knows.
    ///
    /// It is journalled before the rail is asked, and from then on the credential buys nothing. It may be
    /// called again, by several at once too: the money is given back once.
    ///
    /// A payment whose answer is kept was delivered, whether or not the journal has heard of it: what is kept
    /// can still be had with its `Idempotency-Key` once the journal has forgotten the refund. What was not kept
    /// before that is not kept afterwards.
    ///
    /// # Errors
    /// [`RefundFailed`].
    pub async fn refund(&self, id: ChallengeId) -> Result<RefundStatus, RefundFailed> {
        let merchant = Arc::clone(&self.0);
        // Whoever asks may hang up.
        let task = self.0.tasks.spawn(async move { refund_now(&merchant, id).await });
        task.await
            .unwrap_or_else(|_| Err(RefundFailed::Store(StoreError::unavailable("a rail or the journal panicked"))))
    }
}

async fn refund_now(merchant: &Inner, id: ChallengeId) -> Result<RefundStatus, RefundFailed> {
    loop {
        let now = merchant.now();
        let take = Take { id, now, lease_until: now.saturating_add(merchant.settings.lease), asked_for: true };
        let status = match store_step(merchant, merchant.store.take(take)).await? {
            Taken::Won { lease, entry } => refund_taken(merchant, lease, entry).await?,
            Taken::Busy => return Err(RefundFailed::InProgress),
            Taken::Absent => return Err(RefundFailed::NotFound),
            Taken::Spent(End::Refunded) => Some(RefundStatus::Refunded),
            Taken::Spent(End::Delivered) => return Err(RefundFailed::Forgotten),
        };
        if let Some(status) = status {
            return Ok(status);
        }
    }
}

/// `None` where it turned out to be delivered, and is to be taken once more as that.
async fn refund_taken(
    merchant: &Inner,
    lease: Lease,
    entry: JournalEntry,
) -> Result<Option<RefundStatus>, RefundFailed> {
    let Some(record) = Record::of(&entry) else {
        events::record_unreadable(lease.id);
        put_off(merchant, lease, entry.attempts, None).await?;
        return Err(RefundFailed::NotFound);
    };
    let JournalEntry { state, attempts, keep_until, .. } = entry;
    let (settlement, reason) = match state {
        EntryState::Settled { settlement, .. } => {
            if is_kept(merchant, lease, attempts, keep_until).await? {
                insist(merchant, "commit", || merchant.store.commit(lease, End::Delivered)).await?;
                events::found_kept(&record.method, lease.id);
                put_off(merchant, lease, attempts, None).await?;
                return Ok(None);
            }
            (settlement, RefundReason::Requested)
        }
        EntryState::Spent { settlement: Some(settlement), .. } => {
            // What is kept already stays. What is still being made is not kept any more.
            is_kept(merchant, lease, attempts, keep_until).await?;
            (settlement, RefundReason::Requested)
        }
        EntryState::Refunding { settlement, reason } => (settlement, reason),
        EntryState::Spent { settlement: None, .. } => {
            put_off(merchant, lease, attempts, None).await?;
            return Err(RefundFailed::Forgotten);
        }
        // What was never settled for the journal has no answer.
        EntryState::Held => match settled_after_all(merchant, lease, &record, attempts).await? {
            Some(settlement) => (settlement, RefundReason::Requested),
            None => return Err(RefundFailed::NotCharged),
        },
    };
    let owed = Owed {
        lease,
        method: &record.method,
        intent: &record.intent,
        amount: record.amount,
        currency: &record.currency,
        settlement: &settlement,
        attempts,
        receipt: None,
        seen_by: None,
    };
    match give_back(merchant, owed, reason).await? {
        GivenBack::Refunded => Ok(Some(RefundStatus::Refunded)),
        GivenBack::Pending => Ok(Some(RefundStatus::Pending)),
        GivenBack::Refused => Err(RefundFailed::Refused),
    }
}

/// Whether its answer is kept. From now on none is that is not. Where nobody can say, the lease is given up.
async fn is_kept(merchant: &Inner, lease: Lease, attempts: u32, keep_until: Timestamp) -> Result<bool, RefundFailed> {
    let error = match keeping(merchant, lease, pin!(answers::is_kept(merchant, lease, keep_until))).await {
        Ok(kept) => return Ok(kept),
        Err(error) => error,
    };
    put_off(merchant, lease, attempts, error.retry_after()).await?;
    Err(match error.kind() {
        StoreErrorKind::LeaseLost => RefundFailed::InProgress,
        _ => RefundFailed::Store(error),
    })
}

/// What became of a payment whose outcome was unknown, journalled. `None` when no money moved: the entry is gone.
async fn settled_after_all(
    merchant: &Inner,
    lease: Lease,
    record: &Record,
    attempts: u32,
) -> Result<Option<Settlement>, RefundFailed> {
    let Some(method) = merchant.method(&record.method, &record.intent) else {
        put_off(merchant, lease, attempts, None).await?;
        return Err(RefundFailed::OutcomeUnknown);
    };
    match resolve(merchant, lease, method, record).await {
        Ok(Resolution::Settled(settlement)) => {
            insist(merchant, "settle", || merchant.store.settle(lease, &settlement)).await?;
            Ok(Some(settlement))
        }
        Ok(Resolution::NotCharged) => {
            let_go(merchant, "release", || merchant.store.release(lease, Release::NotCharged)).await?;
            Ok(None)
        }
        Err(unknown) => {
            events::unresolved(&record.method, lease.id, &unknown);
            put_off(merchant, lease, attempts, unknown.retry_after()).await?;
            Err(RefundFailed::OutcomeUnknown)
        }
    }
}

impl From<GivenBack> for PaymentOutcome {
    fn from(given_back: GivenBack) -> Self {
        match given_back {
            GivenBack::Refunded => Self::Refunded,
            GivenBack::Pending => Self::RefundPending,
            GivenBack::Refused => Self::Redeliverable,
        }
    }
}

impl Inner {
    /// The configured method of an entry of the journal.
    pub(super) fn method(&self, id: &MethodId, intent: &Intent) -> Option<&dyn PaymentMethod> {
        self.methods.iter().find(|method| method.method() == id && method.intent() == intent).map(|method| &**method)
    }
}
