//! The journals under load: payments per second, and how long one takes, for 1 to 256 payers at a time; beside
//! what the same machine's disk and servers can do without us, in the same run.
//!
//! ```text
//! cargo bench --bench stores
//! cargo bench --bench stores -- --stores sqlite,redis --payers 1,64 --seconds 10
//! cargo bench --bench stores -- --size 1000000
//! ```
//!
//! No criterion: it times one thing after the other, and here it is about many at a time, which share their
//! writes to the disk. Payers and servers share this machine. Times are printed and never asserted: they are
//! those of one machine. PostgreSQL and Redis are started for the run, in the folder for temporary files (see
//! `TMPDIR`), with `fsync=on` and `appendfsync always`; where that folder is in memory, all of it means little.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../examples/common/journal.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "only opened here")]
mod journal;
#[path = "../../tests/support/postgres.rs"]
#[allow(unreachable_pub, reason = "of the tests")]
mod postgres;
#[path = "../../tests/support/redis.rs"]
#[allow(unreachable_pub, reason = "of the tests")]
mod redis_server;

mod load;
mod raw;
mod size;

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};

use self::{
    journal::Location,
    load::{Cell, Payments},
    postgres::Postgres,
    raw::Raw,
    redis_server::Redis,
};

/// How long one of them works before it is the next one's turn, in seconds.
const TURN: f64 = 0.25;

/// Journals under load, beside their disk and servers
#[derive(Parser)]
struct Arguments {
    /// How long each number of payers pays
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    seconds: f64,
    /// How many pay at a time
    #[arg(long, value_delimiter = ',', default_value = "1,8,64,256", value_name = "NUMBERS")]
    payers: Vec<usize>,
    /// Which journals
    #[arg(long, value_delimiter = ',', default_value = "memory,sqlite,postgres,redis")]
    stores: Vec<Kind>,
    /// How many payments the size of a journal is measured with; 0 for none
    #[arg(long, default_value_t = 100_000, value_name = "PAYMENTS")]
    size: u64,
    /// Given by `cargo bench`; without it the bench only shows that it works
    #[arg(long, hide = true)]
    bench: bool,
    /// Given by others who only want to see that it works
    #[arg(long, hide = true)]
    test: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Memory,
    Sqlite,
    Postgres,
    Redis,
}

/// A journal that is measured, and its server.
pub(crate) enum Place {
    Memory,
    Sqlite,
    Postgres(Postgres),
    Redis(Redis),
}

impl Place {
    async fn of(kind: Kind) -> Self {
        match kind {
            Kind::Memory => Self::Memory,
            Kind::Sqlite => Self::Sqlite,
            Kind::Postgres => Self::Postgres(Postgres::start_in(&env::temp_dir()).await),
            Kind::Redis => Self::Redis(Redis::start().await),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
        }
    }

    /// An empty journal, and what its folder or database is called.
    pub(crate) async fn fresh(&self, folder: &Path, name: &str) -> (Location, String) {
        let text = match self {
            // More than anybody can pay here.
            Self::Memory => return (Location::Memory { capacity: 50_000_000 }, String::new()),
            Self::Sqlite => format!("sqlite:{}", folder.join(name).display()),
            Self::Postgres(server) => server.fresh_database().await,
            Self::Redis(server) => server.fresh(),
        };
        (Location::parse(&text).unwrap(), text)
    }
}

/// A line of the table.
fn print_line(what: &str, payers: usize, cell: &Cell, raw: Option<&Cell>) {
    let per_second = |cell: &Cell| format!("{:.0}", cell.per_second());
    let times = raw.map_or_else(String::new, |raw| format!("{:.2}", cell.step(0.5) / raw.step(0.5)));
    println!(
        "{what:<24} {payers:>6} {:>10} {:>10} {:>10} {:>10} {:>10} {times:>8}",
        per_second(cell),
        milliseconds(cell.whole(0.5)),
        milliseconds(cell.whole(0.99)),
        milliseconds(cell.step(0.5)),
        milliseconds(cell.step(0.99)),
    );
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.3}", seconds * 1e3)
}

/// The cells of one kind by the number of payers.
type Line = BTreeMap<usize, Cell>;

async fn measure(place: &Place, folder: &Path, arguments: &Arguments) {
    let raws = Raw::beside(place, folder).await;
    let mut lines: Vec<Line> = raws.iter().map(|_| Line::new()).collect();
    let mut line = Line::new();
    let payments = Payments::default();
    for &payers in &arguments.payers {
        let (location, _) = place.fresh(folder, &format!("load-{payers}.db")).await;
        let store = match location.open().await {
            Ok(journal) => journal.payments,
            Err(error) => {
                println!("{}: {error}", place.name());
                return;
            }
        };
        let cell = line.entry(payers).or_default();
        // In turns: the disk of a machine that others use has better and worse seconds.
        let turn = Duration::from_secs_f64(arguments.seconds.min(TURN));
        let begun = Instant::now();
        while begun.elapsed().as_secs_f64() < arguments.seconds * (raws.len() + 1) as f64 {
            for (raw, line) in raws.iter().zip(&mut lines) {
                let callers = if raw.is_alone() { 1 } else { payers };
                line.entry(callers).or_default().add(raw.measure(callers, turn).await);
            }
            cell.add(payments.load(&store, payers, turn).await);
        }
    }
    for (raw, line) in raws.iter().zip(&lines) {
        line.iter().for_each(|(callers, cell)| print_line(raw.name(), *callers, cell, None));
    }
    // The last one of a server is a write that is on the disk when it is answered: that is what a step is.
    let durable = if matches!(place, Place::Sqlite) { None } else { lines.last() };
    for (payers, cell) in &line {
        print_line(place.name(), *payers, cell, durable.and_then(|line| line.get(payers)));
    }
    if let (Place::Sqlite, Some(one), Some(many)) = (place, line.get(&1), line.get(&64)) {
        let times = many.per_second() / one.per_second();
        println!("  64 payers make {times:.1} times the payments of one (wanted: 10)");
    }
    if let (Place::Postgres(_) | Place::Redis(_), Some(one)) = (place, line.get(&1)) {
        let times = raws.iter().zip(&lines).filter_map(|(raw, line)| {
            let times = one.step(0.5) / line.get(&1)?.step(0.5);
            Some(format!("{times:.2} x {}", raw.name()))
        });
        let times = times.collect::<Vec<_>>().join(", or of ");
        println!("  a step of one payer takes the time of {times} (wanted: at most 1.5 of the last)");
    }
}

async fn run(arguments: Arguments) {
    println!(
        "{:<24} {:>6} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8}",
        "", "payers", "per second", "p50 ms", "p99 ms", "step p50", "step p99", "x raw"
    );
    for &kind in &arguments.stores {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::of(kind).await;
        measure(&place, folder.path(), &arguments).await;
        if arguments.size > 0 {
            size::measure(&place, folder.path(), arguments.size).await;
        }
    }
    println!(
        "A payment is three steps: claim, settle, commit. \"x raw\" is the median step by the median of the raw write \
         above it, with as many callers."
    );
}

fn main() {
    let mut arguments = Arguments::parse();
    if arguments.test || !arguments.bench {
        println!("only to see that it works: run `cargo bench --bench stores`");
        arguments.seconds = 0.1;
        arguments.size = arguments.size.min(100);
        arguments.payers.truncate(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(arguments));
}
