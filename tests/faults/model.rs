//! The state diagram of the journal, as a machine of its own: it is told every call that was executed and what
//! was answered, and says whether the contract allows that answer.

use std::collections::HashMap;

use tower_mpp::{
    method::Settlement,
    protocol::{ChallengeId, SpendKey, Timestamp},
    store::{
        Claim, Claimed, End, JournalEntry, Lease, Page, Proof, RefundReason, Release, StoreError, StoreErrorKind, Take,
        Taken,
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Held,
    Settled,
    Refunding(RefundReason),
    Spent(End),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) phase: Phase,
    pub(crate) token: u64,
    pub(crate) lease_until: Timestamp,
    proof: Proof,
    given_up: bool,
    keep_until: Timestamp,
    put_off: Option<Timestamp>,
    settlement: Option<Settlement>,
    /// Delivered before somebody asked for it.
    delivered: bool,
    /// Nobody may give the money back unasked.
    keep_money: bool,
}

impl Entry {
    fn is_at_work(&self, now: Timestamp) -> bool {
        !self.given_up && now < self.lease_until
    }

    fn is_spent(&self) -> bool {
        matches!(self.phase, Phase::Spent(_))
    }

    /// It may have been forgotten.
    pub(crate) fn is_forgettable(&self, now: Timestamp) -> bool {
        self.is_spent() && now >= self.keep_until.max(self.lease_until)
    }
}

/// What the diagram makes of a step with a lease.
enum Step {
    /// It is taken, and the entry becomes this; `None` is absent.
    To(Option<Entry>),
    Fails(StoreErrorKind),
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) entries: HashMap<ChallengeId, Entry>,
    proofs: HashMap<SpendKey, ChallengeId>,
    /// The greatest token of every id, also of absent ones.
    tokens: HashMap<ChallengeId, u64>,
    /// The latest instant that the journal was told.
    told: Option<Timestamp>,
}

type Verdict = Result<(), String>;

fn kind<T>(answer: &Result<T, StoreError>) -> Result<(), StoreErrorKind> {
    answer.as_ref().map(drop).map_err(StoreError::kind)
}

impl Model {
    pub(crate) fn is_told(&mut self, now: Timestamp) -> Timestamp {
        let told = self.told.map_or(now, |told| told.max(now));
        self.told = Some(told);
        told
    }

    fn given_out(&mut self, lease: Lease, id: ChallengeId) -> Verdict {
        let known = self.tokens.insert(id, lease.token).unwrap_or(0);
        if lease.id == id && lease.token > known {
            return Ok(());
        }
        Err(format!("the token {} was given out after {known}", lease.token))
    }

    pub(crate) fn claim(&mut self, claim: &Claim, answer: &Result<Claimed, StoreError>) -> Verdict {
        let told = self.is_told(claim.now);
        let Ok(answer) = answer else { return Err(format!("a claim failed: {answer:?}")) };
        if let Some(entry) = self.entries.get(&claim.id)
            && entry.is_forgettable(told)
            && !matches!(answer, Claimed::Spent(_) | Claimed::OtherProof)
        {
            self.remove(claim.id);
        }
        let Some(entry) = self.entries.get(&claim.id) else { return self.claim_absent(claim, answer, told) };
        let same = entry.proof == claim.proof;
        let idle = !entry.is_at_work(claim.now);
        let lease = match (entry.phase, answer) {
            (Phase::Held, Claimed::Busy) if !same || !idle => return Ok(()),
            (Phase::Held, Claimed::Won { lease, resumed: true }) if same && idle => *lease,
            (Phase::Settled, Claimed::Busy) if same && !idle => return Ok(()),
            (Phase::Settled, Claimed::Settled { lease, settlement })
                if same && idle && Some(settlement) == entry.settlement.as_ref() =>
            {
                *lease
            }
            (Phase::Refunding(_), Claimed::Refunding) if same => return Ok(()),
            (Phase::Spent(end), Claimed::Spent(found)) if same && end == *found => return Ok(()),
            (Phase::Settled | Phase::Refunding(_) | Phase::Spent(_), Claimed::OtherProof) if !same => return Ok(()),
            _ => return Err(format!("{entry:?} answered {claim:?} with {answer:?}")),
        };
        self.given_out(lease, claim.id)?;
        if let Some(entry) = self.entries.get_mut(&claim.id) {
            (entry.token, entry.lease_until, entry.given_up) = (lease.token, claim.lease_until, false);
            entry.keep_until = entry.keep_until.max(claim.keep_until);
            entry.put_off = None;
        }
        Ok(())
    }

