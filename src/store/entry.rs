//! What goes into the journal and what comes out of it.

use std::{fmt, sync::Arc};

use crate::protocol::{ChallengeId, Settlement, SpendKey, Timestamp};

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
    /// The money is on its way back: nothing is delivered for it any more.
    Refunding,
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
    /// The money moved, nothing was delivered, and nobody may give the money back unasked: something was
    /// done for it that cannot be undone, or the rail refuses to give it back. `Settled` or `Refunding`
    /// becomes `Settled` that is not [`refundable`](EntryState::Settled::refundable), for good, and may be
    /// claimed at once. Only where it had been delivered before somebody asked for its money, `Refunding`
    /// becomes `Spent(Delivered)` again.
    NotRefundable,
}

/// What [`NonceStore::take`](super::NonceStore::take) asks for.
#[derive(Clone, Copy, Debug)]
pub struct Take {
    /// The challenge.
    pub id: ChallengeId,
    /// The present instant, by the merchant's clock.
    pub now: Timestamp,
    /// When the lease ends unless it is renewed.
    pub lease_until: Timestamp,
    /// Somebody asks for this very entry: it is taken although it was put off, and although it was
    /// delivered, as long as its settlement is still known.
    pub asked_for: bool,
}

/// The answer to a [`Take`].
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // It is moved once, and most often it is the entry.
pub enum Taken {
    /// The entry, with the right to work on it.
    Won {
        /// The right to go on.
        lease: Lease,
        /// As it is with the new lease.
        entry: JournalEntry,
    },
    /// Somebody is at work on it, or it was put off.
    Busy,
    /// Delivered or refunded before.
    Spent(End),
    /// There is no such entry.
    Absent,
}

/// Why money is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefundReason {
    /// The provider of the service was never called.
    NotStarted,
    /// The provider of the service gave no first byte in time.
    TimedOut,
    /// Nothing was delivered for as long as it could have been.
    Undelivered,
    /// The merchant wants it.
    Requested,
}

impl RefundReason {
    /// All of them.
    pub const ALL: &[Self] = &[Self::NotStarted, Self::TimedOut, Self::Undelivered, Self::Requested];

    /// The name in journals, events and listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::TimedOut => "timed_out",
            Self::Undelivered => "undelivered",
            Self::Requested => "requested",
        }
    }

    /// The reason of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for RefundReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A page of [`NonceStore::unfinished`](super::NonceStore::unfinished).
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The present instant: leases that end later are still at work and not listed.
    pub now: Timestamp,
    /// Only ids greater than this one.
    pub after: Option<ChallengeId>,
    /// At most this many.
    pub limit: usize,
    /// Only what was not put off to a later instant.
    pub due: bool,
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// The challenge.
    pub id: ChallengeId,
    /// What was presented.
    pub proof: Proof,
    /// How far it came.
    pub state: EntryState,
    /// When the last lease ends or ended. One that was given up would have ended then, or ended before.
    pub lease_until: Timestamp,
    /// Before this instant nobody takes it unless it is asked for.
    pub put_off: Option<Timestamp>,
    /// How often it was taken and put off again.
    pub attempts: u32,
    /// As given with the claim; where there were several, the latest of them.
    pub keep_until: Timestamp,
    /// As given with the first claim.
    pub record: Arc<[u8]>,
}

/// How far an entry came.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryState {
    /// Claimed. Where the lease is over, nobody knows whether money moved.
    Held,
    /// The money has moved and nothing was delivered.
    Settled {
        /// What was settled.
        settlement: Settlement,
        /// Whether it may be given back unasked, see [`Release::NotRefundable`].
        refundable: bool,
    },
    /// The money is on its way back.
    Refunding {
        /// What was settled.
        settlement: Settlement,
        /// Why it is given back.
        reason: RefundReason,
    },
    /// It has ended.
    Spent {
        /// How.
        end: End,
        /// What was settled, as long as the store knows it.
        settlement: Option<Settlement>,
    },
}

impl JournalEntry {
    /// What was settled, where that is known.
    pub fn settlement(&self) -> Option<&Settlement> {
        match &self.state {
            EntryState::Held => None,
            EntryState::Settled { settlement, .. } | EntryState::Refunding { settlement, .. } => Some(settlement),
            EntryState::Spent { settlement, .. } => settlement.as_ref(),
        }
    }
}
