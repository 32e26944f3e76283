//! The steps of the ledger.

use std::sync::Arc;

use rusqlite::{OptionalExtension as _, named_params};

use super::{
    steps::limit,
    writer::{Fault, Tx},
};
use crate::{
    protocol::{ChallengeId, ReceiptId},
    store::{
        NameTotal, OutcomeRow, PublicPage, ReceiptRow, StoreErrorKind, Totals,
        receipt_row::{self, Columns, bits, counted, end, is_same, one_more, sum},
        row::{instant, unreadable},
    },
};

/// The tables of the ledger.
///
/// Receipts are in the order in which they were appended, as entries are; their numbers are also the places in
/// the public list. The short columns come first: a long text may go on in other pages, which a public page then
/// does not read.
///
/// The triggers refuse whoever would change a receipt by hand. `INSERT OR REPLACE` drops the old row without asking a
/// trigger for deletions, so it is refused when it begins. Whoever may write to the file can of course drop the
/// triggers too: that a receipt was changed then shows in its signature.
pub(super) const TABLES: &str = "
    CREATE TABLE receipts (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        provisional INTEGER NOT NULL,
        parent BLOB,
        payment BLOB,
        visibility TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        name TEXT,
        succeeded INTEGER,
        paid INTEGER,
        tokens INTEGER,
        public TEXT,
        full TEXT NOT NULL,
        UNIQUE (id, provisional)
    ) STRICT;
    CREATE INDEX receipts_of_payments ON receipts (payment) WHERE provisional = 0 AND payment IS NOT NULL;
    CREATE INDEX receipts_of_parents ON receipts (parent) WHERE provisional = 0 AND parent IS NOT NULL;
    CREATE INDEX listed_receipts ON receipts (number)
        WHERE provisional = 0 AND name IS NOT NULL AND public IS NOT NULL;
    CREATE TABLE receipt_names (
        name TEXT NOT NULL PRIMARY KEY,
        receipts INTEGER NOT NULL,
        succeeded INTEGER NOT NULL,
        tokens INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX receipt_ranks ON receipt_names (receipts DESC, name);
    CREATE TABLE receipt_days (day INTEGER PRIMARY KEY, paid INTEGER NOT NULL) STRICT;
    CREATE TABLE outcomes (
        number INTEGER PRIMARY KEY,
        receipt BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        json TEXT NOT NULL
    ) STRICT;
    CREATE INDEX outcomes_of_receipts ON outcomes (receipt);
    CREATE INDEX outcomes_by_time ON outcomes (receipt, created_at);
    CREATE TRIGGER receipts_stay BEFORE UPDATE ON receipts
        BEGIN SELECT RAISE(ABORT, 'receipts are never changed'); END;
    CREATE TRIGGER receipts_remain BEFORE DELETE ON receipts
        BEGIN SELECT RAISE(ABORT, 'receipts are never changed'); END;
    CREATE TRIGGER receipts_are_not_replaced BEFORE INSERT ON receipts
        WHEN EXISTS (SELECT 1 FROM receipts WHERE number = NEW.number)
            OR EXISTS (SELECT 1 FROM receipts WHERE id = NEW.id AND provisional = NEW.provisional)
        BEGIN SELECT RAISE(ABORT, 'receipts are never changed'); END;
    CREATE TRIGGER outcomes_stay BEFORE UPDATE ON outcomes
        BEGIN SELECT RAISE(ABORT, 'outcomes are never changed'); END;
    CREATE TRIGGER outcomes_remain BEFORE DELETE ON outcomes
        BEGIN SELECT RAISE(ABORT, 'outcomes are never changed'); END;
    CREATE TRIGGER outcomes_are_not_replaced BEFORE INSERT ON outcomes
        WHEN EXISTS (SELECT 1 FROM outcomes WHERE number = NEW.number)
        BEGIN SELECT RAISE(ABORT, 'outcomes are never changed'); END;";

macro_rules! columns {
    () => {
        "id, provisional, parent, payment, visibility, created_at, name, succeeded, paid, tokens, public, full"
    };
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Columns> {
    Ok(Columns {
        id: row.get(0)?,
        provisional: row.get(1)?,
        parent: row.get(2)?,
        payment: row.get(3)?,
        visibility: row.get(4)?,
        created_at: row.get(5)?,
        name: row.get(6)?,
        succeeded: row.get(7)?,
        paid: row.get(8)?,
        tokens: row.get(9)?,
        public: row.get(10)?,
        full: row.get(11)?,
    })
}

/// The receipts that a statement finds for a key.
fn find(tx: &Tx<'_>, sql: &str, key: &[u8], at_most: i64) -> Result<Vec<ReceiptRow>, Fault> {
    let mut statement = tx.connection.prepare_cached(sql)?;
    let found = statement.query_map((key, at_most), read)?.collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().map(Columns::receipt).collect::<Result<_, _>>()?)
}

pub(super) fn append(tx: &Tx<'_>, row: &ReceiptRow) -> Result<(), Fault> {
    let sql = concat!("SELECT ", columns!(), " FROM receipts WHERE id = ?1 AND provisional = ?2");
    let mut known = tx.connection.prepare_cached(sql)?;
    if let Some(known) = known.query_row((row.id.as_bytes(), row.provisional), read).optional()? {
        return if is_same(&known.receipt()?, row) { Ok(()) } else { Err(StoreErrorKind::Conflict.into()) };
    }
    let listed = row.listed.as_ref();
    let sql = "INSERT INTO receipts \
                   (id, provisional, parent, payment, visibility, created_at, name, succeeded, paid, tokens, public, full) \
               VALUES (:id, :provisional, :parent, :payment, :visibility, :created_at, :name, :succeeded, :paid, :tokens, \
                   :public, :full)";
    tx.connection.prepare_cached(sql)?.execute(named_params! {
        ":id": row.id.as_bytes(),
        ":provisional": row.provisional,
        ":parent": row.parent.as_ref().map(|parent| parent.as_bytes()),
        ":payment": row.payment.as_ref().map(|payment| payment.as_bytes()),
        ":visibility": row.visibility.as_str(),
        ":created_at": row.created_at.unix_millis(),
        ":name": listed.map(|listed| &listed.name),
        ":succeeded": listed.map(|listed| listed.succeeded),
        ":paid": listed.map(|listed| listed.paid),
        ":tokens": listed.map(|listed| bits(listed.tokens)),
        ":public": row.public.as_deref(),
        ":full": &*row.full,
    })?;
    let Some((listed, _)) = row.in_list() else { return Ok(()) };
    let sql = "INSERT INTO receipt_names (name, receipts, succeeded, tokens) VALUES (?1, 1, ?2, ?3) \
               ON CONFLICT (name) DO UPDATE SET receipts = receipts + 1, succeeded = succeeded + excluded.succeeded, \
                   tokens = tokens + min(excluded.tokens, 9223372036854775807 - tokens)";
    tx.connection.prepare_cached(sql)?.execute((&listed.name, listed.succeeded, counted(listed.tokens)))?;
    if listed.paid {
        let sql = "INSERT INTO receipt_days (day, paid) VALUES (?1, 1) ON CONFLICT (day) DO UPDATE SET paid = paid + 1";
        tx.connection.prepare_cached(sql)?.execute([row.day()])?;
    }
    Ok(())
}

pub(super) fn get(tx: &Tx<'_>, id: ReceiptId) -> Result<Option<ReceiptRow>, Fault> {
    let sql = concat!("SELECT ", columns!(), " FROM receipts WHERE id = ?1 ORDER BY provisional LIMIT ?2");
    Ok(find(tx, sql, id.as_bytes(), 1)?.pop())
}

pub(super) fn of_payment(tx: &Tx<'_>, payment: ChallengeId, at_most: usize) -> Result<Vec<ReceiptRow>, Fault> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM receipts INDEXED BY receipts_of_payments WHERE payment = ?1 AND provisional = 0 ORDER BY number LIMIT ?2"
    );
    find(tx, sql, payment.as_bytes(), limit(at_most))
}

