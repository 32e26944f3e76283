//! What happens on a connection: enough to tell whether anybody would miss it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A request whose body has stopped arriving for so long is not waited for when the process ends.
const STALLED: Duration = Duration::from_secs(1);

/// For so long a client may go on sending what nobody wants any more, before its connection is cut.
const LINGER: Duration = Duration::from_secs(5);

/// Counts the requests of one connection, and those of all together.
#[derive(Clone)]
pub(crate) struct Activity {
    connection: Arc<Counts>,
    all: Arc<AtomicUsize>,
}

struct Counts {
    begun: AtomicBool,
    /// Requests whose answer has not been handed over to its last byte.
    requests: AtomicUsize,
    /// Of these, the ones that cannot be answered yet because their body has not arrived.
    receiving: AtomicUsize,
    /// Whether a request was answered before all of it had been read.
    answered_early: AtomicBool,
    /// Whether bytes wait for the client to take them.
    write_blocked: AtomicBool,
    opened: Instant,
    /// Milliseconds after `opened`.
    last_read: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { connection: Counts::new(), all: Arc::default() }
    }
}

impl Counts {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            answered_early: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            opened: Instant::now(),
            last_read: AtomicU64::new(0),
        })
    }

    fn since_opened(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Activity {
    /// A new connection, whose requests also count here.
    pub(crate) fn of_connection(&self) -> Self {
        Self { connection: Counts::new(), all: Arc::clone(&self.all) }
    }

    /// Requests that are not answered to their last byte, on all connections.
    pub(crate) fn requests(&self) -> usize {
        self.all.load(Relaxed)
    }

    /// Whether there was a request on this connection.
    pub(crate) fn has_begun(&self) -> bool {
        self.connection.begun.load(Relaxed)
    }

    /// Whether nothing would be lost with this connection: nothing in flight (a head that is half there
    /// is not), or nothing but bodies that have stopped arriving; and no bytes on their way out.
    pub(crate) fn is_abandoned(&self) -> bool {
        let counts = &self.connection;
        let requests = counts.requests.load(Relaxed);
        let silence = Duration::from_millis(counts.since_opened().saturating_sub(counts.last_read.load(Relaxed)));
        !counts.write_blocked.load(Relaxed)
            && (requests == 0 || (requests == counts.receiving.load(Relaxed) && silence >= STALLED))
    }

    /// A request begins.
    pub(crate) fn begin<B: Body>(&self, request: Request<B>) -> (Exchange, Request<RequestBody<B>>) {
        let counts = &self.connection;
        counts.begun.store(true, Relaxed);
        counts.requests.fetch_add(1, Relaxed);
        self.all.fetch_add(1, Relaxed);
        let receiving = !request.body().is_end_stream();
        if receiving {
            counts.receiving.fetch_add(1, Relaxed);
        }
        let receiving = Arc::new(Receiving { counts: Arc::clone(counts), now: AtomicBool::new(receiving) });
        let exchange = Exchange { activity: self.clone(), receiving: Arc::clone(&receiving) };
        (exchange, request.map(|inner| RequestBody { inner, receiving }))
    }
}

/// A request until the last byte of its answer was handed over, or nobody wants it any more.
pub(crate) struct Exchange {
    activity: Activity,
    receiving: Arc<Receiving>,
}

impl Exchange {
    /// There is an answer: the body of the request no longer matters.
    pub(crate) fn answered<B>(self, response: Response<B>) -> Response<ResponseBody<B>> {
        if self.receiving.end() {
            self.receiving.counts.answered_early.store(true, Relaxed);
        }
        response.map(|inner| ResponseBody { inner, _exchange: self })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.receiving.end();
        self.activity.connection.requests.fetch_sub(1, Relaxed);
        self.activity.all.fetch_sub(1, Relaxed);
    }
}

struct Receiving {
    counts: Arc<Counts>,
    now: AtomicBool,
}

impl Receiving {
    /// Whether this was the end.
    fn end(&self) -> bool {
        let ends = self.now.swap(false, Relaxed);
        if ends {
            self.counts.receiving.fetch_sub(1, Relaxed);
        }
        ends
    }
}

pin_project! {
    /// Notices when a request has arrived whole.
    pub(crate) struct RequestBody<B> {
        #[pin]
        inner: B,
        receiving: Arc<Receiving>,
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            this.receiving.end();
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

pin_project! {
    /// Keeps the request counted until it is dropped, which is when its last frame was taken.
    pub(crate) struct ResponseBody<B> {
        #[pin]
        inner: B,
        _exchange: Exchange,
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pin_project! {
    /// A stream that notices when bytes arrive, and when the other side does not take ours.
    pub(crate) struct Watched<S> {
        #[pin]
        stream: S,
        activity: Activity,
        // Set once our side has said that it is done.
        linger: Option<Pin<Box<Sleep>>>,
    }
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, activity: Activity) -> Self {
        Self { stream, activity, linger: None }
    }
}

impl Activity {
    fn wrote<T>(&self, result: Poll<T>) -> Poll<T> {
        self.connection.write_blocked.store(result.is_pending(), Relaxed);
        result
    }
}

impl<S: AsyncRead> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        ready!(this.stream.poll_read(cx, buffer))?;
        let counts = &this.activity.connection;
        counts.last_read.store(counts.since_opened(), Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.activity.wrote(this.stream.poll_write(cx, data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.activity.wrote(this.stream.poll_write_vectored(cx, data))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    /// A connection that is closed while the client still sends is reset, and then a client that writes
    /// before it reads never sees the answer, for instance that its body is too large.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if this.linger.is_none() {
            ready!(this.stream.as_mut().poll_shutdown(cx))?;
            if !this.activity.connection.answered_early.load(Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut unwanted = [0; 8 * 1024];
        while linger.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut unwanted);
            let read = ready!(this.stream.as_mut().poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
