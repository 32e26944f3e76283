//! Serving with an orderly end, shared by the examples that are services.
//!
//! After SIGTERM or ctrl-c nobody new is accepted, requests in flight are answered to the end of their
//! bodies, and settlements whose client has left are finished and journalled. Connections that are
//! idle or stuck in the middle of a request are not waited for.

use std::{convert::Infallible, future::Future, io, pin::pin, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};
use tower_mpp::Merchant;

use super::activity::{Activity, Watched};

/// How often a connection that ought to close is looked at.
const TICK: Duration = Duration::from_millis(50);
/// What aborted requests have to give back to the journal gets at least this long.
const LAST_STEPS: Duration = Duration::from_secs(1);
/// The pause after a failed accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A credential may have 64 KiB.
const MAX_H2_HEADERS: u32 = 96 * 1024;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Answering what is in flight, after the signal.
    pub(crate) shutdown: Duration,
    /// A request head, counted from the end of the answer before it.
    pub(crate) request_head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { shutdown: Duration::from_secs(30), request_head: Duration::from_secs(30) }
    }
}

/// What can be served: a router, or whatever stands in front of several.
pub(crate) trait App:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> App for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// What was not finished within [`Limits::shutdown`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// Requests that were cut off.
    pub(crate) requests: usize,
    /// Payments between their claim and the end of their journal entry. The next start finds them in
    /// the journal, if that is a durable one.
    pub(crate) payments: usize,
}

/// Serves until `shutdown` is ready, then ends in order. Never ends because of a connection.
pub(crate) async fn serve(
    listener: TcpListener,
    app: impl App,
    merchants: &[Merchant],
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Leftover {
    let http = http(limits);
    let closing = CancellationToken::new();
    let everything = Activity::default();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            stream = accept(&listener) => {
                let activity = everything.of_connection();
                connections.spawn(connection(http.clone(), stream, app.clone(), activity, closing.clone(), limits));
            }
            // A connection that has panicked is one connection less.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    closing.cancel();
    tracing::info!(requests = everything.requests(), "shutting down");

    let deadline = Instant::now() + limits.shutdown;
    let all_closed = async { while connections.join_next().await.is_some() {} };
    let cut = if timeout_at(deadline, all_closed).await.is_err() { everything.requests() } else { 0 };
    connections.shutdown().await;

    let deadline = deadline.max(Instant::now() + LAST_STEPS);
    for merchant in merchants {
        let _ = timeout_at(deadline, merchant.drain()).await;
    }
    Leftover { requests: cut, payments: merchants.iter().map(Merchant::in_flight).sum() }
}

/// Ready at SIGTERM or ctrl-c, which are caught from now on. A second signal ends the process at once.
pub(crate) fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::new()?;
    Ok(async move {
        signals.next().await;
        tokio::spawn(async move {
            signals.next().await;
            tracing::warn!("a second signal: ending at once");
            std::process::exit(130);
        });
    })
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

fn http(limits: Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.request_head);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_header_list_size(MAX_H2_HEADERS);
    http
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client was gone before we came to it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    http: auto::Builder<TokioExecutor>,
    stream: TcpStream,
    app: impl App,
    activity: Activity,
    closing: CancellationToken,
    limits: Limits,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let stream = TokioIo::new(Watched::new(stream, activity.clone()));
    let service = service_fn(|request| answer(app.clone(), request, activity.clone()));
    let mut connection = pin!(http.serve_connection(stream, service));
    let result = tokio::select! {
        // First what has arrived, then whether to close.
        biased;
        result = &mut connection => result,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // Also true of a connection that closes by itself in the same moment.
            tick.tick().await;
            loop {
                tokio::select! {
                    biased;
                    result = &mut connection => break result,
                    _ = tick.tick() => if activity.is_abandoned() { break Ok(()) },
                }
            }
        }
        () = nothing_came(&activity, limits) => Ok(()),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection");
    }
}

/// The head has a timeout of its own, but not before it is known which version of HTTP it is.
async fn nothing_came(activity: &Activity, limits: Limits) {
    sleep(limits.request_head).await;
    if activity.has_begun() {
        std::future::pending().await
    }
}

async fn answer(
    app: impl App,
    request: Request<Incoming>,
    activity: Activity,
) -> Result<Response<impl hyper::body::Body<Data = bytes::Bytes, Error = axum::Error>>, Infallible> {
    let (exchange, request) = activity.begin(request);
    let response = app.oneshot(request.map(Body::new)).await?;
    Ok(exchange.answered(response))
}
