//! What is remembered, how long, and what happens when there is no room.

use futures_util::future::join_all;

use super::lab::{Answer, Answered, Checked, KEEP, LEASE, Lab, MUCH_LATER, id, key};
use crate::store::{Claim, End, Proof, Release, StoreErrorKind};

/// Claims of others, which a store may take as an occasion to forget something, and the request to do so.
pub(super) async fn others(lab: &Lab, millis: u64) -> Checked {
    for n in 0..300 {
        let claim = lab.claim_at(10_000 + n, millis);
        let lease = lab.lease("another id", claim, Answer::Won).await?;
        lab.release("held", lease, Release::NotCharged, Ok(())).await?;
    }
    lab.forget(millis, 1000).await.map(drop)
}

pub(super) async fn spent_is_remembered(lab: &Lab) -> Checked {
    lab.spent(1, End::Delivered).await?;
    lab.spent(2, End::Refunded).await?;
    // The second holder's claim asks for a longer memory.
    lab.held(3).await?;
    let lease = lab.lease("an expired lease", lab.claim_at(3, LEASE), Answer::Resumed).await?;
    lab.settle("held", lease, 3, Ok(())).await?;
    lab.commit("settled", lease, End::Delivered, Ok(())).await?;

    for (at, what, entries) in [
        (LEASE + 1, "its lease over", &[1, 2, 3][..]),
        (KEEP - 1, "1 ms before keep_until", &[1, 2, 3]),
        (KEEP + LEASE - 1, "1 ms before a prolonged keep_until", &[3]),
    ] {
        others(lab, at).await?;
        for n in entries.iter().copied() {
            let end = if n == 2 { End::Refunded } else { End::Delivered };
            let by_other_id = lab.later(lab.claim_of(id(n + 1000), Proof::Exclusive(key(n))), at);
            let other_proof = lab.later(lab.claim_of(id(n), Proof::Exclusive(key(n + 1000))), at);
            lab.expect(&format!("a spent id, {what}"), lab.claim_at(n, at), Answer::Spent(end)).await?;
            lab.expect(&format!("a spent id, {what}, another proof"), other_proof, Answer::OtherProof).await?;
            lab.expect(&format!("the proof of a spent id, {what}"), by_other_id, Answer::OtherProof).await?;
        }
    }
    Ok(())
}

pub(super) async fn open_is_never_forgotten(lab: &Lab) -> Checked {
    lab.held(1).await?;
    lab.settled(2).await?;
    let lease = lab.held(3).await?;
    lab.release("held", lease, Release::Unknown, Ok(())).await?;
    let lease = lab.settled(4).await?;
    lab.release("settled", lease, Release::Undelivered, Ok(())).await?;
    for (years, at) in [(0, KEEP), (10, MUCH_LATER)] {
        others(lab, at).await?;
        let what = format!("{years} years after keep_until");
        let listed = lab.open().await?.len();
        if listed != 4 {
            return Err(format!("{what}: {listed} of 4 open entries are listed"));
        }
        for (n, answer) in [(1, Answer::Busy), (2, Answer::OtherProof), (3, Answer::Busy), (4, Answer::OtherProof)] {
            let by_other_id = lab.later(lab.claim_of(id(n + 1000), Proof::Exclusive(key(n))), at);
            lab.expect(&format!("the proof of an open entry, {what}"), by_other_id, answer).await?;
        }
    }
    for (n, answer) in [(1, Answer::Resumed), (2, Answer::Settled), (3, Answer::Resumed), (4, Answer::Settled)] {
        lab.expect("an open entry, ten years after keep_until", lab.claim_at(n, MUCH_LATER), answer).await?;
    }
    Ok(())
}

const FULL: Answer = Answer::Failed(StoreErrorKind::Full);

/// The store has room for eight.
pub(super) async fn full_refuses(lab: &Lab) -> Checked {
    for n in 0..3 {
        lab.spent(n, End::Delivered).await?;
    }
    for n in 3..6 {
        let lease = lab.settled(n).await?;
        lab.release("settled", lease, Release::Undelivered, Ok(())).await?;
    }
    let mut held = None;
    for n in 6..8 {
        held = Some(lab.held(n).await?);
    }
    for n in 100..150 {
        lab.expect("a full store, a further id", lab.claim_at(n, KEEP - 1), FULL).await?;
        lab.expect("a full store, a further id at the beginning", lab.claim(n), FULL).await?;
        let bound = lab.claim_of(id(n), Proof::Bound(key(n)));
        lab.expect("a full store, a further id with a bound proof", bound, FULL).await?;
    }
    for n in 0..3 {
        let spent = Answer::Spent(End::Delivered);
        lab.expect("a full store, a spent id", lab.claim_at(n, KEEP - 1), spent).await?;
        let by_other_id = Answered::from(lab.store.claim(lab.claim_of(id(n + 1000), Proof::Exclusive(key(n)))).await);
        if ![FULL, Answer::OtherProof].contains(&by_other_id.answer) {
            return Err(format!("a full store, the proof of a spent id: answered {:?}", by_other_id.answer));
        }
    }
    for n in 3..6 {
        let lease = lab.lease("a full store, a settled id", lab.claim(n), Answer::Settled).await?;
        lab.commit("a full store, a settled id", lease, End::Delivered, Ok(())).await?;
    }
    lab.expect("a full store, a held id", lab.claim(6), Answer::Busy).await?;
    lab.expect("a full store, an expired lease", lab.claim_at(6, LEASE), Answer::Resumed).await?;
    if let Some(lease) = held {
        lab.release("a full store, held", lease, Release::NotCharged, Ok(())).await?;
    }
    lab.expect("one place is free", lab.claim(100), Answer::Won).await?;
    lab.expect("full again", lab.claim(101), FULL).await.map(drop)
}

