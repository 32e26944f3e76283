//! The steps of the journal: one call of a function each.
//!
//! Each can be called twice, which is what happens when the reply to the first call was lost. `settle`, `refund`
//! and `commit` say so in the contract, and `renew` does the same thing again. A `claim` and a `take` carry a number
//! of their own, so that a second call is given the lease that the first was given. A second `release` or `put_off`
//! finds the lease lost, which it is.

use async_trait::async_trait;
use sqlx::{
    Arguments as _, Row as _, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgRow},
};

use super::{PostgresNonceStore, connections::failed, schema::Schema};
use crate::{
    protocol::{ChallengeId, Settlement, Timestamp},
    store::{
        Claim, Claimed, End, JournalEntry, Lease, NonceStore, Page, Proof, RefundReason, Release, StoreError,
        StoreErrorKind, Take, Taken,
        row::{Row, State, read_settlement, settlement_json, unreadable},
    },
};

/// The statements, prepared once on each connection.
pub(super) struct Calls {
    claim: SqlStr,
    renew: SqlStr,
    settle: SqlStr,
    refund: SqlStr,
    commit: SqlStr,
    release: SqlStr,
    put_off: SqlStr,
    take: SqlStr,
    find: SqlStr,
    unfinished: SqlStr,
    forget: SqlStr,
}

impl Calls {
    pub(super) fn new(schema: &Schema) -> Self {
        Self {
            claim: schema.call("claim", 8),
            renew: schema.call("renew", 3),
            settle: schema.call("settle", 3),
            refund: schema.call("refund", 3),
            commit: schema.call("commit", 3),
            release: schema.call("release", 3),
            put_off: schema.call("put_off", 3),
            take: schema.call("take", 5),
            find: schema.call("find", 1),
            unfinished: schema.call("unfinished", 4),
            forget: schema.call("forget", 2),
        }
    }
}

/// The arguments of a call, in their order.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => {
        || -> Result<PgArguments, BoxDynError> {
            let mut arguments = PgArguments::default();
            $(arguments.add($value)?;)*
            Ok(arguments)
        }
    };
}
pub(super) use arguments;

/// A column of the first row of an answer.
pub(super) fn first<'r, T>(rows: &'r [PgRow], column: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    rows.first().ok_or_else(unreadable)?.try_get(column).map_err(|error| failed(&error))
}

/// What a call dropped.
pub(super) fn dropped(rows: &[PgRow]) -> Result<usize, StoreError> {
    let count: i64 = rows.first().ok_or_else(unreadable)?.try_get(0).map_err(|error| failed(&error))?;
    usize::try_from(count).map_err(|_| unreadable())
}

/// No count of rows is greater.
pub(super) fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// No lease has a token that does not fit.
fn token(lease: Lease) -> i64 {
    i64::try_from(lease.token).unwrap_or(-1)
}

fn lease(id: ChallengeId, rows: &[PgRow]) -> Result<Lease, StoreError> {
    let token: i64 = first(rows, "token")?;
    Ok(Lease { id, token: u64::try_from(token).map_err(|_| unreadable())? })
}

fn entry(row: &PgRow) -> Result<JournalEntry, StoreError> {
    read(row).map_err(|error| failed(&error))?.entry()
}

fn read(row: &PgRow) -> Result<Row, sqlx::Error> {
    Ok(Row {
        id: row.try_get("id")?,
        exclusive: row.try_get("exclusive")?,
        proof: row.try_get("proof")?,
        state: row.try_get("state")?,
        settlement: row.try_get("settlement")?,
        reason: row.try_get("reason")?,
        keep_money: row.try_get("keep_money")?,
        lease_until: row.try_get("lease_until")?,
        put_off: row.try_get("put_off")?,
        attempts: u32::try_from(row.try_get::<i32, _>("attempts")?).unwrap_or_default(),
        keep_until: row.try_get("keep_until")?,
        record: row.try_get("record")?,
    })
}

fn release_name(reason: Release) -> &'static str {
    match reason {
        Release::NotCharged => "not_charged",
        Release::Unknown => "unknown",
        Release::Undelivered => "undelivered",
        Release::NotRefundable => "not_refundable",
    }
}

