//! Trouble with the disk: steps fail as unavailable, nothing is half done, and the same store is healthy when
//! the cause is gone.
//!
//! A full or a read-only file system is a real one. Its test starts itself again, as a process that has mounts
//! of its own and is root in there; where nobody may do that, as one whose files may not grow or be written.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use futures_util::future::join_all;
use rusqlite::Connection;
use tower_mpp::store::{
    AnswerStore as _, Claimed, End, EntryState, Lease, NonceStore as _, Page, ReceiptStore as _, RefundReason, Release,
    Reservation, SqliteNonceStore, StoreError, StoreErrorKind, Take,
};

use crate::{
    file::closed,
    home::{Home, KEEP, LEASE, at, causes, claim, delivered, held, outcome, receipt, settlement},
};

/// Where the process of a test finds its folder, and what it is told about it.
const FOLDER: &str = "TOWER_MPP_TEST_FOLDER";

/// In the process of a test: its folder.
fn inside() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Starts this very test as a process of its own, after a script in which `$DIR` is its folder.
fn start_again(test: &str, shell: &[&str], script: &str, folder: &Path) {
    let script = format!("set -e; {script}; exec \"$@\"");
    let mut process = Command::new(shell[0]);
    process.args(&shell[1..]).args(["sh", "-c", &script, "sh"]).arg(std::env::current_exe().unwrap());
    process.args([&format!("trouble::{test}"), "--exact", "--nocapture"]);
    let output = process.env(FOLDER, folder).env("DIR", folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// How a process gets mounts of its own, if this user may have such.
fn own_mounts() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--mount", "--map-root-user"]];
    ways.into_iter().find(|way| {
        let mut process = Command::new(way[0]);
        process.args(&way[1..]).args(["sh", "-c", "mount -t tmpfs -o size=1m tmpfs /tmp"]);
        process.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    })
}

fn run(program: &str, arguments: &[&str]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    causes(&error)
}

fn reservation(n: u64) -> Reservation {
    let lease = Lease { id: claim(n).id, token: 1 };
    Reservation { lease, request: [1; 32], now: at(0), until: at(LEASE), keep_until: at(KEEP) }
}

/// Payments in every state that a step can find them in.
struct Payments {
    path: PathBuf,
    store: SqliteNonceStore,
    held: Lease,
    settled: Lease,
    refunding: Lease,
    filler: Lease,
}

const HELD: u64 = 1;
const SETTLED: u64 = 2;
const REFUNDING: u64 = 3;
const OVER: u64 = 4;
const GIVEN_UP: u64 = 5;
const FILLER: u64 = 6;

impl Payments {
    async fn new(path: PathBuf) -> Self {
        let store = SqliteNonceStore::open(&path).await.unwrap();
        let held_now = held(&store, HELD).await.unwrap();
        let settled = held(&store, SETTLED).await.unwrap();
        store.settle(settled, &settlement(SETTLED)).await.unwrap();
        let refunding = held(&store, REFUNDING).await.unwrap();
        store.settle(refunding, &settlement(REFUNDING)).await.unwrap();
        store.refund(refunding, RefundReason::TimedOut).await.unwrap();
        delivered(&store, OVER).await.unwrap();
        let given_up = held(&store, GIVEN_UP).await.unwrap();
        store.release(given_up, Release::Unknown).await.unwrap();
        store.reserve(reservation(SETTLED)).await.unwrap();
        store.append(receipt(1)).await.unwrap();
        let filler = held(&store, FILLER).await.unwrap();
        Self { path, store, held: held_now, settled, refunding, filler }
    }

    /// Writes the smallest thing there is until there is no place for that either.
    async fn fill_the_log(&self) {
        for n in 0..10_000 {
            if self.store.renew(self.filler, at(2 * LEASE + n)).await.is_err() {
                return;
            }
        }
        panic!("the disk is not full");
    }

    /// No step that writes succeeds, whatever it is, and reading goes on.
    async fn fail(&self) {
        let store = &self.store;
        unavailable(store.claim(claim(10)).await);
        unavailable(store.claim(claim(GIVEN_UP)).await);
        unavailable(store.renew(self.held, at(2 * LEASE)).await);
        unavailable(store.settle(self.held, &settlement(HELD)).await);
        unavailable(store.commit(self.settled, End::Delivered).await);
        unavailable(store.refund(self.settled, RefundReason::Requested).await);
        unavailable(store.release(self.settled, Release::NotRefundable).await);
        unavailable(store.release(self.held, Release::NotCharged).await);
        unavailable(store.commit(self.refunding, End::Refunded).await);
        unavailable(store.put_off(self.refunding, at(LEASE)).await);
        let take = Take { id: claim(GIVEN_UP).id, now: at(0), lease_until: at(LEASE), asked_for: true };
        unavailable(store.take(take).await);
        unavailable(store.reserve(reservation(10)).await);
        unavailable(store.keep(reservation(SETTLED).lease, vec![7; 1000].into(), at(KEEP)).await);
        unavailable(store.append(receipt(2)).await);
        unavailable(store.append_outcome(outcome(1)).await);
        for answer in join_all((100..200).map(|n| store.claim(claim(n)))).await {
            unavailable(answer);
        }
        self.is_as_it_was().await;
    }

    /// Everything is as before all that failed.
    async fn is_as_it_was(&self) {
        let store = &self.store;
        let state = async |n| store.find(claim(n).id).await.unwrap().map(|entry| (entry.state, entry.lease_until));
        assert_eq!(state(HELD).await, Some((EntryState::Held, at(LEASE))));
        let settled = EntryState::Settled { settlement: settlement(SETTLED), refundable: true };
        assert_eq!(state(SETTLED).await, Some((settled, at(LEASE))));
        let (settlement, reason) = (settlement(REFUNDING), RefundReason::TimedOut);
        assert_eq!(state(REFUNDING).await, Some((EntryState::Refunding { settlement, reason }, at(LEASE))));
        for n in [10, 100, 199] {
            assert_eq!(state(n).await, None);
        }
        let open = Page { now: at(0), after: None, limit: 1000, due: true };
        let open: Vec<_> = store.unfinished(open).await.unwrap().iter().map(|entry| entry.id).collect();
        assert_eq!(open, [claim(GIVEN_UP).id]);
        assert!(store.look_up(claim(10).id, at(0)).await.unwrap().is_none());
        let reserved = store.look_up(claim(SETTLED).id, at(0)).await.unwrap().unwrap();
        assert_eq!(reserved.answer, None);
        assert_eq!(store.get(receipt(1).id).await.unwrap(), Some(receipt(1)));
        assert_eq!(store.get(receipt(2).id).await.unwrap(), None);
        assert_eq!(store.public_page(None, 10).await.unwrap().receipts.len(), 1);
        assert_eq!(store.totals(10, 0).await.unwrap().names[0].receipts, 1);
        assert_eq!(store.outcomes(receipt(1).id, 10).await.unwrap(), []);
    }

    /// The same store, and its leases, go on.
    async fn go_on(self) {
        self.is_as_it_was().await;
        let Self { path, store, held: lease, settled, refunding, .. } = self;
        store.settle(lease, &settlement(HELD)).await.unwrap();
        store.commit(lease, End::Delivered).await.unwrap();
        store.commit(settled, End::Delivered).await.unwrap();
        store.commit(refunding, End::Refunded).await.unwrap();
        store.append(receipt(2)).await.unwrap();
        store.append_outcome(outcome(2)).await.unwrap();
        assert_eq!(store.totals(10, 0).await.unwrap().names[0].receipts, 2);
        store.keep(reservation(SETTLED).lease, vec![7; 1000].into(), at(KEEP)).await.unwrap();
        for n in [10, 100, 199] {
            held(&store, n).await.unwrap();
        }
        let last = held(&store, 200).await.unwrap();
        let Claimed::Won { lease, resumed: true } = store.claim(claim(GIVEN_UP)).await.unwrap() else {
            panic!("not resumed")
        };
        assert!(lease.token > last.token);
        drop(store);
        closed(&path);
        let store = SqliteNonceStore::open(&path).await.unwrap();
        for (n, end) in [(HELD, End::Delivered), (SETTLED, End::Delivered), (REFUNDING, End::Refunded)] {
            assert!(matches!(store.claim(claim(n)).await.unwrap(), Claimed::Spent(found) if found == end));
        }
        assert!(matches!(store.claim(claim(10)).await.unwrap(), Claimed::Busy));
        let other = Connection::open(&path).unwrap();
        let sound: String = other.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
    }
}

/// Fills the file system of a folder to the last byte.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("ballast");
    let mut ballast = fs::File::create(&path).unwrap();
    for size in [64 * 1024, 1] {
        while ballast.write_all(&vec![0; size]).is_ok() {}
    }
    path
}

