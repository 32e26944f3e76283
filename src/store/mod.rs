//! The payment journal: what has been claimed, settled and delivered.
//!
//! A [`NonceStore`] is what makes a payment single-use and what remembers money that has moved
//! until it has been delivered or given back. [`MemoryNonceStore`] serves one process.

mod answers;
#[cfg(feature = "encrypted-answers")]
mod encrypted_answers;
mod entry;
mod error;
mod memory;
mod memory_answers;
mod memory_receipts;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod receipt_row;
mod receipts;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod row;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;

#[cfg(feature = "encrypted-answers")]
pub use self::encrypted_answers::{AnswerKeys, EncryptedAnswers};
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresNonceStore, PostgresNonceStoreBuilder};
#[cfg(feature = "redis")]
pub use self::redis::{RedisNonceStore, RedisNonceStoreBuilder};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{SqliteNonceStore, SqliteNonceStoreBuilder};
pub use self::{
    answers::{AnswerStore, KeptAnswer, Reservation},
    entry::{Claim, Claimed, End, EntryState, JournalEntry, Lease, Page, Proof, RefundReason, Release, Take, Taken},
    error::{StoreError, StoreErrorKind},
    memory::MemoryNonceStore,
    memory_answers::MemoryAnswerStore,
    memory_receipts::MemoryReceiptStore,
    receipts::{Listed, NameTotal, OutcomeRow, PublicPage, ReceiptRow, ReceiptStore, Totals},
};
use crate::protocol::{ChallengeId, Settlement, Timestamp};

