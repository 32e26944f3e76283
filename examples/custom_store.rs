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
    store::{Claim, Claimed, End, JournalEntry, Lease, NonceStore, Page, Proof, Release, StoreError, StoreErrorKind},
};

/// A journal that forgets nothing, for one process.
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
    end: Option<End>,
}

impl NotebookStore {
    fn with<T>(&self, step: impl FnOnce(&mut Notebook) -> T) -> T {
        step(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does a step that needs the lease.
    fn fenced<T>(
        &self,
        lease: Lease,
        step: impl FnOnce(&mut Notebook, ChallengeId) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|notebook| match notebook.entries.get(&lease.id) {
            Some(entry) if entry.token == Some(lease.token) => step(notebook, lease.id),
            _ => Err(StoreErrorKind::LeaseLost.into()),
        })
    }
}

impl Notebook {
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
            let entry =
                Entry { lease_until: claim.lease_until, token: Some(lease.token), settlement: None, end: None, claim };
            self.entries.insert(lease.id, entry);
            return Claimed::Won { lease, resumed: false };
        };
        let same_proof = entry.claim.proof == claim.proof;
        let leased = entry.token.is_some() && claim.now < entry.lease_until;
        match (&entry.settlement, entry.end) {
            (_, Some(end)) if same_proof => return Claimed::Spent(end),
            (Some(_), _) if !same_proof => return Claimed::OtherProof,
            _ if leased || !same_proof => return Claimed::Busy,
            _ => {}
        }
        entry.token = Some(lease.token);
        entry.lease_until = claim.lease_until;
        match entry.settlement.clone() {
            Some(settlement) => Claimed::Settled { lease, settlement },
            None => Claimed::Won { lease, resumed: true },
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
        self.fenced(lease, |notebook, id| {
            if let Some(entry) = notebook.entries.get_mut(&id) {
                entry.lease_until = until;
            }
            Ok(())
        })
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        println!("journal: settle {} -> {}", lease.id, settlement.reference);
        self.fenced(lease, |notebook, id| match notebook.entries.get_mut(&id) {
            // Again the same is a repeat of ours; anything else would be a second settlement.
            Some(entry) if entry.end.is_none() && entry.settlement.as_ref().is_none_or(|known| known == settlement) => {
                entry.settlement = Some(settlement.clone());
                Ok(())
            }
            _ => Err(StoreErrorKind::Conflict.into()),
        })
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        println!("journal: commit {} -> {end:?}", lease.id);
        self.fenced(lease, |notebook, id| match notebook.entries.get_mut(&id) {
            Some(entry) if entry.settlement.is_some() && entry.end.is_none_or(|known| known == end) => {
                entry.end = Some(end);
                Ok(())
            }
            _ => Err(StoreErrorKind::Conflict.into()),
        })
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        println!("journal: release {} -> {reason:?}", lease.id);
        self.fenced(lease, |notebook, id| {
            let Some(entry) = notebook.entries.get_mut(&id) else { return Ok(()) };
            match (reason, entry.settlement.is_some(), entry.end) {
                (Release::NotCharged, false, None) => {
                    if let Proof::Exclusive(key) = entry.claim.proof {
                        notebook.exclusive.remove(&key);
                    }
                    notebook.entries.remove(&id);
                }
                (Release::Unknown, false, None) => entry.token = None,
                // Also takes a commit back whose answer never left.
                (Release::Undelivered, true, None | Some(End::Delivered)) => {
                    entry.end = None;
                    entry.token = None;
                }
                _ => return Err(StoreErrorKind::Conflict.into()),
            }
            Ok(())
        })
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        Ok(self.with(|notebook| {
            let open = |entry: &Entry| entry.end.is_none() && (entry.token.is_none() || entry.lease_until <= page.now);
            notebook
                .entries
                .iter()
                .filter(|(id, entry)| page.after.is_none_or(|after| **id > after) && open(entry))
                .take(page.limit)
                .map(|(id, entry)| JournalEntry {
                    id: *id,
                    proof: entry.claim.proof,
                    settlement: entry.settlement.clone(),
                    lease_until: entry.lease_until,
                    keep_until: entry.claim.keep_until,
                    record: Arc::clone(&entry.claim.record),
                })
                .collect()
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
