//! The end of a service: what is waited for, and what is not.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Request, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tower_mpp::{Merchant, Price};

use crate::{
    gateway::common::serve::{Leftover, Limits, serve},
    harness::{Gateway, PATIENCE, agent},
    support::{self, Server, TestRail},
};

/// Anything that is not waited for ends sooner, on a busy machine too. The limit is 30 seconds.
const SOON: Duration = Duration::from_secs(10);
const NOTHING: Leftover = Leftover { requests: 0, payments: 0 };

struct Service {
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    served: JoinHandle<Leftover>,
}

impl Service {
    async fn start(router: Router, merchants: Vec<Merchant>, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, signal) = oneshot::channel();
        let served =
            tokio::spawn(
                async move { serve(listener, router, &merchants, limits, async { signal.await.unwrap() }).await },
            );
        Self { address, shutdown, served }
    }

    async fn connect_and_send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        stream
    }

    /// Shuts down; gives what is left and how long it took.
    async fn end(self) -> (Leftover, Duration) {
        let begun = Instant::now();
        self.shutdown.send(()).unwrap();
        let left = timeout(PATIENCE, self.served).await.expect("it ends").unwrap();
        (left, begun.elapsed())
    }
}

async fn slowly() -> Body {
    let frames = stream::iter(0..10).then(|number| async move {
        sleep(Duration::from_millis(50)).await;
        Ok::<_, Infallible>(Bytes::from(format!("{number}")))
    });
    Body::from_stream(frames)
}

#[tokio::test]
async fn what_is_idle_or_half_sent_is_not_waited_for() {
    let router = Router::new().route("/", get(|| async { "ok" })).route("/upload", post(|_: Bytes| async { "stored" }));
    let service = Service::start(router, Vec::new(), Limits::default()).await;
    let _silent = service.connect_and_send("").await;
    let _preface = service.connect_and_send("PRI * HTTP/2.0\r\n").await;
    let _half_head = service.connect_and_send("GET / HTTP/1.1\r\nhost: x\r\nx-more").await;
    let _half_body =
        service.connect_and_send("POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nten bytes.").await;
    let mut idle = service.connect_and_send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut half_second = service.connect_and_send("GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT").await;
    for stream in [&mut idle, &mut half_second] {
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
    }
    let (left, took) = service.end().await;
    assert_eq!(left, NOTHING);
    assert!(took < SOON, "{took:?}");
}

#[tokio::test]
async fn what_is_in_flight_is_answered_to_its_last_byte() {
    for http2 in [false, true] {
        let service = Service::start(Router::new().route("/", get(slowly)), Vec::new(), Limits::default()).await;
        let client: Client<HttpConnector, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
        let response = client.get(format!("http://{}/", service.address).parse().unwrap()).await.unwrap();
        let address = service.address;
        let (body, (left, _)) = tokio::join!(response.into_body().collect(), service.end());
        assert_eq!(body.unwrap().to_bytes(), "0123456789", "HTTP/2: {http2}");
        assert_eq!(left, NOTHING);
        assert!(TcpStream::connect(address).await.is_err(), "nobody new is accepted");
    }
}

#[tokio::test]
async fn an_answer_that_the_client_takes_slowly_is_not_cut_short() {
    const SIZE: usize = 32 * 1024 * 1024;
    let router = Router::new().route("/", get(|| async { vec![0; SIZE] }));
    let service = Service::start(router, Vec::new(), Limits::default()).await;
    let mut stream = service.connect_and_send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let reading = async {
        sleep(Duration::from_millis(500)).await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer.len()
    };
    let (length, (left, _)) = tokio::join!(reading, service.end());
    assert!(length > SIZE, "{length}");
    assert_eq!(left, NOTHING);
}

