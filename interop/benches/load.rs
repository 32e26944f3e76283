//! A server on the loopback interface, on one core: what a 402 costs where hyper and the kernel take part.
//!
//! `cargo bench --no-default-features --features bench --bench load`. The servers take turns. A rate is requests per
//! second of processor time of the server's thread, system calls included: it is not disturbed by the client, nor by
//! whatever else the machine does.

use std::{
    fs,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use axum::{Router, body::Body, routing::get};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    task::JoinSet,
};
use tower_mpp::{
    KeyRing, Merchant, Price,
    method::{
        Attempt, Checked, Declined, OfferRequest, Payment, PaymentMethod, RefundError, RefundRequest, Refunded,
        SettleError, Settlement, VerifyError,
    },
    protocol::{Intent, MethodId},
    store::MemoryNonceStore,
};
use tower_mpp_interop::mpp_merchant::stripe_charge;

const CONNECTIONS: usize = 32;
const REQUEST: &[u8] = b"GET /v1/agent/messages HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";

fn main() {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let (rounds, turn) = if measure { (9, Duration::from_secs(1)) } else { (1, Duration::from_millis(20)) };
    let servers = [
        Server::start("bare axum", "HTTP/1.1 200", bare),
        Server::start("tower-mpp", "HTTP/1.1 402", ours),
        Server::start("mpp 0.18.2", "HTTP/1.1 402", peer),
    ];
    let client = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut rates = vec![Vec::new(); servers.len()];
    for _ in 0..rounds {
        for (server, rates) in servers.iter().zip(&mut rates) {
            client.block_on(server.load(turn / 8));
            rates.push(client.block_on(server.load(turn)));
        }
    }
    println!("| server | requests per processor second | bytes | of bare axum |\n|---|--:|--:|--:|");
    for (server, own) in servers.iter().zip(&rates) {
        let (rate, ratio) =
            (median(own.clone()), median(own.iter().zip(&rates[0]).map(|(own, bare)| own / bare).collect()));
        println!("| {} | {rate:.0} | {} | {ratio:.2} |", server.name, client.block_on(server.length()));
    }
}

fn route() -> Router {
    Router::new().route("/v1/agent/messages", get(async || "ok"))
}

fn bare() -> Router {
    route()
}

fn ours() -> Router {
    let key = KeyRing::new("an HMAC key of more than thirty-two bytes").expect("a key");
    let merchant = Merchant::builder("api.example.com", key)
        .method(Stripe)
        .nonce_store(MemoryNonceStore::single_process(1000))
        .build()
        .expect("a merchant");
    let charge = merchant.charge(Price::usd("0.50").expect("a price")).expect("a price that can be paid");
    route().route_layer(charge.description("One model call"))
}

fn peer() -> Router {
    let charge = stripe_charge("http://127.0.0.1:9", "0.50").expect("a route");
    route().route_layer(mpp::server::middleware::PaymentLayer::new(charge).with_problem_details(Body::from))
}

/// A server on a thread of its own.
#[derive(Clone)]
struct Server {
    name: &'static str,
    status: &'static str,
    address: std::net::SocketAddr,
    /// Where the kernel counts the thread's time.
    schedule: String,
}

impl Server {
    fn start(name: &'static str, status: &'static str, app: fn() -> Router) -> Self {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
                let thread = fs::read_link("/proc/thread-self").expect("a thread");
                let schedule = format!("/proc/{}/schedstat", thread.display());
                tell.send((listener.local_addr().expect("an address"), schedule)).expect("a listener");
                axum::serve(listener, app()).await.expect("a server");
            });
        });
        let (address, schedule) = told.recv().expect("a server");
        Self { name, status, address, schedule }
    }

    fn processor_time(&self) -> Duration {
        let counted = fs::read_to_string(&self.schedule).expect("the thread's statistics");
        Duration::from_nanos(counted.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
    }

    /// The length of an answer.
    async fn length(&self) -> usize {
        let mut stream = self.connect().await;
        self.ask(&mut stream, &mut Vec::new()).await
    }

    /// One request, and the length of its answer.
    async fn ask(&self, stream: &mut TcpStream, answer: &mut Vec<u8>) -> usize {
        answer.clear();
        stream.write_all(REQUEST).await.expect("a request");
        while whole(answer).is_none_or(|length| answer.len() < length) {
            assert_ne!(stream.read_buf(answer).await.expect("an answer"), 0, "the answer broke off");
        }
        assert!(answer.starts_with(self.status.as_bytes()));
        answer.len()
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// Requests per second of processor time.
    async fn load(&self, turn: Duration) -> f64 {
        let (before, end) = (self.processor_time(), Instant::now() + turn);
        let mut clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (server, mut stream) = (self.clone(), self.connect().await);
            clients.spawn(async move {
                let (mut answer, mut answers) = (Vec::new(), 0_u64);
                while Instant::now() < end {
                    server.ask(&mut stream, &mut answer).await;
                    answers += 1;
                }
                answers
            });
        }
        let answers: u64 = clients.join_all().await.into_iter().sum();
        answers as f64 / (self.processor_time() - before).as_secs_f64()
    }
}

/// How long an answer is of which this is the beginning.
fn whole(answer: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"content-length: ";
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let start = answer[..head].windows(LENGTH.len()).position(|window| window == LENGTH)? + LENGTH.len();
    let digits = answer[start..].split(|&byte| byte == b'\r').next()?;
    Some(head + str::from_utf8(digits).ok()?.parse::<usize>().ok()?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Stripe's challenge, and nothing behind it.
struct Stripe;

#[async_trait]
impl PaymentMethod for Stripe {
    fn method(&self) -> &MethodId {
        &MethodId::STRIPE
    }

    fn intent(&self) -> &Intent {
        &Intent::CHARGE
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        let offer = OfferRequest::of(price).method_detail("networkId", "profile_interop");
        Some(offer.method_detail("paymentMethodTypes", ["card"].as_slice()))
    }

    fn check(&self, _: &Payment) -> Result<Checked, Declined> {
        Ok(Checked::bound())
    }

    async fn verify(&self, _: &Payment, _: Attempt) -> Result<(), VerifyError> {
        Ok(())
    }

    async fn settle(&self, payment: &Payment, _: Attempt) -> Result<Settlement, SettleError> {
        Ok(Settlement::new("pi_3QxNoop0000000000000000", payment.now()))
    }

    async fn refund(&self, _: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        Err(RefundError::Unsupported)
    }
}
