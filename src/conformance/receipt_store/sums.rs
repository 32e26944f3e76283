//! The sums over the public list.

use futures_util::future::join_all;

use super::lab::{Checked, Lab, MANY};
use crate::{
    protocol::Timestamp,
    store::{Listed, NameTotal, ReceiptRow},
};

/// Names that a lossy store takes for one another, in the order of their bytes.
const ALIKE: [&str; 12] =
    ["", "\0", " ", "%", "AGENT", "Agent", "agent", "agent\0", "agent ", "agent_", "e\u{301}", "\u{e9}"];

pub(super) async fn of_names(lab: &Lab) -> Checked {
    lab.sums("an empty ledger", &[], &[]).await?;
    let mut next = 0..;
    let mut count = async |name: &str, succeeded, tokens| {
        let row = lab.listed(next.next().unwrap_or_default(), name);
        let listed = Listed { name: name.into(), succeeded, paid: false, tokens };
        lab.append("a receipt", &ReceiptRow { listed: Some(listed), ..row }).await
    };
    for name in ALIKE.iter().rev() {
        count(name, true, 1).await?;
    }
    let all: Vec<_> = ALIKE.iter().map(|name| (*name, 1, 1, 1)).collect();
    lab.sums("names that are alike, with one receipt each", &all, &[]).await?;
    for (name, receipts) in [("Agent", 3), ("agent ", 3), ("\u{e9}", 10), ("", 2)] {
        for n in 0..receipts {
            count(name, n % 2 == 0, 1000).await?;
        }
    }
    let top =
        [("\u{e9}", 11, 6, 10_001), ("Agent", 4, 3, 3001), ("agent ", 4, 3, 3001), ("", 3, 2, 2001), ("\0", 1, 1, 1)];
    for limit in 0..=top.len() {
        let found = lab.totals(limit, 0).await?.names;
        let expected = top.iter().take(limit).map(|(name, receipts, succeeded, tokens)| NameTotal {
            name: (*name).to_owned(),
            receipts: *receipts,
            succeeded: *succeeded,
            tokens: *tokens,
        });
        if found != expected.collect::<Vec<_>>() {
            return Err(format!("the first {limit} names are {found:?}"));
        }
    }
    // What is not in the list counts nothing.
    let before = lab.totals(MANY, 0).await?;
    for row in [
        lab.private(5000),
        ReceiptRow { listed: None, ..lab.listed(5001, "agent") },
        ReceiptRow { public: None, ..lab.listed(5002, "agent") },
        ReceiptRow { provisional: true, ..lab.listed(5003, "agent") },
    ] {
        lab.append("a receipt that is not listed", &row).await?;
        if lab.totals(MANY, 0).await? != before {
            return Err(format!("{row:?} is not in the list, and counts"));
        }
    }
    Ok(())
}

const DAY: i64 = 86_400_000;

pub(super) async fn of_days(lab: &Lab) -> Checked {
    let today = lab.at(0).unix_millis().div_euclid(DAY);
    let mut next = 0..;
    let mut count = async |millis, paid: bool| {
        let row = lab.listed(next.next().unwrap_or_default(), "agent");
        let listed = Listed { name: "agent".into(), succeeded: !paid, paid, tokens: 0 };
        let created_at = Timestamp::from_unix_millis(millis).unwrap_or(row.created_at);
        lab.append("a receipt", &ReceiptRow { created_at, listed: Some(listed), ..row }).await
    };
    // Out of order, at both ends of a day; some days have none, or none that was paid for.
    for (day, millis, paid) in [
        (5, 0, true),
        (0, DAY - 1, true),
        (0, 0, true),
        (1, 0, true),
        (1, 0, false),
        (3, 1, false),
        (9, DAY / 2, true),
        (5, DAY - 1, true),
        (5, 7, true),
    ] {
        count((today + day) * DAY + millis, paid).await?;
    }
    let days: Vec<_> =
        [(0, 2), (1, 1), (5, 3), (9, 1)].into_iter().map(|(day, paid)| (today as u32 + day, paid)).collect();
    lab.sums("on some days", &[("agent", 9, 2, 0)], &days).await?;
    for since in 0..11 {
        let since = today as u32 + since;
        let found = lab.totals(0, since).await?.days;
        let expected: Vec<_> = days.iter().filter(|(day, _)| *day >= since).copied().collect();
        if found != expected {
            return Err(format!("from day {since} on: {found:?} instead of {expected:?}"));
        }
    }
    match lab.totals(0, u32::MAX).await?.days.as_slice() {
        [] => Ok(()),
        found => Err(format!("from the last day on: {found:?}")),
    }
}

const CALLERS: u64 = 16;
const EACH: u64 = 12;

fn name(n: u64) -> &'static str {
    match n % 3 {
        0 => "a",
        1 => "b",
        _ => "c",
    }
}

pub(super) async fn at_once(lab: &Lab) -> Checked {
    let callers = (0..CALLERS).map(|caller| async move {
        for n in 0..EACH {
            // Every receipt comes from two callers, under one of three names.
            let n = caller / 2 * EACH + n;
            lab.append("a receipt, beside others", &lab.listed(n, name(n))).await?;
        }
        Ok(())
    });
    join_all(callers).await.into_iter().collect::<Checked>()?;
    let all = CALLERS / 2 * EACH;
    let sum = |name: u64| (0..all).filter(|n| n % 3 == name).map(|n| 100 + n).sum::<u64>();
    let each = all / 3;
    let names = [("a", each, each, sum(0)), ("b", each, each, sum(1)), ("c", each, each, sum(2))];
    let (first, last) = (lab.listed(0, "").day(), lab.listed(all - 1, "").day());
    // It may be nearly midnight.
    let late = (0..all).filter(|n| lab.listed(*n, "").day() != first).count() as u64;
    let days = if late == 0 { vec![(first, all)] } else { vec![(first, all - late), (last, late)] };
    lab.sums("many at once, each receipt from two callers", &names, &days).await
}

pub(super) async fn stop(lab: &Lab) -> Checked {
    const MOST: u64 = i64::MAX as u64;
    let mut next = 0..;
    let mut count = async |tokens| {
        let row = lab.listed(next.next().unwrap_or_default(), "agent");
        let listed = Listed { name: "agent".into(), succeeded: false, paid: false, tokens };
        lab.append("with very many tokens", &ReceiptRow { listed: Some(listed), ..row }).await
    };
    for (receipts, (tokens, sum)) in
        (1..).zip([(5, 5), (MOST - 7, MOST - 2), (1, MOST - 1), (2, MOST), (u64::MAX, MOST), (0, MOST)])
    {
        count(tokens).await?;
        lab.sums(&format!("after {tokens} more tokens"), &[("agent", receipts, 0, sum)], &[]).await?;
    }
    Ok(())
}