/// The store has room for eight.
pub(super) async fn room_is_counted(lab: &Lab) -> Checked {
    let claims = (0..64).map(|n| {
        let proof = if n % 2 == 0 { Proof::Exclusive(key(n)) } else { Proof::Bound(key(n)) };
        lab.store.claim(Claim { proof, ..lab.claim(n) })
    });
    let answers: Vec<_> = join_all(claims).await.into_iter().map(|answer| Answered::from(answer).answer).collect();
    let won = answers.iter().filter(|answer| **answer == Answer::Won).count();
    match answers.iter().find(|answer| ![Answer::Won, FULL].contains(answer)) {
        Some(answer) => Err(format!("concurrent claims with room for 8: one was answered {answer:?}")),
        None if won != 8 => Err(format!("concurrent claims with room for 8: {won} were won")),
        None => Ok(()),
    }
}

/// How many spent entries there are to forget.
const MANY: u64 = 20;

pub(super) async fn forgets_what_may(lab: &Lab) -> Checked {
    for n in 0..MANY {
        lab.spent(n, if n % 2 == 0 { End::Delivered } else { End::Refunded }).await?;
    }
    // Open money, of every kind.
    lab.held(100).await?;
    lab.settled(101).await?;
    lab.refunding(102).await?;
    let lease = lab.settled(103).await?;
    lab.put_off("settled", lease, LEASE, Ok(())).await?;
    let lease = lab.settled(104).await?;
    lab.release("settled", lease, Release::NotRefundable, Ok(())).await?;
    // Remembered longer, and an end that can still be taken back when it might be forgotten.
    let longer = Claim { keep_until: lab.at(KEEP + 1), ..lab.claim(105) };
    let lease = lab.lease("a first claim", longer, Answer::Won).await?;
    lab.settle("held", lease, 105, Ok(())).await?;
    lab.commit("settled", lease, End::Delivered, Ok(())).await?;
    let taken_back = lab.settled(106).await?;
    lab.renew("settled", taken_back, 2 * KEEP, Ok(())).await?;
    lab.commit("settled", taken_back, End::Delivered, Ok(())).await?;

    let early = lab.forget(KEEP - 1, 1000).await?;
    if early != 0 {
        return Err(format!("1 ms before keep_until: {early} entries were forgotten"));
    }
    for n in 0..MANY {
        let end = if n % 2 == 0 { End::Delivered } else { End::Refunded };
        let what = "a spent id, 1 ms before keep_until, after `forget`";
        lab.expect(what, lab.claim_at(n, KEEP - 1), Answer::Spent(end)).await?;
    }
    if lab.forget(KEEP, 0).await? != 0 {
        return Err("asked to forget at most none, it has forgotten some".into());
    }
    let mut forgotten = 0;
    loop {
        let some = lab.forget(KEEP, 7).await?;
        forgotten += some;
        if some > 7 || forgotten as u64 > MANY {
            return Err(format!("of {MANY} entries it has forgotten {forgotten}, {some} of them when asked for 7"));
        }
        if some == 0 {
            break;
        }
    }
    let what = "after `forget`";
    for n in 0..MANY {
        let answer = lab.later(lab.claim_of(id(n), Proof::Exclusive(key(n + 1000))), KEEP);
        lab.expect(&format!("{what}, a forgotten id with another proof"), answer, Answer::Won).await?;
        let answer = lab.later(lab.claim_of(id(n + 1000), Proof::Exclusive(key(n))), KEEP);
        lab.expect(&format!("{what}, a forgotten proof for another id"), answer, Answer::Won).await?;
    }
    for n in 100..105 {
        let by_other_id = lab.later(lab.claim_of(id(n + 1000), Proof::Exclusive(key(n))), KEEP);
        let answer = if n == 100 { Answer::Busy } else { Answer::OtherProof };
        lab.expect(&format!("{what}, the proof of open money"), by_other_id, answer).await?;
        lab.entry(&format!("{what}, open money"), n).await?;
        lab.found(&format!("{what}, open money"), n).await?;
    }
    let longer = Answer::Spent(End::Delivered);
    lab.expect(&format!("{what}, remembered longer"), lab.claim_at(105, KEEP), longer).await?;
    lab.release(&format!("{what}, an end that can be taken back"), taken_back, Release::Undelivered, Ok(())).await?;
    lab.entry(&format!("{what}, an end that was taken back"), 106).await.map(drop)
}
