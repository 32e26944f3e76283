//! Delivery: what becomes of settled money while the handler works and its answer leaves.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Sleep;

use super::{
    Inner, PaymentInfo,
    after::Pending,
    answers::Keeper,
    events,
    gate::{Settled, renew, store_step},
};
use crate::store::{End, Lease, Release, StoreError, StoreErrorKind};

/// Settled money on its way to an answer. Dropped before the answer has begun to leave, it gives the
/// lease back, so that the same credential is delivered without a second charge.
pub(crate) struct Delivery {
    settled: Option<Settled>,
    /// The money has yet to be taken, and nothing is settled.
    pub(super) pending: Option<Pending>,
    renewal: Option<Pin<Box<Sleep>>>,
    /// Keeps the answer for requests that come again.
    keeper: Option<Box<Keeper>>,
}

/// A step of the journal at the end of a request.
pub(crate) type Step = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

impl Delivery {
    pub(super) fn new(settled: Settled) -> Self {
        Self { settled: Some(settled), pending: None, renewal: None, keeper: None }
    }

    /// A delivery for which the money has yet to be taken.
    pub(super) fn pending(pending: Pending) -> Self {
        Self { settled: None, pending: Some(pending), renewal: None, keeper: None }
    }

    pub(crate) fn info(&self) -> Option<&PaymentInfo> {
        self.settled.as_ref().map(|settled| &settled.info)
    }

    /// Whose it is, as long as it has not ended, and whether it was settled by an earlier request.
    pub(super) fn merchant(&self) -> Option<(Arc<Inner>, bool)> {
        self.settled.as_ref().map(|settled| (Arc::clone(&settled.merchant), settled.info.is_redelivery()))
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

    /// Waits until a whole answer is kept, where it is to be.
    pub(crate) fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.keeper.as_mut().map_or(Poll::Ready(()), |keeper| keeper.poll_kept(cx))
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
        self.step(|merchant, lease| async move {
            store_step(&merchant, merchant.store.commit(lease, End::Delivered))
                .await
                .inspect_err(|error| events::journal_failed("commit", error, None))
        })
    }

    /// Records that the handler failed: the credential is good again, at once.
    pub(crate) fn fail(&mut self) -> Step {
        let keeper = self.keeper.take();
        self.step(|merchant, lease| async move {
            give_up(keeper).await;
            undelivered(merchant, lease).await
        })
    }

    fn step<F>(&self, step: impl FnOnce(Arc<Inner>, Lease) -> F) -> Step
    where
        F: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        match &self.settled {
            Some(settled) => Box::pin(step(Arc::clone(&settled.merchant), settled.lease)),
            None => Box::pin(std::future::ready(Ok(()))),
        }
    }

    /// The journal is up to date, whatever happens to the connection from now on.
    pub(crate) fn end(&mut self) {
        self.settled = None;
        self.renewal = None;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(Settled { merchant, lease, info, in_flight }) = self.settled.take() {
            let keeper = self.keeper.take();
            events::undelivered(&info);
            let tasks = Arc::clone(&merchant);
            tasks.tasks.spawn_from_drop(async move {
                let _in_flight = in_flight;
                give_up(keeper).await;
                give_back(merchant, lease).await;
            });
        }
    }
}

/// Before the lease is given back: whoever claims it next reserves under the same key.
async fn give_up(keeper: Option<Box<Keeper>>) {
    if let Some(keeper) = keeper {
        keeper.give_up().await;
    }
}

async fn release(merchant: &Inner, lease: Lease) -> Result<(), StoreError> {
    store_step(merchant, merchant.store.release(lease, Release::Undelivered)).await
}

async fn undelivered(merchant: Arc<Inner>, lease: Lease) -> Result<(), StoreError> {
    release(&merchant, lease).await.inspect_err(|error| events::journal_failed("release", error, None))
}

/// Says that nothing was delivered, until the journal has heard it: what was committed already would
/// otherwise stay spent on an answer that nobody got. What was not committed is good again when its
/// lease ends, so after some minutes there is nothing more to gain.
async fn give_back(merchant: Arc<Inner>, lease: Lease) {
    const PAUSES: [u64; 8] = [50, 250, 1000, 5000, 15_000, 30_000, 60_000, 60_000];
    let mut pauses = PAUSES.into_iter().map(Duration::from_millis);
    while let Err(error) = release(&merchant, lease).await {
        // It was given back just before, or somebody has taken over: nothing is in their way.
        if error.kind() == StoreErrorKind::LeaseLost {
            return;
        }
        events::journal_failed("release", &error, None);
        match pauses.next() {
            Some(pause) if error.kind() == StoreErrorKind::Unavailable => tokio::time::sleep(pause).await,
            _ => return,
        }
    }
}
