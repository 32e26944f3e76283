//! A client with one connection, which pays where it must.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_mpp::{
    method::SandboxKey,
    protocol::{Challenge, authorization},
};

use super::servers::ANSWER;

/// What a call asks: as long as a question to a model often is.
const QUESTION: usize = 1024;

/// Who is called, and where.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) is_paid: bool,
}

pub(crate) struct Client {
    connection: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    question: Bytes,
    key: SandboxKey,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self {
            connection: sender,
            host: HeaderValue::try_from(address.to_string()).unwrap(),
            question: Bytes::from("q".repeat(QUESTION)),
            key: SandboxKey::generate(),
        }
    }

    async fn send(&mut self, path: &str, credential: Option<HeaderValue>) -> Response<Incoming> {
        let mut request = Request::post(path).body(Full::new(self.question.clone())).unwrap();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(credential) = credential {
            headers.insert(AUTHORIZATION, credential);
        }
        self.connection.ready().await.unwrap();
        self.connection.send_request(request).await.unwrap()
    }

    /// Gets the head of an answer, for which it pays if it must.
    pub(crate) async fn ask(&mut self, path: &str, is_paid: bool) -> Response<Incoming> {
        let mut answer = self.send(path, None).await;
        if is_paid {
            assert_eq!(answer.status(), StatusCode::PAYMENT_REQUIRED);
            let challenge = Challenge::parse(answer.headers()[WWW_AUTHENTICATE].to_str().unwrap()).unwrap();
            answer.body_mut().collect().await.unwrap();
            let payload = self.key.payload(&challenge.id);
            let credential = authorization(&challenge, Some(&self.key.did()), &payload).unwrap();
            answer = self.send(path, Some(credential)).await;
        }
        assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
        answer
    }

    /// Makes a call and reads its answer.
    pub(crate) async fn call(&mut self, target: &Target) {
        let answer = self.ask(target.path, target.is_paid).await;
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), ANSWER);
    }
}
