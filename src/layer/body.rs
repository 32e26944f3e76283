//! The body that leaves: the service's own, untouched, or a small answer of ours.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    answers::{self, NextFrame},
    receipted::{Receipted, Seal},
};
use crate::flow::{Delivery, Kept};

pin_project! {
    /// The body of an answer behind a [`Payment`](super::Payment). Frames and trailers of the inner body
    /// pass untouched; nothing is buffered, unless the answer is to be kept for its `Idempotency-Key`: then
    /// its data are copied, and the last frame waits until they are kept. Where the merchant signs receipts, a body of
    /// known length up to its limit has been collected, and one that streams has its receipt behind it: as trailers
    /// beside its own, and as one more event where it is a stream of events.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Inner { #[pin] body: B },
        // The delivery is given up when this is dropped before anybody has asked for a frame.
        Paid { #[pin] body: B, delivery: Delivery },
        // The same with a signed receipt behind it.
        Receipted { #[pin] body: Receipted<B>, delivery: Delivery },
        Own { data: Option<Bytes> },
        // An answer that was kept, now or earlier. One that could not be is given up as one that streams.
        Kept { kept: Box<Kept>, delivery: Option<Delivery> },
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    pub(super) fn paid(body: B, delivery: Delivery) -> Self {
        Self { kind: Kind::Paid { body, delivery } }
    }

    pub(super) fn receipted(body: B, seal: Box<Seal>, delivery: Delivery) -> Self {
        Self { kind: Kind::Receipted { body: Receipted::new(body, seal), delivery } }
    }

    pub(super) fn kept(kept: Box<Kept>) -> Self {
        Self { kind: Kind::Kept { kept, delivery: None } }
    }

    pub(super) fn kept_first(kept: Box<Kept>, delivery: Delivery) -> Self {
        Self { kind: Kind::Kept { kept, delivery: Some(delivery) } }
    }

    pub(super) fn own(data: Bytes) -> Self {
        Self { kind: Kind::Own { data: Some(data).filter(|data| !data.is_empty()) } }
    }
}

fn poll_paid<B>(body: Pin<&mut B>, delivery: &mut Delivery, cx: &mut Context<'_>) -> Poll<Option<NextFrame<B>>>
where
    B: Body,
    B::Data: From<Bytes>,
{
    let frame = answers::poll_frame(body, delivery, cx);
    // Until the first byte is there to be sent, nothing has been delivered.
    match &frame {
        Poll::Ready(Some(Ok(_)) | None) => delivery.end(),
        Poll::Ready(Some(Err(_))) => delivery.broke_off(),
        Poll::Pending => {}
    }
    frame
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Data: From<Bytes>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Inner { body } => body.poll_frame(cx),
            KindProj::Paid { body, delivery } => poll_paid(body, delivery, cx),
            KindProj::Receipted { body, delivery } => poll_paid(body, delivery, cx),
            KindProj::Kept { kept, delivery } => {
                if let Some(mut delivery) = delivery.take() {
                    delivery.end();
                }
                Poll::Ready(answers::next_kept(kept).map(Ok))
            }
            KindProj::Own { data } => Poll::Ready(data.take().map(|data| Ok(Frame::data(data.into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Paid { body, delivery } => delivery.held_length().is_none() && body.is_end_stream(),
            Kind::Receipted { body, delivery } => delivery.held_length().is_none() && body.is_end_stream(),
            Kind::Kept { kept, .. } => kept.ended,
            Kind::Own { data } => data.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Paid { body, delivery } => {
                delivery.held_length().map_or_else(|| body.size_hint(), SizeHint::with_exact)
            }
            Kind::Receipted { body, delivery } => {
                delivery.held_length().map_or_else(|| body.size_hint(), SizeHint::with_exact)
            }
            Kind::Kept { kept, .. } => answers::kept_hint(kept),
            Kind::Own { data } => SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseBody(..)")
    }
}
