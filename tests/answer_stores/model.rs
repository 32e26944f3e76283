//! A store of answers that is easy to see through: a map behind a lock. It is right with [`Bug::None`], and
//! wrong in one way with any other.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tower_mpp::{
    protocol::{ChallengeId, Timestamp},
    store::{AnswerStore, KeptAnswer, Lease, Reservation, StoreError, StoreErrorKind},
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
    /// Tokens are not looked at in `reserve`.
    AnyoneReserves,
    AnyoneKeeps,
    AnyoneGivesUp,
    /// What is given up is dropped.
    GivesUpTheFence,
    /// A newer lease reserves what an older one has completed.
    NewerReplacesAnswers,
    /// What is complete gets the token of whoever comes next.
    NewerOwnsAnswers,
    /// What is reserved cannot be taken over.
    NewerIsShutOut,
    TokensAsDoubles,
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
    IdsCutShort,
    IdsCaseFolded,
    LookThenWrite,
    EvictsOldest,
    NeverFull,
    NeverForgets,
}

#[derive(Clone)]
struct Row {
    token: u64,
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

    fn key(&self, id: ChallengeId) -> [u8; 32] {
        let mut bytes = *id.as_bytes();
        match self.bug {
            Bug::IdsCutShort => bytes[8..].fill(0),
            Bug::IdsCaseFolded => bytes.make_ascii_lowercase(),
            _ => {}
        }
        bytes
    }

    /// Whether a row was reserved by who holds the greater token.
    fn is_newer(&self, row: &Row, token: u64) -> bool {
        if self.bug == Bug::TokensAsDoubles { row.token as f64 > token as f64 } else { row.token > token }
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
        let (key, token) = (self.key(reservation.lease.id), reservation.lease.token);
        self.change(|rows| {
            if self.bug != Bug::OldAnswersComeBack
                && rows.get(&key).is_some_and(|row| self.is_over(row, reservation.now))
            {
                rows.remove(&key);
            }
            if let Some(row) = rows.get_mut(&key) {
                let shut_out = self.bug == Bug::NewerIsShutOut && row.token != token;
                if self.is_newer(row, token) && self.bug != Bug::AnyoneReserves || shut_out {
                    return Err(StoreErrorKind::LeaseLost.into());
                }
                if self.bug == Bug::ReserveReplacesRequests {
                    row.request = reservation.request;
                }
                let replaces = match self.bug {
                    Bug::ReserveReplacesAnswers => true,
                    Bug::NewerReplacesAnswers => row.token < token,
                    _ => false,
                };
                if self.bug == Bug::NewerOwnsAnswers {
                    row.token = token;
                }
                if row.answer.is_some() && !replaces || self.bug == Bug::ReservesOnce {
                    return Ok(());
                }
                row.answer = None;
                (row.token, row.request, row.until) = (token, reservation.request, reservation.until);
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
            rows.insert(key, Row { token, request, until, keep_until, answer: None, number });
            Ok(())
        })
        .await
    }

    async fn keep(&self, lease: Lease, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        let (key, token) = (self.key(lease.id), lease.token);
        let answer = match self.bug {
            Bug::CutAtZero => answer.iter().copied().take_while(|byte| *byte != 0).collect(),
            Bug::CutAt64KiB => answer.slice(..answer.len().min(65_535)),
            Bug::Lossy => Bytes::from(String::from_utf8_lossy(&answer).into_owned()),
            _ => answer,
        };
        self.change(|rows| {
            if self.bug == Bug::KeepsUnreserved {
                let row = Row { token, request: [0; 32], until: keep_until, keep_until, answer: None, number: 0 };
                rows.entry(key).or_insert(row);
            }
            let row = rows.get_mut(&key).filter(|row| match self.bug {
                Bug::AnyoneKeeps => true,
                Bug::TokensAsDoubles => row.token as f64 == token as f64,
                _ => row.token == token,
            });
            let row = row.ok_or(StoreErrorKind::LeaseLost)?;
            if row.answer.is_some() && self.bug != Bug::LastAnswerWins {
                return Ok(());
            }
            row.answer = (self.bug != Bug::EmptyIsNone || !answer.is_empty()).then_some(answer);
            row.keep_until = match self.bug {
                Bug::KeepShortensMemory => keep_until,
                Bug::KeepNeverMoves => row.keep_until,
                _ => row.keep_until.max(keep_until),
            };
            Ok(())
        })
        .await
    }

    async fn give_up(&self, lease: Lease) -> Result<(), StoreError> {
        let (key, token) = (self.key(lease.id), lease.token);
        self.change(|rows| {
            let row = rows.get_mut(&key).filter(|row| row.token == token || self.bug == Bug::AnyoneGivesUp);
            let Some(row) = row.filter(|row| row.answer.is_none() || self.bug == Bug::GivesUpAnswers) else { return };
            match self.bug {
                Bug::GivesUpNothing => {}
                Bug::GivesUpAll => rows.clear(),
                Bug::GivesUpTheFence => drop(rows.remove(&key)),
                _ => (row.until, row.answer) = (Timestamp::EPOCH, None),
            }
        })
        .await;
        Ok(())
    }

    async fn look_up(&self, id: ChallengeId, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        let key = self.key(id);
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
