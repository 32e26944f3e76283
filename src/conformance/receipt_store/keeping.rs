//! A receipt under its id: as it was given, once, the final one first.

use std::sync::Arc;

use futures_util::future::join_all;

use super::lab::{Checked, Lab, id, in_order, payment};
use crate::{
    protocol::Visibility,
    store::{Listed, ReceiptRow, StoreErrorKind},
};

/// The size of the largest receipt that every store must keep.
const LARGE: usize = 1024 * 1024;

/// Texts that come back changed from a store that is not careful.
fn texts() -> Vec<Arc<str>> {
    let all: String =
        (0..=0x2fff).chain(0xfff0..=0x1_0010).chain(0x1_f600..0x1_f650).filter_map(char::from_u32).collect();
    // Every place differs from its neighbours, so that nothing can be cut out of it unseen.
    let large: String =
        (0..LARGE).map(|place| char::from((place ^ (place >> 7) ^ (place >> 14)) as u8 & 0x7f)).collect();
    let small = [
        "",
        " ",
        "\0",
        "a\0b\0",
        "{\"a\":1}\r\n\t ",
        "'; DROP TABLE receipts; --",
        "\\x00 \\u0000 %00 \"",
        // The same letter twice, composed and not; a byte order mark; no characters at all; the last one there is.
        "\u{e9} e\u{301}",
        "\u{feff}\u{200b}\u{202e}\u{fffd}\u{fffe}",
        "\u{10ffff}",
    ];
    small.into_iter().map(Arc::from).chain([all.into(), large.into()]).collect()
}

pub(super) async fn as_given(lab: &Lab) -> Checked {
    let mut rows = Vec::new();
    for (n, text) in (0..).step_by(4).zip(texts()) {
        // The name of a listed receipt may be anything too, but not of any length.
        let name: String = text.chars().take(200).collect();
        let public = ReceiptRow { public: Some(Arc::clone(&text)), ..lab.listed(n, &name) };
        let full = ReceiptRow { full: Arc::clone(&text), ..lab.private(n + 1) };
        let provisional = ReceiptRow { provisional: true, ..lab.listed(n + 2, &name) };
        let unlisted = ReceiptRow { listed: None, visibility: Visibility::PublicDemo, ..lab.listed(n + 3, "") };
        rows.extend([public, full, provisional, unlisted]);
    }
    let all = [Visibility::PublicRedacted, Visibility::PublicFull, Visibility::Private];
    for (n, visibility) in (1000..).zip(all) {
        rows.push(ReceiptRow { visibility, ..lab.listed(n, "name") });
        rows.push(ReceiptRow { visibility, public: None, ..lab.listed(n + 100, "name") });
    }
    for (n, tokens) in (2000..).zip([0, 1, u64::from(u32::MAX) + 1, u64::MAX >> 1, (u64::MAX >> 1) + 1, u64::MAX]) {
        let flags = (n % 2 == 0, n % 3 == 0);
        let listed = Some(Listed { name: "n".into(), succeeded: flags.0, paid: flags.1, tokens });
        rows.push(ReceiptRow { listed, ..lab.listed(n, "") });
    }
    rows.push(ReceiptRow { parent: Some(id(1)), payment: Some(payment(1)), ..lab.private(3000) });
    rows.push(ReceiptRow { parent: Some(id(3001)), payment: None, ..lab.private(3001) });
    rows.push(ReceiptRow { parent: None, payment: Some(payment(2)), ..lab.private(3002) });
    for row in &rows {
        lab.append("a first receipt", row).await?;
        lab.found(&named(row), row).await?;
    }
    for row in &rows {
        lab.found(&format!("{}, after others", named(row)), row).await?;
    }
    match lab.get(id(9999)).await? {
        None => Ok(()),
        Some(found) => Err(format!("under an id that was never given, found {found:?}")),
    }
}

