//! What one row says about a challenge, and about a proof.

use std::sync::Arc;

use super::table::{Fate, Millis, Row};
use crate::{
    protocol::{ChallengeId, Settlement, SpendKey, Timestamp},
    store::{Claim, End, EntryState, JournalEntry, Lease, Proof, RefundReason},
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
    Refunding(RefundReason),
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
    /// Nobody may give the money back unasked.
    pub(super) keep_money: bool,
    pub(super) put_off: Option<Timestamp>,
    pub(super) attempts: u32,
    /// It was delivered, and somebody has asked for it since: it is never delivered again.
    pub(super) delivered: bool,
}

impl Open {
    /// Somebody new is at work until `until`.
    pub(super) fn lend(&mut self, until: Timestamp) {
        self.lease_until = until;
        self.given_up = false;
    }

    /// A step has brought it further: it is no longer put off.
    pub(super) fn go_on(&mut self) {
        self.put_off = None;
        self.attempts = 0;
    }

    pub(super) fn is_put_off(&self, now: Timestamp) -> bool {
        self.put_off.is_some_and(|until| now < until)
    }

    pub(super) fn is_at_work(&self, now: Timestamp) -> bool {
        !self.given_up && now < self.lease_until
    }

    /// When the entry may be forgotten if it has ended: not while its end can be taken back.
    fn forget_at(&self) -> Millis {
        self.keep_until.max(self.lease_until).unix_millis_ceil()
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
                keep_money: false,
                put_off: None,
                attempts: 0,
                delivered: false,
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
            open.go_on();
        }
    }

    /// When the entry may be forgotten in a phase, if its row is due at `due`.
    pub(super) fn forget_at(&self, phase: Phase, due: Millis) -> Millis {
        match (phase, &self.open) {
            (Phase::Spent(_), Some(open)) => open.forget_at(),
            (Phase::Spent(_), None) => due,
            (Phase::Held | Phase::Settled | Phase::Refunding(_), _) => NEVER,
        }
    }

    /// Goes on to a phase. Answers when the row is due now.
    pub(super) fn enter(&mut self, phase: Phase) -> Millis {
        self.phase = phase;
        if let Some(open) = &mut self.open {
            open.go_on();
        }
        self.due()
    }

    /// When its row is due.
    pub(super) fn due(&self) -> Millis {
        match &self.open {
            Some(open) if !self.is_open() => open.lease_until.unix_millis_ceil(),
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

    /// Whether it is open and nobody is at work on it; with `due`, nor has put it off.
    pub(super) fn is_unfinished(&self, now: Timestamp, due: bool) -> bool {
        let idle = |open: &Open| !(open.is_at_work(now) || due && open.is_put_off(now));
        self.is_open() && self.open.as_deref().is_some_and(idle)
    }

    /// Gives the entry to somebody else.
    pub(super) fn lend(&mut self, lease: Lease, until: Timestamp) {
        self.token = lease.token;
        if let Some(open) = &mut self.open {
            open.lend(until);
        }
    }

    /// The entry as others see it. An ended one whose settlement was dropped is not shown.
    pub(super) fn shown(&self) -> Option<JournalEntry> {
        let open = self.open.as_deref()?;
        let settlement = open.settlement.clone();
        Some(JournalEntry {
            id: self.id,
            proof: self.proof,
            state: match (self.phase, settlement) {
                (Phase::Spent(end), settlement) => EntryState::Spent { end, settlement },
                (Phase::Refunding(reason), Some(settlement)) => EntryState::Refunding { settlement, reason },
                (Phase::Settled, Some(settlement)) => EntryState::Settled { settlement, refundable: !open.keep_money },
                (Phase::Held | Phase::Settled | Phase::Refunding(_), _) => EntryState::Held,
            },
            lease_until: open.lease_until,
            put_off: open.put_off,
            attempts: open.attempts,
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
