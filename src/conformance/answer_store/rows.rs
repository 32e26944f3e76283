//! Rows: how long they are there, which is which, and what happens when there is no room.

use bytes::Bytes;
use futures_util::future::join_all;

use super::lab::{Checked, KEEP, Lab, WORK, id, is_full, lease, request};
use crate::{
    protocol::ChallengeId,
    store::{Lease, Reservation},
};

/// Reservations of others, which a store may take as an occasion to forget something.
async fn others(lab: &Lab, millis: u64) -> Checked {
    for n in 0..100 {
        let other = Reservation {
            now: lab.at(millis),
            until: lab.at(millis + WORK),
            keep_until: lab.at(millis + KEEP),
            ..lab.reservation(10_000 + n)
        };
        lab.reserve("another payment", other).await?;
        lab.give_up("another payment", 10_000 + n).await?;
    }
    Ok(())
}

pub(super) async fn remembered_until(lab: &Lab) -> Checked {
    lab.kept(1, b"answer").await?;
    lab.reserved(2).await?;
    for at in [WORK, KEEP - 1] {
        others(lab, at).await?;
        lab.complete("complete, before keep_until", 1, at, b"answer").await?;
        lab.running("reserved, before keep_until", 2, at, WORK).await?;
    }
    for at in [KEEP, KEEP + 1, 9 * KEEP] {
        lab.absent("complete, from keep_until on", 1, at).await?;
        lab.absent("reserved, from keep_until on", 2, at).await?;
    }
    // Not shown any more, so its place is free: also for another request, whose answer is on its way.
    for n in [1, 2] {
        let fresh = Reservation {
            lease: lease(n),
            request: request(n + 10),
            now: lab.at(KEEP),
            until: lab.at(KEEP + WORK),
            keep_until: lab.at(2 * KEEP),
        };
        lab.reserve("what may be forgotten", fresh).await?;
        match lab.look_up(n, KEEP).await? {
            Some(found) if found.request == fresh.request && found.until == fresh.until && found.answer.is_none() => {}
            found => return Err(format!("reserved anew after keep_until: found {found:?}")),
        }
    }
    Ok(())
}

/// How many rows there are to forget.
const MANY: u64 = 20;

pub(super) async fn forgets_what_may(lab: &Lab) -> Checked {
    for n in 0..MANY {
        if n % 2 == 0 { lab.kept(n, b"answer").await? } else { lab.reserved(n).await? }
    }
    let longer = Reservation { keep_until: lab.at(KEEP + 1), ..lab.reservation(100) };
    lab.reserve("a first reservation", longer).await?;
    let early = lab.forget(KEEP - 1, 1000).await?;
    if early != 0 {
        return Err(format!("1 ms before keep_until: {early} rows were forgotten"));
    }
    for n in 0..MANY {
        lab.row("1 ms before keep_until, after `forget`", n, KEEP - 1).await?;
    }
    if lab.forget(KEEP, 0).await? != 0 {
        return Err("asked to forget at most none, it has forgotten some".into());
    }
    let mut forgotten = 0;
    loop {
        let some = lab.forget(KEEP, 7).await?;
        forgotten += some;
        if some > 7 || forgotten as u64 > MANY {
            return Err(format!("of {MANY} rows it has forgotten {forgotten}, {some} of them when asked for 7"));
        }
        if some == 0 {
            break;
        }
    }
    for n in 0..MANY {
        lab.absent("after `forget`", n, KEEP).await?;
    }
    lab.running("remembered longer, after `forget`", 100, KEEP, WORK).await
}

