//! Clients that stop reading, and what they must not hold up; and time that is over for good.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;
use tower_mpp::{
    refund::ProviderCall,
    upstream::{Body, Call, Upstream, UpstreamError, UpstreamService},
};

use crate::{
    provider::PATIENCE,
    shop::{quick, service},
};

const MIB: usize = 1024 * 1024;

/// Answers a mebibyte over HTTP/2.
async fn large() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = hyper::service::service_fn(|_| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![7; MIB]))))
            });
            let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(1000)
                .serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(serve);
        }
    });
    address
}

async fn ask(service: &UpstreamService) -> Response<Body> {
    let request = Request::get("/a").body(Body::empty()).unwrap();
    timeout(PATIENCE, service.clone().oneshot(request)).await.expect("an answer in time").unwrap()
}

#[tokio::test]
async fn clients_that_do_not_read_hold_up_no_other_call_on_their_connection() {
    let upstream = service(quick(format!("http://{}", large().await)).http2_only());
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(ask(&upstream).await);
    }
    let read = timeout(PATIENCE, ask(&upstream).await.into_body().collect()).await.expect("in time").unwrap();
    assert_eq!(read.to_bytes().len(), MIB);
}

#[tokio::test]
async fn more_calls_than_a_connection_has_room_for_are_refused_before_they_start() {
    let upstream = service(quick(format!("http://{}", large().await)).http2_only());
    let mut unread = Vec::new();
    for _ in 0..100 {
        unread.push(ask(&upstream).await);
    }
    let refused = ask(&upstream).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"5".parse().unwrap()));
    assert_eq!(refused.extensions().get(), Some(&ProviderCall::NotStarted));
    unread.pop();
    assert_eq!(ask(&upstream).await.status(), 200);
}

/// A body that never says anything, and tells when it is let go.
struct Silent(Arc<AtomicBool>);

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_though_nobody_reads_its_answer() {
    let gone = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&gone);
    let inner = tower::service_fn(move |_: Request<Body>| {
        let body = Silent(Arc::clone(&told));
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let answer = ask(&UpstreamService::of_service(inner).timeout(Duration::from_secs(5))).await;
    sleep(Duration::from_secs(4)).await;
    assert!(!gone.load(Relaxed));
    sleep(Duration::from_secs(2)).await;
    assert!(gone.load(Relaxed), "the upstream is still held");
    assert!(answer.into_body().collect().await.is_err(), "what was cut off is not whole");
}

/// Was asked once, and cannot be reached in time for another attempt.
struct AskedBefore;

#[async_trait]
impl Upstream for AskedBefore {
    fn name(&self) -> &str {
        "asked before"
    }

    async fn call(&self, _: Request<Body>, call: &Call) -> Result<Response<Body>, UpstreamError> {
        call.report.started();
        Err(UpstreamError::ConnectTimeout)
    }
}

#[tokio::test]
async fn no_connection_for_another_attempt_is_no_timeout_of_who_was_asked() {
    let answer = ask(&UpstreamService::new(AskedBefore)).await;
    // 504 would be refunded by the rule about time-outs.
    assert_eq!((answer.status().as_u16(), answer.extensions().get()), (502, Some(&ProviderCall::Started)));
}
