//! Many receipts: which is which, whether they stay, and what happens when there is no room.

use super::lab::{Checked, Lab, in_order, is_full};
use crate::{
    protocol::{ChallengeId, ReceiptId},
    store::{OutcomeRow, ReceiptRow},
};

/// Names that a lossy store takes for one another.
fn alike<const N: usize>() -> Vec<[u8; N]> {
    let base = std::array::from_fn(|place| place as u8 ^ 0x5a);
    let mut names = vec![base, [0; N], [0xff; N]];
    // Each bit counts.
    for place in 0..N {
        for bit in 0..8 {
            let mut name = base;
            if let Some(byte) = name.get_mut(place) {
                *byte ^= 1 << bit;
            }
            names.push(name);
        }
    }
    for byte in [b'/', b'\\', b'_', b'-', b'A', b'a', b' ', b'\n', b'%', b'\'', b'"', 0x80] {
        names.push([byte; N]);
        names.push(std::array::from_fn(|place| if place + 1 == N { byte } else { b'k' }));
        names.push(std::array::from_fn(|place| if place == 0 { byte } else { 0 }));
    }
    names.sort_unstable();
    names.dedup();
    names
}

pub(super) async fn exact_ids(lab: &Lab) -> Checked {
    let ids = alike::<16>();
    let payments = alike::<32>();
    let mut rows = Vec::new();
    for (n, payment) in (0..).zip(payments) {
        // There are fewer of them: the last receipts have ids of their own, and no parent.
        let id = ids.get(n as usize).map(|bytes| ReceiptId::from_bytes(*bytes));
        let row = lab.private(n);
        let payment = Some(ChallengeId::from_bytes(payment));
        rows.push(ReceiptRow { id: id.unwrap_or(row.id), parent: id, payment, ..row });
    }
    for row in &rows {
        lab.append("ids that are alike", row).await?;
    }
    for row in &rows {
        lab.found("beside ids like its own", row).await?;
        if let Some(payment) = row.payment {
            in_order("beside payments like its own", &lab.of_payment(payment, 10).await?, &[row])?;
        }
        if let Some(parent) = row.parent {
            in_order("beside parents like its own", &lab.children(parent, 10).await?, &[row])?;
        }
    }
    Ok(())
}

const THOUSAND: u64 = 1000;

pub(super) async fn nothing_changes(lab: &Lab) -> Checked {
    let row = |n: u64| {
        let row = match n % 4 {
            0 => lab.private(n),
            1 => ReceiptRow { provisional: true, ..lab.listed(n, "agent") },
            _ => lab.listed(n, &format!("agent {}", n % 10)),
        };
        let payment = Some(super::lab::payment(n / 3));
        ReceiptRow { parent: n.checked_sub(5).map(super::lab::id), payment, ..row }
    };
    for n in 0..THOUSAND {
        lab.append("a receipt", &row(n)).await?;
        if n % 100 == 7 {
            let outcome = OutcomeRow { receipt: row(n / 2).id, created_at: lab.at(n), json: "{}".into() };
            lab.store.append_outcome(outcome).await.map_err(|error| format!("`append_outcome` failed: {error}"))?;
            // Others that are refused or done already.
            lab.append("the same receipt again", &row(n / 2)).await?;
            lab.refused("another under its id", &ReceiptRow { full: "x".into(), ..row(n / 3) }).await?;
        }
    }
    for n in 0..THOUSAND {
        lab.found(&format!("receipt {n} of {THOUSAND}"), &row(n)).await?;
    }
    let listed: Vec<_> =
        (0..THOUSAND).rev().filter_map(|n| row(n).in_list().map(|(_, public)| public.clone())).collect();
    if lab.list(97).await? == listed { Ok(()) } else { Err(format!("after {THOUSAND} the list is another one")) }
}

/// The store has room for some receipts of a kibibyte, but for fewer than a thousand.
pub(super) async fn full_refuses(lab: &Lab) -> Checked {
    let row = |n: u64| ReceiptRow { full: format!("{n:01000}").into(), ..lab.listed(n, "agent") };
    let mut kept = 0;
    loop {
        let done = lab.store.append(row(kept)).await;
        if is_full(&done) {
            break;
        }
        done.map_err(|error| format!("`append` failed, and not as Full: {error}"))?;
        kept += 1;
        if kept == THOUSAND {
            return Err(format!("after {kept} receipts of a kibibyte it is not full"));
        }
    }
    if kept == 0 {
        return Err("it has no room for one receipt".into());
    }
    for n in kept..kept + 100 {
        let done = lab.store.append(row(n)).await;
        if !is_full(&done) {
            return Err(format!("full after {kept} receipts, and yet another is answered {done:?}"));
        }
    }
    for n in 0..kept {
        lab.found("a full ledger, what was kept before", &row(n)).await?;
    }
    lab.append("a full ledger, a receipt that it has", &row(0)).await?;
    lab.refused("a full ledger, another under an id that it has", &ReceiptRow { full: "x".into(), ..row(0) }).await?;
    match lab.get(row(kept).id).await? {
        None => {}
        Some(found) => return Err(format!("a full ledger has refused a receipt, and yet found {found:?}")),
    }
    let totals = lab.totals(10, 0).await?;
    let counted: u64 = totals.names.iter().map(|total| total.receipts).sum();
    let listed = lab.list(50).await?.len() as u64;
    if counted == kept && listed == kept {
        return Ok(());
    }
    Err(format!("a full ledger with {kept} receipts lists {listed} and counts {counted}"))
}
