//! The sweeper: brings to an end what no payer comes back for.

use std::{collections::VecDeque, fmt, pin::pin, sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use super::{
    Inner, Merchant, answers, events,
    gate::{keeping, store_step},
    refund::{GivenBack, Owed, give_back, insist, let_go, put_off, resolve},
    unfulfilled::Record,
};
use crate::{
    method::Resolution,
    protocol::{ChallengeId, Settlement, Timestamp},
    store::{End, EntryState, JournalEntry, Lease, Page, RefundReason, Release, StoreError, Take, Taken},
};

/// How many entries are read at once, and how many are worked on at once.
const PAGE: usize = 256;
const AT_ONCE: usize = 8;
/// How much a pass forgets at most, and in what portions.
const FORGOTTEN_AT_ONCE: usize = 1000;
const PORTIONS: usize = 100;

/// Works through the payments that have not ended and that nobody is at work on. Made by
/// [`Merchant::sweeper`].
///
/// * A payment whose outcome is unknown, because the process died or the rail did not answer: asks the
///   rail ([`PaymentMethod::resolve`](crate::method::PaymentMethod::resolve)). What was not charged is free
///   again, what was charged is good for the same credential.
/// * A payment that was taken and that nobody came for until the challenge had expired and the grace was
///   over: gives the money back where a [`RefundPolicy`](crate::refund::RefundPolicy) is on. Otherwise it
///   stays listed, see [`Merchant::unfulfilled`]. Where its answer is kept it was delivered, and the journal is
///   told so; where the store of answers does not say, it is asked again later and nothing is given back.
/// * A refund that the rail could not do yet: repeats it, after longer and longer pauses.
/// * Ended entries and kept answers whose time is over: has the stores forget them.
///
/// Any number of replicas may sweep one journal: each entry is handled by one of them at a time.
///
/// ```
/// # use tower_mpp::{KeyRing, Merchant, method::Sandbox, store::MemoryNonceStore};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let merchant = Merchant::builder("api.example.com", KeyRing::new([7; 32])?)
/// #     .test_mode(true).method(Sandbox::new())
/// #     .nonce_store(MemoryNonceStore::single_process(1000)).build()?;
/// let sweeper = tokio::spawn(merchant.sweeper().run());
/// // ... serve ...
/// sweeper.abort();
/// merchant.drain().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "a sweeper does nothing until it runs"]
pub struct Sweeper {
    merchant: Arc<Inner>,
    every: Duration,
}

/// What one pass of a [`Sweeper`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Payments whose outcome was unknown and that turned out to be paid.
    pub settled: usize,
    /// Payments whose outcome was unknown and that turned out not to be charged.
    pub not_charged: usize,
    /// Payments whose answer was kept without the journal having heard of it: they are delivered.
    pub delivered: usize,
    /// Payments that were given back.
    pub refunded: usize,
    /// Payments that the rail, or the store of answers, could not tell about or give back yet. They are tried again.
    pub pending: usize,
    /// Payments that nobody came for in time and that are not given back: they stay listed.
    pub unfulfilled: usize,
    /// Entries and kept answers that were forgotten.
    pub forgotten: usize,
}

/// What was done about one entry.
enum Handled {
    /// Somebody else is at work on it, or there is nothing to do.
    Nothing,
    Settled,
    NotCharged,
    Delivered,
    Refunded,
    Pending,
    Unfulfilled,
}

impl Merchant {
    /// A sweeper of this merchant's journal. Run one in every replica.
    pub fn sweeper(&self) -> Sweeper {
        Sweeper { merchant: Arc::clone(&self.0), every: Duration::from_secs(15) }
    }
}

impl Sweeper {
    /// The pause between two passes: 15 seconds by default, at least a tenth of a second.
    pub fn every(mut self, pause: Duration) -> Self {
        self.every = pause.max(Duration::from_millis(100));
        self
    }

