//! The ledger in SQLite: how many receipts it takes in a second, and how long one of a million takes to be found.
//!
//! ```text
//! cargo bench --bench ledger
//! cargo bench --bench ledger -- --receipts 100000 --seconds 5
//! ```
//!
//! No criterion: it times one thing after the other, and receipts are appended by many at a time, who share their
//! writes to the disk. Times are printed and never asserted: they are those of one machine. The file is in the folder
//! for temporary files (see `TMPDIR`); where that is in memory, the rates mean little.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use futures_util::future::join_all;
use tower_mpp::{
    protocol::{ChallengeId, ReceiptId, Timestamp, Visibility},
    store::{Listed, ReceiptRow, ReceiptStore, SqliteNonceStore},
};

/// The ledger of signed receipts under load
#[derive(Parser)]
struct Arguments {
    /// How long each number of callers appends
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    seconds: f64,
    /// How many append at a time
    #[arg(long, value_delimiter = ',', default_value = "1,8,64,256", value_name = "NUMBERS")]
    callers: Vec<usize>,
    /// How many receipts there are when it is read
    #[arg(long, default_value_t = 1_000_000, value_name = "RECEIPTS")]
    receipts: u64,
    /// How often each thing is read
    #[arg(long, default_value_t = 5000, value_name = "TIMES")]
    reads: u64,
    /// Given by `cargo bench`; without it the bench only shows that it works
    #[arg(long, hide = true)]
    bench: bool,
    /// Given by others who only want to see that it works
    #[arg(long, hide = true)]
    test: bool,
}

/// About as long as the whole of a receipt with all its members is, and as its public part.
const FULL: usize = 2500;
const PUBLIC: usize = 1200;
/// How many names the receipts are under, some far more often than others.
const NAMES: u64 = 1000;
/// The receipts are of so many days.
const DAYS: u64 = 90;
/// Who appends while the ledger is filled.
const FILLERS: u64 = 512;
/// A page of the public list.
const PAGE: usize = 50;

/// A number without a pattern (splitmix64).
fn spread(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn bytes<const N: usize>(kind: u64, n: u64) -> [u8; N] {
    let mut bytes = [0; N];
    for (place, word) in (0..).zip(bytes.chunks_exact_mut(8)) {
        word.copy_from_slice(&spread(16 * n + 8 * kind + place).to_be_bytes());
    }
    bytes
}

fn id(n: u64) -> ReceiptId {
    ReceiptId::from_bytes(bytes(0, n))
}

/// A text of a length, in which little repeats: hashes and signatures.
fn text(kind: u64, n: u64, length: usize) -> Arc<str> {
    let mut text = format!("{{\"receipt_id\":\"{}\",\"visibility\":\"public_minimal\"", id(n));
    for field in 0.. {
        if text.len() + 60 > length {
            break;
        }
        let (one, other) = (spread(kind + 64 * n + field), spread(kind + 64 * n + field + 32));
        text.push_str(&format!(",\"member_{field}\":\"{one:016x}{other:016x}\""));
    }
    text.push('}');
    text.extend(std::iter::repeat_n(' ', length.saturating_sub(text.len())));
    text.into()
}

/// The receipt number `n`. Nine of ten are listed.
fn receipt(n: u64) -> ReceiptRow {
    let draw = spread(n);
    // The square makes the first names frequent.
    let name = (draw % NAMES) * ((draw >> 20) % NAMES) / NAMES;
    let listed = Listed {
        name: format!("agent-{name}.example"),
        succeeded: !draw.is_multiple_of(20),
        paid: !draw.is_multiple_of(3),
        tokens: draw % 5000,
    };
    let seconds = 1_750_000_000 + n * DAYS * 86_400 / 1_000_000;
    ReceiptRow {
        id: id(n),
        provisional: false,
        parent: n.is_multiple_of(50).then(|| id(n / 2)),
        payment: Some(ChallengeId::from_bytes(bytes(1, n))),
        visibility: Visibility::PublicMinimal,
        created_at: Timestamp::from_unix(i64::try_from(seconds).unwrap()).unwrap(),
        full: text(1, n, FULL),
        public: Some(text(2, n, PUBLIC)),
        listed: (!n.is_multiple_of(10)).then_some(listed),
    }
}

/// Half of the times are shorter than the first, and one of a hundred is longer than the second; in milliseconds.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64, f64) {
    times.sort_unstable();
    let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize].as_secs_f64() * 1e3;
    (at(0.5), at(0.99), at(1.0))
}

fn print_times(what: &str, times: Vec<Duration>) {
    let count = times.len();
    let (p50, p99, most) = percentiles(times);
    println!("  {what:<44} p50 {p50:>9.3} ms  p99 {p99:>9.3} ms  longest {most:>9.3} ms  of {count}");
}

