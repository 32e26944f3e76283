//! Stores that are wrong in one way each, and the law that must catch them.

use tower_mpp::conformance::nonce_store::{Law, Suite};

use crate::{bug::Bug, notebook::Notebook};

/// Each wrong store with the law that is there to catch it.
const CAUGHT: &[(Bug, Law)] = &[
    (Bug::LookThenWrite, Law::OneWinnerPerId),
    (Bug::ProofLookedAtBefore, Law::OneWinnerPerProof),
    (Bug::EvictsOldest, Law::FullRefuses),
    (Bug::OverfillsTogether, Law::RoomIsCounted),
    (Bug::RenewNotFenced, Law::FencedRenew),
    (Bug::SettleNotFenced, Law::FencedSettle),
    (Bug::CommitNotFenced, Law::FencedCommit),
    (Bug::ReleaseNotFenced, Law::FencedRelease),
    (Bug::SpentExpiresEarly, Law::SpentIsRemembered),
    (Bug::SpentExpiresWithTheLease, Law::SpentIsRemembered),
    (Bug::OpenExpires, Law::OpenIsNeverForgotten),
    (Bug::KeysCutShort, Law::ExactIds),
    (Bug::KeysCaseFolded, Law::ExactIds),
    (Bug::ProofsCutShort, Law::ExactProofs),
    (Bug::IdsAndProofsShareASpace, Law::ExactProofs),
    (Bug::LeaseEndsLate, Law::LeaseBoundary),
    (Bug::LeaseEndsEarly, Law::LeaseBoundary),
    (Bug::RenewDoesNothing, Law::Renewal),
    (Bug::LeaseDiesWhenExpired, Law::ExpiredLeaseIsGood),
    (Bug::UnknownFrees, Law::UnknownStaysHeld),
    (Bug::NotChargedKeepsTheProof, Law::NotChargedFrees),
    (Bug::ProofForgottenOnCommit, Law::SpentIsRemembered),
    (Bug::ProofForgottenOnSettle, Law::Answers),
    (Bug::TokensStartAgain, Law::TokensGrow),
    (Bug::GivenUpLeaseIsGood, Law::GivenUpLeaseIsGone),
    (Bug::NeverResumed, Law::Resumed),
    (Bug::TakeoverReplacesRecord, Law::TakenOverAsItIs),
    (Bug::TakeoverShortensMemory, Law::TakenOverAsItIs),
    (Bug::TakeoverByAnyProof, Law::Answers),
    (Bug::SettleOverwrites, Law::SettleAgain),
    (Bug::CommitOverwrites, Law::CommitAgain),
    (Bug::CommitWithoutSettlement, Law::WrongState),
    (Bug::NoTakeBack, Law::TakeBack),
    (Bug::TakeBackLosesSettlement, Law::TakeBack),
    (Bug::SettledCountsAsHeld, Law::Answers),
    (Bug::UndeliveredFrees, Law::UndeliveredStaysSettled),
    (Bug::BoundIsGlobal, Law::BoundProofsStayLocal),
    (Bug::ListsAtWork, Law::UnfinishedIsOpenMoney),
    (Bug::ListsSpent, Law::UnfinishedIsOpenMoney),
    (Bug::ListsFromAfter, Law::UnfinishedPages),
    (Bug::ListsOutOfOrder, Law::UnfinishedPages),
    (Bug::ListLimitBeforeFilter, Law::UnfinishedPages),
    (Bug::RecordCutShort, Law::KeptAsGiven),
    (Bug::PayerLost, Law::KeptAsGiven),
    (Bug::RefundNotFenced, Law::FencedRefund),
    (Bug::PutOffNotFenced, Law::FencedPutOff),
    (Bug::RefundOverwritesReason, Law::RefundAgain),
    (Bug::RefundNotRepeatable, Law::RefundAgain),
    (Bug::RefundingIsDelivered, Law::RefundIsJournalled),
    (Bug::RefundingCommitsDelivered, Law::RefundIsJournalled),
    (Bug::RefundingTakenBack, Law::RefundIsJournalled),
    (Bug::RefundedWithoutRefund, Law::RefundIsJournalled),
    (Bug::RefundFreesTheProof, Law::RefundIsJournalled),
    (Bug::RefundingExpires, Law::RefundingIsNeverForgotten),
    (Bug::RefundsDelivered, Law::RefundIsJournalled),
    (Bug::NotRefundableSticksUntilClaimed, Law::NotRefundable),
    (Bug::NotRefundableKeepsTheLease, Law::NotRefundable),
    (Bug::RefusedRefundStaysRefunding, Law::NotRefundable),
    (Bug::AskedForTakenBack, Law::DeliveredStaysDelivered),
    (Bug::AskedForDeliveredTwice, Law::DeliveredStaysDelivered),
    (Bug::TakeLooksThenWrites, Law::TakenOnce),
    (Bug::TakeTakesAtWork, Law::TakeAnswers),
    (Bug::TakeMakesEntry, Law::TakeAnswers),
    (Bug::TakeTakesSpent, Law::TakeAnswers),
    (Bug::TakeIgnoresPutOff, Law::PutOff),
    (Bug::TakeMindsPutOffWhenAsked, Law::PutOff),
    (Bug::TakeKeepsTheToken, Law::TakenAsItIs),
    (Bug::TakeShortensMemory, Law::TakenAsItIs),
    (Bug::TakeForgetsTheRecord, Law::TakenAsItIs),
    (Bug::TakeAnswersTheOldEntry, Law::TakenAsItIs),
    (Bug::TakeStepsOutOfRefunding, Law::TakenAsItIs),
    (Bug::PutOffKeepsTheLease, Law::PutOff),
    (Bug::PutOffStopsClaims, Law::PutOff),
    (Bug::PutOffNotCounted, Law::PutOff),
    (Bug::PutOffSurvivesClaims, Law::PutOff),
    (Bug::PutOffSurvivesSteps, Law::GoingOn),
    (Bug::PutOffIsListedAsDue, Law::DueIsNotPutOff),
    (Bug::PutOffIsNeverListed, Law::DueIsNotPutOff),
    (Bug::DueLimitBeforeFilter, Law::DueIsNotPutOff),
    (Bug::FindHidesSpent, Law::FindShowsEverything),
    (Bug::FindHidesAtWork, Law::FindShowsEverything),
    (Bug::FindTakesOver, Law::FindShowsEverything),
    (Bug::ForgetsOpen, Law::ForgetsWhatMay),
    (Bug::ForgetsEarly, Law::ForgetsWhatMay),
    (Bug::ForgetsWithoutLimit, Law::ForgetsWhatMay),
    (Bug::ForgetsBeforeTheLeaseEnds, Law::ForgetsWhatMay),
    (Bug::ForgetKeepsProofs, Law::ForgetsWhatMay),
    (Bug::ForgetsNothingEver, Law::ForgetsWhatMay),
];