    fn claim_absent(&mut self, claim: &Claim, answer: &Claimed, told: Timestamp) -> Verdict {
        let key = match claim.proof {
            Proof::Exclusive(key) => Some(key),
            Proof::Bound(_) => None,
        };
        let owner = key.and_then(|key| self.proofs.get(&key)).and_then(|id| self.entries.get(id));
        let lease = match (owner.map(|owner| owner.phase), answer) {
            (Some(Phase::Held), Claimed::Busy) => return Ok(()),
            (Some(Phase::Settled | Phase::Refunding(_) | Phase::Spent(_)), Claimed::OtherProof) => return Ok(()),
            (None, Claimed::Won { lease, resumed: false }) => *lease,
            (Some(_), Claimed::Won { lease, resumed: false }) if owner.is_some_and(|o| o.is_forgettable(told)) => {
                *lease
            }
            (owner, _) => return Err(format!("an absent id, its proof {owner:?}, answered {answer:?}")),
        };
        self.given_out(lease, claim.id)?;
        if let Some(key) = key {
            self.proofs.insert(key, claim.id);
        }
        let entry = Entry {
            phase: Phase::Held,
            token: lease.token,
            lease_until: claim.lease_until,
            proof: claim.proof,
            given_up: false,
            keep_until: claim.keep_until,
            put_off: None,
            settlement: None,
            delivered: false,
            keep_money: false,
        };
        self.entries.insert(claim.id, entry);
        Ok(())
    }

    fn remove(&mut self, id: ChallengeId) {
        if let Some(entry) = self.entries.remove(&id)
            && let Proof::Exclusive(key) = entry.proof
            && self.proofs.get(&key) == Some(&id)
        {
            self.proofs.remove(&key);
        }
    }

    /// A step with a lease. `next` says what becomes of an entry that the lease is good for.
    fn step(
        &mut self,
        lease: Lease,
        now: Timestamp,
        answer: &Result<(), StoreError>,
        next: impl FnOnce(Entry) -> Step,
    ) -> Verdict {
        let told = self.is_told(now);
        let answer = kind(answer);
        let entry = self.entries.get(&lease.id).filter(|entry| entry.token == lease.token && !entry.given_up);
        let Some(entry) = entry.cloned() else {
            return match answer {
                Err(StoreErrorKind::LeaseLost) => Ok(()),
                _ => Err(format!("the lost lease {lease:?} was answered {answer:?}")),
            };
        };
        // Once it has ended and its lease is over, what only its holder needs may be gone.
        let over = entry.is_spent() && told >= entry.lease_until;
        if over && answer == Err(StoreErrorKind::LeaseLost) {
            return Ok(());
        }
        let before = format!("{entry:?}");
        match (next(entry), answer) {
            (Step::To(Some(entry)), Ok(())) => drop(self.entries.insert(lease.id, entry)),
            (Step::To(None), Ok(())) => self.remove(lease.id),
            (Step::Fails(expected), Err(found)) if expected == found => {}
            (Step::To(_), _) => return Err(format!("a step that {before} allows was answered {answer:?}")),
            (Step::Fails(_), _) => return Err(format!("a step that {before} does not allow was answered {answer:?}")),
        }
        Ok(())
    }

