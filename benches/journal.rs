//! The journal in memory: what one payment costs at 10, 10,000 and 1,000,000 live entries, and the
//! longest that a single claim takes while a million are added.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BatchSize, BenchmarkId, Criterion};
use futures_util::FutureExt as _;
use tower_mpp::{
    method::Settlement,
    protocol::{ChallengeId, SpendKey, Timestamp},
    store::{Claim, Claimed, End, MemoryNonceStore, NonceStore, Proof},
};

const KEEP: Duration = Duration::from_secs(300);
const MOST: u64 = 1_000_000;

/// Bytes as an HMAC or a hash has them, without the time to compute one.
fn spread(n: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (i, word) in bytes.chunks_exact_mut(8).enumerate() {
        // splitmix64
        let mut z = n.wrapping_mul(4).wrapping_add(i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(z ^ (z >> 31)).to_be_bytes());
    }
    bytes
}

/// Claims one after the other, so far apart that there are about so many live entries at a time.
struct Claims {
    record: Arc<[u8]>,
    start: Timestamp,
    apart: Duration,
    n: u64,
}

impl Claims {
    fn new(live: u64) -> Self {
        let start = Timestamp::from_unix(1_800_000_000).unwrap();
        Self { record: Arc::from([7; 120]), start, apart: KEEP / u32::try_from(live).unwrap(), n: 0 }
    }

    fn next(&mut self) -> Claim {
        self.n += 1;
        let past = u64::try_from(self.apart.as_nanos()).unwrap() * self.n;
        let now = self.start.saturating_add(Duration::from_nanos(past));
        Claim {
            id: ChallengeId::from_bytes(spread(2 * self.n)),
            proof: Proof::Exclusive(SpendKey::from_bytes(spread(2 * self.n + 1))),
            now,
            lease_until: now.saturating_add(KEEP / 10),
            keep_until: now.saturating_add(KEEP),
            record: Arc::clone(&self.record),
        }
    }
}

fn pay(store: &dyn NonceStore, claim: Claim, settlement: &Settlement) {
    let Ok(Claimed::Won { lease, .. }) = store.claim(claim).now_or_never().unwrap() else { panic!("not won") };
    store.settle(lease, settlement).now_or_never().unwrap().unwrap();
    store.commit(lease, End::Delivered).now_or_never().unwrap().unwrap();
}

fn payment(c: &mut Criterion) {
    let settlement = Settlement::new("pi_3NabcdefghijklmnopqrstuvX", Timestamp::from_unix(1_800_000_000).unwrap());
    let mut group = c.benchmark_group("claim, settle, commit");
    group.sample_size(30).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for live in [10, 10_000, MOST] {
        let store = MemoryNonceStore::single_process(2 * MOST as usize);
        let mut claims = Claims::new(live);
        // Until as many are forgotten as come.
        for _ in 0..2 * live {
            pay(&store, claims.next(), &settlement);
        }
        group.bench_function(BenchmarkId::from_parameter(live), |b| {
            b.iter_batched(|| claims.next(), |claim| pay(&store, claim, &settlement), BatchSize::NumIterations(64));
        });
        println!("  {} entries are in the store", store.len());
    }
    group.finish();
}

/// The longest single claims while a store is filled. The machine interrupts us too, for longer than any
/// claim takes: so the same claims are made in several stores, and each counts with its shortest time.
fn pauses() {
    const RUNS: usize = 5;
    let mut shortest = vec![Duration::MAX; MOST as usize];
    for _ in 0..RUNS {
        let store = MemoryNonceStore::single_process(MOST as usize);
        // All at one instant. A bound proof, so that what a claim has to move is the same in every run.
        let mut claims = Claims::new(MOST);
        claims.apart = Duration::ZERO;
        for shortest in &mut shortest {
            let claim = claims.next();
            let claim = Claim { proof: Proof::Bound(claim.proof.key()), ..claim };
            let started = Instant::now();
            black_box(store.claim(claim).now_or_never());
            *shortest = started.elapsed().min(*shortest);
        }
    }
    shortest.sort_unstable();
    let at = |share: f64| shortest[(share * (MOST - 1) as f64) as usize];
    println!(
        "a single claim, from an empty store to {MOST} entries: median {:?}, 99.9% {:?}, 99.999% {:?}, longest {:?}",
        at(0.5),
        at(0.999),
        at(0.999_99),
        at(1.0),
    );
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    payment(&mut criterion);
    criterion.final_summary();
    if !std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        pauses();
    }
}
