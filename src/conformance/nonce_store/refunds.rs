//! Money on its way back, and money that nobody may give back.

use super::{
    lab::{Answer, CONFLICT, Checked, KEEP, LEASE, LEASE_LOST, Lab, MUCH_LATER, Took, id, key, same_entry},
    leases::{taken_over, worthless},
    memory::others,
};
use crate::store::{End, EntryState, Proof, RefundReason, Release, Taken};

/// Entry `n` is being refunded, for the reason given.
async fn is_refunding(lab: &Lab, what: &str, n: u64, reason: RefundReason) -> Checked {
    let expected = EntryState::Refunding { settlement: lab.settlement(n), reason };
    let (listed, found) = (lab.entry(what, n).await?, lab.found(what, n).await?);
    if listed.state != expected || found.state != expected {
        return Err(format!("{what}: listed as {:?} and found as {:?}", listed.state, found.state));
    }
    Ok(())
}

/// Entry `n` is settled, refundable or not.
async fn is_settled(lab: &Lab, what: &str, n: u64, refundable: bool) -> Checked {
    let expected = EntryState::Settled { settlement: lab.settlement(n), refundable };
    let (listed, found) = (lab.entry(what, n).await?, lab.found(what, n).await?);
    if listed.state != expected || found.state != expected {
        return Err(format!("{what}: listed as {:?} and found as {:?}", listed.state, found.state));
    }
    Ok(())
}

pub(super) async fn journalled(lab: &Lab) -> Checked {
    let what = "money on its way back";
    let lease = lab.settled(1).await?;
    let mut expected = lab.found("settled", 1).await?;
    lab.commit("settled, and not on its way back", lease, End::Refunded, CONFLICT).await?;
    lab.refund("settled", lease, Ok(())).await?;
    is_refunding(lab, what, 1, RefundReason::Undelivered).await?;
    let found = lab.found(what, 1).await?;
    expected.state = found.state.clone();
    same_entry(&expected, &found).map_err(|differs| format!("`refund` changed the {differs}"))?;

    for at in [1, LEASE, MUCH_LATER] {
        lab.expect(what, lab.claim_at(1, at), Answer::Refunding).await?;
        let other_proof = lab.later(lab.claim_of(id(1), Proof::Exclusive(key(1001))), at);
        lab.expect("money on its way back, another proof", other_proof, Answer::OtherProof).await?;
        let other_kind = lab.later(lab.claim_of(id(1), Proof::Bound(key(1))), at);
        lab.expect("money on its way back, another kind of proof", other_kind, Answer::OtherProof).await?;
        let other_id = lab.later(lab.claim_of(id(1001), Proof::Exclusive(key(1))), at);
        lab.expect("another id with its proof", other_id, Answer::OtherProof).await?;
    }
    lab.unchanged(what, 1, async {
        lab.commit(what, lease, End::Delivered, CONFLICT).await?;
        lab.settle("money on its way back, something else", lease, 2, CONFLICT).await?;
        for reason in [Release::Undelivered, Release::NotCharged, Release::Unknown] {
            lab.release(what, lease, reason, CONFLICT).await?;
        }
        Ok(())
    })
    .await?;
    // The lease stays in force, also for its renewal.
    lab.renew(what, lease, 3 * LEASE, Ok(())).await?;
    lab.not_taken(what, 1, 3 * LEASE - 1, true, Took::Busy).await?;
    lab.commit(what, lease, End::Refunded, Ok(())).await?;
    lab.expect("refunded", lab.claim_at(1, 3 * LEASE), Answer::Spent(End::Refunded)).await?;
    lab.found_spent("refunded", 1, End::Refunded).await?;

    let held = lab.held(2).await?;
    lab.unchanged("held", 2, lab.refund("held", held, CONFLICT)).await?;
    let lease = lab.spent(3, End::Delivered).await?;
    lab.refund("delivered, with the lease that delivered it", lease, CONFLICT).await?;
    lab.expect("delivered", lab.claim(3), Answer::Spent(End::Delivered)).await?;
    lab.found_spent("delivered", 3, End::Delivered).await
}

