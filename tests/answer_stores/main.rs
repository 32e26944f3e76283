//! Stores of answers: the public suite against the one in memory, against a see-through one, and against
//! wrong ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod model;

use std::sync::Arc;

use tower_mpp::{
    conformance::answer_store::{Law, Replicas, Suite},
    store::{AnswerStore, MemoryAnswerStore},
};

use crate::model::{Bug, Drawer};

const MEBIBYTES: usize = 1024 * 1024;

fn memory() -> MemoryAnswerStore {
    MemoryAnswerStore::new(16 * MEBIBYTES)
}

fn small() -> MemoryAnswerStore {
    MemoryAnswerStore::new(100_000)
}

#[tokio::test]
async fn memory_keeps_the_laws() {
    Suite::new(|| async { memory() }).bounded(|| async { small() }).assert().await;
}

#[tokio::test]
async fn boxed_memory_keeps_the_laws() {
    Suite::new(|| async { Box::new(memory()) as Box<dyn AnswerStore> })
        .bounded(|| async { Box::new(small()) as Box<dyn AnswerStore> })
        .assert()
        .await;
}

#[tokio::test]
async fn shared_memory_keeps_the_laws() {
    Suite::new(|| async { Arc::new(memory()) as Arc<dyn AnswerStore> })
        .bounded(|| async { Arc::new(small()) as Arc<dyn AnswerStore> })
        .assert()
        .await;
}

#[tokio::test]
async fn two_handles_of_one_memory_keep_the_laws() {
    let replicas = |store: MemoryAnswerStore| {
        let store = Arc::new(store);
        Replicas::new(Arc::clone(&store), store)
    };
    Suite::new(move || async move { replicas(memory()) })
        .bounded(move || async move { replicas(small()) })
        .assert()
        .await;
}

#[tokio::test]
async fn a_second_process_with_a_memory_of_its_own_is_caught() {
    let suite = Suite::new(|| async { Replicas::new(memory(), memory()) });
    let violations = suite.run().await.unwrap_err();
    for law in [Law::ReservedIsRunning, Law::KeptAsGiven, Law::RememberedUntil] {
        assert!(violations.iter().any(|violation| violation.law() == law), "{law:?}: {violations}");
    }
}

fn suite(bug: Bug) -> Suite {
    Suite::new(move || async move { Drawer::new(10_000, bug) }).bounded(move || async move { Drawer::new(20, bug) })
}

#[tokio::test]
async fn a_store_that_is_easy_to_see_through_keeps_the_laws() {
    suite(Bug::None).assert().await;
}

/// Each wrong store with the law that is there to catch it.
const CAUGHT: &[(Bug, Law)] = &[
    (Bug::ReservesOnce, Law::ReservedAgain),
    (Bug::ReserveShortensMemory, Law::ReservedAgain),
    (Bug::ReserveReplacesAnswers, Law::CompleteStays),
    (Bug::ReserveReplacesRequests, Law::CompleteStays),
    (Bug::RunningLooksComplete, Law::ReservedIsRunning),
    (Bug::UntilIsKeepUntil, Law::ReservedIsRunning),
    (Bug::GivesUpAnswers, Law::GivenUpIsIdle),
    (Bug::GivesUpNothing, Law::GivenUpIsIdle),
    (Bug::GivesUpAll, Law::GivenUpIsIdle),
    (Bug::AnyoneReserves, Law::LeasesFence),
    (Bug::AnyoneKeeps, Law::LeasesFence),
    (Bug::AnyoneGivesUp, Law::LeasesFence),
    (Bug::GivesUpTheFence, Law::LeasesFence),
    (Bug::NewerReplacesAnswers, Law::LeasesFence),
    (Bug::NewerOwnsAnswers, Law::LeasesFence),
    (Bug::NewerIsShutOut, Law::LeasesFence),
    (Bug::TokensAsDoubles, Law::LeasesFence),
    (Bug::EmptyIsNone, Law::KeptAsGiven),
    (Bug::CutAtZero, Law::KeptAsGiven),
    (Bug::CutAt64KiB, Law::KeptAsGiven),
    (Bug::Lossy, Law::KeptAsGiven),
    (Bug::KeepsUnreserved, Law::KeepNeedsReservation),
    (Bug::LastAnswerWins, Law::CompleteStays),
    (Bug::KeepShortensMemory, Law::KeepMovesLater),
    (Bug::KeepNeverMoves, Law::KeepMovesLater),
    (Bug::ForgetsEarly, Law::RememberedUntil),
    (Bug::ShownForever, Law::RememberedUntil),
    (Bug::OldAnswersComeBack, Law::RememberedUntil),
    (Bug::ForgetDropsAll, Law::ForgetsWhatMay),
    (Bug::ForgetDropsRunning, Law::ForgetsWhatMay),
    (Bug::ForgetIgnoresLimit, Law::ForgetsWhatMay),
    (Bug::IdsCutShort, Law::ExactIds),
    (Bug::IdsCaseFolded, Law::ExactIds),
    (Bug::LookThenWrite, Law::PaymentsAreIndependent),
    (Bug::LookThenWrite, Law::LeasesFence),
    (Bug::EvictsOldest, Law::FullRefuses),
    (Bug::NeverFull, Law::FullRefuses),
    (Bug::NeverForgets, Law::FullRefuses),
];

#[tokio::test]
async fn every_wrong_store_is_caught_by_the_law_for_it() {
    let mut escaped = Vec::new();
    for (bug, law) in CAUGHT {
        let violations = suite(*bug).run().await.err();
        let broken: Vec<_> = violations.iter().flat_map(|found| found.iter()).map(|found| found.law()).collect();
        println!("{bug:?}: {broken:?}");
        if !broken.contains(law) {
            escaped.push((bug, law, broken));
        }
    }
    assert!(escaped.is_empty(), "not caught: {escaped:?}");
}

#[tokio::test]
async fn a_broken_law_is_reported_by_name_and_by_what_was_seen() {
    let report = suite(Bug::EmptyIsNone).run().await.unwrap_err().to_string();
    let expected = "KeptAsGiven: Answers come back byte for byte, whatever is in them and up to a mebibyte.\n    \
                    an answer of 0 bytes: the answer is not complete";
    assert!(report.contains(expected), "{report}");
}
