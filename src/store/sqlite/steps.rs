//! The steps of the journal, each within the transaction that it shares with others.
//!
//! What most payments go through is one statement that matches the state it expects. Only where that finds
//! nothing the row is read to see why.

use rusqlite::{OptionalExtension as _, params};

use super::writer::{Counters, Fault, Tx};
use crate::{
    protocol::{ChallengeId, Timestamp},
    store::{
        Claim, Claimed, End, JournalEntry, Lease, Page, Proof, RefundReason, Release, StoreErrorKind, Take, Taken,
        row::{Row, State, read_settlement, unreadable},
    },
};

/// An entry with what only the store needs to know.
struct Found {
    number: i64,
    row: Row,
    token: i64,
    given_up: bool,
    /// Delivered, and somebody has asked for its money since.
    asked: bool,
}

macro_rules! columns {
    () => {
        "number, id, exclusive, proof, state, token, lease_until, given_up, put_off, attempts, keep_until, \
         keep_money, asked, reason, settlement, record"
    };
}

impl Found {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            row: Row {
                id: row.get(1)?,
                exclusive: row.get(2)?,
                proof: row.get(3)?,
                state: row.get(4)?,
                lease_until: row.get(6)?,
                put_off: row.get(8)?,
                attempts: row.get(9)?,
                keep_until: row.get(10)?,
                keep_money: row.get(11)?,
                reason: row.get(13)?,
                settlement: row.get(14)?,
                record: row.get(15)?,
            },
            token: row.get(5)?,
            given_up: row.get(7)?,
            asked: row.get(12)?,
        })
    }

    fn is_at_work(&self, now: i64) -> bool {
        !self.given_up && now < self.row.lease_until
    }

    fn is_forgettable(&self, now: i64) -> bool {
        self.row.state >= State::DELIVERED && self.row.keep_until.max(self.row.lease_until) <= now
    }
}

impl Tx<'_> {
    fn by_id(&self, id: ChallengeId) -> Result<Option<Found>, Fault> {
        let sql = concat!("SELECT ", columns!(), " FROM entries WHERE id = ?1");
        Ok(self.connection.prepare_cached(sql)?.query_row([id.as_bytes()], Found::read).optional()?)
    }

    /// The entry that has claimed an exclusive proof.
    fn by_proof(&self, proof: &[u8; 32]) -> Result<Option<Found>, Fault> {
        let sql = concat!("SELECT ", columns!(), " FROM entries WHERE exclusive = 1 AND proof = ?1");
        Ok(self.connection.prepare_cached(sql)?.query_row([proof], Found::read).optional()?)
    }

    /// The entry that a lease is for, if it is the present one.
    fn fenced(&self, lease: Lease) -> Result<Found, Fault> {
        let token = token(lease)?;
        let found = self.by_id(lease.id)?.filter(|found| found.token == token && !found.given_up);
        found.ok_or_else(|| StoreErrorKind::LeaseLost.into())
    }

    fn delete(&self, number: i64) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM entries WHERE number = ?1")?.execute([number])?;
        Ok(())
    }

    /// The token of the next lease, greater than all before it. One counter for all ids: one that was given back
    /// and is claimed again must not see an old token.
    fn next_token(&self) -> Result<i64, Fault> {
        let counters = self.counters()?;
        let token = counters.token.checked_add(1).ok_or_else(unreadable)?;
        self.set_counters(Counters { token, ..counters });
        Ok(token)
    }

    /// Brings an entry to a state: it is no longer put off.
    fn enter(&self, number: i64, state: i16, given_up: bool) -> Result<(), Fault> {
        let sql = "UPDATE entries SET state = ?2, given_up = ?3, put_off = NULL, attempts = 0 WHERE number = ?1";
        self.connection.prepare_cached(sql)?.execute((number, state, given_up))?;
        Ok(())
    }
}

/// A token that was never given out is nobody's.
pub(super) fn token(lease: Lease) -> Result<i64, Fault> {
    i64::try_from(lease.token).map_err(|_| StoreErrorKind::LeaseLost.into())
}

