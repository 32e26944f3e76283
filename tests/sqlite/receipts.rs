//! The ledger in the file: what is there when it is opened again, and that nobody changes it by hand.

use std::fs;

use futures_util::future::join_all;
use rusqlite::{Connection, ErrorCode};
use tower_mpp::store::{
    Claimed, End, NonceStore as _, ReceiptRow, ReceiptStore as _, SqliteNonceStore, StoreErrorKind, Totals,
};

use crate::{
    file::closed,
    home::{Home, claim, delivered, outcome, receipt},
};

/// All that the ledger shows of so many receipts.
async fn all(store: &SqliteNonceStore, receipts: u64) -> (Vec<ReceiptRow>, Vec<String>, Totals, usize) {
    let mut rows = Vec::new();
    for n in 0..receipts {
        rows.extend(store.get(receipt(n).id).await.unwrap());
    }
    let page = store.public_page(None, 1000).await.unwrap().receipts;
    let outcomes = store.outcomes(receipt(1).id, 10).await.unwrap().len();
    (rows, page.iter().map(ToString::to_string).collect(), store.totals(10, 0).await.unwrap(), outcomes)
}

async fn filled(path: &std::path::Path) -> SqliteNonceStore {
    let store = SqliteNonceStore::open(path).await.unwrap();
    for n in 0..20 {
        store.append(receipt(n)).await.unwrap();
    }
    store.append_outcome(outcome(1)).await.unwrap();
    store
}

#[tokio::test]
async fn receipts_are_there_when_the_file_is_opened_again() {
    let home = Home::new();
    let path = home.path();
    let store = filled(&path).await;
    let before = all(&store, 20).await;
    assert_eq!((before.0.len(), before.1.len(), before.2.names[0].receipts, before.3), (20, 20, 20, 1));
    drop(store);
    closed(&path);
    let store = SqliteNonceStore::open(&path).await.unwrap();
    assert_eq!(all(&store, 20).await, before);
    // What was appended before is known, and what comes now stands in front.
    store.append(receipt(3)).await.unwrap();
    store.append(receipt(20)).await.unwrap();
    let after = all(&store, 21).await;
    assert_eq!(after.1[0], *receipt(20).public.unwrap());
    assert_eq!((after.1.len(), after.2.names[0].receipts), (21, 21));
}

#[tokio::test]
async fn what_was_answered_ok_is_in_the_file_before_it_is_closed() {
    let home = Home::new();
    let path = home.path();
    let store = filled(&path).await;
    // As a crash would leave it, the log not even looked at.
    let copy = home.path();
    for ending in ["", "-wal"] {
        fs::copy(format!("{}{ending}", path.display()), format!("{}{ending}", copy.display())).unwrap();
    }
    let copy = SqliteNonceStore::open(&copy).await.unwrap();
    assert_eq!(all(&copy, 20).await, all(&store, 20).await);
}

#[tokio::test]
async fn nobody_changes_a_receipt_by_hand() {
    let home = Home::new();
    let path = home.path();
    let store = filled(&path).await;
    let before = all(&store, 20).await;
    let other = Connection::open(&path).unwrap();
    let copied =
        "(id, provisional, visibility, created_at, full) SELECT id, provisional, visibility, 0, 'x' FROM receipts";
    for sql in [
        "UPDATE receipts SET full = 'x'",
        "UPDATE receipts SET visibility = visibility WHERE number = 1",
        "UPDATE OR REPLACE receipts SET number = 2 WHERE number = 1",
        "UPDATE OR IGNORE receipts SET full = 'x'",
        "DELETE FROM receipts",
        "DELETE FROM receipts WHERE number = 1",
        &format!("INSERT OR REPLACE INTO receipts {copied}"),
        &format!("REPLACE INTO receipts {copied}"),
        &format!("INSERT OR IGNORE INTO receipts {copied}"),
        &format!("INSERT INTO receipts {copied} WHERE true ON CONFLICT DO UPDATE SET full = 'x'"),
        "INSERT OR REPLACE INTO receipts (number, id, provisional, visibility, created_at, full) \
         VALUES (1, x'00112233445566778899aabbccddeeff', 0, 'private', 0, 'x')",
        "UPDATE outcomes SET json = 'x'",
        "DELETE FROM outcomes",
        "INSERT OR REPLACE INTO outcomes SELECT number, receipt, created_at, 'x' FROM outcomes",
    ] {
        let error = other.execute(sql, []).expect_err(sql);
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::ConstraintViolation), "{sql}: {error}");
        assert!(error.to_string().contains("are never changed"), "{sql}: {error}");
        assert_eq!(all(&store, 20).await, before, "{sql}");
    }
}

