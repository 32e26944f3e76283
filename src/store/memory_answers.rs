//! Kept answers of one process, in memory.

use std::{
    collections::{BTreeSet, HashMap, hash_map},
    fmt,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{AnswerKey, AnswerStore, KeptAnswer, Reservation, StoreError, StoreErrorKind};
use crate::protocol::Timestamp;

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
    rows: HashMap<[u8; 32], Row>,
    /// When each row may be forgotten, the next of them first.
    due: BTreeSet<(Timestamp, [u8; 32])>,
    /// What the rows take, with their overhead.
    bytes: usize,
}

struct Row {
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
    fn drop_row(&mut self, key: &[u8; 32]) {
        if let Some(row) = self.rows.remove(key) {
            self.due.remove(&(row.keep_until, *key));
            self.bytes = self.bytes.saturating_sub(row.size());
        }
    }

    fn forget(&mut self, now: Timestamp, limit: usize) -> usize {
        let mut dropped = 0;
        while dropped < limit {
            let Some((due, key)) = self.due.first().copied() else { break };
            if due > now {
                break;
            }
            self.drop_row(&key);
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
    fn size(&self) -> usize {
        ROW_BYTES + self.answer.as_ref().map_or(0, Bytes::len)
    }
}

#[async_trait]
impl AnswerStore for MemoryAnswerStore {
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        let Reservation { key, request, now, until, keep_until } = reservation;
        let key = *key.as_bytes();
        let table = &mut *self.table.lock();
        table.forget(now, ROWS_PER_RESERVATION);
        if table.rows.get(&key).is_some_and(|row| row.keep_until <= now) {
            table.drop_row(&key);
        }
        if !table.rows.contains_key(&key) && !table.has_room(ROW_BYTES, self.max_bytes) {
            return Err(StoreErrorKind::Full.into());
        }
        match table.rows.entry(key) {
            hash_map::Entry::Occupied(row) if row.get().answer.is_some() => {}
            hash_map::Entry::Occupied(mut row) => {
                let row = row.get_mut();
                row.request = request;
                row.until = until;
                if keep_until > row.keep_until {
                    table.due.remove(&(row.keep_until, key));
                    table.due.insert((keep_until, key));
                    row.keep_until = keep_until;
                }
            }
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Row { request, until, keep_until, answer: None });
                table.due.insert((keep_until, key));
                table.bytes += ROW_BYTES;
            }
        }
        Ok(())
    }

    async fn keep(&self, key: AnswerKey, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        // A copy of just its size: the original may be a small part of something large.
        let answer = Bytes::copy_from_slice(&answer);
        let key = *key.as_bytes();
        let table = &mut *self.table.lock();
        let has_room = table.has_room(answer.len(), self.max_bytes);
        let Some(row) = table.rows.get_mut(&key).filter(|row| row.answer.is_none()) else { return Ok(()) };
        if !has_room {
            return Err(StoreErrorKind::Full.into());
        }
        table.bytes += answer.len();
        row.answer = Some(answer);
        if keep_until > row.keep_until {
            table.due.remove(&(row.keep_until, key));
            table.due.insert((keep_until, key));
            row.keep_until = keep_until;
        }
        Ok(())
    }

    async fn give_up(&self, key: AnswerKey) -> Result<(), StoreError> {
        let table = &mut *self.table.lock();
        if table.rows.get(key.as_bytes()).is_some_and(|row| row.answer.is_none()) {
            table.drop_row(key.as_bytes());
        }
        Ok(())
    }

    async fn look_up(&self, key: AnswerKey, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        let table = self.table.lock();
        let row = table.rows.get(key.as_bytes()).filter(|row| row.keep_until > now);
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

    fn key(n: u8) -> AnswerKey {
        AnswerKey::new(ChallengeId::from_bytes([n; 32]), b"key")
    }

    fn reservation(n: u8, now: u64) -> Reservation {
        let request = [n; 32];
        Reservation { key: key(n), request, now: at(now), until: at(now + 60), keep_until: at(now + 100) }
    }

    #[tokio::test]
    async fn what_is_complete_is_never_replaced() {
        let store = MemoryAnswerStore::new(10_000);
        store.keep(key(1), "nothing was reserved".into(), at(100)).await.unwrap();
        assert_eq!(store.look_up(key(1), at(0)).await.unwrap(), None);
        store.reserve(reservation(1, 0)).await.unwrap();
        let running = store.look_up(key(1), at(0)).await.unwrap().unwrap();
        assert_eq!((running.until, running.answer), (at(60), None));
        store.keep(key(1), "the answer".into(), at(50)).await.unwrap();
        store.keep(key(1), "another".into(), at(200)).await.unwrap();
        store.reserve(Reservation { request: [9; 32], ..reservation(1, 10) }).await.unwrap();
        store.give_up(key(1)).await.unwrap();
        let kept = store.look_up(key(1), at(99)).await.unwrap().unwrap();
        assert_eq!((kept.request, kept.answer.as_deref()), ([1; 32], Some(b"the answer".as_slice())));
        assert_eq!(store.look_up(key(1), at(100)).await.unwrap(), None, "it may be forgotten");
    }

    #[tokio::test]
    async fn it_is_bounded_in_bytes_and_drops_nothing_early() {
        let store = MemoryAnswerStore::new(3 * ROW_BYTES + 100);
        for n in 1..=3 {
            store.reserve(reservation(n, 0)).await.unwrap();
        }
        assert_eq!(store.reserve(reservation(4, 0)).await.unwrap_err().kind(), StoreErrorKind::Full);
        store.reserve(reservation(3, 1)).await.unwrap();
        store.keep(key(1), vec![0; 101].into(), at(100)).await.unwrap_err();
        store.keep(key(1), vec![0; 100].into(), at(100)).await.unwrap();
        assert_eq!(store.keep(key(2), "x".into(), at(100)).await.unwrap_err().kind(), StoreErrorKind::Full);
        store.give_up(key(2)).await.unwrap();
        assert_eq!((store.len(), store.bytes()), (2, 2 * ROW_BYTES + 100));
        store.reserve(reservation(4, 50)).await.unwrap();
        // 1 may be forgotten now, 3 was prolonged by a second.
        assert_eq!(store.forget(at(100), 10).await.unwrap(), 1);
        assert_eq!(store.forget(at(101), 0).await.unwrap(), 0);
        store.reserve(reservation(5, 101)).await.unwrap();
        assert_eq!((store.len(), store.bytes()), (2, 2 * ROW_BYTES));
        assert_eq!(store.forget(at(1000), 10).await.unwrap(), 2);
        assert!(store.is_empty() && store.bytes() == 0 && store.table.lock().due.is_empty());
    }
}
