//! A store of answers that is easy to see through: a map behind a lock. It is right with [`Bug::None`], and
//! wrong in one way with any other.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tower_mpp::{
    protocol::Timestamp,
    store::{AnswerKey, AnswerStore, KeptAnswer, Reservation, StoreError, StoreErrorKind},
};

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    ReservesOnce,
    ReserveShortensMemory,
    ReserveReplacesAnswers,
    ReserveReplacesRequests,
    RunningLooksComplete,
    UntilIsKeepUntil,
    GivesUpAnswers,
    GivesUpNothing,
    GivesUpAll,
    EmptyIsNone,
    CutAtZero,
    CutAt64KiB,
    Lossy,
    KeepsUnreserved,
    LastAnswerWins,
    KeepShortensMemory,
    KeepNeverMoves,
    ForgetsEarly,
    ShownForever,
    OldAnswersComeBack,
    ForgetDropsAll,
    ForgetDropsRunning,
    ForgetIgnoresLimit,
    KeysCutShort,
    KeysCaseFolded,
    LookThenWrite,
    EvictsOldest,
    NeverFull,
    NeverForgets,
}

#[derive(Clone)]
struct Row {
    request: [u8; 32],
    until: Timestamp,
    keep_until: Timestamp,
    answer: Option<Bytes>,
    /// Which reservation made it.
    number: usize,
}

type Rows = BTreeMap<[u8; 32], Row>;

/// The map behind a lock, with room for so many rows.
pub(crate) struct Drawer {
    rows: Mutex<Rows>,
    capacity: usize,
    bug: Bug,
}

impl Drawer {
    pub(crate) fn new(capacity: usize, bug: Bug) -> Self {
        Self { rows: Mutex::default(), capacity, bug }
    }

    fn key(&self, key: AnswerKey) -> [u8; 32] {
        let mut bytes = *key.as_bytes();
        match self.bug {
            Bug::KeysCutShort => bytes[8..].fill(0),
            Bug::KeysCaseFolded => bytes.make_ascii_lowercase(),
            _ => {}
        }
        bytes
    }

    /// Changes the rows in one step, or in two.
    async fn change<T>(&self, step: impl FnOnce(&mut Rows) -> T) -> T {
        if self.bug == Bug::LookThenWrite {
            let mut seen = self.rows.lock().unwrap().clone();
            tokio::task::yield_now().await;
            let answer = step(&mut seen);
            *self.rows.lock().unwrap() = seen;
            return answer;
        }
        step(&mut self.rows.lock().unwrap())
    }

    fn is_over(&self, row: &Row, now: Timestamp) -> bool {
        let early = Duration::from_millis(u64::from(self.bug == Bug::ForgetsEarly));
        row.keep_until <= now.saturating_add(early)
    }
}

#[async_trait]
impl AnswerStore for Drawer {
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        let key = self.key(reservation.key);
        self.change(|rows| {
            if self.bug != Bug::OldAnswersComeBack
                && rows.get(&key).is_some_and(|row| self.is_over(row, reservation.now))
            {
                rows.remove(&key);
            }
            if let Some(row) = rows.get_mut(&key) {
                if self.bug == Bug::ReserveReplacesRequests {
                    row.request = reservation.request;
                }
                if row.answer.is_some() && self.bug != Bug::ReserveReplacesAnswers || self.bug == Bug::ReservesOnce {
                    return Ok(());
                }
                row.answer = None;
                (row.request, row.until) = (reservation.request, reservation.until);
                row.keep_until = match self.bug {
                    Bug::ReserveShortensMemory => reservation.keep_until,
                    _ => row.keep_until.max(reservation.keep_until),
                };
                return Ok(());
            }
            if rows.len() >= self.capacity && self.bug != Bug::NeverFull {
                if self.bug != Bug::EvictsOldest {
                    return Err(StoreErrorKind::Full.into());
                }
                let oldest = rows.iter().min_by_key(|(_, row)| row.number).map(|(key, _)| *key);
                oldest.and_then(|key| rows.remove(&key));
            }
            let Reservation { request, until, keep_until, .. } = reservation;
            let until = if self.bug == Bug::UntilIsKeepUntil { keep_until } else { until };
            let number = rows.values().map(|row| row.number + 1).max().unwrap_or(0);
            rows.insert(key, Row { request, until, keep_until, answer: None, number });
            Ok(())
        })
        .await
    }

    async fn keep(&self, key: AnswerKey, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        let key = self.key(key);
        let answer = match self.bug {
            Bug::CutAtZero => answer.iter().copied().take_while(|byte| *byte != 0).collect(),
            Bug::CutAt64KiB => answer.slice(..answer.len().min(65_535)),
            Bug::Lossy => Bytes::from(String::from_utf8_lossy(&answer).into_owned()),
            _ => answer,
        };
        self.change(|rows| {
            if self.bug == Bug::KeepsUnreserved {
                let row = Row { request: [0; 32], until: keep_until, keep_until, answer: None, number: 0 };
                rows.entry(key).or_insert(row);
            }
            let Some(row) = rows.get_mut(&key) else { return };
            if row.answer.is_some() && self.bug != Bug::LastAnswerWins {
                return;
            }
            row.answer = (self.bug != Bug::EmptyIsNone || !answer.is_empty()).then_some(answer);
            row.keep_until = match self.bug {
                Bug::KeepShortensMemory => keep_until,
                Bug::KeepNeverMoves => row.keep_until,
                _ => row.keep_until.max(keep_until),
            };
        })
        .await;
        Ok(())
    }

    async fn give_up(&self, key: AnswerKey) -> Result<(), StoreError> {
        let key = self.key(key);
        self.change(|rows| match self.bug {
            Bug::GivesUpNothing => {}
            Bug::GivesUpAll => rows.clear(),
            bug if rows.get(&key).is_some_and(|row| row.answer.is_none() || bug == Bug::GivesUpAnswers) => {
                rows.remove(&key);
            }
            _ => {}
        })
        .await;
        Ok(())
    }

    async fn look_up(&self, key: AnswerKey, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        let key = self.key(key);
        let rows = self.rows.lock().unwrap();
        let row = rows.get(&key).filter(|row| !self.is_over(row, now) || self.bug == Bug::ShownForever);
        Ok(row.map(|row| KeptAnswer {
            request: row.request,
            until: row.until,
            answer: row.answer.clone().or((self.bug == Bug::RunningLooksComplete).then(Bytes::new)),
        }))
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let limit = if self.bug == Bug::ForgetIgnoresLimit { usize::MAX } else { limit };
        self.change(|rows| {
            let gone: Vec<_> = rows
                .iter()
                .filter(|(_, row)| match self.bug {
                    Bug::NeverForgets => false,
                    Bug::ForgetDropsAll => true,
                    Bug::ForgetDropsRunning => row.answer.is_none() || self.is_over(row, now),
                    _ => self.is_over(row, now),
                })
                .map(|(key, _)| *key)
                .take(limit)
                .collect();
            gone.iter().for_each(|key| drop(rows.remove(key)));
            Ok(gone.len())
        })
        .await
    }
}
