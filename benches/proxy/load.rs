//! Many clients at a time.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{Server, client::Client};

/// Clients while latencies are measured: enough that none waits for its turn.
const CLIENTS: u32 = 16;
/// Ticks of the processor time in `/proc`, per second (`getconf CLK_TCK` on every Linux there is).
const TICKS: f64 = 100.0;

/// Seconds of calls.
#[derive(Clone, Default)]
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    pub(crate) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn milliseconds(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * part).round() as usize] * 1e3
    }

    pub(crate) fn print(&self, name: &str, direct: &Self) {
        let [p50, p99] = [0.5, 0.99].map(|part| self.milliseconds(part));
        let [added50, added99] = [(0.5, p50), (0.99, p99)].map(|(part, of)| of - direct.milliseconds(part));
        println!("{name:<28} {p50:>9.3} {p99:>9.3} {added50:>12.3} {added99:>12.3}");
    }
}

/// Calls at a fixed rate, each timed from when it was due: a server that stalls is not asked less often.
pub(crate) async fn latencies(server: &Server, rate: f64, for_so_long: Duration) -> Latencies {
    let target = server.target;
    let mut clients = JoinSet::new();
    let interval = Duration::from_secs_f64(f64::from(CLIENTS) / rate);
    let begun = Instant::now() + Duration::from_millis(50);
    for number in 0..CLIENTS {
        clients.spawn(async move {
            let mut client = Client::connect(target.address).await;
            let mut latencies = Vec::new();
            let mut due = begun + interval * number / CLIENTS;
            while due < begun + for_so_long {
                tokio::time::sleep_until(due.into()).await;
                // The timer is not part of it: it wakes up to a millisecond late.
                let started = Instant::now().min(due + Duration::from_millis(2));
                client.call(&target).await;
                latencies.push(started.elapsed().as_secs_f64());
                due += interval;
            }
            latencies
        });
    }
    Latencies(clients.join_all().await.concat())
}

/// Calls within some time, and what the server took of its processors.
#[derive(Default)]
pub(crate) struct Throughput {
    calls: f64,
    seconds: f64,
    processors: f64,
}

impl Throughput {
    pub(crate) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.seconds += other.seconds;
        self.processors += other.processors;
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.calls / self.seconds
    }

    pub(crate) fn print(&self, name: &str, bare: f64) {
        let processors = self.processors / self.calls * 1e6;
        let part = self.per_second() / bare * 100.0;
        println!("{name:<28} {:>9.0} {part:>12.1} % {processors:>16.1}", self.per_second());
    }
}

/// Calls one after the other on each of `connections`.
pub(crate) async fn throughput(server: &Server, connections: usize, for_so_long: Duration) -> Throughput {
    let target = server.target;
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(target.address).await);
    }
    let over = Arc::new(AtomicBool::new(false));
    let processors = processor_seconds(server.process);
    let begun = Instant::now();
    let mut working = JoinSet::new();
    for mut client in clients {
        let over = Arc::clone(&over);
        working.spawn(async move {
            let mut calls = 0.0;
            while !over.load(Ordering::Relaxed) {
                client.call(&target).await;
                calls += 1.0;
            }
            calls
        });
    }
    tokio::time::sleep(for_so_long).await;
    over.store(true, Ordering::Relaxed);
    let calls = working.join_all().await.into_iter().sum();
    Throughput {
        calls,
        seconds: begun.elapsed().as_secs_f64(),
        processors: processor_seconds(server.process) - processors,
    }
}

/// What a process has taken of the processors so far, in user space and in the kernel.
fn processor_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name may have spaces, and ends with the last bracket. User and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    [11, 12].map(|field| fields[field].parse::<f64>().unwrap()).iter().sum::<f64>() / TICKS
}
