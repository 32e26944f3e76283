//! The journal of one process, in memory.

mod entry;
#[cfg(all(test, tower_mpp_loom))]
mod races;
mod shards;
mod sync;
mod table;

use std::fmt;

use async_trait::async_trait;
use hashbrown::DefaultHashBuilder;

use self::{
    entry::{Claimant, Entry, NEVER, Phase},
    shards::{Shards, leading},
    sync::{AtomicU64, AtomicUsize, Mutex, Ordering, new_hash},
    table::{Fate, Found, Millis, Table, code},
};
use super::{
    Claim, Claimed, End, EntryState, JournalEntry, Lease, NonceStore, Page, Proof, RefundReason, Release, StoreError,
    StoreErrorKind, Take, Taken,
};
use crate::protocol::{ChallengeId, Settlement, SpendKey, Timestamp};

/// A journal in the memory of one process.
///
/// **One process only.** A second replica of the service has a journal of its own and takes every
/// credential once more; a restart forgets what was spent, and what was settled and not delivered.
/// Use it for tests, for demos, and for a service that runs once and may lose open payments when it dies.
///
/// It holds at most [`capacity`](Self::capacity) entries and refuses claims of further challenges when
/// it is full ([`StoreErrorKind::Full`]); it never drops an entry to make room. An entry takes less than
/// 200 bytes once it has ended and its last lease is over; before that it also holds its record and its
/// settlement.
///
/// Entries are forgotten a few at a time, by the claims of others: there is no background task and no
/// clock. What is open is never forgotten, so something must take up
/// [`unfinished`](NonceStore::unfinished) entries, or they fill the store.
pub struct MemoryNonceStore {
    capacity: usize,
    /// How many entries there are, never more than `capacity`.
    entries: AtomicUsize,
    /// The token of the next lease. One counter for all challenges: an id that was given back and is
    /// claimed again must not see an old token.
    token: AtomicU64,
    /// Which shard gives up forgotten entries next when there is no room.
    hand: AtomicUsize,
    hash: DefaultHashBuilder,
    /// By challenge id. A lock of these is always taken before, and held around, one of `proofs`; no
    /// two locks of one kind are ever held together. So a claim of both is one step, without deadlock.
    ids: Shards<Ids>,
    /// By exclusive proof.
    proofs: Shards<Table<Claimant>>,
}

/// The entries of one shard.
struct Ids {
    table: Table<Entry>,
    /// How many of them are open: shards without any are not searched for unfinished ones.
    open: usize,
}

/// When the row of a proof is due while its entry is held, and while it is settled: never, either way.
const HELD: Millis = NEVER;
const PAID: Millis = NEVER - 1;

/// At capacity a shard has half of this to this many entries: it bounds how long one claim can take,
/// for the one that makes a table grow moves all of its rows.
const ROWS_PER_SHARD: usize = 256;
const MAX_SHARDS: usize = 1 << 16;

/// How many rows each claim looks at to find forgotten ones. A claim adds one row at most, so the
/// forgotten rows that are still there stay a small part.
const ROWS_PER_CLAIM: usize = 4;

/// How many shards a claim searches for forgotten entries before it says that there is no room.
const SHARDS_WHEN_FULL: usize = 64;

impl MemoryNonceStore {
    /// A journal for one process that holds at most `capacity` entries.
    ///
    /// An entry lives from its claim until the challenge has expired and some, five minutes and more: a
    /// service that is paid 100 times a second has some 50,000.
    pub fn single_process(capacity: usize) -> Self {
        Self::with_shards(capacity, capacity / ROWS_PER_SHARD)
    }

    fn with_shards(capacity: usize, shards: usize) -> Self {
        // A power of two, so that leading bits of an id choose its shard.
        let shards = shards.clamp(1, MAX_SHARDS).next_power_of_two();
        Self {
            capacity,
            entries: AtomicUsize::new(0),
            token: AtomicU64::new(1),
            hand: AtomicUsize::new(0),
            hash: new_hash(),
            ids: Shards::new(shards, || Ids { table: Table::new(), open: 0 }),
            proofs: Shards::new(shards, Table::new),
        }
    }

