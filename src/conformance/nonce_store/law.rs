//! The laws by name, and how a broken one is reported.

use std::fmt;

use super::{
    BoxFuture, ends, keys,
    lab::{Checked, Lab},
    leases, listing, memory, recovery, refunds, winning,
};

/// What a law needs beside time.
#[derive(Clone, Copy)]
pub(super) enum Needs {
    Store,
    /// A store with room for this many.
    Bounded(usize),
}

macro_rules! laws {
    ($($name:ident $text:literal $check:path $(, $capacity:literal)?;)*) => {
        /// One law of the contract of a [`NonceStore`](crate::store::NonceStore).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Law {
            $(#[doc = $text] $name,)*
        }

        impl Law {
            /// All of them, in the order in which they are checked.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub(super) fn needs(self) -> Needs {
                match self {
                    $(Self::$name => {
                        let needs = Needs::Store;
                        $(let needs = { let _ = needs; Needs::Bounded($capacity) };)?
                        needs
                    })*
                }
            }

            pub(super) fn check(self, lab: &Lab) -> BoxFuture<'_, Checked> {
                match self {
                    $(Self::$name => Box::pin($check(lab)),)*
                }
            }
        }

        impl fmt::Display for Law {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)*
                })
            }
        }
    };
}

laws! {
    OneWinnerPerId "Of concurrent claims of one id, one wins." winning::per_id;
    OneWinnerPerProof "Of concurrent claims with one exclusive proof, one wins." winning::per_proof;
    OneWinnerOnThreads "On many threads every id and every exclusive proof is won, taken over and redelivered exactly once." winning::on_threads;
    Answers "A claim is answered by the table in the contract." winning::answers;
    LeaseBoundary "A lease is at work before the instant at which it ends, and expired at that instant." leases::boundary;
    Renewal "A renewed lease ends at its new end." leases::renewal;
    ExpiredLeaseIsGood "An expired lease that nobody has taken over is still good." leases::expired_is_good;
    TokensGrow "Every lease of an id has a greater token than those before it." leases::tokens_grow;
    FencedRenew "`renew` does nothing without the present lease." leases::fenced_renew;
    FencedSettle "`settle` does nothing without the present lease." leases::fenced_settle;
    FencedCommit "`commit` does nothing without the present lease." leases::fenced_commit;
    FencedRelease "`release` does nothing without the present lease." leases::fenced_release;
    GivenUpLeaseIsGone "A lease that was given up is not good any more." leases::given_up_is_gone;
    Resumed "A claim says that it resumes exactly when an earlier holder may have moved money." leases::resumed;
    TakenOverAsItIs "A claim that takes an entry over leaves its record and its settlement, and never shortens `keep_until`." leases::taken_over_as_it_is;
    NotChargedFrees "After `NotCharged` the id and its proof are free." ends::not_charged_frees;
    UnknownStaysHeld "After `Unknown` the entry stays held, for the same proof only." ends::unknown_stays_held;
    UndeliveredStaysSettled "After `Undelivered` the entry stays settled, for the same proof only." ends::undelivered_stays_settled;
    TakeBack "The holder of the lease that committed `Delivered` can take it back." ends::take_back;
    SettleAgain "Repeating `settle` changes nothing; settling something else is a conflict." ends::settle_again;
    CommitAgain "Repeating `commit` changes nothing; another end is a conflict." ends::commit_again;
    WrongState "A step that the entry's state has no arrow for is a conflict and changes nothing." ends::wrong_state;
    RefundIsJournalled "Money on its way back is not delivered any more, and only `Refunded` ends it." refunds::journalled;
    RefundAgain "Repeating `refund` changes nothing; another reason is a conflict." refunds::again;
    FencedRefund "`refund` does nothing without the present lease." refunds::fenced;
    NotRefundable "After `NotRefundable` the entry is settled, may be claimed, and is not refundable for good." refunds::not_refundable;
    DeliveredStaysDelivered "A delivered entry that is asked for can only be refunded: it is never delivered again." refunds::delivered_stays;
    RefundingIsNeverForgotten "Money on its way back is never forgotten by age." refunds::never_forgotten;
    TakenOnce "Of concurrent takes and claims of an entry, one wins." recovery::taken_once;
    TakenOnceOnThreads "On many threads every entry is taken or claimed exactly once." recovery::taken_once_on_threads;
    TakeAnswers "A take is answered with what is open and idle, and never makes an entry." recovery::take_answers;
    TakenAsItIs "A take gives a new lease for the entry as it is, and answers what `find` shows." recovery::taken_as_it_is;
    PutOff "An entry that was put off is left alone until then, but for claims and for whoever asks for it." recovery::put_off;
    GoingOn "A step that brings an entry further ends that it was put off, and the count of attempts." recovery::going_on;
    FencedPutOff "`put_off` does nothing without the present lease." recovery::fenced_put_off;
    FindShowsEverything "`find` shows every entry whatever its state, and changes nothing." recovery::find;
    SpentIsRemembered "A spent id and its proof are remembered until `keep_until`." memory::spent_is_remembered;
    OpenIsNeverForgotten "What is held or settled is never forgotten by age." memory::open_is_never_forgotten;
    ForgetsWhatMay "`forget` drops what may be forgotten, at most as many as it is told, and nothing else." memory::forgets_what_may;
    FullRefuses "A full store refuses, and drops nothing." memory::full_refuses, 8;
    RoomIsCounted "Concurrent claims do not overfill a store." memory::room_is_counted, 8;
    ExactIds "Ids are compared by all of their bytes." keys::ids;
    ExactProofs "Proofs are compared by all of their bytes." keys::proofs;
    BoundProofsStayLocal "A bound proof does not stand in the way of another id." keys::bound_proofs_stay_local;
    UnfinishedIsOpenMoney "`unfinished` lists what is held or settled and not at work." listing::open_money;
    DueIsNotPutOff "`unfinished` lists what was put off, unless only what is due is asked for." recovery::due;
    UnfinishedPages "`unfinished` is in order of id, after the one given, at most as many as asked for." listing::pages;
    KeptAsGiven "Record, proof, settlement and instants come back as they were given." listing::kept_as_given;
}

/// A law that does not hold, and how that showed.
#[derive(Clone, Debug)]
pub struct Violation {
    law: Law,
    found: String,
}

impl Violation {
    pub(super) fn new(law: Law, found: String) -> Self {
        Self { law, found }
    }

    /// Which law.
    pub fn law(&self) -> Law {
        self.law
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}\n    {}", self.law, self.law, self.found)
    }
}

impl std::error::Error for Violation {}

/// The laws that do not hold, at least one.
#[derive(Clone, Debug)]
pub struct Violations(Vec<Violation>);

impl Violations {
    pub(super) fn new(violations: Vec<Violation>) -> Self {
        Self(violations)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the payment journal breaks {} of {} laws", self.0.len(), Law::ALL.len())?;
        self.0.iter().try_for_each(|violation| write!(f, "\n{violation}"))
    }
}

impl std::error::Error for Violations {}
