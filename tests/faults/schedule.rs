//! A run written down before it begins: who pays, what goes wrong at which call, what the service does, and what
//! the clients do. It is small, so that a failure shrinks to something that can be read.

use proptest::{collection::vec, prelude::*};

/// A call of a store or of the rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Call {
    Claim,
    Renew,
    Settle,
    Refund,
    Commit,
    Release,
    PutOff,
    Take,
    Find,
    Unfinished,
    Forget,
    Reserve,
    Keep,
    GiveUp,
    LookUp,
    ForgetAnswers,
    RailVerify,
    RailSettle,
    RailAuthorize,
    RailCapture,
    RailCancel,
    RailResolve,
    RailRefund,
}

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// It is not executed, and fails: the store cannot be reached, the rail has a fault.
    Error,
    /// It is executed, and the reply is lost.
    Lost,
    /// It is not executed and never answers.
    Timeout,
    /// It is executed and never answers.
    Stuck,
    /// It never answers, and is executed when whoever asked has given up waiting.
    Late,
    /// It is executed twice, and the second answer is the one that arrives.
    Duplicate,
    /// It takes a while: not a fault yet, but others come first.
    Slow,
    /// The rail does not know, and has not done it.
    Unknown,
    /// The rail says no, for good.
    Declined,
}

use Fault::{Declined, Duplicate, Error, Late, Lost, Slow, Stuck, Timeout, Unknown};

impl Call {
    pub(crate) const ALL: [Self; 23] = [
        Self::Claim,
        Self::Renew,
        Self::Settle,
        Self::Refund,
        Self::Commit,
        Self::Release,
        Self::PutOff,
        Self::Take,
        Self::Find,
        Self::Unfinished,
        Self::Forget,
        Self::Reserve,
        Self::Keep,
        Self::GiveUp,
        Self::LookUp,
        Self::ForgetAnswers,
        Self::RailVerify,
        Self::RailSettle,
        Self::RailAuthorize,
        Self::RailCapture,
        Self::RailCancel,
        Self::RailResolve,
        Self::RailRefund,
    ];

    /// What can go wrong at it. Twice in a row is only what its contract allows twice; a claim and a take that
    /// are sent twice are busy with themselves.
    pub(crate) fn faults(self) -> &'static [Fault] {
        match self {
            Self::Release | Self::PutOff => &[Error, Lost, Timeout, Stuck, Late, Slow],
            Self::Claim | Self::Renew | Self::Settle | Self::Refund | Self::Commit | Self::Take => {
                &[Error, Lost, Timeout, Stuck, Late, Duplicate, Slow]
            }
            Self::Find
            | Self::Unfinished
            | Self::Forget
            | Self::Reserve
            | Self::Keep
            | Self::GiveUp
            | Self::LookUp
            | Self::ForgetAnswers => &[Error, Lost, Timeout, Stuck, Duplicate, Slow],
            Self::RailVerify => &[Declined, Error, Timeout, Slow],
            Self::RailSettle | Self::RailAuthorize | Self::RailCapture | Self::RailRefund => {
                &[Declined, Error, Unknown, Lost, Timeout, Stuck, Late, Duplicate, Slow]
            }
            Self::RailCancel => &[Unknown, Lost, Timeout, Stuck, Late, Duplicate, Slow],
            Self::RailResolve => &[Unknown, Lost, Timeout, Stuck, Duplicate, Slow],
        }
    }
}

/// One kind of fault at some calls of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) call: Call,
    /// The first that fails, counted from 0.
    pub(crate) first: usize,
    /// How many fail from there.
    pub(crate) times: usize,
    pub(crate) fault: Fault,
}

/// What a payer pays, and with what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payer {
    /// Which challenge. Payers may share one.
    pub(crate) challenge: usize,
    pub(crate) proof: Proof,
    /// Which `Idempotency-Key` its requests carry, if any.
    pub(crate) key: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Proof {
    /// Made for this challenge.
    Bound(u8),
    /// A transaction, that could be shown for any challenge.
    Exclusive(u8),
}

/// What the service does, call by call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    /// 200 in two chunks.
    Serve,
    /// 200 in one chunk of a declared length.
    ServeOne,
    /// 200, and a body that turns out to be empty.
    ServeEmpty,
    /// 204.
    ServeNothing,
    /// 200, after longer than a lease.
    ServeLate,
    /// 500.
    Fail,
    /// 502, and the provider was never asked.
    FailNotStarted,
    /// 504, and the provider did not answer in time.
    FailTimedOut,
    /// 500, and something was done that cannot be undone.
    FailSideEffect,
    /// An error instead of an answer.
    Error,
    Panic,
    /// Never answers.
    Hang,
    /// 200, and the body breaks off before its first byte.
    BreakEarly,
    /// The same, and the provider had been asked.
    BreakTimedOut,
    /// 200, and the body breaks off after its first chunk.
    BreakLate,
    /// 200, and the body never begins.
    HangEarly,
}