#[tokio::test]
async fn a_full_disk_is_survived() {
    if let Some(folder) = inside() {
        let payments = Payments::new(folder.join("payments.db")).await;
        let ballast = fill(&folder);
        payments.fill_the_log().await;
        payments.fail().await;
        // There is room for a claim, and not for a large answer beside it.
        let length = fs::metadata(&ballast).unwrap().len();
        fs::OpenOptions::new().write(true).open(&ballast).unwrap().set_len(length - 256 * 1024).unwrap();
        let large = payments.store.keep(reservation(SETTLED).lease, vec![7; 1024 * 1024].into(), at(KEEP));
        let (large, small) = tokio::join!(large, held(&payments.store, 300));
        assert!(unavailable(large).contains("full"));
        payments.store.release(small.unwrap(), Release::NotCharged).await.unwrap();
        fill(&folder);
        payments.fill_the_log().await;
        payments.fail().await;
        fs::remove_file(ballast).unwrap();
        payments.go_on().await;
        return;
    }
    let home = tempfile::tempdir().unwrap();
    match own_mounts() {
        Some(way) => {
            let mount = "mount -t tmpfs -o size=4m tmpfs \"$DIR\"";
            start_again("a_full_disk_is_survived", way, mount, home.path());
        }
        None => {
            eprintln!("no mounts: a limit on the length of files stands in for a full disk");
            limited("files_that_cannot_grow_are_survived");
        }
    }
}

