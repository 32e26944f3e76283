//! The ledger in the database: that nobody changes it by hand, in what order it can be seen, and what it is asked by.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tower_mpp::store::{
    End, NonceStore as _, PostgresNonceStore, ReceiptRow, ReceiptStore as _, StoreErrorKind, Totals,
};

use crate::{id, options, outcome, receipt, said, server, settlement, store, won};

async fn filled() -> (PostgresNonceStore, PgConnection) {
    let url = server().await.fresh_database().await;
    let store = options().connect(&url).await.unwrap();
    for n in 0..20 {
        store.append(receipt(n)).await.unwrap();
    }
    store.append_outcome(outcome(1)).await.unwrap();
    let mut other = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("SET search_path = tower_mpp").execute(&mut other).await.unwrap();
    (store, other)
}

/// All that the ledger shows.
async fn all(store: &PostgresNonceStore) -> (Vec<ReceiptRow>, Vec<String>, Totals, usize) {
    let mut rows = Vec::new();
    for n in 0..20 {
        rows.extend(store.get(receipt(n).id).await.unwrap());
    }
    let page = store.public_page(None, 1000).await.unwrap().receipts;
    let outcomes = store.outcomes(receipt(1).id, 10).await.unwrap().len();
    (rows, page.iter().map(ToString::to_string).collect(), store.totals(10, 0).await.unwrap(), outcomes)
}

#[tokio::test]
async fn nobody_changes_a_receipt_by_hand() {
    let (store, mut other) = filled().await;
    let before = all(&store).await;
    assert_eq!((before.0.len(), before.1.len(), before.2.names[0].receipts, before.3), (20, 20, 20, 1));
    for sql in [
        "UPDATE receipts SET \"full\" = 'x'",
        "UPDATE receipts SET visibility = visibility WHERE number = 1",
        "DELETE FROM receipts",
        "DELETE FROM receipts WHERE number = 1",
        "DELETE FROM ONLY receipts WHERE number = 1",
        "TRUNCATE receipts",
        "TRUNCATE receipts, outcomes, receipt_names, receipt_days RESTART IDENTITY CASCADE",
        "INSERT INTO receipts (id, provisional, visibility, created_at, \"full\") \
         SELECT id, provisional, visibility, 0, 'x' FROM receipts \
         ON CONFLICT (id, provisional) DO UPDATE SET \"full\" = excluded.full",
        "MERGE INTO receipts USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE",
        "WITH gone AS (DELETE FROM receipts RETURNING 1) SELECT count(*) FROM gone",
        "UPDATE outcomes SET json = 'x'",
        "DELETE FROM outcomes",
        "TRUNCATE outcomes",
        // What a replica that applies changes is set to: triggers are off then, unless they are said to stay on.
        "SET session_replication_role = replica; DELETE FROM receipts",
        "SET session_replication_role = replica; TRUNCATE outcomes",
    ] {
        let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut other).await.expect_err(sql).to_string();
        assert!(error.contains("are never changed"), "{sql}: {error}");
        assert!(all(&store).await == before, "{sql}");
    }
}

/// Somebody is at work on a listed receipt and has not committed: what comes meanwhile waits, so that nothing is
/// ever added among what can be seen. What is not listed does not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commits_late_stands_in_front_all_the_same() {
    let (store, mut other) = filled().await;
    let mut transaction = other.begin().await.unwrap();
    let late = "SELECT append_receipt('\\xffffffffffffffffffffffffffffffff', false, NULL, NULL, 'public_full', 0, 'late', \
                true, true, 1, 'late', 'late', 1, 0)";
    sqlx::query(late).execute(&mut *transaction).await.unwrap();
    let next = tokio::spawn({
        let store = store.clone();
        async move { store.append(receipt(20)).await }
    });
    let private = ReceiptRow { public: None, listed: None, ..receipt(30) };
    tokio::time::timeout(Duration::from_secs(2), store.append(private)).await.unwrap().unwrap();
    let seen = store.public_page(None, 100).await.unwrap().receipts;
    assert_eq!((seen.len(), next.is_finished()), (20, false));
    transaction.commit().await.unwrap();
    next.await.unwrap().unwrap();
    let now = store.public_page(None, 100).await.unwrap().receipts;
    assert_eq!(now[..2], [receipt(20).public.unwrap(), "late".into()]);
    assert_eq!(now[2..], seen);
}

/// The lock is given back by whoever dies with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_the_list_up_for_too_long_makes_the_others_fail_and_nothing_worse() {
    let (store, mut other) = filled().await;
    let mut transaction = other.begin().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('tower-mpp receipts tower_mpp', 0))";
    sqlx::query(lock).execute(&mut *transaction).await.unwrap();
    let error = store.append(receipt(20)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{}", said(&error));
    // Payments go on meanwhile.
    won(&store, 1).await;
    assert!(store.find(id(1)).await.unwrap().is_some());
    drop(transaction);
    other.close().await.unwrap();
    store.append(receipt(20)).await.unwrap();
    assert_eq!(store.totals(10, 0).await.unwrap().names[0].receipts, 21);
}

