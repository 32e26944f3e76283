//! The gateway under load, beside the upstream alone and beside a reverse proxy of hyper that does nothing else, in
//! the same run: latency that it adds, requests per second, and memory of open streams.
//!
//! ```text
//! cargo bench --bench proxy
//! cargo bench --bench proxy -- --seconds 20 --rate 300 --streams 2000
//! cargo bench --bench proxy -- --store sqlite --receipts
//! ```
//!
//! All of it are processes of their own, which share this machine with the clients: what a proxy costs is best seen in
//! the time of its processors. Times are printed and never asserted. The gateway is `examples/gateway`, built with
//! the profile of the bench.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod client;
mod load;
#[path = "../../tests/support/programs.rs"]
mod programs;
mod servers;
mod streams;

use std::{env, fs, net::SocketAddr, process::Stdio, time::Duration};

use clap::{Parser, ValueEnum};
use tokio::process::Command;

use self::{
    client::Target,
    load::{Latencies, Throughput},
    programs::{Running, command},
};

/// Open files beside those of the streams.
const OTHER_FILES: u64 = 500;

/// The gateway beside a bare reverse proxy
#[derive(Parser)]
struct Arguments {
    /// How long each of them works, for latencies and again for throughput
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    seconds: f64,
    /// Requests per second while latencies are measured
    #[arg(long, default_value_t = 200.0, value_name = "NUMBER")]
    rate: f64,
    /// Connections of the clients
    #[arg(long, default_value_t = 64, value_name = "NUMBER")]
    connections: usize,
    /// How many streams are open at a time; 0 for none
    #[arg(long, default_value_t = 2000, value_name = "NUMBER")]
    streams: usize,
    /// Where the gateway remembers payments
    #[arg(long, value_enum, default_value = "memory")]
    store: Store,
    /// The gateway signs receipts
    #[arg(long)]
    receipts: bool,
    /// What this process is, for itself
    #[arg(long, hide = true, value_enum)]
    role: Option<Role>,
    /// The upstream of the bare proxy, for itself
    #[arg(long, hide = true)]
    upstream: Option<SocketAddr>,
    /// Given by `cargo bench`; without it the bench only shows that it works
    #[arg(long, hide = true)]
    bench: bool,
    /// Given by others who only want to see that it works
    #[arg(long, hide = true)]
    test: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Store {
    Memory,
    Sqlite,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Upstream,
    Bare,
}

/// This program in another role.
async fn start(role: &str, upstream: Option<SocketAddr>) -> Running {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--role", role]).kill_on_drop(true);
    command.args(upstream.into_iter().flat_map(|address| ["--upstream".to_owned(), address.to_string()]));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::start(command, "listening on http://").await
}

async fn start_gateway(folder: &tempfile::TempDir, upstream: SocketAddr, arguments: &Arguments) -> Running {
    let store = match arguments.store {
        Store::Memory => "kind = \"memory\"\ncapacity = 2000000",
        Store::Sqlite => "kind = \"sqlite\"",
    };
    // A ledger in memory is for tests.
    let receipts = match (arguments.receipts, arguments.store) {
        (false, _) => "",
        (true, Store::Memory) => "[receipts]\nledger = \"receipts.db\"\n",
        (true, Store::Sqlite) => "[receipts]\n",
    };
    let file = format!(
        "listen = \"127.0.0.1:0\"\nrails.sandbox = true\n[store]\n{store}\n{receipts}[upstream]\nurl = \"http://{upstream}\"\n\
         idle_timeout_secs = 600\n[[routes]]\npath = \"/free/{{*rest}}\"\nfree = true\n\
         [[routes]]\npath = \"/paid/{{*rest}}\"\nprice = \"0.01\"\n"
    );
    fs::write(folder.path().join("gateway.toml"), file).unwrap();
    let mut gateway = command("gateway", folder.path());
    gateway.args(["--config", "gateway.toml"]).env("RUST_LOG", "warn");
    Running::start(gateway, "listening on http://").await
}

/// The process of a target, whose time and memory are looked at.
pub(crate) struct Server {
    target: Target,
    process: u32,
}

async fn run(arguments: Arguments) {
    let folder = tempfile::tempdir().unwrap();
    let upstream = start("upstream", None).await;
    let bare = start("bare", Some(upstream.address)).await;
    let gateway = start_gateway(&folder, upstream.address, &arguments).await;
    let server = |name, process: &Running, path, is_paid| Server {
        target: Target { name, address: process.address, path, is_paid },
        process: process.id(),
    };
    let direct = server("the upstream alone", &upstream, "/free/call", false);
    let proxied = server("a bare proxy of hyper", &bare, "/free/call", false);
    let free = server("the gateway, free", &gateway, "/free/call", false);
    let paid = server("the gateway, paid", &gateway, "/paid/call", true);
    let servers = [direct, proxied, free, paid];

    let turn = Duration::from_secs_f64(arguments.seconds.min(1.0));
    let turns = (arguments.seconds / turn.as_secs_f64()).round() as usize;
    // Connections are open, and pages are there.
    for server in &servers {
        load::throughput(server, arguments.connections, turn / 4).await;
    }
    println!("\nMilliseconds of a call at {:.0} calls per second", arguments.rate);
    println!("{:<28} {:>9} {:>9} {:>12} {:>12}", "", "p50", "p99", "added p50", "added p99");
    let mut latencies: Vec<Latencies> = servers.iter().map(|_| Latencies::default()).collect();
    for _ in 0..turns {
        // In turns: a machine that others use has better and worse seconds.
        for (server, latencies) in servers.iter().zip(&mut latencies) {
            latencies.add(load::latencies(server, arguments.rate, turn).await);
        }
    }
    let direct = latencies[0].clone();
    for (server, latencies) in servers.iter().zip(&latencies) {
        latencies.print(server.target.name, &direct);
    }

    println!("\nWith {} connections, as many calls as there can be", arguments.connections);
    println!("{:<28} {:>9} {:>14} {:>16}", "", "per s", "of the bare", "its CPU us/call");
    let mut throughputs: Vec<Throughput> = servers.iter().map(|_| Throughput::default()).collect();
    for _ in 0..turns {
        for (server, throughput) in servers.iter().zip(&mut throughputs) {
            throughput.add(load::throughput(server, arguments.connections, turn).await);
        }
    }
    let bare_rate = throughputs[1].per_second();
    for (server, throughput) in servers.iter().zip(&throughputs) {
        throughput.print(server.target.name, bare_rate);
    }
    println!("  (wanted: the free route at 90 % of the bare proxy or more; a paid call is two requests)");

    if arguments.streams > 0 {
        println!("\nMemory of {} open streams", arguments.streams);
        println!("{:<28} {:>12} {:>12} {:>14}", "", "before MiB", "open MiB", "KiB/stream");
        for (server, path) in servers.iter().skip(1).zip(["/free/stream", "/free/stream", "/paid/stream"]) {
            streams::measure(server, path, arguments.streams).await;
        }
    }
    for process in [gateway, bare, upstream] {
        process.kill().await;
    }
}

/// Streams are files on both sides of a proxy.
fn assert_files(streams: usize) {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    let needed = 2 * streams as u64 + OTHER_FILES;
    assert!(soft.is_none_or(|soft: u64| soft >= needed), "too few open files are allowed: run `ulimit -n {needed}`");
}

#[tokio::main]
async fn main() {
    let mut arguments = Arguments::parse();
    match (arguments.role, arguments.upstream) {
        (Some(Role::Upstream), _) => return servers::upstream().await,
        (Some(Role::Bare), Some(upstream)) => return servers::bare_proxy(upstream).await,
        (Some(Role::Bare), None) => panic!("a bare proxy needs an upstream"),
        (None, _) => {}
    }
    if arguments.test || !arguments.bench {
        println!("only to see that it works: run `cargo bench --bench proxy`");
        arguments.seconds = 0.2;
        arguments.streams = arguments.streams.min(20);
        arguments.connections = arguments.connections.min(4);
    }
    assert_files(arguments.streams);
    run(arguments).await;
}
