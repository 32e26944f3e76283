//! A hash table whose rows lie close together, each with the instant at which it wants to be looked at.
//!
//! A table of a standard hash map has empty places for one row in two at times, which for rows of a
//! hundred bytes is most of the memory. Here the rows are a vector without gaps and only their
//! positions, four bytes each, are hashed. The instants are a vector of their own: to look for rows that
//! can be forgotten is to read a few numbers that lie side by side.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

/// A row that knows its key.
pub(super) trait Row {
    /// The key, exact in all of its bytes.
    fn key(&self) -> &[u8; 32];
}

/// An instant in milliseconds since the Unix epoch.
pub(super) type Millis = i64;

/// By how many rows a small table grows.
const STEP: usize = 4;

/// Rows by key.
pub(super) struct Table<R> {
    positions: HashTable<u32>,
    rows: Vec<R>,
    /// When each row is due, beside it.
    due: Vec<Millis>,
    /// Where the next sweep begins.
    hand: usize,
}

/// A row and when it is due.
pub(super) struct Found<'a, R> {
    pub(super) row: &'a mut R,
    pub(super) due: &'a mut Millis,
}

/// What becomes of a row that is due.
pub(super) enum Fate {
    Until(Millis),
    Forgotten,
}

impl<R: Row> Table<R> {
    pub(super) fn new() -> Self {
        // Room for a few, so that a claim on a fresh store has nothing to allocate here.
        Self {
            positions: HashTable::with_capacity(STEP),
            rows: Vec::with_capacity(STEP),
            due: Vec::with_capacity(STEP),
            hand: 0,
        }
    }

    pub(super) fn rows(&self) -> &[R] {
        &self.rows
    }

    pub(super) fn get(&mut self, hash: &DefaultHashBuilder, key: &[u8; 32]) -> Option<Found<'_, R>> {
        let Self { positions, rows, due, .. } = self;
        let position = *positions.find(code(hash, key), |at| has_key(rows, *at, key))? as usize;
        Some(Found { row: rows.get_mut(position)?, due: due.get_mut(position)? })
    }

    /// Adds a row whose key is not in the table.
    pub(super) fn insert(&mut self, hash: &DefaultHashBuilder, row: R, due: Millis) {
        // A shard has far fewer rows than `u32` counts; a row that could not be found is not kept.
        let Ok(position) = u32::try_from(self.rows.len()) else { return };
        let new = code(hash, row.key());
        let rows = &self.rows;
        self.positions
            .insert_unique(new, position, |at| rows.get(*at as usize).map_or(new, |row| code(hash, row.key())));
        if self.rows.len() == self.rows.capacity() {
            // An eighth more, not twice as many: there are many small tables, and they fill alike.
            let more = (self.rows.len() / 8).max(STEP);
            self.rows.reserve_exact(more);
            self.due.reserve_exact(more);
        }
        self.rows.push(row);
        self.due.push(due);
    }

    pub(super) fn remove(&mut self, hash: &DefaultHashBuilder, key: &[u8; 32]) -> Option<R> {
        let Self { positions, rows, due, .. } = self;
        let found = positions.find_entry(code(hash, key), |at| has_key(rows, *at, key)).ok()?;
        let (position, _) = found.remove();
        let last = rows.len().checked_sub(1)?;
        // The last row takes the free place.
        if position as usize != last
            && let Some(moved) = rows.last()
            && let Some(at) = positions.find_mut(code(hash, moved.key()), |at| *at as usize == last)
        {
            *at = position;
        }
        let row = rows.swap_remove(position as usize);
        due.swap_remove(position as usize);
        self.shrink(hash);
        Some(row)
    }

    /// Gives memory back after a burst.
    fn shrink(&mut self, hash: &DefaultHashBuilder) {
        let Self { positions, rows, due, .. } = self;
        if rows.capacity() > 8 * STEP && rows.len() < rows.capacity() / 4 {
            let enough = rows.len() * 2;
            rows.shrink_to(enough);
            due.shrink_to(enough);
            positions.shrink_to(enough, |at| rows.get(*at as usize).map_or(0, |row| code(hash, row.key())));
        }
    }

    /// Looks at up to `count` rows, in turn. Those that are due at `now` and that `fate` says are
    /// forgotten. Answers how many.
    pub(super) fn sweep(
        &mut self,
        hash: &DefaultHashBuilder,
        count: usize,
        now: Millis,
        mut fate: impl FnMut(&mut R, Millis) -> Fate,
    ) -> usize {
        let mut forgotten = 0;
        for _ in 0..count.min(self.rows.len()) {
            if self.hand >= self.rows.len() {
                self.hand = 0;
            }
            let Some(due) = self.due.get_mut(self.hand).filter(|due| **due <= now) else {
                self.hand += 1;
                continue;
            };
            let Some(row) = self.rows.get_mut(self.hand) else { break };
            match fate(row, *due) {
                Fate::Until(later) => {
                    *due = later;
                    self.hand += 1;
                }
                // Another row takes the place and is looked at next.
                Fate::Forgotten => {
                    let key = *row.key();
                    self.remove(hash, &key);
                    forgotten += 1;
                }
            }
        }
        forgotten
    }
}

/// Eight bytes of a key spread it well enough, and the hash of a number is the quickest. Keys are hashes
/// themselves and the seed is not known, so nobody can choose many that collide.
pub(super) fn code(hash: &DefaultHashBuilder, key: &[u8; 32]) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *key;
    hash.hash_one(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

fn has_key<R: Row>(rows: &[R], position: u32, key: &[u8; 32]) -> bool {
    rows.get(position as usize).is_some_and(|row| row.key() == key)
}
