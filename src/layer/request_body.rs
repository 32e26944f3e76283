//! The body that the inner service reads: the client's own, or what was buffered of it.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use pin_project_lite::pin_project;

use super::answers::Content;
use crate::{
    flow::{Payload, Seen, Watch},
    protocol::{ContentDigest, Digester},
};

pin_project! {
    /// The body of a request behind a [`Payment`](super::Payment): the client's own body untouched, or,
    /// where it was buffered, the same frames again. Chunks are not copied and trailers are kept.
    pub struct RequestBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        // The reader is there where a receipt says what the service has read.
        Untouched { #[pin] body: B, reader: Option<Box<Reader>> },
        Buffered { buffer: Buffer },
    }
}

impl<B> RequestBody<B> {
    pub(super) fn untouched(body: B) -> Self {
        Self { kind: Kind::Untouched { body, reader: None } }
    }

    pub(super) fn buffered(buffer: Buffer) -> Self {
        Self { kind: Kind::Buffered { buffer } }
    }

    /// What is known of it, however it came to be known.
    pub(super) fn content(&self) -> Content
    where
        B: Body,
    {
        match &self.kind {
            Kind::Untouched { body, .. } => body.is_end_stream().then_some(None),
            Kind::Buffered { buffer } => Some(buffer.digest()),
        }
    }

    /// The digest of what was buffered; of an untouched body nothing is known.
    pub(super) fn digest(&self) -> Option<ContentDigest> {
        match &self.kind {
            Kind::Untouched { .. } => None,
            Kind::Buffered { buffer } => buffer.digest(),
        }
    }
}

impl<B: Body<Data = Bytes>> RequestBody<B> {
    /// What a receipt can say of it: now, where it is at hand, or once the service has read it.
    pub(super) fn watch(&mut self, mut watch: Watch, bound: Option<ContentDigest>) -> Seen {
        match &mut self.kind {
            Kind::Untouched { body, .. } if body.is_end_stream() => Seen::Whole(watch.finish()),
            Kind::Untouched { reader, .. } => {
                let read = Arc::default();
                *reader = Some(Box::new(Reader { watch: Some(watch), read: Arc::clone(&read) }));
                Seen::Read(read)
            }
            Kind::Buffered { buffer } => match bound {
                Some(digest) if !watch.copies() => Seen::Whole(watch.known(digest)),
                _ => {
                    buffer.chunks().for_each(|chunk| watch.see(chunk));
                    Seen::Whole(watch.finish())
                }
            },
        }
    }
}

/// Sees what the service reads.
struct Reader {
    watch: Option<Watch>,
    read: Arc<Mutex<Option<Payload>>>,
}

impl Reader {
    fn read<E>(&mut self, frame: &Poll<Option<Result<Frame<Bytes>, E>>>, ended: bool) {
        let Poll::Ready(frame) = frame else { return };
        let ended = match frame {
            None => true,
            Some(Ok(frame)) => {
                if let (Some(data), Some(watch)) = (frame.data_ref(), &mut self.watch) {
                    watch.see(data);
                }
                // Nothing follows trailers.
                ended || frame.is_trailers()
            }
            // What was not read to its end is not known.
            Some(Err(_)) => {
                self.watch = None;
                return;
            }
        };
        if ended && let Some(watch) = self.watch.take() {
            *self.read.lock() = Some(watch.finish());
        }
    }
}

impl<B: Body<Data = Bytes>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Untouched { mut body, reader } => {
                let frame = body.as_mut().poll_frame(cx);
                if let Some(reader) = reader {
                    reader.read(&frame, body.is_end_stream());
                }
                frame
            }
            KindProj::Buffered { buffer } => Poll::Ready(buffer.next().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Untouched { body, .. } => body.is_end_stream(),
            Kind::Buffered { buffer } => buffer.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Untouched { body, .. } => body.size_hint(),
            Kind::Buffered { buffer } => SizeHint::with_exact(buffer.length as u64),
        }
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestBody(..)")
    }
}

/// The frames of a body, and how much data they hold.
#[derive(Default)]
pub(super) struct Buffer {
    // Most bodies are one chunk, which then costs no allocation.
    first: Option<Bytes>,
    rest: VecDeque<Bytes>,
    // Boxed: they are rare, and every request carries the room for them.
    trailers: Option<Box<HeaderMap>>,
    length: usize,
}

/// The body is longer than the limit.
pub(super) struct TooLong;

impl Buffer {
    pub(super) fn push(&mut self, frame: Frame<Bytes>, limit: usize) -> Result<(), TooLong> {
        match frame.into_data() {
            Ok(data) => {
                self.length = self.length.checked_add(data.len()).filter(|sum| *sum <= limit).ok_or(TooLong)?;
                if data.is_empty() {
                    // A body of nothing but empty frames must not cost memory.
                } else if self.first.is_none() {
                    self.first = Some(data);
                } else {
                    self.rest.push_back(data);
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    match &mut self.trailers {
                        Some(known) => known.extend(trailers),
                        none => *none = Some(Box::new(trailers)),
                    }
                }
            }
        }
        Ok(())
    }

    /// The digest of the data, or `None` when there is none: an empty body is no body, however it is framed.
    fn digest(&self) -> Option<ContentDigest> {
        if self.length == 0 {
            return None;
        }
        let mut digester = Digester::default();
        self.chunks().for_each(|chunk| digester.update(chunk));
        Some(digester.finish())
    }

    fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.first.iter().chain(&self.rest)
    }

    /// All data in one piece, for a price that depends on it. Copies only when it came in several.
    pub(super) fn contiguous(&self) -> Bytes {
        match &self.first {
            Some(first) if self.rest.is_empty() => first.clone(),
            _ => {
                let mut whole = BytesMut::with_capacity(self.length);
                self.chunks().for_each(|chunk| whole.extend_from_slice(chunk));
                whole.freeze()
            }
        }
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        if let Some(data) = self.first.take().or_else(|| self.rest.pop_front()) {
            self.length = self.length.saturating_sub(data.len());
            return Some(Frame::data(data));
        }
        self.trailers.take().map(|trailers| Frame::trailers(*trailers))
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty() && self.trailers.is_none()
    }
}
