//! A payment journal of one's own. Run `cargo run --example custom_store`, then
//! `cargo run --example agent -- http://127.0.0.1:3000/` and watch the steps of the journal on the screen.
//!
//! This one is a map behind a lock: easy to see that each step is atomic. The contract is in the docs
//! of `NonceStore`; the test below runs the public conformance suite against it, as yours should.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use axum::{Router, routing::get};
use tower_mpp::{
    KeyRing, Merchant, Price,
    method::{Sandbox, Settlement},
    protocol::{ChallengeId, SpendKey, Timestamp},
    store::{
        Claim, Claimed, End, EntryState, JournalEntry, Lease, NonceStore, Page, Proof, RefundReason, Release,
        StoreError, StoreErrorKind, Take, Taken,
    },
};

/// A journal for one process.
#[derive(Clone, Default)]
struct NotebookStore(Arc<Mutex<Notebook>>);

#[derive(Default)]
struct Notebook {
    entries: BTreeMap<ChallengeId, Entry>,
    exclusive: BTreeMap<SpendKey, ChallengeId>,
    tokens: u64,
}

struct Entry {
    claim: Claim,
    lease_until: Timestamp,
    /// `None` once the lease was given up.
    token: Option<u64>,
    settlement: Option<Settlement>,
    refundable: bool,
    refunding: Option<RefundReason>,
    end: Option<End>,
    /// Somebody has asked for it after it was delivered.
    asked_for: bool,
    put_off: Option<Timestamp>,
    attempts: u32,
}

impl Entry {
    fn state(&self) -> EntryState {
        match (self.settlement.clone(), self.refunding, self.end) {
            (settlement, _, Some(end)) => EntryState::Spent { end, settlement },
            (Some(settlement), Some(reason), None) => EntryState::Refunding { settlement, reason },
            (Some(settlement), None, None) => EntryState::Settled { settlement, refundable: self.refundable },
            (None, _, None) => EntryState::Held,
        }
    }

    fn shown(&self) -> JournalEntry {
        JournalEntry {
            id: self.claim.id,
            proof: self.claim.proof,
            state: self.state(),
            lease_until: self.lease_until,
            put_off: self.put_off,
            attempts: self.attempts,
            keep_until: self.claim.keep_until,
            record: Arc::clone(&self.claim.record),
        }
    }

    fn is_at_work(&self, now: Timestamp) -> bool {
        self.token.is_some() && now < self.lease_until
    }

    fn is_put_off(&self, now: Timestamp) -> bool {
        self.put_off.is_some_and(|until| now < until)
    }

    /// A step has brought it further.
    fn go_on(&mut self) {
        self.put_off = None;
        self.attempts = 0;
    }
}

