//! Waiting, but not forever.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::LengthLimitError;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

use super::builder::Limits;
use crate::upstream::{Body, BoxError, Report, UpstreamError, error::has_source, passing::Overdue};

/// The upstream has stopped in the middle of its answer.
#[derive(Debug, thiserror::Error)]
#[error("the upstream has sent nothing for {0:?}")]
struct Idle(Duration);

/// The client has stopped in the middle of its request.
#[derive(Debug, thiserror::Error)]
#[error("the client has sent nothing for {0:?}")]
struct Stopped(Duration);

/// The body of an answer: it ends with an error when its next piece takes too long.
pub(super) struct Patient {
    inner: Body,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    deadline: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// There is room for another call when this one is over.
    permit: Option<OwnedSemaphorePermit>,
}

impl Patient {
    pub(super) fn new(
        inner: Body,
        limit: Duration,
        deadline: Option<Instant>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let deadline = deadline.map(|at| Box::pin(sleep_until(at)));
        Self { inner, limit, timer: None, deadline, waiting: false, permit }
    }

    /// An error is the end: the connection is given back, or closed.
    fn fail(&mut self, error: BoxError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.inner = Body::empty();
        self.permit = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for Patient {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.deadline.as_mut().is_some_and(|at| at.as_mut().poll(cx).is_ready()) {
            return this.fail(Overdue.into());
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.waiting = false;
            return match frame {
                Some(Err(error)) => this.fail(error),
                None => {
                    this.permit = None;
                    Poll::Ready(None)
                }
                frame => Poll::Ready(frame),
            };
        }
        let limit = this.limit;
        let deadline = || Instant::now() + limit;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline())));
        // The clock runs only while somebody waits: a slow client is not a slow upstream.
        if !std::mem::replace(&mut this.waiting, true) {
            timer.as_mut().reset(deadline());
        }
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => this.fail(Idle(limit).into()),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// How one attempt gets on until its answer begins.
#[derive(Clone)]
pub(super) struct Progress(Arc<Inner>);

struct Inner {
    begun: Instant,
    /// When the request last moved, in milliseconds after the beginning.
    moved: AtomicU64,
    has_connection: AtomicBool,
    /// The client is waited for, and not the upstream.
    waits_for_client: AtomicBool,
    too_large: AtomicBool,
    unreadable: AtomicBool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            moved: AtomicU64::new(0),
            has_connection: AtomicBool::new(false),
            waits_for_client: AtomicBool::new(false),
            too_large: AtomicBool::new(false),
            unreadable: AtomicBool::new(false),
        }))
    }

    fn mark(&self) {
        let millis = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.moved.store(millis, Relaxed);
    }

    /// There is a connection: from here on bytes may have left.
    pub(super) fn connected(&self, report: &Report) {
        if !self.0.has_connection.swap(true, Relaxed) {
            report.started();
            self.mark();
        }
    }

    pub(super) fn has_connection(&self) -> bool {
        self.0.has_connection.load(Relaxed)
    }

    /// What the client has done wrong, if it has.
    pub(super) fn fault_of_client(&self, error: BoxError) -> Result<UpstreamError, BoxError> {
        if self.0.too_large.load(Relaxed) {
            Ok(UpstreamError::BodyTooLarge)
        } else if self.0.unreadable.load(Relaxed) {
            Ok(UpstreamError::BodyUnreadable(error))
        } else {
            Err(error)
        }
    }

    /// Ready when there is no connection for too long, or nothing has moved for too long.
    pub(super) async fn stalled(&self, limits: &Limits) -> UpstreamError {
        loop {
            let now = Instant::now();
            let connected = self.has_connection();
            let (since, limit) = if connected {
                (self.0.begun + Duration::from_millis(self.0.moved.load(Relaxed)), limits.first_byte)
            } else {
                (self.0.begun, limits.connect)
            };
            let deadline = since + limit;
            if deadline > now {
                // Nobody wakes this when the connection is there: from then on the other limit holds.
                sleep_until(if connected { deadline } else { deadline.min(now + limits.first_byte) }).await;
            } else if !connected {
                return UpstreamError::ConnectTimeout;
            } else if self.0.waits_for_client.load(Relaxed) {
                return UpstreamError::BodyUnreadable(Stopped(limit).into());
            } else {
                return UpstreamError::Timeout;
            }
        }
    }
}

/// The body of a request that tells how it gets on.
pub(super) struct Tracked {
    inner: Body,
    progress: Progress,
    has_trailers: bool,
}

impl Tracked {
    pub(super) fn new(inner: Body, progress: Progress, has_trailers: bool) -> Self {
        Self { inner, progress, has_trailers }
    }
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let progress = &self.progress;
        progress.0.waits_for_client.store(polled.is_pending(), Relaxed);
        if polled.is_ready() {
            progress.mark();
        }
        if let Poll::Ready(Some(Err(error))) = &polled {
            let flag =
                if has_source::<LengthLimitError>(&**error) { &progress.0.too_large } else { &progress.0.unreadable };
            flag.store(true, Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // HTTP/1.1 has no room for trailers behind a body whose length was said before.
        if self.has_trailers { SizeHint::default() } else { self.inner.size_hint() }
    }
}
