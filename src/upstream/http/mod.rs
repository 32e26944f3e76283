//! An HTTP API as an upstream.

mod base;
mod builder;
mod connect;
mod retry;
mod waiting;

use std::{fmt, future::Future as _, future::poll_fn, pin::pin, sync::Arc, task::Poll};

use async_trait::async_trait;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONTENT_LOCATION, LOCATION, TE, TRAILER},
    request::Parts,
};
use http_body::Body as _;
use hyper_util::client::legacy::{Error, connect::capture_connection};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until},
};

use self::{
    base::{Base, Redirect},
    builder::Limits,
    connect::{Pool, TooSlow},
    retry::{Cause, Hook, Source},
    waiting::{Patient, Progress, Tracked},
};
pub use self::{
    builder::{HttpUpstreamBuilder, InvalidUpstream},
    retry::{Failure, Retry},
};
use super::{
    Body, BoxError, Call, Upstream, UpstreamError, Usage, error::has_source, is_plain_path, service::NotOfProvider,
};
use crate::receipt::Provider;

/// An HTTP API: a base URL, a pool of connections, time limits.
///
/// The path and the query of a request stand behind the path of the base URL, as they were sent: whoever mounts the
/// upstream under a path of its own strips that before, and may say it with [`MountedAt`]. Bodies stream both ways,
/// frame by frame, trailers included. No redirect is followed: the answer passes back, a `Location` within the upstream
/// as the path under which the client sees it.
///
/// A `401`, `402`, `407` or `101` is between the upstream and the merchant: an error, whose status no client reads.
///
/// ```
/// use std::time::Duration;
/// use tower_mpp::upstream::{HttpUpstream, UpstreamService};
///
/// # fn main() -> Result<(), tower_mpp::upstream::InvalidUpstream> {
/// let upstream = HttpUpstream::builder("https://api.anthropic.com")
///     .header("x-api-key", "sk-ant-...")
///     .first_byte_timeout(Duration::from_secs(60))
///     .build()?;
/// let service = UpstreamService::new(upstream).body_limit(1024 * 1024);
/// # let _ = service;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HttpUpstream {
    name: String,
    base: Base,
    headers: HeaderMap,
    remove: Vec<HeaderName>,
    limits: Limits,
    wants_trailers: bool,
    room: Option<Arc<Semaphore>>,
    provider: Option<Provider>,
    usage: Option<Usage>,
    hook: Option<Hook>,
    max_attempts: u32,
    replay_limit: usize,
    pool: Pool,
}

/// The path under which clients see the paths of an upstream, without a slash at its end: in the extensions of a
/// request, for the `Location` of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedAt(pub Arc<str>);

impl HttpUpstream {
    /// An upstream at a base URL: `https://host[:port][/base/path]`, without credentials, query and fragment.
    pub fn builder(base_url: impl Into<String>) -> HttpUpstreamBuilder {
        HttpUpstreamBuilder::new(base_url.into())
    }

    /// Whether injected headers can be read on their way: the URL is plain HTTP to another machine. Warn about it when
    /// the process starts.
    pub fn leaks_secrets(&self) -> bool {
        !self.headers.is_empty() && !self.is_safe_for_secrets()
    }

    /// Whether what is sent there is encrypted, or stays on this machine.
    pub fn is_safe_for_secrets(&self) -> bool {
        self.base.is_safe_for_secrets()
    }

    /// Sends one attempt and waits for the head of its answer.
    async fn attempt(&self, head: Parts, body: Body, call: &Call) -> Result<Response<Body>, UpstreamError> {
        let progress = Progress::new();
        let body = match body.is_end_stream() {
            true => Body::empty(),
            false => Body::new(Tracked::new(body, progress.clone(), head.headers.contains_key(TRAILER))),
        };
        let mut request = Request::from_parts(head, body);
        let captured = capture_connection(&mut request);
        let mut sending = pin!(self.pool.request(request));
        let mut stalled = pin!(progress.stalled(&self.limits));
        let mut overdue = pin!(until(call.deadline));
        // To drop the call, as time-outs do, closes its connection.
        let answer = poll_fn(|cx| {
            let polled = sending.as_mut().poll(cx);
            // In the same step, so that nobody who drops this can come between.
            if !progress.has_connection() && captured.connection_metadata().is_some() {
                progress.connected(&call.report);
            }
            if let Poll::Ready(answer) = polled {
                return Poll::Ready(answer.map_err(|error| failed(error, &progress)));
            }
            if let Poll::Ready(error) = stalled.as_mut().poll(cx) {
                return Poll::Ready(Err(error));
            }
            overdue.as_mut().poll(cx).map(|()| {
                Err(if progress.has_connection() { UpstreamError::Timeout } else { UpstreamError::ConnectTimeout })
            })
        })
        .await?;
        match answer.status() {
            // About our credentials, our account or our connection: nothing that a client could do anything about, and
            // a 402 would look like a second bill.
            status @ (StatusCode::UNAUTHORIZED
            | StatusCode::PAYMENT_REQUIRED
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED
            | StatusCode::SWITCHING_PROTOCOLS) => Err(UpstreamError::RefusesUs(status)),
            _ => Ok(answer.map(Body::new)),
        }
    }