#[tokio::test]
async fn a_settlement_whose_client_has_left_is_finished() {
    let rail = TestRail::new("demo").delay(Duration::from_millis(500));
    let lease = Duration::from_secs(1);
    let merchant = support::builder(&rail).lease(lease).build().unwrap();
    let charge = merchant.charge(Price::usd("1.00").unwrap()).unwrap();
    let router = Router::new().route("/", get(|| async { "ok" }).route_layer(charge));
    let asked = Server::start(router.clone()).await.get("/").await;
    let credential = support::pay_with(&support::challenge(&asked.headers), None, &json!({"token": "ok"}));

    let service = Service::start(router.clone(), vec![merchant.clone()], Limits::default()).await;
    let credential_text = credential.to_str().unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: {credential_text}\r\n\r\n");
    drop(service.connect_and_send(&request).await);
    let (left, _) = service.end().await;
    assert_eq!((left, merchant.in_flight(), rail.settlements()), (NOTHING, 0, 1));
    // It was journalled: the same credential gets its answer, and is not charged again. (Nobody has
    // given the lease back; it has to end by itself.)
    sleep(lease).await;
    let later = Server::start(router).await.get_paid("/", &credential).await;
    assert_eq!((later.status.as_u16(), rail.settlements()), (200, 1));
}

#[tokio::test]
async fn the_limit_holds_and_what_is_left_is_reported() {
    let rail = TestRail::new("demo");
    let merchant = support::merchant(&rail);
    let charge = merchant.charge(Price::usd("1.00").unwrap()).unwrap();
    let never = || async { std::future::pending::<()>().await };
    let router = Router::new().route("/", get(never).route_layer(charge));
    let limits = Limits { shutdown: Duration::from_millis(300), ..Limits::default() };
    let asked = Server::start(router.clone()).await.get("/").await;
    let credential: HeaderValue = support::pay_with(&support::challenge(&asked.headers), None, &json!({"token": "ok"}));
    let service = Service::start(router, vec![merchant.clone()], limits).await;
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(format!("http://{}/", service.address)).header(AUTHORIZATION, credential);
    let asking = tokio::spawn(client.request(request.body(Empty::new()).unwrap()));
    while rail.settlements() == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    let (left, took) = service.end().await;
    // What was cut off gave its payment back to the journal, for another try.
    assert_eq!((left, merchant.in_flight()), (Leftover { requests: 1, payments: 0 }, 0));
    assert!(took < SOON, "{took:?}");
    assert!(asking.await.unwrap().is_err());
}

async fn buggy() -> &'static str {
    panic!("a bug in a handler")
}

#[tokio::test]
async fn no_connection_ends_the_service() {
    let router = Router::new().route("/", get(|| async { "ok" })).route("/panic", get(buggy));
    let limits = Limits { request_head: Duration::from_millis(200), ..Limits::default() };
    let service = Service::start(router, Vec::new(), limits).await;
    drop(service.connect_and_send("\0\0\0 garbage\r\n\r\n").await);
    drop(service.connect_and_send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await);
    drop(service.connect_and_send("GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await);
    // Whoever does not send a head in time is shown out.
    for text in ["", "PRI", "GET / HTTP/1.1\r\n"] {
        let mut stream = service.connect_and_send(text).await;
        let closed = timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "{text:?} is still open");
    }
    let mut stream = service.connect_and_send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(service.end().await.0, NOTHING);
}

#[tokio::test]
async fn sigterm_ends_the_program_in_order() {
    let gateway = Gateway::start().await;
    let mut half_head = gateway.connect().await;
    half_head.write_all(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = gateway.url("/v1/messages");
    let body = r#"{"model":"demo-fast","stream":true,"messages":[{"role":"user","content":"a b c d e f g h"}]}"#;
    let signal = async {
        // The answer takes more than a second.
        sleep(Duration::from_millis(700)).await;
        let begun = Instant::now();
        let (ended, _folder) = gateway.stop().await;
        (ended, begun.elapsed())
    };
    let arguments = ["-d", body, &url];
    let (paid, (ended, took)) = tokio::join!(agent(folder.path(), &arguments), signal);
    assert!(paid.status.success(), "{paid:?}");
    assert!(paid.stdout.contains("event: message_stop"), "{paid:?}");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.contains("ended in order"), "{}", ended.stderr);
    assert!(took < SOON, "{took:?}");
}
