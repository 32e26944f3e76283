//! Delivery: what becomes of settled money while the handler works and its answer leaves.

use std::{
    future::{Future, poll_fn, ready},
    pin::{Pin, pin},
    sync::Arc,
    task::Context,
    time::Duration,
};

use http::StatusCode;
use tokio::time::Sleep;

use super::{
    Inner, PaymentInfo, PaymentOutcome,
    after::Pending,
    answers::{self, Keeper},
    events,
    gate::{Settled, keeping, renew, store_step},
    record::Record,
    refund::{self, Owed, insist, let_go, put_off},
    repeat,
    tasks::{Detached, within},
};
use crate::{
    refund::{ProviderCall, Verdict},
    store::{End, EntryState, Lease, Release, StoreError, StoreErrorKind, Take, Taken},
};

/// Settled money on its way to an answer. Dropped before the answer has begun to leave, it gives the
/// lease back, so that the same credential is delivered without a second charge.
pub(crate) struct Delivery {
    settled: Option<Settled>,
    /// The money has yet to be taken, and nothing is settled.
    pub(super) pending: Option<Pending>,
    renewal: Option<Pin<Box<Sleep>>>,
    /// Keeps the answer for requests that come again.
    keeper: Option<Box<Keeper>>,
    /// What its signed receipt will say, where there is one.
    record: Option<Box<Record>>,
    /// What the service says about its provider, as long as its body may still fail.
    call: Option<ProviderCall>,
    /// The body has failed.
    broken: bool,
}

/// A step of the journal at the end of a request. What it answers is what became of the money where
/// nothing was delivered.
pub(crate) type Step = Pin<Box<dyn Future<Output = Result<Option<PaymentOutcome>, StoreError>> + Send>>;

/// How long an answer waits for a refund before it says that it is on its way.
const REFUND_PATIENCE: Duration = Duration::from_secs(10);

impl Delivery {
    pub(super) fn new(settled: Settled) -> Self {
        Self::of(Some(settled), None)
    }

    /// A delivery for which the money has yet to be taken.
    pub(super) fn pending(pending: Pending) -> Self {
        Self::of(None, Some(pending))
    }

    fn of(settled: Option<Settled>, pending: Option<Pending>) -> Self {
        Self { settled, pending, renewal: None, keeper: None, record: None, call: None, broken: false }
    }

    /// Begins the signed receipt.
    pub(crate) fn record_with(&mut self, record: Option<Box<Record>>) {
        self.record = record;
        let pending = self.pending.as_ref().and_then(|pending| pending.lease());
        match (&mut self.record, &self.settled, pending) {
            (Some(record), Some(settled), _) => record.paid(&settled.info),
            (Some(record), None, Some((_, lease))) => record.unpaid(lease.id),
            _ => {}
        }
    }

    /// What its signed receipt will say.
    pub(crate) fn record(&mut self) -> &mut Option<Box<Record>> {
        &mut self.record
    }

    pub(crate) fn info(&self) -> Option<&PaymentInfo> {
        self.settled.as_ref().map(|settled| &settled.info)
    }

    pub(super) fn keep_with(&mut self, keeper: Option<Box<Keeper>>) {
        self.keeper = keeper;
    }

    /// What keeps the answer.
    pub(crate) fn keeper(&mut self) -> &mut Option<Box<Keeper>> {
        &mut self.keeper
    }

    /// How much of the answer is held back, where it is.
    pub(crate) fn held_length(&self) -> Option<u64> {
        self.keeper.as_ref().and_then(|keeper| keeper.held_length())
    }

    /// Keeps the lease while the handler works. Called whenever the handler is not ready.
    pub(crate) fn poll_renewal(&mut self, cx: &mut Context<'_>) {
        let settled = self.settled.as_ref().map(|settled| (&settled.merchant, settled.lease));
        let Some((owner, lease)) = settled.or_else(|| self.pending.as_ref()?.lease()) else { return };
        let pause = owner.settings.lease / 3;
        let sleep = self.renewal.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        while sleep.as_mut().poll(cx).is_ready() {
            let merchant = Arc::clone(owner);
            drop(owner.tasks.spawn(async move { renew(&merchant, lease).await }));
            sleep.as_mut().reset(tokio::time::Instant::now() + pause);
        }
    }

