//! How an entry ends, and how a lease is given up.

use super::lab::{Answer, CONFLICT, Checked, KEEP, LEASE, LEASE_LOST, Lab, id, key};
use crate::store::{End, Proof, Release};

/// Another id with the proof of entry `n`.
fn other_id(lab: &Lab, n: u64) -> crate::store::Claim {
    lab.claim_of(id(n + 1000), Proof::Exclusive(key(n)))
}

/// Entry `n` with another proof.
fn other_proof(lab: &Lab, n: u64) -> crate::store::Claim {
    lab.claim_of(id(n), Proof::Exclusive(key(n + 1000)))
}

pub(super) async fn not_charged_frees(lab: &Lab) -> Checked {
    let lease = lab.held(1).await?;
    lab.release("held", lease, Release::NotCharged, Ok(())).await?;
    if !lab.open().await?.is_empty() {
        return Err("after NotCharged the entry is still listed".into());
    }
    lab.expect("the id, with another proof", other_proof(lab, 1), Answer::Won).await?;
    lab.expect("the proof, for another id", other_id(lab, 1), Answer::Won).await?;
    // Also when it was certain only after somebody else had been in doubt.
    let lease = lab.held(2).await?;
    lab.release("held", lease, Release::Unknown, Ok(())).await?;
    let lease = lab.lease("given up", lab.claim(2), Answer::Resumed).await?;
    lab.release("held", lease, Release::NotCharged, Ok(())).await?;
    lab.expect("the proof, for another id", other_id(lab, 2), Answer::Won).await?;
    lab.expect("the id, with the proof that another id has now", lab.claim(2), Answer::Busy).await.map(drop)
}

pub(super) async fn unknown_stays_held(lab: &Lab) -> Checked {
    let lease = lab.held(1).await?;
    lab.release("held", lease, Release::Unknown, Ok(())).await?;
    lab.entry("after Unknown", 1).await?;
    lab.expect("after Unknown, another proof", other_proof(lab, 1), Answer::Busy).await?;
    lab.expect("after Unknown, another id with the proof", other_id(lab, 1), Answer::Busy).await?;
    lab.expect("after Unknown, before the lease would have ended", lab.claim_at(1, 1), Answer::Resumed).await.map(drop)
}

pub(super) async fn undelivered_stays_settled(lab: &Lab) -> Checked {
    let lease = lab.settled(1).await?;
    lab.release("settled", lease, Release::Undelivered, Ok(())).await?;
    lab.entry("after Undelivered", 1).await?;
    lab.expect("after Undelivered, another proof", other_proof(lab, 1), Answer::OtherProof).await?;
    lab.expect("after Undelivered, another id with the proof", other_id(lab, 1), Answer::OtherProof).await?;
    let what = "after Undelivered, before the lease would have ended";
    let answered = lab.expect(what, lab.claim_at(1, 1), Answer::Settled).await?;
    if answered.settlement != Some(lab.settlement(1)) {
        return Err(format!("after Undelivered: {:?} was settled", answered.settlement));
    }
    Ok(())
}

pub(super) async fn take_back(lab: &Lab) -> Checked {
    let what = "an end that was taken back";
    let lease = lab.spent(1, End::Delivered).await?;
    let before = lab.open().await?.len();
    // Claims of others, until just before the lease ends, must not cost what a take-back needs.
    for n in 2..100 {
        lab.expect("another id", lab.claim_at(n, LEASE - 1), Answer::Won).await?;
    }
    lab.expect("delivered", lab.claim_at(1, LEASE - 1), Answer::Spent(End::Delivered)).await?;
    lab.release("delivered, 1 ms before the lease ends", lease, Release::Undelivered, Ok(())).await?;
    let entry = lab.entry(what, 1).await?;
    if before != 0 || entry.settlement() != Some(&lab.settlement(1)) || entry.record != lab.claim(1).record {
        return Err(format!("{what}: listed as {entry:?}"));
    }
    lab.release(what, lease, Release::Undelivered, LEASE_LOST).await?;
    lab.commit(what, lease, End::Delivered, LEASE_LOST).await?;
    lab.expect("an end that was taken back, another id", other_id(lab, 1), Answer::OtherProof).await?;
    // Open again, so no age ends it.
    let lease = lab.lease(what, lab.claim_at(1, 2 * KEEP), Answer::Settled).await?;
    lab.refund(what, lease, Ok(())).await?;
    lab.commit(what, lease, End::Refunded, Ok(())).await?;
    lab.expect("refunded after that", lab.claim_at(1, 2 * KEEP), Answer::Spent(End::Refunded)).await.map(drop)
}

pub(super) async fn settle_again(lab: &Lab) -> Checked {
    let lease = lab.settled(1).await?;
    lab.unchanged("settled twice", 1, async {
        lab.settle("settled twice", lease, 1, Ok(())).await?;
        lab.settle("settled with something else", lease, 2, CONFLICT).await
    })
    .await?;
    lab.expect("settled twice", lab.claim_at(1, LEASE - 1), Answer::Busy).await?;
    let lease = lab.lease("an expired lease", lab.claim_at(1, LEASE), Answer::Settled).await?;
    lab.unchanged("settled by a second holder", 1, async {
        lab.settle("the same, settled by a second holder", lease, 1, Ok(())).await?;
        lab.settle("something else, settled by a second holder", lease, 2, CONFLICT).await
    })
    .await
}

pub(super) async fn commit_again(lab: &Lab) -> Checked {
    for (n, end, other) in [(1, End::Delivered, End::Refunded), (2, End::Refunded, End::Delivered)] {
        let lease = lab.spent(n, end).await?;
        lab.commit("committed twice", lease, end, Ok(())).await?;
        lab.commit("committed with another end", lease, other, CONFLICT).await?;
        lab.expect("committed twice", lab.claim(n), Answer::Spent(end)).await?;
    }
    Ok(())
}

pub(super) async fn wrong_state(lab: &Lab) -> Checked {
    let held = lab.held(1).await?;
    lab.unchanged("held", 1, async {
        lab.commit("held", held, End::Delivered, CONFLICT).await?;
        lab.commit("held", held, End::Refunded, CONFLICT).await?;
        lab.release("held", held, Release::Undelivered, CONFLICT).await
    })
    .await?;
    lab.expect("held, after conflicts", lab.claim_at(1, 1), Answer::Busy).await?;

    let settled = lab.settled(2).await?;
    lab.unchanged("settled", 2, async {
        lab.release("settled", settled, Release::NotCharged, CONFLICT).await?;
        lab.release("settled", settled, Release::Unknown, CONFLICT).await
    })
    .await?;
    lab.expect("settled, after conflicts", lab.claim_at(2, 1), Answer::Busy).await?;

    for (n, end) in [(3, End::Delivered), (4, End::Refunded)] {
        let spent = lab.spent(n, end).await?;
        lab.settle("ended", spent, n, CONFLICT).await?;
        lab.release("ended", spent, Release::NotCharged, CONFLICT).await?;
        lab.release("ended", spent, Release::Unknown, CONFLICT).await?;
        if end == End::Refunded {
            lab.release("refunded", spent, Release::Undelivered, CONFLICT).await?;
        }
        lab.expect("ended, after conflicts", lab.claim(n), Answer::Spent(end)).await?;
        lab.expect("ended, after conflicts, another id", other_id(lab, n), Answer::OtherProof).await?;
    }
    Ok(())
}