pub(super) fn children(tx: &Tx<'_>, parent: ReceiptId, at_most: usize) -> Result<Vec<ReceiptRow>, Fault> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM receipts INDEXED BY receipts_of_parents WHERE parent = ?1 AND provisional = 0 ORDER BY number LIMIT ?2"
    );
    find(tx, sql, parent.as_bytes(), limit(at_most))
}

pub(super) fn public_page(tx: &Tx<'_>, before: Option<u64>, at_most: usize) -> Result<PublicPage, Fault> {
    let sql = "SELECT number, public FROM receipts INDEXED BY listed_receipts \
               WHERE provisional = 0 AND name IS NOT NULL AND public IS NOT NULL AND number < ?1 \
               ORDER BY number DESC LIMIT ?2";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let rows = statement.query_map((end(before), one_more(at_most)), |row| Ok((row.get(0)?, row.get(1)?)))?;
    receipt_row::page(rows.map(|row| row.map_err(Fault::Sql)), at_most)
}

pub(super) fn totals(tx: &Tx<'_>, names: usize, since: u32) -> Result<Totals, Fault> {
    let sql = "SELECT name, receipts, succeeded, tokens FROM receipt_names INDEXED BY receipt_ranks \
               ORDER BY receipts DESC, name LIMIT ?1";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let mut found = statement.query([limit(names)])?;
    let mut totals = Totals::default();
    while let Some(row) = found.next()? {
        totals.names.push(NameTotal {
            name: row.get(0)?,
            receipts: sum(row.get(1)?)?,
            succeeded: sum(row.get(2)?)?,
            tokens: sum(row.get(3)?)?,
        });
    }
    let mut statement =
        tx.connection.prepare_cached("SELECT day, paid FROM receipt_days WHERE day >= ?1 ORDER BY day")?;
    let mut found = statement.query([since])?;
    while let Some(row) = found.next()? {
        let day = u32::try_from(row.get::<_, i64>(0)?).map_err(|_| unreadable())?;
        totals.days.push((day, sum(row.get(1)?)?));
    }
    Ok(totals)
}

pub(super) fn append_outcome(tx: &Tx<'_>, outcome: &OutcomeRow) -> Result<(), Fault> {
    let row = (outcome.receipt.as_bytes(), outcome.created_at.unix_millis(), &*outcome.json);
    let sql = "SELECT 1 FROM outcomes INDEXED BY outcomes_by_time WHERE receipt = ?1 AND created_at = ?2 AND json = ?3";
    if tx.connection.prepare_cached(sql)?.exists(row)? {
        return Ok(());
    }
    let sql = "INSERT INTO outcomes (receipt, created_at, json) VALUES (?1, ?2, ?3)";
    tx.connection.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

pub(super) fn outcomes(tx: &Tx<'_>, receipt: ReceiptId, at_most: usize) -> Result<Vec<OutcomeRow>, Fault> {
    let sql = "SELECT created_at, json FROM outcomes INDEXED BY outcomes_of_receipts \
               WHERE receipt = ?1 ORDER BY number LIMIT ?2";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let rows = statement.query_map((receipt.as_bytes(), limit(at_most)), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows = rows.collect::<Result<Vec<(i64, Arc<str>)>, _>>()?;
    let row = |(created_at, json)| Ok(OutcomeRow { receipt, created_at: instant(created_at)?, json });
    rows.into_iter().map(row).collect()
}
