//! Ledgers: the public suite against the one in memory, against a see-through one, and against wrong ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod model;

use std::sync::Arc;

use tower_mpp::{
    conformance::receipt_store::{Law, Replicas, Suite},
    store::{MemoryReceiptStore, ReceiptStore},
};

use crate::model::{Binder, Bug};

fn memory() -> MemoryReceiptStore {
    MemoryReceiptStore::new(10_000)
}

fn small() -> MemoryReceiptStore {
    MemoryReceiptStore::new(100)
}

#[tokio::test]
async fn memory_keeps_the_laws() {
    Suite::new(|| async { memory() }).bounded(|| async { small() }).assert().await;
}

#[tokio::test]
async fn boxed_memory_keeps_the_laws() {
    Suite::new(|| async { Box::new(memory()) as Box<dyn ReceiptStore> })
        .bounded(|| async { Box::new(small()) as Box<dyn ReceiptStore> })
        .assert()
        .await;
}

#[tokio::test]
async fn shared_memory_keeps_the_laws() {
    Suite::new(|| async { Arc::new(memory()) as Arc<dyn ReceiptStore> })
        .bounded(|| async { Arc::new(small()) as Arc<dyn ReceiptStore> })
        .assert()
        .await;
}

#[tokio::test]
async fn two_handles_of_one_memory_keep_the_laws() {
    let replicas = |store: MemoryReceiptStore| {
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
    for law in [Law::OneOfManyAtOnce, Law::OfPaymentInOrder, Law::PagesComplete, Law::TotalsOfNames] {
        assert!(violations.iter().any(|violation| violation.law() == law), "{law:?}: {violations}");
    }
}

/// The laws do not depend on the present day, nor on its hour.
#[tokio::test]
async fn the_laws_hold_on_the_first_and_on_a_late_day() {
    for start in [0, 86_399, 4_000_000_000] {
        let start = tower_mpp::protocol::Timestamp::from_unix(start).unwrap();
        Suite::new(|| async { memory() }).starting_at(start).assert().await;
    }
}

fn suite(bug: Bug) -> Suite {
    Suite::new(move || async move { Binder::new(10_000, bug) }).bounded(move || async move { Binder::new(100, bug) })
}

#[tokio::test]
async fn a_ledger_that_is_easy_to_see_through_keeps_the_laws() {
    suite(Bug::None).assert().await;
}

/// Each wrong ledger with the law that is there to catch it.
const CAUGHT: &[(Bug, Law)] = &[
    (Bug::CutAt64KiB, Law::KeptAsGiven),
    (Bug::CutAtZero, Law::KeptAsGiven),
    (Bug::Trims, Law::KeptAsGiven),
    (Bug::Recomposes, Law::KeptAsGiven),
    (Bug::TokensAreSigned, Law::KeptAsGiven),
    (Bug::SecondsOnly, Law::KeptAsGiven),
    (Bug::LosesListing, Law::KeptAsGiven),
    (Bug::RepeatIsConflict, Law::RepeatedCountsOnce),
    (Bug::RepeatCounts, Law::RepeatedCountsOnce),
    (Bug::RepeatIsListed, Law::RepeatedCountsOnce),
    (Bug::LastWins, Law::ConflictRefused),
    (Bug::FirstWinsSilently, Law::ConflictRefused),
    (Bug::ComparesTextOnly, Law::ConflictRefused),
    (Bug::ConflictCounts, Law::ConflictRefused),
    (Bug::LookThenWrite, Law::OneOfManyAtOnce),
    (Bug::LastStandsBefore, Law::FinalStandsBefore),
    (Bug::ProvisionalStandsBefore, Law::FinalStandsBefore),
    (Bug::FinalReplacesOnly, Law::FinalStandsBefore),
    (Bug::ListsProvisional, Law::ProvisionalUnlisted),
    (Bug::CountsProvisional, Law::ProvisionalUnlisted),
    (Bug::ProvisionalOfPayment, Law::ProvisionalUnlisted),
    (Bug::IdsCutShort, Law::ExactIds),
    (Bug::IdsCaseFolded, Law::ExactIds),
    (Bug::PaymentsCutShort, Law::ExactIds),
    (Bug::KeepsLast500, Law::NothingChanges),
    (Bug::OutcomeTouchesReceipt, Law::NothingChanges),
    (Bug::PaymentByTime, Law::OfPaymentInOrder),
    (Bug::PaymentNewestFirst, Law::OfPaymentInOrder),
    (Bug::ChildrenById, Law::ChildrenInOrder),
    (Bug::ChildrenNeedParent, Law::ChildrenInOrder),
    (Bug::LimitOfOne, Law::LimitsObeyed),
    (Bug::LimitOverflows, Law::LimitsObeyed),
    (Bug::ListIgnoresLimit, Law::LimitsObeyed),
    (Bug::PageByTime, Law::PagesComplete),
    (Bug::PageOldestFirst, Law::PagesComplete),
    (Bug::PageForever, Law::PagesComplete),
    (Bug::PageLosesOne, Law::PagesComplete),
    (Bug::PageRepeatsOne, Law::PagesComplete),
    (Bug::ListsWithoutPublic, Law::PagesComplete),
    (Bug::PageDropsLarge, Law::PagesOfLarge),
    (Bug::PageByOffset, Law::PagesWhileAppending),
    (Bug::NumbersBeforeCommit, Law::GrowsAtTheFront),
    (Bug::NamesCaseFolded, Law::TotalsOfNames),
    (Bug::NamesTrimmed, Law::TotalsOfNames),
    (Bug::NamesByName, Law::TotalsOfNames),
    (Bug::CountsFailures, Law::TotalsOfNames),
    (Bug::CountsUnlisted, Law::TotalsOfNames),
    (Bug::DaysUnpaid, Law::TotalsOfDays),
    (Bug::DaysRounded, Law::TotalsOfDays),
    (Bug::DaysAfterSince, Law::TotalsOfDays),
    (Bug::SumsRace, Law::TotalsAtOnce),
    (Bug::SumsWrap, Law::TotalsStop),
    (Bug::OutcomesByTime, Law::OutcomesInOrder),
    (Bug::OutcomesNeedReceipt, Law::OutcomesInOrder),
    (Bug::OutcomesReplace, Law::OutcomesInOrder),
    (Bug::OutcomesRepeat, Law::OutcomesOnce),
    (Bug::OutcomesOncePerInstant, Law::OutcomesOnce),
    (Bug::EvictsOldest, Law::FullRefuses),
    (Bug::NeverFull, Law::FullRefuses),
    (Bug::FullForgetsConflicts, Law::FullRefuses),
    (Bug::FullCounts, Law::FullRefuses),
];

#[tokio::test]
async fn every_wrong_ledger_is_caught_by_the_law_for_it() {
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
async fn every_law_catches_a_ledger() {
    for law in Law::ALL {
        assert!(CAUGHT.iter().any(|(_, catches)| catches == law), "{law:?}");
    }
}

#[tokio::test]
async fn a_broken_law_is_reported_by_name_and_by_what_was_seen() {
    let report = suite(Bug::SumsWrap).run().await.unwrap_err().to_string();
    let expected =
        "the ledger breaks 1 of 22 laws\nTotalsStop: Sums stop at 2^63 - 1.\n    after 2 more tokens: the totals are";
    assert!(report.contains(expected), "{report}");
}