    /// Sweeps for ever. Ending it loses nothing: what it has begun is finished, and
    /// [`Merchant::drain`] waits for that.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.sweep().await {
                events::journal_failed("sweep", &error, None);
            }
            tokio::time::sleep(self.every).await;
        }
    }

    /// One pass over the whole journal.
    ///
    /// # Errors
    /// [`StoreError`] when the journal cannot be read; what was done until then is done.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        let mut at_work = VecDeque::new();
        let mut after = None;
        loop {
            let page = Page { now: self.merchant.now(), after, limit: PAGE, due: true };
            let entries = store_step(&self.merchant, self.merchant.store.unfinished(page)).await?;
            after = entries.last().map(|entry| entry.id);
            for entry in entries.iter().filter(|entry| self.has_work(entry)) {
                if at_work.len() >= AT_ONCE {
                    swept.count_next(&mut at_work).await;
                }
                let task = handle(Arc::clone(&self.merchant), entry.id);
                at_work.push_back(self.merchant.tasks.spawn(task));
            }
            if after.is_none() {
                break;
            }
        }
        while !at_work.is_empty() {
            swept.count_next(&mut at_work).await;
        }
        swept.forgotten = self.forget().await?;
        Ok(swept)
    }

    /// What a payer can still come for is left alone.
    fn has_work(&self, entry: &JournalEntry) -> bool {
        match (&entry.state, Record::of(entry)) {
            (EntryState::Settled { .. }, Some(record)) => {
                self.merchant.now() >= self.merchant.redeemable_until(record.expires)
            }
            _ => true,
        }
    }

    async fn forget(&self) -> Result<usize, StoreError> {
        let merchant = &*self.merchant;
        let mut forgotten = 0;
        for _ in 0..PORTIONS {
            let entries = store_step(merchant, merchant.store.forget(merchant.now(), FORGOTTEN_AT_ONCE)).await?;
            let answers = match &merchant.answers {
                Some(answers) => store_step(merchant, answers.store.forget(merchant.now(), FORGOTTEN_AT_ONCE)).await?,
                None => 0,
            };
            forgotten += entries + answers;
            if entries < FORGOTTEN_AT_ONCE && answers < FORGOTTEN_AT_ONCE {
                break;
            }
        }
        Ok(forgotten)
    }
}

impl Swept {
    /// Waits for the task that began first.
    async fn count_next(&mut self, at_work: &mut VecDeque<JoinHandle<Result<Handled, StoreError>>>) {
        let Some(task) = at_work.pop_front() else { return };
        let counter = match task.await {
            Ok(Ok(Handled::Settled)) => &mut self.settled,
            Ok(Ok(Handled::NotCharged)) => &mut self.not_charged,
            Ok(Ok(Handled::Delivered)) => &mut self.delivered,
            Ok(Ok(Handled::Refunded)) => &mut self.refunded,
            Ok(Ok(Handled::Unfulfilled)) => &mut self.unfulfilled,
            Ok(Ok(Handled::Nothing)) => return,
            // The journal failed, which was logged, or the rail panicked: the lease ends, and it is tried again.
            Ok(Ok(Handled::Pending) | Err(_)) | Err(_) => &mut self.pending,
        };
        *counter += 1;
    }
}

/// Brings one entry as far as it can be brought now.
async fn handle(merchant: Arc<Inner>, id: ChallengeId) -> Result<Handled, StoreError> {
    let now = merchant.now();
    let take = Take { id, now, lease_until: now.saturating_add(merchant.settings.lease), asked_for: false };
    let Taken::Won { lease, entry } = store_step(&merchant, merchant.store.take(take)).await? else {
        return Ok(Handled::Nothing);
    };
    let Some(record) = Record::of(&entry) else {
        events::record_unreadable(id);
        put_off(&merchant, lease, u32::MAX, None).await?;
        return Ok(Handled::Pending);
    };
    let JournalEntry { attempts, keep_until, .. } = entry;
    let work = Work { merchant: &merchant, lease, record, attempts, keep_until };
    match entry.state {
        EntryState::Held => work.find_out().await,
        EntryState::Settled { settlement, refundable } => work.end(&settlement, refundable).await,
        EntryState::Refunding { settlement, reason } => work.give_back(&settlement, reason).await,
        // An ended entry is handed out to those who ask for it only.
        EntryState::Spent { .. } => Ok(Handled::Nothing),
    }
}

