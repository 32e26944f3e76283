//! The ledger, in the same schema as the journal.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{
    Arguments as _, Row as _, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgRow},
};

use super::{
    PostgresNonceStore,
    connections::failed,
    schema::Schema,
    steps::{arguments, at_most},
};
use crate::{
    protocol::{ChallengeId, ReceiptId},
    store::{
        NameTotal, OutcomeRow, PublicPage, ReceiptRow, ReceiptStore, StoreError, StoreErrorKind, Totals,
        receipt_row::{Columns, bits, counted, end, one_more, page, sum},
        row::{instant, unreadable},
    },
};

/// The statements, prepared once on each connection.
pub(super) struct ReceiptCalls {
    append: SqlStr,
    find: SqlStr,
    of_payment: SqlStr,
    of_parent: SqlStr,
    public: SqlStr,
    totals: SqlStr,
    append_outcome: SqlStr,
    outcomes: SqlStr,
}

impl ReceiptCalls {
    pub(super) fn new(schema: &Schema) -> Self {
        Self {
            append: schema.call("append_receipt", 14),
            find: schema.call("find_receipt", 1),
            of_payment: schema.call("receipts_of_payment", 2),
            of_parent: schema.call("receipts_of_parent", 2),
            public: schema.call("public_receipts", 2),
            totals: schema.call("receipt_totals", 2),
            append_outcome: schema.call("append_outcome", 3),
            outcomes: schema.call("find_outcomes", 2),
        }
    }
}

impl PostgresNonceStore {
    async fn ledger<A>(&self, call: &SqlStr, arguments: A) -> Result<Vec<PgRow>, StoreError>
    where
        A: Fn() -> Result<PgArguments, BoxDynError> + Send + Sync,
    {
        self.inner.link.call(call, arguments).await
    }

    async fn receipts<A>(&self, call: &SqlStr, arguments: A) -> Result<Vec<ReceiptRow>, StoreError>
    where
        A: Fn() -> Result<PgArguments, BoxDynError> + Send + Sync,
    {
        self.ledger(call, arguments).await?.iter().map(|row| receipt(row)?.receipt()).collect()
    }
}

/// A column of a row.
fn column<'r, T>(row: &'r PgRow, name: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(name).map_err(|error| failed(&error))
}

/// A text that was kept as its bytes.
fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(bytes).map_err(|_| unreadable())
}

fn some_text(row: &PgRow, name: &str) -> Result<Option<String>, StoreError> {
    column::<Option<&[u8]>>(row, name)?.map(|bytes| text(bytes).map(str::to_owned)).transpose()
}

fn receipt(row: &PgRow) -> Result<Columns, StoreError> {
    Ok(Columns {
        id: column(row, "id")?,
        provisional: column(row, "provisional")?,
        parent: column(row, "parent")?,
        payment: column(row, "payment")?,
        visibility: column(row, "visibility")?,
        created_at: column(row, "created_at")?,
        name: some_text(row, "name")?,
        succeeded: column(row, "succeeded")?,
        paid: column(row, "paid")?,
        tokens: column(row, "tokens")?,
        public: some_text(row, "public")?,
        full: some_text(row, "full")?.ok_or_else(unreadable)?,
    })
}

fn name_total(row: &PgRow, name: String) -> Result<NameTotal, StoreError> {
    Ok(NameTotal {
        name,
        receipts: sum(column(row, "receipts")?)?,
        succeeded: sum(column(row, "succeeded")?)?,
        tokens: sum(column(row, "tokens")?)?,
    })
}

fn done(rows: &[PgRow]) -> Result<(), StoreError> {
    let answer: &str = rows.first().ok_or_else(unreadable)?.try_get(0).map_err(|error| failed(&error))?;
    match answer {
        "done" => Ok(()),
        "conflict" => Err(StoreErrorKind::Conflict.into()),
        _ => Err(unreadable()),
    }
}

#[async_trait]
impl ReceiptStore for PostgresNonceStore {
    async fn append(&self, row: ReceiptRow) -> Result<(), StoreError> {
        let listed = row.listed.as_ref();
        let arguments = arguments![
            row.id.as_bytes().as_slice(),
            row.provisional,
            row.parent.as_ref().map(|parent| parent.as_bytes().as_slice()),
            row.payment.as_ref().map(|payment| payment.as_bytes().as_slice()),
            row.visibility.as_str(),
            row.created_at.unix_millis(),
            listed.map(|listed| listed.name.as_bytes()),
            listed.map(|listed| listed.succeeded),
            listed.map(|listed| listed.paid),
            listed.map(|listed| bits(listed.tokens)),
            row.public.as_ref().map(|public| public.as_bytes()),
            row.full.as_bytes(),
            listed.map(|listed| counted(listed.tokens)),
            i64::from(row.day()),
        ];
        let (link, call) = (&self.inner.link, &self.inner.receipt_calls.append);
        done(&match row.in_list() {
            Some(_) => link.call_in_turn(call, arguments).await?,
            None => link.call(call, arguments).await?,
        })
    }

    async fn get(&self, id: ReceiptId) -> Result<Option<ReceiptRow>, StoreError> {
        let found = self.receipts(&self.inner.receipt_calls.find, arguments![id.as_bytes().as_slice()]).await?;
        Ok(found.into_iter().next())
    }

    async fn of_payment(&self, payment: ChallengeId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let arguments = arguments![payment.as_bytes().as_slice(), at_most(limit)];
        self.receipts(&self.inner.receipt_calls.of_payment, arguments).await
    }

    async fn children(&self, parent: ReceiptId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let arguments = arguments![parent.as_bytes().as_slice(), at_most(limit)];
        self.receipts(&self.inner.receipt_calls.of_parent, arguments).await
    }

    async fn public_page(&self, before: Option<u64>, limit: usize) -> Result<PublicPage, StoreError> {
        let arguments = arguments![end(before), one_more(limit)];
        let rows = self.ledger(&self.inner.receipt_calls.public, arguments).await?;
        let row = |row| Ok((column(row, "number")?, Arc::from(text(column(row, "public")?)?)));
        page(rows.iter().map(row), limit)
    }

    async fn totals(&self, names: usize, since: u32) -> Result<Totals, StoreError> {
        let arguments = arguments![at_most(names), i64::from(since)];
        let mut totals = Totals::default();
        for row in &self.ledger(&self.inner.receipt_calls.totals, arguments).await? {
            match some_text(row, "name")? {
                Some(name) => totals.names.push(name_total(row, name)?),
                None => {
                    let day = u32::try_from(column::<i64>(row, "day")?).map_err(|_| unreadable())?;
                    totals.days.push((day, sum(column(row, "receipts")?)?));
                }
            }
        }
        Ok(totals)
    }

    async fn append_outcome(&self, outcome: OutcomeRow) -> Result<(), StoreError> {
        let (receipt, json) = (outcome.receipt.as_bytes().as_slice(), outcome.json.as_bytes());
        let arguments = arguments![receipt, outcome.created_at.unix_millis(), json];
        done(&self.ledger(&self.inner.receipt_calls.append_outcome, arguments).await?)
    }

    async fn outcomes(&self, receipt: ReceiptId, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        let arguments = arguments![receipt.as_bytes().as_slice(), at_most(limit)];
        let rows = self.ledger(&self.inner.receipt_calls.outcomes, arguments).await?;
        let row = |row| {
            let (created_at, json) = (instant(column(row, "created_at")?)?, Arc::from(text(column(row, "json")?)?));
            Ok(OutcomeRow { receipt, created_at, json })
        };
        rows.iter().map(row).collect()
    }
}