/// The ledger is read on another connection, and sees all that was answered before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_appended_is_found_by_the_next_read() {
    let home = Home::new();
    let path = home.path();
    let store = SqliteNonceStore::open(&path).await.unwrap();
    let callers = (0..16).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in (0..25).map(|n| caller * 25 + n) {
                store.append(receipt(n)).await.unwrap();
                assert_eq!(store.get(receipt(n).id).await.unwrap().unwrap(), receipt(n));
                assert_eq!(store.of_payment(claim(n).id, 10).await.unwrap(), [receipt(n)]);
                let page = store.public_page(None, 1000).await.unwrap().receipts;
                assert!(page.contains(&receipt(n).public.unwrap()));
                // Both are of one instant.
                let totals = store.totals(10, 0).await.unwrap();
                assert_eq!(totals.names[0].receipts, totals.days.iter().map(|(_, paid)| paid).sum::<u64>());
                store.append_outcome(outcome(n)).await.unwrap();
                assert_eq!(store.outcomes(receipt(n).id, 10).await.unwrap(), [outcome(n)]);
            }
        })
    });
    join_all(callers.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
    assert_eq!(store.totals(10, 0).await.unwrap().names[0].receipts, 400);
    // The connection that reads is closed first: the other one then puts the log into the file.
    drop(store);
    closed(&path);
}

/// Steps that are refused share a transaction with others, which are done.
#[tokio::test]
async fn a_conflict_leaves_the_receipts_beside_it_alone() {
    let home = Home::new();
    let store = home.store().await;
    store.append(receipt(0)).await.unwrap();
    let commits = store.commits();
    let rows = (0..100).map(|n| {
        let row = receipt(n / 2);
        if n % 2 == 0 { row } else { ReceiptRow { full: "another".into(), ..row } }
    });
    let answers = join_all(rows.map(|row| store.append(row))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(()) => assert_eq!(n % 2, 0),
            Err(error) => assert_eq!((n % 2, error.kind()), (1, StoreErrorKind::Conflict)),
        }
    }
    // How many share one is up to how fast they arrive.
    assert!(store.commits() - commits <= 50, "{} transactions", store.commits() - commits);
    let (rows, page, totals, _) = all(&store, 100).await;
    assert_eq!((rows.len(), page.len(), totals.names[0].receipts), (50, 50, 50));
}

#[tokio::test]
async fn a_file_of_the_version_before_is_given_a_ledger() {
    let home = Home::new();
    let path = home.path();
    let store = SqliteNonceStore::open(&path).await.unwrap();
    delivered(&store, 1).await.unwrap();
    drop(store);
    closed(&path);
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "DROP TABLE receipts; DROP TABLE outcomes; DROP TABLE receipt_names; DROP TABLE receipt_days;
        PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let opened = join_all((0..4).map(|_| SqliteNonceStore::open(&path))).await;
    for store in opened {
        let store = store.unwrap();
        assert!(matches!(store.claim(claim(1)).await.unwrap(), Claimed::Spent(End::Delivered)));
        store.append(receipt(1)).await.unwrap();
        assert_eq!(store.totals(10, 0).await.unwrap().names[0].receipts, 1);
    }
}

/// No statement of the ledger goes through a whole table, however long it is.
#[tokio::test]
async fn what_is_asked_often_is_asked_of_an_index() {
    let home = Home::new();
    let path = home.path();
    let _store = filled(&path).await;
    let other = Connection::open(&path).unwrap();
    for sql in [
        "SELECT full FROM receipts WHERE id = x'00' ORDER BY provisional LIMIT 1",
        "SELECT full FROM receipts INDEXED BY receipts_of_payments WHERE payment = x'00' AND provisional = 0 \
         ORDER BY number LIMIT 10",
        "SELECT full FROM receipts INDEXED BY receipts_of_parents WHERE parent = x'00' AND provisional = 0 \
         ORDER BY number LIMIT 10",
        "SELECT number, public FROM receipts INDEXED BY listed_receipts \
         WHERE provisional = 0 AND name IS NOT NULL AND public IS NOT NULL AND number < 10 ORDER BY number DESC LIMIT 50",
        "SELECT json FROM outcomes INDEXED BY outcomes_of_receipts WHERE receipt = x'00' ORDER BY number LIMIT 10",
        "SELECT day, paid FROM receipt_days WHERE day >= 1 ORDER BY day",
    ] {
        let mut statement = other.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> = statement.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        assert!(plan.iter().all(|line| line.starts_with("SEARCH")), "{sql}: {plan:?}");
    }
    let ranks = "EXPLAIN QUERY PLAN SELECT name FROM receipt_names INDEXED BY receipt_ranks \
                 ORDER BY receipts DESC, name LIMIT 10";
    let plan: String = other.query_row(ranks, [], |row| row.get(3)).unwrap();
    assert!(plan.contains("USING") && plan.contains("receipt_ranks") && !plan.contains("TEMP"), "{plan}");
}

/// Anybody may ask for a page: what it takes is bounded by its bytes too.
#[tokio::test]
async fn a_page_of_large_receipts_ends_at_a_mebibyte() {
    let home = Home::new();
    let store = home.store().await;
    for n in 0..10 {
        let public = "x".repeat(if n == 9 { 3 << 20 } else { 300 << 10 });
        store.append(ReceiptRow { public: Some(public.into()), ..receipt(n) }).await.unwrap();
    }
    let mut next = None;
    let mut pages = Vec::new();
    loop {
        let page = store.public_page(next, 100).await.unwrap();
        pages.push(page.receipts.len());
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(pages, [1, 3, 3, 3]);
    assert_eq!(store.public_page(None, 0).await.unwrap().receipts.len(), 0);
}