    /// Records the delivery, before the answer begins to leave.
    pub(crate) fn commit(&self) -> Step {
        let Some(settled) = &self.settled else { return Box::pin(ready(Ok(None))) };
        let (merchant, lease) = (Arc::clone(&settled.merchant), settled.lease);
        let file = self.record.as_ref().map(|record| record.once_delivered());
        Box::pin(async move {
            store_step(&merchant, merchant.store.commit(lease, End::Delivered))
                .await
                .inspect_err(|error| events::journal_failed("commit", error, None))?;
            if let Some(file) = file {
                file.await;
            }
            Ok(None)
        })
    }

    /// What the service says about its provider, for the case that its body fails.
    pub(crate) fn provider_call(&mut self, call: Option<ProviderCall>) {
        self.call = call;
    }

    /// The body has failed. What has left of it was delivered.
    pub(crate) fn broke_off(&mut self) {
        self.broken = true;
    }

    /// Records that the handler failed, and does with the money what the rules say.
    pub(crate) fn fail(&mut self, call: Option<ProviderCall>, status: StatusCode) -> Step {
        let Some(settled) = &self.settled else { return Box::pin(ready(Ok(None))) };
        let (merchant, lease) = (Arc::clone(&settled.merchant), settled.lease);
        let verdict = merchant.settings.refunds.of_answer(call, status);
        let keeper = self.keeper.take();
        if verdict == Verdict::Redeliver {
            return Box::pin(async move {
                give_up(&merchant, keeper).await;
                undelivered(&merchant, lease).await?;
                Ok(Some(PaymentOutcome::Redeliverable))
            });
        }
        // From here on it does not depend on anybody who waits for the answer.
        let Some(settled) = self.settled.take() else { return Box::pin(ready(Ok(None))) };
        self.end();
        let mut work = Detached::new(async move {
            give_up(&settled.merchant, keeper).await;
            end_by(settled, verdict).await
        });
        Box::pin(async move {
            let ended = within(REFUND_PATIENCE, poll_fn(|cx| work.poll(cx, &merchant.tasks))).await;
            // A rail that panics or takes its time: the journal says that the money is to be given back.
            Ok(Some(ended.flatten().unwrap_or(PaymentOutcome::RefundPending)))
        })
    }

    /// The journal is up to date, whatever happens to the connection from now on.
    pub(crate) fn end(&mut self) {
        self.settled = None;
        self.renewal = None;
        self.record = None;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let record = self.record.take();
        if let Some(Settled { merchant, lease, info, in_flight }) = self.settled.take() {
            let keeper = self.keeper.take();
            let verdict = match self.broken {
                true => merchant.settings.refunds.of_body(self.call),
                false => Verdict::Redeliver,
            };
            let keeps = keeper.is_some();
            if !keeps {
                events::undelivered(&info);
            }
            let tasks = Arc::clone(&merchant);
            tasks.tasks.spawn_from_drop(async move {
                let _in_flight = in_flight;
                // A kept answer is one that can be had: were the money given back, or used again, somebody
                // would have both. It may not have been recorded yet.
                if give_up(&merchant, keeper).await {
                    record.into_iter().for_each(Record::file_kept);
                    // Where the journal cannot be reached, the key finds its answer when the lease is over.
                    until_heard(&merchant, "commit", || merchant.store.commit(lease, End::Delivered)).await;
                    return;
                }
                if keeps {
                    events::undelivered(&info);
                }
                record.into_iter().for_each(Record::lost);
                give_back(&merchant, lease).await;
                if verdict != Verdict::Redeliver {
                    end_taken_back(&merchant, &info, verdict).await;
                }
            });
        } else if let Some(record) = record {
            record.lost();
        }
    }
}

/// Before the lease is given back: whoever claims it next reserves under the same key. Answers whether the
/// answer is kept all the same.
async fn give_up(merchant: &Inner, keeper: Option<Box<Keeper>>) -> bool {
    match keeper {
        Some(keeper) => keeper.give_up(merchant).await,
        None => false,
    }
}

