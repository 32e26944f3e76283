//! Answers that are kept for requests that come again with the same `Idempotency-Key`.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Lease, StoreError};
use crate::protocol::{ChallengeId, Timestamp};

/// An answer that is on its way.
#[derive(Clone, Copy, Debug)]
pub struct Reservation {
    /// The lease of the journal under which it is made. Its challenge names the row.
    pub lease: Lease,
    /// The mark of the request that it answers: what tells it from others, and nothing that could be read back.
    pub request: [u8; 32],
    /// The present instant, by the merchant's clock.
    pub now: Timestamp,
    /// From this instant on nobody is at work on it any more, unless it is reserved again.
    pub until: Timestamp,
    /// Until when it must be remembered. At this instant it may be forgotten.
    pub keep_until: Timestamp,
}

/// What is known of the answer to a payment.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The mark of the request.
    pub request: [u8; 32],
    /// Until when somebody is at work on it. The epoch where it was given up.
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
/// There is one row for each payment, named by its challenge. Single use is the journal's work; what a store
/// of answers must not do is bring an answer back that the journal's present holder did not make. A row that
/// is lost, or forgotten, is answered "used before" and not executed again.
///
/// * **Fenced.** Every step that changes a row carries the lease of the journal under which it is made. Who
///   held it before may still be alive, and not know yet that somebody has taken over and made another
///   answer: were the older answer kept after that, one payment would have bought two. So a row remembers the
///   token of whoever has reserved it last, and no lesser one changes it:
///   [`StoreErrorKind::LeaseLost`](super::StoreErrorKind::LeaseLost). A row that was given up stays for that. So
///   does one that was reserved only to give the money back: no answer must be kept beside a refund.
/// * **Atomic.** Steps of an older and of a newer holder may come at once, and in any order. Each is atomic,
///   and durable before it answers, as far as the store promises durability at all.
/// * **Complete stays.** Nothing replaces an answer that is complete, whoever made it: a newer holder finds
///   it with [`look_up`](Self::look_up) after it has reserved, and gives it.
/// * **Exact.** Ids are compared by all of their 32 bytes and tokens as numbers, and answers come back byte
///   for byte.
/// * **Bounded.** Rows are bounded in number or in bytes. A store that is full refuses
///   ([`StoreErrorKind::Full`](super::StoreErrorKind::Full)); the merchant then keeps no answer. It never
///   drops a row early to make room. A row that may be forgotten counts as none.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not keep answers",
    label = "this must implement `AnswerStore`",
    note = "`MemoryAnswerStore::new(bytes)` serves one process"
)]
pub trait AnswerStore: Send + Sync + 'static {
    /// Says that an answer is on its way.
    ///
    /// | the row | |
    /// |---|---|
    /// | is absent, or may be forgotten at `now` | is made, with this token |
    /// | has a greater token | fails, whatever is in it |
    /// | is complete | does not change at all, and this succeeds |
    /// | has the same or a lesser token | is taken over: token, request and `until` are those of the reservation, and `keep_until` is moved to a later instant only |
    ///
    /// # Errors
    /// [`LeaseLost`](super::StoreErrorKind::LeaseLost); [`Full`](super::StoreErrorKind::Full) where there is
    /// no row and no room for one.
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError>;

    /// Keeps the complete answer of a lease that has reserved it. `keep_until` is moved to a later instant
    /// only. What the same lease has completed before stays as it is, and this succeeds.
    ///
    /// # Errors
    /// [`LeaseLost`](super::StoreErrorKind::LeaseLost) where there is no row, or one with another token;
    /// [`Full`](super::StoreErrorKind::Full).
    async fn keep(&self, lease: Lease, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError>;

    /// Says that nobody is at work any more on an answer that will not be kept: `until` becomes the epoch. The
    /// row stays, so that no older holder can reserve again. What is complete, and what has another token,
    /// does not change, and this succeeds.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn give_up(&self, lease: Lease) -> Result<(), StoreError>;

    /// What is known of the answer to a payment, unless it may be forgotten at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn look_up(&self, id: ChallengeId, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError>;

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

            async fn keep(&self, lease: Lease, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
                (**self).keep(lease, answer, keep_until).await
            }

            async fn give_up(&self, lease: Lease) -> Result<(), StoreError> {
                (**self).give_up(lease).await
            }

            async fn look_up(&self, id: ChallengeId, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
                (**self).look_up(id, now).await
            }

            async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
                (**self).forget(now, limit).await
            }
        }
    )*};
}

forward_answers!(Arc, Box);
