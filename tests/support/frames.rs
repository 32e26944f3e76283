//! Bodies frame by frame, as they come over a network: with waits, trailers and breaks.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};

/// A body of frames that a test writes down.
#[derive(Debug, Default)]
pub struct Frames {
    queue: VecDeque<Next>,
    /// Declares its length, as `Content-Length` does.
    length: Option<u64>,
    /// Does not know its end until it has been asked for one frame more, as a chunked body.
    open_ended: bool,
}

#[derive(Debug)]
enum Next {
    Data(Bytes),
    Trailers(HeaderMap),
    Break,
    /// Gives way once.
    Wait,
    /// Never goes on.
    Hang,
}

impl Frames {
    /// These chunks, at once, with a known end.
    pub fn of<B: Into<Bytes>>(chunks: impl IntoIterator<Item = B>) -> Self {
        Self { queue: chunks.into_iter().map(|chunk| Next::Data(chunk.into())).collect(), ..Self::default() }
    }

    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Declares its length.
    pub fn declared(mut self) -> Self {
        let data = |next: &Next| if let Next::Data(data) = next { data.len() as u64 } else { 0 };
        self.length = Some(self.queue.iter().map(data).sum());
        self
    }

    /// Does not know its end in advance.
    pub fn chunked(mut self) -> Self {
        self.open_ended = true;
        self
    }

    /// Gives way before every frame, and before the end when it is not known.
    pub fn waiting(mut self) -> Self {
        let frames: Vec<_> = self.queue.drain(..).collect();
        for frame in frames {
            self.queue.extend([Next::Wait, frame]);
        }
        if self.open_ended {
            self.queue.push_back(Next::Wait);
        }
        self
    }

    /// Ends with a trailer.
    pub fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert(name, HeaderValue::from_static(value));
        self.queue.push_back(Next::Trailers(trailers));
        self
    }

    /// Has more than it has declared.
    pub fn and(mut self, data: &'static str) -> Self {
        self.queue.push_back(Next::Data(Bytes::from_static(data.as_bytes())));
        self
    }

    /// Has less than it has declared.
    pub fn cut(mut self) -> Self {
        self.queue.pop_back();
        self
    }

    /// Breaks off here.
    pub fn broken(mut self) -> Self {
        self.queue.push_back(Next::Break);
        self
    }

    /// Says nothing more from here on.
    pub fn hanging(mut self) -> Self {
        self.queue.push_back(Next::Hang);
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match self.queue.pop_front() {
            Some(Next::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Next::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Next::Break) => Some(Err(io::ErrorKind::ConnectionReset.into())),
            Some(Next::Wait) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Next::Hang) => {
                self.queue.push_front(Next::Hang);
                return Poll::Pending;
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.queue.is_empty() && !self.open_ended
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
