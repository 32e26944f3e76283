//! Upstreams with one mistake each.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::sync::{Mutex, mpsc};
use tower_mpp::upstream::{Body, BoxError, Call, HttpUpstream, Upstream, UpstreamError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    NoName,
    DropsQuery,
    LosesMethod,
    ErrorsForStatus,
    FollowsRedirects,
    OneAtATime,
    NeverStarts,
    StartsAtOnce,
    AnswersForErrors,
    BrokenIsUnreachable,
    TriesTwice,
    GivesUp,
    CollectsAnswers,
    CollectsRequests,
    ReadsAhead,
    DropsTrailers,
    SwallowsBreaks,
    EndsBrokenRequests,
    GoesOnAlone,
}

pub struct Wrong {
    inner: Arc<HttpUpstream>,
    bug: Bug,
    turn: Mutex<()>,
    failed: AtomicBool,
}

impl Wrong {
    pub fn new(inner: HttpUpstream, bug: Bug) -> Self {
        Self { inner: Arc::new(inner), bug, turn: Mutex::new(()), failed: AtomicBool::new(false) }
    }
}

type Answer = Result<Response<Body>, UpstreamError>;

#[async_trait]
impl Upstream for Wrong {
    fn name(&self) -> &str {
        if self.bug == Bug::NoName { "" } else { self.inner.name() }
    }

    async fn call(&self, mut request: Request<Body>, call: &Call) -> Answer {
        let inner = &self.inner;
        match self.bug {
            Bug::NoName => inner.call(request, call).await,
            Bug::DropsQuery => {
                let path: Uri = request.uri().path().parse().unwrap();
                *request.uri_mut() = path;
                inner.call(request, call).await
            }
            Bug::LosesMethod => {
                if request.method() == Method::PATCH {
                    *request.method_mut() = Method::POST;
                }
                inner.call(request, call).await
            }
            Bug::ErrorsForStatus => {
                let answer = inner.call(request, call).await?;
                if answer.status().is_server_error() {
                    return Err(UpstreamError::Broken(answer.status().to_string().into()));
                }
                Ok(answer)
            }
            Bug::FollowsRedirects => {
                let answer = inner.call(request, call).await?;
                match answer.headers().get("location").cloned() {
                    None => Ok(answer),
                    Some(to) => inner.call(get(to.to_str().unwrap()), call).await,
                }
            }
            Bug::OneAtATime => {
                let _turn = self.turn.lock().await;
                inner.call(request, call).await
            }
            Bug::NeverStarts => inner.call(request, &Call::default()).await,
            Bug::StartsAtOnce => {
                call.report.started();
                inner.call(request, call).await
            }
            Bug::AnswersForErrors => inner.call(request, call).await.or_else(|error| {
                let mut answer = Response::new(Body::from("sorry"));
                *answer.status_mut() = error.status();
                Ok(answer)
            }),
            Bug::BrokenIsUnreachable => match inner.call(request, call).await {
                Err(UpstreamError::Broken(error)) => Err(UpstreamError::Unreachable(error)),
                answer => answer,
            },
            Bug::TriesTwice => {
                let again = get(request.uri().path());
                match inner.call(request, call).await {
                    Err(_) => inner.call(again, call).await,
                    answer => answer,
                }
            }
            Bug::GivesUp => {
                if self.failed.load(SeqCst) {
                    return Err(UpstreamError::Busy);
                }
                let answer = inner.call(request, call).await;
                self.failed.store(answer.is_err(), SeqCst);
                answer
            }
            Bug::CollectsRequests => {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map_err(UpstreamError::BodyUnreadable)?.to_bytes();
                inner.call(Request::from_parts(head, body.into()), call).await
            }
            Bug::EndsBrokenRequests => {
                let request = request.map(|body| Body::new(Swallowing(body)));
                inner.call(request, call).await
            }
            Bug::GoesOnAlone => {
                let (inner, call) = (Arc::clone(inner), call.clone());
                tokio::spawn(async move { inner.call(request, &call).await }).await.unwrap()
            }
            Bug::CollectsAnswers => {
                let (head, body) = inner.call(request, call).await?.into_parts();
                let whole = body.collect().await.map_err(UpstreamError::Broken)?;
                let trailers = whole.trailers().cloned().unwrap_or_default();
                let body =
                    Full::new(whole.to_bytes()).with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) });
                Ok(Response::from_parts(head, Body::new(body)))
            }
            Bug::ReadsAhead => Ok(inner.call(request, call).await?.map(read_ahead)),
            Bug::DropsTrailers => Ok(inner.call(request, call).await?.map(|body| Body::new(NoTrailers(body)))),
            Bug::SwallowsBreaks => Ok(inner.call(request, call).await?.map(|body| Body::new(Swallowing(body)))),
        }
    }
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

/// Takes everything as soon as it comes.
fn read_ahead(mut body: Body) -> Body {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let _ = sender.send(frame);
        }
    });
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let frame = receiver.recv().await?;
        Some((frame, receiver))
    });
    Body::new(StreamBody::new(futures_util::StreamExt::boxed(frames)))
}

/// Ends where it should fail.
struct Swallowing(Body);

impl http_body::Body for Swallowing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx).map(|frame| frame.and_then(Result::ok).map(Ok))
    }
}

struct NoTrailers(Body);

impl http_body::Body for NoTrailers {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0)
            .poll_frame(cx)
            .map(|frame| frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers)))
    }
}
