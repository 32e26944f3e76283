//! An upstream as a Tower service.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use http_body::Body as _;
use http_body_util::Limited;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::{
    Body, BoxError, Call, Report, ServiceUpstream, Stage, Upstream, UpstreamError, idempotency,
    passing::{Answering, Asking},
    scrub::{self, To},
};
use crate::{protocol::Problem, receipt::Attribution, refund::ProviderCall, trace::TARGET};

/// When a client may ask again where there is too much at work.
const RETRY_AFTER_SECS: HeaderValue = HeaderValue::from_static("5");

/// Answers requests by an [`Upstream`]: what the [`PaymentLayer`](crate::PaymentLayer) wraps. It scrubs requests and
/// answers, tells refunds and receipts how far the call came, and answers a problem document where there is no answer.
///
/// * Credentials, cookies, payments, what belongs to one connection, and what only the merchant may say do not pass, in
///   heads and in trailers. What the upstream needs, it adds itself, behind this service.
/// * Every answer has a [`ProviderCall`] in its extensions, unless the upstream has put one there; the receipt gets the
///   status of the provider; the [`Report`] learns of the first byte and of the end. A `Report` in the extensions of
///   the request is used instead of a new one.
/// * The `Idempotency-Key` of a paid request gets a name of its own for each payment, because all payers share the
///   account of the merchant: who repeats the key of somebody else is not given that one's answer. Without a payment it
///   does not pass.
/// * An answer of 401, 402, 407 or 101 is between the upstream and the merchant, and so no answer.
/// * An error of the upstream is logged once, with its causes; the client reads none of them.
#[derive(Clone)]
pub struct UpstreamService {
    upstream: Arc<dyn Upstream>,
    timeout: Option<Duration>,
    body_limit: Option<usize>,
}

/// Marks an answer that is not the provider's own, in its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotOfProvider;

impl UpstreamService {
    /// A service in front of an upstream.
    pub fn new(upstream: impl Upstream) -> Self {
        Self { upstream: Arc::new(upstream), timeout: None, body_limit: None }
    }

    /// A service in front of any other Tower service: a router, a client, a stack of layers. See [`ServiceUpstream`].
    pub fn of_service<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::new(ServiceUpstream::new("service", service))
    }

    /// How long a call may take in all, the body of its answer included. No limit by default; an upstream has its
    /// own limits for every wait.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// How many bytes the body of a request may have: a longer one is answered with 413, before the upstream is asked
    /// where its length is known, and else when it becomes too long. No limit by default.
    ///
    /// This is behind the payment: let the outer layers refuse a declared length before anything is paid.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = Some(bytes);
        self
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let mut call = Call::new(report_of(&request));
        call.deadline = self.timeout.and_then(|limit| Instant::now().checked_add(limit));
        match self.ask(request, &call).await {
            Ok(answer) => passed_back(answer, &call),
            Err(error) => {
                let error = told_of_the_last_attempt(error, &call.report);
                if let UpstreamError::RefusesUs(status) = &error {
                    call.report.update(|receipt| receipt.provider_status = Some(status.as_u16()));
                }
                log(self.upstream.name(), &error);
                refused(&error, &call.report)
            }
        }
    }

    async fn ask(&self, request: Request<Body>, call: &Call) -> Result<Response<Body>, UpstreamError> {
        let (mut head, body) = request.into_parts();
        let limit = self.body_limit.unwrap_or(usize::MAX);
        if body.size_hint().lower() > limit as u64 {
            return Err(UpstreamError::BodyTooLarge);
        }
        let is_whole = body.is_end_stream();
        scrub::head(&mut head.headers, To::Upstream, !is_whole);
        idempotency::rename(&mut head);
        let cut = Arc::new(AtomicBool::new(false));
        let body = match (is_whole, self.body_limit) {
            (true, _) => Body::empty(),
            (false, None) => Body::new(Asking::new(body, Arc::clone(&cut))),
            (false, Some(limit)) => Body::new(Asking::new(Body::new(Limited::new(body, limit)), Arc::clone(&cut))),
        };
        let asked = self.upstream.call(Request::from_parts(head, body), call);
        let answer = match call.deadline {
            None => asked.await,
            Some(deadline) => match timeout_at(deadline, asked).await {
                Ok(answer) => answer,
                Err(_) if call.report.stage() == Stage::NotStarted => Err(UpstreamError::ConnectTimeout),
                Err(_) => Err(UpstreamError::Timeout),
            },
        };
        match answer {
            // However the upstream has put it.
            Err(_) if cut.load(Relaxed) => Err(UpstreamError::BodyTooLarge),
            Ok(answer) if is_between_us(answer.status()) => Err(UpstreamError::RefusesUs(answer.status())),
            answer => answer,
        }
    }
}

