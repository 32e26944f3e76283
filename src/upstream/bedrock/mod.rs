//! Models of Amazon Bedrock, in the shape of Anthropic's Messages API.
//!
//! [`Bedrock`] takes `POST .../messages` with the body of a Messages request and answers as that API does, whole or as
//! server-sent events. Models of Anthropic are called with Anthropic's own bodies, which pass through as they are;
//! all others over Converse.
//!
//! ```
//! # fn example(client: aws_sdk_bedrockruntime::Client) -> Result<(), tower_mpp::upstream::bedrock::BedrockConfigError> {
//! use tower_mpp::upstream::{UpstreamService, bedrock::{Bedrock, BedrockModel}};
//!
//! let bedrock = Bedrock::builder(client)
//!     .model(BedrockModel::new("us.amazon.nova-micro-v1:0").alias("fast").max_tokens(4096))
//!     .model(BedrockModel::new("us.anthropic.claude-sonnet-4-6").alias("balanced").max_tokens(4096))
//!     .build()?;
//! let service = UpstreamService::new(bedrock);
//! # Ok(())
//! # }
//! ```
//!
//! # What is not sent
//!
//! A body for a model of Anthropic has to have the [shape](MessagesShape) of that API, and what is not known there is
//! refused with `400 invalid_request_error`. A `cache_control` of the whole request and `service_tier` are left out:
//! Bedrock has no such members.
//!
//! # What Converse cannot say
//!
//! It is refused with `400 invalid_request_error`, and nothing is sent: images and documents by URL, tools of
//! Anthropic's own, citations, `thinking` and `top_k` where the family has none, `tool_choice` `none` once tools were
//! used, members that nobody knows. Hints (`cache_control` where there is no cache, `metadata`, `service_tier`) are left
//! out. A stop sequence is named in the answer when the request had only one.
//!
//! The `model` of an answer is what the provider says where it says it (Anthropic's), otherwise the
//! [name](BedrockModel::name) of the model that was called.
//!
//! # Errors and money
//!
//! | Bedrock | answer | [`ProviderCall`](crate::refund::ProviderCall) |
//! |---|---|---|
//! | nothing was sent: the request is wrong | 400 `invalid_request_error`, 404, 405, 413 | not started |
//! | no connection, no credentials | 502 or 504 `api_error` | not started |
//! | `ValidationException` | 400 `invalid_request_error` with Bedrock's words, when they are about the request | not started |
//! | `AccessDeniedException`, `ResourceNotFoundException`, other 4xx | 502 `api_error` without Bedrock's words | not started |
//! | `ThrottlingException`, `ServiceQuotaExceededException` | 529 `overloaded_error`, `Retry-After` | not started |
//! | `ModelNotReadyException`, `ServiceUnavailableException` | 503 `overloaded_error`, `Retry-After` | not started |
//! | `ModelTimeoutException`, no first token in time | 504 `timeout_error` | timed out |
//! | `ModelErrorException`, `InternalServerException`, a broken connection or answer | 502 `api_error` | started |
//! | anything after the first token of a stream | `event: error`, and the stream ends | first byte |
//!
//! A call has started when its connection asks for the body of the request; what Bedrock refuses before a model has run
//! is taken back ([`Report::refused`](super::Report::refused)). The head of a stream waits for its first token, so that
//! a failure before it has a status. Behind `event: error` the body ends in order, as Anthropic's does: what was
//! delivered was delivered, and the report says that the call has not finished.
//!
//! Dropping the answer ends the call. Events in the log have Bedrock's request id and the name of its exception, and
//! never its words.

mod answer;
mod builder;
mod document;
mod error;
mod fault;
mod live;
mod messages;
mod model;
mod native;
mod request;
mod sending;
mod shape;
mod stream;
mod tools;
mod usage;

use std::{fmt, future::Future, time::Duration};

