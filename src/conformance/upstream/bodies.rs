//! Bodies, on their way in both directions.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::{sync::mpsc, time::sleep};

use super::{
    BoxFuture,
    lab::{A_WHILE, Checked, Lab, expect, get, piece, within},
};
use crate::upstream::{Body, Call};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// A body of what is sent to it; it breaks off on an error.
fn streamed() -> (mpsc::Sender<Result<&'static str, io::Error>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = stream::unfold(receiver, |mut receiver: mpsc::Receiver<Result<&'static str, io::Error>>| async {
        let next = receiver.recv().await?;
        Some((next.map(|text| Frame::data(Bytes::from_static(text.as_bytes()))), receiver))
    });
    (sender, Body::new(StreamBody::new(frames.boxed())))
}

fn post(body: Body) -> Checked<Request<Body>> {
    Request::post("/").body(body).map_err(|error| error.to_string())
}

pub(super) fn answers_stream(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let (permit, permits) = mpsc::channel::<()>(1);
        let permits = Arc::new(tokio::sync::Mutex::new(permits));
        let bench = lab
            .provider(move |mut peer| {
                let permits = Arc::clone(&permits);
                async move {
                    if peer.head().await.is_none() {
                        return;
                    }
                    let mut permits = permits.lock().await;
                    // Each only when the one before it was read.
                    for step in [CHUNKED, "5\r\nfirst\r\n", "6\r\nsecond\r\n", "0\r\n\r\n"] {
                        peer.write(step).await;
                        permits.recv().await;
                    }
                }
            })
            .await?;
        let mut body = bench.ask(get("/")?).await.map_err(|how| format!("the head alone: {how}"))?.into_body();
        for expected in ["first", "second"] {
            permit.send(()).await.map_err(|_| "the provider is gone")?;
            let got = piece(&mut body).await.map_err(|how| format!("the {expected} piece: {how}"))?;
            expect(got == expected, format!("the {expected} piece is {got:?}"))?;
        }
        permit.send(()).await.map_err(|_| "the provider is gone")?;
        match within("the end of the answer", body.frame()).await? {
            None => Ok(()),
            Some(_) => Err("there is something behind the end of the answer".to_owned()),
        }
    })
}

pub(super) fn requests_stream(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let (tell, mut told) = mpsc::channel(1);
        let bench = lab
            .provider(move |mut peer| {
                let tell = tell.clone();
                async move {
                    if peer.head().await.is_none() {
                        return;
                    }
                    for piece in ["first", "second"] {
                        if peer.until(piece.as_bytes()).await.is_some() {
                            let _ = tell.send(piece).await;
                        }
                    }
                    peer.until(b"0\r\n\r\n").await;
                    peer.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            })
            .await?;
        let (sender, body) = streamed();
        let request = post(body)?;
        let asking = bench.ask(request);
        let sending = async {
            for piece in ["first", "second"] {
                sender.send(Ok(piece)).await.map_err(|_| "the body of the request was dropped")?;
                let what = format!("the {piece} piece of the request does not leave by itself");
                within(&what, told.recv()).await?;
            }
            drop(sender);
            Ok::<_, String>(())
        };
        let (answer, sent) = futures_util::future::join(asking, sending).await;
        sent?;
        answer.map(drop)
    })
}

pub(super) fn pace(lab: &Lab) -> BoxFuture<'_, Checked> {
    /// More than sockets and sensible buffers hold.
    const ROOM: usize = 32 * 1024 * 1024;
    const PIECE: usize = 64 * 1024;
    Box::pin(async move {
        let written = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&written);
        let bench = lab
            .provider(move |mut peer| {
                let count = Arc::clone(&count);
                async move {
                    if peer.head().await.is_none() {
                        return;
                    }
                    peer.write("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await;
                    let piece = vec![b'x'; PIECE];
                    while count.load(SeqCst) <= 2 * ROOM && peer.write(&piece).await {
                        count.fetch_add(PIECE, SeqCst);
                    }
                }
            })
            .await?;
        let answer = bench.ask(get("/")?).await?;
        // Until nothing moves any more.
        loop {
            let before = written.load(SeqCst);
            sleep(A_WHILE).await;
            let now = written.load(SeqCst);
            expect(now < ROOM, format!("nobody reads, and {now} bytes were taken"))?;
            if now == before {
                break;
            }
        }
        drop(answer);
        Ok(())
    })
}

pub(super) fn trailers(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let answer =
            "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\n";
        let answer = lab.answering(answer).await?.ask(get("/")?).await?;
        let body = within("reading the answer", answer.into_body().collect()).await?;
        let body = body.map_err(|error| format!("the body of the answer failed: {error}"))?;
        let sum = body.trailers().and_then(|trailers| trailers.get("x-sum"));
        expect(sum.is_some_and(|sum| sum == "7"), "the trailers did not come")
    })
}

pub(super) fn breaks(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nxyz\r\n",
        ] {
            let bench = lab.answering(answer).await?;
            // Where the head and the break come at once, there may be no answer at all.
            let (Ok(got), _) = bench.call(get("/")?).await? else { continue };
            let read = within("reading the answer", got.into_body().collect()).await?;
            expect(read.is_err(), format!("{answer:?} ended as if it were whole"))?;
        }
        Ok(())
    })
}

pub(super) fn client_breaks(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let (tell, mut told) = mpsc::channel(1);
        let bench = lab
            .provider(move |mut peer| {
                let tell = tell.clone();
                async move {
                    if let Some(head) = peer.head().await {
                        let body = peer.body(&head).await;
                        let _ = tell.send(body).await;
                        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                }
            })
            .await?;
        let (sender, body) = streamed();
        let request = post(body)?;
        let upstream = Arc::clone(&bench.upstream);
        let asking = tokio::spawn(async move { upstream.call(request, &Call::default()).await.map(drop) });
        let sent = async {
            sender.send(Ok("half")).await.map_err(|_| "the body of the request was dropped")?;
            sender.send(Err(io::ErrorKind::ConnectionReset.into())).await.map_err(|_| "it was dropped")
        };
        let sent = within("the request", sent).await;
        drop(sender);
        sent??;
        let answer = within("the call", asking).await?;
        expect(!matches!(answer, Ok(Ok(()))), "the request broke off, and was answered")?;
        // Where it was never asked, it cannot have heard anything.
        match tokio::time::timeout(A_WHILE, told.recv()).await {
            Ok(Some(Some(body))) => Err(format!("the provider took {} bytes for the whole request", body.len())),
            _ => Ok(()),
        }
    })
}
