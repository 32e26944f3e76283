//! Whether a call is tried again.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};

use crate::upstream::{Body, BoxError, UpstreamError};

/// An attempt that failed: there was no answer, or one of 400 and above.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure<'a> {
    /// Which attempt it was, beginning with 1.
    pub attempt: u32,
    /// The method of the request.
    pub method: &'a Method,
    /// The path of the request, without the base path of the upstream.
    pub path: &'a str,
    /// Whether the request can be sent again: its body is there as a whole, and there are attempts and time left.
    pub can_retry: bool,
    pub(super) cause: Cause<'a>,
}

#[derive(Debug)]
pub(super) enum Cause<'a> {
    Error(&'a UpstreamError),
    Answer(StatusCode, &'a HeaderMap),
}

impl Failure<'_> {
    /// Why there is no answer.
    pub fn error(&self) -> Option<&UpstreamError> {
        match self.cause {
            Cause::Error(error) => Some(error),
            Cause::Answer(..) => None,
        }
    }

    /// What the upstream has answered, also where that is an error to us.
    pub fn status(&self) -> Option<StatusCode> {
        match self.cause {
            Cause::Error(UpstreamError::RefusesUs(status)) => Some(*status),
            Cause::Answer(status, _) => Some(status),
            Cause::Error(_) => None,
        }
    }

    /// A header of the answer, for instance `retry-after`.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.cause {
            Cause::Answer(_, headers) => headers.get(name)?.to_str().ok(),
            Cause::Error(_) => None,
        }
    }
}

/// What to do about a [`Failure`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Retry {
    /// Leave it as it is.
    No,
    /// Send the request again after this time. Nothing is charged for it.
    After(Duration),
    /// Answer this instead. For receipts and refunds it is not an answer of the provider.
    Answer(Response<Body>),
}

type Decide = dyn Fn(&Failure<'_>) -> Retry + Send + Sync;

#[derive(Clone)]
pub(super) struct Hook(pub(super) Arc<Decide>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook(..)")
    }
}

/// The body of a request that may be sent more than once.
pub(super) enum Source {
    Once(Option<Body>),
    Whole(Bytes),
}

impl Source {
    /// Takes the body in one piece, if it is in memory and not too large. Waits for nothing.
    pub(super) async fn of(mut body: Body, limit: usize) -> Self {
        if body.is_end_stream() {
            return Self::Whole(Bytes::new());
        }
        if body.size_hint().lower() > limit as u64 {
            return Self::Once(Some(body));
        }
        let hint = body.size_hint();
        let mut taken = VecDeque::new();
        let mut size = 0;
        let is_whole = poll_fn(|cx| {
            loop {
                match Pin::new(&mut body).poll_frame(cx) {
                    Poll::Pending => return Poll::Ready(false),
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Ready(Some(frame)) => {
                        size += frame.as_ref().ok().and_then(|frame| frame.data_ref()).map_or(0, Bytes::len);
                        let is_data = frame.as_ref().is_ok_and(Frame::is_data);
                        taken.push_back(frame);
                        if !is_data || size > limit {
                            return Poll::Ready(false);
                        }
                        if body.is_end_stream() {
                            return Poll::Ready(true);
                        }
                    }
                }
            }
        })
        .await;
        if !is_whole {
            // What has been taken goes before what is still to come.
            return Self::Once(Some(Body::new(Resumed { taken, rest: body, hint })));
        }
        let mut pieces = taken.into_iter().filter_map(|frame| frame.ok()?.into_data().ok());
        Self::Whole(match (pieces.next(), pieces.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => only,
            (Some(first), Some(second)) => {
                let mut all = BytesMut::with_capacity(size);
                all.extend_from_slice(&first);
                all.extend_from_slice(&second);
                pieces.for_each(|piece| all.extend_from_slice(&piece));
                all.freeze()
            }
        })
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// The body for one attempt.
    pub(super) fn body(&mut self) -> Body {
        match self {
            Self::Once(body) => body.take().unwrap_or_default(),
            Self::Whole(bytes) if bytes.is_empty() => Body::empty(),
            Self::Whole(bytes) => bytes.clone().into(),
        }
    }
}

/// A body of which something was taken.
struct Resumed {
    taken: VecDeque<Result<Frame<Bytes>, BoxError>>,
    rest: Body,
    /// Of all of it.
    hint: SizeHint,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.hint = SizeHint::default();
        match self.taken.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken.is_empty() && self.rest.is_end_stream()
    }

    /// Asked for before anything is sent; what is left of it nobody needs to know.
    fn size_hint(&self) -> SizeHint {
        self.hint.clone()
    }
}