fn lease(id: ChallengeId, token: i64) -> Lease {
    Lease { id, token: token.unsigned_abs() }
}

pub(super) fn claim(tx: &Tx<'_>, claim: &Claim) -> Result<Claimed, Fault> {
    if let Some(won) = claim_new(tx, claim)? {
        return Ok(won);
    }
    let now = claim.now.unix_millis();
    match tx.by_id(claim.id)? {
        Some(found) if !found.is_forgettable(now) => return claim_again(tx, found, claim),
        Some(found) => tx.delete(found.number)?,
        None => {}
    }
    if let Proof::Exclusive(key) = claim.proof {
        match tx.by_proof(key.as_bytes())? {
            Some(found) if found.is_forgettable(now) => tx.delete(found.number)?,
            Some(found) if found.row.state == State::HELD => return Ok(Claimed::Busy),
            Some(_) => return Ok(Claimed::OtherProof),
            None => {}
        }
    }
    claim_new(tx, claim)?.ok_or_else(|| unreadable().into())
}

/// Claims what nobody has claimed: neither the id nor, if it is exclusive, the proof.
fn claim_new(tx: &Tx<'_>, claim: &Claim) -> Result<Option<Claimed>, Fault> {
    let sql = "INSERT INTO entries (id, exclusive, proof, state, token, lease_until, given_up, attempts, keep_until, \
               keep_money, asked, record) VALUES (?1, ?2, ?3, 0, ?4, ?5, 0, 0, ?6, 0, 0, ?7) ON CONFLICT DO NOTHING";
    let counters = tx.counters()?;
    let token = tx.next_token()?;
    let inserted = tx.connection.prepare_cached(sql)?.execute(params![
        claim.id.as_bytes(),
        matches!(claim.proof, Proof::Exclusive(_)),
        claim.proof.key().as_bytes(),
        token,
        claim.lease_until.unix_millis_ceil(),
        claim.keep_until.unix_millis_ceil(),
        &*claim.record,
    ])?;
    if inserted == 0 {
        tx.set_counters(counters);
        return Ok(None);
    }
    Ok(Some(Claimed::Won { lease: lease(claim.id, token), resumed: false }))
}

/// Somebody has claimed the id before.
fn claim_again(tx: &Tx<'_>, found: Found, claim: &Claim) -> Result<Claimed, Fault> {
    let exclusive = matches!(claim.proof, Proof::Exclusive(_));
    let same_proof = found.row.exclusive == exclusive && found.row.proof == *claim.proof.key().as_bytes();
    match found.row.state {
        State::HELD if !same_proof => return Ok(Claimed::Busy),
        _ if !same_proof => return Ok(Claimed::OtherProof),
        State::REFUNDING => return Ok(Claimed::Refunding),
        State::HELD | State::SETTLED => {}
        state => return Ok(Claimed::Spent(State::end(state).ok_or_else(unreadable)?)),
    }
    if found.is_at_work(claim.now.unix_millis()) {
        return Ok(Claimed::Busy);
    }
    let settlement = match found.row.state {
        State::HELD => None,
        _ => Some(read_settlement(found.row.settlement.as_deref().ok_or_else(unreadable)?)?),
    };
    let token = tx.next_token()?;
    let sql = "UPDATE entries SET token = ?2, lease_until = ?3, given_up = 0, put_off = NULL, attempts = 0, \
               keep_until = max(keep_until, ?4) WHERE number = ?1";
    let (until, keep_until) = (claim.lease_until.unix_millis_ceil(), claim.keep_until.unix_millis_ceil());
    tx.connection.prepare_cached(sql)?.execute((found.number, token, until, keep_until))?;
    let lease = lease(claim.id, token);
    Ok(match settlement {
        Some(settlement) => Claimed::Settled { lease, settlement },
        None => Claimed::Won { lease, resumed: true },
    })
}

