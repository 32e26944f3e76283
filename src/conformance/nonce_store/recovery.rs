//! What a sweeper and an operator do: take, put off, look up.

use std::{sync::Arc, thread, time::Duration};

use futures_util::future::join_all;

use super::{
    lab::{Answer, Answered, CONFLICT, Checked, KEEP, LEASE, LEASE_LOST, Lab, MUCH_LATER, Took, id, key, same_entry},
    leases::{taken_over, worthless},
    threads,
};
use crate::{
    protocol::{ChallengeId, Timestamp},
    store::{Claim, End, EntryState, Lease, NonceStore, Page, Proof, Release, Take, Taken},
};

const CONCURRENT: u64 = 64;

pub(super) async fn taken_once(lab: &Lab) -> Checked {
    let what = |state: &str| format!("concurrent takes and claims of an entry that is {state}");
    // Who wins a held entry, and a settled one, may be a take or a claim.
    lab.held(1).await?;
    lab.settled(2).await?;
    lab.refunding(3).await?;
    let lease = lab.settled(4).await?;
    lab.put_off("settled", lease, 2 * LEASE, Ok(())).await?;
    for (n, state) in [(1, "held"), (2, "settled"), (3, "being refunded"), (4, "put off")] {
        let steps = (0..CONCURRENT).map(|step| async move {
            if step % 2 == 0 {
                let taken = lab.try_take(n, 2 * LEASE, step % 4 == 0).await;
                match Took::of(&taken) {
                    Took::Won => Ok(true),
                    Took::Busy => Ok(false),
                    other => Err(format!("a take was answered {other:?}")),
                }
            } else {
                let answered = Answered::from(lab.store.claim(lab.claim_at(n, 2 * LEASE)).await);
                match (answered.answer, answered.lease) {
                    (Answer::Resumed | Answer::Settled, Some(_)) => Ok(true),
                    (Answer::Busy, None) => Ok(false),
                    (Answer::Refunding, None) if n == 3 => Ok(false),
                    (other, _) => Err(format!("a claim was answered {other:?}")),
                }
            }
        });
        let mut won = 0;
        for step in join_all(steps).await {
            won += u32::from(step.map_err(|found| format!("{}: {found}", what(state)))?);
        }
        if won != 1 {
            return Err(format!("{}: {won} were answered with a lease instead of one", what(state)));
        }
    }
    // Delivered, and asked for by many: none, where the store has dropped what was settled.
    lab.spent(5, End::Delivered).await?;
    let takes = join_all((0..CONCURRENT).map(|_| lab.try_take(5, LEASE, true))).await;
    let won = takes.iter().filter(|taken| Took::of(taken) == Took::Won).count();
    if won > 1 {
        return Err(format!("{}: {won} were answered with a lease", what("delivered, and asked for")));
    }
    Ok(())
}

const THREADS: u64 = 8;
const ENTRIES: u64 = 24;
/// In steps of this a worker comes by every entry.
const ORDER: u64 = 5;

/// Every worker tries to take, or to claim, everything. What all of them got must be each entry once.
pub(super) async fn taken_once_on_threads(lab: &Lab) -> Checked {
    for n in 0..ENTRIES {
        match n % 3 {
            0 => drop(lab.held(n).await?),
            1 => drop(lab.settled(n).await?),
            _ => drop(lab.refunding(n).await?),
        }
    }
    let workers = (0..THREADS).map(|number| {
        let order = (0..ENTRIES).map(move |n| (n * ORDER + number) % ENTRIES);
        let claims: Vec<_> = order.map(|n| lab.claim_at(n, LEASE)).collect();
        sweep(Arc::clone(&lab.store), claims, number % 2 == 0, (lab.at(LEASE), lab.at(KEEP)))
    });
    let mut won: Vec<_> = threads::run(workers).await?.into_iter().flatten().collect();
    let all = won.len();
    won.sort_unstable_by_key(|lease| lease.id);
    won.dedup_by_key(|lease| lease.id);
    if all == won.len() && all as u64 == ENTRIES {
        Ok(())
    } else {
        let ids = won.len();
        Err(format!("{THREADS} threads over {ENTRIES} entries: {all} leases of {ids} entries were given out"))
    }
}

