//! What scripts answer. Anything unexpected is an error: it was not written by this library.

use std::{str::FromStr, vec};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use redis::Value;

use crate::{
    protocol::ChallengeId,
    store::{
        JournalEntry, Proof, StoreError,
        row::{Row, State, unreadable},
    },
};

/// A list of values, read from front to back.
pub(super) struct Reply(vec::IntoIter<Value>);

impl Reply {
    pub(super) fn new(value: Value) -> Option<Self> {
        match value {
            Value::Array(values) => Some(Self(values.into_iter())),
            _ => None,
        }
    }

    /// The next value, if there is one and it is not nil.
    pub(super) fn bytes(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
            Some(Value::Nil) | None => Ok(None),
            Some(_) => Err(unreadable()),
        }
    }

    pub(super) fn text(&mut self) -> Result<Option<String>, StoreError> {
        self.bytes()?.map(|bytes| String::from_utf8(bytes).map_err(|_| unreadable())).transpose()
    }

    pub(super) fn number<T: FromStr>(&mut self) -> Result<Option<T>, StoreError> {
        self.text()?.map(|text| text.parse().map_err(|_| unreadable())).transpose()
    }

    /// The first word says what follows.
    pub(super) fn word(&mut self) -> Result<String, StoreError> {
        self.text()?.ok_or_else(unreadable)
    }

    pub(super) fn list(&mut self) -> Result<Self, StoreError> {
        self.0.next().and_then(Self::new).ok_or_else(unreadable)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    /// An entry, in the order of `SHOWN` in entry.lua.
    pub(super) fn entry(&mut self, id: ChallengeId) -> Result<JournalEntry, StoreError> {
        let fields = &mut self.list()?;
        let proof = fields.word()?;
        let state = fields.number()?.ok_or_else(unreadable)?;
        let (exclusive, proof) = match (proof.strip_prefix('x'), proof.strip_prefix('b')) {
            (Some(exclusive), _) => (true, exclusive),
            (None, Some(bound)) => (false, bound),
            (None, None) => return Err(unreadable()),
        };
        let row = Row {
            id: *id.as_bytes(),
            exclusive,
            proof: decode(proof)?,
            state,
            lease_until: fields.number()?.ok_or_else(unreadable)?,
            keep_until: fields.number()?.ok_or_else(unreadable)?,
            put_off: fields.number()?,
            attempts: fields.number()?.unwrap_or(0),
            keep_money: fields.text()?.is_some(),
            settlement: fields.text()?,
            reason: fields.text()?,
            record: fields.bytes()?.ok_or_else(unreadable)?,
        };
        if row.settlement.is_none() && row.state != State::HELD {
            return Err(unreadable());
        }
        row.entry()
    }

    /// The name of an entry.
    pub(super) fn id(&mut self) -> Result<ChallengeId, StoreError> {
        Ok(ChallengeId::from_bytes(decode(&self.word()?)?))
    }
}

/// A key of 32 bytes in the names of the server's keys: no two have the same.
pub(super) fn encode(bytes: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn proof(proof: &Proof) -> String {
    let kind = match proof {
        Proof::Exclusive(_) => 'x',
        Proof::Bound(_) => 'b',
    };
    format!("{kind}{}", encode(proof.key().as_bytes()))
}

fn decode(text: &str) -> Result<[u8; 32], StoreError> {
    URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(unreadable)
}