pub(super) fn renew(tx: &Tx<'_>, lease: Lease, until: Timestamp) -> Result<(), Fault> {
    let sql = "UPDATE entries SET lease_until = ?3 WHERE id = ?1 AND token = ?2 AND given_up = 0 AND state < 3";
    let mut statement = tx.connection.prepare_cached(sql)?;
    if statement.execute((lease.id.as_bytes(), token(lease)?, until.unix_millis_ceil()))? == 0 {
        // It has ended, or it is somebody else's.
        tx.fenced(lease)?;
    }
    Ok(())
}

pub(super) fn settle(tx: &Tx<'_>, lease: Lease, settlement: &str) -> Result<(), Fault> {
    let sql = "UPDATE entries SET state = 1, settlement = ?3, put_off = NULL, attempts = 0 \
               WHERE id = ?1 AND token = ?2 AND given_up = 0 AND state = 0";
    let mut statement = tx.connection.prepare_cached(sql)?;
    if statement.execute((lease.id.as_bytes(), token(lease)?, settlement))? == 1 {
        return Ok(());
    }
    let found = tx.fenced(lease)?;
    let same = found.row.state == State::SETTLED && found.row.settlement.as_deref() == Some(settlement);
    if same { Ok(()) } else { Err(StoreErrorKind::Conflict.into()) }
}

pub(super) fn refund(tx: &Tx<'_>, lease: Lease, reason: RefundReason) -> Result<(), Fault> {
    let found = tx.fenced(lease)?;
    match found.row.state {
        State::SETTLED => {}
        State::DELIVERED if found.asked => {}
        State::REFUNDING if found.row.reason.as_deref() == Some(reason.as_str()) => return Ok(()),
        _ => return Err(StoreErrorKind::Conflict.into()),
    }
    let sql = "UPDATE entries SET state = 2, reason = ?2, put_off = NULL, attempts = 0 WHERE number = ?1";
    tx.connection.prepare_cached(sql)?.execute((found.number, reason.as_str()))?;
    Ok(())
}

pub(super) fn commit(tx: &Tx<'_>, lease: Lease, end: End) -> Result<(), Fault> {
    let from = match end {
        End::Delivered => State::SETTLED,
        End::Refunded => State::REFUNDING,
    };
    let sql = "UPDATE entries SET state = ?4, put_off = NULL, attempts = 0 \
               WHERE id = ?1 AND token = ?2 AND given_up = 0 AND state = ?3";
    let mut statement = tx.connection.prepare_cached(sql)?;
    if statement.execute((lease.id.as_bytes(), token(lease)?, from, State::of(end)))? == 1 {
        return Ok(());
    }
    let same = tx.fenced(lease)?.row.state == State::of(end);
    if same { Ok(()) } else { Err(StoreErrorKind::Conflict.into()) }
}

pub(super) fn release(tx: &Tx<'_>, lease: Lease, reason: Release) -> Result<(), Fault> {
    let found = tx.fenced(lease)?;
    match (found.row.state, reason) {
        (State::HELD, Release::NotCharged) => tx.delete(found.number),
        (State::HELD, Release::Unknown) | (State::SETTLED, Release::Undelivered) => {
            tx.enter(found.number, found.row.state, true)
        }
        (State::REFUNDING, Release::NotRefundable) if found.asked => tx.enter(found.number, State::DELIVERED, true),
        (State::SETTLED | State::REFUNDING, Release::NotRefundable) => {
            let sql = "UPDATE entries SET keep_money = 1 WHERE number = ?1";
            tx.connection.prepare_cached(sql)?.execute([found.number])?;
            tx.enter(found.number, State::SETTLED, true)
        }
        (State::DELIVERED, Release::Undelivered) if !found.asked => tx.enter(found.number, State::SETTLED, true),
        _ => Err(StoreErrorKind::Conflict.into()),
    }
}

