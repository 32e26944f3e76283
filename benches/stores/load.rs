//! Payers who pay one after the other, many at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tower_mpp::{
    Clock as _, SystemClock,
    method::Settlement,
    protocol::{ChallengeId, SpendKey, Timestamp},
    store::{Claim, Claimed, End, NonceStore, Proof},
};

/// What a number of callers did in a while.
#[derive(Default)]
pub(crate) struct Cell {
    took: Duration,
    /// In seconds, sorted.
    wholes: Vec<f32>,
    steps: Vec<f32>,
}

impl Cell {
    /// Adds what they did in another while.
    pub(crate) fn add(&mut self, mut more: Self) {
        self.took += more.took;
        self.wholes.append(&mut more.wholes);
        self.steps.append(&mut more.steps);
        self.wholes.sort_unstable_by(f32::total_cmp);
        self.steps.sort_unstable_by(f32::total_cmp);
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.wholes.len() as f64 / self.took.as_secs_f64()
    }

    /// How long all of it took for this share, in seconds.
    pub(crate) fn whole(&self, share: f64) -> f64 {
        at(&self.wholes, share)
    }

    /// How long a single step took.
    pub(crate) fn step(&self, share: f64) -> f64 {
        at(&self.steps, share)
    }
}

fn at(sorted: &[f32], share: f64) -> f64 {
    let index = (share * sorted.len().saturating_sub(1) as f64) as usize;
    sorted.get(index).map_or(f64::NAN, |seconds| f64::from(*seconds))
}

/// Runs callers side by side, until they end.
pub(crate) async fn side_by_side<C, F>(callers: usize, caller: C) -> Cell
where
    C: Fn() -> F,
    F: Future<Output = (Vec<f32>, Vec<f32>)> + Send + 'static,
{
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers).map(|_| tokio::spawn(caller())).collect();
    let (mut wholes, mut steps) = (Vec::new(), Vec::new());
    for times in join_all(tasks).await {
        let (whole, step) = times.unwrap();
        wholes.extend(whole);
        steps.extend(step);
    }
    Cell { took: begun.elapsed(), wholes, steps }
}

/// Seconds since then; and from now on.
pub(crate) fn lap(since: &mut Instant) -> f32 {
    let now = Instant::now();
    let seconds = (now - *since).as_secs_f32();
    *since = now;
    seconds
}

/// Payments that were never made before.
#[derive(Clone, Default)]
pub(crate) struct Payments {
    next: Arc<AtomicU64>,
}

impl Payments {
    pub(crate) async fn load(&self, store: &Arc<dyn NonceStore>, payers: usize, duration: Duration) -> Cell {
        let until = Instant::now() + duration;
        side_by_side(payers, || {
            let (store, payments) = (Arc::clone(store), self.clone());
            async move {
                let (mut wholes, mut steps) = (Vec::new(), Vec::new());
                while Instant::now() < until {
                    let taken = payments.pay(&*store, Duration::from_secs(3600)).await;
                    wholes.push(taken.iter().sum());
                    steps.extend(taken);
                }
                (wholes, steps)
            }
        })
        .await
    }

    /// Makes so many payments, which are remembered for so long.
    pub(crate) async fn fill(&self, store: &Arc<dyn NonceStore>, number: u64, keep: Duration) {
        const PAYERS: u64 = 256;
        let payers = (0..PAYERS.min(number)).map(|payer| {
            let (store, payments) = (Arc::clone(store), self.clone());
            let share = number / PAYERS + u64::from(payer < number % PAYERS);
            tokio::spawn(async move {
                for _ in 0..share {
                    payments.pay(&*store, keep).await;
                }
            })
        });
        join_all(payers.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
    }

    /// One payment; how long its steps took.
    async fn pay(&self, store: &dyn NonceStore, keep: Duration) -> [f32; 3] {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let now = SystemClock.now();
        let claim = Claim {
            id: ChallengeId::from_bytes(spread(2 * number)),
            proof: Proof::Exclusive(SpendKey::from_bytes(spread(2 * number + 1))),
            now,
            lease_until: now.saturating_add(keep.min(Duration::from_secs(60))),
            keep_until: now.saturating_add(keep),
            record: RECORD.as_bytes().into(),
        };
        let settlement = Settlement::new(format!("pi_3N{number:022}"), whole_millis(now));
        let mut since = Instant::now();
        let Claimed::Won { lease, .. } = store.claim(claim).await.unwrap() else { panic!("nobody else has this id") };
        let claimed = lap(&mut since);
        store.settle(lease, &settlement).await.unwrap();
        let settled = lap(&mut since);
        store.commit(lease, End::Delivered).await.unwrap();
        [claimed, settled, lap(&mut since)]
    }
}

/// As a merchant writes it.
const RECORD: &str = r#"{"method":"stripe","intent":"charge","amount":"50","currency":"usd","scope":"POST /v1/messages","expires":"2026-11-21T15:26:00Z"}"#;

fn whole_millis(now: Timestamp) -> Timestamp {
    Timestamp::from_unix_millis(now.unix_millis()).unwrap()
}

/// Bytes as an HMAC or a hash has them, without the time to compute one.
pub(crate) fn spread(n: u64) -> [u8; 32] {
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
