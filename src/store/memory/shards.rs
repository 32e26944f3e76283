//! Many locks instead of one.

use super::sync::Mutex;

/// A power of two of shards, each behind its lock.
pub(super) struct Shards<T> {
    first: Box<[Mutex<T>]>,
    /// Stands apart, so that there always is a shard to answer with.
    last: Mutex<T>,
    /// How many leading bits choose the shard.
    bits: u32,
}

impl<T> Shards<T> {
    pub(super) fn new(count: usize, mut make: impl FnMut() -> T) -> Self {
        Self {
            first: (1..count).map(|_| Mutex::new(make())).collect(),
            last: Mutex::new(make()),
            bits: count.trailing_zeros(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.first.len() + 1
    }

    /// The shard for 64 bits whose leading ones are evenly spread.
    pub(super) fn index(&self, bits: u64) -> usize {
        // At most 16 bits are left, and none when there is one shard.
        bits.checked_shr(u64::BITS - self.bits).map_or(0, |index| index as usize)
    }

    pub(super) fn wrapping(&self, index: usize) -> &Mutex<T> {
        self.first.get(index & self.first.len()).unwrap_or(&self.last)
    }
}

/// The leading 64 bits of a key. Ordered like the keys, so shards are in order of the ids in them.
pub(super) fn leading(key: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