pub(super) fn put_off(tx: &Tx<'_>, lease: Lease, until: Timestamp) -> Result<(), Fault> {
    let found = tx.fenced(lease)?;
    let attempts = found.row.attempts.saturating_add(1);
    let sql = "UPDATE entries SET given_up = 1, put_off = ?2, attempts = ?3 WHERE number = ?1";
    tx.connection.prepare_cached(sql)?.execute((found.number, until.unix_millis_ceil(), attempts))?;
    Ok(())
}

pub(super) fn take(tx: &Tx<'_>, take: Take) -> Result<Taken, Fault> {
    let now = take.now.unix_millis();
    let Some(mut found) = tx.by_id(take.id)?.filter(|found| !found.is_forgettable(now)) else {
        return Ok(Taken::Absent);
    };
    if let Some(end) = State::end(found.row.state)
        && !(end == End::Delivered && take.asked_for && found.row.settlement.is_some())
    {
        return Ok(Taken::Spent(end));
    }
    let put_off = !take.asked_for && found.row.put_off.is_some_and(|until| until > now);
    if found.is_at_work(now) || put_off {
        return Ok(Taken::Busy);
    }
    let asked = found.asked || found.row.state == State::DELIVERED;
    let number = found.number;
    found.row.lease_until = take.lease_until.unix_millis_ceil();
    let lease_until = found.row.lease_until;
    // Before anything is written: one that cannot be read is left alone.
    let entry = found.row.entry()?;
    let token = tx.next_token()?;
    let sql = "UPDATE entries SET token = ?2, lease_until = ?3, given_up = 0, asked = ?4 WHERE number = ?1";
    tx.connection.prepare_cached(sql)?.execute((number, token, lease_until, asked))?;
    Ok(Taken::Won { lease: lease(take.id, token), entry })
}

pub(super) fn find(tx: &Tx<'_>, id: ChallengeId) -> Result<Option<JournalEntry>, Fault> {
    Ok(tx.by_id(id)?.map(|found| found.row.entry()).transpose()?)
}

pub(super) fn unfinished(tx: &Tx<'_>, page: Page) -> Result<Vec<JournalEntry>, Fault> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM entries INDEXED BY open_entries WHERE state < 3 AND id > ?1 AND (given_up = 1 OR lease_until <= ?2) \
         AND (?3 = 0 OR put_off IS NULL OR put_off <= ?2) ORDER BY id LIMIT ?4"
    );
    // Less than every id.
    let after = page.after.as_ref().map_or(&[][..], |after| after.as_bytes());
    let mut statement = tx.connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![after, page.now.unix_millis(), page.due, limit(page.limit)], Found::read)?;
    rows.map(|found| Ok(found?.row.entry()?)).collect()
}

pub(super) fn forget(tx: &Tx<'_>, now: Timestamp, at_most: usize) -> Result<usize, Fault> {
    let sql = "DELETE FROM entries WHERE number IN (SELECT number FROM entries INDEXED BY ended_entries \
               WHERE state >= 3 AND max(keep_until, lease_until) <= ?1 LIMIT ?2)";
    let forgotten = tx.connection.prepare_cached(sql)?.execute((now.unix_millis(), limit(at_most)))?;
    shrink(tx)?;
    Ok(forgotten)
}

pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Below so many free pages, four mebibytes, the file is not made shorter: the next rows need them.
const FEW_PAGES: i64 = 1024;
/// How many pages one step gives back at most: each may have to be moved.
const PAGES_PER_STEP: i64 = 1024;

/// Gives some of the space of what was dropped back, if that is a quarter of the file or more.
pub(super) fn shrink(tx: &Tx<'_>) -> Result<(), Fault> {
    let number = |sql| tx.connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let free = number("PRAGMA freelist_count")?;
    if free <= FEW_PAGES || free < number("PRAGMA page_count")? / 4 {
        return Ok(());
    }
    let pages = (free - FEW_PAGES).min(PAGES_PER_STEP);
    let mut statement = tx.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    // Each page is a row.
    let mut moved = statement.query([])?;
    while moved.next()?.is_some() {}
    Ok(())
}
