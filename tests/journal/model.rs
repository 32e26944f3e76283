//! A journal that is easy to see through: maps behind one lock. It is right with [`Bug::None`], and wrong
//! in one way with any other, for the tests of the suite.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tower_mpp::{
    method::Settlement,
    protocol::{ChallengeId, SpendKey, Timestamp},
    store::{
        Claim, Claimed, End, EntryState, JournalEntry, Lease, Page, Proof, RefundReason, Release, StoreError,
        StoreErrorKind, Take, Taken,
    },
};

use crate::bug::Bug;

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) claim: Claim,
    pub(crate) token: u64,
    pub(crate) given_up: bool,
    pub(crate) settlement: Option<Settlement>,
    pub(crate) refunding: Option<RefundReason>,
    pub(crate) end: Option<End>,
    /// Nobody may give the money back unasked.
    pub(crate) keep_money: bool,
    /// It was delivered before somebody asked for it.
    pub(crate) delivered: bool,
    pub(crate) put_off: Option<Timestamp>,
    pub(crate) attempts: u32,
}

impl Entry {
    fn at_work(&self, now: Timestamp) -> bool {
        !self.given_up && now < self.claim.lease_until
    }

    fn is_put_off(&self, now: Timestamp) -> bool {
        self.put_off.is_some_and(|until| now < until)
    }

    /// A step has brought it further.
    fn go_on(&mut self) {
        (self.put_off, self.attempts) = (None, 0);
    }

    fn shown(&self) -> JournalEntry {
        JournalEntry {
            id: self.claim.id,
            proof: self.claim.proof,
            state: match (self.end, self.refunding, self.settlement.clone()) {
                (Some(end), _, settlement) => EntryState::Spent { end, settlement },
                (None, Some(reason), Some(settlement)) => EntryState::Refunding { settlement, reason },
                (None, None, Some(settlement)) => EntryState::Settled { settlement, refundable: !self.keep_money },
                (None, _, None) => EntryState::Held,
            },
            lease_until: self.claim.lease_until,
            put_off: self.put_off,
            attempts: self.attempts,
            keep_until: self.claim.keep_until,
            record: Arc::clone(&self.claim.record),
        }
    }

    /// When it may be forgotten.
    pub(crate) fn forget_at(&self) -> Option<Timestamp> {
        self.end.map(|_| self.claim.keep_until.max(self.claim.lease_until))
    }
}

/// The maps.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) entries: BTreeMap<ChallengeId, Entry>,
    pub(crate) proofs: BTreeMap<SpendKey, ChallengeId>,
    pub(crate) tokens: u64,
    pub(crate) capacity: usize,
    pub(crate) bug: Bug,
}

