//! What stands between the store and the server: it counts, it cuts, and it swallows.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Forwards connections to a server.
pub(crate) struct Proxy {
    port: u16,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    trips: AtomicUsize,
    connections: AtomicUsize,
    cut: AtomicBool,
    /// Connections up to this one carry nothing any more.
    swallowed: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(forward(number, client, server, Arc::clone(&shared)));
            }
        });
        Self { port, seen }
    }

    /// The address of a server's database through this.
    pub(crate) fn url(&self, server: u16, url: &str) -> String {
        url.replace(&format!(":{server}/"), &format!(":{}/", self.port))
    }

    /// How often the client sent something and waited for the answer.
    pub(crate) fn trips(&self) -> usize {
        self.seen.trips.load(Ordering::SeqCst)
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Cuts the connection instead of the next answer. The server has done what it was asked by then.
    pub(crate) fn cut(&self) {
        self.seen.cut.store(true, Ordering::SeqCst);
    }

    /// From now on the connections that there are carry nothing, and nobody is told.
    pub(crate) fn swallow(&self) {
        self.seen.swallowed.store(self.connections(), Ordering::SeqCst);
    }

    /// Whether there was no answer to cut yet.
    pub(crate) fn will_cut(&self) -> bool {
        self.seen.cut.load(Ordering::SeqCst)
    }
}

async fn forward(number: usize, mut client: TcpStream, mut server: TcpStream, seen: Arc<Seen>) {
    let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
    let mut waiting = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                if number <= seen.swallowed.load(Ordering::SeqCst) {
                    continue;
                }
                if !waiting {
                    seen.trips.fetch_add(1, Ordering::SeqCst);
                }
                waiting = true;
                if server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                waiting = false;
                if seen.cut.swap(false, Ordering::SeqCst) {
                    return;
                }
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