    /// How many entries the journal can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many entries it holds, with those that will be forgotten by one of the next claims.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether it holds no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn ids(&self, id: ChallengeId) -> &Mutex<Ids> {
        self.ids.wrapping(self.ids.index(leading(id.as_bytes())))
    }

    /// A payer has some choice in the bytes of a proof, and none in this hash. A table uses its first and
    /// its last bits, so those in the middle choose the shard.
    fn proofs(&self, key: SpendKey) -> &Mutex<Table<Claimant>> {
        self.proofs.wrapping(self.proofs.index(code(&self.hash, key.as_bytes()) << 16))
    }

    fn claim_now(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let now = claim.now.unix_millis();
        match self.try_claim(claim, now) {
            Err(error) if error.kind() == StoreErrorKind::Full && self.make_room(now) => self.try_claim(claim, now),
            answer => answer,
        }
    }

    fn try_claim(&self, claim: &Claim, now: Millis) -> Result<Claimed, StoreError> {
        let ids = &mut *self.ids(claim.id).lock();
        self.sweep(ids, ROWS_PER_CLAIM, now);
        match ids.table.get(&self.hash, claim.id.as_bytes()) {
            Some(Found { row, due }) if row.forget_at(row.phase(), *due) <= now => self.remove(ids, claim.id),
            Some(Found { row, .. }) => return self.claim_again(row, claim),
            None => {}
        }
        let Proof::Exclusive(key) = claim.proof else { return self.claim_new(ids, None, claim) };
        let proofs = &mut *self.proofs(key).lock();
        proofs.sweep(&self.hash, ROWS_PER_CLAIM, now, |_, _| Fate::Forgotten);
        match proofs.get(&self.hash, key.as_bytes()).map(|found| *found.due) {
            Some(due) if due <= now => drop(proofs.remove(&self.hash, key.as_bytes())),
            Some(HELD) => return Ok(Claimed::Busy),
            Some(_) => return Ok(Claimed::OtherProof),
            None => {}
        }
        self.claim_new(ids, Some((proofs, key)), claim)
    }

    /// Nobody has claimed the id, nor the proof if it is exclusive.
    fn claim_new(
        &self,
        ids: &mut Ids,
        exclusive: Option<(&mut Table<Claimant>, SpendKey)>,
        claim: &Claim,
    ) -> Result<Claimed, StoreError> {
        let one_more = |entries| (entries < self.capacity).then_some(entries + 1);
        if self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return Err(StoreErrorKind::Full.into());
        }
        let lease = self.next_lease(claim.id);
        if let Some((proofs, key)) = exclusive {
            proofs.insert(&self.hash, Claimant::new(key, lease.token), HELD);
        }
        ids.table.insert(&self.hash, Entry::new(claim, lease.token), NEVER);
        ids.open += 1;
        Ok(Claimed::Won { lease, resumed: false })
    }

    /// Somebody has claimed the id before.
    fn claim_again(&self, entry: &mut Entry, claim: &Claim) -> Result<Claimed, StoreError> {
        let same_proof = entry.proof() == claim.proof;
        match entry.phase() {
            Phase::Held if !same_proof => return Ok(Claimed::Busy),
            _ if !same_proof => return Ok(Claimed::OtherProof),
            Phase::Spent(end) => return Ok(Claimed::Spent(end)),
            Phase::Refunding(_) => return Ok(Claimed::Refunding),
            Phase::Held | Phase::Settled => {}
        }
        if entry.open.as_ref().is_none_or(|open| open.is_at_work(claim.now)) {
            return Ok(Claimed::Busy);
        }
        let lease = self.take_over(entry, claim.lease_until)?;
        let Some(open) = entry.open.as_deref_mut() else { return Ok(Claimed::Busy) };
        open.go_on();
        open.keep_until = open.keep_until.max(claim.keep_until);
        Ok(match open.settlement.clone() {
            Some(settlement) => Claimed::Settled { lease, settlement },
            None => Claimed::Won { lease, resumed: true },
        })
    }

    /// A new lease for an entry and its proof.
    fn take_over(&self, entry: &mut Entry, until: Timestamp) -> Result<Lease, StoreError> {
        let lease = self.next_lease(entry.id());
        self.with_proof(entry.proof(), entry.token, |proof| proof.row.token = lease.token)?;
        entry.lend(lease, until);
        Ok(lease)
    }

    fn take_now(&self, take: Take) -> Result<Taken, StoreError> {
        let ids = &mut *self.ids(take.id).lock();
        let now = take.now.unix_millis();
        let mut found = match ids.table.get(&self.hash, take.id.as_bytes()) {
            Some(found) if found.row.forget_at(found.row.phase(), *found.due) > now => found,
            _ => return Ok(Taken::Absent),
        };
        match (found.row.phase(), &found.row.open) {
            (Phase::Spent(End::Delivered), Some(_)) if take.asked_for => {}
            (Phase::Spent(end), _) => return Ok(Taken::Spent(end)),
            (Phase::Held | Phase::Settled | Phase::Refunding(_), _) => {}
        }
        let busy = |open: &entry::Open| open.is_at_work(take.now) || (!take.asked_for && open.is_put_off(take.now));
        if found.row.open.as_deref().is_none_or(busy) {
            return Ok(Taken::Busy);
        }
        let lease = match (self.take_over(found.row, take.lease_until), found.row.phase()) {
            (Ok(lease), Phase::Spent(_)) => {
                self.ask_for(&mut found)?;
                lease
            }
            // By another's clock its proof was forgotten.
            (Err(_), Phase::Spent(end)) => return Ok(Taken::Spent(end)),
            (lease, Phase::Held | Phase::Settled | Phase::Refunding(_)) => lease?,
        };
        Ok(found.row.shown().map_or(Taken::Busy, |entry| Taken::Won { lease, entry }))
    }

    /// Somebody has asked for a delivered entry, whose lease is new: it and its proof stay as long.
    fn ask_for(&self, found: &mut Found<'_, Entry>) -> Result<(), StoreError> {
        if let Some(open) = &mut found.row.open {
            open.delivered = true;
        }
        self.keep(found)
    }

    /// A lease for an entry that has ended is given up. Nothing of that is remembered when the lease would
    /// have ended, so the token is gone too.
    fn retire(&self, entry: &mut Entry) -> Result<(), StoreError> {
        let Some(until) = entry.open.as_deref().map(|open| open.lease_until) else { return Ok(()) };
        self.take_over(entry, until)?;
        if let Some(open) = &mut entry.open {
            open.given_up = true;
        }
        Ok(())
    }

    fn put_off_now(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        let ids = &mut *self.ids(lease.id).lock();
        let Found { row: entry, .. } = self.fenced(ids, lease)?;
        if !entry.is_open() {
            self.retire(entry)?;
        }
        if let Some(open) = &mut entry.open {
            open.given_up = true;
            open.put_off = Some(until);
            open.attempts = open.attempts.saturating_add(1);
        }
        Ok(())
    }

    fn find_now(&self, id: ChallengeId) -> Option<JournalEntry> {
        let ids = &mut *self.ids(id).lock();
        let Found { row: entry, due } = ids.table.get(&self.hash, id.as_bytes())?;
        let forget_at = Timestamp::from_unix_millis(entry.forget_at(entry.phase(), *due));
        entry.shown().or_else(|| {
            // It has ended, and nothing else about it is remembered.
            let Phase::Spent(end) = entry.phase() else { return None };
            let forget_at = forget_at?;
            Some(JournalEntry {
                id,
                proof: entry.proof(),
                state: EntryState::Spent { end, settlement: None },
                lease_until: forget_at,
                put_off: None,
                attempts: 0,
                keep_until: forget_at,
                record: [].into(),
            })
        })
    }

    /// Called with the shard of the id locked, so that the tokens of one id are given out in order.
    fn next_lease(&self, id: ChallengeId) -> Lease {
        Lease { id, token: self.token.fetch_add(1, Ordering::Relaxed) }
    }

    fn renew_now(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        let ids = &mut *self.ids(lease.id).lock();
        let Found { row: entry, .. } = self.fenced(ids, lease)?;
        if entry.is_open()
            && let Some(open) = &mut entry.open
        {
            open.lease_until = until;
        }
        Ok(())
    }

    fn settle_now(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        let ids = &mut *self.ids(lease.id).lock();
        let mut found = self.fenced(ids, lease)?;
        let (phase, Some(open)) = (found.row.phase(), &mut found.row.open) else {
            return Err(StoreErrorKind::Conflict.into());
        };
        match phase {
            Phase::Held => {
                open.settlement = Some(settlement.clone());
                self.enter(&mut found, Phase::Settled)
            }
            Phase::Settled if open.settlement.as_ref() == Some(settlement) => Ok(()),
            Phase::Settled | Phase::Refunding(_) | Phase::Spent(_) => Err(StoreErrorKind::Conflict.into()),
        }
    }

    fn refund_now(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        let ids = &mut *self.ids(lease.id).lock();
        let mut found = self.fenced(ids, lease)?;
        match found.row.phase() {
            Phase::Settled => self.enter(&mut found, Phase::Refunding(reason)),
            Phase::Spent(End::Delivered) => match &found.row.open {
                Some(open) if open.delivered => {
                    self.enter(&mut found, Phase::Refunding(reason))?;
                    ids.open += 1;
                    Ok(())
                }
                Some(_) => Err(StoreErrorKind::Conflict.into()),
                // Nobody knows what to give back any more: the lease had ended.
                None => Err(StoreErrorKind::LeaseLost.into()),
            },
            Phase::Refunding(known) if known == reason => Ok(()),
            Phase::Held | Phase::Refunding(_) | Phase::Spent(_) => Err(StoreErrorKind::Conflict.into()),
        }
    }

    fn commit_now(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        let ids = &mut *self.ids(lease.id).lock();
        let mut found = self.fenced(ids, lease)?;
        match (found.row.phase(), end) {
            (Phase::Settled, End::Delivered) | (Phase::Refunding(_), End::Refunded) => {
                self.enter(&mut found, Phase::Spent(end))?;
                ids.open -= 1;
                Ok(())
            }
            (Phase::Spent(known), _) if known == end => Ok(()),
            _ => Err(StoreErrorKind::Conflict.into()),
        }
    }

    fn release_now(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        let ids = &mut *self.ids(lease.id).lock();
        let mut found = self.fenced(ids, lease)?;
        match (found.row.phase(), reason) {
            (Phase::Held, Release::NotCharged) => {
                if let Proof::Exclusive(key) = found.row.proof() {
                    self.proofs(key).lock().remove(&self.hash, key.as_bytes());
                }
                self.remove(ids, lease.id);
                ids.open -= 1;
            }
            (Phase::Held, Release::Unknown) | (Phase::Settled, Release::Undelivered) => found.row.give_up(),
            (Phase::Refunding(_), Release::NotRefundable)
                if found.row.open.as_deref().is_some_and(|open| open.delivered) =>
            {
                self.enter(&mut found, Phase::Spent(End::Delivered))?;
                self.retire(found.row)?;
                ids.open -= 1;
            }
            (Phase::Settled | Phase::Refunding(_), Release::NotRefundable) => {
                if found.row.phase() != Phase::Settled {
                    self.enter(&mut found, Phase::Settled)?;
                }
                if let Some(open) = &mut found.row.open {
                    open.keep_money = true;
                }
                found.row.give_up();
            }
            (Phase::Spent(End::Delivered), Release::Undelivered) => {
                match &found.row.open {
                    // Without its settlement the entry cannot be delivered: the lease had ended.
                    None => return Err(StoreErrorKind::LeaseLost.into()),
                    Some(open) if open.delivered => return Err(StoreErrorKind::Conflict.into()),
                    Some(_) => {}
                }
                self.enter(&mut found, Phase::Settled)?;
                found.row.give_up();
                ids.open += 1;
            }
            _ => return Err(StoreErrorKind::Conflict.into()),
        }
        Ok(())
    }

    /// The entry that a lease is for, if it is the present one.
    fn fenced<'a>(&self, ids: &'a mut Ids, lease: Lease) -> Result<Found<'a, Entry>, StoreError> {
        ids.table
            .get(&self.hash, lease.id.as_bytes())
            .filter(|found| found.row.token == lease.token && !found.row.is_given_up())
            .ok_or_else(|| StoreErrorKind::LeaseLost.into())
    }

    /// Takes an entry and its exclusive proof to a phase.
    fn enter(&self, found: &mut Found<'_, Entry>, phase: Phase) -> Result<(), StoreError> {
        let Found { row, due } = found;
        self.keep_proof(row, phase, **due)?;
        **due = row.enter(phase);
        Ok(())
    }

    /// Keeps an entry that has ended, and its exclusive proof, for as long as its new lease may last.
    fn keep(&self, found: &mut Found<'_, Entry>) -> Result<(), StoreError> {
        let Found { row, due } = found;
        self.keep_proof(row, row.phase(), **due)?;
        **due = row.due();
        Ok(())
    }

    fn keep_proof(&self, row: &Entry, phase: Phase, due: Millis) -> Result<(), StoreError> {
        // Open, though not held any more: not due before the end of all time, but told apart from `HELD`.
        let forget_at = row.forget_at(phase, due).min(PAID);
        self.with_proof(row.proof(), row.token, |proof| *proof.due = forget_at)
    }

    /// Changes the row of an exclusive proof beside the row of its entry, whose shard is locked.
    ///
    /// An open entry always has its proof. One that has ended may have been forgotten, and its proof
    /// been claimed anew, while its own row is still there: then its lease is worth nothing.
    fn with_proof(&self, proof: Proof, token: u64, change: impl FnOnce(Found<'_, Claimant>)) -> Result<(), StoreError> {
        let Proof::Exclusive(key) = proof else { return Ok(()) };
        match self.proofs(key).lock().get(&self.hash, key.as_bytes()) {
            Some(proof) if proof.row.token == token => change(proof),
            _ => return Err(StoreErrorKind::LeaseLost.into()),
        }
        Ok(())
    }

    fn remove(&self, ids: &mut Ids, id: ChallengeId) {
        if ids.table.remove(&self.hash, id.as_bytes()).is_some() {
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Looks at up to `rows` entries of a shard. Answers whether one was forgotten.
    fn sweep(&self, ids: &mut Ids, rows: usize, now: Millis) -> bool {
        let forgotten = ids.table.sweep(&self.hash, rows, now, |entry, due| entry.drop_due(now, due));
        self.entries.fetch_sub(forgotten, Ordering::Relaxed);
        forgotten > 0
    }

    /// Searches for a forgotten entry that still has a place.
    fn make_room(&self, now: Millis) -> bool {
        let start = self.hand.fetch_add(SHARDS_WHEN_FULL, Ordering::Relaxed);
        let shards = SHARDS_WHEN_FULL.min(self.ids.count());
        (0..shards).any(|step| {
            let ids = self.ids.wrapping(start.wrapping_add(step));
            self.sweep(&mut ids.lock(), usize::MAX, now)
        })
    }

    fn unfinished_now(&self, page: Page) -> Vec<JournalEntry> {
        let mut found = Vec::new();
        let first = page.after.map_or(0, |after| self.ids.index(leading(after.as_bytes())));
        // Shards are in order of the ids in them.
        for shard in first..self.ids.count() {
            let room = page.limit - found.len();
            if room == 0 {
                break;
            }
            let ids = self.ids.wrapping(shard).lock();
            if ids.open == 0 {
                continue;
            }
            let mut listed: Vec<_> = ids
                .table
                .rows()
                .iter()
                .filter(|entry| page.after.is_none_or(|after| entry.id() > after))
                .filter(|entry| entry.is_unfinished(page.now, page.due))
                .collect();
            listed.sort_unstable_by_key(|entry| entry.id());
            found.extend(listed.into_iter().take(room).filter_map(Entry::shown));
        }
        found
    }
}

#[async_trait]
impl NonceStore for MemoryNonceStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.claim_now(&claim)
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.renew_now(lease, until)
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.settle_now(lease, settlement)
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        self.commit_now(lease, end)
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        self.release_now(lease, reason)
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        self.refund_now(lease, reason)
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.put_off_now(lease, until)
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        self.take_now(take)
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        Ok(self.find_now(id))
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        Ok(self.unfinished_now(page))
    }

    /// Nothing: claims do this.
    async fn forget(&self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

impl fmt::Debug for MemoryNonceStore {
    /// Counts only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNonceStore")
            .field("capacity", &self.capacity)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