/// An entry that was taken.
struct Work<'a> {
    merchant: &'a Inner,
    lease: Lease,
    record: Record,
    attempts: u32,
    keep_until: Timestamp,
}

impl Work<'_> {
    /// Nobody knows whether money moved.
    async fn find_out(self) -> Result<Handled, StoreError> {
        let Self { merchant, lease, record, attempts, .. } = &self;
        let Some(method) = merchant.method(&record.method, &record.intent) else {
            events::method_missing(&record.method, lease.id);
            put_off(merchant, *lease, *attempts, None).await?;
            return Ok(Handled::Pending);
        };
        match resolve(merchant, *lease, method, record).await {
            Ok(Resolution::Settled(settlement)) => {
                insist(merchant, "settle", || merchant.store.settle(*lease, &settlement)).await?;
                events::resolved(&record.method, lease.id, "settled");
                if merchant.now() < merchant.redeemable_until(record.expires) {
                    let_go(merchant, "release", || merchant.store.release(*lease, Release::Undelivered)).await?;
                    return Ok(Handled::Settled);
                }
                self.end(&settlement, true).await
            }
            Ok(Resolution::NotCharged) => {
                let_go(merchant, "release", || merchant.store.release(*lease, Release::NotCharged)).await?;
                events::resolved(&record.method, lease.id, "not_charged");
                Ok(Handled::NotCharged)
            }
            Err(unknown) => {
                events::unresolved(&record.method, lease.id, &unknown);
                put_off(merchant, *lease, *attempts, unknown.retry_after()).await?;
                Ok(Handled::Pending)
            }
        }
    }

    /// The money was taken, and the time to come for it may be over.
    async fn end(self, settlement: &Settlement, refundable: bool) -> Result<Handled, StoreError> {
        let Self { merchant, lease, record, attempts, keep_until } = &self;
        if merchant.now() < merchant.redeemable_until(record.expires) {
            let_go(merchant, "release", || merchant.store.release(*lease, Release::Undelivered)).await?;
            return Ok(Handled::Nothing);
        }
        let kept = pin!(answers::is_kept(merchant, *lease, *keep_until));
        match keeping(merchant, *lease, kept).await {
            Ok(true) => {
                insist(merchant, "commit", || merchant.store.commit(*lease, End::Delivered)).await?;
                events::found_kept(&record.method, lease.id);
                return Ok(Handled::Delivered);
            }
            Ok(false) => {}
            Err(error) => {
                put_off(merchant, *lease, *attempts, error.retry_after()).await?;
                return Ok(Handled::Pending);
            }
        }
        if refundable && merchant.settings.refunds.is_on() {
            return self.give_back(settlement, RefundReason::Undelivered).await;
        }
        self.leave_listed().await
    }

    /// Nobody comes for it and no rule gives it back: that is for people to decide.
    async fn leave_listed(self) -> Result<Handled, StoreError> {
        // Seldom looked at again: the policy may have been changed until then.
        const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let Self { merchant, lease, record, attempts, .. } = self;
        if attempts == 0 {
            events::unfulfilled(&record.method, lease.id);
        }
        put_off(merchant, lease, attempts, Some(A_DAY)).await?;
        Ok(Handled::Unfulfilled)
    }

    async fn give_back(self, settlement: &Settlement, reason: RefundReason) -> Result<Handled, StoreError> {
        let Self { merchant, lease, record, attempts, .. } = &self;
        let owed = Owed {
            lease: *lease,
            method: &record.method,
            intent: &record.intent,
            amount: record.amount,
            currency: &record.currency,
            settlement,
            attempts: *attempts,
            receipt: None,
            seen_by: None,
        };
        Ok(match give_back(merchant, owed, reason).await? {
            GivenBack::Refunded => Handled::Refunded,
            GivenBack::Pending => Handled::Pending,
            GivenBack::Refused => Handled::Unfulfilled,
        })
    }
}

impl fmt::Debug for Sweeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweeper").field("every", &self.every).finish_non_exhaustive()
    }
}