/// Ids that a lossy store takes for one another.
fn alike() -> Vec<[u8; 32]> {
    let base = *id(1).as_bytes();
    let mut ids = vec![base, [0; 32], [0xff; 32]];
    // Each bit counts.
    for (place, byte) in base.iter().enumerate() {
        for bit in 0..8 {
            let mut id = base;
            if let Some(twin) = id.get_mut(place) {
                *twin = byte ^ (1 << bit);
            }
            ids.push(id);
        }
    }
    // What sanitised names, case-folded columns, strings that end at a zero byte and trimmed ones take for
    // the same.
    for byte in [b'/', b':', b'\\', b'.', b'_', b'-', b'A', b'a', b' ', b'\t', b'\n', b'%', b'\'', b'"', b'*', 0x80] {
        ids.push([byte; 32]);
        ids.push(std::array::from_fn(|place| if place == 31 { byte } else { b'k' }));
        ids.push(std::array::from_fn(|place| if place == 0 { byte } else { 0 }));
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

pub(super) async fn exact_ids(lab: &Lab) -> Checked {
    let ids = alike();
    let lease = |bytes: &[u8; 32]| Lease { id: ChallengeId::from_bytes(*bytes), token: 1 };
    for bytes in &ids {
        let reservation = Reservation { lease: lease(bytes), request: *bytes, ..lab.reservation(0) };
        lab.reserve("ids that are alike", reservation).await?;
    }
    for bytes in &ids {
        let kept = lab.store.keep(lease(bytes), Bytes::copy_from_slice(bytes), lab.at(KEEP)).await;
        kept.map_err(|error| format!("ids that are alike: `keep` failed: {error}"))?;
    }
    for bytes in &ids {
        let found = lab.store.look_up(lease(bytes).id, lab.at(0)).await;
        let found = found.map_err(|error| format!("ids that are alike: `look_up` failed: {error}"))?;
        let right = found.is_some_and(|found| found.request == *bytes && found.answer.as_deref() == Some(&bytes[..]));
        if !right {
            return Err(format!("the id with the bytes {bytes:02x?}, beside others like it: another row is found"));
        }
    }
    Ok(())
}

const CONCURRENT: u64 = 64;

pub(super) async fn independent(lab: &Lab) -> Checked {
    let each = (0..CONCURRENT).map(|n| async move {
        let answer = vec![n as u8; (n * 100) as usize];
        lab.reserved(n).await?;
        match n % 4 {
            0 => lab.give_up("reserved", n).await?,
            1 => {}
            _ => lab.keep("reserved", n, &answer, KEEP).await?,
        }
        match n % 4 {
            0 => lab.idle("given up, beside others at once", n, 0).await,
            1 => lab.running("reserved, beside others at once", n, 0, WORK).await,
            _ => lab.complete("complete, beside others at once", n, 0, &answer).await,
        }
    });
    join_all(each).await.into_iter().collect::<Checked>()?;
    for n in 0..CONCURRENT {
        match n % 4 {
            0 => lab.idle("given up, after others", n, 0).await?,
            1 => lab.running("reserved, after others", n, 0, WORK).await?,
            _ => lab.complete("complete, after others", n, 0, &vec![n as u8; (n * 100) as usize]).await?,
        }
    }
    Ok(())
}

const SIZE: usize = 4 * 1024;

/// The store has room for some answers of four kibibytes, but for fewer than a thousand.
pub(super) async fn full_refuses(lab: &Lab) -> Checked {
    let answer = |n: u64| vec![n as u8; SIZE];
    let mut kept = 0;
    let refused = loop {
        if kept == 1000 {
            return Err(format!("after {kept} answers of {SIZE} bytes it is not full"));
        }
        let reserved = lab.store.reserve(lab.reservation(kept)).await;
        if is_full(&reserved) {
            break kept;
        }
        reserved.map_err(|error| format!("`reserve` failed, and not as Full: {error}"))?;
        let done = lab.store.keep(lease(kept), Bytes::from(answer(kept)), lab.at(KEEP)).await;
        if is_full(&done) {
            // It is still on its way, and can be given up.
            lab.running("a full store, what there was no room for", kept, 0, WORK).await?;
            lab.give_up("a full store, what there was no room for", kept).await?;
            break kept;
        }
        done.map_err(|error| format!("`keep` failed, and not as Full: {error}"))?;
        kept += 1;
    };
    if kept == 0 {
        return Err(format!("it has no room for one answer of {SIZE} bytes"));
    }
    // Many more knock.
    for n in 2000..2100 {
        let reserved = lab.store.reserve(lab.reservation(n)).await;
        if reserved.is_ok() {
            let done = lab.store.keep(lease(n), Bytes::from(answer(n)), lab.at(KEEP)).await;
            if !is_full(&done) {
                return Err(format!("full after {kept} answers, and yet another of the same size is kept: {done:?}"));
            }
            lab.give_up("a full store", n).await?;
        } else if !is_full(&reserved) {
            return Err(format!("`reserve` failed, and not as Full: {reserved:?}"));
        }
    }
    if lab.look_up(refused, 0).await?.is_some_and(|row| row.answer.is_some()) {
        return Err("a full store: what there was no room for is complete".into());
    }
    for n in 0..kept {
        lab.complete("a full store, what was kept before", n, KEEP - 1, &answer(n)).await?;
    }
    // What it has it still renews. Later there is room again.
    lab.reserve("a full store, a payment that it has", lab.reservation(0)).await?;
    while lab.forget(KEEP, 100).await? > 0 {}
    let later = Reservation { now: lab.at(KEEP), keep_until: lab.at(2 * KEEP), ..lab.reservation(refused) };
    lab.reserve("no longer full", later).await?;
    lab.keep("no longer full", refused, &answer(refused), 2 * KEEP).await?;
    lab.complete("no longer full", refused, KEEP, &answer(refused)).await
}