pub(super) async fn again(lab: &Lab) -> Checked {
    let lease = lab.settled(1).await?;
    lab.refund_for("settled", lease, RefundReason::TimedOut, Ok(())).await?;
    lab.unchanged("refunded twice", 1, async {
        lab.refund_for("refunded twice", lease, RefundReason::TimedOut, Ok(())).await?;
        for reason in RefundReason::ALL.iter().filter(|reason| **reason != RefundReason::TimedOut) {
            lab.refund_for("refunded for another reason", lease, *reason, CONFLICT).await?;
        }
        Ok(())
    })
    .await?;
    // Every reason comes back as it was given, also to the next holder, who can repeat it.
    for (n, reason) in (2..).zip(RefundReason::ALL) {
        let lease = lab.settled(n).await?;
        lab.refund_for("settled", lease, *reason, Ok(())).await?;
        is_refunding(lab, "journalled", n, *reason).await?;
        let (lease, _) = lab.take("an expired lease", n, LEASE, false).await?;
        lab.unchanged("refunded by a second holder", n, lab.refund_for("the same", lease, *reason, Ok(()))).await?;
        lab.commit("refunded by a second holder", lease, End::Refunded, Ok(())).await?;
    }
    Ok(())
}

pub(super) async fn fenced(lab: &Lab) -> Checked {
    let (old, present) = taken_over(lab, 1).await?;
    lab.settle("the present lease", present, 1, Ok(())).await?;
    for (what, lease) in worthless(1, old, present) {
        lab.unchanged(what, 1, lab.refund(what, lease, LEASE_LOST)).await?;
    }
    // A slow delivery and a slow refund lose against the one that took over from them.
    let newest = lab.lease("an expired lease", lab.claim_at(1, 2 * LEASE), Answer::Settled).await?;
    let what = "a lease that a claim has taken over";
    lab.unchanged(what, 1, lab.refund(what, present, LEASE_LOST)).await?;
    let (taken, _) = lab.take("an expired lease", 1, 3 * LEASE, false).await?;
    let what = "a lease that was taken";
    lab.unchanged(what, 1, lab.refund(what, newest, LEASE_LOST)).await?;
    lab.refund("the present lease", taken, Ok(())).await?;
    lab.unchanged(what, 1, async {
        lab.refund(what, newest, LEASE_LOST).await?;
        lab.commit(what, newest, End::Refunded, LEASE_LOST).await?;
        lab.release(what, newest, Release::NotRefundable, LEASE_LOST).await
    })
    .await?;
    lab.release("the present lease", taken, Release::NotRefundable, Ok(())).await?;
    let what = "a lease that was given up";
    lab.unchanged(what, 1, lab.refund(what, taken, LEASE_LOST)).await
}

