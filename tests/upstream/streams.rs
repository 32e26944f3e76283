//! A gigabyte each way, in memory that does not grow.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, header::AUTHORIZATION};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    provider::Provider,
    shop::{Shop, client, quick, service},
};

const PIECE: usize = 64 * 1024;
const PIECES: usize = 16 * 1024;
const GIGABYTE: u64 = (PIECE * PIECES) as u64;
const ROOM: u64 = 64 * 1024 * 1024;

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

/// The most that was resident while something went on, above what was before.
struct Watch(u64, u64);

impl Watch {
    fn begin() -> Self {
        let now = resident();
        Self(now, now)
    }

    fn look(&mut self) {
        self.1 = self.1.max(resident());
    }

    fn grown(&self, what: &str) {
        let grown = self.1 - self.0;
        println!("{what}: {} KiB more at most", grown / 1024);
        assert!(grown < ROOM, "{what}: {grown} bytes");
    }
}

/// One test for both, so that neither is in the other's memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_passes_each_way_in_flat_memory() {
    answer().await;
    upload().await;
}

async fn answer() {
    let provider = Provider::start(|mut peer| async move {
        peer.head().await;
        peer.write(&format!("HTTP/1.1 200 OK\r\ncontent-length: {GIGABYTE}\r\n\r\n")).await;
        let piece = vec![7; PIECE];
        for _ in 0..PIECES {
            peer.stream.write_all(&piece).await.unwrap();
        }
    })
    .await;
    let shop = Shop::open(service(quick(provider.url()).idle_timeout(crate::provider::PATIENCE))).await;
    let credential = shop.credential("/paid/a").await;
    let request = Request::get(shop.url("/paid/a")).header(AUTHORIZATION, credential).body(Empty::<Bytes>::new());
    let mut watch = Watch::begin();
    let mut body = client().request(request.unwrap()).await.unwrap().into_body();
    let (mut read, mut frames) = (0, 0_usize);
    while let Some(frame) = body.frame().await {
        read += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
        frames += 1;
        if frames % 512 == 0 {
            watch.look();
        }
    }
    assert_eq!(read, GIGABYTE);
    watch.grown("an answer of a gigabyte");
    assert_eq!(shop.rail.settlements(), 1);
}

async fn upload() {
    let provider = Provider::start(|mut peer| async move {
        let head = peer.head().await.unwrap();
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        // The pieces with their frames, and the end.
        let (mut read, mut buffer) = (0, vec![0; PIECE]);
        loop {
            let count = peer.stream.read(&mut buffer).await.unwrap();
            read += count as u64;
            if buffer[..count].ends_with(b"0\r\n\r\n") && read >= GIGABYTE {
                break;
            }
        }
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstored").await;
    })
    .await;
    let shop = Shop::open(service(quick(provider.url()).first_byte_timeout(crate::provider::PATIENCE))).await;
    let offer = shop.server.send(Method::POST, "/streamed/a", &[], "").await;
    let token = serde_json::json!({"token": "ok"});
    let credential = crate::support::pay_with(&crate::support::challenge(&offer.headers), None, &token);
    let piece = Bytes::from(vec![7; PIECE]);
    let frames = stream::iter(0..PIECES).map(move |_| Ok::<_, Infallible>(Frame::data(piece.clone())));
    let request = Request::post(shop.url("/streamed/a")).header(AUTHORIZATION, credential);
    let mut watch = Watch::begin();
    let answer = tokio::spawn(client().request(request.body(StreamBody::new(frames)).unwrap()));
    while !answer.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        watch.look();
    }
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("payment-receipt"));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "stored");
    watch.grown("an upload of a gigabyte");
}
