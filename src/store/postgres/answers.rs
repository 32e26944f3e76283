//! Kept answers, in the same schema as the journal.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{
    Arguments as _, Row as _, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgRow},
};

use super::{
    PostgresNonceStore,
    connections::failed,
    schema::Schema,
    steps::{arguments, at_most, dropped},
};
use crate::{
    protocol::{ChallengeId, Timestamp},
    store::{
        AnswerStore, KeptAnswer, Lease, Reservation, StoreError, StoreErrorKind,
        row::{instant, unreadable},
    },
};

/// The statements, prepared once on each connection.
pub(super) struct AnswerCalls {
    reserve: SqlStr,
    keep: SqlStr,
    give_up: SqlStr,
    find: SqlStr,
    forget: SqlStr,
}

impl AnswerCalls {
    pub(super) fn new(schema: &Schema) -> Self {
        Self {
            reserve: schema.call("reserve_answer", 7),
            keep: schema.call("keep_answer", 5),
            give_up: schema.call("give_up_answer", 2),
            find: schema.call("find_answer", 2),
            forget: schema.call("forget_answers", 2),
        }
    }
}

impl PostgresNonceStore {
    async fn answer_step<A>(&self, call: &SqlStr, arguments: A) -> Result<(), StoreError>
    where
        A: Fn() -> Result<PgArguments, BoxDynError> + Send + Sync,
    {
        let rows = self.inner.link.call(call, arguments).await?;
        let answer: &str = rows.first().ok_or_else(unreadable)?.try_get(0).map_err(|error| failed(&error))?;
        match answer {
            "done" => Ok(()),
            "lost" => Err(StoreErrorKind::LeaseLost.into()),
            "full" => Err(StoreErrorKind::Full.into()),
            _ => Err(unreadable()),
        }
    }
}

/// A token that does not fit is no journal's.
fn token(lease: Lease) -> Result<i64, StoreError> {
    i64::try_from(lease.token).map_err(|_| StoreErrorKind::LeaseLost.into())
}

fn kept(row: &PgRow) -> Result<KeptAnswer, StoreError> {
    let read = || -> Result<_, sqlx::Error> {
        Ok((row.try_get("request")?, row.try_get("until")?, row.try_get::<Option<Vec<u8>>, _>("answer")?))
    };
    let (request, until, answer) = read().map_err(|error| failed(&error))?;
    Ok(KeptAnswer { request, until: instant(until)?, answer: answer.map(Bytes::from) })
}

#[async_trait]
impl AnswerStore for PostgresNonceStore {
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        let Reservation { lease, request, now, until, keep_until } = reservation;
        let arguments = arguments![
            lease.id.as_bytes().as_slice(),
            token(lease)?,
            request.as_slice(),
            now.unix_millis(),
            until.unix_millis_ceil(),
            keep_until.unix_millis_ceil(),
            self.inner.max_answer_bytes,
        ];
        self.answer_step(&self.inner.answer_calls.reserve, arguments).await
    }

    async fn keep(&self, lease: Lease, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        let arguments = arguments![
            lease.id.as_bytes().as_slice(),
            token(lease)?,
            &*answer,
            keep_until.unix_millis_ceil(),
            self.inner.max_answer_bytes,
        ];
        self.answer_step(&self.inner.answer_calls.keep, arguments).await
    }

    async fn give_up(&self, lease: Lease) -> Result<(), StoreError> {
        // Nobody has reserved with a token that cannot be written.
        let Ok(token) = token(lease) else { return Ok(()) };
        let arguments = arguments![lease.id.as_bytes().as_slice(), token];
        self.answer_step(&self.inner.answer_calls.give_up, arguments).await
    }

    async fn look_up(&self, id: ChallengeId, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        let arguments = arguments![id.as_bytes().as_slice(), now.unix_millis()];
        let rows = self.inner.link.call(&self.inner.answer_calls.find, arguments).await?;
        rows.first().map(kept).transpose()
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let arguments = arguments![now.unix_millis(), at_most(limit)];
        dropped(&self.inner.link.call(&self.inner.answer_calls.forget, arguments).await?)
    }
}
