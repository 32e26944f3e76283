//! What is forgotten gives its space back.

use std::fs;

use futures_util::future::join_all;
use rusqlite::Connection;
use tower_mpp::store::{AnswerStore, Claimed, Lease, NonceStore, Reservation, SqliteNonceStore, StoreErrorKind};

use crate::{
    file::closed,
    home::{Home, KEEP, LEASE, at, claim, delivered, held},
};

const MEBIBYTE: u64 = 1024 * 1024;

#[tokio::test]
async fn forgotten_payments_give_their_space_back() {
    const PAYMENTS: u64 = 20_000;
    let home = Home::new();
    let path = home.path();
    let store = SqliteNonceStore::open(&path).await.unwrap();
    for first in (0..PAYMENTS).step_by(500) {
        let some = (first..first + 500).map(|n| delivered(&store, n));
        for done in join_all(some).await {
            done.unwrap();
        }
    }
    held(&store, PAYMENTS).await.unwrap();
    let other = Connection::open(&path).unwrap();
    let length = || {
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        fs::metadata(&path).unwrap().len()
    };
    let full = length();
    assert!(full > 12 * MEBIBYTE, "{full}");
    assert_eq!(NonceStore::forget(&store, at(KEEP - 1), 1000).await.unwrap(), 0);
    assert_eq!(NonceStore::forget(&store, at(KEEP), 1001).await.unwrap(), 1001);
    // However many they are, others have their turn in between.
    let before = store.commits();
    assert_eq!(NonceStore::forget(&store, at(KEEP), usize::MAX).await.unwrap() as u64, PAYMENTS - 1001);
    assert!(store.commits() - before >= 30, "{} transactions", store.commits() - before);
    // Also when there is nothing more to forget.
    for _ in 0..20 {
        assert_eq!(NonceStore::forget(&store, at(KEEP), 1000).await.unwrap(), 0);
    }
    let empty = length();
    assert!(empty <= 5 * MEBIBYTE, "{full} bytes became {empty}");
    assert!(matches!(store.claim(claim(PAYMENTS)).await.unwrap(), Claimed::Busy), "open money is there");
    let sound: String = other.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test]
async fn answers_are_bounded_and_counted_right_when_it_is_opened_again() {
    let home = Home::new();
    let path = home.path();
    let open = || SqliteNonceStore::builder(&path).max_answer_bytes(3 * MEBIBYTE).open();
    let lease = |n| Lease { id: claim(n).id, token: 1 };
    let reservation = |n, now| Reservation {
        lease: lease(n),
        request: [1; 32],
        now: at(now),
        until: at(now + LEASE),
        keep_until: at(now + KEEP),
    };
    let answer = || bytes::Bytes::from(vec![7; 1024 * 1024]);
    for round in 0..3 {
        // A fresh handle each time.
        let store = open().await.unwrap();
        let begin = round * KEEP;
        for n in 0..3 {
            store.reserve(reservation(n, begin)).await.unwrap();
        }
        for n in 0..2 {
            store.keep(lease(n), answer(), at(begin + KEEP)).await.unwrap();
        }
        assert_eq!(store.keep(lease(2), answer(), at(begin + KEEP)).await.unwrap_err().kind(), StoreErrorKind::Full);
        store.give_up(lease(2)).await.unwrap();
        drop(store);
        closed(&path);
        let store = open().await.unwrap();
        store.reserve(reservation(3, begin)).await.unwrap();
        assert_eq!(store.keep(lease(3), answer(), at(begin + KEEP)).await.unwrap_err().kind(), StoreErrorKind::Full);
        // The next round finds two of them at the end of their time, and the others forgotten.
        if round == 1 {
            assert_eq!(AnswerStore::forget(&store, at(begin + KEEP), 10).await.unwrap(), 4);
        }
        drop(store);
        closed(&path);
    }
}

#[tokio::test]
async fn forgotten_answers_give_their_space_back() {
    const ANSWERS: u64 = 30;
    let home = Home::new();
    let path = home.path();
    let store = SqliteNonceStore::open(&path).await.unwrap();
    for n in 0..ANSWERS {
        let lease = Lease { id: claim(n).id, token: 1 };
        let reservation = Reservation { lease, request: [1; 32], now: at(0), until: at(LEASE), keep_until: at(KEEP) };
        store.reserve(reservation).await.unwrap();
        store.keep(lease, vec![7; 1024 * 1024].into(), at(KEEP)).await.unwrap();
    }
    let other = Connection::open(&path).unwrap();
    let length = || {
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        fs::metadata(&path).unwrap().len()
    };
    assert!(length() >= ANSWERS * MEBIBYTE);
    let mut forgotten = 0;
    while let some @ 1.. = AnswerStore::forget(&store, at(KEEP), 10).await.unwrap() {
        forgotten += some;
    }
    for _ in 0..20 {
        AnswerStore::forget(&store, at(KEEP), 10).await.unwrap();
    }
    assert_eq!(forgotten as u64, ANSWERS);
    assert!(length() <= 5 * MEBIBYTE, "{}", length());
}
