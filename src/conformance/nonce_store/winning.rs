//! Who wins a claim.

use std::{sync::Arc, thread, time::Duration};

use futures_util::future::join_all;

use super::{
    lab::{Answer, Answered, Checked, KEEP, LEASE, Lab, id, key},
    threads,
};
use crate::{
    method::Settlement,
    protocol::Timestamp,
    store::{Claim, End, NonceStore, Proof, Release},
};

const CONCURRENT: u64 = 64;

pub(super) async fn per_id(lab: &Lab) -> Checked {
    let fresh = join_all((0..CONCURRENT).map(|_| lab.store.claim(lab.claim(1)))).await;
    one_of(fresh, Answer::Won, &[Answer::Busy], "concurrent claims of one id")?;
    let expired = join_all((0..CONCURRENT).map(|_| lab.store.claim(lab.claim_at(1, LEASE)))).await;
    one_of(expired, Answer::Resumed, &[Answer::Busy], "concurrent claims of a held id whose lease has expired")?;

    let lease = lab.settled(2).await?;
    lab.release("a settled entry", lease, Release::Undelivered, Ok(())).await?;
    let settled = join_all((0..CONCURRENT).map(|_| lab.store.claim(lab.claim(2)))).await;
    one_of(settled, Answer::Settled, &[Answer::Busy], "concurrent claims of a settled id whose lease was given up")
}

pub(super) async fn per_proof(lab: &Lab) -> Checked {
    let proof = Proof::Exclusive(key(1));
    let claims = (0..CONCURRENT).map(|n| lab.store.claim(lab.claim_of(id(n), proof)));
    let answers = join_all(claims).await;
    one_of(answers, Answer::Won, &[Answer::Busy], "concurrent claims with one exclusive proof")?;
    let open = lab.open().await?.len();
    if open == 1 { Ok(()) } else { Err(format!("concurrent claims with one exclusive proof: {open} entries are open")) }
}

/// Exactly one answer is `winner` and all others are among `losers`.
fn one_of(
    answers: impl IntoIterator<Item = impl Into<Answered>>,
    winner: Answer,
    losers: &[Answer],
    what: &str,
) -> Checked {
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.into().answer).collect();
    let winners = answers.iter().filter(|answer| **answer == winner).count();
    if winners != 1 {
        return Err(format!("{what}: {winners} of {} were answered {winner:?} instead of one", answers.len()));
    }
    match answers.iter().find(|answer| **answer != winner && !losers.contains(answer)) {
        Some(answer) => Err(format!("{what}: one was answered {answer:?} instead of one of {losers:?}")),
        None => Ok(()),
    }
}

/// Ids of which each two share an exclusive proof: one id of each pair can pay.
const PAIRS: u64 = 24;
const THREADS: u64 = 8;
/// In steps of this a worker comes by every id.
const ORDER: u64 = 5;
/// How often a worker asks again for what is busy, before it says that it stays so.
const PATIENCE: u32 = 2000;
/// How often of those it does not wait in between.
const HASTE: u32 = 20;

/// Every worker tries to win, to take over and to deliver everything. What all of them did together must
/// be exactly once each.
pub(super) async fn on_threads(lab: &Lab) -> Checked {
    let claim = |n| lab.claim_of(id(n), Proof::Exclusive(key(n / 2)));
    let workers = (0..THREADS).map(|number| {
        let worker = Worker {
            store: Arc::clone(&lab.store),
            claims: (0..2 * PAIRS).map(|n| claim((n * ORDER + number) % (2 * PAIRS))).collect(),
            expired: lab.at(LEASE),
            lease_until: lab.at(KEEP),
        };
        worker.run()
    });
    let mut sum = Done::default();
    for done in threads::run(workers).await? {
        sum.won += done.won;
        sum.resumed += done.resumed;
        sum.delivered += done.delivered;
    }
    let expected = Done { won: PAIRS, resumed: PAIRS, delivered: PAIRS };
    if sum == expected {
        Ok(())
    } else {
        Err(format!("{THREADS} threads over {PAIRS} proofs for two ids each: {sum:?} instead of {expected:?}"))
    }
}

/// How often something was done.
#[derive(Debug, Default, PartialEq)]
struct Done {
    won: u64,
    resumed: u64,
    delivered: u64,
}

struct Worker {
    store: Arc<dyn NonceStore>,
    /// In an order of its own.
    claims: Vec<Claim>,
    /// When the leases of the first claims have expired.
    expired: Timestamp,
    lease_until: Timestamp,
}