async fn sweep(
    store: Arc<dyn NonceStore>,
    claims: Vec<Claim>,
    takes: bool,
    (now, lease_until): (Timestamp, Timestamp),
) -> Checked<Vec<Lease>> {
    let mut won = Vec::new();
    for (step, claim) in claims.into_iter().enumerate() {
        if takes {
            let taken = store.take(Take { id: claim.id, now, lease_until, asked_for: false }).await;
            match taken {
                Ok(Taken::Won { lease, .. }) => won.push(lease),
                Ok(Taken::Busy) => {}
                other => return Err(format!("a take on a thread was answered {:?}", Took::of(&other))),
            }
        } else {
            let answered = Answered::from(store.claim(Claim { lease_until, ..claim }).await);
            match (answered.answer, answered.lease) {
                (Answer::Resumed | Answer::Settled, Some(lease)) => won.push(lease),
                (Answer::Busy | Answer::Refunding, _) => {}
                (other, _) => return Err(format!("a claim on a thread was answered {other:?}")),
            }
        }
        // The thread is the worker's own. What only a take gets must be left for one.
        if step % 4 == 0 { thread::sleep(Duration::from_micros(50)) } else { thread::yield_now() }
    }
    Ok(won)
}

pub(super) async fn take_answers(lab: &Lab) -> Checked {
    const BOTH: [bool; 2] = [false, true];
    for asked_for in BOTH {
        lab.not_taken("an id that was never claimed", 1, 0, asked_for, Took::Absent).await?;
    }
    if lab.find(id(1)).await?.is_some() || !lab.open().await?.is_empty() {
        return Err("a take of an id that was never claimed has made an entry".into());
    }
    lab.expect("an id that was taken before it was claimed", lab.claim(1), Answer::Won).await?;

    for (n, asked_for) in [(10, false), (20, true)] {
        lab.held(n).await?;
        lab.settled(n + 1).await?;
        lab.refunding(n + 2).await?;
        for (n, state, claimed) in [
            (n, "held", [Answer::Busy, Answer::Resumed]),
            (n + 1, "settled", [Answer::Busy, Answer::Settled]),
            (n + 2, "on its way back", [Answer::Refunding, Answer::Refunding]),
        ] {
            lab.not_taken(&format!("{state}, 1 ms before its lease ends"), n, LEASE - 1, asked_for, Took::Busy).await?;
            let (lease, _) = lab.take(&format!("{state}, as its lease ends"), n, LEASE, asked_for).await?;
            let what = format!("{state}, taken");
            lab.not_taken(&what, n, 2 * LEASE - 1, asked_for, Took::Busy).await?;
            let [at_work, expired] = claimed;
            lab.expect(&what, lab.claim_at(n, 2 * LEASE - 1), at_work).await?;
            lab.renew(&what, lease, 3 * LEASE, Ok(())).await?;
            lab.not_taken(&format!("{what}, and renewed"), n, 3 * LEASE - 1, asked_for, Took::Busy).await?;
            let what = format!("{state}, taken, its lease over");
            lab.expect(&what, lab.claim_at(n, 3 * LEASE), expired).await?;
            lab.take(&what, n, 4 * LEASE, asked_for).await?;
        }
        // Given up, it need not be waited for.
        let lease = lab.held(n + 3).await?;
        lab.release("held", lease, Release::Unknown, Ok(())).await?;
        lab.take("after Unknown", n + 3, 1, asked_for).await?;
        let lease = lab.settled(n + 4).await?;
        lab.release("settled", lease, Release::Undelivered, Ok(())).await?;
        lab.take("after Undelivered", n + 4, 1, asked_for).await?;
        let lease = lab.settled(n + 5).await?;
        lab.release("settled", lease, Release::NotRefundable, Ok(())).await?;
        lab.take("after NotRefundable", n + 5, 1, asked_for).await?;
        let lease = lab.held(n + 6).await?;
        lab.release("held", lease, Release::NotCharged, Ok(())).await?;
        lab.not_taken("after NotCharged", n + 6, LEASE, asked_for, Took::Absent).await?;
        // No age ends what is open.
        lab.held(n + 7).await?;
        lab.take("held, ten years later", n + 7, MUCH_LATER, asked_for).await?;
        lab.spent(n + 8, End::Refunded).await?;
        for at in [1, LEASE, KEEP - 1] {
            lab.not_taken("refunded", n + 8, at, asked_for, Took::Spent(End::Refunded)).await?;
        }
    }
    lab.spent(2, End::Delivered).await?;
    for at in [1, LEASE, KEEP - 1] {
        lab.not_taken("delivered", 2, at, false, Took::Spent(End::Delivered)).await?;
    }
    lab.expect("delivered", lab.claim_at(2, KEEP - 1), Answer::Spent(End::Delivered)).await.map(drop)
}