    pub(crate) fn renew(
        &mut self,
        lease: Lease,
        until: Timestamp,
        now: Timestamp,
        answer: &Result<(), StoreError>,
    ) -> Verdict {
        self.step(lease, now, answer, |entry| {
            let lease_until = if entry.is_spent() { entry.lease_until } else { until };
            Step::To(Some(Entry { lease_until, ..entry }))
        })
    }

    pub(crate) fn settle(
        &mut self,
        lease: Lease,
        settlement: &Settlement,
        now: Timestamp,
        answer: &Result<(), StoreError>,
    ) -> Verdict {
        self.step(lease, now, answer, |entry| match entry.phase {
            Phase::Held => {
                let settlement = Some(settlement.clone());
                Step::To(Some(Entry { phase: Phase::Settled, settlement, put_off: None, ..entry }))
            }
            Phase::Settled if entry.settlement.as_ref() == Some(settlement) => Step::To(Some(entry)),
            Phase::Settled | Phase::Refunding(_) | Phase::Spent(_) => Step::Fails(StoreErrorKind::Conflict),
        })
    }

    pub(crate) fn refund(
        &mut self,
        lease: Lease,
        reason: RefundReason,
        now: Timestamp,
        answer: &Result<(), StoreError>,
    ) -> Verdict {
        self.step(lease, now, answer, |entry| {
            let phase = Phase::Refunding(reason);
            match entry.phase {
                Phase::Settled => Step::To(Some(Entry { phase, put_off: None, ..entry })),
                Phase::Spent(End::Delivered) if entry.delivered => {
                    Step::To(Some(Entry { phase, put_off: None, ..entry }))
                }
                Phase::Refunding(known) if known == reason => Step::To(Some(entry)),
                Phase::Held | Phase::Refunding(_) | Phase::Spent(_) => Step::Fails(StoreErrorKind::Conflict),
            }
        })
    }

    pub(crate) fn commit(
        &mut self,
        lease: Lease,
        end: End,
        now: Timestamp,
        answer: &Result<(), StoreError>,
    ) -> Verdict {
        self.step(lease, now, answer, |entry| match (entry.phase, end) {
            (Phase::Settled, End::Delivered) | (Phase::Refunding(_), End::Refunded) => {
                Step::To(Some(Entry { phase: Phase::Spent(end), put_off: None, ..entry }))
            }
            (Phase::Spent(known), _) if known == end => Step::To(Some(entry)),
            _ => Step::Fails(StoreErrorKind::Conflict),
        })
    }

    pub(crate) fn release(
        &mut self,
        lease: Lease,
        reason: Release,
        now: Timestamp,
        answer: &Result<(), StoreError>,
    ) -> Verdict {
        self.step(lease, now, answer, |entry| {
            let given_up = Entry { given_up: true, put_off: None, ..entry.clone() };
            match (entry.phase, reason) {
                (Phase::Held, Release::NotCharged) => Step::To(None),
                (Phase::Held, Release::Unknown) | (Phase::Settled, Release::Undelivered) => Step::To(Some(given_up)),
                (Phase::Settled, Release::NotRefundable) => Step::To(Some(Entry { keep_money: true, ..given_up })),
                (Phase::Spent(End::Delivered), Release::Undelivered) if !entry.delivered => {
                    Step::To(Some(Entry { phase: Phase::Settled, ..given_up }))
                }
                (Phase::Refunding(_), Release::NotRefundable) => {
                    let phase = if entry.delivered { Phase::Spent(End::Delivered) } else { Phase::Settled };
                    Step::To(Some(Entry { phase, keep_money: !entry.delivered, ..given_up }))
                }
                _ => Step::Fails(StoreErrorKind::Conflict),
            }
        })
    }

    pub(crate) fn put_off(
        &mut self,
        lease: Lease,
        until: Timestamp,
        now: Timestamp,
        answer: &Result<(), StoreError>,
    ) -> Verdict {
        self.step(lease, now, answer, |entry| Step::To(Some(Entry { given_up: true, put_off: Some(until), ..entry })))
    }

