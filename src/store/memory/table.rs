//! A hash table whose rows lie close together.
//!
//! A table of a standard hash map has empty places for one row in two at times, which for rows of a
//! hundred bytes is most of the memory. Here the rows are a vector without gaps and only their
//! positions, four bytes each, are hashed.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

/// A row that knows its key.
pub(super) trait Row {
    /// The key, exact in all of its bytes.
    fn key(&self) -> &[u8; 32];
}

/// By how many rows a small table grows.
const STEP: usize = 4;

/// Rows by key.
pub(super) struct Table<R> {
    positions: HashTable<u32>,
    rows: Vec<R>,
    /// Where the next look for rows to forget begins.
    hand: usize,
}

impl<R: Row> Table<R> {
    pub(super) fn new() -> Self {
        // Room for a few, so that a claim on a fresh store has nothing to allocate here.
        Self { positions: HashTable::with_capacity(STEP), rows: Vec::with_capacity(STEP), hand: 0 }
    }

    pub(super) fn rows(&self) -> &[R] {
        &self.rows
    }

    pub(super) fn get(&mut self, hash: &DefaultHashBuilder, key: &[u8; 32]) -> Option<&mut R> {
        let Self { positions, rows, .. } = self;
        let position = positions.find(hash.hash_one(key), |at| has_key(rows, *at, key))?;
        rows.get_mut(*position as usize)
    }

    /// Adds a row whose key is not in the table.
    pub(super) fn insert(&mut self, hash: &DefaultHashBuilder, row: R) {
        let Self { positions, rows, .. } = self;
        // A shard has far fewer rows than `u32` counts; a row that could not be found is not kept.
        let Ok(position) = u32::try_from(rows.len()) else { return };
        let code = hash.hash_one(row.key());
        positions.insert_unique(code, position, |at| match rows.get(*at as usize) {
            Some(row) => hash.hash_one(row.key()),
            None => code,
        });
        if rows.len() == rows.capacity() {
            // An eighth more, not twice as many: there are many small tables, and they fill alike.
            rows.reserve_exact((rows.len() / 8).max(STEP));
        }
        rows.push(row);
    }

    pub(super) fn remove(&mut self, hash: &DefaultHashBuilder, key: &[u8; 32]) -> Option<R> {
        let Self { positions, rows, .. } = self;
        let found = positions.find_entry(hash.hash_one(key), |at| has_key(rows, *at, key)).ok()?;
        let (position, _) = found.remove();
        let last = rows.len().checked_sub(1)?;
        // The last row takes the free place.
        if position as usize != last
            && let Some(moved) = rows.last()
            && let Some(at) = positions.find_mut(hash.hash_one(moved.key()), |at| *at as usize == last)
        {
            *at = position;
        }
        let row = rows.swap_remove(position as usize);
        self.shrink(hash);
        Some(row)
    }

    /// Gives memory back after a burst.
    fn shrink(&mut self, hash: &DefaultHashBuilder) {
        let Self { positions, rows, .. } = self;
        if rows.capacity() > 32 && rows.len() < rows.capacity() / 4 {
            let enough = rows.len() * 2;
            rows.shrink_to(enough);
            positions.shrink_to(enough, |at| rows.get(*at as usize).map_or(0, |row| hash.hash_one(row.key())));
        }
    }

    /// Looks at up to `count` rows, in turn, and forgets those that are not to be kept. Answers how many.
    pub(super) fn sweep(
        &mut self,
        hash: &DefaultHashBuilder,
        count: usize,
        mut keep: impl FnMut(&mut R) -> bool,
    ) -> usize {
        let mut forgotten = 0;
        for _ in 0..count.min(self.rows.len()) {
            if self.hand >= self.rows.len() {
                self.hand = 0;
            }
            let Some(row) = self.rows.get_mut(self.hand) else { break };
            if keep(row) {
                self.hand += 1;
            } else {
                // Another row takes the place and is looked at next.
                let key = *row.key();
                self.remove(hash, &key);
                forgotten += 1;
            }
        }
        forgotten
    }
}

fn has_key<R: Row>(rows: &[R], position: u32, key: &[u8; 32]) -> bool {
    rows.get(position as usize).is_some_and(|row| row.key() == key)
}