pub(super) async fn taken_as_it_is(lab: &Lab) -> Checked {
    let mut token = 0;
    for (n, state) in [(1, "held"), (2, "settled"), (3, "on its way back"), (4, "not refundable")] {
        let old = match n {
            1 => lab.held(n).await?,
            2 => lab.settled(n).await?,
            3 => lab.refunding(n).await?,
            _ => lab.settled(n).await?,
        };
        if n == 4 {
            lab.release("settled", old, Release::NotRefundable, Ok(())).await?;
        }
        let mut last = old;
        for round in 1..4 {
            let what = format!("{state}, taken {round} times");
            let mut expected = lab.found(&what, n).await?;
            let (lease, entry) = lab.take(&what, n, round * LEASE, round == 2).await?;
            (expected.lease_until, expected.put_off) = (entry.lease_until, entry.put_off);
            same_entry(&expected, &entry).map_err(|differs| format!("{what}: a take changed the {differs}"))?;
            if lease.token <= last.token || lease.token <= token {
                return Err(format!("{what}: token {} after token {}", lease.token, last.token));
            }
            lab.unchanged(&what, n, async {
                lab.renew(&what, last, 9 * LEASE, LEASE_LOST).await?;
                lab.put_off(&what, last, 9 * LEASE, LEASE_LOST).await
            })
            .await?;
            last = lease;
        }
        // Its lease is worth what a claim's is.
        let what = format!("{state}, taken");
        match n {
            1 => lab.settle(&what, last, n, Ok(())).await?,
            2 | 4 => lab.commit(&what, last, End::Delivered, Ok(())).await?,
            _ => lab.commit(&what, last, End::Refunded, Ok(())).await?,
        }
    }
    // A token of a take counts for later claims, also where the entry was absent in between.
    let lease = lab.held(5).await?;
    lab.release("held", lease, Release::Unknown, Ok(())).await?;
    let (lease, _) = lab.take("after Unknown", 5, 1, false).await?;
    lab.release("taken", lease, Release::NotCharged, Ok(())).await?;
    lab.expect(
        "the proof of a taken entry, after NotCharged",
        lab.claim_of(id(6), Proof::Exclusive(key(5))),
        Answer::Won,
    )
    .await?;
    token = lease.token;
    let lease = lab.lease("absent again", lab.claim_of(id(5), Proof::Exclusive(key(7))), Answer::Won).await?;
    if lease.token <= token { Err(format!("token {} after token {token} of a take", lease.token)) } else { Ok(()) }
}

/// Checks that entry `n` was put off so often, to that instant.
async fn is_put_off(lab: &Lab, what: &str, n: u64, attempts: u32, until: Option<u64>) -> Checked {
    let found = lab.found(what, n).await?;
    let until = until.map(|millis| lab.at(millis));
    if found.attempts != attempts || found.put_off != until {
        let seen = (found.attempts, found.put_off);
        return Err(format!("{what}: attempts and instant are {seen:?} instead of {:?}", (attempts, until)));
    }
    Ok(())
}

pub(super) async fn put_off(lab: &Lab) -> Checked {
    let until = 9 * LEASE;
    let first = |n| async move {
        match n {
            1 => lab.held(n).await,
            2 => lab.settled(n).await,
            _ => lab.refunding(n).await,
        }
    };
    for (n, state, answer) in
        [(1, "held", Answer::Resumed), (2, "settled", Answer::Settled), (3, "on its way back", Answer::Refunding)]
    {
        let lease = first(n).await?;
        let mut expected = lab.found(state, n).await?;
        lab.put_off(state, lease, until, Ok(())).await?;
        let what = format!("{state}, put off");
        is_put_off(lab, &what, n, 1, Some(until)).await?;
        let found = lab.found(&what, n).await?;
        (expected.put_off, expected.attempts, expected.lease_until) = (found.put_off, 1, found.lease_until);
        same_entry(&expected, &found).map_err(|differs| format!("`put_off` changed the {differs}"))?;
        lab.unchanged(&what, n, async {
            lab.renew(&what, lease, 9 * LEASE, LEASE_LOST).await?;
            lab.settle(&what, lease, n, LEASE_LOST).await?;
            lab.commit(&what, lease, End::Delivered, LEASE_LOST).await?;
            lab.put_off(&what, lease, 19 * LEASE, LEASE_LOST).await
        })
        .await?;
        lab.not_taken(&what, n, 1, false, Took::Busy).await?;
        lab.not_taken(&format!("{what}, 1 ms before the instant"), n, until - 1, false, Took::Busy).await?;
        let (lease, _) = lab.take(&format!("{what}, at the instant"), n, until, false).await?;
        // Each time counts.
        for round in 2..5 {
            lab.put_off(&what, lease_of(lab, round, lease, n, until).await?, until + LEASE, Ok(())).await?;
            is_put_off(lab, &what, n, round, Some(until + LEASE)).await?;
        }
        lab.not_taken(&what, n, until + 1, false, Took::Busy).await?;
        // The payer comes back, and need not wait.
        lab.expect(&what, lab.claim_at(n, until + 1), answer).await?;
        if answer == Answer::Refunding {
            is_put_off(lab, "a claim that took nothing over", n, 4, Some(until + LEASE)).await?;
        } else {
            is_put_off(lab, "a claim that took it over", n, 0, None).await?;
        }
    }
    // To an instant that has passed, and into the far future.
    let lease = lab.held(4).await?;
    lab.put_off("held", lease, 0, Ok(())).await?;
    let (lease, _) = lab.take("put off to the present instant", 4, 0, false).await?;
    lab.put_off("held", lease, MUCH_LATER, Ok(())).await?;
    lab.not_taken("put off for ten years", 4, MUCH_LATER - 1, false, Took::Busy).await?;
    lab.take("put off for ten years", 4, MUCH_LATER, false).await.map(drop)
}

