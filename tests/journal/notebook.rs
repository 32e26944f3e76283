//! The model as a store.

use std::sync::Mutex;

use async_trait::async_trait;
use tower_mpp::{
    method::Settlement,
    protocol::{ChallengeId, Timestamp},
    store::{
        Claim, Claimed, End, JournalEntry, Lease, NonceStore, Page, RefundReason, Release, StoreError, StoreErrorKind,
        Take, Taken,
    },
};

use crate::{bug::Bug, model::Model};

/// The maps behind a lock.
pub(crate) struct Notebook(Mutex<Model>);

impl Notebook {
    pub(crate) fn new(capacity: usize, bug: Bug) -> Self {
        Self(Mutex::new(Model::new(capacity, bug)))
    }

    fn with<T>(&self, step: impl FnOnce(&mut Model) -> T) -> T {
        step(&mut self.0.lock().unwrap())
    }

    fn bug(&self) -> Bug {
        self.with(|model| model.bug)
    }

    fn key(&self, id: ChallengeId) -> ChallengeId {
        let mut bytes = *id.as_bytes();
        match self.bug() {
            Bug::KeysCutShort => bytes[8..].fill(0),
            Bug::KeysCaseFolded => bytes.make_ascii_lowercase(),
            _ => {}
        }
        ChallengeId::from_bytes(bytes)
    }

    /// The lease as the maps know it, if time has not taken it away.
    fn lease(&self, lease: Lease) -> Result<Lease, StoreError> {
        let lease = Lease { id: self.key(lease.id), ..lease };
        let dead = self.with(|model| {
            model.bug == Bug::LeaseDiesWhenExpired
                && model.entries.get(&lease.id).is_some_and(|entry| {
                    let latest = model.entries.values().map(|entry| entry.claim.now).max();
                    latest.is_some_and(|latest| latest >= entry.claim.lease_until)
                })
        });
        if dead { Err(StoreErrorKind::LeaseLost.into()) } else { Ok(lease) }
    }
}

#[async_trait]
impl NonceStore for Notebook {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let given = claim.id;
        let claim = Claim { id: self.key(given), ..claim };
        let mut claimed = match self.bug() {
            // Works on what it saw, and writes that.
            Bug::LookThenWrite => {
                let mut seen = self.with(|model| model.clone());
                let claimed = seen.claim(claim)?;
                tokio::task::yield_now().await;
                self.with(|model| *model = seen);
                claimed
            }
            // The id is claimed in one step, but the proof was looked at in another.
            Bug::ProofLookedAtBefore => {
                let key = claim.proof.key();
                let owner = self.with(|model| model.proofs.get(&key).copied()).filter(|owner| *owner != claim.id);
                tokio::task::yield_now().await;
                self.with(|model| {
                    let hidden = if owner.is_none() { model.proofs.remove(&key) } else { None };
                    let claimed = model.claim(claim);
                    if let (Some(hidden), None) = (hidden, model.proofs.get(&key)) {
                        model.proofs.insert(key, hidden);
                    }
                    claimed
                })?
            }
            Bug::OverfillsTogether => {
                let full = self.with(|model| model.entries.len() >= model.capacity);
                tokio::task::yield_now().await;
                self.with(|model| {
                    let capacity = std::mem::replace(&mut model.capacity, if full { 0 } else { usize::MAX });
                    let claimed = model.claim(claim);
                    model.capacity = capacity;
                    claimed
                })?
            }
            _ => self.with(|model| model.claim(claim))?,
        };
        if let Claimed::Won { lease, .. } | Claimed::Settled { lease, .. } = &mut claimed {
            lease.id = given;
        }
        Ok(claimed)
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        let lease = self.lease(lease)?;
        self.with(|model| model.renew(lease, until))
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        let lease = self.lease(lease)?;
        self.with(|model| model.settle(lease, settlement))
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        let lease = self.lease(lease)?;
        self.with(|model| model.commit(lease, end))
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        let lease = self.lease(lease)?;
        self.with(|model| model.release(lease, reason))
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        let lease = self.lease(lease)?;
        self.with(|model| model.refund(lease, reason))
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        let lease = self.lease(lease)?;
        self.with(|model| model.put_off(lease, until))
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        let given = take.id;
        let take = Take { id: self.key(given), ..take };
        let mut taken = match self.bug() {
            Bug::TakeLooksThenWrites => {
                let mut seen = self.with(|model| model.clone());
                let taken = seen.take(take);
                tokio::task::yield_now().await;
                self.with(|model| *model = seen);
                taken
            }
            _ => self.with(|model| model.take(take)),
        };
        if let Taken::Won { lease, entry } = &mut taken {
            (lease.id, entry.id) = (given, given);
        }
        Ok(taken)
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        let key = self.key(id);
        if self.bug() == Bug::FindTakesOver {
            self.with(|model| model.entries.get_mut(&key).map(|entry| entry.token += 1));
        }
        Ok(self.with(|model| model.find(key)).map(|entry| JournalEntry { id, ..entry }))
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        Ok(self.with(|model| model.unfinished(page)))
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        Ok(self.with(|model| model.forget_asked(now, limit)))
    }
}
