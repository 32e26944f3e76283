//! Bodies on their way: what is counted, cut and left out while they pass.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::LengthLimitError;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Body, BoxError, Report,
    error::has_source,
    scrub::{self, To},
};

/// The body of a request, on its way to an upstream.
pub(super) struct Asking {
    inner: Body,
    cut: Arc<AtomicBool>,
}

impl Asking {
    /// `cut` becomes true when the limit was reached.
    pub(super) fn new(inner: Body, cut: Arc<AtomicBool>) -> Self {
        Self { inner, cut }
    }
}

impl http_body::Body for Asking {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(scrubbed(frame, To::Upstream))),
            Some(Err(error)) => {
                if has_source::<LengthLimitError>(&*error) {
                    self.cut.store(true, Relaxed);
                }
                Some(Err(error))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The call took longer than it may in all.
#[derive(Debug, thiserror::Error)]
#[error("the call took longer than it may in all")]
pub(super) struct Overdue;

/// The body of an answer, on its way to the client: it ends at the deadline, and tells the report how far it came.
pub(super) struct Answering {
    inner: Inner,
    report: Report,
    broken: bool,
}

enum Inner {
    Unlimited(Body),
    /// A client that does not read does not ask either, and must not hold the upstream for longer: at the deadline a
    /// task of its own lets the body go.
    Limited {
        body: Arc<Mutex<Body>>,
        deadline: Pin<Box<Sleep>>,
        _ends: AbortOnDropHandle<()>,
    },
}

impl Inner {
    fn new(body: Body, deadline: Option<Instant>) -> Self {
        let Some(at) = deadline else { return Self::Unlimited(body) };
        let body = Arc::new(Mutex::new(body));
        let held = Arc::clone(&body);
        let ends = tokio::spawn(async move {
            sleep_until(at).await;
            *held.lock() = Body::new(Late);
        });
        Self::Limited { body, deadline: Box::pin(sleep_until(at)), _ends: AbortOnDropHandle::new(ends) }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Unlimited(body) => Pin::new(body).poll_frame(cx),
            Self::Limited { body, deadline, .. } => {
                // Before the body is asked: one that always has more would never let it be seen.
                if deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(Err(Overdue.into())));
                }
                Pin::new(&mut *body.lock()).poll_frame(cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Unlimited(body) => body.is_end_stream(),
            Self::Limited { body, .. } => body.lock().is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Unlimited(body) => body.size_hint(),
            Self::Limited { body, .. } => body.lock().size_hint(),
        }
    }
}

/// In the place of a body that is late.
struct Late;

impl http_body::Body for Late {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(Err(Overdue.into())))
    }
}

impl Answering {
    pub(super) fn new(inner: Body, report: Report, deadline: Option<Instant>) -> Self {
        // Nothing more will be asked of it.
        let is_whole = inner.is_end_stream();
        if is_whole {
            report.finished();
        }
        Self { inner: Inner::new(inner, deadline.filter(|_| !is_whole)), report, broken: false }
    }
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.broken {
            return Poll::Ready(None);
        }
        let frame = ready!(this.inner.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if frame.data_ref().is_some_and(|data| !data.is_empty()) {
                    this.report.first_byte();
                }
                if this.inner.is_end_stream() {
                    this.report.finished();
                }
            }
            Some(Err(_)) => {
                this.broken = true;
                // What is left of the call ends now, and not when the client is done with us.
                this.inner = Inner::Unlimited(Body::empty());
            }
            None => this.report.finished(),
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| scrubbed(frame, To::Client))))
    }

    fn is_end_stream(&self) -> bool {
        !self.broken && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.broken { SizeHint::default() } else { self.inner.size_hint() }
    }
}

fn scrubbed(frame: Frame<Bytes>, to: To) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            scrub::trailers(&mut trailers, to);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}
