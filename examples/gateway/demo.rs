//! A stand-in for an API, so that the gateway can be tried without an account anywhere. It answers in
//! the shape of Anthropic's Messages API and says that no model was asked.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::rejection::JsonRejection,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::{get, post},
};
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tower_mpp::receipt::Attribution;

/// The pause between two words of a streamed answer.
const PAUSE: Duration = Duration::from_millis(60);
const DELTA: &str = "content_block_delta";
const MAX_ECHO: usize = 200;

pub(super) fn router() -> Router {
    Router::new().route("/v1/messages", post(messages)).route("/v1/models", get(models))
}

/// What is looked at of a request; the rest may be anything.
#[derive(Deserialize)]
struct MessagesRequest {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Value,
}

async fn models() -> Json<Value> {
    let model = |id: &str| json!({"type": "model", "id": id, "display_name": id, "created_at": "2025-01-01T00:00:00Z"});
    Json(json!({
        "data": [model("demo-fast"), model("demo-deep")],
        "has_more": false, "first_id": "demo-fast", "last_id": "demo-deep",
    }))
}

async fn messages(
    attribution: Option<Extension<Attribution>>,
    request: Result<Json<MessagesRequest>, JsonRejection>,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return invalid(&rejection.body_text()),
    };
    let Some(last) = request.messages.iter().rev().find(|message| message.role == "user") else {
        return invalid("messages: at least one message of role user is required");
    };
    let reply = Reply::new(&request, &text_of(&last.content));
    if let Some(Extension(attribution)) = attribution {
        attribution.update(|receipt| {
            receipt.model_id = Some(reply.model.clone());
            receipt.tokens_source = Some("demo".to_owned());
            receipt.input_tokens = Some(reply.input_tokens as u64);
            receipt.output_tokens = Some(reply.tokens().len() as u64);
        });
    }
    if request.stream { reply.into_stream().into_response() } else { reply.into_json().into_response() }
}

fn invalid(message: &str) -> Response {
    let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// Content is a text or a list of blocks.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

struct Reply {
    model: String,
    text: String,
    input_tokens: usize,
}

impl Reply {
    fn new(request: &MessagesRequest, said: &str) -> Self {
        let mut echo: String = said.chars().take(MAX_ECHO).collect();
        if echo.len() < said.len() {
            echo.push('…');
        }
        Self {
            model: request.model.clone(),
            text: format!(
                "This is the demo behind the gateway: your payment worked, and no model was asked. You said: {echo}"
            ),
            input_tokens: said.split_whitespace().count(),
        }
    }

    /// A word with the space before it counts as a token.
    fn tokens(&self) -> Vec<String> {
        self.text.split_inclusive(' ').map(str::to_owned).collect()
    }

    fn message(&self, content: &[Value], stop_reason: Option<&str>, output_tokens: usize) -> Value {
        json!({
            "id": format!("msg_demo_{:016x}", rand::random::<u64>()),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": null,
            "usage": {"input_tokens": self.input_tokens, "output_tokens": output_tokens},
        })
    }

    fn into_json(self) -> Json<Value> {
        let content = [json!({"type": "text", "text": self.text})];
        Json(self.message(&content, Some("end_turn"), self.tokens().len()))
    }

    /// The events of a streamed message, in their order.
    fn into_events(self) -> Vec<Value> {
        let tokens = self.tokens();
        let usage = json!({"output_tokens": tokens.len()});
        let mut events = vec![
            json!({"type": "message_start", "message": self.message(&[], None, 1)}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        ];
        events.extend(
            tokens
                .into_iter()
                .map(|text| json!({"type": DELTA, "index": 0, "delta": {"type": "text_delta", "text": text}})),
        );
        events.extend([
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": usage}),
            json!({"type": "message_stop"}),
        ]);
        events
    }

    fn into_stream(self) -> Sse<impl stream::Stream<Item = Result<Event, Infallible>>> {
        let events = stream::iter(self.into_events()).then(|data| async move {
            let name = data.get("type").and_then(Value::as_str).unwrap_or_default();
            if name == DELTA {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(Event::default().event(name).data(data.to_string()))
        });
        Sse::new(events)
    }
}