impl Model {
    pub(crate) fn new(capacity: usize, bug: Bug) -> Self {
        Self { entries: BTreeMap::new(), proofs: BTreeMap::new(), tokens: 0, capacity, bug }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    /// Drops at most so many entries, and answers how many.
    fn forget_some(&mut self, now: Timestamp, limit: usize) -> usize {
        let early = Duration::from_millis(if self.has(Bug::SpentExpiresEarly) { 1 } else { 0 });
        let limit = if self.has(Bug::ForgetsWithoutLimit) { usize::MAX } else { limit };
        let gone: Vec<_> = self
            .entries
            .values()
            .filter(|entry| match entry.forget_at() {
                Some(_) if self.has(Bug::ForgetsBeforeTheLeaseEnds) => entry.claim.keep_until <= now,
                None if self.has(Bug::RefundingExpires) && entry.refunding.is_some() => entry.claim.keep_until <= now,
                Some(_) if self.has(Bug::SpentExpiresWithTheLease) => entry.claim.lease_until <= now,
                Some(at) => at <= now.saturating_add(early),
                None => self.has(Bug::OpenExpires) && entry.claim.keep_until <= now,
            })
            .map(|entry| entry.claim.id)
            .take(limit)
            .collect();
        for id in &gone {
            self.remove(*id);
        }
        gone.len()
    }

    fn forget(&mut self, now: Timestamp) {
        if !self.has(Bug::ForgetsNothingEver) {
            self.forget_some(now, usize::MAX);
        }
    }

    /// What `forget` does when it is asked for.
    pub(crate) fn forget_asked(&mut self, now: Timestamp, limit: usize) -> usize {
        match self.bug {
            Bug::ForgetsNothingEver => 0,
            Bug::ForgetsEarly => self.forget_some(now.saturating_add(Duration::from_millis(1)), limit),
            Bug::ForgetsOpen => {
                self.entries.retain(|_, entry| entry.end.is_some() || now < entry.claim.keep_until);
                self.forget_some(now, limit)
            }
            Bug::ForgetKeepsProofs => {
                let proofs = self.proofs.clone();
                let gone = self.forget_some(now, limit);
                self.proofs = proofs;
                gone
            }
            _ => self.forget_some(now, limit),
        }
    }

    fn remove(&mut self, id: ChallengeId) {
        if let Some(entry) = self.entries.remove(&id)
            && let Some(key) = self.claimed_key(entry.claim.proof)
            && self.proofs.get(&key) == Some(&id)
        {
            self.proofs.remove(&key);
        }
    }

    /// Under what a proof is claimed beside the id.
    fn claimed_key(&self, proof: Proof) -> Option<SpendKey> {
        match proof {
            Proof::Bound(key) => self.has(Bug::BoundIsGlobal).then_some(key),
            Proof::Exclusive(key) if self.has(Bug::ProofsCutShort) => {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&key.as_bytes()[..8]);
                Some(SpendKey::from_bytes(bytes))
            }
            Proof::Exclusive(key) => Some(key),
        }
    }

    pub(crate) fn claim(&mut self, claim: Claim) -> Result<Claimed, StoreError> {
        self.forget(claim.now);
        if let Some(entry) = self.entries.get_mut(&claim.id) {
            let same_proof = entry.claim.proof == claim.proof || self.bug == Bug::TakeoverByAnyProof;
            let at_work = !entry.given_up
                && match self.bug {
                    Bug::LeaseEndsLate => claim.now <= entry.claim.lease_until,
                    Bug::LeaseEndsEarly => claim.now.saturating_add(Duration::from_millis(1)) < entry.claim.lease_until,
                    _ => claim.now < entry.claim.lease_until,
                };
            match (&entry.settlement, entry.end) {
                (_, Some(end)) if same_proof => return Ok(Claimed::Spent(end)),
                (Some(_), _) if !same_proof && self.bug == Bug::SettledCountsAsHeld => return Ok(Claimed::Busy),
                (Some(_), _) if !same_proof => return Ok(Claimed::OtherProof),
                _ if !same_proof => return Ok(Claimed::Busy),
                _ if entry.refunding.is_some() && self.bug != Bug::RefundingIsDelivered => {
                    return Ok(Claimed::Refunding);
                }
                _ if at_work => return Ok(Claimed::Busy),
                _ if self.bug == Bug::PutOffStopsClaims && entry.is_put_off(claim.now) => return Ok(Claimed::Busy),
                _ => {}
            }
            if self.bug != Bug::PutOffSurvivesClaims {
                entry.go_on();
            }
            if self.bug == Bug::NotRefundableSticksUntilClaimed {
                entry.keep_money = false;
            }
            self.tokens += 1;
            let lease = Lease { id: claim.id, token: self.tokens };
            entry.token = self.tokens;
            entry.given_up = false;
            entry.claim.lease_until = claim.lease_until;
            if self.bug == Bug::TakeoverShortensMemory {
                entry.claim.keep_until = claim.keep_until;
            }
            entry.claim.keep_until = entry.claim.keep_until.max(claim.keep_until);
            if self.bug == Bug::TakeoverReplacesRecord {
                entry.claim.record = claim.record;
            }
            return Ok(match entry.settlement.clone() {
                Some(settlement) => Claimed::Settled { lease, settlement },
                None => Claimed::Won { lease, resumed: self.bug != Bug::NeverResumed },
            });
        }
        let key = self.claimed_key(claim.proof);
        if let Some(owner) = key.and_then(|key| self.proofs.get(&key)) {
            let paid = self.entries.get(owner).is_none_or(|owner| owner.settlement.is_some());
            return Ok(if paid { Claimed::OtherProof } else { Claimed::Busy });
        }
        if self.has(Bug::IdsAndProofsShareASpace)
            && self.proofs.contains_key(&SpendKey::from_bytes(*claim.id.as_bytes()))
        {
            return Ok(Claimed::Busy);
        }
        if self.entries.len() >= self.capacity {
            if !self.has(Bug::EvictsOldest) {
                return Err(StoreErrorKind::Full.into());
            }
            if let Some(oldest) = self.entries.values().min_by_key(|entry| entry.token).map(|entry| entry.claim.id) {
                self.remove(oldest);
            }
        }
        self.tokens += 1;
        let token = if self.has(Bug::TokensStartAgain) { 1 } else { self.tokens };
        let lease = Lease { id: claim.id, token };
        if let Some(key) = key {
            self.proofs.insert(key, claim.id);
        }
        let mut claim = claim;
        if self.has(Bug::RecordCutShort) {
            claim.record = claim.record.iter().copied().take_while(|byte| *byte != 0).collect();
        }
        let entry = Entry {
            claim,
            token,
            given_up: false,
            settlement: None,
            refunding: None,
            end: None,
            keep_money: false,
            delivered: false,
            put_off: None,
            attempts: 0,
        };
        self.entries.insert(lease.id, entry);
        Ok(Claimed::Won { lease, resumed: false })
    }