use async_trait::async_trait;
use aws_sdk_bedrockruntime::{Client, config::http::HttpResponse, error::SdkError, primitives::Blob};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::{Instant, sleep, timeout_at};

use self::{
    answer::Asked,
    builder::{Catalog, Limits},
    error::{Effect, Failure, REQUEST_ID, invalid, request_id},
    fault::{Exception, of_call},
    live::{Live, Receive, Translate, Waits},
    messages::Envelope,
    model::Wire,
    native::NativeSse,
    request::ConverseRequest,
    sending::Sending,
    stream::ConverseSse,
    usage::Tokens,
};
pub use self::{
    builder::{BedrockBuilder, BedrockConfigError, http_client},
    error::{AnthropicError, AnthropicErrorKind},
    model::BedrockModel,
    shape::MessagesShape,
    usage::BedrockPrice,
};
use super::{Body, Call, Report, Stage, Upstream, UpstreamError, service::NotOfProvider};
use crate::receipt::Provider;

/// Models of Amazon Bedrock as an upstream. See the [module](self) for what becomes of a request.
///
/// It answers failures itself, in Anthropic's shape: it never returns an [`UpstreamError`].
pub struct Bedrock {
    client: Client,
    catalog: Catalog,
    region: Option<String>,
    betas: Vec<String>,
    shape: MessagesShape,
    limits: Limits,
}

impl Bedrock {
    /// An upstream over a client of the SDK, which brings credentials, region and endpoint. Without an HTTP client of
    /// its own it gets [`http_client`].
    pub fn builder(client: Client) -> BedrockBuilder {
        BedrockBuilder::new(client)
    }

    async fn answer(&self, request: Request<Body>, call: &Call) -> Result<Response<Body>, Failure> {
        let until = self.until(call);
        let (head, body) = request.into_parts();
        if !head.uri.path().ends_with("/messages") {
            return Err(AnthropicError::new(AnthropicErrorKind::NotFound, "There is only /messages here.").into());
        }
        if head.method != Method::POST {
            let error = invalid("Send a Messages request with POST.").with_status(StatusCode::METHOD_NOT_ALLOWED);
            return Err(error.into());
        }
        let body = self.read(body, until).await?;
        let (envelope, model) = self.understand(&body)?;
        call.report.update(|receipt| {
            receipt.provider = Some(Provider::AwsBedrock);
            receipt.model_id = Some(model.name.clone());
            receipt.region.clone_from(&self.region);
        });
        let asked = Asked {
            model: model.name.clone(),
            stop_sequences: request::stop_sequences(&envelope.request())?.unwrap_or_default(),
        };
        let job = Job { bedrock: self, report: &call.report, model: &model, until };
        match (model.wire, envelope.stream) {
            (Wire::Converse, false) => job.converse(request::converse(&envelope, model.family)?, &asked).await,
            (Wire::Converse, true) => job.converse_stream(request::converse(&envelope, model.family)?, asked).await,
            (Wire::Native, false) => job.invoke(self.native(&body, &head.headers)?).await,
            (Wire::Native, true) => job.invoke_stream(self.native(&body, &head.headers)?).await,
        }
    }

    /// What a model is called in receipts, by any of the names that clients may ask for it by. `None` when calls of it
    /// are refused here.
    pub fn name_of(&self, model: &str) -> Option<String> {
        self.catalog.find(Some(model)).ok().map(|model| model.name)
    }

