//! Answers with an `Idempotency-Key`: recorded while they leave, and given again.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode, header::CONTENT_LENGTH, request::Parts};
use http_body::{Body, Frame, SizeHint};

use super::{ResponseBody, receipted, route::Route};
use crate::{
    flow::{self, Bound, Delivery, Detached, Held, Inner, Keeper, Kept, Recording, Refusal, Sealed, TooLong, events},
    protocol::ContentDigest,
};

/// What is known of the body of a request: its digest, or that it has none. `None` when nobody has read it.
pub(super) type Content = Option<Option<ContentDigest>>;

/// Marks a payment whose request has a key. A body that nobody has read cannot be told from another:
/// such an answer is not kept, as if there were no key.
pub(super) fn ask(bound: &mut Bound, key: Option<&[u8]>, head: &Parts, scope: &str, content: impl FnOnce() -> Content) {
    // A tunnel is not an answer that could be given again.
    if let Some(key) = key
        && head.method != Method::CONNECT
        && let Some(digest) = content()
    {
        bound.ask(key, scope, digest.as_ref());
    }
}

/// The key of a request, checked.
pub(super) fn key<'h>(merchant: &Inner, head: &'h Parts) -> Result<Option<&'h [u8]>, Refusal> {
    flow::idempotency_key(merchant, &head.headers)
}

/// Begins to record a delivered answer, as it leaves, where it is to be kept.
pub(super) fn record<B: Body>(delivery: &mut Delivery, response: &Response<B>) {
    let Some(keeper) = delivery.keeper() else { return };
    let body = response.body();
    let length = body.size_hint().exact();
    let declared = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let (status, headers) = (response.status(), response.headers());
    match Recording::begin(status, headers, length, body.is_end_stream(), keeper.limit()) {
        Ok(recording) if status.is_success() => keeper.begin(recording, declared.or(length)),
        _ => *delivery.keeper() = None,
    }
}

/// Whether it is known how much there is to wait for, and it is not more than what is kept.
pub(super) fn is_of_known_length<B: Body>(delivery: &mut Delivery, response: &Response<B>) -> bool {
    let length = response.body().size_hint().exact();
    delivery.keeper().as_ref().zip(length).is_some_and(|(keeper, length)| keeper.has_room_for(length))
}

/// An answer that is kept before it leaves, without its body.
pub(super) struct Whole {
    pub(super) head: http::response::Parts,
    pub(super) data: BytesMut,
    pub(super) trailers: Option<HeaderMap>,
    length: Option<u64>,
    ended: bool,
    bodyless: bool,
    /// There is nothing more to ask the body for.
    complete: bool,
    /// It cannot be kept after all.
    too_long: bool,
    /// Its receipt is being signed.
    pub(super) sealing: Option<Detached<Sealed>>,
    /// Its head is what will leave.
    sealed: bool,
}

/// The body has broken off, or has more than it has said.
pub(super) struct BrokenOff;