/// The lease for a round of `put_off`: the first is there, the others are asked for.
async fn lease_of(lab: &Lab, round: u32, first: Lease, n: u64, millis: u64) -> Checked<Lease> {
    match round {
        2 => Ok(first),
        _ => Ok(lab.take("put off, and asked for", n, millis, true).await?.0),
    }
}

pub(super) async fn going_on(lab: &Lab) -> Checked {
    // Put off twice, and taken.
    let taken = |n, lease| async move {
        lab.put_off("at work", lease, LEASE, Ok(())).await?;
        let (lease, _) = lab.take("put off", n, LEASE, false).await?;
        lab.put_off("taken", lease, 9 * LEASE, Ok(())).await?;
        let (lease, entry) = lab.take("put off, and asked for", n, LEASE, true).await?;
        if entry.attempts == 2 { Ok(lease) } else { Err(format!("put off twice: {} attempts", entry.attempts)) }
    };
    let lease = taken(1, lab.held(1).await?).await?;
    lab.settle("taken", lease, 1, Ok(())).await?;
    is_put_off(lab, "settled", 1, 0, None).await?;
    let lease = taken(2, lab.settled(2).await?).await?;
    lab.refund("taken", lease, Ok(())).await?;
    is_put_off(lab, "refund", 2, 0, None).await?;
    for (n, reason) in [(3, Release::Unknown), (4, Release::Undelivered), (5, Release::NotRefundable)] {
        let lease = if n == 3 { lab.held(n).await? } else { lab.settled(n).await? };
        let lease = taken(n, lease).await?;
        lab.release("taken", lease, reason, Ok(())).await?;
        let what = format!("release({reason:?})");
        is_put_off(lab, &what, n, 0, None).await?;
        // So it may be taken at once.
        lab.take(&what, n, LEASE, false).await?;
    }
    let lease = taken(6, lab.refunding(6).await?).await?;
    lab.release("taken", lease, Release::NotRefundable, Ok(())).await?;
    is_put_off(lab, "release(NotRefundable) from Refunding", 6, 0, None).await?;
    let lease = taken(7, lab.settled(7).await?).await?;
    lab.commit("taken", lease, End::Delivered, Ok(())).await?;
    lab.release("delivered", lease, Release::Undelivered, Ok(())).await?;
    is_put_off(lab, "commit, taken back", 7, 0, None).await
}

pub(super) async fn fenced_put_off(lab: &Lab) -> Checked {
    let (old, present) = taken_over(lab, 1).await?;
    for (what, lease) in worthless(1, old, present) {
        lab.unchanged(what, 1, lab.put_off(what, lease, 9 * LEASE, LEASE_LOST)).await?;
        lab.expect("the present lease is at work", lab.claim_at(1, LEASE), Answer::Busy).await?;
    }
    lab.settle("the present lease", present, 1, Ok(())).await?;
    let (taken, _) = lab.take("an expired lease", 1, 2 * LEASE, false).await?;
    let what = "a lease that was taken";
    lab.unchanged(what, 1, lab.put_off(what, present, 9 * LEASE, LEASE_LOST)).await?;
    lab.not_taken("the present lease is at work", 1, 2 * LEASE, true, Took::Busy).await?;
    lab.put_off("the present lease", taken, 9 * LEASE, Ok(())).await
}

