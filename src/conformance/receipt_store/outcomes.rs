//! What was said afterwards.

use futures_util::future::join_all;

use super::lab::{Checked, Lab, id};
use crate::{protocol::ReceiptId, store::OutcomeRow};

async fn say(lab: &Lab, outcome: &OutcomeRow) -> Checked {
    lab.store.append_outcome(outcome.clone()).await.map_err(|error| format!("`append_outcome` failed: {error}"))
}

async fn are(lab: &Lab, what: &str, receipt: ReceiptId, limit: usize, expected: &[OutcomeRow]) -> Checked {
    let found = lab.store.outcomes(receipt, limit).await.map_err(|error| format!("`outcomes` failed: {error}"))?;
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?} instead of {expected:?}")) }
}

pub(super) async fn in_order(lab: &Lab) -> Checked {
    let row = lab.listed(1, "agent");
    lab.append("a receipt", &row).await?;
    let totals = lab.totals(10, 0).await?;
    are(lab, "before any was said", row.id, 10, &[]).await?;
    let texts = ["{\"ok\":true}", "", "\0", "{\"ok\":false}", "e\u{301} \u{e9} \u{10ffff}", "'; --", "{}", "z", "a"];
    // Several at one instant, and one with an earlier one: the order is that in which they were said.
    let said = |n: u64| {
        let outcome = |(place, json): (u64, &&str)| {
            let at = if place == 7 { 0 } else { place / 3 };
            OutcomeRow {
                receipt: id(n),
                created_at: lab.at(at),
                json: format!("{json}{}", if n == 1 { "" } else { " " }).into(),
            }
        };
        (0..).zip(&texts).map(outcome).collect::<Vec<_>>()
    };
    // In turns with those of others, one of which has no receipt.
    for (one, other) in said(1).iter().zip(&said(2)) {
        say(lab, one).await?;
        say(lab, other).await?;
    }
    for n in [1, 2] {
        for limit in [0, 1, 5, texts.len(), 100] {
            let expected: Vec<_> = said(n).into_iter().take(limit).collect();
            are(lab, &format!("at most {limit}"), id(n), limit, &expected).await?;
        }
    }
    lab.found("a receipt of which outcomes were said", &row).await?;
    if lab.totals(10, 0).await? != totals || lab.list(10).await?.len() != 1 {
        return Err("outcomes have changed the public list".into());
    }
    Ok(())
}

pub(super) async fn once(lab: &Lab) -> Checked {
    let outcome = OutcomeRow { receipt: id(1), created_at: lab.at(1), json: "{\"ok\":true}".into() };
    let later = OutcomeRow { created_at: lab.at(2), ..outcome.clone() };
    let other = OutcomeRow { json: "{\"ok\":false}".into(), ..outcome.clone() };
    let elsewhere = OutcomeRow { receipt: id(2), ..outcome.clone() };
    join_all((0..8).map(|_| say(lab, &outcome))).await.into_iter().collect::<Checked>()?;
    for more in [&later, &outcome, &other, &elsewhere, &later, &outcome] {
        say(lab, more).await?;
    }
    are(lab, "said again and again", id(2), 100, &[elsewhere]).await?;
    are(lab, "said again and again", id(1), 100, &[outcome, later, other]).await
}
