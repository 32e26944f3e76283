//! What an answer says about itself while it passes: the model and the tokens.

mod said;
mod sse;

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
    response::Parts,
};
use http_body::{Body as _, Frame, SizeHint};

use self::sse::Events;
use super::{Body, BoxError, Report};

/// Larger answers are not looked at: where tokens are counted, none is.
const MAX_JSON: usize = 1024 * 1024;

/// In whose words an answer speaks of tokens.
///
/// The counts go into receipts as the provider counts them: those of Anthropic leave tokens of its cache out of
/// `input_tokens`, those of OpenAI do not. Answers pass untouched and unheld: whole JSON documents are read when their
/// last byte passes, up to a mebibyte; events when they pass. Encoded answers are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Usage {
    /// Anthropic: Messages.
    Anthropic,
    /// OpenAI: Chat Completions, Responses and what else has a `usage`.
    OpenAi,
}

impl Usage {
    /// Reads what passes, if it can be read. For any upstream that speaks like one of these.
    pub fn tap(self, head: &Parts, body: Body, report: &Report) -> Body {
        let reader = match media_type(&head.headers) {
            _ if !head.status.is_success() || is_encoded(&head.headers) => return body,
            Some(kind) if kind.eq_ignore_ascii_case("application/json") => {
                if body.size_hint().lower() > MAX_JSON as u64 {
                    return body;
                }
                Reader::Json(Vec::new())
            }
            Some(kind) if kind.eq_ignore_ascii_case("text/event-stream") => Reader::Events(Events::new()),
            _ => return body,
        };
        Body::new(Tap { inner: body, usage: self, reader, report: report.clone() })
    }
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

enum Reader {
    Json(Vec<u8>),
    Events(Events),
    Done,
}

struct Tap {
    inner: Body,
    usage: Usage,
    reader: Reader,
    report: Report,
}

impl Tap {
    fn read(&mut self, data: &Bytes) {
        match &mut self.reader {
            Reader::Json(seen) if seen.len().saturating_add(data.len()) > MAX_JSON => self.reader = Reader::Done,
            Reader::Json(seen) => seen.extend_from_slice(data),
            Reader::Events(events) => {
                events.read(data, |event| said::read(self.usage, event, &self.report));
            }
            Reader::Done => {}
        }
    }

    fn end(&mut self) {
        if let Reader::Json(seen) = std::mem::replace(&mut self.reader, Reader::Done) {
            said::read(self.usage, &seen, &self.report);
        }
    }
}

impl http_body::Body for Tap {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.read(data);
                }
                // Nobody may ask for another frame after the last one.
                if self.inner.is_end_stream() {
                    self.end();
                }
            }
            // What is cut says nothing for sure; events have said theirs.
            Some(Err(_)) => self.reader = Reader::Done,
            None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
