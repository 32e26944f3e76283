//! What is said at the end about payments that have not ended.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::timeout;
use tower_mpp::{
    Clock as _, SystemClock,
    store::{EntryState, JournalEntry, NonceStore, Page, StoreError},
};

use super::common::serve::Leftover;

/// No more are looked at, and no more are named.
const COUNTED: usize = 1000;
const NAMED: usize = 20;
/// The journal may be the reason why something is left.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any lease.
const LONG: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Says how the gateway ended, and which payments are open in its journal: those at work, here or at
/// another replica, and those that nobody is at work on.
pub(super) async fn report(payments: &dyn NonceStore, left: Leftover) {
    let Leftover { requests, payments: in_flight } = left;
    if left == Leftover::default() {
        tracing::info!("ended in order");
    } else {
        tracing::warn!(requests, in_flight, "ended with work left");
    }
    let (open, unfulfilled) = match timeout(PATIENCE, open(payments)).await {
        Ok(Ok(entries)) => entries,
        Ok(Err(error)) => return tracing::error!(%error, "the journal does not say what is left in it"),
        Err(_) => return tracing::error!("the journal does not say what is left in it in time"),
    };
    let given_up: BTreeSet<_> = unfulfilled.iter().map(|entry| entry.id).collect();
    let at_work: Vec<_> = open.into_iter().filter(|entry| !given_up.contains(&entry.id)).collect();
    if !at_work.is_empty() {
        tracing::warn!(count = count(&at_work), payments = names(&at_work), "payments at work in the journal");
    }
    if !unfulfilled.is_empty() {
        tracing::warn!(
            count = count(&unfulfilled),
            payments = names(&unfulfilled),
            "unfulfilled payments in the journal"
        );
    }
}

/// All open payments, and those of them that nobody is at work on.
async fn open(payments: &dyn NonceStore) -> Result<(Vec<JournalEntry>, Vec<JournalEntry>), StoreError> {
    let now = SystemClock.now();
    let page = |now| Page { now, after: None, limit: COUNTED, due: false };
    Ok((payments.unfinished(page(now.saturating_add(LONG))).await?, payments.unfinished(page(now)).await?))
}

fn count(entries: &[JournalEntry]) -> String {
    match entries.len() {
        COUNTED => format!("{COUNTED} or more"),
        fewer => fewer.to_string(),
    }
}

fn names(entries: &[JournalEntry]) -> String {
    let name = |entry: &JournalEntry| {
        let state = match entry.state {
            EntryState::Held => "outcome unknown",
            EntryState::Settled { .. } => "paid",
            EntryState::Refunding { .. } => "being refunded",
            EntryState::Spent { .. } => "ended",
        };
        format!("{} ({state})", entry.id)
    };
    let more = if entries.len() > NAMED { ", ..." } else { "" };
    entries.iter().take(NAMED).map(name).collect::<Vec<_>>().join(", ") + more
}