/// The report that somebody waits for, or one for the receipt.
fn report_of(request: &Request<Body>) -> Report {
    let extensions = request.extensions();
    let attribution = || extensions.get::<Attribution>().cloned().unwrap_or_default();
    extensions.get::<Report>().cloned().unwrap_or_else(|| Report::new(attribution()))
}

/// The answer of the provider, as the client may see it.
fn passed_back(answer: Response<Body>, call: &Call) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    let report = &call.report;
    // Nor is its body.
    let mut passing = Report::default();
    if head.extensions.get::<NotOfProvider>().is_none() {
        report.update(|receipt| receipt.provider_status = Some(head.status.as_u16()));
        passing = report.clone();
    }
    scrub::head(&mut head.headers, To::Client, !body.is_end_stream());
    // Of the connection behind us.
    head.version = Version::HTTP_11;
    if head.extensions.get::<ProviderCall>().is_none() {
        head.extensions.insert(report.provider_call());
    }
    Response::from_parts(head, Body::new(Answering::new(body, passing, call.deadline)))
}

/// About our credentials, our account or our connection: nothing that a client could do anything about, and a 402 would
/// look like a second bill.
pub(super) fn is_between_us(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::PAYMENT_REQUIRED
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED
            | StatusCode::SWITCHING_PROTOCOLS
    )
}

/// There is no answer of the provider.
fn refused(error: &UpstreamError, report: &Report) -> Response<Body> {
    if matches!(error, UpstreamError::Timeout) {
        report.timed_out();
    }
    let mut response = problem_answer(&error.problem());
    if matches!(error, UpstreamError::Busy) {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECS);
    }
    response.extensions_mut().insert(how_far(error, report));
    response
}

/// An answer of ours, which nobody keeps.
pub(crate) fn problem_answer(problem: &Problem) -> Response<Body> {
    let mut response = Response::new(Body::from(problem.to_json()));
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::CONTENT_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// No connection for another attempt is no time-out of a provider that was asked: what it has done nobody knows.
fn told_of_the_last_attempt(error: UpstreamError, report: &Report) -> UpstreamError {
    match error {
        UpstreamError::ConnectTimeout if report.stage() != Stage::NotStarted => {
            UpstreamError::Unreachable("no connection in time for another attempt".into())
        }
        error => error,
    }
}

/// Whichever says more: an upstream that has forgotten to report, or an error that knows nothing of earlier attempts.
fn how_far(error: &UpstreamError, report: &Report) -> ProviderCall {
    match report.provider_call() {
        ProviderCall::NotStarted => error.provider_call(),
        further => further,
    }
}

fn log(upstream: &str, error: &UpstreamError) {
    let source = std::error::Error::source(error).map(tracing::field::debug);
    tracing::warn!(target: TARGET, upstream, %error, source, "no answer of the upstream");
}

impl<B> Service<Request<B>> for UpstreamService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.clone().answer(request.map(Body::new));
        Box::pin(async move { Ok(answer.await) })
    }
}

impl fmt::Debug for UpstreamService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamService")
            .field("upstream", &self.upstream.name())
            .field("timeout", &self.timeout)
            .field("body_limit", &self.body_limit)
            .finish()
    }
}
