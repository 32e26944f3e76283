//! A server and a client on real sockets.

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower_mpp::protocol::{PAYMENT_RECEIPT, Receipt};

/// A server that runs until the test ends, and a client for it.
#[derive(Clone)]
pub struct Server {
    pub address: std::net::SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Server {
    pub async fn start(app: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self::at(address)
    }

    /// A client for a server that is there already.
    pub fn at(address: std::net::SocketAddr) -> Self {
        Self { address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.request(request.body(Full::from(body.to_owned())).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub async fn pay(&self, method: Method, path: &str, credential: &HeaderValue, body: &str) -> Answer {
        self.send(method, path, &[(AUTHORIZATION.as_str(), credential.to_str().unwrap())], body).await
    }

    pub async fn get_paid(&self, path: &str, credential: &HeaderValue) -> Answer {
        self.pay(Method::GET, path, credential, "").await
    }

    pub async fn request(&self, request: Request<Full<Bytes>>) -> Answer {
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn receipt(&self) -> Receipt {
        Receipt::parse(self.headers[PAYMENT_RECEIPT].to_str().unwrap()).unwrap()
    }

    /// The last part of the problem's type.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16());
        json["type"].as_str().unwrap().rsplit(['/', '.']).next().unwrap().to_owned()
    }

    /// Asserts what every answer without a challenge has in common.
    #[track_caller]
    pub fn assert_no_challenge(&self) {
        assert!(!self.headers.contains_key("www-authenticate"), "{self:?}");
        assert!(!self.headers.contains_key("payment-receipt"), "{self:?}");
    }

    /// Asserts what every 402 has in common.
    #[track_caller]
    pub fn assert_challenged(&self, problem: &str) {
        assert_eq!(self.status, 402, "{self:?}");
        assert!(!super::challenges(&self.headers).is_empty(), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert!(!self.headers.contains_key("payment-receipt"));
        assert_eq!(self.problem(), problem);
    }
}