/// How much of an answer a client reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    Whole,
    First,
    /// Drops the answer with its body.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Presents a credential so many times at once.
    Present {
        payer: usize,
        copies: usize,
        /// After so many polls the client hangs up.
        hang_up: Option<u32>,
        read: Read,
        /// Whether the next action waits for the end of this one.
        wait: bool,
    },
    /// One or two replicas sweep at once.
    Sweep {
        replicas: usize,
        /// After so many polls whoever sweeps goes away.
        hang_up: Option<u32>,
        wait: bool,
    },
    /// The merchant gives the money of a payer back.
    Refund { payer: usize, wait: bool },
    /// Time goes by, in milliseconds, for timers and for the clock.
    Sleep(u64),
    /// The merchant's clock goes on, and no timer: as when a process was stopped for a while, or a clock set.
    Jump(Jump),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Jump {
    Lease,
    Expiry,
    Grace,
    /// When ended payments may be forgotten.
    PastMemory,
}

#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// How often a call of the journal, and one of the rail, gives way before and after.
    pub(crate) yields: (usize, usize),
    /// Whether the money is taken when the service has answered.
    pub(crate) after: bool,
    /// Whether all rules about refunds are on.
    pub(crate) refunds: bool,
    pub(crate) payers: Vec<Payer>,
    pub(crate) faults: Vec<Planned>,
    pub(crate) service: Vec<Does>,
    pub(crate) actions: Vec<Action>,
    /// Whether everybody comes once more when it is too late.
    pub(crate) too_late: bool,
}

fn planned() -> impl Strategy<Value = Planned> {
    let call = prop_oneof![
        4 => Just(Call::Claim),
        4 => Just(Call::Settle),
        4 => Just(Call::Commit),
        5 => Just(Call::Release),
        3 => Just(Call::RailSettle),
        8 => prop::sample::select(&[Call::RailAuthorize, Call::RailCapture, Call::RailCancel][..]),
        2 => Just(Call::RailVerify),
        2 => Just(Call::Renew),
        4 => prop::sample::select(&[Call::Refund, Call::Take, Call::RailRefund, Call::RailResolve, Call::PutOff][..]),
        5 => prop::sample::select(&[Call::Find, Call::Unfinished, Call::Forget, Call::ForgetAnswers][..]),
        10 => prop::sample::select(&[Call::Reserve, Call::Keep, Call::GiveUp, Call::LookUp][..]),
    ];
    let fault = call.prop_flat_map(|call| (Just(call), prop::sample::select(call.faults())));
    // Most fail once; some for longer than anybody tries.
    let times = prop_oneof![10 => 1..=1_usize, 4 => 2..=4_usize, 1 => 5..=12_usize];
    let first = prop_oneof![3 => Just(0_usize), 2 => 1..4_usize];
    (fault, first, times).prop_map(|((call, fault), first, times)| Planned { call, first, times, fault })
}

fn payer() -> impl Strategy<Value = Payer> {
    let proof = prop_oneof![3 => (0..2_u8).prop_map(Proof::Bound), 1 => (0..2_u8).prop_map(Proof::Exclusive)];
    let key = prop::option::weighted(0.5, 0..2_u8);
    (0..3_usize, proof, key).prop_map(|(challenge, proof, key)| Payer { challenge, proof, key })
}

fn does() -> impl Strategy<Value = Does> {
    use Does::{
        BreakEarly, BreakLate, BreakTimedOut, Error, Fail, FailNotStarted, FailSideEffect, FailTimedOut, Hang,
        HangEarly, Panic, Serve, ServeEmpty, ServeLate, ServeNothing, ServeOne,
    };
    prop_oneof![
        6 => Just(Serve),
        3 => Just(ServeOne),
        5 => prop::sample::select(&[ServeEmpty, ServeNothing, ServeLate, HangEarly][..]),
        6 => prop::sample::select(&[Fail, Error, Panic, Hang, BreakEarly, BreakLate][..]),
        5 => prop::sample::select(&[FailNotStarted, FailTimedOut, FailSideEffect, BreakTimedOut][..]),
    ]
}

fn present() -> impl Strategy<Value = Action> {
    let copies = prop_oneof![4 => Just(1_usize), 1 => 2..=3_usize];
    let read = prop_oneof![4 => Just(Read::Whole), 1 => Just(Read::First), 1 => Just(Read::Nothing)];
    (0..4_usize, copies, hang_up(), read, any::<bool>())
        .prop_map(|(payer, copies, hang_up, read, wait)| Action::Present { payer, copies, hang_up, read, wait })
}

fn hang_up() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![3 => Just(None), 2 => (0..30_u32).prop_map(Some)]
}

