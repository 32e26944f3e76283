//! The list of open money.

use std::sync::Arc;

use serde_json::json;

use super::lab::{Answer, Checked, KEEP, LEASE, Lab, id, key, same_entry};
use crate::{
    method::{Payer, Settlement},
    protocol::Timestamp,
    store::{Claim, End, EntryState, JournalEntry, Page, Proof, Release},
};

/// Which of the claims by number are listed at an instant, in the order of the numbers.
async fn listed(lab: &Lab, millis: u64) -> Checked<Vec<u64>> {
    let entries = lab.unfinished(Page { now: lab.at(millis), after: None, limit: 1000, due: false }).await?;
    let mut numbers: Vec<_> = (0..100).filter(|n| entries.iter().any(|entry| entry.id == id(*n))).collect();
    if numbers.len() != entries.len() {
        numbers.push(u64::MAX);
    }
    Ok(numbers)
}

fn expect_listed(what: &str, found: &[u64], expected: &[u64]) -> Checked {
    if found == expected { Ok(()) } else { Err(format!("{what}: listed {found:?} instead of {expected:?}")) }
}

pub(super) async fn open_money(lab: &Lab) -> Checked {
    lab.held(1).await?;
    lab.settled(2).await?;
    lab.spent(3, End::Delivered).await?;
    lab.spent(4, End::Refunded).await?;
    let lease = lab.held(5).await?;
    lab.release("held", lease, Release::NotCharged, Ok(())).await?;
    let lease = lab.held(6).await?;
    lab.release("held", lease, Release::Unknown, Ok(())).await?;
    let lease = lab.settled(7).await?;
    lab.release("settled", lease, Release::Undelivered, Ok(())).await?;
    let lease = lab.held(8).await?;
    lab.renew("held", lease, 2 * LEASE, Ok(())).await?;

    expect_listed("while leases are at work", &listed(lab, LEASE - 1).await?, &[6, 7])?;
    expect_listed("at the instant at which leases end", &listed(lab, LEASE).await?, &[1, 2, 6, 7])?;
    expect_listed("after a renewed lease", &listed(lab, 2 * LEASE).await?, &[1, 2, 6, 7, 8])?;
    // Listing takes nothing over.
    expect_listed("a second time", &listed(lab, 2 * LEASE).await?, &[1, 2, 6, 7, 8])?;
    lab.expect("listed, and taken over", lab.claim_at(1, 2 * LEASE), Answer::Resumed).await?;
    expect_listed("at work again", &listed(lab, 2 * LEASE).await?, &[2, 6, 7, 8])?;
    expect_listed("after keep_until", &listed(lab, 3 * KEEP).await?, &[1, 2, 6, 7, 8])
}

pub(super) async fn pages(lab: &Lab) -> Checked {
    let page = |after, limit| Page { now: lab.at(LEASE), after, limit, due: false };
    let empty = lab.unfinished(page(None, 10)).await?;
    if !empty.is_empty() {
        return Err(format!("a fresh store lists {empty:?}"));
    }
    for n in 0..40 {
        lab.held(n).await?;
    }
    // At work, so pages must not count it.
    let claim = Claim { lease_until: lab.at(2 * LEASE), ..lab.claim(40) };
    lab.expect("a first claim", claim, Answer::Won).await?;
    let mut expected: Vec<_> = (0..40).map(id).collect();
    expected.sort_unstable();
    for limit in [1, 7, 40, 1000] {
        let mut found = Vec::new();
        loop {
            let entries = lab.unfinished(page(found.last().copied(), limit)).await?;
            if entries.len() > limit {
                return Err(format!("{} entries are listed, at most {limit} were asked for", entries.len()));
            }
            let last_page = entries.len() < limit;
            found.extend(entries.into_iter().map(|entry| entry.id));
            if last_page || found.len() > expected.len() {
                break;
            }
        }
        if found != expected {
            return Err(format!("pages of {limit}: {} of {} entries, or not in order", found.len(), expected.len()));
        }
    }
    let none =
        lab.unfinished(page(None, 0)).await?.len() + lab.unfinished(page(expected.last().copied(), 10)).await?.len();
    if none != 0 {
        return Err("a page of none, or after the last id, is not empty".into());
    }
    // After an id that is not there.
    let after = crate::protocol::ChallengeId::from_bytes([0x80; 32]);
    let found: Vec<_> = lab.unfinished(page(Some(after), 1000)).await?.into_iter().map(|entry| entry.id).collect();
    expected.retain(|id| *id > after);
    if found == expected { Ok(()) } else { Err("a page after an id that is not there is wrong".into()) }
}

