//! What one row says about a challenge, and about a proof.

use std::sync::Arc;

use super::table::{Fate, Millis, Row};
use crate::{
    protocol::{ChallengeId, Settlement, SpendKey, Timestamp},
    store::{Claim, End, JournalEntry, Proof},
};

/// An instant that never comes: what is open is not forgotten.
pub(super) const NEVER: Millis = Millis::MAX;

/// A challenge that was claimed. What is needed only until it has ended is boxed, so that the many
/// entries that are over stay small.
///
/// The row is due when there is something to drop: never while it is open; when the last lease is over
/// once it has ended; and then when it may be forgotten.
pub(super) struct Entry {
    id: ChallengeId,
    proof: Proof,
    phase: Phase,
    /// The token of the latest lease.
    pub(super) token: u64,
    pub(super) open: Option<Box<Open>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Held,
    Settled,
    Spent(End),
}

/// What is known of an entry until it has ended and nobody can take its end back.
pub(super) struct Open {
    pub(super) lease_until: Timestamp,
    /// The lease was given up: it is over before it ends.
    pub(super) given_up: bool,
    pub(super) keep_until: Timestamp,
    pub(super) record: Arc<[u8]>,
    pub(super) settlement: Option<Settlement>,
}

impl Open {
    pub(super) fn is_at_work(&self, now: Timestamp) -> bool {
        !self.given_up && now < self.lease_until
    }

    /// When the entry may be forgotten if it has ended: not while its end can be taken back.
    fn forget_at(&self) -> Millis {
        ceil_millis(self.keep_until.max(self.lease_until))
    }
}

impl Entry {
    pub(super) fn new(claim: &Claim, token: u64) -> Self {
        Self {
            id: claim.id,
            proof: claim.proof,
            phase: Phase::Held,
            token,
            open: Some(Box::new(Open {
                lease_until: claim.lease_until,
                given_up: false,
                keep_until: claim.keep_until,
                record: Arc::clone(&claim.record),
                settlement: None,
            })),
        }
    }

    pub(super) fn id(&self) -> ChallengeId {
        self.id
    }

    pub(super) fn proof(&self) -> Proof {
        self.proof
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Spent(_))
    }

    /// Whether its latest lease was given up and nobody has taken it over.
    pub(super) fn is_given_up(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.given_up)
    }

    pub(super) fn give_up(&mut self) {
        if let Some(open) = &mut self.open {
            open.given_up = true;
        }
    }

    /// When the entry may be forgotten in a phase, if its row is due at `due`.
    pub(super) fn forget_at(&self, phase: Phase, due: Millis) -> Millis {
        match (phase, &self.open) {
            (Phase::Spent(_), Some(open)) => open.forget_at(),
            (Phase::Spent(_), None) => due,
            (Phase::Held | Phase::Settled, _) => NEVER,
        }
    }

    /// Goes on to a phase. Answers when the row is due now.
    pub(super) fn enter(&mut self, phase: Phase) -> Millis {
        self.phase = phase;
        match &self.open {
            Some(open) if !self.is_open() => ceil_millis(open.lease_until),
            _ => NEVER,
        }
    }

    /// Its row is due: drops what nobody needs any more.
    pub(super) fn drop_due(&mut self, now: Millis, due: Millis) -> Fate {
        let forget_at = self.forget_at(self.phase, due);
        if forget_at <= now {
            return Fate::Forgotten;
        }
        if !self.is_open() {
            self.open = None;
        }
        Fate::Until(forget_at)
    }

    /// Whether it is open and nobody is at work on it.
    pub(super) fn is_unfinished(&self, now: Timestamp) -> bool {
        self.is_open() && self.open.as_ref().is_some_and(|open| !open.is_at_work(now))
    }

    pub(super) fn listed(&self) -> Option<JournalEntry> {
        let open = self.open.as_deref()?;
        Some(JournalEntry {
            id: self.id,
            proof: self.proof,
            settlement: open.settlement.clone(),
            lease_until: open.lease_until,
            keep_until: open.keep_until,
            record: Arc::clone(&open.record),
        })
    }
}

impl Row for Entry {
    fn key(&self) -> &[u8; 32] {
        self.id.as_bytes()
    }
}

/// An exclusive proof that was claimed. The row is due when it may be forgotten.
pub(super) struct Claimant {
    key: SpendKey,
    /// The token of the latest lease of the entry that it pays.
    pub(super) token: u64,
}

impl Claimant {
    pub(super) fn new(key: SpendKey, token: u64) -> Self {
        Self { key, token }
    }
}

impl Row for Claimant {
    fn key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }
}

/// Milliseconds since the Unix epoch, rounded towards the future: nothing is forgotten early.
fn ceil_millis(instant: Timestamp) -> Millis {
    let millis = instant.unix_millis();
    match Timestamp::from_unix_millis(millis) {
        Some(floor) if floor < instant => millis.saturating_add(1),
        _ => millis,
    }
}