impl NotebookStore {
    fn with<T>(&self, step: impl FnOnce(&mut Notebook) -> T) -> T {
        step(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does a step that needs the lease.
    fn fenced(
        &self,
        lease: Lease,
        step: impl FnOnce(&mut Entry) -> Result<(), StoreErrorKind>,
    ) -> Result<(), StoreError> {
        self.with(|notebook| Ok(step(notebook.fenced(lease)?)?))
    }
}

impl Notebook {
    /// The entry, if the lease is its present one.
    fn fenced(&mut self, lease: Lease) -> Result<&mut Entry, StoreErrorKind> {
        let entry = self.entries.get_mut(&lease.id).filter(|entry| entry.token == Some(lease.token));
        entry.ok_or(StoreErrorKind::LeaseLost)
    }

    fn claim(&mut self, claim: Claim) -> Claimed {
        // An exclusive proof that another challenge has claimed.
        if let Proof::Exclusive(key) = claim.proof
            && let Some(owner) = self.exclusive.get(&key).filter(|owner| **owner != claim.id)
        {
            let settled = self.entries.get(owner).is_some_and(|entry| entry.settlement.is_some());
            return if settled { Claimed::OtherProof } else { Claimed::Busy };
        }
        self.tokens += 1;
        let lease = Lease { id: claim.id, token: self.tokens };
        let Some(entry) = self.entries.get_mut(&claim.id) else {
            if let Proof::Exclusive(key) = claim.proof {
                self.exclusive.insert(key, claim.id);
            }
            self.entries.insert(
                lease.id,
                Entry {
                    lease_until: claim.lease_until,
                    token: Some(lease.token),
                    settlement: None,
                    refundable: true,
                    refunding: None,
                    end: None,
                    asked_for: false,
                    put_off: None,
                    attempts: 0,
                    claim,
                },
            );
            return Claimed::Won { lease, resumed: false };
        };
        let same_proof = entry.claim.proof == claim.proof;
        match (entry.state(), entry.is_at_work(claim.now)) {
            (EntryState::Held, _) if !same_proof => return Claimed::Busy,
            _ if !same_proof => return Claimed::OtherProof,
            (EntryState::Spent { end, .. }, _) => return Claimed::Spent(end),
            (EntryState::Refunding { .. }, _) => return Claimed::Refunding,
            (_, true) => return Claimed::Busy,
            (_, false) => {}
        }
        entry.token = Some(lease.token);
        entry.lease_until = claim.lease_until;
        entry.claim.keep_until = entry.claim.keep_until.max(claim.keep_until);
        entry.go_on();
        match entry.settlement.clone() {
            Some(settlement) => Claimed::Settled { lease, settlement },
            None => Claimed::Won { lease, resumed: true },
        }
    }

    fn take(&mut self, take: Take) -> Taken {
        let Some(entry) = self.entries.get_mut(&take.id) else { return Taken::Absent };
        match entry.end {
            Some(End::Delivered) if take.asked_for => {}
            Some(end) => return Taken::Spent(end),
            None => {}
        }
        if entry.is_at_work(take.now) || (entry.is_put_off(take.now) && !take.asked_for) {
            return Taken::Busy;
        }
        self.tokens += 1;
        entry.token = Some(self.tokens);
        entry.lease_until = take.lease_until;
        entry.asked_for |= entry.end.is_some();
        Taken::Won { lease: Lease { id: take.id, token: self.tokens }, entry: entry.shown() }
    }

    /// Drops an entry for which no money moved.
    fn drop_entry(&mut self, id: ChallengeId) {
        if let Some(Entry { claim: Claim { proof: Proof::Exclusive(key), .. }, .. }) = self.entries.remove(&id) {
            self.exclusive.remove(&key);
        }
    }
}

#[async_trait]
impl NonceStore for NotebookStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let claimed = self.with(|notebook| notebook.claim(claim));
        println!("journal: claim -> {claimed:?}");
        Ok(claimed)
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.fenced(lease, |entry| {
            entry.lease_until = until;
            Ok(())
        })
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        println!("journal: settle {} -> {}", lease.id, settlement.reference);
        self.fenced(lease, |entry| match entry.state() {
            EntryState::Held => {
                entry.settlement = Some(settlement.clone());
                entry.go_on();
                Ok(())
            }
            // Again the same is a repeat of ours; anything else would be a second settlement.
            EntryState::Settled { settlement: known, .. } if known == *settlement => Ok(()),
            _ => Err(StoreErrorKind::Conflict),
        })
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        println!("journal: refund {} -> {reason}", lease.id);
        self.fenced(lease, |entry| match entry.state() {
            EntryState::Refunding { reason: known, .. } if known == reason => Ok(()),
            EntryState::Settled { .. } | EntryState::Spent { end: End::Delivered, .. }
                if entry.end.is_none() || entry.asked_for =>
            {
                entry.end = None;
                entry.refunding = Some(reason);
                entry.go_on();
                Ok(())
            }
            _ => Err(StoreErrorKind::Conflict),
        })
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        println!("journal: commit {} -> {end:?}", lease.id);
        self.fenced(lease, |entry| match (entry.state(), end) {
            (EntryState::Settled { .. }, End::Delivered) | (EntryState::Refunding { .. }, End::Refunded) => {
                entry.end = Some(end);
                entry.go_on();
                Ok(())
            }
            (EntryState::Spent { end: known, .. }, _) if known == end => Ok(()),
            _ => Err(StoreErrorKind::Conflict),
        })
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        println!("journal: release {} -> {reason:?}", lease.id);
        self.with(|notebook| {
            let entry = notebook.fenced(lease)?;
            match (entry.state(), reason) {
                (EntryState::Held, Release::NotCharged | Release::Unknown) => {}
                (EntryState::Settled { .. }, Release::Undelivered) => {}
                // Takes a commit back whose answer never left.
                (EntryState::Spent { end: End::Delivered, .. }, Release::Undelivered) if !entry.asked_for => {
                    entry.end = None;
                }
                (EntryState::Settled { .. }, Release::NotRefundable) => entry.refundable = false,
                (EntryState::Refunding { .. }, Release::NotRefundable) => {
                    entry.refunding = None;
                    entry.refundable = false;
                    // What was delivered once is not delivered again.
                    entry.end = entry.asked_for.then_some(End::Delivered);
                }
                _ => return Err(StoreErrorKind::Conflict.into()),
            }
            entry.token = None;
            entry.go_on();
            if reason == Release::NotCharged {
                notebook.drop_entry(lease.id);
            }
            Ok(())
        })
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        println!("journal: put off {} until {until}", lease.id);
        self.fenced(lease, |entry| {
            entry.token = None;
            entry.put_off = Some(until);
            entry.attempts += 1;
            Ok(())
        })
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        let taken = self.with(|notebook| notebook.take(take));
        println!("journal: take -> {taken:?}");
        Ok(taken)
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        Ok(self.with(|notebook| notebook.entries.get(&id).map(Entry::shown)))
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        let listed = |entry: &&Entry| {
            let due = !page.due || !entry.is_put_off(page.now);
            entry.end.is_none() && !entry.is_at_work(page.now) && due
        };
        Ok(self.with(|notebook| {
            let after = notebook.entries.iter().filter(|(id, _)| page.after.is_none_or(|after| **id > after));
            after.map(|(_, entry)| entry).filter(listed).take(page.limit).map(Entry::shown).collect()
        }))
    }

    /// Drops what has ended and need not be remembered any more: the only way in which this journal shrinks.
    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        Ok(self.with(|notebook| {
            let over = |entry: &&Entry| entry.end.is_some() && entry.claim.keep_until.max(entry.lease_until) <= now;
            let gone: Vec<_> = notebook.entries.values().filter(over).map(|entry| entry.claim.id).take(limit).collect();
            gone.iter().for_each(|id| notebook.drop_entry(*id));
            gone.len()
        }))
    }
}

pub fn app() -> Result<Router, Box<dyn std::error::Error>> {
    let merchant = Merchant::builder("localhost", KeyRing::new("replace this by 32 random bytes!")?)
        .test_mode(true)
        .method(Sandbox::new())
        .nonce_store(NotebookStore::default())
        .build()?;
    let charge = merchant.charge(Price::usd("0.50")?)?;
    Ok(Router::new().route("/", get(|| async { "Hello!\n" }).route_layer(charge)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app()?).await?)
}

#[cfg(test)]
mod tests {
    use tower_mpp::conformance::nonce_store::Suite;

    use super::NotebookStore;

    #[tokio::test]
    async fn keeps_the_contract() {
        Suite::new(|| async { NotebookStore::default() }).assert().await;
    }
}