    /// What the hook says about an attempt.
    fn decide(&self, about: &Attempted<'_>, outcome: &Result<Response<Body>, UpstreamError>) -> Retry {
        let Some(Hook(hook)) = &self.hook else { return Retry::No };
        let cause = match outcome {
            Ok(answer) if answer.status().as_u16() < 400 => return Retry::No,
            Ok(answer) => Cause::Answer(answer.status(), answer.headers()),
            Err(error) => Cause::Error(error),
        };
        let in_time = about.deadline.is_none_or(|at| at > Instant::now());
        let can_retry = about.is_whole && about.attempt < self.max_attempts && in_time;
        let decision =
            hook(&Failure { attempt: about.attempt, method: about.method, path: about.path, can_retry, cause });
        match decision {
            Retry::After(_) if !can_retry => Retry::No,
            Retry::After(wait) if about.deadline.is_some_and(|at| at.duration_since(Instant::now()) <= wait) => {
                Retry::No
            }
            decision => decision,
        }
    }

    /// The answer of the provider as it is passed back.
    fn finish(
        &self,
        answer: Response<Body>,
        mount: &str,
        call: &Call,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Response<Body> {
        let (mut head, body) = answer.into_parts();
        // Of the connection: who it was with, what its server called the status.
        head.extensions.clear();
        for name in [LOCATION, CONTENT_LOCATION] {
            self.relocate(&mut head.headers, name, mount);
        }
        let body = Body::new(Patient::new(body, self.limits.idle, call.deadline, permit));
        let body = match self.usage {
            Some(usage) => usage.tap(&head, body, &call.report),
            None => body,
        };
        Response::from_parts(head, body)
    }

    fn relocate(&self, headers: &mut HeaderMap, name: HeaderName, mount: &str) {
        let Some(value) = headers.get(&name) else { return };
        let target = value.to_str().map_or(Redirect::Hidden, |location| self.base.redirect(location, mount));
        match target {
            Redirect::Elsewhere => {}
            Redirect::Here(path) => match HeaderValue::try_from(path) {
                Ok(path) => drop(headers.insert(name, path)),
                Err(_) => drop(headers.remove(name)),
            },
            Redirect::Hidden => drop(headers.remove(name)),
        }
    }
}

/// What is known of an attempt when it has failed.
struct Attempted<'a> {
    attempt: u32,
    method: &'a Method,
    path: &'a str,
    is_whole: bool,
    deadline: Option<Instant>,
}

#[async_trait]
impl Upstream for HttpUpstream {
    fn name(&self) -> &str {
        &self.name
    }

    async fn call(&self, request: Request<Body>, call: &Call) -> Result<Response<Body>, UpstreamError> {
        let (mut head, body) = request.into_parts();
        check(&head)?;
        let permit = match &self.room {
            Some(room) => Some(Arc::clone(room).try_acquire_owned().map_err(|_| UpstreamError::Busy)?),
            None => None,
        };
        let mount = head.extensions.get::<MountedAt>().cloned();
        let mount = mount.as_ref().map_or("", |mount| mount.0.trim_end_matches('/'));
        let target = self.base.join(&head.uri).map_err(|error| UpstreamError::Request(error.into()))?;
        let asked = std::mem::replace(&mut head.uri, target);
        head.version = Version::HTTP_11;
        head.extensions.clear();
        for name in &self.remove {
            head.headers.remove(name);
        }
        for (name, value) in &self.headers {
            head.headers.insert(name, value.clone());
        }
        if self.wants_trailers {
            head.headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if let Some(provider) = self.provider {
            call.report.update(|receipt| receipt.provider = Some(provider));
        }
        let mut source = match self.hook {
            Some(_) => Source::of(body, self.replay_limit).await,
            None => Source::Once(Some(body)),
        };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let outcome = self.attempt(head.clone(), source.body(), call).await;
            let about = Attempted {
                attempt,
                method: &head.method,
                path: asked.path(),
                is_whole: source.is_whole(),
                deadline: call.deadline,
            };
            match self.decide(&about, &outcome) {
                Retry::After(wait) => {
                    // A provider that answers no has had the call; its connection is free for the next attempt.
                    drop(outcome);
                    sleep(wait).await;
                }
                Retry::Answer(mut answer) => {
                    answer.extensions_mut().insert(NotOfProvider);
                    return Ok(answer);
                }
                Retry::No => return outcome.map(|answer| self.finish(answer, mount, call, permit)),
            }
        }
    }
}

/// What no upstream gets from us.
fn check(head: &Parts) -> Result<(), UpstreamError> {
    // A tunnel, and an echo of the credentials that we inject.
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        let why = "This method is not passed on.";
        return Err(UpstreamError::NotPassedOn { status: StatusCode::NOT_IMPLEMENTED, why });
    }
    if !is_plain_path(head.uri.path()) {
        let why = "The path has dot segments, backslashes or control characters.";
        return Err(UpstreamError::NotPassedOn { status: StatusCode::BAD_REQUEST, why });
    }
    Ok(())
}

fn failed(error: Error, progress: &Progress) -> UpstreamError {
    let is_connect = error.is_connect();
    let error: BoxError = error.into();
    if has_source::<TooSlow>(&*error) {
        return UpstreamError::ConnectTimeout;
    }
    match progress.fault_of_client(error) {
        Ok(fault) => fault,
        Err(error) if is_connect || !progress.has_connection() => UpstreamError::Unreachable(error),
        Err(error) => UpstreamError::Broken(error),
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl fmt::Debug for HttpUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpUpstream").field("base", &self.base).field("limits", &self.limits).finish_non_exhaustive()
    }
}
