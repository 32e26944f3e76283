//! Two handles of one journal.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use crate::{
    method::Settlement,
    protocol::Timestamp,
    store::{Claim, Claimed, End, JournalEntry, Lease, NonceStore, Page, Release, StoreError},
};

/// Two handles of one journal, as two replicas of a service have them: every step goes through the
/// other handle than the step before.
///
/// Under it a store that keeps in the memory of one process what must be shared breaks its laws.
#[derive(Debug)]
pub struct Replicas<S> {
    handles: [S; 2],
    steps: AtomicUsize,
}

impl<S: NonceStore> Replicas<S> {
    /// Two handles, opened as two processes would.
    pub fn new(one: S, other: S) -> Self {
        Self { handles: [one, other], steps: AtomicUsize::new(0) }
    }

    fn next(&self) -> &S {
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

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        self.next().unfinished(page).await
    }
}
