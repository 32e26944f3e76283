//! The payment journal: what has been claimed, settled and delivered.
//!
//! A [`NonceStore`] is what makes a payment single-use and what remembers money that has moved
//! until it has been delivered or given back. [`MemoryNonceStore`] serves one process.

mod memory;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

pub use self::memory::MemoryNonceStore;
use crate::protocol::{ChallengeId, Settlement, SpendKey, Timestamp};

/// The payment journal: one entry per challenge id, one claim per payment proof.
///
/// ```text
///            claim                settle               commit(Delivered)
/// (absent) --------> Held(lease) --------> Settled(lease) ----------> Spent(Delivered)
///    ^                |    |                 |   |
///    |   release      |    | release         |   | release(Undelivered): lease given up,
///    +-- (NotCharged)-+    | (Unknown):      |   +-- stays Settled, redeliverable
///                          +-- stays Held,   |
///                              lease given up+--- commit(Refunded) --> Spent(Refunded)
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
///   | `Spent` | [`Spent`](Claimed::Spent) | `OtherProof` |
///
///   | the id is absent, the exclusive proof | |
///   |---|---|
///   | is claimed by another id that is `Held` | `Busy` |
///   | is claimed by another id that is `Settled` or `Spent` | `OtherProof` |
///   | is free, or the proof is bound | `Won`, not resumed, or [`Full`](StoreErrorKind::Full) |
///
///   The same proof is one of the same kind with the same key. Where an id is claimed with another
///   proof that a third entry has claimed, either table's answer will do: nobody wins.
/// * **Fenced.** Every lease that is given out carries a token greater than all tokens before it for
///   the same id, even if the entry was absent in between. `renew`, `settle`, `commit` and `release`
///   change nothing and fail with [`StoreErrorKind::LeaseLost`] unless the token is the entry's present
///   one. An expired lease that nobody has taken over is still good; one that was given up is not.
/// * **Leases.** A lease that ends at instant `t` is at work before `t` and expired at `t`. A store may keep
///   instants in whole milliseconds, as long as nothing ends or is forgotten earlier by that.
/// * **Taken over as it is.** A claim that takes an entry over finds its settlement and leaves its
///   record; it may prolong `keep_until` and never shortens it.
/// * **Nothing is forgotten early.** Entries that are `Held` or `Settled` are open money: they are
///   never dropped by age. `Spent` entries, and the proofs they claimed, stay at least until
///   [`Claim::keep_until`], and while their end can be taken back.
/// * **Never evict.** A store that is full refuses claims of further ids ([`StoreErrorKind::Full`]); it
///   never drops a live entry to make room. What it has it still answers, takes over and ends.
/// * **Exact keys.** Ids and proofs are compared by all of their 32 bytes.
/// * **Idempotent ends.** Repeating `settle` or `commit` with the same lease and outcome succeeds and
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

    /// Ends the entry: `Settled` becomes `Spent`.
    ///
    /// # Errors
    /// [`StoreErrorKind::LeaseLost`]; [`StoreErrorKind::Conflict`] when nothing was settled or the entry
    /// has ended otherwise.
    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError>;

    /// Gives the lease up, for the reason given. See [`Release`] for what becomes of the entry.
    ///
    /// # Errors
    /// [`StoreErrorKind::LeaseLost`]; [`StoreErrorKind::Conflict`] when the reason does not fit the
    /// entry's state.
    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError>;

    /// Lists open money, in order of the bytes of the challenge id: entries that are `Held` or `Settled`
    /// and whose lease has expired at `page.now` or was given up.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`].
    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError>;
}

/// What a claim asks for.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The challenge.
    pub id: ChallengeId,
    /// What is presented in payment of it.
    pub proof: Proof,
    /// The present instant, by the merchant's clock.
    pub now: Timestamp,
    /// When the lease ends unless it is renewed.
    pub lease_until: Timestamp,
    /// Until when a `Spent` entry and its proof must be remembered. At this instant they may be forgotten.
    pub keep_until: Timestamp,
    /// What somebody who finds the entry unfinished needs to know. Opaque to the store; kept while
    /// the entry is open.
    pub record: Arc<[u8]>,
}

