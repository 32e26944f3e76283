//! The locks and counters of the store: the real ones, or those of the model checker.

#[cfg(all(test, tower_mpp_loom))]
pub(super) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
#[cfg(not(all(test, tower_mpp_loom)))]
pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[cfg(not(all(test, tower_mpp_loom)))]
pub(super) use parking_lot::Mutex;

/// The lock of the model checker with the face of the real one.
#[cfg(all(test, tower_mpp_loom))]
pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(all(test, tower_mpp_loom))]
impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The hash of a new store, with a seed that no payer knows.
#[cfg(not(all(test, tower_mpp_loom)))]
pub(super) fn new_hash() -> hashbrown::DefaultHashBuilder {
    hashbrown::DefaultHashBuilder::default()
}

/// One hash for all stores: the model checker must see the same thing happen each time.
#[cfg(all(test, tower_mpp_loom))]
pub(super) fn new_hash() -> hashbrown::DefaultHashBuilder {
    static HASH: std::sync::OnceLock<hashbrown::DefaultHashBuilder> = std::sync::OnceLock::new();
    HASH.get_or_init(Default::default).clone()
}
