//! The upstream, and the reverse proxy that does nothing else.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{
    Request, Response, Uri,
    header::{CONNECTION, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::{TcpListener, TcpStream};

/// What a call answers: as long as the answer of a model often is.
pub(crate) const ANSWER: usize = 4 * 1024;
/// The first event of a stream; the next one comes after the run.
const EVENT: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    listener
}

async fn accept(listener: &TcpListener) -> TokioIo<TcpStream> {
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    TokioIo::new(stream)
}

/// Answers `/call` whole and `/stream` with one event, and then nothing for as long as anybody waits.
pub(crate) async fn upstream() {
    let listener = listen().await;
    let answer = Bytes::from("x".repeat(ANSWER));
    loop {
        let stream = accept(&listener).await;
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let is_stream = request.uri().path().ends_with("/stream");
                    request.into_body().collect().await?;
                    Ok::<_, hyper::Error>(if is_stream { events() } else { whole(answer) })
                }
            });
            auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await.ok();
        });
    }
}

fn whole(answer: Bytes) -> Response<Body> {
    let response = Response::builder().header(CONTENT_TYPE, "text/plain");
    response.body(Full::new(answer).boxed_unsync()).unwrap()
}

fn events() -> Response<Body> {
    let first = stream::iter([Ok(Frame::data(Bytes::from_static(EVENT.as_bytes())))]);
    let body = StreamBody::new(first.chain(stream::pending()));
    Response::builder().header(CONTENT_TYPE, "text/event-stream").body(body.boxed_unsync()).unwrap()
}

/// Passes everything on, with a pool of connections, and looks at nothing.
pub(crate) async fn bare_proxy(upstream: SocketAddr) {
    let listener = listen().await;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> =
        Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(60)).build(connector);
    loop {
        let stream = accept(&listener).await;
        let client = client.clone();
        tokio::spawn(async move {
            let service = service_fn(move |mut request: Request<Incoming>| {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                *request.uri_mut() = Uri::try_from(format!("http://{upstream}{path}")).unwrap();
                request.headers_mut().remove(HOST);
                request.headers_mut().remove(CONNECTION);
                client.request(request)
            });
            auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await.ok();
        });
    }
}
