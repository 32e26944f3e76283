//! The public list, in pages.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::{join, join_all};

use super::lab::{Checked, Lab, MANY, public};
use crate::store::ReceiptRow;

pub(super) async fn complete(lab: &Lab) -> Checked {
    let (none, next) = lab.page(None, 10).await?;
    if !none.is_empty() || next.is_some() {
        return Err(format!("an empty ledger has a page of {} and a next one at {next:?}", none.len()));
    }
    let mut listed = Vec::new();
    for n in 0..60 {
        let row = match n % 5 {
            0 => lab.private(n),
            1 => ReceiptRow { provisional: true, ..lab.listed(n, "agent") },
            2 => ReceiptRow { listed: None, ..lab.listed(n, "agent") },
            3 if n % 2 == 0 => ReceiptRow { public: None, ..lab.listed(n, "agent") },
            // The order is that in which they come.
            _ => ReceiptRow { created_at: lab.at(1000 - n), ..lab.listed(n, "agent") },
        };
        if row.in_list().is_some() {
            listed.insert(0, public(n));
        }
        lab.append("a receipt", &row).await?;
    }
    for limit in [1, 2, 3, 7, listed.len() - 1, listed.len(), listed.len() + 1, MANY] {
        let found = lab.list(limit).await?;
        if found != listed {
            return Err(format!("in pages of {limit}: {found:?} instead of {listed:?}"));
        }
    }
    let totals = lab.totals(10, 0).await?;
    let counted: u64 = totals.names.iter().map(|total| total.receipts).sum();
    if counted as usize != listed.len() {
        return Err(format!("{} are listed and {counted} counted", listed.len()));
    }
    for before in [0, u64::MAX] {
        let found = lab.list_from(Some(before), MANY).await?.len();
        let expected = if before == 0 { 0 } else { listed.len() };
        if found != expected {
            return Err(format!("from {before} on {found} are listed instead of {expected}"));
        }
    }
    Ok(())
}

pub(super) async fn of_large(lab: &Lab) -> Checked {
    const KIB: usize = 1 << 10;
    let mut there = Vec::new();
    for (n, kib) in (0..).zip([400, 1024, 1, 400, 400, 1, 400, 1024]) {
        let text: Arc<str> = format!("{n}{}", "x".repeat(kib * KIB - 1)).into();
        lab.append("a large receipt", &ReceiptRow { public: Some(Arc::clone(&text)), ..lab.listed(n, "agent") })
            .await?;
        there.insert(0, text);
    }
    for limit in [1, 3, there.len(), MANY] {
        let (first, _) = lab.page(None, limit).await?;
        if first.is_empty() {
            return Err(format!("the first page of at most {limit} large receipts is empty"));
        }
        let found = lab.list(limit).await?;
        if found != there {
            let lengths = |texts: &[Arc<str>]| texts.iter().map(|text| text.len()).collect::<Vec<_>>();
            let (found, there) = (lengths(&found), lengths(&there));
            return Err(format!("in pages of {limit} the lengths are {found:?} instead of {there:?}"));
        }
    }
    Ok(())
}

const ROWS: u64 = 60;

pub(super) async fn while_appending(lab: &Lab) -> Checked {
    for n in 0..ROWS {
        lab.append("a receipt", &lab.listed(n, "agent")).await?;
    }
    let there: Vec<_> = (0..ROWS).rev().map(public).collect();
    let mut later = ROWS..;
    let (mut read, mut next) = lab.page(None, 7).await?;
    while let Some(before) = next {
        let rows: Vec<_> = later.by_ref().take(4).map(|n| lab.listed(n, "agent")).collect();
        let [one, others @ ..] = rows.as_slice() else { break };
        lab.append("a receipt, between pages", one).await?;
        let at_once = join_all(others.iter().map(|row| lab.append("a receipt, beside a page", row)));
        let (appended, page) = join(at_once, lab.page(Some(before), 7)).await;
        appended.into_iter().collect::<Checked>()?;
        let (more, after) = page?;
        read.extend(more);
        next = after;
        if read.len() > MANY {
            return Err("the pages have no end".into());
        }
    }
    once(&read)?;
    let old: HashSet<_> = there.iter().collect();
    let found: Vec<_> = read.iter().filter(|receipt| old.contains(receipt)).cloned().collect();
    if found == there {
        return Ok(());
    }
    Err(format!("of {ROWS} receipts that were there at the first page {} were read, or in another order", found.len()))
}

fn once(read: &[Arc<str>]) -> Checked {
    let mut seen = HashSet::new();
    match read.iter().find(|receipt| !seen.insert(*receipt)) {
        None => Ok(()),
        Some(receipt) => Err(format!("{receipt} is listed twice")),
    }
}

const CALLERS: u64 = 8;
const EACH: u64 = 15;

pub(super) async fn grows_at_the_front(lab: &Lab) -> Checked {
    let ended = AtomicBool::new(false);
    let callers = (0..CALLERS).map(|caller| async move {
        for n in 0..EACH {
            let n = caller * EACH + n;
            // Larger ones take longer.
            let row = ReceiptRow { full: "x".repeat(n as usize % 5 * 20_000).into(), ..lab.listed(n, "agent") };
            lab.append("a receipt, beside others", &row).await?;
        }
        Ok(())
    });
    let appending = async {
        let appended = join_all(callers).await;
        ended.store(true, Ordering::Release);
        appended.into_iter().collect::<Checked>()
    };
    let reading = async {
        let mut before = Vec::new();
        loop {
            let last = ended.load(Ordering::Acquire);
            let now = lab.list(11).await?;
            once(&now)?;
            if !now.ends_with(&before) {
                return Err(format!(
                    "a list of {} was read again as one of {}, and what was new was not all in front",
                    before.len(),
                    now.len()
                ));
            }
            if last {
                return Ok(now);
            }
            before = now;
            // So that a store which never waits gets on too.
            yield_now().await;
        }
    };
    let (appended, read) = join(appending, reading).await;
    appended?;
    let read = read?.len() as u64;
    if read == CALLERS * EACH { Ok(()) } else { Err(format!("of {} receipts {read} are listed", CALLERS * EACH)) }
}

async fn yield_now() {
    tokio::task::yield_now().await;
}