pub(super) async fn kept_as_given(lab: &Lab) -> Checked {
    let records: [Arc<[u8]>; 4] = [
        Arc::from([]),
        Arc::from(&b"{\"scope\":\"GET /\\u0000\"}"[..]),
        Arc::from([0, 0xff, 0xfe, b'\'', b'"', b'\\', b'\n', 0]),
        (0..=u8::MAX).cycle().take(64 * 1024).collect(),
    ];
    for (n, (record, settlement)) in (1..).zip(records.into_iter().zip(settlements(lab))) {
        let proof = if n % 2 == 0 { Proof::Exclusive(key(n)) } else { Proof::Bound(key(n)) };
        let claim = Claim {
            record,
            lease_until: lab.at(LEASE + n),
            keep_until: lab.at(KEEP + n),
            ..lab.claim_of(id(n), proof)
        };
        let mut expected = JournalEntry {
            id: claim.id,
            proof,
            state: EntryState::Held,
            put_off: None,
            attempts: 0,
            lease_until: claim.lease_until,
            keep_until: claim.keep_until,
            record: Arc::clone(&claim.record),
        };
        let lease = lab.lease("a first claim", claim.clone(), Answer::Won).await?;
        let found = lab.entry("held", n).await?;
        same_entry(&expected, &found).map_err(|differs| format!("held: given and kept differ in the {differs}"))?;

        let settled = lab.store.settle(lease, &settlement).await;
        settled.map_err(|error| format!("settle with {settlement:?}: {error}"))?;
        expected.state = EntryState::Settled { settlement: settlement.clone(), refundable: true };
        let found = lab.entry("settled", n).await?;
        same_entry(&expected, &found).map_err(|differs| format!("settled: given and kept differ in the {differs}"))?;

        let later = Claim { now: lab.at(LEASE + n), lease_until: lab.at(2 * LEASE), ..claim };
        let answered = lab.expect("an expired lease", later, Answer::Settled).await?;
        if answered.settlement.as_ref() != Some(&settlement) {
            return Err(format!("settled {settlement:?}, and found {:?}", answered.settlement));
        }
        let again = answered.lease.ok_or("settled, without a lease")?;
        let repeated = lab.store.settle(again, &settlement).await;
        repeated.map_err(|error| format!("what came back is taken for something else: {error}"))?;
    }
    Ok(())
}

fn settlements(lab: &Lab) -> [Settlement; 4] {
    let fraction: Timestamp = "2027-01-15T12:05:00.123456789Z".parse().unwrap_or(lab.at(1));
    [
        Settlement::new("", lab.at(1)),
        Settlement::new("pi_3Nabc/def:1'\"; -- \u{1f4b8}", fraction).payer(Some(Payer::verified("did:key:z6MkTest"))),
        Settlement::new("0xAB", lab.at(2)).payer(Some(Payer::claimed("0xab \u{e9}"))),
        Settlement::new("x".repeat(4096), lab.at(3))
            .receipt_member("externalId", "order-1")
            .receipt_member("a", json!({"b": [1, -2, 3.5, u64::MAX, null, true, {"": ""}], "Z": "\u{7f}\u{2028}"}))
            .receipt_member("chainId", 4217),
    ]
}