pub(super) async fn find(lab: &Lab) -> Checked {
    if let Some(entry) = lab.find(id(1)).await? {
        return Err(format!("an id that was never claimed: found {entry:?}"));
    }
    let states = [(1, "held"), (2, "settled"), (3, "on its way back"), (4, "put off"), (5, "given up")];
    for (n, state) in states {
        let claim =
            Claim { proof: if n == 2 { Proof::Bound(key(n)) } else { Proof::Exclusive(key(n)) }, ..lab.claim(n) };
        let lease = lab.lease("a first claim", claim, Answer::Won).await?;
        if n != 1 {
            lab.settle("held", lease, n, Ok(())).await?;
        }
        match n {
            3 => lab.refund("settled", lease, Ok(())).await?,
            4 => lab.put_off("settled", lease, KEEP, Ok(())).await?,
            5 => lab.release("settled", lease, Release::Undelivered, Ok(())).await?,
            _ => {}
        }
        let found = lab.found(state, n).await?;
        let listed = lab.entry(state, n).await?;
        same_entry(&listed, &found).map_err(|differs| format!("{state}: listed and found differ in the {differs}"))?;
        // It changes nothing: the lease is as good as before.
        lab.found(state, n).await?;
        match n {
            1 => lab.settle("found", lease, n, Ok(())).await?,
            2 => lab.commit("found", lease, End::Delivered, Ok(())).await?,
            3 => lab.commit("found", lease, End::Refunded, Ok(())).await?,
            _ => lab.renew("found", lease, KEEP, LEASE_LOST).await?,
        }
    }
    let found = lab.found("found, and settled since", 1).await?;
    if found.state != (EntryState::Settled { settlement: lab.settlement(1), refundable: true }) {
        return Err(format!("settled: found as {:?}", found.state));
    }
    for (n, end) in [(6, End::Delivered), (7, End::Refunded)] {
        lab.spent(n, end).await?;
        lab.found_spent("ended", n, end).await?;
        lab.expect("another id, after the lease has ended", lab.claim_at(n + 100, LEASE), Answer::Won).await?;
        lab.found_spent("ended, its lease over", n, end).await?;
    }
    let lease = lab.held(8).await?;
    lab.release("held", lease, Release::NotCharged, Ok(())).await?;
    if let Some(entry) = lab.find(id(8)).await? {
        return Err(format!("after NotCharged: found {entry:?}"));
    }
    // An id that is nearly the same is another one.
    let mut bytes = *id(1).as_bytes();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    match lab.find(ChallengeId::from_bytes(bytes)).await? {
        Some(entry) => Err(format!("an id that differs in one bit from one that was claimed: found {entry:?}")),
        None => Ok(()),
    }
}

pub(super) async fn due(lab: &Lab) -> Checked {
    // Every third is put off by a lease length, every third for long.
    let mut ids = Vec::new();
    for n in 0..30 {
        let lease = match n % 2 {
            0 => lab.settled(n).await?,
            _ => lab.refunding(n).await?,
        };
        match n % 3 {
            0 => lab.put_off("at work", lease, LEASE, Ok(())).await?,
            1 => lab.put_off("at work", lease, KEEP, Ok(())).await?,
            _ => {}
        }
        ids.push((id(n), n % 3));
    }
    ids.sort_unstable();
    let expected = |which: &[u64]| -> Vec<_> {
        ids.iter().filter(|(_, third)| which.contains(third)).map(|(id, _)| *id).collect()
    };
    for (at, due, which) in [
        (1, false, &[0, 1][..]),
        (1, true, &[]),
        (LEASE - 1, true, &[]),
        (LEASE, false, &[0, 1, 2]),
        (LEASE, true, &[0, 2]),
        (KEEP - 1, true, &[0, 2]),
        (KEEP, true, &[0, 1, 2]),
    ] {
        for limit in [4, 1000] {
            let mut found: Vec<ChallengeId> = Vec::new();
            loop {
                let page = Page { now: lab.at(at), after: found.last().copied(), limit, due };
                let entries = lab.unfinished(page).await?;
                let last_page = entries.len() < limit;
                found.extend(entries.into_iter().map(|entry| entry.id));
                if last_page || found.len() > ids.len() {
                    break;
                }
            }
            let expected = expected(which);
            if found != expected {
                let (found, expected) = (found.len(), expected.len());
                let what = if due { "due" } else { "open, due or not" };
                return Err(format!(
                    "{what} at {at} ms, in pages of {limit}: {found} are listed instead of {expected}"
                ));
            }
        }
    }
    // What somebody is at work on is not listed, put off or not.
    let (lease, _) = lab.take("put off", 0, LEASE, false).await?;
    let page = Page { now: lab.at(LEASE), after: None, limit: 1000, due: false };
    if lab.unfinished(page).await?.iter().any(|entry| entry.id == lease.id) {
        return Err("what was taken is listed while its lease is at work".into());
    }
    lab.commit("settled, and taken", lease, End::Refunded, CONFLICT).await
}
