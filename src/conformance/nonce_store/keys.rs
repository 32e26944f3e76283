//! Keys: compared by all of their bytes, and ids not taken for proofs.

use super::lab::{Answer, Checked, Lab, id, key};
use crate::{
    protocol::{ChallengeId, SpendKey},
    store::{Claim, End, Proof, Release},
};

/// Keys that a lossy store takes for one another.
fn alike() -> Vec<[u8; 32]> {
    let base = *id(1).as_bytes();
    let mut keys = vec![base, [0; 32], [0xff; 32]];
    // Each bit counts.
    for (place, byte) in base.iter().enumerate() {
        for bit in 0..8 {
            let mut key = base;
            if let Some(twin) = key.get_mut(place) {
                *twin = byte ^ (1 << bit);
            }
            keys.push(key);
        }
    }
    // What sanitised file names, case-folded columns, strings that end at a zero byte and trimmed ones
    // take for the same.
    for byte in [b'/', b':', b'\\', b'.', b'_', b'-', b'A', b'a', b' ', b'\t', b'\n', b'%', b'\'', b'"', b'*', 0x80] {
        keys.push([byte; 32]);
        keys.push(std::array::from_fn(|place| if place == 31 { byte } else { b'k' }));
        keys.push(std::array::from_fn(|place| if place == 0 { byte } else { 0 }));
    }
    // Texts that differ in case, and in the two signs of base64url.
    for text in ["AAAA", "aAAA", "AaAA", "AAAa", "-AAA", "_AAA", "A-AA", "A_AA", "zzzz", "zzzZ", "ZZZZ"] {
        if let Ok(id) = format!("{text:A<43}").parse::<ChallengeId>() {
            keys.push(*id.as_bytes());
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

pub(super) async fn ids(lab: &Lab) -> Checked {
    let keys = alike();
    let mut leases = Vec::new();
    for (n, bytes) in (10_000..).zip(&keys) {
        let claim = Claim { id: ChallengeId::from_bytes(*bytes), ..lab.claim(n) };
        let what = format!("the id with the bytes {bytes:02x?}, beside others like it");
        leases.push((n, lab.lease(&what, claim, Answer::Won).await?));
    }
    let mut listed = lab.open().await?.into_iter().map(|entry| *entry.id.as_bytes());
    if !listed.by_ref().eq(keys.iter().copied()) {
        return Err("ids that are alike are not all listed as they were given".into());
    }
    for (n, lease) in leases {
        lab.settle("ids that are alike", lease, n, Ok(())).await?;
        lab.commit("ids that are alike", lease, End::Delivered, Ok(())).await?;
    }
    Ok(())
}

pub(super) async fn proofs(lab: &Lab) -> Checked {
    let mut leases = Vec::new();
    for (n, bytes) in (10_000..).zip(alike()) {
        let claim = lab.claim_of(id(n), Proof::Exclusive(SpendKey::from_bytes(bytes)));
        let what = format!("the proof with the bytes {bytes:02x?}, beside others like it");
        leases.push(lab.lease(&what, claim, Answer::Won).await?);
    }
    // Giving one back gives no other back.
    let Some(lease) = leases.pop() else { return Ok(()) };
    lab.release("proofs that are alike", lease, Release::NotCharged, Ok(())).await?;
    for (n, bytes) in (20_000..).zip(alike()).take(leases.len()) {
        let claim = lab.claim_of(id(n), Proof::Exclusive(SpendKey::from_bytes(bytes)));
        lab.expect("the proof of another id, beside others like it", claim, Answer::Busy).await?;
    }
    // The bytes of an id are nobody's proof, and the other way round.
    lab.expect("a first claim", lab.claim(1000), Answer::Won).await?;
    let id_of_proof = ChallengeId::from_bytes(*key(1000).as_bytes());
    let proof_of_id = Proof::Exclusive(SpendKey::from_bytes(*id(1000).as_bytes()));
    let crossed = lab.claim_of(id_of_proof, proof_of_id);
    lab.expect("an id with the bytes of a proof, and a proof with those of an id", crossed, Answer::Won).await?;
    let same = lab.claim_of(id(1001), Proof::Exclusive(SpendKey::from_bytes(*id(1001).as_bytes())));
    lab.expect("an id and a proof with the same bytes", same, Answer::Won).await.map(drop)
}

pub(super) async fn bound_proofs_stay_local(lab: &Lab) -> Checked {
    let bound = |n| lab.claim_of(id(n), Proof::Bound(key(1)));
    lab.expect("a bound proof", bound(1), Answer::Won).await?;
    let lease = lab.lease("a bound proof that another id has too", bound(2), Answer::Won).await?;
    let exclusive = lab.claim_of(id(3), Proof::Exclusive(key(1)));
    let owner = lab.lease("an exclusive proof like a bound one of other ids", exclusive, Answer::Won).await?;
    lab.expect("a bound proof like an exclusive one of another id", bound(4), Answer::Won).await?;
    // Nor does giving one back, or ending with it, touch the exclusive one.
    lab.release("a bound proof", lease, Release::NotCharged, Ok(())).await?;
    let lease = lab.lease("a bound proof again", bound(2), Answer::Won).await?;
    lab.settle("a bound proof", lease, 2, Ok(())).await?;
    lab.commit("a bound proof", lease, End::Delivered, Ok(())).await?;
    let other = |n| lab.claim_of(id(n), Proof::Exclusive(key(1)));
    lab.expect("the exclusive proof, for another id", other(5), Answer::Busy).await?;
    lab.settle("the exclusive proof", owner, 3, Ok(())).await?;
    lab.expect("the exclusive proof, for another id", other(5), Answer::OtherProof).await?;
    lab.expect("a bound proof, spent", bound(2), Answer::Spent(End::Delivered)).await?;
    let another = lab.claim_of(id(2), Proof::Bound(key(2)));
    lab.expect("another bound proof for a spent id", another, Answer::OtherProof).await.map(drop)
}
