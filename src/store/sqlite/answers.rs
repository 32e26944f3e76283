//! The steps of the kept answers.

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, params};

use super::{
    steps::{limit, shrink, token},
    writer::{Counters, Fault, Tx},
};
use crate::{
    protocol::{ChallengeId, Timestamp},
    store::{KeptAnswer, Lease, Reservation, StoreErrorKind, row::instant},
};

/// About what a row takes with its places in the indexes, beside its answer, and not less.
const ROW_BYTES: i64 = 256;

/// How many rows a reservation drops at most to make room for one.
const ROWS_PER_RESERVATION: usize = 8;

struct Found {
    number: i64,
    token: i64,
    keep_until: i64,
    /// How long the answer is, when it is complete.
    length: Option<i64>,
}

impl Found {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { number: row.get(0)?, token: row.get(1)?, keep_until: row.get(2)?, length: row.get(3)? })
    }
}

impl Tx<'_> {
    fn answer(&self, id: ChallengeId) -> Result<Option<Found>, Fault> {
        let sql = "SELECT number, token, keep_until, length(answer) FROM answers WHERE id = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([id.as_bytes()], Found::read).optional()?)
    }

    fn drop_answer(&self, found: &Found) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM answers WHERE number = ?1")?.execute([found.number])?;
        self.count_bytes(-ROW_BYTES - found.length.unwrap_or(0))
    }

    fn count_bytes(&self, more: i64) -> Result<(), Fault> {
        let counters = self.counters()?;
        let answer_bytes = counters.answer_bytes.saturating_add(more).max(0);
        self.set_counters(Counters { answer_bytes, ..counters });
        Ok(())
    }

    fn has_room(&self, more: i64, max_bytes: i64) -> Result<bool, Fault> {
        Ok(self.counters()?.answer_bytes.checked_add(more).is_some_and(|sum| sum <= max_bytes))
    }

    fn drop_due(&self, now: i64, at_most: usize) -> Result<usize, Fault> {
        let sql = "SELECT number, token, keep_until, length(answer) FROM answers INDEXED BY due_answers \
                   WHERE keep_until <= ?1 ORDER BY keep_until LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let due = statement.query_map((now, limit(at_most)), Found::read)?.collect::<Result<Vec<_>, _>>()?;
        for found in &due {
            self.drop_answer(found)?;
        }
        Ok(due.len())
    }
}

pub(super) fn reserve(tx: &Tx<'_>, reservation: &Reservation, max_bytes: i64) -> Result<(), Fault> {
    let (now, lease) = (reservation.now.unix_millis(), reservation.lease);
    let token = token(lease)?;
    let mut found = tx.answer(lease.id)?;
    if let Some(old) = found.take_if(|found| found.keep_until <= now) {
        tx.drop_answer(&old)?;
    }
    let (until, keep_until) = (reservation.until.unix_millis_ceil(), reservation.keep_until.unix_millis_ceil());
    match found {
        Some(found) if found.token > token => return Err(StoreErrorKind::LeaseLost.into()),
        Some(found) if found.length.is_some() => {}
        Some(found) => {
            let sql = "UPDATE answers SET token = ?2, request = ?3, until = ?4, keep_until = max(keep_until, ?5) \
                       WHERE number = ?1";
            let row = (found.number, token, &reservation.request, until, keep_until);
            tx.connection.prepare_cached(sql)?.execute(row)?;
        }
        None => {
            if !tx.has_room(ROW_BYTES, max_bytes)? {
                tx.drop_due(now, ROWS_PER_RESERVATION)?;
            }
            if !tx.has_room(ROW_BYTES, max_bytes)? {
                return Err(StoreErrorKind::Full.into());
            }
            let sql = "INSERT INTO answers (id, token, request, until, keep_until) VALUES (?1, ?2, ?3, ?4, ?5)";
            let row = (lease.id.as_bytes(), token, &reservation.request, until, keep_until);
            tx.connection.prepare_cached(sql)?.execute(row)?;
            tx.count_bytes(ROW_BYTES)?;
        }
    }
    Ok(())
}

pub(super) fn keep(
    tx: &Tx<'_>,
    lease: Lease,
    answer: &[u8],
    keep_until: Timestamp,
    max_bytes: i64,
) -> Result<(), Fault> {
    let token = token(lease)?;
    let found = tx.answer(lease.id)?.filter(|found| found.token == token).ok_or(StoreErrorKind::LeaseLost)?;
    if found.length.is_some() {
        return Ok(());
    }
    let length = limit(answer.len());
    if !tx.has_room(length, max_bytes)? {
        return Err(StoreErrorKind::Full.into());
    }
    let sql = "UPDATE answers SET answer = ?2, keep_until = max(keep_until, ?3) WHERE number = ?1";
    tx.connection.prepare_cached(sql)?.execute(params![found.number, answer, keep_until.unix_millis_ceil()])?;
    tx.count_bytes(length)
}

pub(super) fn give_up(tx: &Tx<'_>, lease: Lease) -> Result<(), Fault> {
    let Ok(token) = token(lease) else { return Ok(()) };
    let sql = "UPDATE answers SET until = 0 WHERE id = ?1 AND token = ?2 AND answer IS NULL";
    tx.connection.prepare_cached(sql)?.execute((lease.id.as_bytes(), token))?;
    Ok(())
}

pub(super) fn look_up(tx: &Tx<'_>, id: ChallengeId, now: Timestamp) -> Result<Option<KeptAnswer>, Fault> {
    let sql = "SELECT request, until, answer FROM answers WHERE id = ?1 AND keep_until > ?2";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let found = statement.query_row((id.as_bytes(), now.unix_millis()), |row| {
        Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<Vec<u8>>>(2)?))
    });
    let Some((request, until, answer)) = found.optional()? else { return Ok(None) };
    Ok(Some(KeptAnswer { request, until: instant(until)?, answer: answer.map(Bytes::from) }))
}

pub(super) fn forget(tx: &Tx<'_>, now: Timestamp, at_most: usize) -> Result<usize, Fault> {
    let forgotten = tx.drop_due(now.unix_millis(), at_most)?;
    shrink(tx)?;
    Ok(forgotten)
}