fn limited(test: &str) {
    let home = tempfile::tempdir().unwrap();
    // In units of 512 or 1024 bytes. Who writes more gets an error instead of the signal.
    start_again(test, &["env"], "trap '' XFSZ; ulimit -S -f 1000", home.path());
}

/// Every write beyond a length fails, which to SQLite is an error of the disk.
#[tokio::test]
async fn files_that_cannot_grow_are_survived() {
    let Some(folder) = inside() else { return limited("files_that_cannot_grow_are_survived") };
    let payments = Payments::new(folder.join("payments.db")).await;
    payments.fill_the_log().await;
    payments.fail().await;
    let process = std::process::id().to_string();
    run("prlimit", &["--pid", &process, "--fsize=unlimited:"]);
    payments.go_on().await;
}

#[tokio::test]
async fn a_read_only_disk_is_refused_and_used_when_it_is_not_any_more() {
    const TEST: &str = "a_read_only_disk_is_refused_and_used_when_it_is_not_any_more";
    if let Some(folder) = inside() {
        let path = folder.join("payments.db");
        let before = fs::read(&path).unwrap();
        for path in [path.clone(), folder.join("fresh.db")] {
            unavailable(SqliteNonceStore::open(path).await);
        }
        assert!(fs::read(&path).unwrap() == before);
        assert!(!folder.join("fresh.db").exists());
        run("sh", &["-c", &std::env::var("RELIEVE").unwrap()]);
        let store = SqliteNonceStore::open(&path).await.unwrap();
        assert!(matches!(store.claim(claim(1)).await.unwrap(), Claimed::Spent(End::Delivered)));
        delivered(&store, 2).await.unwrap();
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("payments.db");
    let store = SqliteNonceStore::open(&path).await.unwrap();
    delivered(&store, 1).await.unwrap();
    drop(store);
    closed(&path);
    match own_mounts() {
        Some(way) => {
            let mount = "mount --bind \"$DIR\" \"$DIR\"; mount -o remount,bind,ro \"$DIR\"; \
                         export RELIEVE='mount -o remount,bind,rw \"$DIR\"'";
            start_again(TEST, way, mount, home.path());
        }
        None => {
            let forbid = "chmod 400 \"$DIR/payments.db\"; chmod 500 \"$DIR\"; \
                          ! touch \"$DIR/fresh.db\" 2>/dev/null || { echo nothing is read-only to root; exit 1; }; \
                          export RELIEVE='chmod 700 \"$DIR\"; chmod 600 \"$DIR/payments.db\"'";
            start_again(TEST, &["env"], forbid, home.path());
        }
    }
}

#[tokio::test]
async fn a_folder_that_is_moved_away_and_back_is_survived() {
    let home = tempfile::tempdir().unwrap();
    let (here, there) = (home.path().join("here"), home.path().join("there"));
    fs::create_dir(&here).unwrap();
    let payments = Payments::new(here.join("payments.db")).await;
    fs::rename(&here, &there).unwrap();
    let error = unavailable(payments.store.claim(claim(10)).await);
    assert!(error.contains("not where it was opened"), "{error}");
    unavailable(payments.store.find(claim(HELD).id).await);
    assert!(!here.exists());
    // Nor is another file at its place taken for it.
    fs::create_dir(&here).unwrap();
    let other = SqliteNonceStore::open(here.join("payments.db")).await.unwrap();
    unavailable(payments.store.settle(payments.held, &settlement(HELD)).await);
    held(&other, 10).await.unwrap();
    drop(other);
    closed(&here.join("payments.db"));
    fs::remove_dir_all(&here).unwrap();
    fs::rename(&there, &here).unwrap();
    payments.go_on().await;
}

#[tokio::test]
async fn a_file_that_was_deleted_is_not_made_anew() {
    let home = Home::new();
    let path = home.path();
    let store = SqliteNonceStore::open(&path).await.unwrap();
    delivered(&store, 1).await.unwrap();
    fs::remove_file(&path).unwrap();
    unavailable(store.claim(claim(1)).await);
    unavailable(store.claim(claim(2)).await);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_store_that_closes_does_not_delete_the_log_of_another() {
    let home = tempfile::tempdir().unwrap();
    let (path, old) = (home.path().join("payments.db"), home.path().join("old.db"));
    let store = SqliteNonceStore::open(&path).await.unwrap();
    delivered(&store, 1).await.unwrap();
    for ending in ["", "-wal", "-shm"] {
        let beside = |path: &Path| format!("{}{ending}", path.display());
        fs::rename(beside(&path), beside(&old)).unwrap();
    }
    let other = SqliteNonceStore::open(&path).await.unwrap();
    delivered(&other, 2).await.unwrap();
    drop(store);
    // Its thread ends when it has closed the file, and this one has been served since.
    delivered(&other, 3).await.unwrap();
    let copy = home.path().join("copy.db");
    for ending in ["", "-wal"] {
        let beside = |path: &Path| format!("{}{ending}", path.display());
        fs::copy(beside(&path), beside(&copy)).unwrap();
    }
    let copy = SqliteNonceStore::open(&copy).await.unwrap();
    for n in [2, 3] {
        assert!(matches!(copy.claim(claim(n)).await.unwrap(), Claimed::Spent(End::Delivered)));
    }
}

/// This takes the five seconds that a store waits for others.
#[tokio::test]
async fn a_file_that_another_process_holds_is_survived() {
    let home = Home::new();
    let payments = Payments::new(home.path()).await;
    let other = Connection::open(&payments.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = unavailable(payments.store.claim(claim(10)).await);
    assert!(error.contains("locked"), "{error}");
    payments.is_as_it_was().await;
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    payments.go_on().await;
}
