//! Answers that are kept for requests that come again with the same `Idempotency-Key`.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::StoreError;
use crate::protocol::{ChallengeId, Timestamp};

/// Names a kept answer: the challenge that was paid, and the `Idempotency-Key` of the request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnswerKey([u8; 32]);

impl AnswerKey {
    /// The key of an answer. What the client chose is hashed: it may be a secret, and of any length.
    pub fn new(id: ChallengeId, idempotency_key: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(id.as_bytes());
        hash.update(idempotency_key);
        Self(hash.finalize().into())
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// All bytes, for a store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for AnswerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerKey(..)")
    }
}

/// An answer that is on its way.
#[derive(Clone, Copy, Debug)]
pub struct Reservation {
    /// Its name.
    pub key: AnswerKey,
    /// A hash of the request that it answers: another request under the same name is refused.
    pub request: [u8; 32],
    /// The present instant, by the merchant's clock.
    pub now: Timestamp,
    /// From this instant on nobody is at work on it any more, unless it is reserved again.
    pub until: Timestamp,
    /// Until when it must be remembered. At this instant it may be forgotten.
    pub keep_until: Timestamp,
}

/// What is known under an [`AnswerKey`].
#[derive(Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The hash of the request.
    pub request: [u8; 32],
    /// Until when somebody is at work on it.
    pub until: Timestamp,
    /// The answer, once it is complete. It is private to the payer.
    pub answer: Option<Bytes>,
}

impl fmt::Debug for KeptAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptAnswer").field("until", &self.until).field("complete", &self.answer.is_some()).finish()
    }
}

/// Keeps paid answers for the requests that ask for them again.
///
/// # Contract
///
/// No money depends on it: single use is the journal's work. An answer that is lost, or forgotten, is
/// answered "used before" and not executed again.
///
/// * Only the holder of the lease on the journal entry reserves and keeps under its keys: the steps are
///   never in a race with another. Each is atomic by itself, and durable before it answers, as far as
///   the store promises durability at all.
/// * [`reserve`](Self::reserve) makes a row or renews the reservation in it; it never changes an answer
///   that is complete. [`keep`](Self::keep) replaces nothing that is complete.
/// * Keys are compared by all of their 32 bytes, and answers come back byte for byte.
/// * Rows are bounded in number or in bytes. A store that is full refuses
///   ([`StoreErrorKind::Full`](super::StoreErrorKind::Full)); the merchant then keeps no answer.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not keep answers",
    label = "this must implement `AnswerStore`",
    note = "`MemoryAnswerStore::new(bytes)` serves one process"
)]
pub trait AnswerStore: Send + Sync + 'static {
    /// Says that an answer is on its way.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError>;

    /// Keeps a complete answer under a key that was reserved. `keep_until` is moved to a later instant
    /// only. Where nothing was reserved it does nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn keep(&self, key: AnswerKey, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError>;

    /// Takes back a reservation whose answer will not be kept. What is complete stays.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn give_up(&self, key: AnswerKey) -> Result<(), StoreError>;

    /// What is known under a key, unless it may be forgotten at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn look_up(&self, key: AnswerKey, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError>;

    /// Drops rows that may be forgotten at `now`, at most `limit`. Answers how many it dropped. A store
    /// that does this by itself answers 0.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;
}

macro_rules! forward_answers {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        impl<T: AnswerStore + ?Sized> AnswerStore for $pointer<T> {
            async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
                (**self).reserve(reservation).await
            }

            async fn keep(&self, key: AnswerKey, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
                (**self).keep(key, answer, keep_until).await
            }

            async fn give_up(&self, key: AnswerKey) -> Result<(), StoreError> {
                (**self).give_up(key).await
            }

            async fn look_up(&self, key: AnswerKey, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
                (**self).look_up(key, now).await
            }

            async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
                (**self).forget(now, limit).await
            }
        }
    )*};
}

forward_answers!(Arc, Box);