async fn undelivered(merchant: &Inner, lease: Lease) -> Result<(), StoreError> {
    let released = store_step(merchant, merchant.store.release(lease, Release::Undelivered)).await;
    released.inspect_err(|error| events::journal_failed("release", error, None))
}

/// Does what the rules say with money behind a failed answer. Where the journal cannot follow, the money
/// stays where it is, as if there were no rules.
async fn end_by(settled: Settled, verdict: Verdict) -> PaymentOutcome {
    let Settled { merchant, lease, info, in_flight: _in_flight } = settled;
    events::undelivered(&info);
    match apply(&merchant, lease, &info, verdict).await {
        Ok(outcome) => outcome,
        Err(_) => {
            give_back(&merchant, lease).await;
            PaymentOutcome::Redeliverable
        }
    }
}

async fn apply(
    merchant: &Inner,
    lease: Lease,
    info: &PaymentInfo,
    verdict: Verdict,
) -> Result<PaymentOutcome, StoreError> {
    let reason = match verdict {
        Verdict::Refund(reason) => reason,
        Verdict::Keep => {
            let_go(merchant, "release", || merchant.store.release(lease, Release::NotRefundable)).await?;
            return Ok(PaymentOutcome::Redeliverable);
        }
        Verdict::Redeliver => {
            let_go(merchant, "release", || merchant.store.release(lease, Release::Undelivered)).await?;
            return Ok(PaymentOutcome::Redeliverable);
        }
    };
    let owed = Owed {
        lease,
        method: info.method(),
        intent: info.intent(),
        amount: info.amount(),
        currency: info.currency(),
        settlement: info.settlement(),
        attempts: 0,
        receipt: info.receipt_id(),
        seen_by: info.seen_by(),
    };
    refund::give_back(merchant, owed, reason).await.map(PaymentOutcome::from)
}

/// The same for a delivery that was taken back, whose lease is given up. Where somebody has taken over
/// in between, they are served.
async fn end_taken_back(merchant: &Inner, info: &PaymentInfo, verdict: Verdict) {
    let now = merchant.now();
    let lease_until = now.saturating_add(merchant.settings.lease);
    let take = Take { id: info.challenge_id(), now, lease_until, asked_for: false };
    let Ok(Taken::Won { lease, entry }) = store_step(merchant, merchant.store.take(take)).await else { return };
    let settled = matches!(entry.state, EntryState::Settled { .. });
    let verdict = if settled { verdict } else { Verdict::Redeliver };
    // What fails here was logged, and the lease ends by itself.
    let _ = match verdict {
        // Nobody may have been able to say whether the answer was kept when it was given up.
        Verdict::Refund(_) => {
            let kept = pin!(answers::is_kept(merchant, lease, entry.keep_until));
            match keeping(merchant, lease, kept).await {
                Ok(true) => insist(merchant, "commit", || merchant.store.commit(lease, End::Delivered)).await,
                Ok(false) => apply(merchant, lease, info, verdict).await.map(drop),
                Err(error) => put_off(merchant, lease, entry.attempts, error.retry_after()).await,
            }
        }
        Verdict::Keep | Verdict::Redeliver => apply(merchant, lease, info, verdict).await.map(drop),
    };
}

/// Says that nothing was delivered, until the journal has heard it: what was committed already would
/// otherwise stay spent on an answer that nobody got. What was not committed is good again when its
/// lease ends, so after some minutes there is nothing more to gain.
async fn give_back(merchant: &Inner, lease: Lease) {
    until_heard(merchant, "release", || merchant.store.release(lease, Release::Undelivered)).await;
}

/// Repeats a step until the journal has heard it, for some minutes.
async fn until_heard<F>(merchant: &Inner, name: &'static str, step: impl Fn() -> F)
where
    F: Future<Output = Result<(), StoreError>>,
{
    let failed = |error: &StoreError| {
        // Otherwise it was heard before, or somebody has taken over: nothing is in their way.
        if error.kind() != StoreErrorKind::LeaseLost {
            events::journal_failed(name, error, None);
        }
    };
    // What is not heard by then ends with its lease.
    let _ = repeat::insist(repeat::LONG, failed, || store_step(merchant, step())).await;
}
