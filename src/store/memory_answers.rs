//! Kept answers of one process, in memory.

use std::{
    collections::{BTreeSet, HashMap, hash_map},
    fmt,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{AnswerStore, KeptAnswer, Lease, Reservation, StoreError, StoreErrorKind};
use crate::protocol::{ChallengeId, Timestamp};

/// Kept answers in the memory of one process.
///
/// A restart forgets them: requests that come again are then answered "used before". A second replica
/// does not see them.
///
/// It holds at most [`max_bytes`](Self::max_bytes) bytes and refuses what would be more
/// ([`StoreErrorKind::Full`]); the merchant then keeps no answer, and serves as before. It never drops
/// an answer to make room before that may be forgotten.
///
/// Rows that may be forgotten are dropped by the reservations of others: there is no background task and
/// no clock.
pub struct MemoryAnswerStore {
    max_bytes: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    rows: HashMap<ChallengeId, Row>,
    /// When each row may be forgotten, the next of them first.
    due: BTreeSet<(Timestamp, ChallengeId)>,
    /// What the rows take, with their overhead.
    bytes: usize,
}

struct Row {
    /// Of whoever has reserved it last.
    token: u64,
    request: [u8; 32],
    until: Timestamp,
    keep_until: Timestamp,
    answer: Option<Bytes>,
}

/// About what a row takes in both tables, beside its answer, and not less.
const ROW_BYTES: usize = 384;

/// How many rows a reservation drops at most: it adds one, so they do not pile up.
const ROWS_PER_RESERVATION: usize = 8;

impl MemoryAnswerStore {
    /// A store that holds at most `max_bytes` bytes, of which each row takes some 400 beside its answer.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, table: Mutex::default() }
    }

    /// How many bytes it can hold.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// How many bytes it holds, with what will be forgotten by one of the next reservations.
    pub fn bytes(&self) -> usize {
        self.table.lock().bytes
    }

    /// How many rows it holds: answers, and reservations of answers that are on their way.
    pub fn len(&self) -> usize {
        self.table.lock().rows.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    fn drop_row(&mut self, id: ChallengeId) {
        if let Some(row) = self.rows.remove(&id) {
            self.due.remove(&(row.keep_until, id));
            self.bytes = self.bytes.saturating_sub(row.size());
        }
    }

    fn forget(&mut self, now: Timestamp, limit: usize) -> usize {
        let mut dropped = 0;
        while dropped < limit {
            let Some((due, id)) = self.due.first().copied() else { break };
            if due > now {
                break;
            }
            self.drop_row(id);
            dropped += 1;
        }
        dropped
    }

    /// Whether so many bytes more can be held.
    fn has_room(&self, more: usize, max_bytes: usize) -> bool {
        self.bytes.checked_add(more).is_some_and(|sum| sum <= max_bytes)
    }
}

impl Row {
    /// Moves the end of its memory to a later instant only.
    fn remember(&mut self, id: ChallengeId, keep_until: Timestamp, due: &mut BTreeSet<(Timestamp, ChallengeId)>) {
        if keep_until > self.keep_until {
            due.remove(&(self.keep_until, id));
            due.insert((keep_until, id));
            self.keep_until = keep_until;
        }
    }

    fn size(&self) -> usize {
        ROW_BYTES + self.answer.as_ref().map_or(0, Bytes::len)
    }
}

#[async_trait]
impl AnswerStore for MemoryAnswerStore {
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        let Reservation { lease: Lease { id, token }, request, now, until, keep_until } = reservation;
        let table = &mut *self.table.lock();
        table.forget(now, ROWS_PER_RESERVATION);
        if table.rows.get(&id).is_some_and(|row| row.keep_until <= now) {
            table.drop_row(id);
        }
        if !table.rows.contains_key(&id) && !table.has_room(ROW_BYTES, self.max_bytes) {
            return Err(StoreErrorKind::Full.into());
        }
        match table.rows.entry(id) {
            hash_map::Entry::Occupied(row) if row.get().token > token => return Err(StoreErrorKind::LeaseLost.into()),
            hash_map::Entry::Occupied(row) if row.get().answer.is_some() => {}
            hash_map::Entry::Occupied(mut row) => {
                let row = row.get_mut();
                (row.token, row.request, row.until) = (token, request, until);
                row.remember(id, keep_until, &mut table.due);
            }
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Row { token, request, until, keep_until, answer: None });
                table.due.insert((keep_until, id));
                table.bytes += ROW_BYTES;
            }
        }
        Ok(())
    }

    async fn keep(&self, lease: Lease, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        // A copy of just its size: the original may be a small part of something large.
        let answer = Bytes::copy_from_slice(&answer);
        let table = &mut *self.table.lock();
        let has_room = table.has_room(answer.len(), self.max_bytes);
        let row = table.rows.get_mut(&lease.id).filter(|row| row.token == lease.token);
        let row = row.ok_or(StoreErrorKind::LeaseLost)?;
        if row.answer.is_some() {
            return Ok(());
        }
        if !has_room {
            return Err(StoreErrorKind::Full.into());
        }
        table.bytes += answer.len();
        row.answer = Some(answer);
        row.remember(lease.id, keep_until, &mut table.due);
        Ok(())
    }

    async fn give_up(&self, lease: Lease) -> Result<(), StoreError> {
        let table = &mut *self.table.lock();
        let row = table.rows.get_mut(&lease.id).filter(|row| row.token == lease.token && row.answer.is_none());
        if let Some(row) = row {
            row.until = Timestamp::EPOCH;
        }
        Ok(())
    }

    async fn look_up(&self, id: ChallengeId, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        let table = self.table.lock();
        let row = table.rows.get(&id).filter(|row| row.keep_until > now);
        Ok(row.map(|row| KeptAnswer { request: row.request, until: row.until, answer: row.answer.clone() }))
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        Ok(self.table.lock().forget(now, limit))
    }
}

