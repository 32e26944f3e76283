//! Leases: who held one before can still be alive when somebody has taken over.

use bytes::Bytes;
use futures_util::future::join_all;

use super::lab::{Checked, KEEP, Lab, WORK, id, lost, request};
use crate::store::{Lease, Reservation};

/// An older token and a newer one, as they may follow each other: as texts, as doubles and as bytes they are in
/// another order, or the same.
const TOKENS: [(u64, u64); 5] =
    [(1, 2), (9, 10), (255, 256), (9_007_199_254_740_992, 9_007_199_254_740_993), (1, i64::MAX as u64)];

/// One payment and two who hold a lease on it.
struct Two<'a> {
    lab: &'a Lab,
    n: u64,
    old: Lease,
    new: Lease,
}

impl Two<'_> {
    async fn reserve(&self, what: &str, lease: Lease) -> Checked {
        self.lab.reserve(what, Reservation { lease, ..self.lab.reservation(self.n) }).await
    }

    async fn keep(&self, what: &str, lease: Lease, answer: &'static [u8]) -> Checked {
        let kept = self.lab.store.keep(lease, Bytes::from_static(answer), self.lab.at(KEEP)).await;
        kept.map_err(|error| format!("{what}: `keep` failed: {error}"))
    }

    async fn give_up(&self, what: &str, lease: Lease) -> Checked {
        let done = self.lab.store.give_up(lease).await;
        done.map_err(|error| format!("{what}: `give_up` failed: {error}"))
    }

    /// The older one can neither reserve nor keep. What else it tries succeeds, and does nothing.
    async fn shut_out(&self, what: &str) -> Checked {
        let (store, until) = (&self.lab.store, self.lab.at(2 * WORK));
        let keep_until = self.lab.at(2 * KEEP);
        let again =
            Reservation { lease: self.old, request: request(77), until, keep_until, ..self.lab.reservation(self.n) };
        lost(what, "reserve", store.reserve(again).await)?;
        lost(what, "keep", store.keep(self.old, Bytes::from_static(b"older"), keep_until).await)?;
        self.give_up(what, self.old).await
    }
}

pub(super) async fn leases_fence(lab: &Lab) -> Checked {
    for (case, (old, new)) in (0..).zip(TOKENS) {
        let two = |n: u64| {
            let n = 10 * case + n;
            Two { lab, n, old: Lease { id: id(n), token: old }, new: Lease { id: id(n), token: new } }
        };
        running(&two(0)).await?;
        taken_over(&two(1)).await?;
        completed_by_the_older(&two(2)).await?;
        over(&two(3)).await?;
    }
    at_once(lab).await
}

/// The newer one has reserved where the older one has not.
async fn running(two: &Two<'_>) -> Checked {
    let Two { lab, n, new, .. } = *two;
    two.reserve("a newer lease", new).await?;
    two.shut_out("an older lease, and a newer one has reserved").await?;
    lab.running("reserved by the newer, after the older tried", n, 0, WORK).await?;
    two.give_up("the newer", new).await?;
    two.shut_out("an older lease, and a newer one has given up").await?;
    lab.idle("given up by the newer, after the older tried", n, 0).await?;
    two.reserve("the newer, again", new).await?;
    two.keep("the newer", new, b"newer").await?;
    two.shut_out("an older lease, and a newer one has completed").await?;
    lab.complete("completed by the newer, after the older tried", n, 0, b"newer").await
}

/// The newer one takes over what the older one has reserved.
async fn taken_over(two: &Two<'_>) -> Checked {
    let Two { lab, n, old, new } = *two;
    let first = Reservation { lease: old, request: request(78), until: lab.at(2 * WORK), ..lab.reservation(n) };
    lab.reserve("an older lease", first).await?;
    let early = lab.store.keep(new, Bytes::from_static(b"newer"), lab.at(KEEP)).await;
    lost("a newer lease that has not reserved", "keep", early)?;
    two.give_up("a newer lease that has not reserved", new).await?;
    match lab.look_up(n, 0).await? {
        Some(row) if row.request == request(78) && row.until == lab.at(2 * WORK) && row.answer.is_none() => {}
        found => return Err(format!("reserved by the older, after the newer did all but reserve: found {found:?}")),
    }
    two.reserve("a newer lease, where an older one has reserved", new).await?;
    lab.running("taken over", n, 0, WORK).await?;
    two.shut_out("an older lease, after it was taken over").await?;
    two.keep("the newer, after it has taken over", new, b"newer").await?;
    lab.complete("completed by the newer", n, 0, b"newer").await
}

/// The newer one comes when the older one has done its work.
async fn completed_by_the_older(two: &Two<'_>) -> Checked {
    let Two { lab, n, old, new } = *two;
    two.reserve("an older lease", old).await?;
    two.keep("an older lease", old, b"older").await?;
    two.reserve("a newer lease, where an older one has completed", new).await?;
    lab.complete("completed by the older, reserved by the newer", n, 0, b"older").await?;
    let second = lab.store.keep(new, Bytes::from_static(b"newer"), lab.at(KEEP)).await;
    lost("a newer lease, where an older one has completed", "keep", second)?;
    two.give_up("a newer lease, where an older one has completed", new).await?;
    // Nothing has changed, not even whose it is.
    two.keep("an older lease that has completed", old, b"twice").await?;
    lab.complete("completed by the older, after the newer tried", n, 0, b"older").await
}

/// A row that may be forgotten counts as none, whoever has made it.
async fn over(two: &Two<'_>) -> Checked {
    let Two { lab, n, old, new } = *two;
    two.reserve("a newer lease", new).await?;
    let keep_until = lab.at(2 * KEEP);
    let later =
        Reservation { lease: old, now: lab.at(KEEP), until: lab.at(KEEP + WORK), keep_until, ..lab.reservation(n) };
    lab.reserve("what may be forgotten", later).await?;
    lab.running("reserved anew after keep_until", n, KEEP, KEEP + WORK).await
}

/// How many leases on one payment come at once.
const CONCURRENT: u64 = 32;

/// Whoever comes first, in the end the newest lease has it, and nobody else.
async fn at_once(lab: &Lab) -> Checked {
    const N: u64 = 1000;
    let lease = |token| Lease { id: id(N), token };
    let reserved = join_all((1..=CONCURRENT).map(|token| async move {
        let reservation = Reservation { lease: lease(token), request: request(N + token), ..lab.reservation(N) };
        (token, lab.store.reserve(reservation).await)
    }));
    for (token, result) in reserved.await {
        if token == CONCURRENT {
            result.map_err(|error| format!("the newest of many leases at once: `reserve` failed: {error}"))?;
        } else if result.is_err() {
            lost("one of many leases at once", "reserve", result)?;
        }
    }
    match lab.look_up(N, 0).await? {
        Some(row) if row.request == request(N + CONCURRENT) => {}
        found => return Err(format!("many leases at once, and not the newest has it: found {found:?}")),
    }
    let kept = join_all((1..=CONCURRENT).map(|token| async move {
        (token, lab.store.keep(lease(token), Bytes::from(token.to_string()), lab.at(KEEP)).await)
    }));
    for (token, result) in kept.await {
        if token == CONCURRENT {
            result.map_err(|error| format!("the newest of many leases at once: `keep` failed: {error}"))?;
        } else {
            lost("one of many leases at once", "keep", result)?;
        }
    }
    match lab.look_up(N, 0).await? {
        Some(row) if row.answer == Some(Bytes::from(CONCURRENT.to_string())) => Ok(()),
        found => Err(format!("many leases at once: found {found:?} instead of the answer of the newest")),
    }
}
