//! Reads the body of a request where one is wanted, and answers.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{Response, StatusCode, request::Parts};
use http_body::Body;
use http_body_util::Full;
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::{
    Ledger,
    answer::{Answer, Refusal, finish},
    routes::{Begun, Decided, Route},
};

/// How long a body may take to arrive, and how long the store may take after it.
const PATIENCE: Duration = Duration::from_secs(10);

const TOO_LARGE: Refusal =
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "The body is larger than 64 KiB.");
const TOO_SLOW: Refusal =
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The body did not arrive in time.");
const BROKEN: Refusal = Refusal::bad_request("body_unreadable", "The body broke off.");

pin_project! {
    /// The answer of a [`Ledger`].
    pub struct ResponseFuture<B> {
        #[pin]
        state: State<B>,
    }
}

type Answering = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

pin_project! {
    #[project = StateProj]
    enum State<B> {
        Reading { #[pin] body: B, read: BytesMut, asked: Option<(Ledger, Parts, Route)>, timer: Timer },
        // Whether the answer would have been a page.
        Answering { answering: Answering, late: Option<Box<(Ledger, Parts, bool)>>, timer: Timer },
        Done { response: Option<Response<Full<Bytes>>> },
    }
}

/// Made when something has to be waited for: most answers need none.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE))).as_mut().poll(cx)
    }
}

impl<B: Body> ResponseFuture<B> {
    pub(super) fn new(Decided { ledger, begun }: Decided, body: B) -> Self {
        let state = match begun {
            Begun::Done(head, answer) => done(&head, answer),
            Begun::Answer(head, route) => answering(ledger, head, route, Bytes::new()),
            Begun::Read(head, route) if body.size_hint().lower() > route.max_body() as u64 => {
                done(&head, TOO_LARGE.to_json())
            }
            Begun::Read(head, route) => State::Reading {
                body,
                read: BytesMut::new(),
                asked: Some((ledger, head, route)),
                timer: Timer::default(),
            },
        };
        Self { state }
    }
}

fn done<B>(head: &Parts, answer: Answer) -> State<B> {
    State::Done { response: Some(finish(head, answer)) }
}

fn answering<B>(ledger: Ledger, head: Parts, route: Route, body: Bytes) -> State<B> {
    let late = Some(Box::new((ledger.clone(), head.clone(), route.is_page(&head))));
    let answering = Box::pin(async move {
        let answer = ledger.answer(&head, route, &body).await;
        finish(&head, answer)
    });
    State::Answering { answering, late, timer: Timer::default() }
}

impl<B: Body> Future for ResponseFuture<B> {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Reading { body, read, asked, timer } => {
                    let limit = asked.as_ref().map_or(0, |(_, _, route)| route.max_body());
                    let end = match body.poll_frame(cx) {
                        Poll::Ready(frame) => take(frame, read, limit),
                        Poll::Pending => {
                            ready!(timer.poll(cx));
                            Some(Err(TOO_SLOW))
                        }
                    };
                    match (end, asked.take()) {
                        (None, kept) => {
                            *asked = kept;
                            continue;
                        }
                        (Some(Ok(())), Some((ledger, head, route))) => {
                            answering(ledger, head, route, std::mem::take(read).freeze())
                        }
                        (Some(Err(refusal)), Some((_, head, _))) => done(&head, refusal.to_json()),
                        (Some(_), None) => State::Done { response: None },
                    }
                }
                StateProj::Answering { answering, late, timer } => match answering.as_mut().poll(cx) {
                    Poll::Ready(response) => return Poll::Ready(Ok(response)),
                    Poll::Pending => {
                        ready!(timer.poll(cx));
                        match late.take() {
                            Some(late) => {
                                let (ledger, head, page) = *late;
                                done(&head, ledger.refusal(Refusal::unavailable(), page))
                            }
                            None => State::Done { response: None },
                        }
                    }
                },
                StateProj::Done { response } => {
                    // Whoever asks a second time gets nothing but an end.
                    let response = response.take().unwrap_or_else(|| Response::new(Full::default()));
                    return Poll::Ready(Ok(response));
                }
            };
            state.set(next);
        }
    }
}

/// Takes a frame. `None` when more is to come.
fn take<D: Buf, E>(
    frame: Option<Result<http_body::Frame<D>, E>>,
    read: &mut BytesMut,
    limit: usize,
) -> Option<Result<(), Refusal>> {
    let Some(frame) = frame else { return Some(Ok(())) };
    let Ok(frame) = frame else { return Some(Err(BROKEN)) };
    let mut data = frame.into_data().ok()?;
    if data.remaining() > limit.saturating_sub(read.len()) {
        return Some(Err(TOO_LARGE));
    }
    while data.has_remaining() {
        let chunk = data.chunk();
        let length = chunk.len();
        read.extend_from_slice(chunk);
        data.advance(length);
    }
    None
}

impl<B> fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture(..)")
    }
}