    pub(crate) fn take(&mut self, take: Take, answer: &Result<Taken, StoreError>) -> Verdict {
        let told = self.is_told(take.now);
        let Ok(answer) = answer else { return Err(format!("a take failed: {answer:?}")) };
        let Some(entry) = self.entries.get_mut(&take.id) else {
            return match answer {
                Taken::Absent => Ok(()),
                _ => Err(format!("an absent entry was answered {answer:?}")),
            };
        };
        let busy = entry.is_at_work(take.now) || !take.asked_for && entry.put_off.is_some_and(|until| take.now < until);
        let lease = match (entry.phase, answer) {
            (_, Taken::Absent) if entry.is_forgettable(told) => return Ok(()),
            (Phase::Spent(End::Delivered), Taken::Busy) if take.asked_for && busy => return Ok(()),
            (Phase::Spent(End::Delivered), Taken::Won { lease, .. }) if take.asked_for && !busy => *lease,
            (Phase::Spent(End::Delivered), Taken::Spent(End::Delivered))
                if !take.asked_for || told >= entry.lease_until =>
            {
                return Ok(());
            }
            (Phase::Spent(End::Refunded), Taken::Spent(End::Refunded)) => return Ok(()),
            (Phase::Held | Phase::Settled | Phase::Refunding(_), Taken::Busy) if busy => return Ok(()),
            (Phase::Held | Phase::Settled | Phase::Refunding(_), Taken::Won { lease, .. }) if !busy => *lease,
            _ => return Err(format!("{entry:?} answered {take:?} with {answer:?}")),
        };
        entry.delivered |= entry.is_spent();
        (entry.token, entry.lease_until, entry.given_up) = (lease.token, take.lease_until, false);
        self.given_out(lease, take.id)
    }

    pub(crate) fn find(&self, id: ChallengeId, found: Option<&JournalEntry>) -> Verdict {
        let known = self.entries.get(&id);
        match (known, found) {
            (None, None) => Ok(()),
            (Some(entry), None) if self.told.is_some_and(|told| entry.is_forgettable(told)) => Ok(()),
            (Some(entry), Some(found)) if shows(entry, found) => Ok(()),
            _ => Err(format!("{known:?} was found as {found:?}")),
        }
    }

    pub(crate) fn unfinished(&self, page: Page, listed: &[JournalEntry]) -> Verdict {
        let mut expected: Vec<_> = self
            .entries
            .iter()
            .filter(|(id, entry)| !entry.is_spent() && page.after.is_none_or(|after| **id > after))
            .filter(|(_, entry)| !entry.is_at_work(page.now))
            .filter(|(_, entry)| !page.due || entry.put_off.is_none_or(|until| until <= page.now))
            .collect();
        expected.sort_by_key(|(id, _)| **id);
        expected.truncate(page.limit);
        let same = expected.len() == listed.len()
            && expected.iter().zip(listed).all(|((id, entry), found)| **id == found.id && shows(entry, found));
        if same { Ok(()) } else { Err(format!("{expected:?} was listed as {listed:?}")) }
    }
}

/// Whether an entry is shown as it is.
fn shows(entry: &Entry, found: &JournalEntry) -> bool {
    use tower_mpp::store::EntryState::{Held, Refunding, Settled, Spent};
    let same_money = found.settlement() == entry.settlement.as_ref();
    let same_state = match (&found.state, entry.phase) {
        (Held, Phase::Held) => true,
        (Settled { refundable, .. }, Phase::Settled) => same_money && *refundable != entry.keep_money,
        (Refunding { reason, .. }, Phase::Refunding(known)) => same_money && *reason == known,
        (Spent { end, settlement }, Phase::Spent(known)) => *end == known && (settlement.is_none() || same_money),
        _ => false,
    };
    same_state && found.proof == entry.proof
}
