//! Upstreams that fail: what the client reads, what becomes of the money, and that the proxy goes on.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, response::Response as AxumResponse};
use http::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tower_mpp::{
    proxy::{Proxy, Route, Service},
    refund::RefundPolicy,
};

use crate::{shop::*, support::Server};

/// An upstream that reads a request, writes these pieces with a pause after each, and hangs up; or keeps quiet.
async fn raw(pieces: &'static [&'static str], then_quiet: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                if stream.read(&mut [0; 16 * 1024]).await.unwrap_or(0) == 0 {
                    return;
                }
                for piece in pieces {
                    let _ = stream.write_all(piece.as_bytes()).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                if then_quiet {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    address
}

fn proxy(rail: &Acme, at: SocketAddr) -> Proxy {
    let merchant = merchant_of(rail).refunds(RefundPolicy::all()).build().unwrap();
    let service = Service::new("api", format!("http://{at}/base"))
        .bearer("tok")
        .http(|client| client.first_byte_timeout(Duration::from_millis(300)))
        .route("GET /x", paid("0.01"))
        .route("GET /free", Route::free());
    Proxy::builder(merchant).service(service).build().unwrap()
}

#[tokio::test]
async fn what_becomes_of_the_money_depends_on_how_far_the_call_came() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (at, status, outcome, refunds) in [
        (nobody, 502, "refunded", 1),
        (raw(&[], false).await, 502, "redeliverable", 0),
        (raw(&[], true).await, 504, "refunded", 1),
        (raw(&["HTTP/1.1 500 Oops\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno"], false).await, 500, "redeliverable", 0),
        (
            raw(&["HTTP/1.1 402 Pay\r\nconnection: close\r\ncontent-length: 2\r\nwww-authenticate: Payment id=\"x\"\r\n\r\nno"], false)
                .await,
            502,
            "redeliverable",
            0,
        ),
        (raw(&["HTTP/1.1 401 Who\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno"], false).await, 502, "redeliverable", 0),
        (raw(&["nonsense\r\n\r\n"], false).await, 502, "redeliverable", 0),
    ] {
        let rail = Acme::new();
        let proxy = proxy(&rail, at);
        let (answer, _) = buy(&proxy, Method::GET, "/api/x", "").await;
        let got = (answer.status.as_u16(), answer.header("payment-outcome"), rail.charges());
        assert_eq!(got, (status, Some(outcome), 1), "{answer:?}");
        answer.assert_no_challenge();
        assert_eq!(rail.refunds(), refunds);
        // And free routes say the same.
        assert_eq!(get(&proxy, "/api/free").await.status, status);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_end_well() {
    let short = raw(&["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun"], false).await;
    let rail = Acme::new();
    let proxy = proxy(&rail, short);
    let server = Server::start(Router::new().fallback_service(proxy.clone())).await;
    let credential = credential(&ask(&proxy, Method::GET, "/api/x", "").await);
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let credential = credential.to_str().unwrap();
    let asked = format!("GET /api/x HTTP/1.1\r\nhost: x\r\nauthorization: {credential}\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    // Until the connection is closed, because there is no other way left to say it.
    let _ = stream.read_to_end(&mut got).await;
    let text = String::from_utf8(got).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("content-length: 100") && text.ends_with("begun"),
        "{text}"
    );
    assert_eq!(server.get("/api/nope").await.status, 404);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_target_is_where_the_client_sees_it() {
    let elsewhere = Echo::start().await;
    let location = format!("{}/stolen", elsewhere.url());
    let router = Router::new().fallback(move |uri: http::Uri| {
        let location = if uri.path() == "/base/x" { location.clone() } else { "/base/free?a=b".to_owned() };
        async move {
            let mut answer =
                AxumResponse::builder().header("location", location).body(axum::body::Body::empty()).unwrap();
            *answer.status_mut() = StatusCode::FOUND;
            answer
        }
    });
    let rail = Acme::new();
    let proxy = proxy(&rail, Server::start(router).await.address);
    let (answer, _) = buy(&proxy, Method::GET, "/api/x", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("payment-receipt")), (302, None));
    assert_eq!(answer.header("payment-outcome"), Some("redeliverable"));
    assert!(elsewhere.take().is_empty(), "the key stays with its upstream");
    let free = get(&proxy, "/api/free").await;
    assert_eq!((free.status.as_u16(), free.header("location")), (302, Some("/api/free?a=b")));
}
