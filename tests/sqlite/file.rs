//! The file: what is in it when it is opened again, and whose it may be.

use std::{fs, path::Path};

use rusqlite::Connection;
use tower_mpp::store::{
    AnswerStore as _, Claimed, End, EntryState, NonceStore as _, Page, Release, Reservation, SqliteNonceStore,
    StoreErrorKind, Take, Taken,
};

use crate::home::{Home, KEEP, LEASE, at, causes, claim, delivered, held, settlement};

fn beside(path: &Path, ending: &str) -> std::path::PathBuf {
    format!("{}{ending}", path.display()).into()
}

/// Waits until the thread of a store whose last handle was dropped has closed the file.
pub(crate) fn closed(path: &Path) {
    for _ in 0..10_000 {
        if !beside(path, "-wal").exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the file was not closed");
}

#[tokio::test]
async fn everything_is_there_when_it_is_opened_again() {
    let home = Home::new();
    let path = home.path();
    let store = SqliteNonceStore::open(&path).await.unwrap();
    let lease = held(&store, 1).await.unwrap();
    let settled = held(&store, 2).await.unwrap();
    store.settle(settled, &settlement(2)).await.unwrap();
    let last = delivered(&store, 3).await.unwrap();
    let given_back = held(&store, 4).await.unwrap();
    store.release(given_back, Release::NotCharged).await.unwrap();
    let reservation = Reservation { lease: last, request: [7; 32], now: at(0), until: at(LEASE), keep_until: at(KEEP) };
    store.reserve(reservation).await.unwrap();
    store.keep(last, "the answer".into(), at(KEEP)).await.unwrap();
    let before = store.find(claim(2).id).await.unwrap();
    drop(store);
    closed(&path);

    let store = SqliteNonceStore::open(&path).await.unwrap();
    assert!(matches!(store.claim(claim(1)).await.unwrap(), Claimed::Busy));
    assert_eq!(store.find(claim(2).id).await.unwrap(), before);
    assert!(matches!(store.claim(claim(3)).await.unwrap(), Claimed::Spent(End::Delivered)));
    let answer = store.look_up(last.id, at(0)).await.unwrap().unwrap();
    assert_eq!((answer.request, answer.answer.as_deref()), ([7; 32], Some(&b"the answer"[..])));
    // Leases go on, and new ones are told from those of before.
    store.settle(lease, &settlement(1)).await.unwrap();
    store.commit(settled, End::Delivered).await.unwrap();
    let again = held(&store, 4).await.unwrap();
    assert!(again.token > given_back.token && again.token > last.token, "{again:?}, {given_back:?}, {last:?}");
    let page = Page { now: at(LEASE), after: None, limit: 10, due: true };
    assert_eq!(store.unfinished(page).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_answered_is_in_the_file_before_it_is_closed() {
    let home = Home::new();
    let path = home.path();
    let store = SqliteNonceStore::open(&path).await.unwrap();
    delivered(&store, 1).await.unwrap();
    held(&store, 2).await.unwrap();
    // As a crash would leave it.
    let copy = home.path();
    for ending in ["", "-wal"] {
        fs::copy(beside(&path, ending), beside(&copy, ending)).unwrap();
    }
    let copy = SqliteNonceStore::open(&copy).await.unwrap();
    assert!(matches!(copy.claim(claim(1)).await.unwrap(), Claimed::Spent(End::Delivered)));
    assert!(matches!(copy.claim(claim(2)).await.unwrap(), Claimed::Busy));
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let path = home.path();
    let store = SqliteNonceStore::open(&path).await.unwrap();
    held(&store, 1).await.unwrap();
    for ending in ["", "-wal", "-shm"] {
        let mode = fs::metadata(beside(&path, ending)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{ending}");
    }
}

/// It is refused as it is, and stays as it is.
async fn refused(path: &Path, why: &str) {
    let before = fs::read(path).unwrap();
    for _ in 0..2 {
        let error = SqliteNonceStore::open(path).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(causes(&error).contains(why), "{}", causes(&error));
    }
    assert!(fs::read(path).unwrap() == before, "the file was changed");
    // One that uses a log is given an empty one by being looked at.
    assert!(fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len()) == 0);
}

#[tokio::test]
async fn a_file_of_another_application_is_refused_and_untouched() {
    let home = Home::new();
    let text = home.path();
    fs::write(&text, "not a database at all; ".repeat(100)).unwrap();
    refused(&text, "another application").await;
    for (number, schema) in [
        "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);",
        "CREATE TABLE theirs (x); PRAGMA user_version = 1;",
        "PRAGMA application_id = 7; PRAGMA user_version = 1; CREATE TABLE theirs (x);",
        "PRAGMA journal_mode = WAL; CREATE TABLE theirs (x);",
    ]
    .iter()
    .enumerate()
    {
        let path = home.path();
        Connection::open(&path).unwrap().execute_batch(schema).unwrap();
        assert!(!beside(&path, "-wal").exists(), "{number}");
        refused(&path, "another application").await;
    }
}

#[tokio::test]
async fn a_log_of_another_application_is_not_touched_either() {
    let home = Home::new();
    let path = home.path();
    let theirs = Connection::open(&path).unwrap();
    theirs.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE theirs (x)").unwrap();
    let copy = home.path();
    for ending in ["", "-wal"] {
        fs::copy(beside(&path, ending), beside(&copy, ending)).unwrap();
    }
    let log = fs::read(beside(&copy, "-wal")).unwrap();
    let error = SqliteNonceStore::open(&copy).await.unwrap_err();
    assert!(causes(&error).contains("another application"), "{}", causes(&error));
    assert!(fs::read(beside(&copy, "-wal")).unwrap() == log);
    let tables = "SELECT count(*) FROM theirs";
    let rows: i64 = Connection::open(&copy).unwrap().query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused_and_untouched() {
    let home = Home::new();
    let path = home.path();
    drop(SqliteNonceStore::open(&path).await.unwrap());
    closed(&path);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 3).unwrap();
    refused(&path, "later version").await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    SqliteNonceStore::open(&path).await.unwrap();
}

#[tokio::test]
async fn an_empty_file_becomes_a_journal_and_a_missing_directory_does_not() {
    let home = Home::new();
    let path = home.path();
    fs::write(&path, "").unwrap();
    delivered(&SqliteNonceStore::open(&path).await.unwrap(), 1).await.unwrap();
    let missing = home.path().join("payments.db");
    let error = SqliteNonceStore::open(&missing).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(!missing.exists() && !missing.parent().unwrap().exists());
    let error = SqliteNonceStore::open(path.parent().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "a directory");
}

#[tokio::test]
async fn many_open_a_fresh_file_at_once() {
    let home = Home::new();
    for _ in 0..10 {
        let path = home.path();
        let opened = futures_util::future::join_all((0..8).map(|_| SqliteNonceStore::open(&path))).await;
        let stores: Vec<_> = opened.into_iter().map(Result::unwrap).collect();
        let claims = stores.iter().map(|store| store.claim(claim(1)));
        let answers = futures_util::future::join_all(claims).await;
        let won = answers.iter().filter(|answer| matches!(answer, Ok(Claimed::Won { .. }))).count();
        let busy = answers.iter().filter(|answer| matches!(answer, Ok(Claimed::Busy))).count();
        assert_eq!((won, busy), (1, 7), "{answers:?}");
    }
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_an_error_and_is_left_alone() {
    let home = Home::new();
    let path = home.path();
    let store = SqliteNonceStore::open(&path).await.unwrap();
    let lease = held(&store, 1).await.unwrap();
    store.settle(lease, &settlement(1)).await.unwrap();
    store.release(lease, Release::Undelivered).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute("UPDATE entries SET settlement = '{'", []).unwrap();
    let token = || other.query_row("SELECT token FROM entries", [], |row| row.get::<_, i64>(0)).unwrap();
    let take = Take { id: lease.id, now: at(0), lease_until: at(LEASE), asked_for: true };
    assert_eq!(store.take(take).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(store.claim(claim(1)).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(store.find(lease.id).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(token(), lease.token as i64);
    // What SQLite itself cannot read does no harm to the steps beside it.
    other.execute("UPDATE entries SET proof = x'00'", []).unwrap();
    let (broken, fine) = tokio::join!(store.claim(claim(1)), store.claim(claim(2)));
    assert_eq!(broken.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert!(matches!(fine.unwrap(), Claimed::Won { .. }));
    assert_eq!(token(), lease.token as i64);
    let repaired = (serde_json::to_string(&settlement(1)).unwrap(), claim(1).proof.key().as_bytes().to_vec());
    other.execute("UPDATE entries SET settlement = ?1, proof = ?2 WHERE state = 1", repaired).unwrap();
    let Taken::Won { entry, .. } = store.take(take).await.unwrap() else { panic!("not taken") };
    assert!(matches!(entry.state, EntryState::Settled { refundable: true, .. }));
}
