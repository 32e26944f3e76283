//! An upstream that speaks HTTP/2.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tower::ServiceExt as _;
use tower_mpp::upstream::{Body, BoxError};

use crate::shop::{Shop, quick, service};

/// Answers with the body and the trailers that it gets; breaks off when it is asked for `/break`, and before the
/// answer for `/reset`.
async fn echo(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    assert_eq!(request.version(), http::Version::HTTP_2);
    let path = request.uri().path().to_owned();
    if path.ends_with("/reset") {
        panic!("this call ends here");
    }
    let wants_trailers = request.headers().get("te").is_some_and(|value| value == "trailers");
    let body = request.into_body().collect().await.unwrap();
    let mut trailers = body.trailers().cloned().unwrap_or_default();
    trailers.insert("payment-receipt", "forged".parse().unwrap());
    trailers.insert("x-wanted", wants_trailers.to_string().parse().unwrap());
    let data = body.to_bytes();
    let first = stream::iter([Ok::<_, BoxError>(Frame::data(data))]);
    let last = stream::once(async move {
        // The first frame has left by then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        if path.ends_with("/break") { Err("broken".into()) } else { Ok(Frame::trailers(trailers)) }
    });
    Ok(Response::new(Body::new(StreamBody::new(first.chain(last).boxed()))))
}

async fn provider() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), hyper::service::service_fn(echo));
            tokio::spawn(serve);
        }
    });
    address
}

#[tokio::test]
async fn http2_carries_bodies_and_trailers_both_ways() {
    let address = provider().await;
    let upstream = service(quick(format!("http://{address}")).http2_only());
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "1".parse().unwrap());
    let body = Full::new(Bytes::from("hello")).with_trailers(async { Some(Ok::<_, Infallible>(trailers)) });
    let request = Request::post("/a").body(Body::new(body)).unwrap();
    let answer = upstream.oneshot(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_11));
    let body = answer.into_body().collect().await.unwrap();
    let trailers = body.trailers().unwrap().clone();
    assert_eq!(
        (trailers.len(), &trailers["x-checksum"], &trailers["x-wanted"]),
        (2, &"1".parse().unwrap(), &"true".parse().unwrap())
    );
    assert_eq!(body.to_bytes(), "hello");
}

#[tokio::test]
async fn http2_streams_that_end_early_end_one_call_only() {
    let address = provider().await;
    let shop = Shop::open(service(quick(format!("http://{address}")).http2_only())).await;
    let reset = shop.buy("/paid/reset").await;
    assert_eq!((reset.status.as_u16(), reset.outcome()), (502, Some("redeliverable")));
    let whole = shop.buy("/paid/a").await;
    assert_eq!((whole.status.as_u16(), whole.whole), (200, true));
    let request = Request::post(shop.url("/free/break")).body(Full::new(Bytes::from("half"))).unwrap();
    let body = crate::shop::client().request(request).await.unwrap().into_body();
    let (read, is_whole) = crate::shop::read(body).await;
    assert_eq!((&read[..], is_whole), (&b"half"[..], false), "a stream that was reset is not whole");
    assert_eq!(shop.server.get("/free/a").await.status, 200);
}

#[tokio::test]
async fn a_provider_without_http2_is_broken_and_the_payment_stays_good() {
    let provider = crate::provider::Provider::saying(&["HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"]).await;
    let shop = Shop::open(service(quick(provider.url()).http2_only())).await;
    let paid = shop.buy("/paid/a").await;
    assert_eq!((paid.status.as_u16(), paid.outcome()), (502, Some("redeliverable")), "{paid:?}");
    assert!(!paid.headers.contains_key("payment-receipt"), "{paid:?}");
    // Nothing was delivered, so it is neither spent nor charged again.
    let again = shop.redeemed("/paid/a", &paid.credential).await;
    assert_eq!((again.status.as_u16(), again.header("payment-outcome")), (502, Some("redeliverable")));
    assert_eq!((shop.rail.settlements(), shop.rail.refunds()), (1, 0));
}
