//! What one row says about a challenge, and about a proof.

use std::sync::Arc;

use super::table::Row;
use crate::{
    protocol::{ChallengeId, Settlement, SpendKey, Timestamp},
    store::{Claim, End, JournalEntry, Proof},
};

/// The present instant, as leases and as rows have it.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) exact: Timestamp,
    millis: i64,
}

impl From<Timestamp> for Now {
    fn from(exact: Timestamp) -> Self {
        Self { exact, millis: exact.unix_millis() }
    }
}

/// An instant that never comes: what is open is not forgotten.
const NEVER: i64 = i64::MAX;

/// A challenge that was claimed. What is needed only until it has ended is boxed, so that the many
/// entries that are over stay small.
pub(super) struct Entry {
    id: ChallengeId,
    proof: Proof,
    phase: Phase,
    /// When the entry may be forgotten, in milliseconds since the Unix epoch.
    forget_at: i64,
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
}

impl Entry {
    pub(super) fn new(claim: &Claim, token: u64) -> Self {
        Self {
            id: claim.id,
            proof: claim.proof,
            phase: Phase::Held,
            forget_at: NEVER,
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

    pub(super) fn is_forgotten(&self, now: Now) -> bool {
        self.forget_at <= now.millis
    }

    /// When the entry may be forgotten once it is in a phase. One that has ended is remembered while
    /// its end can be taken back.
    pub(super) fn forget_at_in(&self, phase: Phase) -> i64 {
        match (phase, &self.open) {
            (Phase::Spent(_), Some(open)) => ceil_millis(open.keep_until.max(open.lease_until)),
            _ => NEVER,
        }
    }

    pub(super) fn enter(&mut self, phase: Phase, forget_at: i64) {
        self.phase = phase;
        self.forget_at = forget_at;
    }

    /// Drops what nobody needs when the entry has ended and its end cannot be taken back any more.
    pub(super) fn compact(&mut self, now: Now) {
        if !self.is_open() && self.open.as_ref().is_some_and(|open| !open.is_at_work(now.exact)) {
            self.open = None;
        }
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

/// An exclusive proof that was claimed.
pub(super) struct Claimant {
    key: SpendKey,
    /// The token of the latest lease of the entry that it pays.
    pub(super) token: u64,
    pub(super) spending: Spending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spending {
    /// Its entry is held.
    Held,
    /// It has paid.
    Paid { forget_at: i64 },
}

impl Claimant {
    pub(super) fn new(key: SpendKey, token: u64) -> Self {
        Self { key, token, spending: Spending::Held }
    }

    pub(super) fn is_forgotten(&self, now: Now) -> bool {
        matches!(self.spending, Spending::Paid { forget_at } if forget_at <= now.millis)
    }
}

impl Row for Claimant {
    fn key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }
}

/// Milliseconds since the Unix epoch, rounded towards the future: nothing is forgotten early.
fn ceil_millis(instant: Timestamp) -> i64 {
    let millis = instant.unix_millis();
    match Timestamp::from_unix_millis(millis) {
        Some(floor) if floor < instant => millis.saturating_add(1),
        _ => millis,
    }
}
