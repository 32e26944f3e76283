//! What must be true when everything has come to rest.

use std::collections::BTreeSet;

use tower_mpp::{
    protocol::Timestamp,
    store::{End, EntryState, JournalEntry, Page},
};

use crate::shop::{Credential, Shop};

/// How often [`Release::Undelivered`](tower_mpp::store::Release::Undelivered) is tried for one answer.
const TRIES: usize = 9;

impl Shop {
    /// Asserts that every charge is accounted for. `open` are the payers without a final answer.
    pub(crate) fn settle_up(&self, open: &[usize]) {
        let far: Timestamp = "2200-01-01T00:00:00Z".parse().unwrap();
        let page = Page { now: far, after: None, limit: 1000, due: false };
        let listed = self.journal.unfinished(page).unwrap();
        let ids: BTreeSet<_> = self.credentials.iter().map(|credential| credential.id).collect();
        for id in ids {
            let payers: Vec<_> = self.credentials.iter().filter(|credential| credential.id == id).collect();
            let charges = self.ledger.charges(id);
            if charges > 1 {
                self.world.wrong(format!("{id} was charged {charges} times"));
            }
            let delivered = payers.iter().any(|payer| !payer.deliveries.lock().unwrap().is_empty());
            let entry = listed.iter().find(|entry| entry.id == id);
            let in_time = !self.is_too_late(payers[0]);
            match (charges > 0, delivered, entry) {
                (false, false, None) => self.world.count("not charged"),
                (false, false, Some(JournalEntry { state: EntryState::Held, .. })) if !in_time => {
                    self.world.count("not charged, listed");
                }
                (true, true, None) => self.world.count("delivered"),
                (true, false, Some(_)) if !in_time => self.world.count("charged, listed"),
                (true, false, None) if self.lost_after_commit(payers[0]).is_some() => {
                    self.lost_after_commit(payers[0]).into_iter().for_each(|cause| self.world.count(cause));
                }
                (charged, delivered, entry) => self.world.wrong(format!(
                    "{id} at the end: charged {charged}, delivered {delivered}, in time {in_time}, listed as {entry:?}"
                )),
            }
        }
        for payer in open {
            // Its proof is another challenge's too, and nobody knows what became of that one.
            let credential = &self.credentials[*payer];
            let in_doubt = |other: &&std::sync::Arc<Credential>| {
                other.payload == credential.payload
                    && other.id != credential.id
                    && listed.iter().any(|entry| entry.id == other.id)
            };
            if !self.credentials.iter().any(|other| in_doubt(&other)) {
                self.world.wrong(format!("payer {payer} never gets a final answer"));
            }
        }
    }

    /// A delivery was recorded, nothing has left, and for as long as that could be taken back the journal heard
    /// nothing of it. Nobody can know better: an answer of which a byte may have left is not given again.
    fn lost_after_commit(&self, credential: &Credential) -> Option<&'static str> {
        let entry = self.journal.find(credential.id).unwrap();
        let spent = entry.is_some_and(|entry| matches!(entry.state, EntryState::Spent { end: End::Delivered, .. }));
        let back = self.journal.taken_back(credential.id);
        match back {
            _ if !spent => None,
            _ if back.late_at_first => Some("charged, lost: no first byte before the lease ended"),
            _ if back.late || back.asked >= TRIES => Some("charged, lost: an outage after the commit"),
            _ => None,
        }
    }
}
