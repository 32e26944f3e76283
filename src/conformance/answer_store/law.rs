//! The laws by name.

use super::{BoxFuture, fencing, keeping, lab::Lab, reserving, rows};
use crate::conformance::laws::laws;

laws! {
    of "One law of the contract of an [`AnswerStore`](crate::store::AnswerStore).";
    broken_by "the store of answers";
    ReservedIsRunning "What is reserved is on its way: the request and the instant come back, and no answer." reserving::running;
    ReservedAgain "Reserving again renews the reservation, and never shortens how long it is remembered." reserving::again;
    GivenUpIsIdle "On what is given up nobody is at work, its row stays, and so does what is complete." reserving::given_up;
    LeasesFence "An older lease changes nothing of what a newer one has reserved, and a newer one nothing of what an older one has completed." fencing::leases_fence;
    KeptAsGiven "Answers come back byte for byte, whatever is in them and up to a mebibyte." keeping::as_given;
    KeepNeedsReservation "Nothing is kept where nothing is reserved: the lease counts as lost." keeping::needs_reservation;
    CompleteStays "Nothing replaces an answer that is complete." keeping::complete_stays;
    KeepMovesLater "Keeping an answer moves the end of its memory to a later instant only." keeping::moves_later;
    RememberedUntil "A row is shown until `keep_until`, and not from that instant on." rows::remembered_until;
    ForgetsWhatMay "`forget` drops what may be forgotten, at most as many as it is told, and nothing else." rows::forgets_what_may;
    ExactIds "Ids are compared by all of their bytes." rows::exact_ids;
    PaymentsAreIndependent "Steps for different payments do not disturb each other, also at once." rows::independent;
    FullRefuses "A full store refuses, and drops nothing." rows::full_refuses, 1000;
}
