//! Waiting, but not forever.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::BoxError;
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// The upstream has stopped in the middle of its answer.
#[derive(Debug, thiserror::Error)]
#[error("the upstream has sent nothing for {} seconds", .0.as_secs())]
pub(super) struct Idle(Duration);

pin_project! {
    /// A body that ends with an error when its next frame takes too long.
    pub(super) struct IdleLimited<B> {
        #[pin]
        inner: B,
        limit: Duration,
        timer: Option<Pin<Box<Sleep>>>,
        waiting: bool,
    }
}

impl<B> IdleLimited<B> {
    pub(super) fn new(inner: B, limit: Duration) -> Self {
        Self { inner, limit, timer: None, waiting: false }
    }
}

impl<B> Body for IdleLimited<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.inner.poll_frame(cx) {
            *this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = || Instant::now() + *this.limit;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline())));
        // The clock runs only while somebody waits: a slow client is not a slow upstream.
        if !std::mem::replace(this.waiting, true) {
            timer.as_mut().reset(deadline());
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Idle(*this.limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// When a request body last moved.
#[derive(Clone)]
pub(super) struct Progress {
    begun: Instant,
    last: Arc<AtomicU64>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), last: Arc::default() }
    }

    fn mark(&self) {
        self.last.store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Ready when nothing has moved for as long as `limit`.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let deadline = self.begun + Duration::from_millis(self.last.load(Relaxed)) + limit;
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

pin_project! {
    /// A request body that tells how it gets on.
    pub(super) struct Tracked<B> {
        #[pin]
        inner: B,
        progress: Progress,
    }
}

impl<B> Tracked<B> {
    pub(super) fn new(inner: B, progress: Progress) -> Self {
        Self { inner, progress }
    }
}

impl<B: Body> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        this.progress.mark();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
