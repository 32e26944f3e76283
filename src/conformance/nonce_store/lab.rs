//! What the laws are written with: a store, instants, keys, and steps that say what they expect.

use std::{sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};

use crate::{
    method::Settlement,
    protocol::{ChallengeId, SpendKey, Timestamp},
    store::{
        Claim, Claimed, End, EntryState, JournalEntry, Lease, NonceStore, Page, Proof, RefundReason, Release,
        StoreError, StoreErrorKind, Take, Taken,
    },
};

/// What was found, where it is not what the law says.
pub(super) type Checked<T = ()> = Result<T, String>;

/// How long a lease is, in milliseconds.
pub(super) const LEASE: u64 = 30_000;
/// How long an entry is kept, in milliseconds.
pub(super) const KEEP: u64 = 300_000;
/// Ten years, in milliseconds: later than anything.
pub(super) const MUCH_LATER: u64 = 315_360_000_000;

/// A fresh store and the instant at which its law begins.
pub(super) struct Lab {
    pub(super) store: Arc<dyn NonceStore>,
    start: Timestamp,
}

/// The answer to a claim, as far as laws compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Won,
    Resumed,
    Settled,
    Busy,
    Spent(End),
    OtherProof,
    Refunding,
    Failed(StoreErrorKind),
}

/// The answer to a claim.
pub(super) struct Answered {
    pub(super) answer: Answer,
    pub(super) lease: Option<Lease>,
    pub(super) settlement: Option<Settlement>,
}

/// The answer to a take, as far as laws compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Took {
    Won,
    Busy,
    Spent(End),
    Absent,
    Failed(StoreErrorKind),
}

impl Took {
    pub(super) fn of(result: &Result<Taken, StoreError>) -> Self {
        match result {
            Ok(Taken::Won { .. }) => Self::Won,
            Ok(Taken::Busy) => Self::Busy,
            Ok(Taken::Spent(end)) => Self::Spent(*end),
            Ok(Taken::Absent) => Self::Absent,
            Err(error) => Self::Failed(error.kind()),
        }
    }
}

impl From<Result<Claimed, StoreError>> for Answered {
    fn from(result: Result<Claimed, StoreError>) -> Self {
        let (answer, lease, settlement) = match result {
            Ok(Claimed::Won { lease, resumed: false }) => (Answer::Won, Some(lease), None),
            Ok(Claimed::Won { lease, resumed: true }) => (Answer::Resumed, Some(lease), None),
            Ok(Claimed::Settled { lease, settlement }) => (Answer::Settled, Some(lease), Some(settlement)),
            Ok(Claimed::Busy) => (Answer::Busy, None, None),
            Ok(Claimed::Spent(end)) => (Answer::Spent(end), None, None),
            Ok(Claimed::OtherProof) => (Answer::OtherProof, None, None),
            Ok(Claimed::Refunding) => (Answer::Refunding, None, None),
            Err(error) => (Answer::Failed(error.kind()), None, None),
        };
        Self { answer, lease, settlement }
    }
}

impl Lab {
    pub(super) fn new(store: Arc<dyn NonceStore>, start: Timestamp) -> Self {
        // Whole milliseconds, so that a store may keep instants in them.
        let start = Timestamp::from_unix_millis(start.unix_millis()).unwrap_or(start);
        Self { store, start }
    }

    /// The instant `millis` after the beginning.
    pub(super) fn at(&self, millis: u64) -> Timestamp {
        self.start.saturating_add(Duration::from_millis(millis))
    }

    /// The claim number `n` at the beginning: an id and an exclusive proof of its own.
    pub(super) fn claim(&self, n: u64) -> Claim {
        self.claim_of(id(n), Proof::Exclusive(key(n)))
    }

    pub(super) fn claim_of(&self, id: ChallengeId, proof: Proof) -> Claim {
        Claim {
            id,
            proof,
            now: self.at(0),
            lease_until: self.at(LEASE),
            keep_until: self.at(KEEP),
            record: Arc::from(id.as_bytes().as_slice()),
        }
    }

    /// The claim number `n` at another instant, with a lease of the usual length.
    pub(super) fn claim_at(&self, n: u64, millis: u64) -> Claim {
        self.later(self.claim(n), millis)
    }

    pub(super) fn later(&self, claim: Claim, millis: u64) -> Claim {
        Claim {
            now: self.at(millis),
            lease_until: self.at(millis + LEASE),
            keep_until: self.at(millis + KEEP),
            ..claim
        }
    }

    /// A settlement that names its claim.
    pub(super) fn settlement(&self, n: u64) -> Settlement {
        Settlement::new(format!("settlement-{n}"), self.at(1))
    }

    /// Claims, and checks the answer.
    pub(super) async fn expect(&self, what: &str, claim: Claim, expected: Answer) -> Checked<Answered> {
        let id = claim.id;
        let answered = Answered::from(self.store.claim(claim).await);
        if answered.answer != expected {
            return Err(format!("{what}: claimed, and answered {:?} instead of {expected:?}", answered.answer));
        }
        match answered.lease {
            Some(lease) if lease.id != id => Err(format!("{what}: the lease is for {} instead of {id}", lease.id)),
            _ => Ok(answered),
        }
    }