impl fmt::Debug for MemoryAnswerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.lock();
        f.debug_struct("MemoryAnswerStore")
            .field("max_bytes", &self.max_bytes)
            .field("bytes", &table.bytes)
            .field("rows", &table.rows.len())
            .finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::ChallengeId;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix(1_750_000_000).unwrap().saturating_add(Duration::from_secs(seconds))
    }

    fn lease(n: u8, token: u64) -> Lease {
        Lease { id: ChallengeId::from_bytes([n; 32]), token }
    }

    fn reservation(n: u8, now: u64) -> Reservation {
        let request = [n; 32];
        Reservation { lease: lease(n, 1), request, now: at(now), until: at(now + 60), keep_until: at(now + 100) }
    }

    #[tokio::test]
    async fn what_is_complete_is_never_replaced() {
        let store = MemoryAnswerStore::new(10_000);
        let (one, id) = (lease(1, 1), lease(1, 1).id);
        let lost = store.keep(one, "nothing was reserved".into(), at(100)).await.unwrap_err();
        assert_eq!(lost.kind(), StoreErrorKind::LeaseLost);
        assert_eq!(store.look_up(id, at(0)).await.unwrap(), None);
        store.reserve(reservation(1, 0)).await.unwrap();
        let running = store.look_up(id, at(0)).await.unwrap().unwrap();
        assert_eq!((running.until, running.answer), (at(60), None));
        store.keep(one, "the answer".into(), at(50)).await.unwrap();
        store.keep(one, "another".into(), at(200)).await.unwrap();
        store.reserve(Reservation { request: [9; 32], lease: lease(1, 2), ..reservation(1, 10) }).await.unwrap();
        store.give_up(one).await.unwrap();
        let kept = store.look_up(id, at(99)).await.unwrap().unwrap();
        assert_eq!((kept.request, kept.answer.as_deref()), ([1; 32], Some(b"the answer".as_slice())));
        assert_eq!(store.look_up(id, at(100)).await.unwrap(), None, "it may be forgotten");
    }

    #[tokio::test]
    async fn it_is_bounded_in_bytes_and_drops_nothing_early() {
        let store = MemoryAnswerStore::new(3 * ROW_BYTES + 100);
        for n in 1..=3 {
            store.reserve(reservation(n, 0)).await.unwrap();
        }
        assert_eq!(store.reserve(reservation(4, 0)).await.unwrap_err().kind(), StoreErrorKind::Full);
        store.reserve(reservation(3, 1)).await.unwrap();
        store.keep(lease(1, 1), vec![0; 101].into(), at(100)).await.unwrap_err();
        store.keep(lease(1, 1), vec![0; 100].into(), at(100)).await.unwrap();
        assert_eq!(store.keep(lease(2, 1), "x".into(), at(100)).await.unwrap_err().kind(), StoreErrorKind::Full);
        store.give_up(lease(2, 1)).await.unwrap();
        assert_eq!((store.len(), store.bytes()), (3, 3 * ROW_BYTES + 100), "what is given up stays as a fence");
        // 1 and 2 may be forgotten now, 3 was prolonged by a second.
        assert_eq!(store.forget(at(100), 10).await.unwrap(), 2);
        assert_eq!(store.forget(at(101), 0).await.unwrap(), 0);
        store.reserve(reservation(4, 101)).await.unwrap();
        assert_eq!((store.len(), store.bytes()), (1, ROW_BYTES));
        assert_eq!(store.forget(at(1000), 10).await.unwrap(), 1);
        assert!(store.is_empty() && store.bytes() == 0 && store.table.lock().due.is_empty());
    }
}
