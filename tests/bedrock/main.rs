//! Models of Amazon Bedrock behind Anthropic's Messages API: what is sent, what comes back, what fails and who pays.
//! The SDK of AWS talks to a script of answers and recorded event streams, and to ministack on a socket.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod any_order;
mod asked;
mod aws;
mod failures;
mod models;
mod money;
mod shape;
mod stack;
mod streams;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/third_parties.rs"]
mod third_parties;
mod whole;

use std::time::Duration;

use aws::Aws;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower_mpp::upstream::{
    Body, Call, Report, Stage, Upstream as _,
    bedrock::{Bedrock, BedrockBuilder, BedrockModel, BedrockPrice},
};

pub(crate) const NOVA: &str = "us.amazon.nova-micro-v1:0";
pub(crate) const CLAUDE: &str = "us.anthropic.claude-sonnet-4-6";

/// Both ways of calling models, with prices.
pub(crate) fn builder(aws: &Aws) -> BedrockBuilder {
    Bedrock::builder(aws.client())
        .model(BedrockModel::new(NOVA).alias("fast").price(BedrockPrice::new(35_000, 140_000)))
        .model(BedrockModel::new(CLAUDE).alias("balanced").price(BedrockPrice::new(3_000_000, 15_000_000)))
        .first_token_timeout(Duration::from_secs(20))
        .idle_timeout(Duration::from_secs(10))
        .total_timeout(Duration::from_secs(100))
}

pub(crate) fn bedrock(aws: &Aws) -> Bedrock {
    builder(aws).build().unwrap()
}

/// A request for a model, and what else it says.
pub(crate) fn hello(model: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

pub(crate) fn post(body: &Value) -> Request<Body> {
    Request::builder()
        .method(Method::POST)
        .uri("/v1/messages")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

/// An answer, read to its end, and the report of its call.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
    pub(crate) report: Report,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The type of an error, and its message, in an envelope that is one.
    pub(crate) fn error(&self) -> (String, String) {
        let json = self.json();
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!(json["type"], "error", "{json}");
        assert_eq!(json["request_id"].as_str(), self.headers["request-id"].to_str().ok());
        let text = |name: &str| json["error"][name].as_str().unwrap().to_owned();
        (text("type"), text("message"))
    }

    pub(crate) fn stage(&self) -> Stage {
        self.report.stage()
    }
}

pub(crate) async fn send(bedrock: &Bedrock, request: Request<Body>) -> Answered {
    let call = Call::new(Report::default());
    let response = bedrock.call(request, &call).await.unwrap();
    read(response, call.report).await
}

pub(crate) async fn read(response: Response<Body>, report: Report) -> Answered {
    let (head, body) = response.into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    Answered {
        status: head.status.as_u16(),
        headers: head.headers,
        text: String::from_utf8(Bytes::into(text)).unwrap(),
        report,
    }
}

pub(crate) async fn ask(aws: &Aws, body: Value) -> Answered {
    send(&bedrock(aws), post(&body)).await
}

/// The events of a stream: `event:` and `data:` of each, whose names must be the same.
pub(crate) fn sse(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with("\n\n"), "{text:?}");
    let events = text.split_terminator("\n\n").map(|event| {
        let lines: Vec<_> = event.lines().collect();
        let [name, data] = lines[..] else { panic!("{event:?}") };
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["type"].as_str(), name.strip_prefix("event: "));
        data
    });
    events.collect()
}

/// Their names.
pub(crate) fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}
