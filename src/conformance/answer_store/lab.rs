//! What the laws are written with: a store, instants, keys, and steps that say what they expect.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub(super) use crate::conformance::laws::Checked;
use crate::{
    protocol::Timestamp,
    store::{AnswerKey, AnswerStore, KeptAnswer, Reservation, StoreError, StoreErrorKind},
};

/// Until when somebody is at work on an answer, in milliseconds.
pub(super) const WORK: u64 = 30_000;
/// How long a row is kept, in milliseconds.
pub(super) const KEEP: u64 = 300_000;

/// A fresh store and the instant at which its law begins.
pub(super) struct Lab {
    pub(super) store: Arc<dyn AnswerStore>,
    start: Timestamp,
}

impl Lab {
    pub(super) fn new(store: Arc<dyn AnswerStore>, start: Timestamp) -> Self {
        // Whole milliseconds, so that a store may keep instants in them.
        let start = Timestamp::from_unix_millis(start.unix_millis()).unwrap_or(start);
        Self { store, start }
    }

    /// The instant `millis` after the beginning.
    pub(super) fn at(&self, millis: u64) -> Timestamp {
        self.start.saturating_add(Duration::from_millis(millis))
    }

    /// The reservation number `n` at the beginning.
    pub(super) fn reservation(&self, n: u64) -> Reservation {
        Reservation {
            key: key(n),
            request: request(n),
            now: self.at(0),
            until: self.at(WORK),
            keep_until: self.at(KEEP),
        }
    }

    pub(super) async fn reserve(&self, what: &str, reservation: Reservation) -> Checked {
        done(what, "reserve", self.store.reserve(reservation).await)
    }

    /// Reserves number `n` at the beginning.
    pub(super) async fn reserved(&self, n: u64) -> Checked {
        self.reserve("a first reservation", self.reservation(n)).await
    }

    pub(super) async fn keep(&self, what: &str, n: u64, answer: &[u8], keep: u64) -> Checked {
        done(what, "keep", self.store.keep(key(n), Bytes::copy_from_slice(answer), self.at(keep)).await)
    }

    /// Reserves number `n` at the beginning, and keeps the answer.
    pub(super) async fn kept(&self, n: u64, answer: &[u8]) -> Checked {
        self.reserved(n).await?;
        self.keep("what was reserved", n, answer, KEEP).await
    }

    pub(super) async fn give_up(&self, what: &str, n: u64) -> Checked {
        done(what, "give_up", self.store.give_up(key(n)).await)
    }

    pub(super) async fn forget(&self, millis: u64, limit: usize) -> Checked<usize> {
        self.store.forget(self.at(millis), limit).await.map_err(|error| format!("`forget` failed: {error}"))
    }

    pub(super) async fn look_up(&self, n: u64, millis: u64) -> Checked<Option<KeptAnswer>> {
        self.store.look_up(key(n), self.at(millis)).await.map_err(|error| format!("`look_up` failed: {error}"))
    }

    /// Nothing is known under key `n`.
    pub(super) async fn absent(&self, what: &str, n: u64, millis: u64) -> Checked {
        match self.look_up(n, millis).await? {
            None => Ok(()),
            Some(found) => Err(format!("{what}: found {found:?}")),
        }
    }

    /// The row under key `n`.
    pub(super) async fn row(&self, what: &str, n: u64, millis: u64) -> Checked<KeptAnswer> {
        let found = self.look_up(n, millis).await?.ok_or_else(|| format!("{what}: nothing is found"))?;
        if found.request == request(n) { Ok(found) } else { Err(format!("{what}: the hash of the request differs")) }
    }

    /// Key `n` is reserved until an instant.
    pub(super) async fn running(&self, what: &str, n: u64, millis: u64, until: u64) -> Checked {
        let found = self.row(what, n, millis).await?;
        match found.answer {
            Some(_) => Err(format!("{what}: an answer is found")),
            None if found.until == self.at(until) => Ok(()),
            None => Err(format!("{what}: reserved until {} instead of {}", found.until, self.at(until))),
        }
    }

    /// The answer under key `n` is complete, byte for byte.
    pub(super) async fn complete(&self, what: &str, n: u64, millis: u64, answer: &[u8]) -> Checked {
        match self.row(what, n, millis).await?.answer {
            Some(found) if *found == *answer => Ok(()),
            Some(found) => {
                let same = found.iter().zip(answer).take_while(|(found, given)| found == given).count();
                let (found, given) = (found.len(), answer.len());
                Err(format!("{what}: kept {given} bytes and found {found}, of which the first {same} are the same"))
            }
            None => Err(format!("{what}: the answer is not complete")),
        }
    }
}

fn done(what: &str, verb: &str, result: Result<(), StoreError>) -> Checked {
    result.map_err(|error| format!("{what}: `{verb}` failed: {error}"))
}

/// Whether a step was refused for want of room.
pub(super) fn is_full(result: &Result<(), StoreError>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::Full)
}

/// The key number `n`.
pub(super) fn key(n: u64) -> AnswerKey {
    AnswerKey::from_bytes(digest(b"key", n))
}

/// The hash of the request number `n`.
pub(super) fn request(n: u64) -> [u8; 32] {
    digest(b"request", n)
}

fn digest(kind: &[u8], n: u64) -> [u8; 32] {
    Sha256::new().chain_update(kind).chain_update(n.to_be_bytes()).finalize().into()
}
