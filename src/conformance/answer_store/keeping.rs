//! Answers that are complete.

use super::lab::{Checked, KEEP, Lab, WORK, lease, lost, request};
use crate::store::Reservation;

/// The size of the largest answer that every store must keep.
const LARGE: usize = 1024 * 1024;

pub(super) async fn as_given(lab: &Lab) -> Checked {
    let answers: [Vec<u8>; 6] = [
        Vec::new(),
        vec![0],
        b"{\"paid\":true}\r\n".to_vec(),
        vec![0xff, 0xfe, b'\'', b'"', b'\\', 0, b'\n', 0],
        (0..=u8::MAX).rev().collect(),
        // Every place differs from its neighbours, so that nothing can be cut out of it unseen.
        (0..LARGE).map(|place| (place ^ (place >> 8) ^ (place >> 16)) as u8).collect(),
    ];
    for (n, answer) in (0..).zip(&answers) {
        let what = format!("an answer of {} bytes", answer.len());
        lab.kept(n, answer).await?;
        lab.complete(&what, n, 0, answer).await?;
    }
    for (n, answer) in (0..).zip(&answers) {
        let what = format!("an answer of {} bytes, after others", answer.len());
        lab.complete(&what, n, KEEP - 1, answer).await?;
        lab.complete(&what, n, KEEP - 1, answer).await?;
    }
    Ok(())
}

pub(super) async fn needs_reservation(lab: &Lab) -> Checked {
    let keep = || lab.store.keep(lease(1), "answer".into(), lab.at(KEEP));
    lost("never reserved", "keep", keep().await)?;
    lab.absent("kept, and never reserved", 1, 0).await?;
    lab.reserved(2).await?;
    lost("never reserved, after another was", "keep", keep().await)?;
    lab.absent("kept, and never reserved, after another was", 1, 0).await?;
    lab.reserved(1).await?;
    lab.running("reserved after that", 1, 0, WORK).await
}

pub(super) async fn complete_stays(lab: &Lab) -> Checked {
    lab.kept(1, b"first").await?;
    lab.keep("complete", 1, b"second", KEEP).await?;
    lab.complete("kept twice", 1, 0, b"first").await?;
    lab.keep("complete", 1, b"", KEEP).await?;
    lab.complete("kept again as nothing", 1, 0, b"first").await?;
    let again = Reservation { now: lab.at(WORK), until: lab.at(2 * WORK), ..lab.reservation(1) };
    lab.reserve("complete", again).await?;
    lab.complete("complete, and reserved again", 1, WORK, b"first").await?;
    lab.reserve("complete", Reservation { request: request(2), ..again }).await?;
    lab.complete("complete, and reserved for another request", 1, WORK, b"first").await?;
    lab.give_up("complete", 1).await?;
    lab.complete("complete, and given up", 1, WORK, b"first").await?;
    // An answer without a byte is one too.
    lab.kept(3, b"").await?;
    lab.keep("complete without a byte", 3, b"second", KEEP).await?;
    lab.reserve("complete without a byte", lab.reservation(3)).await?;
    lab.complete("complete without a byte", 3, 0, b"").await
}

pub(super) async fn moves_later(lab: &Lab) -> Checked {
    lab.reserved(1).await?;
    lab.keep("for longer than it was reserved", 1, b"answer", 2 * KEEP).await?;
    lab.reserved(2).await?;
    lab.keep("for less long than it was reserved", 2, b"answer", 1).await?;
    lab.reserved(3).await?;
    lab.keep("for just as long", 3, b"answer", KEEP).await?;
    for n in [1, 2, 3] {
        lab.complete("1 ms before keep_until", n, KEEP - 1, b"answer").await?;
    }
    lab.forget(KEEP - 1, 1000).await?;
    lab.complete("kept for less long than it was reserved", 2, KEEP - 1, b"answer").await?;
    lab.forget(KEEP, 1000).await?;
    lab.complete("kept for longer than it was reserved", 1, 2 * KEEP - 1, b"answer").await?;
    lab.absent("kept for less long than it was reserved, at the end of that", 2, KEEP).await?;
    lab.absent("kept for longer than it was reserved, at the end of that", 1, 2 * KEEP).await
}