/// What is presented in payment of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The rail's proof can pay one challenge only, anywhere: it is claimed beside the id.
    Exclusive(SpendKey),
    /// The proof cannot pay another challenge by its nature (it is signed over the challenge id, or
    /// the rail has none): it is remembered only to tell a retry from another payment for the
    /// same challenge.
    Bound(SpendKey),
}

impl Proof {
    /// The key, whichever kind it is.
    pub fn key(&self) -> SpendKey {
        match self {
            Self::Exclusive(key) | Self::Bound(key) => *key,
        }
    }
}

/// The right to work on an entry, fenced by its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The challenge.
    pub id: ChallengeId,
    /// Grows with every lease that is given out for the id.
    pub token: u64,
}

/// The answer to a claim.
#[derive(Clone, Debug)]
pub enum Claimed {
    /// The entry is held: verify and settle it.
    Won {
        /// The right to go on.
        lease: Lease,
        /// An earlier holder gave up or was lost before it knew the outcome: money may have moved
        /// already, so the rail must be asked in a way that cannot charge twice.
        resumed: bool,
    },
    /// Settled before but not delivered: deliver it, without a second settlement.
    Settled {
        /// The right to go on.
        lease: Lease,
        /// What was settled.
        settlement: Settlement,
    },
    /// Another claim of the id, or of the exclusive proof, is at work or in doubt.
    Busy,
    /// Delivered or refunded before.
    Spent(End),
    /// The id was paid with another proof, or the exclusive proof has paid another challenge.
    OtherProof,
}

/// How an entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The paid answer was delivered.
    Delivered,
    /// The money was given back.
    Refunded,
}

/// Why a lease is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// It is certain that no money moved. `Held` becomes absent, and the proof is free again.
    NotCharged,
    /// Nobody knows whether money moved. The entry stays `Held` and may be claimed at once.
    Unknown,
    /// The money moved but nothing was delivered. The entry stays `Settled` and may be claimed at
    /// once. The holder of the lease that committed [`End::Delivered`] may take that back with it,
    /// as long as not one byte of the answer has left.
    Undelivered,
}

/// A page of [`NonceStore::unfinished`].
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The present instant: leases that end later are still at work and not listed.
    pub now: Timestamp,
    /// Only ids greater than this one.
    pub after: Option<ChallengeId>,
    /// At most this many.
    pub limit: usize,
}

/// An entry that is open: money has moved or may have moved, and nothing was delivered.
#[derive(Clone, Debug)]
pub struct JournalEntry {
    /// The challenge.
    pub id: ChallengeId,
    /// What was presented.
    pub proof: Proof,
    /// What was settled; `None` when the outcome is unknown.
    pub settlement: Option<Settlement>,
    /// When the last lease ended. One that was given up would have ended then, or ended before.
    pub lease_until: Timestamp,
    /// As given with the claim; where there were several, the latest of them.
    pub keep_until: Timestamp,
    /// As given with the first claim.
    pub record: Arc<[u8]>,
}

/// What kind of thing went wrong in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached or did not answer: it is not known whether the step took effect.
    Unavailable,
    /// There is no room for a new entry.
    Full,
    /// The lease is no longer the entry's present one.
    LeaseLost,
    /// The step does not fit the entry's state.
    Conflict,
}

/// A step of the journal failed.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// An error of a kind without a cause.
    pub fn new(kind: StoreErrorKind) -> Self {
        Self { kind, retry_after: None, source: None }
    }

    /// The backend did not do what it was asked, or nobody knows whether it did.
    pub fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..Self::new(StoreErrorKind::Unavailable) }
    }

    /// When it makes sense to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// What kind of error this is.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// When it makes sense to try again, if the store knows.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl From<StoreErrorKind> for StoreError {
    fn from(kind: StoreErrorKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Unavailable => "the payment journal is unavailable",
            StoreErrorKind::Full => "the payment journal is full",
            StoreErrorKind::LeaseLost => "the lease on the journal entry was lost",
            StoreErrorKind::Conflict => "the step does not fit the state of the journal entry",
        })
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
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

            async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
                (**self).unfinished(page).await
            }
        }
    )*};
}

forward_store!(Arc, Box);