pub(super) async fn not_refundable(lab: &Lab) -> Checked {
    let what = "money that nobody may give back unasked";
    let lease = lab.settled(1).await?;
    lab.release("settled", lease, Release::NotRefundable, Ok(())).await?;
    is_settled(lab, what, 1, false).await?;
    lab.renew(what, lease, 9 * LEASE, LEASE_LOST).await?;
    let other_proof = lab.claim_of(id(1), Proof::Exclusive(key(1001)));
    lab.expect("another proof", other_proof, Answer::OtherProof).await?;
    let lease = lab.lease("before the lease would have ended", lab.claim_at(1, 1), Answer::Settled).await?;
    is_settled(lab, "claimed after NotRefundable", 1, false).await?;
    lab.release("settled", lease, Release::Undelivered, Ok(())).await?;
    is_settled(lab, "claimed and given back after NotRefundable", 1, false).await?;
    let (lease, _) = lab.take("given up", 1, 2, false).await?;
    is_settled(lab, "taken after NotRefundable", 1, false).await?;
    // Asked for, it is tried, and refused by the rail.
    lab.refund_for("settled", lease, RefundReason::Requested, Ok(())).await?;
    lab.release("on its way back", lease, Release::NotRefundable, Ok(())).await?;
    is_settled(lab, "asked for, and refused", 1, false).await?;
    let lease = lab.lease("asked for, and refused", lab.claim_at(1, 3), Answer::Settled).await?;
    lab.commit("settled", lease, End::Delivered, Ok(())).await?;
    lab.release("delivered", lease, Release::Undelivered, Ok(())).await?;
    is_settled(lab, "an end that was taken back after NotRefundable", 1, false).await?;

    let what = "on its way back, and refused by the rail";
    let lease = lab.refunding(2).await?;
    lab.release("on its way back", lease, Release::NotRefundable, Ok(())).await?;
    is_settled(lab, what, 2, false).await?;
    lab.renew(what, lease, 9 * LEASE, LEASE_LOST).await?;
    let answered = lab.expect(what, lab.claim_at(2, 1), Answer::Settled).await?;
    if answered.settlement != Some(lab.settlement(2)) {
        return Err(format!("{what}: {:?} was settled", answered.settlement));
    }
    let lease = answered.lease.ok_or("settled, without a lease")?;
    lab.commit(what, lease, End::Delivered, Ok(())).await?;
    lab.expect(what, lab.claim_at(2, 2), Answer::Spent(End::Delivered)).await?;

    let held = lab.held(3).await?;
    lab.unchanged("held", 3, lab.release("held", held, Release::NotRefundable, CONFLICT)).await?;
    for (n, end) in [(4, End::Delivered), (5, End::Refunded)] {
        let lease = lab.spent(n, end).await?;
        lab.release("ended", lease, Release::NotRefundable, CONFLICT).await?;
        lab.expect("ended", lab.claim(n), Answer::Spent(end)).await?;
    }
    // What was never said is not so.
    lab.settled(6).await?;
    is_settled(lab, "settled", 6, true).await
}

