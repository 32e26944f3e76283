//! Many callers of one file.

use std::{process::Command, sync::Arc};

use futures_util::future::join_all;
use tower_mpp::store::{Claimed, End, Lease, NonceStore as _, SqliteNonceStore, StoreErrorKind};

use crate::home::{Home, claim, delivered, held, settlement};

const CALLERS: u64 = 64;
const EACH: u64 = 20;

async fn deliver(store: &SqliteNonceStore, first: u64) {
    for n in 0..EACH {
        delivered(store, first + n).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_few_transactions() {
    let home = Home::new();
    let store = home.store().await;
    let callers = (0..CALLERS).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move { deliver(&store, caller * EACH).await })
    });
    join_all(callers.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
    let (steps, commits) = (CALLERS * EACH * 3, store.commits());
    assert!(commits < steps / 8, "{steps} steps took {commits} transactions");
    assert!(commits >= EACH * 3, "{steps} steps took {commits} transactions: less than one caller needs");
}

#[tokio::test]
async fn one_caller_has_a_transaction_for_each_step() {
    let home = Home::new();
    let store = home.store().await;
    deliver(&store, 0).await;
    assert_eq!(store.commits(), EACH * 3);
}

#[tokio::test]
async fn a_step_that_is_refused_does_not_take_others_with_it() {
    let home = Home::new();
    let store = home.store().await;
    // Whether the steps of a round share a transaction is up to the scheduler: most rounds do.
    let mut shared = 0;
    for round in 0..20 {
        let (first, second) = (2 * round, 2 * round + 1);
        let lease = held(&store, first).await.unwrap();
        let before = store.commits();
        let (wrong_lease, settled) = (Lease { token: u64::MAX, ..lease }, settlement(first));
        let (wrong, right, lost, new) = tokio::join!(
            store.commit(lease, End::Refunded),
            store.settle(lease, &settled),
            store.settle(wrong_lease, &settled),
            store.claim(claim(second)),
        );
        assert_eq!(wrong.unwrap_err().kind(), StoreErrorKind::Conflict);
        right.unwrap();
        assert_eq!(lost.unwrap_err().kind(), StoreErrorKind::LeaseLost);
        assert!(matches!(new.unwrap(), Claimed::Won { .. }));
        shared += u32::from(store.commits() <= before + 2);
    }
    assert!(shared > 0, "no round has shared a transaction");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_busy_handles_do_not_starve_each_other() {
    let home = Home::new();
    let path = home.path();
    let stores = [SqliteNonceStore::open(&path).await.unwrap(), SqliteNonceStore::open(&path).await.unwrap()];
    let callers = (0..CALLERS).map(|caller| {
        let store = stores[(caller % 2) as usize].clone();
        tokio::spawn(async move { deliver(&store, caller * EACH).await })
    });
    join_all(callers.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
}

#[tokio::test]
async fn a_small_queue_makes_callers_wait_and_nothing_is_lost() {
    let home = Home::new();
    let store = SqliteNonceStore::builder(home.path()).queue(1).open().await.unwrap();
    for done in join_all((0..CALLERS).map(|n| delivered(&store, n))).await {
        done.unwrap();
    }
    for n in 0..CALLERS {
        assert!(matches!(store.claim(claim(n)).await.unwrap(), Claimed::Spent(End::Delivered)));
    }
}

#[tokio::test]
async fn a_claim_whose_caller_is_gone_before_its_turn_holds_nothing() {
    let home = Home::new();
    let path = home.path();
    let store = Arc::new(SqliteNonceStore::open(&path).await.unwrap());
    let lease = held(&store, 0).await.unwrap();
    // Another process has the file, so what comes now waits.
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let stuck = tokio::spawn({
        let store = Arc::clone(&store);
        async move { held(&store, 1).await }
    });
    tokio::task::yield_now().await;
    {
        let claim = store.claim(claim(2));
        let settlement = settlement(0);
        let settle = store.settle(lease, &settlement);
        let mut both = std::pin::pin!(async { tokio::join!(claim, settle) });
        assert!(futures_util::poll!(&mut both).is_pending());
    }
    other.execute_batch("COMMIT").unwrap();
    stuck.await.unwrap().unwrap();
    // The claim was for nobody. That money has moved is true whoever hears it.
    held(&store, 2).await.unwrap();
    store.commit(lease, End::Delivered).await.unwrap();
}

const FILE: &str = "TOWER_MPP_TEST_FILE";

/// In a process of its own, when the test below starts it: claims what others claim too.
#[tokio::test]
async fn two_processes_have_one_winner_of_each_payment() {
    const PAYMENTS: u64 = 200;
    if let Some(path) = std::env::var_os(FILE) {
        let store = SqliteNonceStore::open(path).await.unwrap();
        for n in 0..PAYMENTS {
            if let Claimed::Won { lease, .. } = store.claim(claim(n)).await.unwrap() {
                println!("won {n} {}", lease.token);
                store.settle(lease, &settlement(n)).await.unwrap();
                store.commit(lease, End::Delivered).await.unwrap();
            }
        }
        return;
    }
    let home = Home::new();
    let path = home.path();
    let start = || {
        let name = "sharing::two_processes_have_one_winner_of_each_payment";
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args([name, "--exact", "--nocapture"]).env(FILE, &path).stdout(std::process::Stdio::piped());
        process.spawn().unwrap()
    };
    let processes = [start(), start(), start()];
    let mut won = Vec::new();
    for process in processes {
        let output = process.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        won.extend(text.lines().filter_map(|line| Some(line.split_once("won ")?.1.to_owned())));
    }
    let part = |at: usize| -> Vec<u64> {
        let mut numbers: Vec<_> = won.iter().map(|line| line.split(' ').nth(at).unwrap().parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(part(0), (0..PAYMENTS).collect::<Vec<_>>(), "each is won once");
    assert_eq!(part(1), (1..=PAYMENTS).collect::<Vec<_>>(), "no token is given out twice");
}
