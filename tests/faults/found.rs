//! Schedules that were wrong once, as small as they were found.

use crate::{
    run,
    schedule::{Action, Call, Does, Fault, Jump, Payer, Planned, Proof, Read, Schedule},
};

/// Reads everything, and hangs up after so many polls.
fn present(payer: usize, hang_up: Option<u32>) -> Action {
    Action::Present { payer, copies: 1, hang_up, read: Read::Whole, wait: true }
}

fn payer(key: u8) -> Payer {
    Payer { challenge: 0, proof: Proof::Bound(0), key: Some(key) }
}

fn assert_right(schedule: &Schedule) {
    let wrongs = run(schedule, false).wrongs();
    assert!(wrongs.is_empty(), "{wrongs:#?}\n{}", run(schedule, true).trace().join("\n"));
}

/// The client hangs up when its answer is being kept, and comes back while nobody can look it up. The service
/// was called again then, and the first answer came later beside the second.
#[test]
fn an_answer_that_cannot_be_looked_up_is_not_made_again() {
    assert_right(&Schedule {
        yields: (0, 0),
        after: false,
        refunds: false,
        payers: vec![payer(0)],
        faults: vec![Planned { call: Call::LookUp, first: 0, times: 1, fault: Fault::Error }],
        service: vec![Does::ServeOne, Does::ServeLate],
        actions: vec![present(0, Some(4)), present(0, None)],
        too_late: false,
    });
}

/// The client hangs up when its answer is being kept, and comes back when it is too late. The answer was given
/// then, and its money stayed owed.
#[test]
fn an_answer_that_found_nobody_is_not_given_when_it_is_too_late() {
    assert_right(&Schedule {
        yields: (3, 0),
        after: false,
        refunds: false,
        payers: vec![payer(0)],
        faults: Vec::new(),
        service: vec![Does::ServeOne],
        actions: vec![present(0, Some(11)), Action::Sleep(1), Action::Jump(Jump::Grace)],
        too_late: false,
    });
}

/// The client hangs up when its answer is being kept, and asks for it when it is too late and before its delivery
/// was taken back. It was given then, and its money stayed owed.
#[test]
fn a_kept_answer_is_a_delivery() {
    assert_right(&Schedule {
        yields: (3, 0),
        after: false,
        refunds: true,
        payers: vec![payer(0)],
        faults: Vec::new(),
        service: vec![Does::ServeOne],
        actions: vec![Action::Present { payer: 0, copies: 1, hang_up: Some(11), read: Read::Whole, wait: false }],
        too_late: true,
    });
}

/// The client hangs up when its answer is being kept under one key, and comes back with another.
#[test]
fn one_payment_buys_one_answer_under_any_number_of_keys() {
    assert_right(&Schedule {
        yields: (1, 0),
        after: false,
        refunds: false,
        payers: vec![payer(0), payer(1)],
        faults: Vec::new(),
        service: vec![Does::ServeOne],
        actions: vec![present(0, Some(6)), Action::Sleep(1), present(1, None), present(0, None)],
        too_late: false,
    });
}

/// The lease ends while its holder keeps the answer, and who comes then is served another one. The first was kept
/// after that all the same, and given beside the second to whoever came later with the same key.
#[test]
fn an_answer_of_a_lost_lease_is_not_kept_beside_its_successors() {
    // Who takes over comes with the same key, with another one, or with none.
    for other in [Some(0), Some(1), None] {
        for after in [false, true] {
            let kept = Planned { call: Call::Keep, first: 0, times: 1, fault: Fault::Slow };
            assert_right(&Schedule {
                yields: (0, 0),
                after,
                refunds: false,
                payers: vec![payer(0), Payer { key: other, ..payer(0) }],
                faults: vec![kept],
                service: vec![Does::ServeOne, Does::ServeLate],
                actions: vec![
                    Action::Present { payer: 0, copies: 1, hang_up: None, read: Read::Whole, wait: false },
                    Action::Sleep(100),
                    Action::Jump(Jump::Lease),
                    present(1, None),
                    Action::Sleep(1000),
                    present(0, None),
                ],
                too_late: false,
            });
        }
    }
}

/// The first answer, whose delivery the journal never heard of.
fn kept_and_not_recorded() -> Planned {
    Planned { call: Call::Commit, first: 0, times: 12, fault: Fault::Error }
}

/// Nobody comes for it until it is too late, it is swept or asked back, and then everybody comes: while the journal
/// remembers it, and when it has forgotten it.
fn too_late(first: Vec<Action>, faults: Vec<Planned>, refunds: bool, asked_back: bool) -> Schedule {
    let sweep = Action::Sweep { replicas: 2, hang_up: None, wait: true };
    let mut actions = first;
    actions.push(Action::Jump(Jump::Grace));
    if asked_back {
        actions.push(Action::Refund { payer: 0, wait: true });
    }
    actions.extend([sweep, Action::Sleep(1000), present(0, None), Action::Sleep(12_000), sweep, present(0, None)]);
    actions.extend([Action::Jump(Jump::PastMemory), sweep, present(0, None)]);
    Schedule {
        yields: (0, 0),
        after: false,
        refunds,
        payers: vec![payer(0)],
        faults,
        service: vec![Does::ServeOne],
        actions,
        too_late: false,
    }
}

/// An answer is kept, no `commit` arrives, and nobody comes until the grace is over. Its money was given back then,
/// and when the journal had forgotten that, the answer was given beside it.
#[test]
fn a_kept_answer_that_was_not_recorded_is_not_given_back() {
    for refunds in [true, false] {
        // When the money would be given back nobody may be able to say whether the answer is kept.
        let faults = [Fault::Slow, Fault::Error, Fault::Lost, Fault::Timeout];
        for (call, first) in [(Call::LookUp, 0), (Call::Reserve, 1), (Call::Take, 0)] {
            for (fault, times) in faults.into_iter().zip([1, 1, 3, 9]) {
                let trouble = Planned { call, first, times, fault };
                let faults = vec![kept_and_not_recorded(), trouble];
                assert_right(&too_late(vec![present(0, None)], faults, refunds, false));
            }
        }
    }
}

/// An answer is on its way into the store when its money is given back. It was kept after that.
#[test]
fn no_answer_is_kept_beside_its_refund() {
    for (refunds, asked_back) in [(true, false), (true, true), (false, true)] {
        let kept = Planned { call: Call::Keep, first: 0, times: 1, fault: Fault::Slow };
        let first = Action::Present { payer: 0, copies: 1, hang_up: None, read: Read::Whole, wait: false };
        assert_right(&too_late(vec![first, Action::Sleep(100)], vec![kept], refunds, asked_back));
    }
}

/// A kept answer is delivered: its money is given back to whoever asks for it as that of a delivered one.
#[test]
fn a_kept_answer_that_was_not_recorded_is_given_back_on_request() {
    for call in [Call::LookUp, Call::PutOff, Call::Refund, Call::RailRefund] {
        for fault in [Fault::Error, Fault::Slow] {
            let trouble = Planned { call, first: 0, times: 1, fault };
            let faults = vec![kept_and_not_recorded(), trouble];
            assert_right(&too_late(vec![present(0, None)], faults, true, true));
        }
    }
}