fn action() -> impl Strategy<Value = Action> {
    let jump = prop_oneof![
        6 => Just(Jump::Lease),
        2 => Just(Jump::Expiry),
        1 => Just(Jump::Grace),
        1 => Just(Jump::PastMemory),
    ];
    let sweep = (1..=2_usize, hang_up(), any::<bool>());
    let sweep = sweep.prop_map(|(replicas, hang_up, wait)| Action::Sweep { replicas, hang_up, wait });
    prop_oneof![
        10 => present(),
        3 => sweep,
        1 => (0..4_usize, any::<bool>()).prop_map(|(payer, wait)| Action::Refund { payer, wait }),
        2 => prop_oneof![Just(10), Just(600), Just(4_000), Just(12_000)].prop_map(Action::Sleep),
        1 => jump.prop_map(Action::Jump),
    ]
}

pub(crate) fn schedule() -> impl Strategy<Value = Schedule> {
    (
        (prop_oneof![Just(0), Just(1), Just(3)], prop_oneof![Just(0), Just(2)]),
        (prop::bool::weighted(0.3), any::<bool>()),
        vec(payer(), 1..=4),
        vec(planned(), 0..=6),
        vec(does(), 0..=5),
        vec(action(), 1..=9),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(yields, (after, refunds), payers, faults, service, actions, too_late)| Schedule {
            yields,
            after,
            refunds,
            payers,
            faults,
            service,
            actions,
            too_late,
        })
        .prop_flat_map(|schedule| (Just(schedule), prop::option::weighted(0.2, trouble())))
        .prop_map(|(mut schedule, trouble)| {
            trouble.into_iter().for_each(|(trouble, call, fault)| trouble.begin(call, fault, &mut schedule));
            schedule
        })
}

/// What seldom comes up by itself, with money that is to be given back, whose outcome has to be found out, that
/// is not to be taken, or whose answer is kept and not recorded as delivered.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    GivingBack,
    FindingOut,
    LettingGo,
    /// Until it is too late to come for it.
    Keeping,
    /// And the merchant gives the money back.
    AskingBack,
}

fn trouble() -> impl Strategy<Value = (Trouble, Call, Fault)> {
    const CALLS: &[(Trouble, Call)] = &[
        (Trouble::GivingBack, Call::Refund),
        (Trouble::GivingBack, Call::RailRefund),
        (Trouble::GivingBack, Call::PutOff),
        (Trouble::FindingOut, Call::Take),
        (Trouble::FindingOut, Call::RailResolve),
        (Trouble::FindingOut, Call::PutOff),
        (Trouble::LettingGo, Call::RailCancel),
        (Trouble::Keeping, Call::Keep),
        (Trouble::Keeping, Call::Take),
        (Trouble::Keeping, Call::Reserve),
        (Trouble::Keeping, Call::LookUp),
        (Trouble::AskingBack, Call::Keep),
        (Trouble::AskingBack, Call::Reserve),
        (Trouble::AskingBack, Call::LookUp),
        (Trouble::AskingBack, Call::PutOff),
    ];
    prop::sample::select(CALLS)
        .prop_flat_map(|(trouble, call)| (Just(trouble), Just(call), prop::sample::select(call.faults())))
}

impl Trouble {
    /// Puts it before everything else in a schedule.
    fn begin(self, call: Call, fault: Fault, schedule: &mut Schedule) {
        let once = |call, fault| Planned { call, first: 0, times: 1, fault };
        // The first reservation is the one of the answer itself.
        let first = usize::from(call == Call::Reserve);
        let mut faults = vec![Planned { first, ..once(call, fault) }];
        let mut present = Action::Present { payer: 0, copies: 1, hang_up: None, read: Read::Whole, wait: true };
        let sweep = Action::Sweep { replicas: 1, hang_up: None, wait: true };
        let mut actions = vec![sweep];
        match self {
            Self::GivingBack => {
                (schedule.refunds, schedule.after) = (true, false);
                schedule.service.insert(0, Does::FailNotStarted);
                faults.push(once(Call::RailRefund, Unknown));
            }
            Self::FindingOut => {
                faults.push(once(if schedule.after { Call::RailAuthorize } else { Call::RailSettle }, Lost));
                faults.push(once(Call::RailResolve, Unknown));
            }
            Self::LettingGo => {
                schedule.after = true;
                schedule.service.insert(0, Does::Fail);
            }
            Self::Keeping | Self::AskingBack => {
                schedule.payers[0].key = Some(0);
                schedule.service.insert(0, Does::ServeOne);
                if call == Call::Keep {
                    // Others come first.
                    present = Action::Present { payer: 0, copies: 1, hang_up: None, read: Read::Whole, wait: false };
                    actions.splice(0..0, [Action::Sleep(100)]);
                } else {
                    faults.push(Planned { times: 12, ..once(Call::Commit, Error) });
                }
                actions.insert(actions.len() - 1, Action::Jump(Jump::Grace));
                if matches!(self, Self::AskingBack) {
                    actions.insert(actions.len() - 1, Action::Refund { payer: 0, wait: true });
                }
            }
        }
        schedule.faults.splice(0..0, faults);
        schedule.actions.splice(0..0, [present].into_iter().chain(actions));
    }
}
