//! Leases: how long they last, and what they are worth.

use std::sync::Arc;

use super::lab::{Answer, Checked, KEEP, LEASE, LEASE_LOST, Lab, id, same_entry};
use crate::store::{Claim, End, Lease, Release};

pub(super) async fn boundary(lab: &Lab) -> Checked {
    lab.held(1).await?;
    lab.expect("1 ms before the lease ends", lab.claim_at(1, LEASE - 1), Answer::Busy).await?;
    lab.expect("at the instant at which the lease ends", lab.claim_at(1, LEASE), Answer::Resumed).await?;
    lab.settled(2).await?;
    lab.expect("settled, 1 ms before the lease ends", lab.claim_at(2, LEASE - 1), Answer::Busy).await?;
    lab.expect("settled, at the instant at which the lease ends", lab.claim_at(2, LEASE), Answer::Settled).await?;
    // A lease that has ended before it began.
    let over = Claim { lease_until: lab.at(0), ..lab.claim(3) };
    lab.expect("a first claim", over, Answer::Won).await?;
    lab.expect("a lease that ends at once", lab.claim_at(3, 0), Answer::Resumed).await.map(drop)
}

pub(super) async fn renewal(lab: &Lab) -> Checked {
    let lease = lab.held(1).await?;
    lab.renew("a lease at work", lease, 2 * LEASE, Ok(())).await?;
    lab.expect("at the old end of a renewed lease", lab.claim_at(1, LEASE), Answer::Busy).await?;
    lab.expect("1 ms before the new end", lab.claim_at(1, 2 * LEASE - 1), Answer::Busy).await?;
    lab.settle("a renewed lease", lease, 1, Ok(())).await?;
    lab.renew("the lease of a settled entry", lease, 3 * LEASE, Ok(())).await?;
    lab.expect("1 ms before the newest end", lab.claim_at(1, 3 * LEASE - 1), Answer::Busy).await?;
    lab.expect("at the newest end", lab.claim_at(1, 3 * LEASE), Answer::Settled).await.map(drop)
}

pub(super) async fn expired_is_good(lab: &Lab) -> Checked {
    // Somebody else has looked, long after the lease ended, but not taken it over.
    let what = "an expired lease that nobody has taken over";
    let lease = lab.held(1).await?;
    lab.expect("another id", lab.claim_at(2, 2 * KEEP), Answer::Won).await?;
    lab.settle(what, lease, 1, Ok(())).await?;
    lab.expect("another id", lab.claim_at(3, 2 * KEEP), Answer::Won).await?;
    lab.commit(what, lease, End::Delivered, Ok(())).await?;
    let lease = lab.held(4).await?;
    lab.expect("another id", lab.claim_at(5, 2 * KEEP), Answer::Won).await?;
    lab.renew(what, lease, 3 * KEEP, Ok(())).await?;
    lab.expect("a lease that was renewed after it had expired", lab.claim_at(4, 2 * KEEP), Answer::Busy).await?;
    lab.release(what, lease, Release::NotCharged, Ok(())).await
}

pub(super) async fn tokens_grow(lab: &Lab) -> Checked {
    let mut last = lab.held(1).await?;
    let mut grow = |what: &str, lease: Lease| {
        if lease.token <= last.token {
            return Err(format!("{what}: token {} after token {}", lease.token, last.token));
        }
        last = lease;
        Ok(lease)
    };
    let claim = |millis| lab.claim_at(1, millis);
    let lease = grow("taken over", lab.lease("an expired lease", claim(LEASE), Answer::Resumed).await?)?;
    lab.release("held", lease, Release::Unknown, Ok(())).await?;
    let lease = grow("after Unknown", lab.lease("given up", claim(LEASE), Answer::Resumed).await?)?;
    lab.release("held", lease, Release::NotCharged, Ok(())).await?;
    // The entry was absent, but a token of its past must not fit.
    let lease = grow("after NotCharged", lab.lease("absent again", claim(LEASE), Answer::Won).await?)?;
    lab.settle("held", lease, 1, Ok(())).await?;
    lab.release("settled", lease, Release::Undelivered, Ok(())).await?;
    let lease = grow("after Undelivered", lab.lease("given up", claim(LEASE), Answer::Settled).await?)?;
    lab.commit("settled", lease, End::Delivered, Ok(())).await?;
    lab.release("delivered", lease, Release::Undelivered, Ok(())).await?;
    grow("after an end was taken back", lab.lease("taken back", claim(LEASE), Answer::Settled).await?).map(drop)
}