impl Worker {
    async fn run(self) -> Checked<Done> {
        let mut done = Done::default();
        // Win once, and be lost.
        for claim in &self.claims {
            let answer = Answered::from(self.store.claim(claim.clone()).await);
            done.won += u64::from(answer.answer == Answer::Won);
        }
        // Take over once, settle, and fail to deliver; find that settled once, and deliver. What is busy is
        // another worker's for now, and asked for again when the rest was.
        let mut pending = self.claims;
        for round in 0..PATIENCE {
            let mut busy = Vec::new();
            for claim in pending {
                let claim = Claim { now: self.expired, lease_until: self.lease_until, ..claim };
                if !go_on(&*self.store, &claim, &mut done).await? {
                    busy.push(claim);
                }
            }
            if busy.is_empty() {
                return Ok(done);
            }
            pending = busy;
            // The thread is the worker's own.
            if round < HASTE { thread::yield_now() } else { thread::sleep(Duration::from_millis(1)) }
        }
        Err(format!("on threads: {} entries stay busy", pending.len()))
    }
}

/// One claim, and the next step if it is granted. Answers whether the entry is over.
async fn go_on(store: &dyn NonceStore, claim: &Claim, done: &mut Done) -> Checked<bool> {
    let answered = Answered::from(store.claim(claim.clone()).await);
    let step = match (answered.answer, answered.lease) {
        // Somebody has won it before, or should have: the sum tells.
        (Answer::Won, Some(lease)) => {
            done.won += 1;
            store.release(lease, Release::Unknown).await
        }
        (Answer::Resumed, Some(lease)) => {
            done.resumed += 1;
            let settled = store.settle(lease, &Settlement::new("on a thread", claim.now)).await;
            settled.and(store.release(lease, Release::Undelivered).await)
        }
        (Answer::Settled, Some(lease)) => {
            done.delivered += 1;
            store.commit(lease, End::Delivered).await
        }
        (Answer::Spent(End::Delivered) | Answer::OtherProof, _) => return Ok(true),
        (Answer::Busy, _) => Ok(()),
        (answer, _) => return Err(format!("a claim on a thread was answered {answer:?}")),
    };
    step.map_err(|error| format!("the winner on a thread: {error}"))?;
    Ok(false)
}

pub(super) async fn answers(lab: &Lab) -> Checked {
    let with = |n, proof, millis| lab.later(lab.claim_of(id(n), proof), millis);
    // What entry 1 is in, what a claim of it is answered at an instant, and what its proof is for another id.
    struct Row {
        what: &'static str,
        at: u64,
        other_proof: Answer,
        by_other_id: Answer,
        same_proof: Answer,
    }
    let rows = |same_at_work, same_expired, other_at_work, other_expired, by_other_id| {
        [
            Row { what: "at work", at: 1, other_proof: other_at_work, by_other_id, same_proof: same_at_work },
            Row { what: "expired", at: LEASE, other_proof: other_expired, by_other_id, same_proof: same_expired },
        ]
    };
    use Answer::{Busy, OtherProof, Refunding, Resumed, Settled, Spent};
    let delivered = Spent(End::Delivered);
    let refunded = Spent(End::Refunded);
    for (n, state, rows) in [
        (100, "held", rows(Busy, Resumed, Busy, Busy, Busy)),
        (200, "settled", rows(Busy, Settled, OtherProof, OtherProof, OtherProof)),
        (300, "delivered", rows(delivered, delivered, OtherProof, OtherProof, OtherProof)),
        (400, "refunded", rows(refunded, refunded, OtherProof, OtherProof, OtherProof)),
        (500, "refunding", rows(Refunding, Refunding, OtherProof, OtherProof, OtherProof)),
    ] {
        match state {
            "held" => drop(lab.held(n).await?),
            "settled" => drop(lab.settled(n).await?),
            "delivered" => drop(lab.spent(n, End::Delivered).await?),
            "refunding" => drop(lab.refunding(n).await?),
            _ => drop(lab.spent(n, End::Refunded).await?),
        }
        for Row { what, at, other_proof, by_other_id, same_proof } in rows {
            let what = format!("an id that is {state}, its lease {what}");
            let exclusive = with(n, Proof::Exclusive(key(n + 1)), at);
            lab.expect(&format!("{what}, another proof"), exclusive, other_proof).await?;
            let bound = with(n, Proof::Bound(key(n)), at);
            lab.expect(&format!("{what}, another kind of proof"), bound, other_proof).await?;
            let other_id = with(n + 2, Proof::Exclusive(key(n)), at);
            lab.expect(&format!("another id with the proof of {what}"), other_id, by_other_id).await?;
            lab.expect(&format!("{what}, the same proof"), lab.claim_at(n, at), same_proof).await?;
        }
        // None of the refused claims has left anything behind.
        lab.expect("an id that was refused, with its own proof", lab.claim(n + 2), Answer::Won).await?;
        lab.expect("a proof that was refused", lab.claim(n + 1), Answer::Won).await?;
    }
    Ok(())
}
