//! Two handles of one store.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    method::Settlement,
    protocol::{ChallengeId, Timestamp},
    store::{
        AnswerStore, Claim, Claimed, End, JournalEntry, KeptAnswer, Lease, NonceStore, Page, RefundReason, Release,
        Reservation, StoreError, Take, Taken,
    },
};

/// Two handles of one journal, of one store of answers, or of one ledger, as two replicas of a service have them: every
/// step goes through the other handle than the step before.
///
/// Under it a store that keeps in the memory of one process what must be shared breaks its laws.
#[derive(Debug)]
pub struct Replicas<S> {
    handles: [S; 2],
    steps: AtomicUsize,
}

impl<S> Replicas<S> {
    /// Two handles, opened as two processes would.
    pub fn new(one: S, other: S) -> Self {
        Self { handles: [one, other], steps: AtomicUsize::new(0) }
    }

    pub(in crate::conformance) fn next(&self) -> &S {
        let [one, other] = &self.handles;
        if self.steps.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { one } else { other }
    }
}

#[async_trait]
impl<S: NonceStore> NonceStore for Replicas<S> {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.next().claim(claim).await
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.next().renew(lease, until).await
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.next().settle(lease, settlement).await
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        self.next().commit(lease, end).await
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        self.next().release(lease, reason).await
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        self.next().refund(lease, reason).await
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.next().put_off(lease, until).await
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        self.next().take(take).await
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        self.next().find(id).await
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.next().forget(now, limit).await
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        self.next().unfinished(page).await
    }
}

#[async_trait]
impl<S: AnswerStore> AnswerStore for Replicas<S> {
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        self.next().reserve(reservation).await
    }

    async fn keep(&self, lease: Lease, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        self.next().keep(lease, answer, keep_until).await
    }

    async fn give_up(&self, lease: Lease) -> Result<(), StoreError> {
        self.next().give_up(lease).await
    }

    async fn look_up(&self, id: ChallengeId, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        self.next().look_up(id, now).await
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.next().forget(now, limit).await
    }
}