impl Whole {
    /// Takes an answer apart. The body of a bodyless one is not asked for, unless there may be trailers behind an
    /// empty one.
    pub(super) fn new<B: Body>(response: Response<B>, bodyless: bool) -> (Box<Self>, B) {
        let (head, body) = response.into_parts();
        let (length, ended) = (body.size_hint().exact(), body.is_end_stream());
        let data = BytesMut::new();
        let bodyless = bodyless || ended;
        let never_sent =
            matches!(head.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
        let complete = ended || bodyless && (never_sent || length != Some(0));
        (
            Box::new(Self {
                head,
                data,
                trailers: None,
                length,
                ended,
                bodyless,
                complete,
                too_long: false,
                sealing: None,
                sealed: false,
            }),
            body,
        )
    }

    /// Records all of it at once, with the head that it leaves with.
    fn record(&self, keeper: &mut Keeper) -> Result<(), TooLong> {
        let Self { head, data, trailers, length, ended, .. } = self;
        keeper.begin(Recording::begin(head.status, &head.headers, *length, *ended, keeper.limit())?, *length);
        keeper.data(data)?;
        trailers.as_ref().map_or(Ok(()), |trailers| keeper.trailers(trailers))
    }

    /// Nobody will ask for a body.
    pub(super) fn is_bodyless(&self) -> bool {
        self.bodyless
    }

    pub(super) fn into_answer(self: Box<Self>) -> Response<Box<Kept>> {
        let Self { head, data, trailers, length, ended, .. } = *self;
        let (status, headers) = (head.status, HeaderMap::new());
        let kept = Kept { status, headers, body: data.freeze(), trailers, length, ended };
        Response::from_parts(head, Box::new(kept))
    }
}

/// Collects a body and waits until the answer is kept, or cannot be.
pub(super) fn poll_whole<B: Body>(
    mut body: Pin<&mut B>,
    whole: &mut Whole,
    delivery: &mut Delivery,
    route: &Route,
    cx: &mut Context<'_>,
) -> Poll<Result<(), BrokenOff>> {
    // With a receipt the head is not known before the body, and so nothing is recorded yet.
    let receipted = delivery.record().is_some();
    if delivery.keeper().is_none() && !receipted {
        return Poll::Ready(Ok(()));
    }
    while !whole.complete {
        let Some(frame) = ready!(body.as_mut().poll_frame(cx)) else {
            whole.complete = true;
            break;
        };
        match frame.map(Frame::into_data) {
            Ok(Ok(mut data)) => {
                let from = whole.data.len();
                whole.data.put(data.copy_to_bytes(data.remaining()));
                let fits = match delivery.keeper() {
                    Some(keeper) if !receipted => keeper.data(whole.data.get(from..).unwrap_or_default()).is_ok(),
                    _ => whole.length.is_none_or(|length| whole.data.len() as u64 <= length),
                };
                if !fits {
                    return Poll::Ready(Err(BrokenOff));
                }
            }
            Ok(Err(frame)) => {
                if let Ok(trailers) = frame.into_trailers() {
                    // Too much to keep is not too much to deliver.
                    if let Some(keeper) = delivery.keeper()
                        && !receipted
                    {
                        whole.too_long = keeper.trailers(&trailers).is_err();
                    }
                    whole.trailers = Some(trailers);
                    whole.complete = true;
                }
            }
            Err(_) => return Poll::Ready(Err(BrokenOff)),
        }
        whole.complete |= body.is_end_stream();
    }
    if receipted && !whole.sealed {
        // Less than it has said: no server sends that as a whole answer.
        if !whole.bodyless && whole.length.is_some_and(|length| whole.data.len() as u64 != length) {
            return Poll::Ready(Err(BrokenOff));
        }
        ready!(receipted::poll_whole(whole, delivery, route, cx));
        whole.sealed = true;
        if let Some(keeper) = delivery.keeper() {
            whole.too_long = whole.record(keeper).is_err();
        }
    }
    if whole.too_long {
        *delivery.keeper() = None;
    }
    let Some(keeper) = delivery.keeper() else { return Poll::Ready(Ok(())) };
    keeper.keep();
    keeper.poll_kept(cx).map(Ok)
}

/// What a body gives next.
pub(super) type NextFrame<B> = Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

/// The next frame of a body that may be recorded. What makes the answer whole is held back until it is
/// kept: a client that has all of it can ask for it again.
pub(super) fn poll_frame<B>(
    mut body: Pin<&mut B>,
    delivery: &mut Delivery,
    cx: &mut Context<'_>,
) -> Poll<Option<NextFrame<B>>>
where
    B: Body,
    B::Data: From<Bytes>,
{
    let slot = delivery.keeper();
    let Some(keeper) = slot else { return body.poll_frame(cx) };
    if !keeper.is_holding() {
        let held = match ready!(body.as_mut().poll_frame(cx)) {
            None => Held::End,
            Some(Err(error)) => {
                keeper.abandon();
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(mut data) => {
                    let recorded = if data.chunk().len() == data.remaining() {
                        keeper.data(data.chunk())
                    } else {
                        let whole = data.copy_to_bytes(data.remaining());
                        let recorded = keeper.data(&whole);
                        data = whole.into();
                        recorded
                    };
                    if recorded.is_err() {
                        *slot = None;
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    if !body.is_end_stream() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Held::Data(data.copy_to_bytes(data.remaining()))
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => {
                        if keeper.trailers(&trailers).is_err() {
                            *slot = None;
                            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                        }
                        Held::Trailers(trailers)
                    }
                    Err(frame) => {
                        keeper.abandon();
                        return Poll::Ready(Some(Ok(frame)));
                    }
                },
            },
        };
        keeper.keep();
        keeper.hold(held);
    }
    ready!(keeper.poll_kept(cx));
    let held = slot.take().and_then(|mut keeper| keeper.release());
    Poll::Ready(match held {
        Some(Held::Data(data)) => Some(Ok(Frame::data(data.into()))),
        Some(Held::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
        Some(Held::End) | None => None,
    })
}

/// The answer that was kept.
pub(super) fn again<B>(mut kept: Box<Kept>) -> Response<ResponseBody<B>> {
    events::answered_again();
    let (status, headers) = (kept.status, mem::take(&mut kept.headers));
    let mut response = Response::new(ResponseBody::kept(kept));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The frames of an answer that was kept. What it says of its length is what the first one said, so that
/// servers frame it the same way.
pub(super) fn next_kept<D: From<Bytes> + bytes::Buf>(kept: &mut Kept) -> Option<Frame<D>> {
    let frame = if kept.body.is_empty() {
        kept.trailers.take().map(Frame::trailers)
    } else {
        kept.length = kept.length.map(|_| 0);
        Some(Frame::data(mem::take(&mut kept.body).into()))
    };
    kept.ended = kept.trailers.is_none();
    frame
}

pub(super) fn kept_hint(kept: &Kept) -> SizeHint {
    kept.length.map_or_else(SizeHint::default, SizeHint::with_exact)
}
