//! The API behind the gateways, Stripe's stand-in beside it, and gateways that can be killed.

use std::{
    collections::HashMap,
    env, fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response, routing::any};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use tokio::{
    process::Command,
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    programs::{Ended, Running, command},
    stripe::{SECRET_KEY, StripeStandIn},
    support::{KEY, Server},
};

/// The operator's.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// How long a payment waits for a gateway that was killed with it.
pub const LEASE: Duration = Duration::from_secs(1);

/// What is sold, and who moves the money for it.
pub struct Shop {
    pub stripe: StripeStandIn,
    address: SocketAddr,
    made: Made,
}

/// Every answer that was ever made, by the number of its payment.
type Made = Arc<Mutex<HashMap<u32, Vec<Bytes>>>>;

impl Shop {
    pub async fn open() -> Self {
        let stripe = StripeStandIn::start().await;
        stripe.set_delay(Duration::from_millis(15));
        let made = Made::default();
        let seen = Arc::clone(&made);
        let router = Router::new().fallback(any(move |request: Request| make(Arc::clone(&seen), request)));
        Self { stripe, address: Server::start(router).await.address, made }
    }

    /// The answers that were made for a payment.
    pub fn made(&self, number: u32) -> Vec<Bytes> {
        self.made.lock().unwrap().get(&number).cloned().unwrap_or_default()
    }

    /// The configuration of every gateway in front of it.
    pub fn configuration(&self) -> String {
        format!(
            "lease_secs = {}\nchallenge_ttl_secs = 3600\nshutdown_secs = 10\n\
             [upstream]\nurl = \"http://{}\"\n\
             [rails.stripe]\nnetwork_id = \"profile_test_1\"\nbase_url = \"{}\"\n\
             [[routes]]\npath = \"/{{*path}}\"\nprice = \"0.50\"\n",
            LEASE.as_secs(),
            self.address,
            self.stripe.base_url(),
        )
    }
}

/// Some answers take a while, some come in pieces, and some fail the first time.
async fn make(made: Made, request: Request) -> Result<Response, StatusCode> {
    let number = request.uri().path().rsplit('/').next().and_then(|number| number.parse().ok());
    let number: u32 = number.ok_or(StatusCode::NOT_FOUND)?;
    let filler = format!("{:016x}", rand::random::<u64>()).repeat(64);
    let (turn, answer) = {
        let mut made = made.lock().unwrap();
        let made = made.entry(number).or_default();
        made.push(Bytes::from(format!("answer {number}, turn {}: {filler}", made.len())));
        (made.len(), made.last().unwrap().clone())
    };
    if number % 11 == 3 && turn == 1 {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    }
    sleep(Duration::from_millis(u64::from(number % 4) * 5)).await;
    if number % 5 != 1 {
        return Ok(Response::new(Body::from(answer)));
    }
    let pieces: Vec<Bytes> = answer.chunks(256).map(Bytes::copy_from_slice).collect();
    let slowly = stream::iter(pieces).then(|piece| async move {
        sleep(Duration::from_millis(5)).await;
        Ok::<_, std::convert::Infallible>(piece)
    });
    Ok(Response::new(Body::from_stream(slowly)))
}

/// A gateway that is killed and comes back, on another port each time.
pub struct Gateway {
    folder: tempfile::TempDir,
    store: String,
    address: watch::Sender<Option<SocketAddr>>,
    running: Option<Running>,
}

impl Gateway {
    /// Starts one in a folder.
    pub async fn start(folder: tempfile::TempDir, shop: &Shop, store: String) -> Self {
        fs::write(folder.path().join("gateway.toml"), shop.configuration()).unwrap();
        let mut gateway = Self { folder, store, address: watch::Sender::new(None), running: None };
        gateway.restart().await;
        gateway
    }

    fn command(&self) -> Command {
        let mut command = command("gateway", self.folder.path());
        command.envs([
            ("GATEWAY_CONFIG", "gateway.toml"),
            ("GATEWAY_LISTEN", "127.0.0.1:0"),
            ("GATEWAY_REALM", "127.0.0.1"),
            ("GATEWAY_STORE", &self.store),
            ("GATEWAY_ADMIN_TOKEN", TOKEN),
            ("MPP_SECRET_KEY", KEY),
            ("STRIPE_SECRET_KEY", SECRET_KEY),
            ("RUST_LOG", &env::var("CRASH_LOG").unwrap_or_else(|_| "warn".to_owned())),
        ]);
        command
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where it is, from now on: nowhere while it is dead.
    pub fn address(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.address.subscribe()
    }

    pub async fn restart(&mut self) {
        let running = Running::start(self.command(), "listening on http://").await;
        self.address.send_replace(Some(running.address));
        self.running = Some(running);
    }

    /// Starts one that does not live until it listens, or not for long.
    pub async fn start_in_vain(&self, after: Duration) {
        let mut command = self.command();
        let mut child =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        if let Ok(ended) = timeout(after, child.wait()).await {
            panic!("it ended by itself: {ended:?}");
        }
        child.kill().await.unwrap();
    }

    pub async fn kill(&mut self) {
        let ended = self.running.take().unwrap().kill().await;
        self.address.send_replace(None);
        check(&ended);
    }

    /// Ends it in order.
    pub async fn stop(&mut self) {
        let ended = self.running.take().unwrap().stop().await;
        self.address.send_replace(None);
        assert!(ended.status.success(), "{ended:?}");
        check(&ended);
    }
}

fn check(ended: &Ended) {
    if env::var_os("CRASH_LOG").is_some() {
        println!("{}{}", ended.stdout, ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}
