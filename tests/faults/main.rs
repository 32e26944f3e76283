//! Faults at every call of the stores and of the rail, over random schedules: money moves at most once, what was
//! paid for is delivered once or still owed, and the journal only does what its diagram allows.
//!
//! `FAULT_SCHEDULES` says how many schedules are run, 10,000 without it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod found;
mod journal;
mod judge;
mod model;
mod rail;
mod schedule;
mod shop;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex},
    thread,
};

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use self::{
    schedule::{Call, Schedule, schedule},
    shop::Shop,
    world::{Tally, World},
};

/// In so many schedules every fault comes up at every call.
const ENOUGH: u32 = 10_000;

/// One schedule from beginning to end, in time of its own.
fn run(schedule: &Schedule, traced: bool) -> Arc<World> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let shop = Shop::open(schedule, traced).await;
        shop.run(schedule).await;
        shop.calm_down().await;
        let everybody = || (0..shop.credentials.len()).collect();
        shop.present_again(everybody()).await;
        shop.sweep_up().await;
        // Also who has a final answer: the journal may have forgotten by now what it was about.
        let open = shop.present_again(everybody()).await;
        shop.settle_up(&open, schedule.refunds).await;
        Arc::clone(&shop.world)
    })
}

fn share(cases: u32, tally: &Mutex<Tally>) -> Result<(), String> {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let result = TestRunner::new(config).run(&schedule(), |schedule| {
        let world = run(&schedule, false);
        tally.lock().unwrap().add(&world.tally());
        match world.wrongs().as_slice() {
            [] => Ok(()),
            wrongs => Err(TestCaseError::fail(wrongs.join("\n"))),
        }
    });
    match result {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, schedule)) => {
            let trace = run(&schedule, true).trace().join("\n");
            Err(format!("{reason}\n\n{schedule:#?}\n\n{trace}"))
        }
        Err(TestError::Abort(reason)) => Err(reason.to_string()),
    }
}

#[test]
fn whatever_fails_money_moves_once_and_is_accounted_for() {
    let schedules = std::env::var("FAULT_SCHEDULES").map_or(ENOUGH, |number| number.parse().unwrap());
    let tally = Mutex::new(Tally::default());
    let threads = thread::available_parallelism().map_or(2, |threads| u32::try_from(threads.get().min(8)).unwrap());
    thread::scope(|scope| {
        let shares: Vec<_> = (0..threads).map(|_| scope.spawn(|| share(schedules.div_ceil(threads), &tally))).collect();
        for share in shares {
            share.join().unwrap_or_else(|panic| resume_unwind(panic)).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
    });
    let tally = tally.into_inner().unwrap();
    println!(
        "{schedules} schedules\ncalls: {:?}\nfaults: {:?}\nchallenges: {:?}",
        tally.calls, tally.faults, tally.ends
    );
    for call in Call::ALL.into_iter().filter(|_| schedules >= ENOUGH) {
        for fault in call.faults() {
            assert!(tally.faults.contains_key(&(call, *fault)), "{call:?} never had the fault {fault:?}");
        }
    }
}