#[tokio::test]
async fn every_wrong_store_is_caught_by_the_law_for_it() {
    let caught = CAUGHT.iter().map(|(bug, law)| async move {
        let bug = *bug;
        let violations = Suite::new(move || async move { Notebook::new(1000, bug) })
            .bounded(move |capacity| async move { Notebook::new(capacity, bug) })
            .run()
            .await
            .err();
        let broken: Vec<_> = violations.iter().flat_map(|found| found.iter()).map(|found| found.law()).collect();
        println!("{bug:?}: {broken:?}");
        (bug, *law, broken)
    });
    // Side by side: some wrong stores make the suite wait.
    let caught = futures_util::future::join_all(caught).await;
    let escaped: Vec<_> = caught.iter().filter(|(_, law, broken)| !broken.contains(law)).collect();
    assert!(escaped.is_empty(), "not caught: {escaped:?}");
}

#[tokio::test]
async fn a_broken_law_is_reported_by_name_and_by_what_was_seen() {
    let suite = Suite::new(|| async { Notebook::new(1000, Bug::LeaseEndsLate) });
    let report = suite.run().await.unwrap_err().to_string();
    let expected = "LeaseBoundary: A lease is at work before the instant at which it ends, and expired at that instant.\n    \
                    at the instant at which the lease ends: claimed, and answered Busy instead of Resumed";
    assert!(report.contains(expected), "{report}");
}
