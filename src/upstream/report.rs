//! How far the call of a provider has come, and what receipts say about it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::{
    receipt::{Attribution, ReceiptBody},
    refund::ProviderCall,
};

/// How far a call has come. It only goes forwards, unless the provider [refuses](Report::refused) it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The provider was not asked yet.
    #[default]
    NotStarted,
    /// The provider was asked.
    Started,
    /// The provider has begun to answer: for a stream of tokens, the first of them.
    FirstByte,
    /// Its answer is complete.
    Finished,
}

/// The report of one call: written by the [`Upstream`](super::Upstream), read by refunds and receipts. Cheap to
/// clone; a stream that outlives the call goes on writing into it.
#[derive(Clone, Default)]
pub struct Report(Arc<Inner>);

#[derive(Default)]
struct Inner {
    stage: AtomicU8,
    timed_out: AtomicU8,
    broken: AtomicU8,
    attribution: Attribution,
}

impl Report {
    /// Nothing has happened yet. What is filled in goes into this receipt.
    pub fn new(attribution: Attribution) -> Self {
        Self(Arc::new(Inner { attribution, ..Inner::default() }))
    }

    /// The provider is being asked.
    pub fn started(&self) {
        self.reach(Stage::Started);
    }

    /// The provider has begun to answer.
    pub fn first_byte(&self) {
        self.reach(Stage::FirstByte);
    }

    /// Its answer is complete, unless it was called [broken](Self::broken).
    pub fn finished(&self) {
        if self.0.broken.load(Ordering::Relaxed) == 0 {
            self.reach(Stage::Finished);
        }
    }

    /// Its answer will not be complete, although its body ends in order: the error stands in it, as in a stream of
    /// events that ends with one.
    pub fn broken(&self) {
        self.0.broken.store(1, Ordering::Relaxed);
    }

    /// The provider was asked and did not begin to answer in time.
    pub fn timed_out(&self) {
        self.0.timed_out.store(1, Ordering::Relaxed);
    }

    /// The provider was asked and has said that it does nothing: too busy, not allowed, not a request for it. The
    /// call then counts as not started, unless its answer has begun.
    pub fn refused(&self) {
        let (asked, not) = (Stage::Started as u8, Stage::NotStarted as u8);
        // It fails when the answer has begun, or when nobody was asked: then there is nothing to take back.
        let _ = self.0.stage.compare_exchange(asked, not, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn reach(&self, stage: Stage) {
        self.0.stage.fetch_max(stage as u8, Ordering::Relaxed);
    }

    /// How far the call has come.
    pub fn stage(&self) -> Stage {
        match self.0.stage.load(Ordering::Relaxed) {
            0 => Stage::NotStarted,
            1 => Stage::Started,
            2 => Stage::FirstByte,
            _ => Stage::Finished,
        }
    }

    /// The same for the refund rules.
    pub fn provider_call(&self) -> ProviderCall {
        match self.stage() {
            Stage::NotStarted => ProviderCall::NotStarted,
            Stage::Started if self.0.timed_out.load(Ordering::Relaxed) != 0 => ProviderCall::TimedOut,
            Stage::Started => ProviderCall::Started,
            Stage::FirstByte | Stage::Finished => ProviderCall::FirstByte,
        }
    }

    /// Fills in what the receipt says: provider, model, tokens, cost.
    pub fn update(&self, fill: impl FnOnce(&mut ReceiptBody)) {
        self.0.attribution.update(fill);
    }

    /// What has been filled in so far.
    pub fn body(&self) -> ReceiptBody {
        self.0.attribution.body()
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").field("stage", &self.stage()).finish_non_exhaustive()
    }
}