/// The payment journal: one entry per challenge id, one claim per payment proof.
///
/// ```text
///            claim                settle               commit(Delivered)
/// (absent) --------> Held(lease) --------> Settled(lease) ------------> Spent(Delivered)
///    ^                |    |                 |  |  ^  ^                       |
///    |   release      |    | release         |  |  |  +-- release(Undelivered): the end is taken back
///    +-- (NotCharged)-+    | (Unknown):      |  |  |  |                       |
///                          +-- stays Held,   |  |  |  +-- release(NotRefundable), the rail refuses
///                              lease given up|  |  |  |                       |
///                                            |  |  +- | ----- release(Undelivered | NotRefundable):
///                                            |  +-----+       stays Settled, redeliverable
///                                            | refund         |               | refund, asked for
///                                            +-----> Refunding(lease) <-------+
///                                                        | commit(Refunded)
///                                                        +------------> Spent(Refunded)
/// ```
///
/// # Contract
///
/// Money depends on every line of this. A false "won" charges or delivers twice; a false "busy"
/// loses a sale. When in doubt, fail with an error: the caller then serves nothing and asks for no
/// money. [`crate::conformance`] checks it.
///
/// * **Atomic.** [`claim`](Self::claim) is one atomic step, over the challenge id *and* an exclusive
///   proof together. A look-up followed by a write is not a claim.
/// * **One winner.** Among any number of concurrent claims of one id at most one is answered with a
///   lease; the same holds for any number of ids that share an exclusive proof.
/// * **Answers.** What a claim is answered:
///
///   | the id is | same proof | another proof |
///   |---|---|---|
///   | `Held`, lease at work | [`Busy`](Claimed::Busy) | `Busy` |
///   | `Held`, lease expired or given up | [`Won`](Claimed::Won), resumed | `Busy`: in doubt |
///   | `Settled`, lease at work | `Busy` | [`OtherProof`](Claimed::OtherProof) |
///   | `Settled`, lease expired or given up | [`Settled`](Claimed::Settled) | `OtherProof` |
///   | `Refunding`, whatever its lease | [`Refunding`](Claimed::Refunding) | `OtherProof` |
///   | `Spent` | [`Spent`](Claimed::Spent) | `OtherProof` |
///
///   | the id is absent, the exclusive proof | |
///   |---|---|
///   | is claimed by another id that is `Held` | `Busy` |
///   | is claimed by another id that is `Settled`, `Refunding` or `Spent` | `OtherProof` |
///   | is free, or the proof is bound | `Won`, not resumed, or [`Full`](StoreErrorKind::Full) |
///
///   The same proof is one of the same kind with the same key. Where an id is claimed with another
///   proof that a third entry has claimed, either table's answer will do: nobody wins.
/// * **Fenced.** Every lease that is given out, by `claim` or by `take`, carries a token greater than all
///   tokens before it for the same id, even if the entry was absent in between. `renew`, `settle`,
///   `refund`, `commit`, `release` and `put_off` change nothing and fail with [`StoreErrorKind::LeaseLost`] unless the token is the entry's present
///   one. An expired lease that nobody has taken over is still good; one that was given up is not.
/// * **Leases.** A lease that ends at instant `t` is at work before `t` and expired at `t`. A store may keep
///   instants in whole milliseconds, as long as nothing ends or is forgotten earlier by that.
/// * **Taken over as it is.** A claim that takes an entry over finds its settlement and leaves its
///   record; it may prolong `keep_until` and never shortens it.
/// * **Taken once.** [`take`](Self::take) is atomic as a claim is: among any number of concurrent takes
///   and claims of an entry at most one is answered with a lease. It never makes an entry, and it never
///   changes the proof, the record, `keep_until` or the state.
/// * **Put off.** An entry that was [put off](Self::put_off) until `t` is answered `Busy` by takes before
///   `t`, unless it is asked for, and is not listed as due. A claim of it is not affected; one that takes
///   it over ends that and sets `attempts` back to zero; so do `settle`, `refund`, `commit` and `release`.
/// * **Delivered stays delivered.** The settlement of an entry that is `Spent(Delivered)` may be dropped
///   when the lease has ended. A store that still has it hands the entry out to a take that asks for it
///   (`Busy` while a lease is at work), and to no other take. With that lease it can only become
///   `Refunding`: it is never taken back to `Settled`, and where the rail then refuses,
///   [`Release::NotRefundable`] makes it `Spent(Delivered)` again.
/// * **Nothing is forgotten early.** Entries that are `Held`, `Settled` or `Refunding` are open money:
///   they are never dropped by age. `Spent` entries, and the proofs they claimed, stay at least until
///   [`Claim::keep_until`], and while their end can be taken back.
/// * **Never evict.** A store that is full refuses claims of further ids ([`StoreErrorKind::Full`]); it
///   never drops a live entry to make room. What it has it still answers, takes over and ends.
/// * **Exact keys.** Ids and proofs are compared by all of their 32 bytes.
/// * **Idempotent ends.** Repeating `settle`, `refund` or `commit` with the same lease and outcome succeeds and
///   changes nothing, so that a lost reply can be repeated. Another outcome changes nothing either and
///   is a [`StoreErrorKind::Conflict`], and so is every step that the entry's state has no arrow for.
/// * **The end can be taken back.** `commit` does not give the lease up. Until the lease ends its holder
///   may take [`End::Delivered`] back with [`Release::Undelivered`], and the entry is `Settled` with all
///   that it had; after that a store may have dropped what it takes, and answer `LeaseLost`.
/// * **Durable before it answers**, as far as the store promises durability at all.
///
/// Time is what the caller says it is (`now`): a store never asks its own clock about leases.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a payment journal",
    label = "this must implement `NonceStore`",
    note = "`MemoryNonceStore::single_process(capacity)` serves one process; `examples/custom_store` shows how to write one"
)]
pub trait NonceStore: Send + Sync + 'static {
    /// Claims a challenge and, when it is exclusive, its proof, in one atomic step.
    ///
    /// # Errors
    /// [`StoreErrorKind::Full`] when there is no room, [`StoreErrorKind::Unavailable`] when the
    /// outcome is not known. After an error the entry may or may not be held until the lease ends.
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError>;

    /// Moves the end of the lease to `until`. For an entry that has ended it succeeds and may do nothing.
    ///
    /// # Errors
    /// [`StoreErrorKind::LeaseLost`] when another lease was given out since.
    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError>;

    /// Records that the money has moved: `Held` becomes `Settled`. The lease stays in force.
    ///
    /// # Errors
    /// [`StoreErrorKind::LeaseLost`]; [`StoreErrorKind::Conflict`] when something else was settled or the
    /// entry has ended; [`StoreErrorKind::Unavailable`] when it is not known whether it was recorded.
    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError>;

    /// Records, before the rail is asked, that the money is to be given back: `Settled` becomes
    /// `Refunding`, and so does `Spent(Delivered)` with the lease of a take that asked for it. From then
    /// on nothing is delivered for it. The lease stays in force.
    ///
    /// # Errors
    /// [`StoreErrorKind::LeaseLost`]; [`StoreErrorKind::Conflict`] when nothing was settled, another reason
    /// was recorded, or the entry has ended otherwise.
    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError>;

    /// Ends the entry: `Settled` becomes `Spent(Delivered)`, `Refunding` becomes `Spent(Refunded)`.
    ///
    /// # Errors
    /// [`StoreErrorKind::LeaseLost`]; [`StoreErrorKind::Conflict`] when the end does not fit the state or
    /// the entry has ended otherwise.
    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError>;

    /// Gives the lease up, for the reason given. See [`Release`] for what becomes of the entry.
    ///
    /// # Errors
    /// [`StoreErrorKind::LeaseLost`]; [`StoreErrorKind::Conflict`] when the reason does not fit the
    /// entry's state.
    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError>;

    /// Gives the lease up and puts the entry off: until `until` nobody takes it unless it is asked for.
    /// The state stays as it is.
    ///
    /// # Errors
    /// [`StoreErrorKind::LeaseLost`].
    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError>;

    /// Takes over an open entry that nobody is at work on, without the payer: to find out what became of
    /// it, or to give the money back.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`]. After an error the entry may or may not be taken until the lease ends.
    async fn take(&self, take: Take) -> Result<Taken, StoreError>;

    /// Looks an entry up, whatever its state, and changes nothing.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError>;

    /// Lists open money, in order of the bytes of the challenge id: entries that are `Held`, `Settled` or
    /// `Refunding` and whose lease has expired at `page.now` or was given up; with [`Page::due`] only those
    /// that were not put off to a later instant than `page.now`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError>;

    /// Drops entries that may be forgotten at `now`, at most `limit`, and gives their space back. Answers
    /// how many it dropped. A store that does this by itself answers 0.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;
}

macro_rules! forward_store {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        impl<T: NonceStore + ?Sized> NonceStore for $pointer<T> {
            async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
                (**self).claim(claim).await
            }

            async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
                (**self).renew(lease, until).await
            }

            async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
                (**self).settle(lease, settlement).await
            }

            async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
                (**self).commit(lease, end).await
            }

            async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
                (**self).release(lease, reason).await
            }

            async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
                (**self).refund(lease, reason).await
            }

            async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
                (**self).put_off(lease, until).await
            }

            async fn take(&self, take: Take) -> Result<Taken, StoreError> {
                (**self).take(take).await
            }

            async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
                (**self).find(id).await
            }

            async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
                (**self).forget(now, limit).await
            }

            async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
                (**self).unfinished(page).await
            }
        }
    )*};
}

forward_store!(Arc, Box);
