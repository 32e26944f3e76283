//! Many streams that are open at a time, and what a proxy keeps for each.

use std::{fs, time::Duration};

use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;

use super::{Server, client::Client};

/// How many are opened at a time.
const AT_ONCE: usize = 32;
/// What was needed to open them has been given back by then.
const REST: Duration = Duration::from_secs(1);

/// Opens streams, each until its first event, and prints by how much the server has grown.
pub(crate) async fn measure(server: &Server, path: &'static str, count: usize) {
    // What the first ones take is not theirs alone.
    drop(open(server, path, count.min(100)).await);
    tokio::time::sleep(REST).await;
    let before = resident(server.process);
    let streams = open(server, path, count).await;
    tokio::time::sleep(REST).await;
    let with = resident(server.process);
    let mib = |bytes: f64| bytes / 1024.0 / 1024.0;
    let each = (with - before) / count as f64 / 1024.0;
    println!("{:<28} {:>12.1} {:>12.1} {each:>14.1}", server.target.name, mib(before), mib(with));
    drop(streams);
    tokio::time::sleep(REST).await;
}

async fn open(server: &Server, path: &'static str, count: usize) -> Vec<impl Sized> {
    let target = server.target;
    stream::iter(0..count)
        .map(|_| async move {
            let mut client = Client::connect(target.address).await;
            let mut answer = client.ask(path, target.is_paid).await;
            let first = answer.frame().await.unwrap().unwrap();
            assert!(first.is_data());
            (client, answer)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// The memory of a process in bytes.
fn resident(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}