/// Leases for entry `n` that are worth nothing: `old` was taken over by `present`.
pub(super) fn worthless(n: u64, old: Lease, present: Lease) -> [(&'static str, Lease); 4] {
    [
        ("a lease that was taken over", old),
        ("a token that was never given out", Lease { id: id(n), token: present.token.saturating_add(1) }),
        ("a token before all others", Lease { id: id(n), token: 0 }),
        ("a lease of an id that was never claimed", Lease { id: id(n + 1000), token: present.token }),
    ]
}

/// Entry `n`, held and taken over once.
pub(super) async fn taken_over(lab: &Lab, n: u64) -> Checked<(Lease, Lease)> {
    let old = lab.held(n).await?;
    let present = lab.lease("an expired lease", lab.claim_at(n, LEASE), Answer::Resumed).await?;
    Ok((old, present))
}

pub(super) async fn fenced_renew(lab: &Lab) -> Checked {
    let (old, present) = taken_over(lab, 1).await?;
    for (what, lease) in worthless(1, old, present) {
        lab.unchanged(what, 1, lab.renew(what, lease, 9 * LEASE, LEASE_LOST)).await?;
    }
    lab.renew("the present lease", present, 3 * LEASE, Ok(())).await
}

pub(super) async fn fenced_settle(lab: &Lab) -> Checked {
    let (old, present) = taken_over(lab, 1).await?;
    for (what, lease) in worthless(1, old, present) {
        lab.unchanged(what, 1, lab.settle(what, lease, 2, LEASE_LOST)).await?;
    }
    lab.settle("the present lease", present, 1, Ok(())).await?;
    let what = "a lease that was taken over, the entry settled";
    lab.unchanged(what, 1, lab.settle(what, old, 1, LEASE_LOST)).await
}

pub(super) async fn fenced_commit(lab: &Lab) -> Checked {
    let (old, present) = taken_over(lab, 1).await?;
    lab.settle("the present lease", present, 1, Ok(())).await?;
    for (what, lease) in worthless(1, old, present) {
        for end in [End::Delivered, End::Refunded] {
            lab.unchanged(what, 1, lab.commit(what, lease, end, LEASE_LOST)).await?;
        }
    }
    // A slow delivery loses against the one that took over from it.
    let newest = lab.lease("an expired lease", lab.claim_at(1, 2 * LEASE), Answer::Settled).await?;
    let what = "a delivery that was taken over";
    lab.unchanged(what, 1, lab.commit(what, present, End::Delivered, LEASE_LOST)).await?;
    lab.refund("the present lease", newest, Ok(())).await?;
    lab.commit("the present lease", newest, End::Refunded, Ok(())).await?;
    lab.commit("a delivery that was taken over, the entry refunded", present, End::Delivered, LEASE_LOST).await?;
    lab.expect("the entry", lab.claim(1), Answer::Spent(End::Refunded)).await.map(drop)
}

pub(super) async fn fenced_release(lab: &Lab) -> Checked {
    let (old, present) = taken_over(lab, 1).await?;
    for (what, lease) in worthless(1, old, present) {
        for reason in [Release::NotCharged, Release::Unknown, Release::Undelivered] {
            lab.unchanged(what, 1, lab.release(what, lease, reason, LEASE_LOST)).await?;
        }
        lab.expect("the present lease is at work", lab.claim_at(1, LEASE), Answer::Busy).await?;
    }
    lab.settle("the present lease", present, 1, Ok(())).await?;
    let what = "a lease that was taken over, the entry settled";
    for reason in [Release::NotCharged, Release::Unknown, Release::Undelivered] {
        lab.unchanged(what, 1, lab.release(what, old, reason, LEASE_LOST)).await?;
    }
    lab.expect("the present lease is at work", lab.claim_at(1, LEASE), Answer::Busy).await?;
    lab.commit("the present lease", present, End::Delivered, Ok(())).await?;
    let what = "a lease that was taken over, the entry delivered";
    lab.release(what, old, Release::Undelivered, LEASE_LOST).await?;
    lab.expect(what, lab.claim_at(1, LEASE), Answer::Spent(End::Delivered)).await.map(drop)
}

pub(super) async fn given_up_is_gone(lab: &Lab) -> Checked {
    let what = "a lease that was given up as Unknown";
    let lease = lab.held(1).await?;
    lab.release("held", lease, Release::Unknown, Ok(())).await?;
    lab.unchanged(what, 1, async {
        lab.renew(what, lease, 9 * LEASE, LEASE_LOST).await?;
        lab.settle(what, lease, 1, LEASE_LOST).await?;
        lab.commit(what, lease, End::Delivered, LEASE_LOST).await?;
        lab.release(what, lease, Release::NotCharged, LEASE_LOST).await?;
        lab.release(what, lease, Release::Unknown, LEASE_LOST).await
    })
    .await?;
    lab.expect(what, lab.claim(1), Answer::Resumed).await?;

    let what = "a lease that was given up as Undelivered";
    let lease = lab.settled(2).await?;
    lab.release("settled", lease, Release::Undelivered, Ok(())).await?;
    lab.unchanged(what, 2, async {
        lab.renew(what, lease, 9 * LEASE, LEASE_LOST).await?;
        lab.settle(what, lease, 2, LEASE_LOST).await?;
        lab.commit(what, lease, End::Delivered, LEASE_LOST).await?;
        lab.release(what, lease, Release::Undelivered, LEASE_LOST).await
    })
    .await?;
    lab.expect(what, lab.claim(2), Answer::Settled).await?;

    let what = "a lease that was given up as NotCharged";
    let lease = lab.held(3).await?;
    lab.release("held", lease, Release::NotCharged, Ok(())).await?;
    lab.settle(what, lease, 3, LEASE_LOST).await?;
    let newer = lab.lease("absent again", lab.claim(3), Answer::Won).await?;
    lab.unchanged(what, 3, async {
        lab.settle(what, lease, 3, LEASE_LOST).await?;
        lab.release(what, lease, Release::NotCharged, LEASE_LOST).await
    })
    .await?;
    lab.settle("the lease after it", newer, 3, Ok(())).await
}

pub(super) async fn resumed(lab: &Lab) -> Checked {
    let lease = lab.lease("a first claim", lab.claim(1), Answer::Won).await?;
    lab.release("held", lease, Release::NotCharged, Ok(())).await?;
    let lease = lab.lease("after NotCharged nothing is in doubt", lab.claim(1), Answer::Won).await?;
    lab.release("held", lease, Release::Unknown, Ok(())).await?;
    let lease = lab.lease("after Unknown", lab.claim(1), Answer::Resumed).await?;
    // Whoever takes over from somebody who resumed is in doubt too.
    lab.lease("after a lost holder that had resumed", lab.claim_at(1, LEASE), Answer::Resumed).await?;
    lab.release("a lost holder", lease, Release::NotCharged, LEASE_LOST).await?;
    lab.lease("after two lost holders", lab.claim_at(1, 2 * LEASE), Answer::Resumed).await.map(drop)
}

pub(super) async fn taken_over_as_it_is(lab: &Lab) -> Checked {
    let first = lab.held(1).await?;
    let shorter = Claim { keep_until: lab.at(1), record: Arc::from(&b"another"[..]), ..lab.claim_at(1, LEASE) };
    let lease = lab.lease("an expired lease", shorter.clone(), Answer::Resumed).await?;
    let mut expected = lab.entry("taken over", 1).await?;
    (expected.keep_until, expected.record) = (lab.at(KEEP), lab.claim(1).record);
    let found = lab.entry("taken over", 1).await?;
    same_entry(&expected, &found).map_err(|differs| format!("a claim that took over changed the {differs}"))?;
    lab.release("a lease that was taken over", first, Release::NotCharged, LEASE_LOST).await?;

    lab.settle("held", lease, 1, Ok(())).await?;
    let again = Claim { now: lab.at(2 * LEASE), lease_until: lab.at(3 * LEASE), ..shorter };
    let answered = lab.expect("an expired lease of a settled entry", again, Answer::Settled).await?;
    if answered.settlement.as_ref() != Some(&lab.settlement(1)) {
        return Err(format!("a claim that took over found {:?} settled", answered.settlement));
    }
    let found = lab.entry("taken over", 1).await?;
    if found.keep_until != lab.at(KEEP) || found.record != lab.claim(1).record {
        return Err("a claim that took a settled entry over changed its record or its keep_until".into());
    }
    Ok(())
}