fn named(row: &ReceiptRow) -> String {
    let public = row.public.as_ref().map_or(0, |public| public.len());
    format!("a receipt of {} and {public} bytes", row.full.len())
}

pub(super) async fn repeated(lab: &Lab) -> Checked {
    let row = ReceiptRow { parent: Some(id(9)), payment: Some(payment(9)), ..lab.listed(1, "agent") };
    let provisional = ReceiptRow { provisional: true, ..row.clone() };
    for _ in 0..3 {
        lab.append("the same receipt again", &row).await?;
        lab.append("the same provisional receipt again", &provisional).await?;
    }
    let (at_once, others) = (join_all((0..16).map(|_| lab.append("the same, at once", &row))), lab.listed(2, "other"));
    at_once.await.into_iter().collect::<Checked>()?;
    lab.append("another receipt", &others).await?;
    lab.append("the same receipt after another", &row).await?;
    lab.found("appended again and again", &row).await?;
    in_order("of the payment", &lab.of_payment(payment(9), 100).await?, &[&row])?;
    in_order("added to the parent", &lab.children(id(9), 100).await?, &[&row])?;
    let listed = lab.list(100).await?.len();
    if listed != 2 {
        return Err(format!("of two receipts, one of them appended again, {listed} are listed"));
    }
    let today = row.day();
    lab.sums("appended again", &[("agent", 1, 1, 101), ("other", 1, 1, 102)], &[(today, 2)]).await
}

pub(super) async fn conflict(lab: &Lab) -> Checked {
    let row = ReceiptRow { parent: Some(id(8)), payment: Some(payment(8)), ..lab.listed(1, "agent") };
    lab.append("a first receipt", &row).await?;
    let listed = |name: &str, succeeded, paid, tokens| Some(Listed { name: name.into(), succeeded, paid, tokens });
    let others = [
        ("parent", ReceiptRow { parent: Some(id(7)), ..row.clone() }),
        ("parent, none", ReceiptRow { parent: None, ..row.clone() }),
        ("payment", ReceiptRow { payment: Some(payment(7)), ..row.clone() }),
        ("payment, none", ReceiptRow { payment: None, ..row.clone() }),
        ("visibility", ReceiptRow { visibility: Visibility::PublicFull, ..row.clone() }),
        ("instant", ReceiptRow { created_at: lab.at(2), ..row.clone() }),
        ("full text", ReceiptRow { full: format!("{} ", row.full).into(), ..row.clone() }),
        ("public text", ReceiptRow { public: Some("public".into()), ..row.clone() }),
        ("public text, none", ReceiptRow { public: None, ..row.clone() }),
        ("name", ReceiptRow { listed: listed("Agent", true, true, 101), ..row.clone() }),
        ("success", ReceiptRow { listed: listed("agent", false, true, 101), ..row.clone() }),
        ("payment of it", ReceiptRow { listed: listed("agent", true, false, 101), ..row.clone() }),
        ("tokens", ReceiptRow { listed: listed("agent", true, true, 102), ..row.clone() }),
        ("listing", ReceiptRow { listed: None, ..row.clone() }),
    ];
    for (what, other) in &others {
        lab.refused(&format!("under the same id with another {what}"), other).await?;
        lab.found(&format!("after one with another {what} was refused"), &row).await?;
    }
    in_order("of the payment", &lab.of_payment(payment(8), 100).await?, &[&row])?;
    in_order("added to the parent", &lab.children(id(8), 100).await?, &[&row])?;
    in_order("of the payment of one that was refused", &lab.of_payment(payment(7), 100).await?, &[])?;
    in_order("added to the parent of one that was refused", &lab.children(id(7), 100).await?, &[])?;
    lab.sums("after others were refused", &[("agent", 1, 1, 101)], &[(row.day(), 1)]).await?;
    // A provisional one is another one, and is as firm.
    let provisional = ReceiptRow { provisional: true, full: "begun".into(), ..row.clone() };
    lab.append("a provisional receipt under the same id", &provisional).await?;
    lab.refused("another provisional one", &ReceiptRow { full: "begun otherwise".into(), ..provisional }).await
}

