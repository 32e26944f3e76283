//! An entry as the stores that outlive a process keep it.

use super::{End, EntryState, JournalEntry, Proof, RefundReason, StoreError};
use crate::protocol::{ChallengeId, Settlement, SpendKey, Timestamp};

/// How far an entry came, as a number. What is below [`State::DELIVERED`] is open.
pub(super) struct State;

impl State {
    pub(super) const HELD: i16 = 0;
    pub(super) const SETTLED: i16 = 1;
    pub(super) const REFUNDING: i16 = 2;
    pub(super) const DELIVERED: i16 = 3;
    pub(super) const REFUNDED: i16 = 4;

    pub(super) fn of(end: End) -> i16 {
        match end {
            End::Delivered => Self::DELIVERED,
            End::Refunded => Self::REFUNDED,
        }
    }

    pub(super) fn end(state: i16) -> Option<End> {
        match state {
            Self::DELIVERED => Some(End::Delivered),
            Self::REFUNDED => Some(End::Refunded),
            _ => None,
        }
    }
}

/// The columns of an entry. Instants are in milliseconds since the Unix epoch, rounded towards the future.
pub(super) struct Row {
    pub(super) id: [u8; 32],
    /// Whether the proof is an exclusive one.
    pub(super) exclusive: bool,
    pub(super) proof: [u8; 32],
    /// See [`State`].
    pub(super) state: i16,
    /// JSON, see [`settlement_json`].
    pub(super) settlement: Option<String>,
    /// See [`RefundReason::as_str`].
    pub(super) reason: Option<String>,
    /// Nobody may give the money back unasked.
    pub(super) keep_money: bool,
    pub(super) lease_until: i64,
    pub(super) put_off: Option<i64>,
    pub(super) attempts: u32,
    pub(super) keep_until: i64,
    pub(super) record: Vec<u8>,
}

impl Row {
    /// The entry as others see it.
    pub(super) fn entry(self) -> Result<JournalEntry, StoreError> {
        let settlement = self.settlement.as_deref().map(read_settlement).transpose()?;
        let state = match (self.state, settlement) {
            (State::HELD, _) => EntryState::Held,
            (State::SETTLED, Some(settlement)) => EntryState::Settled { settlement, refundable: !self.keep_money },
            (State::REFUNDING, Some(settlement)) => {
                let reason = self.reason.as_deref().and_then(RefundReason::parse).ok_or_else(unreadable)?;
                EntryState::Refunding { settlement, reason }
            }
            (state, settlement) => EntryState::Spent { end: State::end(state).ok_or_else(unreadable)?, settlement },
        };
        let key = SpendKey::from_bytes(self.proof);
        Ok(JournalEntry {
            id: ChallengeId::from_bytes(self.id),
            proof: if self.exclusive { Proof::Exclusive(key) } else { Proof::Bound(key) },
            state,
            lease_until: instant(self.lease_until)?,
            put_off: self.put_off.map(instant).transpose()?,
            attempts: self.attempts,
            keep_until: instant(self.keep_until)?,
            record: self.record.into(),
        })
    }
}

/// A settlement as it is stored: the same one is always the same text.
pub(super) fn settlement_json(settlement: &Settlement) -> Result<String, StoreError> {
    serde_json::to_string(settlement).map_err(StoreError::unavailable)
}

pub(super) fn read_settlement(json: &str) -> Result<Settlement, StoreError> {
    serde_json::from_str(json).map_err(|_| unreadable())
}

pub(super) fn instant(millis: i64) -> Result<Timestamp, StoreError> {
    // The last instant there is was rounded up beyond itself.
    Timestamp::from_unix_millis(millis)
        .or_else(|| Timestamp::from_unix_millis(millis.saturating_sub(1)))
        .ok_or_else(unreadable)
}

/// Something in the store was not written by this library, or by a later version of it.
pub(super) fn unreadable() -> StoreError {
    StoreError::unavailable("an entry of the payment journal cannot be read")
}