/// Delivered entries number 1 to 4 are asked for. A store that has dropped what was settled says that they
/// are delivered.
pub(super) async fn delivered_stays(lab: &Lab) -> Checked {
    let delivered = End::Delivered;
    for n in 1..=4 {
        let what = format!("delivered, in way {n}");
        let old = lab.spent(n, delivered).await?;
        lab.not_taken(&what, n, LEASE - 1, false, Took::Spent(delivered)).await?;
        lab.not_taken(&format!("{what}, the lease at work"), n, LEASE - 1, true, Took::Busy).await?;
        lab.not_taken(&what, n, LEASE, false, Took::Spent(delivered)).await?;
        let (lease, entry) = match lab.try_take(n, LEASE, true).await {
            Ok(Taken::Won { lease, entry }) => (lease, entry),
            taken => {
                let found = Took::of(&taken);
                if found != Took::Spent(delivered) {
                    return Err(format!("{what}: asked for, and answered {found:?}"));
                }
                lab.expect(&what, lab.claim_at(n, LEASE), Answer::Spent(delivered)).await?;
                continue;
            }
        };
        if entry.settlement() != Some(&lab.settlement(n)) {
            return Err(format!("{what}: handed out with the settlement {:?}", entry.settlement()));
        }
        still_delivered(lab, &format!("{what}, asked for"), n).await?;
        lab.not_taken(&format!("{what}, asked for twice"), n, 2 * LEASE - 1, true, Took::Busy).await?;
        let lost = format!("{what}, with the lease that delivered it");
        lab.release(&lost, old, Release::Undelivered, LEASE_LOST).await?;
        lab.refund(&lost, old, LEASE_LOST).await?;
        for reason in [Release::Undelivered, Release::NotCharged, Release::Unknown, Release::NotRefundable] {
            lab.release(&format!("{what}, asked for"), lease, reason, CONFLICT).await?;
        }
        lab.commit(&format!("{what}, asked for"), lease, End::Refunded, CONFLICT).await?;
        still_delivered(lab, &format!("{what}, asked for, after conflicts"), n).await?;
        if n == 1 {
            lab.put_off(&what, lease, 9 * LEASE, Ok(())).await?;
            still_delivered(lab, &format!("{what}, put off"), n).await?;
            lab.refund(&format!("{what}, put off"), lease, LEASE_LOST).await?;
            continue;
        }
        if n == 2 {
            // Nobody does anything with the lease.
            lab.expect(&what, lab.claim_at(n, 2 * LEASE), Answer::Spent(delivered)).await?;
            continue;
        }

        lab.refund_for(&what, lease, RefundReason::Requested, Ok(())).await?;
        let what = format!("{what}, on its way back");
        is_refunding(lab, &what, n, RefundReason::Requested).await?;
        lab.expect(&what, lab.claim_at(n, 2 * LEASE), Answer::Refunding).await?;
        let by_other_id = lab.later(lab.claim_of(id(n + 1000), Proof::Exclusive(key(n))), 2 * KEEP);
        lab.expect(&format!("{what}, its proof"), by_other_id, Answer::OtherProof).await?;
        lab.unchanged(&what, n, async {
            lab.commit(&what, lease, delivered, CONFLICT).await?;
            lab.release(&what, lease, Release::Undelivered, CONFLICT).await
        })
        .await?;
        if n == 3 {
            lab.commit(&what, lease, End::Refunded, Ok(())).await?;
            lab.expect("delivered and refunded", lab.claim_at(n, LEASE), Answer::Spent(End::Refunded)).await?;
            lab.found_spent("delivered and refunded", n, End::Refunded).await?;
        } else {
            lab.release(&what, lease, Release::NotRefundable, Ok(())).await?;
            let what = "delivered once, its refund refused by the rail";
            still_delivered(lab, what, n).await?;
            lab.refund_for(what, lease, RefundReason::Requested, LEASE_LOST).await?;
        }
    }
    Ok(())
}

/// Entry `n` is `Spent(Delivered)`, for claims at the instant at which the first leases end.
async fn still_delivered(lab: &Lab, what: &str, n: u64) -> Checked {
    lab.expect(what, lab.claim_at(n, LEASE), Answer::Spent(End::Delivered)).await?;
    let other_proof = lab.later(lab.claim_of(id(n), Proof::Exclusive(key(n + 1000))), LEASE);
    lab.expect(&format!("{what}, another proof"), other_proof, Answer::OtherProof).await?;
    lab.found_spent(what, n, End::Delivered).await?;
    let open = lab.open().await?.iter().any(|entry| entry.id == id(n));
    if open { Err(format!("{what}: it is listed as open money")) } else { Ok(()) }
}

pub(super) async fn never_forgotten(lab: &Lab) -> Checked {
    lab.refunding(1).await?;
    let lease = lab.refunding(2).await?;
    lab.put_off("on its way back", lease, 2 * KEEP, Ok(())).await?;
    for (years, at) in [(0, KEEP), (10, MUCH_LATER)] {
        others(lab, at).await?;
        let what = format!("on its way back, {years} years after keep_until");
        for n in [1, 2] {
            is_refunding(lab, &what, n, RefundReason::Undelivered).await?;
            lab.expect(&what, lab.claim_at(n, at), Answer::Refunding).await?;
            let by_other_id = lab.later(lab.claim_of(id(n + 1000), Proof::Exclusive(key(n))), at);
            lab.expect(&format!("{what}, its proof"), by_other_id, Answer::OtherProof).await?;
        }
    }
    for n in [1, 2] {
        let (lease, _) = lab.take("on its way back for ten years", n, MUCH_LATER, false).await?;
        lab.commit("on its way back for ten years", lease, End::Refunded, Ok(())).await?;
        lab.found_spent("refunded after ten years", n, End::Refunded).await?;
    }
    Ok(())
}
