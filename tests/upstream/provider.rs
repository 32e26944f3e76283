//! Providers on sockets that do as they are told.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// More than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A provider that runs until it is killed, or the test ends.
pub struct Provider {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    /// The heads of the requests.
    pub heads: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

/// One connection to it.
pub struct Peer {
    pub stream: TcpStream,
    /// Which connection it is, from 0.
    pub turn: usize,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Reads the head of a request; `None` at the end of the connection. Bodies are left unread.
    pub async fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        self.heads.lock().unwrap().push(head.clone());
        Some(head)
    }

    pub async fn write(&mut self, text: &str) {
        // Who asks may be gone.
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Ends the connection by a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Waits until the other side has closed.
    pub async fn closed(&mut self) {
        let mut rest = [0; 1024];
        while self.stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    }
}

impl Provider {
    pub async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(Peer) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, heads) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (counted, recorded) = (Arc::clone(&connections), Arc::clone(&heads));
        let task = tokio::spawn(async move {
            // Everything that was begun ends with it.
            let mut peers = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let turn = counted.fetch_add(1, SeqCst);
                peers.spawn(serve(Peer { stream, turn, heads: Arc::clone(&recorded) }));
            }
        });
        Self { address, connections, heads, task }
    }

    /// Writes these pieces in answer to every request, with a pause after each, and then closes.
    pub async fn saying(pieces: &'static [&'static str]) -> Self {
        Self::start(move |mut peer| async move {
            if peer.head().await.is_some() {
                for piece in pieces {
                    peer.write(piece).await;
                    sleep(Duration::from_millis(30)).await;
                }
            }
        })
        .await
    }

    /// Answers every request on every connection with this, and keeps the connection.
    pub async fn keeping(answer: &'static str) -> Self {
        Self::start(move |mut peer| async move {
            while peer.head().await.is_some() {
                peer.write(answer).await;
            }
        })
        .await
    }

    /// Reads requests and never answers.
    pub async fn silent() -> Self {
        Self::start(|mut peer| async move {
            peer.head().await;
            peer.closed().await;
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// Ends it, its listener and its connections. Gives its address.
    pub async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

/// An address where nobody listens.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