    fn fenced(&mut self, lease: Lease, unfenced: Bug) -> Result<&mut Entry, StoreError> {
        let (bug, tokens) = (self.bug, self.tokens);
        let entry = self.entries.get_mut(&lease.id).ok_or(StoreErrorKind::LeaseLost)?;
        let present = entry.token == lease.token && (!entry.given_up || bug == Bug::GivenUpLeaseIsGood);
        let unfenced = bug == unfenced && lease.token <= tokens;
        if present || unfenced { Ok(entry) } else { Err(StoreErrorKind::LeaseLost.into()) }
    }

    pub(crate) fn renew(&mut self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        let nothing = self.has(Bug::RenewDoesNothing);
        let entry = self.fenced(lease, Bug::RenewNotFenced)?;
        if entry.end.is_none() && !nothing {
            entry.claim.lease_until = until;
        }
        Ok(())
    }

    pub(crate) fn settle(&mut self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        let bug = self.bug;
        let entry = self.fenced(lease, Bug::SettleNotFenced)?;
        let proof = entry.claim.proof;
        match &entry.settlement {
            _ if entry.end.is_some() || entry.refunding.is_some() => return Err(StoreErrorKind::Conflict.into()),
            Some(known) if known != settlement && bug != Bug::SettleOverwrites => {
                return Err(StoreErrorKind::Conflict.into());
            }
            _ => {}
        }
        let mut settlement = settlement.clone();
        if bug == Bug::PayerLost {
            settlement.payer = None;
        }
        if entry.settlement.is_none() && bug != Bug::PutOffSurvivesSteps {
            entry.go_on();
        }
        entry.settlement = Some(settlement);
        if bug == Bug::ProofForgottenOnSettle {
            self.proofs.remove(&proof.key());
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self, lease: Lease, end: End) -> Result<(), StoreError> {
        let bug = self.bug;
        let entry = self.fenced(lease, Bug::CommitNotFenced)?;
        let proof = entry.claim.proof;
        let fits = match (&entry.settlement, entry.end, end) {
            (_, Some(known), end) => known == end || bug == Bug::CommitOverwrites,
            (None, None, _) => bug == Bug::CommitWithoutSettlement,
            (Some(_), None, End::Delivered) => entry.refunding.is_none() || bug == Bug::RefundingCommitsDelivered,
            (Some(_), None, End::Refunded) => entry.refunding.is_some() || bug == Bug::RefundedWithoutRefund,
        };
        if !fits {
            return Err(StoreErrorKind::Conflict.into());
        }
        if entry.end.is_none() {
            entry.go_on();
        }
        entry.end = Some(end);
        if bug == Bug::ProofForgottenOnCommit {
            self.proofs.remove(&proof.key());
        }
        Ok(())
    }

    pub(crate) fn refund(&mut self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        let bug = self.bug;
        let entry = self.fenced(lease, Bug::RefundNotFenced)?;
        let proof = entry.claim.proof;
        match (entry.refunding, entry.end) {
            (None, Some(End::Delivered)) if !entry.delivered && bug != Bug::RefundsDelivered => {
                return Err(StoreErrorKind::Conflict.into());
            }
            (None, None | Some(End::Delivered)) if entry.settlement.is_some() => {
                entry.end = None;
                entry.refunding = Some(reason);
                if bug != Bug::PutOffSurvivesSteps {
                    entry.go_on();
                }
            }
            (Some(known), None) if known == reason && bug != Bug::RefundNotRepeatable => {}
            (Some(_), None) if bug == Bug::RefundOverwritesReason => entry.refunding = Some(reason),
            _ => return Err(StoreErrorKind::Conflict.into()),
        }
        if bug == Bug::RefundFreesTheProof {
            self.proofs.remove(&proof.key());
        }
        Ok(())
    }

    pub(crate) fn release(&mut self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        let bug = self.bug;
        let entry = self.fenced(lease, Bug::ReleaseNotFenced)?;
        match (reason, entry.settlement.is_some(), entry.end) {
            (Release::NotRefundable, true, None)
                if entry.refunding.is_some() && bug == Bug::RefusedRefundStaysRefunding =>
            {
                entry.given_up = true;
            }
            (Release::NotRefundable, true, None) => {
                if entry.refunding.take().is_some() && entry.delivered && bug != Bug::AskedForDeliveredTwice {
                    entry.end = Some(End::Delivered);
                } else {
                    entry.keep_money = true;
                }
                entry.given_up = bug != Bug::NotRefundableKeepsTheLease;
            }
            (Release::Undelivered, true, None) if bug == Bug::RefundingTakenBack => {
                entry.refunding = None;
                entry.given_up = true;
            }
            _ if entry.refunding.is_some() => return Err(StoreErrorKind::Conflict.into()),
            (Release::NotCharged, false, None) if bug == Bug::NotChargedKeepsTheProof => {
                self.entries.remove(&lease.id);
            }
            (Release::NotCharged, false, None) => self.remove(lease.id),
            (Release::Unknown, false, None) if bug == Bug::UnknownFrees => self.remove(lease.id),
            (Release::Unknown, false, None) => entry.given_up = true,
            (Release::Undelivered, true, None) if bug == Bug::UndeliveredFrees => self.remove(lease.id),
            (Release::Undelivered, true, None) => entry.given_up = true,
            (Release::Undelivered, true, Some(End::Delivered)) if !entry.delivered || bug == Bug::AskedForTakenBack => {
                if bug == Bug::NoTakeBack {
                    return Err(StoreErrorKind::Conflict.into());
                }
                if bug == Bug::TakeBackLosesSettlement {
                    entry.settlement = Some(Settlement::new("", entry.claim.now));
                }
                entry.end = None;
                entry.given_up = true;
            }
            _ => return Err(StoreErrorKind::Conflict.into()),
        }
        if let Some(entry) = self.entries.get_mut(&lease.id).filter(|_| bug != Bug::PutOffSurvivesSteps) {
            entry.go_on();
        }
        Ok(())
    }

    pub(crate) fn put_off(&mut self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        let bug = self.bug;
        let entry = self.fenced(lease, Bug::PutOffNotFenced)?;
        entry.given_up = bug != Bug::PutOffKeepsTheLease;
        entry.put_off = Some(until);
        entry.attempts += u32::from(bug != Bug::PutOffNotCounted);
        Ok(())
    }

    pub(crate) fn take(&mut self, take: Take) -> Taken {
        let bug = self.bug;
        self.forget(take.now);
        let Some(entry) = self.entries.get_mut(&take.id) else {
            if bug == Bug::TakeMakesEntry {
                let proof = Proof::Bound(SpendKey::from_bytes(*take.id.as_bytes()));
                let (id, now, lease_until, keep_until) = (take.id, take.now, take.now, take.lease_until);
                drop(self.claim(Claim { id, proof, now, lease_until, keep_until, record: Arc::from([]) }));
            }
            return Taken::Absent;
        };
        match entry.end {
            Some(End::Delivered) if take.asked_for || bug == Bug::TakeTakesSpent => {}
            Some(end) => return Taken::Spent(end),
            None => {}
        }
        let waits = match bug {
            Bug::TakeIgnoresPutOff => false,
            Bug::TakeMindsPutOffWhenAsked => entry.is_put_off(take.now),
            _ => entry.is_put_off(take.now) && !take.asked_for,
        };
        if entry.at_work(take.now) && bug != Bug::TakeTakesAtWork || waits {
            return Taken::Busy;
        }
        let before = entry.shown();
        entry.delivered |= entry.end.is_some();
        self.tokens += u64::from(bug != Bug::TakeKeepsTheToken);
        entry.token = if bug == Bug::TakeKeepsTheToken { entry.token } else { self.tokens };
        entry.given_up = false;
        entry.claim.lease_until = take.lease_until;
        match bug {
            Bug::TakeShortensMemory => entry.claim.keep_until = take.lease_until,
            Bug::TakeForgetsTheRecord => entry.claim.record = Arc::from([]),
            Bug::TakeStepsOutOfRefunding => entry.refunding = None,
            _ => {}
        }
        let shown = if bug == Bug::TakeAnswersTheOldEntry { before } else { entry.shown() };
        Taken::Won { lease: Lease { id: take.id, token: entry.token }, entry: shown }
    }

    pub(crate) fn find(&self, id: ChallengeId) -> Option<JournalEntry> {
        let hidden = |entry: &&Entry| match self.bug {
            Bug::FindHidesSpent => entry.end.is_some(),
            Bug::FindHidesAtWork => !entry.given_up && entry.end.is_none() && entry.refunding.is_none(),
            _ => false,
        };
        self.entries.get(&id).filter(|entry| !hidden(entry)).map(Entry::shown)
    }

    pub(crate) fn unfinished(&self, page: Page) -> Vec<JournalEntry> {
        let from = |id: ChallengeId| match page.after {
            Some(after) if self.has(Bug::ListsFromAfter) => id >= after,
            Some(after) => id > after,
            None => true,
        };
        let early_limit = if self.has(Bug::ListLimitBeforeFilter) { page.limit } else { usize::MAX };
        let due_limit = if self.has(Bug::DueLimitBeforeFilter) { page.limit } else { usize::MAX };
        let due = match self.bug {
            Bug::PutOffIsListedAsDue => false,
            Bug::PutOffIsNeverListed => true,
            _ => page.due,
        };
        let mut entries: Vec<_> = self
            .entries
            .values()
            .filter(|entry| from(entry.claim.id))
            .take(early_limit)
            .filter(|entry| self.has(Bug::ListsAtWork) || !entry.at_work(page.now))
            .filter(|entry| self.has(Bug::ListsSpent) || entry.end.is_none())
            .take(due_limit)
            .filter(|entry| !due || !entry.is_put_off(page.now))
            .collect();
        if self.has(Bug::ListsOutOfOrder) {
            entries.sort_by_key(|entry| entry.token);
        }
        entries.into_iter().take(page.limit).map(Entry::shown).collect()
    }
}