    /// Whether a body would be sent to Bedrock, and not be refused here: for whoever does not want to be paid for that.
    /// Nobody is asked, and Bedrock may refuse it all the same.
    ///
    /// ```
    /// # fn example(bedrock: tower_mpp::upstream::bedrock::Bedrock) {
    /// let by_url = br#"{"model": "us.amazon.nova-micro-v1:0", "max_tokens": 9, "messages": [{"role": "user", "content":
    ///     [{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]}]}"#;
    /// assert_eq!(bedrock.check(by_url).unwrap_err().status(), 400);
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the client would be answered.
    pub fn check(&self, body: &[u8]) -> Result<(), AnthropicError> {
        if body.len() > self.limits.request {
            return Err(self.too_large());
        }
        let (envelope, model) = self.understand(body)?;
        request::stop_sequences(&envelope.request())?;
        match model.wire {
            Wire::Converse => request::converse(&envelope, model.family).map(drop),
            Wire::Native => self.native(body, &HeaderMap::new()).map(drop),
        }
    }

    /// What a body asks for, and of which model.
    fn understand(&self, body: &[u8]) -> Result<(Envelope, BedrockModel), AnthropicError> {
        let envelope = Envelope::read(body)?;
        let model = self.catalog.find(envelope.model.as_deref())?;
        match model.max_tokens.or(self.limits.max_tokens) {
            Some(limit) if envelope.max_tokens > u64::from(limit) => {
                Err(invalid(format!("max_tokens: must be at most {limit} here")))
            }
            _ => Ok((envelope, model)),
        }
    }

    fn too_large(&self) -> AnthropicError {
        let message = format!("The request is larger than {} bytes.", self.limits.request);
        AnthropicError::new(AnthropicErrorKind::RequestTooLarge, message)
    }

    /// A little before the deadline of the call, at which the service in front cuts the body off without a word.
    fn until(&self, call: &Call) -> Instant {
        const TO_SAY_SO: Duration = Duration::from_millis(250);
        let own = after(self.limits.total);
        call.deadline.map_or(own, |deadline| deadline.checked_sub(TO_SAY_SO).unwrap_or(deadline).min(own))
    }

    async fn read(&self, body: Body, until: Instant) -> Result<bytes::Bytes, Failure> {
        let body = Limited::new(body, self.limits.request);
        match timeout_at(until, body.collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(self.too_large().into()),
            Ok(Err(_)) => Err(invalid("The body of the request broke off.").into()),
            Err(_) => {
                let error = invalid("The body of the request did not come in time.");
                Err(error.with_status(StatusCode::REQUEST_TIMEOUT).into())
            }
        }
    }

    fn native(&self, body: &[u8], headers: &HeaderMap) -> Result<Blob, AnthropicError> {
        self.shape.check(body)?;
        native::body(body, headers, &self.betas).map(Blob::new)
    }
}

#[async_trait]
impl Upstream for Bedrock {
    fn name(&self) -> &str {
        "bedrock"
    }

    async fn call(&self, request: Request<Body>, call: &Call) -> Result<Response<Body>, UpstreamError> {
        let response = self.answer(request, call).await.unwrap_or_else(|failure| {
            failure.tell(&call.report);
            let wrong_method = failure.error.status() == StatusCode::METHOD_NOT_ALLOWED;
            let mut response = failure.error.into_response();
            if wrong_method {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            }
            response.extensions_mut().insert(call.report.provider_call());
            response.extensions_mut().insert(NotOfProvider);
            response
        });
        Ok(response)
    }
}

impl fmt::Debug for Bedrock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bedrock")
            .field("catalog", &self.catalog)
            .field("region", &self.region)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// One request for one model.
struct Job<'a> {
    bedrock: &'a Bedrock,
    report: &'a Report,
    model: &'a BedrockModel,
    until: Instant,
}

/// Converse and ConverseStream take the same.
macro_rules! converse_call {
    ($call:expr, $job:expr, $input:expr) => {
        $call
            .model_id(&$job.model.id)
            .set_messages(Some($input.messages))
            .set_system($input.system)
            .inference_config($input.inference)
            .set_tool_config($input.tools)
            .set_additional_model_request_fields($input.additional)
    };
}