    /// Claims, checks the answer, and takes the lease.
    pub(super) async fn lease(&self, what: &str, claim: Claim, expected: Answer) -> Checked<Lease> {
        let answered = self.expect(what, claim, expected).await?;
        answered.lease.ok_or_else(|| format!("{what}: answered {expected:?}, without a lease"))
    }

    /// The claim number `n`, won at the beginning.
    pub(super) async fn held(&self, n: u64) -> Checked<Lease> {
        self.lease("a first claim", self.claim(n), Answer::Won).await
    }

    /// The claim number `n`, won and settled at the beginning.
    pub(super) async fn settled(&self, n: u64) -> Checked<Lease> {
        let lease = self.held(n).await?;
        self.settle("a held entry", lease, n, Ok(())).await?;
        Ok(lease)
    }

    /// The claim number `n`, won, settled and ended at the beginning.
    pub(super) async fn spent(&self, n: u64, end: End) -> Checked<Lease> {
        let lease = self.settled(n).await?;
        if end == End::Refunded {
            self.refund("a settled entry", lease, Ok(())).await?;
        }
        self.commit("a settled entry", lease, end, Ok(())).await?;
        Ok(lease)
    }

    /// The claim number `n`, won, settled and on its way back at the beginning.
    pub(super) async fn refunding(&self, n: u64) -> Checked<Lease> {
        let lease = self.settled(n).await?;
        self.refund("a settled entry", lease, Ok(())).await?;
        Ok(lease)
    }

    pub(super) async fn refund(&self, what: &str, lease: Lease, expected: Step) -> Checked {
        self.refund_for(what, lease, RefundReason::Undelivered, expected).await
    }

    pub(super) async fn refund_for(&self, what: &str, lease: Lease, reason: RefundReason, expected: Step) -> Checked {
        step(what, &format!("refund({reason})"), self.store.refund(lease, reason).await, expected)
    }

    pub(super) async fn put_off(&self, what: &str, lease: Lease, millis: u64, expected: Step) -> Checked {
        step(what, "put_off", self.store.put_off(lease, self.at(millis)).await, expected)
    }

    /// Takes entry `n` at an instant, with a lease of the usual length.
    pub(super) async fn try_take(&self, n: u64, millis: u64, asked_for: bool) -> Result<Taken, StoreError> {
        let lease_until = self.at(millis + LEASE);
        self.store.take(Take { id: id(n), now: self.at(millis), lease_until, asked_for }).await
    }

    /// Takes entry `n`, asked for or not, and checks that the answer is not the entry.
    pub(super) async fn not_taken(&self, what: &str, n: u64, millis: u64, asked_for: bool, expected: Took) -> Checked {
        match Took::of(&self.try_take(n, millis, asked_for).await) {
            found if found == expected => Ok(()),
            found => {
                Err(format!("{what}: taken ({}), and answered {found:?} instead of {expected:?}", asked(asked_for)))
            }
        }
    }

    /// Takes entry `n` over, and checks what comes with it.
    pub(super) async fn take(
        &self,
        what: &str,
        n: u64,
        millis: u64,
        asked_for: bool,
    ) -> Checked<(Lease, JournalEntry)> {
        let taken = self.try_take(n, millis, asked_for).await;
        let Ok(Taken::Won { lease, entry }) = taken else {
            let found = Took::of(&taken);
            return Err(format!("{what}: taken ({}), and answered {found:?} instead of Won", asked(asked_for)));
        };
        if lease.id != id(n) {
            return Err(format!("{what}: taken, and the lease is for {} instead of {}", lease.id, id(n)));
        }
        if entry.lease_until != self.at(millis + LEASE) {
            return Err(format!("{what}: taken, and the entry is not shown with the new lease"));
        }
        let found = self.found(what, n).await?;
        same_entry(&found, &entry)
            .map_err(|differs| format!("{what}: what was taken and found differ in the {differs}"))?;
        Ok((lease, entry))
    }

    pub(super) async fn find(&self, id: ChallengeId) -> Checked<Option<JournalEntry>> {
        self.store.find(id).await.map_err(|error| format!("`find` failed: {error}"))
    }

    /// The entry number `n`, whatever its state.
    pub(super) async fn found(&self, what: &str, n: u64) -> Checked<JournalEntry> {
        let found = self.find(id(n)).await?.ok_or_else(|| format!("{what}: the entry is not found"))?;
        if found.id == id(n) { Ok(found) } else { Err(format!("{what}: the entry of {} is found instead", found.id)) }
    }

