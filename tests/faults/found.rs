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