/// Those that wait for the list have no connection meanwhile: payments do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listed_receipts_that_wait_leave_the_connections_to_payments() {
    let (store, mut other) = filled().await;
    let mut transaction = other.begin().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('tower-mpp receipts tower_mpp', 0))";
    sqlx::query(lock).execute(&mut *transaction).await.unwrap();
    let waiting: Vec<_> = (20..70)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.append(receipt(n)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let payments = async {
        for n in 0..10 {
            let lease = won(&store, n).await;
            store.settle(lease, &settlement()).await.unwrap();
            store.commit(lease, End::Delivered).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(1), payments).await.unwrap();
    assert!(waiting.iter().all(|append| !append.is_finished()));
    transaction.commit().await.unwrap();
    for append in waiting {
        append.await.unwrap().unwrap();
    }
    assert_eq!(store.totals(10, 0).await.unwrap().names[0].receipts, 70);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_of_several_replicas_leave_no_gap_and_no_double() {
    let url = server().await.fresh_database().await;
    let replicas = join_all((0..3).map(|_| options().connect(&url))).await;
    let replicas: Vec<_> = replicas.into_iter().map(Result::unwrap).collect();
    let tasks = (0..600).map(|n| {
        let store = replicas[n as usize % 3].clone();
        tokio::spawn(async move { store.append(receipt(n / 2)).await })
    });
    for done in join_all(tasks.collect::<Vec<_>>()).await {
        done.unwrap().unwrap();
    }
    let mut seen = HashSet::new();
    let mut next = None;
    loop {
        let page = replicas[0].public_page(next, 37).await.unwrap();
        assert!(page.receipts.into_iter().all(|receipt| seen.insert(receipt)));
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let totals = replicas[1].totals(10, 0).await.unwrap();
    let days: u64 = totals.days.iter().map(|(_, paid)| paid).sum();
    assert_eq!((seen.len(), totals.names[0].receipts, totals.names[0].tokens, days), (300, 300, 3000, 300));
}

/// No statement of the ledger goes through a whole table, however long it is.
#[tokio::test]
async fn what_is_asked_often_is_asked_of_an_index() {
    let (_store, mut other) = filled().await;
    // As the functions set it.
    sqlx::raw_sql("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off")
        .execute(&mut other)
        .await
        .unwrap();
    for (sql, index) in [
        ("SELECT * FROM receipts WHERE id = '\\x00' ORDER BY provisional LIMIT 1", "receipts_id_provisional_key"),
        (
            "SELECT * FROM receipts WHERE payment = '\\x00' AND NOT provisional ORDER BY number LIMIT 10",
            "receipts_payment",
        ),
        (
            "SELECT * FROM receipts WHERE parent = '\\x00' AND NOT provisional ORDER BY number LIMIT 10",
            "receipts_parent",
        ),
        (
            "SELECT public FROM receipts WHERE NOT provisional AND name IS NOT NULL AND public IS NOT NULL \
             AND number < 10 ORDER BY number DESC LIMIT 50",
            "receipts_listed",
        ),
        ("SELECT * FROM receipt_names ORDER BY receipts DESC, name LIMIT 10", "receipt_names_rank"),
        ("SELECT * FROM receipt_days WHERE day >= 1 ORDER BY day", "receipt_days_pkey"),
        ("SELECT json FROM outcomes WHERE receipt = '\\x00' ORDER BY number LIMIT 10", "outcomes_receipt"),
    ] {
        let plan: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN {sql}"))).fetch_all(&mut other).await.unwrap();
        let plan = plan.join("\n");
        assert!(plan.contains(index) && !plan.contains("Sort") && !plan.contains("Seq Scan"), "{sql}: {plan}");
    }
}

#[tokio::test]
async fn a_schema_of_the_version_before_is_given_a_ledger() {
    let url = server().await.fresh_database().await;
    let old = options().connect(&url).await.unwrap();
    won(&old, 1).await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(
        "SET search_path = tower_mpp;
        DROP TABLE receipts, outcomes, receipt_names, receipt_days CASCADE;
        DROP FUNCTION refuse_change, append_receipt, public_receipts, receipt_totals, append_outcome, find_outcomes;
        DELETE FROM versions WHERE version = 2",
    )
    .execute(&mut other)
    .await
    .unwrap();
    let opened = join_all((0..4).map(|_| options().connect(&url))).await;
    for store in opened {
        let store = store.unwrap();
        store.append(receipt(1)).await.unwrap();
        assert_eq!(store.totals(10, 0).await.unwrap().names[0].receipts, 1);
    }
    // Those of the version before go on.
    won(&old, 2).await;
}

/// Anybody may ask for a page: what it takes is bounded by its bytes too.
#[tokio::test]
async fn a_page_of_large_receipts_ends_at_a_mebibyte() {
    let store = store().await;
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