    /// Checks that entry `n` has ended so, and that what is found of it is true.
    pub(super) async fn found_spent(&self, what: &str, n: u64, end: End) -> Checked {
        let found = self.found(what, n).await?;
        match &found.state {
            EntryState::Spent { end: known, settlement }
                if *known == end
                    && found.proof == self.claim(n).proof
                    && settlement.as_ref().is_none_or(|known| *known == self.settlement(n)) =>
            {
                Ok(())
            }
            _ => Err(format!("{what}: found as {found:?}")),
        }
    }

    pub(super) async fn forget(&self, millis: u64, limit: usize) -> Checked<usize> {
        self.store.forget(self.at(millis), limit).await.map_err(|error| format!("`forget` failed: {error}"))
    }

    pub(super) async fn renew(&self, what: &str, lease: Lease, millis: u64, expected: Step) -> Checked {
        step(what, "renew", self.store.renew(lease, self.at(millis)).await, expected)
    }

    /// Settles with the settlement number `n`.
    pub(super) async fn settle(&self, what: &str, lease: Lease, n: u64, expected: Step) -> Checked {
        step(what, "settle", self.store.settle(lease, &self.settlement(n)).await, expected)
    }

    pub(super) async fn commit(&self, what: &str, lease: Lease, end: End, expected: Step) -> Checked {
        step(what, "commit", self.store.commit(lease, end).await, expected)
    }

    pub(super) async fn release(&self, what: &str, lease: Lease, reason: Release, expected: Step) -> Checked {
        step(what, &format!("release({reason:?})"), self.store.release(lease, reason).await, expected)
    }

    pub(super) async fn unfinished(&self, page: Page) -> Checked<Vec<JournalEntry>> {
        self.store.unfinished(page).await.map_err(|error| format!("`unfinished` failed: {error}"))
    }

    /// Everything that is open, whoever is at work on it.
    pub(super) async fn open(&self) -> Checked<Vec<JournalEntry>> {
        self.unfinished(Page { now: self.at(2 * MUCH_LATER), after: None, limit: 1000, due: false }).await
    }

    /// The open entry number `n`.
    pub(super) async fn entry(&self, what: &str, n: u64) -> Checked<JournalEntry> {
        let found = self.open().await?.into_iter().find(|entry| entry.id == id(n));
        found.ok_or_else(|| format!("{what}: the entry is not open any more"))
    }

    /// Runs steps that must change nothing about the open entry number `n`.
    pub(super) async fn unchanged(&self, what: &str, n: u64, steps: impl Future<Output = Checked>) -> Checked {
        let before = self.entry(what, n).await?;
        steps.await?;
        let after = self.entry(what, n).await?;
        same_entry(&before, &after).map_err(|differs| format!("{what}: it changed the {differs} of the entry"))
    }
}

/// What a step other than a claim answers.
pub(super) type Step = Result<(), StoreErrorKind>;

pub(super) const LEASE_LOST: Step = Err(StoreErrorKind::LeaseLost);
pub(super) const CONFLICT: Step = Err(StoreErrorKind::Conflict);

fn asked(asked_for: bool) -> &'static str {
    if asked_for { "asked for" } else { "unasked" }
}

fn step(what: &str, verb: &str, result: Result<(), StoreError>, expected: Step) -> Checked {
    let answer = result.map_err(|error| error.kind());
    if answer == expected {
        Ok(())
    } else {
        Err(format!("{what}: `{verb}` answered {answer:?} instead of {expected:?}"))
    }
}

/// Names the first member in which two entries differ.
pub(super) fn same_entry(expected: &JournalEntry, found: &JournalEntry) -> Result<(), String> {
    let members = [
        ("id", expected.id == found.id, format!("{} / {}", expected.id, found.id)),
        ("proof", expected.proof == found.proof, format!("{:?} / {:?}", expected.proof, found.proof)),
        ("state", expected.state == found.state, format!("{:?} / {:?}", expected.state, found.state)),
        (
            "end of the lease",
            expected.lease_until == found.lease_until,
            format!("{} / {}", expected.lease_until, found.lease_until),
        ),
        (
            "keep_until",
            expected.keep_until == found.keep_until,
            format!("{} / {}", expected.keep_until, found.keep_until),
        ),
        (
            "instant of put_off",
            expected.put_off == found.put_off,
            format!("{:?} / {:?}", expected.put_off, found.put_off),
        ),
        ("attempts", expected.attempts == found.attempts, format!("{} / {}", expected.attempts, found.attempts)),
        ("record", expected.record == found.record, format!("{:?} / {:?}", expected.record, found.record)),
    ];
    match members.into_iter().find(|(_, same, _)| !same) {
        Some((member, _, values)) => Err(format!("{member} ({values})")),
        None => Ok(()),
    }
}

/// The challenge id number `n`.
pub(super) fn id(n: u64) -> ChallengeId {
    ChallengeId::from_bytes(digest(b"id", n))
}

/// The proof number `n`.
pub(super) fn key(n: u64) -> SpendKey {
    SpendKey::from_bytes(digest(b"proof", n))
}

fn digest(kind: &[u8], n: u64) -> [u8; 32] {
    Sha256::new().chain_update(kind).chain_update(n.to_be_bytes()).finalize().into()
}
