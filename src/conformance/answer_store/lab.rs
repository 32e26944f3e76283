//! What the laws are written with: a store, instants, payments, and steps that say what they expect.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub(super) use crate::conformance::laws::Checked;
use crate::{
    protocol::{ChallengeId, Timestamp},
    store::{AnswerStore, KeptAnswer, Lease, Reservation, StoreError, StoreErrorKind},
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
            lease: lease(n),
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
        done(what, "keep", self.store.keep(lease(n), Bytes::copy_from_slice(answer), self.at(keep)).await)
    }

    /// Reserves number `n` at the beginning, and keeps the answer.
    pub(super) async fn kept(&self, n: u64, answer: &[u8]) -> Checked {
        self.reserved(n).await?;
        self.keep("what was reserved", n, answer, KEEP).await
    }

    pub(super) async fn give_up(&self, what: &str, n: u64) -> Checked {
        done(what, "give_up", self.store.give_up(lease(n)).await)
    }

    pub(super) async fn forget(&self, millis: u64, limit: usize) -> Checked<usize> {
        self.store.forget(self.at(millis), limit).await.map_err(|error| format!("`forget` failed: {error}"))
    }

    pub(super) async fn look_up(&self, n: u64, millis: u64) -> Checked<Option<KeptAnswer>> {
        self.store.look_up(id(n), self.at(millis)).await.map_err(|error| format!("`look_up` failed: {error}"))
    }

    /// Nothing is known of payment `n`.
    pub(super) async fn absent(&self, what: &str, n: u64, millis: u64) -> Checked {
        match self.look_up(n, millis).await? {
            None => Ok(()),
            Some(found) => Err(format!("{what}: found {found:?}")),
        }
    }

    /// The row of payment `n`.
    pub(super) async fn row(&self, what: &str, n: u64, millis: u64) -> Checked<KeptAnswer> {
        let found = self.look_up(n, millis).await?.ok_or_else(|| format!("{what}: nothing is found"))?;
        if found.request == request(n) { Ok(found) } else { Err(format!("{what}: the mark of the request differs")) }
    }

    /// The answer to payment `n` is on its way until an instant.
    pub(super) async fn running(&self, what: &str, n: u64, millis: u64, until: u64) -> Checked {
        self.incomplete(what, n, millis, self.at(until)).await
    }

    /// The answer to payment `n` was given up, and its row is still there.
    pub(super) async fn idle(&self, what: &str, n: u64, millis: u64) -> Checked {
        self.incomplete(what, n, millis, Timestamp::EPOCH).await
    }

    async fn incomplete(&self, what: &str, n: u64, millis: u64, until: Timestamp) -> Checked {
        let found = self.row(what, n, millis).await?;
        match found.answer {
            Some(_) => Err(format!("{what}: an answer is found")),
            None if found.until == until => Ok(()),
            None => Err(format!("{what}: reserved until {} instead of {until}", found.until)),
        }
    }

    /// The answer to payment `n` is complete, byte for byte.
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

/// A refusal of who has lost his lease.
pub(super) fn lost(what: &str, verb: &str, result: Result<(), StoreError>) -> Checked {
    match result {
        Err(error) if error.kind() == StoreErrorKind::LeaseLost => Ok(()),
        Err(error) => Err(format!("{what}: `{verb}` failed, and not as LeaseLost: {error}")),
        Ok(()) => Err(format!("{what}: `{verb}` succeeded")),
    }
}

/// The challenge of payment `n`.
pub(super) fn id(n: u64) -> ChallengeId {
    ChallengeId::from_bytes(digest(b"id", n))
}

/// The first lease of payment `n`.
pub(super) fn lease(n: u64) -> Lease {
    Lease { id: id(n), token: 1 }
}

/// The mark of the request number `n`.
pub(super) fn request(n: u64) -> [u8; 32] {
    digest(b"request", n)
}

fn digest(kind: &[u8], n: u64) -> [u8; 32] {
    Sha256::new().chain_update(kind).chain_update(n.to_be_bytes()).finalize().into()
}
