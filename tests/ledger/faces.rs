//! The same ledger behind a router, nested, and behind bare hyper.

use std::convert::Infallible;

use axum::Router;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tower::ServiceExt as _;
use tower_mpp::{ledger::Ledger, protocol::Visibility, receipt::Ed25519Signer, receipt::Receipts};
use tower_service::Service;

use crate::{ledger, rows::*};

async fn one() -> Shelf {
    Shelf::with([row(members(id(1)), Visibility::PublicFull)]).await
}

async fn status(app: Router, path: &str) -> u16 {
    let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
    app.oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn it_stands_behind_a_router() {
    let ledger = ledger(&one().await);
    let app = Router::new().route("/own", axum::routing::get(|| async {})).fallback_service(ledger.clone());
    let receipt = format!("/v1/receipts/{}", id(1));
    assert_eq!(status(app.clone(), &receipt).await, 200);
    assert_eq!(status(app.clone(), "/own").await, 200);
    assert_eq!(status(app, "/other").await, 404);
    let nested = Router::new().nest_service("/money", ledger.clone());
    for path in ["/money", "/money/", "/money/ledger", &format!("/money{receipt}")] {
        assert_eq!(status(nested.clone(), path).await, 200, "{path}");
    }
    let routed = Router::new().route_service("/r/{id}", ledger);
    assert_eq!(status(routed, &format!("/r/{}", id(1))).await, 200);
}

#[tokio::test]
async fn it_stands_behind_hyper() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ledger = ledger(&one().await);
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(ledger);
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await
    });
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let head = Request::head(format!("http://{address}/r/{}", id(1))).body(Full::default()).unwrap();
    let answer = client.request(head).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["content-length"].to_str().unwrap().parse::<usize>().unwrap() > 1000);
    let post = Request::post(format!("http://{address}/v1/receipts/verify"));
    let answer = client.request(post.body(Full::from(sign(&members(id(5))))).unwrap()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("\"verified\":true"));
}

/// What `issue` makes is served like any other receipt.
#[tokio::test]
async fn what_is_issued_is_served() {
    let shelf = Shelf::default();
    let signer = Ed25519Signer::from_seed(KEY_ID, &SEED).unwrap();
    let receipts = Receipts::builder(BASE, signer).store(shelf).visibility(Visibility::PublicFull).build().unwrap();
    let mut body = tower_mpp::receipt::ReceiptBody { visibility: Visibility::PublicFull, ..Default::default() };
    body.model_id = Some("e\u{301}".into());
    let issued = receipts.issue(body).await.unwrap();
    let ledger = Ledger::new(receipts);
    let answer = crate::get(&ledger, &format!("/v1/receipts/{}", issued.id()), &[]).await;
    assert_eq!(answer.text(), issued.public_json().unwrap());
    assert_eq!(answer.header("payment-receipt-digest").unwrap(), issued.digest().to_string());
    assert_eq!(answer.header("payment-receipt-kid"), Some(issued.key_id()));
    assert_eq!(crate::get(&ledger, &format!("/r/{}", issued.id()), &[]).await.status, 200);
}

#[test]
fn it_can_be_sent_and_shared_and_says_nothing_secret() {
    fn assert<S>(_: &S)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
    {
    }
    let ledger = Ledger::new(receipts(Shelf::default()));
    assert(&ledger);
    assert!(!format!("{ledger:?}").contains("seed"));
}
