//! Bedrock as a script: what it answers to each call, byte for byte and at its own pace, and what was sent to it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_bedrockruntime::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region, http::HttpRequest},
    error::ConnectorError,
};
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::HttpResponse,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::{
    body::SdkBody,
    event_stream::{Header, HeaderValue, Message},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::Value;

/// The region of all tests.
pub(crate) const REGION: &str = "eu-north-1";

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Nobody can be reached.
    Unreachable,
    /// Nobody answers, and the body of the request is not even taken.
    ConnectingForEver,
    /// The request is read, and nothing comes back.
    Silence,
    /// The request is read, and the connection breaks.
    Broken,
    Answer {
        status: u16,
        exception: Option<&'static str>,
        steps: Vec<Step>,
    },
}

/// One piece of a body.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Bytes(Bytes),
    Wait(Duration),
    Break,
    Hang,
}

/// A whole answer.
pub(crate) fn json(body: &Value) -> Reply {
    Reply::Answer { status: 200, exception: None, steps: vec![Step::Bytes(body.to_string().into())] }
}

/// An exception before anything else, as the head says it.
pub(crate) fn exception(status: u16, name: &'static str, message: &str) -> Reply {
    let body = serde_json::json!({ "message": message }).to_string();
    Reply::Answer { status, exception: Some(name), steps: vec![Step::Bytes(body.into())] }
}

/// A stream of events.
pub(crate) fn events(steps: impl IntoIterator<Item = Step>) -> Reply {
    Reply::Answer { status: 200, exception: None, steps: steps.into_iter().collect() }
}

/// An event of ConverseStream.
pub(crate) fn event(kind: &str, payload: &Value) -> Step {
    frame("event", ":event-type", kind, payload.to_string())
}

/// An event of InvokeModelWithResponseStream.
pub(crate) fn chunk(of: &str) -> Step {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    event("chunk", &serde_json::json!({ "bytes": BASE64_STANDARD.encode(of) }))
}

/// An exception within a stream.
pub(crate) fn thrown(kind: &str, message: &str) -> Step {
    frame("exception", ":exception-type", kind, serde_json::json!({ "message": message }).to_string())
}

fn frame(message_type: &str, name: &'static str, kind: &str, payload: String) -> Step {
    let header = |name: &'static str, value: &str| Header::new(name, HeaderValue::String(value.to_owned().into()));
    let message = Message::new(payload)
        .add_header(header(":message-type", message_type))
        .add_header(header(name, kind))
        .add_header(header(":content-type", "application/json"));
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).unwrap();
    Step::Bytes(bytes.into())
}

/// What was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) raw: Bytes,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Aws {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    sent: Arc<Mutex<Vec<Sent>>>,
    /// How many bodies of answers are being held.
    open: Arc<()>,
}

impl Aws {
    pub(crate) fn says(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self { replies: Arc::new(Mutex::new(replies.into_iter().collect())), ..Self::default() }
    }

    pub(crate) fn client(&self) -> Client {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new("AKIDTEST", "secret", None, None, "test"))
            .http_client(self.clone());
        Client::from_conf(config.build())
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// The only request.
    pub(crate) fn request(&self) -> Sent {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent[0].clone()
    }

    /// How many answers somebody still reads.
    pub(crate) fn open(&self) -> usize {
        Arc::strong_count(&self.open)
    }
}

impl HttpClient for Aws {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Connection(self.replies.clone(), self.sent.clone(), self.open.clone()))
    }
}

#[derive(Clone, Debug)]
struct Connection(Arc<Mutex<VecDeque<Reply>>>, Arc<Mutex<Vec<Sent>>>, Arc<()>);

impl HttpConnector for Connection {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let reply = self.0.lock().unwrap().pop_front().expect("no more calls than replies");
        let (sent, held) = (self.1.clone(), self.2.clone());
        HttpConnectorFuture::new(async move {
            let path = request.uri().to_owned();
            match reply {
                Reply::Unreachable => return Err(ConnectorError::io("connection refused".into())),
                Reply::ConnectingForEver => std::future::pending().await,
                _ => {}
            }
            let raw = request.into_body().collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&raw).unwrap();
            sent.lock().unwrap().push(Sent { path, body, raw });
            let Reply::Answer { status, exception, steps } = reply else {
                if matches!(reply, Reply::Silence) {
                    std::future::pending::<()>().await;
                }
                return Err(ConnectorError::io("connection reset".into()));
            };
            let pieces = stream::unfold((steps.into_iter(), held), |(mut steps, held)| async move {
                loop {
                    let frame = match steps.next()? {
                        Step::Wait(time) => {
                            tokio::time::sleep(time).await;
                            continue;
                        }
                        Step::Hang => std::future::pending().await,
                        Step::Bytes(bytes) => Ok(Frame::data(bytes)),
                        Step::Break => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
                    };
                    return Some((frame, (steps, held)));
                }
            });
            let body = SdkBody::from_body_1_x(StreamBody::new(Box::pin(pieces.fuse())));
            let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), body);
            response.headers_mut().insert("x-amzn-requestid", "0f0f0f0f-aws");
            if let Some(name) = exception {
                response.headers_mut().insert("x-amzn-errortype", name);
            }
            Ok(response)
        })
    }
}
