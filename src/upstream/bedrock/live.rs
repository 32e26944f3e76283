//! Streams as they come: read, translated, passed on.

use std::{future::Future, time::Duration};

use aws_sdk_bedrockruntime::{
    primitives::event_stream::EventReceiver,
    types::{
        ConverseStreamOutput, ResponseStream,
        error::{ConverseStreamOutputError, ResponseStreamError},
    },
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    super::{Body, Report},
    error::{AnthropicError, Effect, Failure},
    fault::of_stream,
    usage::{BedrockPrice, Tokens},
};

/// Turns the events of a provider into server-sent events of the Messages API. It knows no I/O and no clock.
pub(super) trait Translate: Send + 'static {
    /// What it reads.
    type Event: Send;

    /// Reads an event. After an error it must be [failed](Self::fail).
    fn event(&mut self, event: Self::Event) -> Result<(), Failure>;

    /// The provider says no more.
    fn end(&mut self) -> Result<(), Failure>;

    /// Writes an error as the last event, unless it is done.
    fn fail(&mut self, error: &AnthropicError);

    /// What has been written since the last time.
    fn take(&mut self) -> String;

    /// Whether something of the answer itself has come, and not only that it has begun.
    fn has_token(&self) -> bool;

    /// Whether the model has come to its end, and only its counts may be missing.
    fn has_stopped(&self) -> bool;

    /// Whether the last event is written.
    fn is_done(&self) -> bool;

    /// The tokens as far as they are known.
    fn tokens(&self) -> Tokens;
}

/// Where events come from.
pub(super) trait Receive: Send + 'static {
    type Event: Send;

    /// The next event. `begun` says that one has come before.
    fn next(&mut self, begun: bool) -> impl Future<Output = Result<Option<Self::Event>, Failure>> + Send;
}

impl Receive for EventReceiver<ConverseStreamOutput, ConverseStreamOutputError> {
    type Event = ConverseStreamOutput;

    async fn next(&mut self, begun: bool) -> Result<Option<ConverseStreamOutput>, Failure> {
        self.recv().await.map_err(|error| of_stream(&error, begun))
    }
}

impl Receive for EventReceiver<ResponseStream, ResponseStreamError> {
    type Event = ResponseStream;

    async fn next(&mut self, begun: bool) -> Result<Option<ResponseStream>, Failure> {
        self.recv().await.map_err(|error| of_stream(&error, begun))
    }
}

/// How long a stream may keep its readers waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// For the first token.
    pub(super) first: Instant,
    /// For each event after it.
    pub(super) idle: Duration,
    /// For the last one.
    pub(super) until: Instant,
}

/// The counts of tokens come right behind the end of an answer, or never.
const COUNTS: Duration = Duration::from_secs(5);
/// A connection whose answer is read to its end can be used again.
const REST: Duration = Duration::from_millis(200);
/// So much may be written before the first token.
const MAX_HEAD: usize = 64 * 1024;

/// A stream on its way.
pub(super) struct Live<R, T> {
    events: R,
    sse: T,
    waits: Waits,
    report: Report,
    price: Option<BedrockPrice>,
    tokens: Tokens,
    begun: bool,
    rest_read: bool,
}

impl<R: Receive<Event = T::Event>, T: Translate> Live<R, T> {
    pub(super) fn new(events: R, sse: T, waits: Waits, report: Report, price: Option<BedrockPrice>) -> Self {
        Self { events, sse, waits, report, price, tokens: Tokens::default(), begun: false, rest_read: false }
    }

    /// Waits for the first token: a failure before it has a status of its own, and the money may come back. What
    /// has been written up to there is the first piece of the body.
    pub(super) async fn body(mut self) -> Result<Body, Failure> {
        let mut head = String::new();
        while !self.sse.has_token() && !self.sse.is_done() && head.len() <= MAX_HEAD {
            match timeout_at(self.waits.first.min(self.waits.until), self.events.next(self.begun)).await {
                Ok(Ok(Some(event))) => {
                    self.begun = true;
                    self.sse.event(event)?;
                }
                Ok(Ok(None)) => self.sse.end()?,
                Ok(Err(failure)) => return Err(failure),
                Err(_) => return Err(Failure::late(Effect::TimedOut, "The model did not begin to answer in time.")),
            }
            head.push_str(&self.sse.take());
        }
        self.report.first_byte();
        self.count();
        let first = (!head.is_empty()).then(|| Bytes::from(head));
        let pieces = stream::unfold((first, self), |(first, mut live)| async move {
            let piece = match first {
                Some(first) => Some(first),
                None => live.piece().await,
            };
            piece.map(|piece| (Ok::<_, std::convert::Infallible>(Frame::data(piece)), (None, live)))
        });
        // Somebody may ask once more behind the end.
        Ok(Body::new(StreamBody::new(pieces.fuse())))
    }

    /// The next piece, or nothing after the last.
    async fn piece(&mut self) -> Option<Bytes> {
        loop {
            let piece = self.sse.take();
            if !piece.is_empty() {
                return Some(piece.into());
            }
            if self.sse.is_done() {
                self.read_the_rest().await;
                return None;
            }
            self.read().await;
        }
    }

    async fn read(&mut self) {
        let wait = if self.sse.has_stopped() { COUNTS.min(self.waits.idle) } else { self.waits.idle };
        let at = Instant::now().checked_add(wait).unwrap_or(self.waits.until).min(self.waits.until);
        let read = match timeout_at(at, self.events.next(true)).await {
            Ok(Ok(Some(event))) => self.sse.event(event),
            Ok(Ok(None)) => self.sse.end(),
            // The answer is whole; only its counts are missing.
            Ok(Err(_)) | Err(_) if self.sse.has_stopped() => self.sse.end(),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::late(Effect::Unknown, "The model did not go on in time.")),
        };
        self.count();
        match read {
            Err(failure) => {
                failure.tell(&self.report);
                self.report.broken();
                self.sse.fail(&failure.error);
            }
            Ok(()) if self.sse.is_done() => self.report.finished(),
            Ok(()) => {}
        }
    }

    fn count(&mut self) {
        let tokens = self.sse.tokens();
        if tokens != self.tokens {
            self.tokens = tokens;
            tokens.tell(&self.report, self.price.as_ref());
        }
    }

    async fn read_the_rest(&mut self) {
        if !std::mem::replace(&mut self.rest_read, true) {
            let rest = async { while let Ok(Some(_)) = self.events.next(true).await {} };
            let _ = timeout(REST, rest).await;
        }
    }
}