const CONCURRENT: u64 = 16;

pub(super) async fn one_of_many(lab: &Lab) -> Checked {
    for round in 0..8 {
        let row = |n: u64| {
            let listed = Listed { name: format!("name {round}"), succeeded: true, paid: true, tokens: 1 };
            ReceiptRow { id: id(round), listed: Some(listed), full: format!("{n}").into(), ..lab.listed(round, "") }
        };
        let rows: Vec<_> = (0..CONCURRENT).map(row).collect();
        let answers = join_all(rows.iter().map(|row| lab.store.append(row.clone()))).await;
        let mut kept = Vec::new();
        for (row, answer) in rows.iter().zip(answers) {
            match answer {
                Ok(()) => kept.push(row),
                Err(error) if error.kind() == StoreErrorKind::Conflict => {}
                Err(error) => return Err(format!("at once under one id: `append` failed: {error}")),
            }
        }
        let [row] = kept.as_slice() else {
            return Err(format!("of {CONCURRENT} different receipts under one id {} were taken", kept.len()));
        };
        lab.found("the one that was taken", row).await?;
    }
    let totals = lab.totals(100, 0).await?;
    let counts: Vec<_> = totals.names.iter().map(|total| total.receipts).collect();
    let listed = lab.list(5).await?.len();
    if counts == [1; 8] && listed == 8 {
        Ok(())
    } else {
        Err(format!("of 8 ids {listed} are listed, and counted {counts:?}"))
    }
}

pub(super) async fn final_first(lab: &Lab) -> Checked {
    let (one, other) = (lab.listed(1, "agent"), lab.listed(2, "agent"));
    let begun = |row: &ReceiptRow| {
        let parts = (lab.at(10), "begun".into(), Some("begun".into()));
        ReceiptRow { provisional: true, created_at: parts.0, full: parts.1, public: parts.2, ..row.clone() }
    };
    lab.append("a provisional receipt", &begun(&one)).await?;
    lab.found("a provisional receipt", &begun(&one)).await?;
    lab.append("the final receipt after the provisional one", &one).await?;
    lab.append("the final receipt before the provisional one", &other).await?;
    lab.append("a provisional receipt after the final one", &begun(&other)).await?;
    for row in [&one, &other] {
        lab.found("with both, the final one", row).await?;
        lab.append("the provisional receipt again", &begun(row)).await?;
        lab.found("with both, the final one", row).await?;
    }
    Ok(())
}

pub(super) async fn provisional_unlisted(lab: &Lab) -> Checked {
    let row = |n| ReceiptRow { parent: Some(id(50)), payment: Some(payment(50)), ..lab.listed(n, "agent") };
    for n in 0..5 {
        lab.append("a provisional receipt", &ReceiptRow { provisional: true, ..row(n) }).await?;
    }
    let nothing = async |what: &str, rows: &[&ReceiptRow]| {
        in_order(&format!("{what}: of the payment"), &lab.of_payment(payment(50), 100).await?, rows)?;
        in_order(&format!("{what}: added to the parent"), &lab.children(id(50), 100).await?, rows)?;
        let listed = lab.list(2).await?.len();
        if listed != rows.len() {
            return Err(format!("{what}: {listed} are listed instead of {}", rows.len()));
        }
        Ok(())
    };
    nothing("provisional receipts alone", &[]).await?;
    lab.sums("provisional receipts alone", &[], &[]).await?;
    let last = row(3);
    lab.append("a final receipt after its provisional one", &last).await?;
    nothing("with one final receipt", &[&last]).await?;
    lab.append("a provisional receipt after all", &ReceiptRow { provisional: true, ..row(6) }).await?;
    nothing("with one final receipt", &[&last]).await?;
    lab.sums("with one final receipt", &[("agent", 1, 1, 103)], &[(last.day(), 1)]).await
}
