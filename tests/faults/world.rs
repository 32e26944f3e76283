//! What everything in a run shares: the plan of faults, the clock, and the book of what went wrong.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_mpp::{
    Clock,
    protocol::{ChallengeId, Timestamp},
};

use crate::{
    model::Phase,
    schedule::{Call, Fault, Planned},
    support::give_way,
};

/// Counts over all runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: BTreeMap<Call, usize>,
    pub(crate) faults: BTreeMap<(Call, Fault), usize>,
    /// How runs and credentials ended, by name.
    pub(crate) ends: BTreeMap<&'static str, usize>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        for (call, count) in &other.calls {
            *self.calls.entry(*call).or_default() += count;
        }
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (end, count) in &other.ends {
            *self.ends.entry(end).or_default() += count;
        }
    }
}

/// What is known of a challenge, whoever has found it out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) charges: usize,
    pub(crate) refunds: usize,
    /// At least a byte of an answer has left.
    pub(crate) delivered: bool,
    /// The merchant has asked for a refund.
    pub(crate) asked_back: bool,
    /// What the journal says.
    pub(crate) phase: Option<Phase>,
    /// How often the journal was told that nothing was charged.
    pub(crate) let_go: usize,
}

pub(crate) struct World {
    facts: Mutex<HashMap<ChallengeId, Facts>>,
    plan: Vec<Planned>,
    on: AtomicBool,
    start: Timestamp,
    origin: Instant,
    skew: AtomicU64,
    wrong: Mutex<Vec<String>>,
    tally: Mutex<Tally>,
    trace: Option<Mutex<Vec<String>>>,
}

impl World {
    /// Made inside the runtime.
    pub(crate) fn new(plan: Vec<Planned>, traced: bool) -> Arc<Self> {
        Arc::new(Self {
            facts: Mutex::default(),
            plan,
            on: AtomicBool::new(true),
            start: "2026-01-01T00:00:00Z".parse().unwrap(),
            origin: Instant::now(),
            skew: AtomicU64::new(0),
            wrong: Mutex::default(),
            tally: Mutex::default(),
            trace: traced.then(Mutex::default),
        })
    }

    /// Reads and changes what is known of a challenge.
    pub(crate) fn about<T>(&self, id: ChallengeId, change: impl FnOnce(&mut Facts) -> T) -> T {
        change(self.facts.lock().unwrap().entry(id).or_default())
    }

    pub(crate) fn facts(&self, id: ChallengeId) -> Facts {
        self.about(id, |facts| *facts)
    }

    /// The merchant's clock goes on, and no timer.
    pub(crate) fn jump(&self, by: Duration) {
        self.skew.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// From now on everything works.
    pub(crate) fn heal(&self) {
        self.on.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_healed(&self) -> bool {
        !self.on.load(Ordering::SeqCst)
    }

    /// What goes wrong at this call.
    fn fault(&self, call: Call) -> Option<Fault> {
        let mut tally = self.tally.lock().unwrap();
        let calls = tally.calls.entry(call).or_default();
        let nth = *calls;
        *calls += 1;
        let due =
            |planned: &&Planned| planned.call == call && (planned.first..planned.first + planned.times).contains(&nth);
        let fault = self.plan.iter().find(due).filter(|_| !self.is_healed())?.fault;
        *tally.faults.entry((call, fault)).or_default() += 1;
        drop(tally);
        self.note(|| format!("{call:?} #{nth}: {fault:?}"));
        Some(fault)
    }

    /// Something that must never happen has happened.
    pub(crate) fn wrong(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(|| format!("WRONG: {what}"));
        self.wrong.lock().unwrap().push(what);
    }

    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            trace.lock().unwrap().push(format!("{} {}", self.now(), what()));
        }
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.trace.as_ref().map(|trace| trace.lock().unwrap().clone()).unwrap_or_default()
    }

    pub(crate) fn count(&self, end: &'static str) {
        *self.tally.lock().unwrap().ends.entry(end).or_default() += 1;
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// A call with what goes wrong at it. `execute` does it at once. `failed` makes the answer of a call that was
    /// not executed, or whose reply was lost; where `special` has an answer for a fault, that one is given.
    pub(crate) async fn through<T, E>(
        self: &Arc<Self>,
        call: Call,
        yields: usize,
        execute: impl Fn() -> Result<T, E> + Send + 'static,
        failed: impl Fn(Fault) -> Result<T, E>,
    ) -> Result<T, E> {
        let fault = self.fault(call);
        give_way(yields).await;
        match fault {
            None => {
                let answer = execute();
                give_way(yields).await;
                answer
            }
            Some(Fault::Slow) => {
                tokio::time::sleep(Duration::from_millis(700)).await;
                execute()
            }
            Some(Fault::Duplicate) => {
                drop(execute());
                give_way(yields).await;
                execute()
            }
            Some(fault @ Fault::Lost) => {
                drop(execute());
                give_way(yields).await;
                failed(fault)
            }
            Some(Fault::Stuck) => {
                drop(execute());
                std::future::pending().await
            }
            Some(Fault::Timeout) => std::future::pending().await,
            Some(Fault::Late) => {
                let world = Arc::clone(self);
                drop(tokio::spawn(async move {
                    tokio::time::sleep(LATE).await;
                    world.note(|| format!("{call:?}, late:"));
                    drop(execute());
                }));
                std::future::pending().await
            }
            Some(fault @ (Fault::Error | Fault::Unknown | Fault::Declined)) => failed(fault),
        }
    }
}

/// When a late call is executed: when nobody waits for a store or the rail any more.
pub(crate) const LATE: Duration = Duration::from_secs(4);

impl Clock for World {
    fn now(&self) -> Timestamp {
        let skew = Duration::from_millis(self.skew.load(Ordering::SeqCst));
        self.start.saturating_add(self.origin.elapsed() + skew)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World(..)")
    }
}
