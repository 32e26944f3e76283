//! What must be true when everything has come to rest.

use std::collections::BTreeSet;

use tower_mpp::{
    protocol::{ChallengeId, Timestamp},
    store::{End, EntryState, Page},
};

use crate::{
    journal::is_complete,
    model::Phase,
    shop::{Credential, Shop},
    world::Facts,
};

/// How often [`Release::Undelivered`](tower_mpp::store::Release::Undelivered) is tried for one answer.
const TRIES: usize = 9;

impl Shop {
    /// Asserts that every charge is accounted for. `open` are the payers without a final answer.
    pub(crate) async fn settle_up(&self, open: &[usize], refunds_on: bool) {
        let far: Timestamp = "2200-01-01T00:00:00Z".parse().unwrap();
        let page = Page { now: far, after: None, limit: 1000, due: false };
        let listed = self.journal.unfinished(page).unwrap();
        let shown = self.unfulfilled().await;
        if !shown.iter().eq(listed.iter().map(|entry| &entry.id)) {
            self.world.wrong(format!("{shown:?} are shown of {listed:?}"));
        }
        let ids: BTreeSet<_> = self.credentials.iter().map(|credential| credential.id).collect();
        for id in ids {
            let payers: Vec<_> = self.credentials.iter().filter(|credential| credential.id == id).collect();
            let Facts { charges, refunds, delivered, asked_back, phase, .. } = self.world.facts(id);
            if charges > 1 || refunds > charges {
                self.world.wrong(format!("{id} was charged {charges} times and given back {refunds} times"));
            }
            if self.ledger.is_holding(id) && phase.is_none() {
                self.world.wrong(format!("{id}: money is held, and the journal knows nothing of it"));
            }
            // Also when nobody has had a byte of it. Everybody has come once more by now, and has got what is kept:
            // only as long as the journal remembers that its money was given back it is not given.
            let kept = is_complete(&self.answers, id);
            if kept && !delivered && refunds == 0 {
                self.world.wrong(format!("{id}: its answer is kept, and nobody gets it"));
            }
            let entry = listed.iter().find(|entry| entry.id == id);
            let in_time = !self.is_too_late(payers[0]);
            let state = entry.map(|entry| &entry.state);
            let owed = matches!(state, Some(EntryState::Settled { refundable, .. }) if !(refunds_on && *refundable));
            match (charges > 0, delivered || kept, refunds > 0, state) {
                (false, false, false, None) => self.world.count("not charged"),
                (true, true, false, None) => self.world.count(if kept { "delivered (kept)" } else { "delivered" }),
                (true, false, true, None) => self.world.count("given back"),
                (true, true, true, None) if asked_back => self.world.count("delivered, and given back on request"),
                (true, false, false, Some(_)) if owed && !in_time => self.world.count("charged, listed"),
                (true, false, false, None) if self.lost_after_commit(id).is_some() => {
                    self.lost_after_commit(id).into_iter().for_each(|cause| self.world.count(cause));
                }
                end => self.world.wrong(format!("{id} at the end: charged, delivered, given back: {end:?}")),
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
    fn lost_after_commit(&self, id: ChallengeId) -> Option<&'static str> {
        let spent = self.world.facts(id).phase == Some(Phase::Spent(End::Delivered));
        let back = self.journal.taken_back(id);
        match back {
            _ if !spent => None,
            _ if back.late_at_first => Some("charged, lost: no first byte before the lease ended"),
            _ if back.late || back.asked >= TRIES => Some("charged, lost: an outage after the commit"),
            _ => None,
        }
    }
}
