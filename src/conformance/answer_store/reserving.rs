//! Answers that are on their way.

use super::lab::{Checked, KEEP, Lab, WORK};
use crate::store::Reservation;

pub(super) async fn running(lab: &Lab) -> Checked {
    lab.absent("a fresh store", 1, 0).await?;
    lab.reserved(1).await?;
    lab.running("reserved", 1, 0, WORK).await?;
    lab.running("reserved, looked up again", 1, 0, WORK).await?;
    // Whoever was at work on it may be gone: the merchant sees that by the instant.
    lab.running("reserved, nobody at work on it any more", 1, WORK, WORK).await?;
    lab.running("reserved, 1 ms before keep_until", 1, KEEP - 1, WORK).await?;
    lab.absent("another payment", 2, 0).await
}

pub(super) async fn again(lab: &Lab) -> Checked {
    lab.reserved(1).await?;
    let renewed = Reservation { now: lab.at(WORK), until: lab.at(2 * WORK), ..lab.reservation(1) };
    lab.reserve("reserved again", renewed).await?;
    lab.running("reserved again", 1, WORK, 2 * WORK).await?;
    let longer = Reservation { keep_until: lab.at(2 * KEEP), until: lab.at(3 * WORK), ..renewed };
    lab.reserve("reserved for longer", longer).await?;
    lab.running("reserved for longer, after the first keep_until", 1, 2 * KEEP - 1, 3 * WORK).await?;
    let shorter = Reservation { keep_until: lab.at(KEEP), ..longer };
    lab.reserve("reserved again for less long", shorter).await?;
    lab.running("reserved again for less long, before the longest keep_until", 1, 2 * KEEP - 1, 3 * WORK).await?;
    // What comes after it is kept like after a first one.
    lab.keep("reserved again", 1, b"answer", KEEP).await?;
    lab.complete("reserved again, and kept", 1, KEEP - 1, b"answer").await
}

pub(super) async fn given_up(lab: &Lab) -> Checked {
    lab.reserved(1).await?;
    lab.reserved(2).await?;
    lab.give_up("reserved", 1).await?;
    lab.idle("given up", 1, 0).await?;
    lab.running("another payment, after one was given up", 2, 0, WORK).await?;
    lab.give_up("given up twice", 1).await?;
    lab.idle("given up twice", 1, 0).await?;
    lab.idle("given up, 1 ms before keep_until", 1, KEEP - 1).await?;
    lab.give_up("a payment that was never reserved", 3).await?;
    lab.absent("a payment that was never reserved", 3, 0).await?;
    lab.reserved(1).await?;
    lab.running("reserved after it was given up", 1, 0, WORK).await?;
    lab.keep("reserved after it was given up", 1, b"answer", KEEP).await?;
    lab.give_up("complete", 1).await?;
    lab.complete("complete, and given up", 1, 0, b"answer").await
}