/// So many callers append for a while.
async fn append(store: &SqliteNonceStore, next: &Arc<AtomicU64>, callers: usize, duration: Duration) {
    let begun = Instant::now();
    let commits = store.commits();
    let tasks = (0..callers).map(|_| {
        let (store, next) = (store.clone(), Arc::clone(next));
        tokio::spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < duration {
                let row = receipt(next.fetch_add(1, Ordering::Relaxed));
                let since = Instant::now();
                store.append(row).await.unwrap();
                times.push(since.elapsed());
            }
            times
        })
    });
    let times: Vec<_> = join_all(tasks.collect::<Vec<_>>()).await.into_iter().flat_map(Result::unwrap).collect();
    let took = begun.elapsed().as_secs_f64();
    let each = times.len() as f64 / (store.commits() - commits) as f64;
    println!("{callers:>4} callers: {:>8.0} receipts a second, {each:.1} in a transaction", times.len() as f64 / took);
    print_times("append", times);
}

/// Appends all numbers below one that were not appended yet.
async fn fill(store: &SqliteNonceStore, next: &Arc<AtomicU64>, receipts: u64) {
    let (begun, from) = (Instant::now(), next.load(Ordering::Relaxed));
    let tasks = (0..FILLERS).map(|_| {
        let (store, next) = (store.clone(), Arc::clone(next));
        tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= receipts {
                    return;
                }
                store.append(receipt(n)).await.unwrap();
            }
        })
    });
    join_all(tasks.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
    next.store(receipts.max(from), Ordering::Relaxed);
    let (added, took) = (receipts.saturating_sub(from), begun.elapsed().as_secs_f64());
    println!("filled with {receipts} receipts: {:.0} a second by {FILLERS} callers", added as f64 / took);
}

async fn timed<F: Future>(step: F) -> (Duration, F::Output) {
    let since = Instant::now();
    let answer = step.await;
    (since.elapsed(), answer)
}

/// How long the ledger takes to answer, one caller after the other.
async fn read(store: &SqliteNonceStore, receipts: u64, reads: u64) {
    let any = |n: u64| spread(n ^ 0x5555) % receipts;
    let mut times: [Vec<Duration>; 8] = Default::default();
    for n in 0..reads {
        let (time, found) = timed(store.get(id(any(n)))).await;
        assert_eq!(found.unwrap().unwrap().full.len(), FULL);
        times[0].push(time);
        let (time, found) = timed(store.get(id(receipts + 1_000_000_000 + n))).await;
        assert!(found.unwrap().is_none());
        times[1].push(time);
        let (time, found) = timed(store.of_payment(receipt(any(n)).payment.unwrap(), 10)).await;
        assert_eq!(found.unwrap().len(), 1);
        times[2].push(time);
        times[3].push(timed(store.children(id(any(n) / 50 * 25), 10)).await.0);
        let (time, page) = timed(store.public_page(None, PAGE)).await;
        assert_eq!(page.unwrap().receipts.len(), PAGE);
        times[4].push(time);
        // Numbers begin at 1; at least one page is left.
        let (time, page) = timed(store.public_page(Some(any(n).max(PAGE as u64 * 2)), PAGE)).await;
        assert_eq!(page.unwrap().receipts.len(), PAGE);
        times[5].push(time);
        let (time, totals) = timed(store.totals(20, 0)).await;
        assert_eq!(totals.unwrap().names.len(), 20);
        times[6].push(time);
        times[7].push(timed(store.outcomes(id(any(n)), 10)).await.0);
    }
    let names = [
        "get, any receipt",
        "get, an id that is not there",
        "of_payment",
        "children",
        "public page of 50, the first",
        "public page of 50, anywhere",
        "totals of 20 names and 90 days",
        "outcomes of a receipt without",
    ];
    println!("read one after the other, of {receipts}:");
    names.into_iter().zip(times).for_each(|(name, times)| print_times(name, times));
}

fn megabytes(path: &Path) -> f64 {
    let of = |ending: &str| fs::metadata(format!("{}{ending}", path.display())).map_or(0, |file| file.len());
    (of("") + of("-wal")) as f64 / 1e6
}

async fn run(arguments: Arguments) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let store = SqliteNonceStore::open(&path).await.unwrap();
    let next = Arc::new(AtomicU64::new(0));
    let duration = Duration::from_secs_f64(arguments.seconds);
    println!("an empty ledger; a receipt has {FULL} bytes, and {PUBLIC} that everybody may see");
    for &callers in &arguments.callers {
        append(&store, &next, callers, duration).await;
    }
    let begun = next.load(Ordering::Relaxed);
    fill(&store, &next, arguments.receipts.max(begun)).await;
    let receipts = next.load(Ordering::Relaxed);
    let beside = megabytes(&path) * 1e6 / receipts as f64 - (FULL + PUBLIC) as f64;
    println!("the files have {:.0} MB: {beside:.0} bytes for each receipt beside its texts", megabytes(&path));
    read(&store, receipts, arguments.reads).await;
    println!("a ledger of {receipts}:");
    for &callers in &arguments.callers {
        append(&store, &next, callers, duration).await;
    }
}

fn main() {
    let mut arguments = Arguments::parse();
    if arguments.test || !arguments.bench {
        println!("only to see that it works: run `cargo bench --bench ledger`");
        arguments.seconds = 0.1;
        arguments.receipts = arguments.receipts.min(2000);
        arguments.reads = arguments.reads.min(20);
        arguments.callers.truncate(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(arguments));
}
