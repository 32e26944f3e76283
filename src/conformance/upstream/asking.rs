//! What is asked and what is answered.

use std::sync::Arc;

use futures_util::future::join_all;
use http::{Method, Request};
use tokio::sync::{Barrier, mpsc};

use super::{
    BoxFuture,
    lab::{Checked, Lab, expect, get, read, within},
};
use crate::upstream::{Body, Call, Stage};

pub(super) fn name(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let bench = lab.answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
        let name = bench.upstream.name().to_owned();
        expect(!name.is_empty(), "its name is empty")?;
        bench.ask(get("/")?).await?;
        expect(bench.upstream.name() == name, format!("its name was {name:?} before a call, and is not any more"))
    })
}

pub(super) fn request(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let (tell, mut told) = mpsc::channel(8);
        let bench = lab
            .provider(move |mut peer| {
                let tell = tell.clone();
                async move {
                    while let Some(head) = peer.head().await {
                        let body = peer.body(&head).await;
                        let _ = tell.send((head, body)).await;
                        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                }
            })
            .await?;
        for (method, path, body) in [
            (Method::GET, "/a/b%2Fc//d;v=1?x=%26&&y=+&z", ""),
            (Method::POST, "/", "{\"a\": [1, 2]}"),
            (Method::DELETE, "/v1/a?b", ""),
            (Method::PATCH, "/v1/a:b@c", "x\r\n\r\ny"),
        ] {
            let request = Request::builder().method(method.clone()).uri(path).header("x-kept", "as it is");
            let request = request.body(if body.is_empty() { Body::empty() } else { body.into() });
            bench.ask(request.map_err(|error| error.to_string())?).await?;
            let heard = within("the provider", told.recv()).await?;
            let (head, got) = heard.ok_or("the provider has heard nothing")?;
            expect(
                head.starts_with(&format!("{method} {path} HTTP/1.1\r\n")),
                format!("{method} {path} was asked for, and the provider heard {:?}", head.lines().next()),
            )?;
            expect(head.contains("\r\nx-kept: as it is\r\n"), "a header of the request did not arrive")?;
            let got = got.ok_or_else(|| format!("the body of {method} {path} broke off"))?;
            expect(got == body.as_bytes(), format!("{method} {path}: the body that arrived was another one"))?;
        }
        Ok(())
    })
}

pub(super) fn answer(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\nx-kept: 1\r\ncontent-length: 4\r\n\r\nbody", 200),
            ("HTTP/1.1 201 x\r\nx-kept: 1\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", 201),
            ("HTTP/1.1 400 x\r\nx-kept: 1\r\ncontent-length: 4\r\n\r\nbody", 400),
            ("HTTP/1.1 404 x\r\nx-kept: 1\r\ncontent-length: 4\r\n\r\nbody", 404),
            ("HTTP/1.1 429 x\r\nx-kept: 1\r\ncontent-length: 4\r\n\r\nbody", 429),
            ("HTTP/1.1 500 x\r\nx-kept: 1\r\ncontent-length: 4\r\n\r\nbody", 500),
            ("HTTP/1.1 503 x\r\nx-kept: 1\r\ncontent-length: 4\r\n\r\nbody", 503),
        ] {
            let bench = lab.answering(answer).await?;
            let got = bench.ask(get("/")?).await.map_err(|how| format!("{status}: {how}"))?;
            expect(got.status().as_u16() == status, format!("{status} came as {}", got.status()))?;
            expect(got.headers().contains_key("x-kept"), format!("{status}: a header is missing"))?;
            expect(read(got).await? == "body", format!("{status}: the body is another one"))?;
        }
        Ok(())
    })
}

pub(super) fn redirect(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        for status in [301, 302, 303, 307, 308] {
            let answer = format!("HTTP/1.1 {status} x\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
            let bench = lab
                .provider(move |mut peer| {
                    let answer = answer.clone();
                    async move {
                        while peer.head().await.is_some() {
                            peer.write(&answer).await;
                        }
                    }
                })
                .await?;
            let got = bench.ask(get("/")?).await?;
            expect(got.status().as_u16() == status, format!("{status} came as {}", got.status()))?;
            expect(bench.heard() == 1, format!("{status}: the provider heard {} requests", bench.heard()))?;
        }
        Ok(())
    })
}

pub(super) fn many_at_once(lab: &Lab) -> BoxFuture<'_, Checked> {
    const MANY: usize = 8;
    Box::pin(async move {
        let all_there = Arc::new(Barrier::new(MANY));
        let bench = lab
            .provider(move |mut peer| {
                let all_there = Arc::clone(&all_there);
                async move {
                    while let Some(head) = peer.head().await {
                        // Nobody is answered before everybody has asked.
                        all_there.wait().await;
                        let path = head.split(' ').nth(1).unwrap_or_default();
                        peer.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len())).await;
                    }
                }
            })
            .await?;
        let calls = (0..MANY).map(|number| {
            let bench = &bench;
            async move {
                let path = format!("/call/{number}");
                let answer = read(bench.ask(get(&path)?).await?).await?;
                expect(answer == path, format!("{path} was asked for, and {answer:?} answered"))
            }
        });
        join_all(calls).await.into_iter().collect()
    })
}

pub(super) fn started(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let call = Call::default();
        let report = call.report.clone();
        let (tell, mut told) = mpsc::channel(1);
        let bench = lab
            .provider(move |mut peer| {
                let (report, tell) = (report.clone(), tell.clone());
                async move {
                    if peer.head().await.is_some() {
                        let _ = tell.send(report.stage()).await;
                        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                }
            })
            .await?;
        expect(call.report.stage() == Stage::NotStarted, "a call has started that nobody has made")?;
        let answer = within("the call", bench.upstream.call(get("/")?, &call)).await?;
        answer.map_err(|error| format!("there was no answer: {error}"))?;
        let stage = within("the provider", told.recv()).await?.unwrap_or_default();
        expect(stage >= Stage::Started, "the provider has heard of a call that the report says had not started")
    })
}
