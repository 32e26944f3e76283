//! What the laws are written with: a provider that does as it is told, and steps that say what they expect.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::Make;
pub(super) use crate::conformance::laws::Checked;
use crate::upstream::{Body, Call, Report, Upstream, UpstreamError};

/// More than anything takes that is in order.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for what must not happen.
pub(super) const A_WHILE: Duration = Duration::from_millis(300);

/// Where the upstreams come from.
pub(super) struct Lab {
    make: Make,
}

/// A provider, and an upstream that asks it. Ends with its law.
pub(super) struct Bench {
    pub(super) upstream: Arc<dyn Upstream>,
    /// How many requests were heard.
    heard: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Lab {
    pub(super) fn new(make: Make) -> Self {
        Self { make }
    }

    /// A provider that does this with every connection.
    pub(super) async fn provider<F, Fut>(&self, serve: F) -> Checked<Bench>
    where
        F: Fn(Peer) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let failed = |error: std::io::Error| format!("the suite cannot listen on loopback: {error}");
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let heard = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&heard);
        let serving = tokio::spawn(async move {
            let mut peers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                peers.spawn(serve(Peer { stream, buffer: Vec::new(), heard: Arc::clone(&counted) }));
            }
        });
        Ok(Bench { upstream: self.upstream(address).await, heard, serving })
    }

    /// A provider that answers every request with this, and then closes.
    pub(super) async fn answering(&self, answer: &'static str) -> Checked<Bench> {
        self.provider(move |mut peer| async move {
            if let Some(head) = peer.head().await {
                peer.body(&head).await;
                peer.write(answer).await;
            }
        })
        .await
    }

    /// An upstream whose provider is not there.
    pub(super) async fn nobody(&self) -> Checked<Arc<dyn Upstream>> {
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
        let address = listener.and_then(|listener| listener.local_addr()).map_err(|error| error.to_string())?;
        Ok(self.upstream(address).await)
    }

    async fn upstream(&self, address: SocketAddr) -> Arc<dyn Upstream> {
        (self.make)(format!("http://{address}")).await
    }
}

impl Bench {
    pub(super) fn heard(&self) -> usize {
        self.heard.load(SeqCst)
    }

    /// Asks, and expects an answer.
    pub(super) async fn ask(&self, request: Request<Body>) -> Checked<Response<Body>> {
        let (answer, _) = self.call(request).await?;
        answer.map_err(|error| format!("there was no answer: {error}"))
    }

    /// Asks, and gives what came of it with its report.
    pub(super) async fn call(
        &self,
        request: Request<Body>,
    ) -> Checked<(Result<Response<Body>, UpstreamError>, Report)> {
        call(&*self.upstream, request).await
    }
}

pub(super) async fn call(
    upstream: &dyn Upstream,
    request: Request<Body>,
) -> Checked<(Result<Response<Body>, UpstreamError>, Report)> {
    let call = Call::default();
    let answer = within("the call", upstream.call(request, &call)).await?;
    Ok((answer, call.report))
}

/// A request without a body.
pub(super) fn get(path: &str) -> Checked<Request<Body>> {
    Request::get(path).body(Body::empty()).map_err(|error| error.to_string())
}

/// Reads a body to its end.
pub(super) async fn read(answer: Response<Body>) -> Checked<Bytes> {
    let body = within("reading the answer", answer.into_body().collect()).await?;
    Ok(body.map_err(|error| format!("the body of the answer failed: {error}"))?.to_bytes())
}

/// The next piece of a body.
pub(super) async fn piece(body: &mut Body) -> Checked<Bytes> {
    match within("the next piece of the answer", body.frame()).await? {
        Some(Ok(frame)) => frame.into_data().map_err(|_| "the body of the answer ended too early".to_owned()),
        Some(Err(error)) => Err(format!("the body of the answer failed: {error}")),
        None => Err("the body of the answer ended too early".to_owned()),
    }
}

/// Waits, but not forever.
pub(super) async fn within<T>(what: &str, work: impl Future<Output = T>) -> Checked<T> {
    timeout(PATIENCE, work).await.map_err(|_| format!("{what}: nothing for {PATIENCE:?}"))
}

pub(super) fn expect(holds: bool, otherwise: impl Into<String>) -> Checked {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// A connection of the upstream, at the provider.
pub(super) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    heard: Arc<AtomicUsize>,
}

impl Peer {
    /// Reads more; false at the end.
    async fn fill(&mut self) -> bool {
        let mut piece = [0; 4096];
        loop {
            if self.stream.readable().await.is_err() {
                return false;
            }
            match self.stream.try_read(&mut piece) {
                Ok(0) => return false,
                Ok(read) => {
                    self.buffer.extend(piece.iter().take(read));
                    return true;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
    }

    /// Reads up to and with some bytes; `None` when they do not come.
    pub(super) async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let rest = self.buffer.split_off(at + end.len());
                return Some(std::mem::replace(&mut self.buffer, rest));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads the head of a request, header names in small letters.
    pub(super) async fn head(&mut self) -> Option<String> {
        let head = self.until(b"\r\n\r\n").await?;
        self.heard.fetch_add(1, SeqCst);
        let head = String::from_utf8_lossy(&head);
        let lines = head.split("\r\n").enumerate().map(|(number, line)| match line.split_once(':') {
            Some((name, value)) if number > 0 => format!("{}:{value}", name.to_ascii_lowercase()),
            _ => line.to_owned(),
        });
        Some(lines.collect::<Vec<_>>().join("\r\n"))
    }

    /// Reads the body behind a head; `None` when it breaks off.
    pub(super) async fn body(&mut self, head: &str) -> Option<Vec<u8>> {
        if head.contains("\r\ntransfer-encoding: chunked") {
            let mut body = Vec::new();
            loop {
                let size = self.until(b"\r\n").await?;
                let size = usize::from_str_radix(String::from_utf8(size).ok()?.trim(), 16).ok()?;
                let mut piece = self.exactly(size + 2).await?;
                piece.truncate(size);
                if size == 0 {
                    return Some(body);
                }
                body.append(&mut piece);
            }
        }
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
        self.exactly(length.map_or(Some(0), |length| length.trim().parse().ok())?).await
    }

    async fn exactly(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < bytes {
            if !self.fill().await {
                return None;
            }
        }
        let rest = self.buffer.split_off(bytes);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    /// Writes all of it; false when the other side is gone.
    pub(super) async fn write(&mut self, text: impl AsRef<[u8]>) -> bool {
        let mut rest = text.as_ref();
        while !rest.is_empty() {
            if self.stream.writable().await.is_err() {
                return false;
            }
            match self.stream.try_write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Waits until the other side has closed.
    pub(super) async fn closed(&mut self) {
        while self.fill().await {
            self.buffer.clear();
        }
    }
}
