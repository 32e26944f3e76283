//! Calls that come to nothing.

use std::sync::Arc;

use tokio::{sync::Notify, time::sleep};

use super::{
    BoxFuture,
    lab::{A_WHILE, Bench, Checked, Lab, call, expect, get, piece, read, within},
};
use crate::{
    refund::ProviderCall,
    upstream::{Call, Stage},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub(super) fn unreachable(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let upstream = lab.nobody().await?;
        let (answer, report) = call(&*upstream, get("/")?).await?;
        let Err(error) = answer else { return Err("nobody was there, and there was an answer".to_owned()) };
        expect(
            error.provider_call() == ProviderCall::NotStarted,
            format!("nobody was there, and the error is {error:?}, which says that the call had started"),
        )?;
        expect(
            report.stage() == Stage::NotStarted,
            format!("nobody was there, and the report says {:?}", report.stage()),
        )
    })
}

pub(super) fn broken(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        for begun in ["", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\ncontent-le"] {
            let bench = lab.answering(begun).await?;
            let (answer, report) = bench.call(get("/")?).await?;
            let Err(error) = answer else { return Err(format!("{begun:?} is no answer, and became one")) };
            expect(
                error.provider_call() == ProviderCall::Started,
                format!("it broke behind {begun:?}, and the error is {error:?}"),
            )?;
            expect(report.stage() == Stage::Started, format!("it broke behind {begun:?}: {:?}", report.stage()))?;
        }
        Ok(())
    })
}

pub(super) fn tried_twice(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let bench = lab.answering("").await?;
        drop(bench.call(get("/")?).await?);
        sleep(A_WHILE).await;
        expect(bench.heard() == 1, format!("one call was heard {} times", bench.heard()))
    })
}

pub(super) fn next_call(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let bench = lab
            .provider(|mut peer| async move {
                while let Some(head) = peer.head().await {
                    if head.starts_with("GET /broken ") {
                        return;
                    }
                    if head.starts_with("GET /half ") {
                        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
                        return;
                    }
                    peer.write(OK).await;
                }
            })
            .await?;
        for before in ["/", "/broken", "/half", "/"] {
            if let (Ok(answer), _) = bench.call(get(before)?).await? {
                drop(read(answer).await);
            }
            let answer = bench.ask(get("/next")?).await.map_err(|how| format!("behind {before}: {how}"))?;
            let answer = read(answer).await.map_err(|how| format!("behind {before}: {how}"))?;
            expect(answer == "ok", format!("behind {before}, the next answer was {answer:?}"))?;
        }
        Ok(())
    })
}

/// A provider that says this, and tells when its connection is closed.
async fn waiting(lab: &Lab, says: &'static str) -> Checked<(Bench, Arc<Notify>, Arc<Notify>)> {
    let (heard, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let tell = (Arc::clone(&heard), Arc::clone(&closed));
    let bench = lab
        .provider(move |mut peer| {
            let (heard, closed) = tell.clone();
            async move {
                if peer.head().await.is_none() {
                    return;
                }
                peer.write(says).await;
                heard.notify_one();
                peer.closed().await;
                closed.notify_one();
            }
        })
        .await?;
    Ok((bench, heard, closed))
}

pub(super) fn dropped_call(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let (bench, heard, closed) = waiting(lab, "").await?;
        let request = get("/")?;
        let upstream = Arc::clone(&bench.upstream);
        let asking = tokio::spawn(async move { upstream.call(request, &Call::default()).await.map(drop) });
        let was_heard = within("the request", heard.notified()).await;
        asking.abort();
        was_heard?;
        let ended = within("the call was dropped, and goes on", closed.notified());
        ended.await
    })
}

pub(super) fn dropped_body(lab: &Lab) -> BoxFuture<'_, Checked> {
    Box::pin(async move {
        let says = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        let (bench, _, closed) = waiting(lab, says).await?;
        let mut body = bench.ask(get("/")?).await?.into_body();
        expect(piece(&mut body).await? == "first", "the first piece is another one")?;
        drop(body);
        within("the body was dropped, and the call goes on", closed.notified()).await
    })
}
