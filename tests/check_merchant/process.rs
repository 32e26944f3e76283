//! The program as a process, and clients for it on real sockets.

use std::{ops::Deref, path::Path};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use tower_mpp::protocol::Challenge;

pub use crate::programs::{Ended, soon};
use crate::{
    programs::{self, Running},
    support::{Answer, challenge, pay_with},
};

pub fn ok() -> Value {
    json!({"token": "tok_demo_ok"})
}

fn command(environment: &[(&str, &str)]) -> tokio::process::Command {
    let mut command = programs::command("check_merchant", Path::new("."));
    command.env("PORT", "0").envs(environment.iter().copied());
    command
}

/// Runs the program to its end.
pub async fn run(environment: &[(&str, &str)]) -> Ended {
    programs::run(command(environment)).await
}

/// The program while it serves.
pub struct Program {
    process: Running,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Deref for Program {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.process
    }
}

impl Program {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(environment: &[(&str, &str)]) -> Self {
        let process = Running::start(command(environment), "ready http://").await;
        Self { process, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub async fn send(&self, method: Method, path: &str, credential: Option<&HeaderValue>, body: &str) -> Answer {
        let headers = credential.map(|credential| (AUTHORIZATION.as_str(), credential.clone()));
        self.with_headers(method, path, headers.as_slice(), body).await
    }

    pub async fn with_headers(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, HeaderValue)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let (head, body) = soon(self.client.request(request)).await.unwrap().into_parts();
        let body = soon(body.collect()).await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, "").await
    }

    pub async fn pay(&self, path: &str, credential: &HeaderValue) -> Answer {
        self.send(Method::GET, path, Some(credential), "").await
    }

    /// A paid request with an `Idempotency-Key`.
    pub async fn repeat(&self, path: &str, credential: &HeaderValue, key: &'static str) -> Answer {
        let headers = [("authorization", credential.clone()), ("idempotency-key", HeaderValue::from_static(key))];
        self.with_headers(Method::GET, path, &headers, "").await
    }

    pub async fn challenge(&self, path: &str) -> Challenge {
        challenge(&self.get(path).await.headers)
    }

    /// A credential for a fresh challenge of a path.
    pub async fn credential(&self, path: &str, payload: &Value) -> HeaderValue {
        pay_with(&self.challenge(path).await, Some("did:example:alice"), payload)
    }

    pub async fn buy(&self, path: &str, payload: &Value) -> Answer {
        self.pay(path, &self.credential(path, payload).await).await
    }

    async fn number(&self, path: &str) -> u64 {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json().as_u64().unwrap()
    }

    pub async fn settlements(&self) -> u64 {
        self.number("/settlements").await
    }

    pub async fn runs(&self, route: &str) -> u64 {
        self.number(&format!("/runs?route={}", route.replace('{', "%7B").replace('}', "%7D"))).await
    }

    /// A connection on which these bytes were sent.
    pub async fn wire(&self, text: &str) -> Wire {
        let mut wire = Wire(BufReader::new(self.connect().await));
        wire.send(text).await;
        wire
    }

    /// Waits for the end.
    pub async fn ended(self) -> Ended {
        self.process.ended().await
    }

    /// Ends it in order.
    pub async fn stop(self) -> Ended {
        self.process.stop().await
    }

    /// Ends it without a chance to do anything.
    pub async fn kill(self) -> Ended {
        self.process.kill().await
    }
}

/// A connection whose bytes the test chooses.
pub struct Wire(BufReader<TcpStream>);

impl Wire {
    pub async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.0.read_line(&mut line)).await.unwrap();
        line
    }

    /// The head of an answer.
    pub async fn head(&mut self) -> (StatusCode, HeaderMap) {
        let status = self.line().await;
        let status = status.split(' ').nth(1).unwrap_or_else(|| panic!("{status:?}")).parse().unwrap();
        let mut headers = HeaderMap::new();
        while let Some((name, value)) = self.line().await.trim_end().split_once(": ") {
            headers.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        (status, headers)
    }

    /// An answer whose length is declared.
    pub async fn answer(&mut self) -> Answer {
        let (status, headers) = self.head().await;
        let length = headers["content-length"].to_str().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        soon(self.0.read_exact(&mut body)).await.unwrap();
        Answer { status, headers, body: body.into() }
    }

    /// Whether the other side closes the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        matches!(soon(self.0.read(&mut [0])).await, Ok(0) | Err(_))
    }
}