impl Job<'_> {
    async fn converse(&self, input: ConverseRequest, asked: &Asked) -> Result<Response<Body>, Failure> {
        let call = converse_call!(self.bedrock.client.converse(), self, input);
        let output = self.ask(self.until, || call.clone().customize().interceptor(self.sending()).send()).await?;
        let (message, tokens) = answer::message(&output, asked)?;
        Ok(self.whole(message.to_string().into(), tokens))
    }

    async fn invoke(&self, body: Blob) -> Result<Response<Body>, Failure> {
        let call = self.bedrock.client.invoke_model().model_id(&self.model.id);
        let call = call.content_type(JSON).accept(JSON).body(body);
        let output = self.ask(self.until, || call.clone().customize().interceptor(self.sending()).send()).await?;
        let tokens = native::tokens_of(output.body.as_ref())?;
        Ok(self.whole(output.body.into_inner().into(), tokens))
    }

    async fn converse_stream(&self, input: ConverseRequest, asked: Asked) -> Result<Response<Body>, Failure> {
        let first = self.first();
        let call = converse_call!(self.bedrock.client.converse_stream(), self, input);
        let output = self.ask(first, || call.clone().customize().interceptor(self.sending()).send()).await?;
        self.stream(output.stream, ConverseSse::new(asked), first).await
    }

    async fn invoke_stream(&self, body: Blob) -> Result<Response<Body>, Failure> {
        let first = self.first();
        let call = self.bedrock.client.invoke_model_with_response_stream().model_id(&self.model.id);
        let call = call.content_type(JSON).accept(JSON).body(body);
        let output = self.ask(first, || call.clone().customize().interceptor(self.sending()).send()).await?;
        self.stream(output.body, NativeSse::default(), first).await
    }

    fn first(&self) -> Instant {
        after(self.bedrock.limits.first_token).min(self.until)
    }

    fn sending(&self) -> Sending {
        Sending { report: self.report.clone(), max_answer: self.bedrock.limits.answer }
    }

    /// Sends a request. Only what Bedrock has refused because of its rate is sent again, if that is wanted.
    async fn ask<T, E, F>(&self, until: Instant, send: impl Fn() -> F) -> Result<T, Failure>
    where
        E: Exception,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut left = self.bedrock.limits.retries;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match timeout_at(until, send()).await {
                Ok(Ok(output)) => return Ok(output),
                Ok(Err(error)) => error,
                Err(_) if self.report.stage() == Stage::NotStarted => {
                    return Err(Failure::late(Effect::None, "The provider of the model cannot be reached in time."));
                }
                Err(_) => return Err(Failure::late(Effect::TimedOut, "The model did not begin to answer in time.")),
            };
            let failure = of_call(&error, self.report);
            if !failure.throttled || left == 0 || after(pause) >= until {
                return Err(failure);
            }
            self.report.refused();
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            left -= 1;
            pause = pause.saturating_mul(2);
        }
    }

    fn whole(&self, answer: Body, tokens: Tokens) -> Response<Body> {
        tokens.tell(self.report, self.model.price.as_ref());
        self.report.first_byte();
        self.report.finished();
        ok(JSON, answer)
    }

    async fn stream<R, T>(&self, events: R, sse: T, first: Instant) -> Result<Response<Body>, Failure>
    where
        R: Receive<Event = T::Event>,
        T: Translate,
    {
        let waits = Waits { first, idle: self.bedrock.limits.idle, until: self.until };
        let live = Live::new(events, sse, waits, self.report.clone(), self.model.price);
        Ok(ok("text/event-stream; charset=utf-8", live.body().await?))
    }
}

const JSON: &str = "application/json";
/// Before a call is sent again; doubled each time, and somewhat less.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

fn after(limit: Duration) -> Instant {
    // A limit beyond all clocks is none, and a day is none for a model.
    let now = Instant::now();
    now.checked_add(limit).unwrap_or(now + Duration::from_secs(86_400))
}

fn ok(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = request_id().try_into() {
        headers.insert(REQUEST_ID, id);
    }
    response
}
