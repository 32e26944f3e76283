//! The receipts of a payment, and those that add to another one.

use super::lab::{Checked, Lab, MANY, id, in_order, payment};
use crate::store::{OutcomeRow, ReceiptRow};

pub(super) async fn of_payment(lab: &Lab) -> Checked {
    let row = |n: u64| {
        let row = if n.is_multiple_of(2) { lab.private(n) } else { lab.listed(n, "agent") };
        // Neither by instant nor by id: the order is that in which they come.
        ReceiptRow { payment: Some(payment(n % 3)), created_at: lab.at(1000 - n), ..row }
    };
    let rows: Vec<_> = (0..30).map(row).collect();
    for row in &rows {
        let begun = ReceiptRow { provisional: true, full: "begun".into(), ..row.clone() };
        lab.append("a provisional receipt of a payment", &begun).await?;
        lab.append("a receipt of a payment", row).await?;
        lab.append("a receipt of no payment", &lab.private(row.created_at.unix_millis().unsigned_abs())).await?;
    }
    for n in 0..3 {
        let expected: Vec<_> = rows.iter().filter(|row| row.payment == Some(payment(n))).collect();
        in_order(&format!("of payment {n}"), &lab.of_payment(payment(n), 100).await?, &expected)?;
        for limit in [1, 4, 9, 10] {
            let some: Vec<_> = expected.iter().take(limit).copied().collect();
            let what = format!("of payment {n}, at most {limit}");
            in_order(&what, &lab.of_payment(payment(n), limit).await?, &some)?;
        }
    }
    in_order("of a payment without a receipt", &lab.of_payment(payment(3), 100).await?, &[])
}

pub(super) async fn children(lab: &Lab) -> Checked {
    let row = |n: u64| {
        let row = if n.is_multiple_of(2) { lab.private(n) } else { lab.listed(n, "agent") };
        ReceiptRow { parent: Some(id(1000 + n % 3)), created_at: lab.at(1000 - n), ..row }
    };
    let rows: Vec<_> = (0..30).map(row).collect();
    // Two of the parents are there, one before its children and one after them; the third one never comes.
    lab.append("a parent", &lab.private(1000)).await?;
    for row in &rows {
        let begun = ReceiptRow { provisional: true, full: "begun".into(), ..row.clone() };
        lab.append("a provisional receipt with a parent", &begun).await?;
        lab.append("a receipt with a parent", row).await?;
    }
    lab.append("a parent", &lab.private(1001)).await?;
    for n in 1000..1003 {
        let expected: Vec<_> = rows.iter().filter(|row| row.parent == Some(id(n))).collect();
        in_order(&format!("added to {n}"), &lab.children(id(n), 100).await?, &expected)?;
        for limit in [1, 4, 9, 10] {
            let some: Vec<_> = expected.iter().take(limit).copied().collect();
            in_order(&format!("added to {n}, at most {limit}"), &lab.children(id(n), limit).await?, &some)?;
        }
    }
    in_order("added to one without children", &lab.children(id(0), 100).await?, &[])
}

const ROWS: usize = 7;

pub(super) async fn limits(lab: &Lab) -> Checked {
    for n in 0..ROWS as u64 {
        let row = lab.listed(n, &format!("agent {n}"));
        lab.append("a receipt", &ReceiptRow { parent: Some(id(50)), payment: Some(payment(50)), ..row }).await?;
        let outcome = OutcomeRow { receipt: id(50), created_at: lab.at(n), json: "{}".into() };
        lab.store.append_outcome(outcome).await.map_err(|error| format!("`append_outcome` failed: {error}"))?;
    }
    for limit in [0, 1, ROWS - 1, ROWS, ROWS + 1, MANY, u32::MAX as usize, usize::MAX - 1, usize::MAX] {
        let outcomes =
            lab.store.outcomes(id(50), limit).await.map_err(|error| format!("`outcomes` failed: {error}"))?;
        let (page, next) = lab.page(None, limit).await?;
        let found = [
            lab.of_payment(payment(50), limit).await?.len(),
            lab.children(id(50), limit).await?.len(),
            outcomes.len(),
            lab.totals(limit, 0).await?.names.len(),
        ];
        if found != [limit.min(ROWS); 4] {
            return Err(format!("of {ROWS}, at most {limit}, in payment, parent, outcomes and names: {found:?}"));
        }
        // A page may be shorter, and is not empty for that.
        let page = page.len();
        if page > limit.min(ROWS) || (page == 0) != (limit == 0) || next.is_some() != (page < ROWS) {
            return Err(format!("a page of at most {limit} of {ROWS} has {page}, and the next one begins at {next:?}"));
        }
    }
    // A page of none is where it was.
    let (_, next) = lab.page(None, 0).await?;
    let rest = lab.list_from(next, 100).await?;
    if rest.len() == ROWS { Ok(()) } else { Err(format!("after a page of none {} of {ROWS} are left", rest.len())) }
}