impl PostgresNonceStore {
    /// A step of somebody who has a lease.
    async fn step<A>(&self, call: &SqlStr, arguments: A) -> Result<(), StoreError>
    where
        A: Fn() -> Result<PgArguments, BoxDynError> + Send + Sync,
    {
        let rows = self.inner.link.call(call, arguments).await?;
        let answer: &str = rows.first().ok_or_else(unreadable)?.try_get(0).map_err(|error| failed(&error))?;
        match answer {
            "done" => Ok(()),
            "lease_lost" => Err(StoreErrorKind::LeaseLost.into()),
            "conflict" => Err(StoreErrorKind::Conflict.into()),
            _ => Err(unreadable()),
        }
    }
}

#[async_trait]
impl NonceStore for PostgresNonceStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let attempt: i64 = rand::random();
        let Claim { id, proof, now, lease_until, keep_until, record } = claim;
        let key = proof.key();
        let arguments = arguments![
            id.as_bytes().as_slice(),
            matches!(proof, Proof::Exclusive(_)),
            key.as_bytes().as_slice(),
            now.unix_millis(),
            lease_until.unix_millis_ceil(),
            keep_until.unix_millis_ceil(),
            &*record,
            attempt,
        ];
        let rows = self.inner.link.call(&self.inner.calls.claim, arguments).await?;
        Ok(match first(&rows, "answer")? {
            "won" => Claimed::Won { lease: lease(id, &rows)?, resumed: false },
            "resumed" => Claimed::Won { lease: lease(id, &rows)?, resumed: true },
            "settled" => {
                let settlement = read_settlement(first(&rows, "settlement")?)?;
                Claimed::Settled { lease: lease(id, &rows)?, settlement }
            }
            "busy" => Claimed::Busy,
            "refunding" => Claimed::Refunding,
            "delivered" => Claimed::Spent(End::Delivered),
            "refunded" => Claimed::Spent(End::Refunded),
            "other_proof" => Claimed::OtherProof,
            _ => return Err(unreadable()),
        })
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        let arguments = arguments![lease.id.as_bytes().as_slice(), token(lease), until.unix_millis_ceil()];
        self.step(&self.inner.calls.renew, arguments).await
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        let settlement = settlement_json(settlement)?;
        let arguments = arguments![lease.id.as_bytes().as_slice(), token(lease), settlement.as_str()];
        self.step(&self.inner.calls.settle, arguments).await
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        let arguments = arguments![lease.id.as_bytes().as_slice(), token(lease), reason.as_str()];
        self.step(&self.inner.calls.refund, arguments).await
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        let arguments = arguments![lease.id.as_bytes().as_slice(), token(lease), State::of(end)];
        self.step(&self.inner.calls.commit, arguments).await
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        let arguments = arguments![lease.id.as_bytes().as_slice(), token(lease), release_name(reason)];
        self.step(&self.inner.calls.release, arguments).await
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        let arguments = arguments![lease.id.as_bytes().as_slice(), token(lease), until.unix_millis_ceil()];
        self.step(&self.inner.calls.put_off, arguments).await
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        let attempt: i64 = rand::random();
        let Take { id, now, lease_until, asked_for } = take;
        let arguments =
            arguments![id.as_bytes().as_slice(), now.unix_millis(), lease_until.unix_millis_ceil(), asked_for, attempt];
        let rows = self.inner.link.call(&self.inner.calls.take, arguments).await?;
        Ok(match first(&rows, "answer")? {
            "won" => {
                let entry = entry(rows.first().ok_or_else(unreadable)?)?;
                Taken::Won { lease: lease(id, &rows)?, entry }
            }
            "busy" => Taken::Busy,
            "delivered" => Taken::Spent(End::Delivered),
            "refunded" => Taken::Spent(End::Refunded),
            "absent" => Taken::Absent,
            _ => return Err(unreadable()),
        })
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        let rows = self.inner.link.call(&self.inner.calls.find, arguments![id.as_bytes().as_slice()]).await?;
        rows.first().map(entry).transpose()
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        let after = page.after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
        let arguments = arguments![page.now.unix_millis(), after.as_slice(), at_most(page.limit), page.due];
        let rows = self.inner.link.call(&self.inner.calls.unfinished, arguments).await?;
        rows.iter().map(entry).collect()
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let arguments = arguments![now.unix_millis(), at_most(limit)];
        dropped(&self.inner.link.call(&self.inner.calls.forget, arguments).await?)
    }
}
