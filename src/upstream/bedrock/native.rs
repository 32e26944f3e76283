//! Anthropic's own bodies, as `InvokeModel` takes and gives them.

use std::{collections::BTreeMap, fmt::Write as _};

use aws_sdk_bedrockruntime::types::ResponseStream;
use http::{HeaderMap, StatusCode};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::{
    error::{AnthropicError, AnthropicErrorKind, Effect, Failure, invalid},
    live::Translate,
    usage::Tokens,
};

const VERSION: &str = "bedrock-2023-05-31";

/// Writes the body for a model: what its client has sent, byte for byte, without what Bedrock takes elsewhere or has
/// no member for.
pub(super) fn body(sent: &[u8], headers: &HeaderMap, allowed: &[String]) -> Result<Vec<u8>, AnthropicError> {
    let unread = |error| invalid(format!("The body is not a JSON object: {error}"));
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(sent).map_err(unread)?;
    members.remove("model");
    members.remove("stream");
    members.remove("cache_control");
    members.remove("service_tier");
    let in_body = members.remove("anthropic_beta");
    let in_body = in_body.map(|raw| serde_json::from_str::<Option<Vec<String>>>(raw.get()));
    let in_body = in_body.transpose().map_err(|_| invalid("anthropic_beta: must be an array of strings"))?;
    let mut betas: Vec<String> = headers
        .get_all("anthropic-beta")
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|beta| beta.trim().to_owned())
        .chain(in_body.flatten().unwrap_or_default())
        .filter(|beta| allowed.contains(beta))
        .collect();
    betas.sort_unstable();
    betas.dedup();
    let mut set = |name: &str, value: &dyn Fn() -> serde_json::Result<Box<RawValue>>| {
        value().map(|raw| members.insert(name.to_owned(), raw)).map_err(unread)
    };
    set("anthropic_version", &|| to_raw_value(VERSION))?;
    if !betas.is_empty() {
        set("anthropic_beta", &|| to_raw_value(&betas))?;
    }
    serde_json::to_vec(&members).map_err(unread)
}

/// What a whole answer says about its tokens. It is passed on as it is.
pub(super) fn tokens_of(answer: &[u8]) -> Result<Tokens, Failure> {
    let answer: Value = serde_json::from_slice(answer).map_err(|_| Failure::broken("unreadable_answer"))?;
    if answer.get("type").and_then(Value::as_str) != Some("message") {
        return Err(Failure::broken("no_message"));
    }
    let mut tokens = Tokens::default();
    answer.get("usage").inspect(|usage| tokens.read(usage));
    Ok(tokens)
}

/// Passes the events of Anthropic's stream on, one by one, as server-sent events.
#[derive(Debug, Default)]
pub(super) struct NativeSse {
    out: String,
    begun: bool,
    done: bool,
    token_seen: bool,
    tokens: Tokens,
}

impl NativeSse {
    fn pass(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        let unreadable = || Failure::broken("unreadable_event");
        let text = std::str::from_utf8(chunk).map_err(|_| unreadable())?;
        let mut event: Value = serde_json::from_str(text).map_err(|_| unreadable())?;
        let members = event.as_object_mut().ok_or_else(unreadable)?;
        let kind = members.get("type").and_then(Value::as_str).ok_or_else(unreadable)?.to_owned();
        // It becomes a line of its own.
        if !kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return Err(unreadable());
        }
        match kind.as_str() {
            "error" => return Err(of_event(&event)),
            "message_start" if self.begun => return Err(Failure::broken("second_start")),
            "message_start" => {
                self.begun = true;
                event.pointer("/message/usage").inspect(|usage| self.tokens.read(usage));
            }
            "ping" => {}
            _ if !self.begun => return Err(Failure::broken("no_start")),
            "message_delta" => {
                event.get("usage").inspect(|usage| self.tokens.read(usage));
            }
            "message_stop" => {
                // Bedrock adds its own measurements, which are for the merchant.
                self.done = true;
                self.out.push_str("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
                return Ok(());
            }
            _ => self.token_seen = true,
        }
        // JSON may stand on several lines; an event may not.
        let _ = match text.contains(['\n', '\r']) {
            true => write!(self.out, "event: {kind}\ndata: {event}\n\n"),
            false => write!(self.out, "event: {kind}\ndata: {text}\n\n"),
        };
        Ok(())
    }
}

/// An error that Anthropic tells in its stream.
fn of_event(event: &Value) -> Failure {
    let kind = event.pointer("/error/type").and_then(Value::as_str).unwrap_or_default();
    let (class, error) = match kind {
        "overloaded_error" => {
            ("provider_overloaded", AnthropicError::new(AnthropicErrorKind::Overloaded, "The model is overloaded."))
        }
        "timeout_error" => {
            ("provider_timeout", AnthropicError::new(AnthropicErrorKind::Timeout, "The model did not answer in time."))
        }
        _ => (
            "provider_error",
            AnthropicError::new(AnthropicErrorKind::Api, "The model failed while it worked on the request.")
                .with_status(StatusCode::BAD_GATEWAY),
        ),
    };
    let named = !kind.is_empty() && kind.len() <= 64 && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    Failure { code: named.then(|| kind.to_owned()), ..Failure::new(Effect::Unknown, class, error) }
}

impl Translate for NativeSse {
    type Event = ResponseStream;

    fn event(&mut self, event: ResponseStream) -> Result<(), Failure> {
        match event {
            ResponseStream::Chunk(part) if !self.done => part.bytes().map_or(Ok(()), |bytes| self.pass(bytes.as_ref())),
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.done { Ok(()) } else { Err(Failure::cut()) }
    }

    fn fail(&mut self, error: &AnthropicError) {
        if !self.done {
            error.event(&mut self.out);
            self.done = true;
        }
    }

    fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    fn has_token(&self) -> bool {
        self.token_seen || self.done
    }

    fn has_stopped(&self) -> bool {
        self.done
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn tokens(&self) -> Tokens {
        self.tokens
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_kept_but_for_what_bedrock_takes_elsewhere() {
        let sent = br#"{"model":"x","stream":true,"max_tokens":5,"thinking":{"type":"enabled","budget_tokens":1e3},
            "n":123456789012345678901234567890,"anthropic_beta":["a","b"],"anthropic_version":"2023-06-01",
            "service_tier":"auto","cache_control":{"type":"ephemeral"}}"#;
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-beta", "c, dear".parse().unwrap());
        let body = body(sent, &headers, &["b".to_owned(), "c".to_owned()]).unwrap();
        let expected = r#"{"anthropic_beta":["b","c"],"anthropic_version":"bedrock-2023-05-31","max_tokens":5,"n":123456789012345678901234567890,"thinking":{"type":"enabled","budget_tokens":1e3}}"#;
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn an_event_cannot_write_lines_of_its_own() {
        let mut sse = NativeSse::default();
        sse.pass(b"{\"type\":\n\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7}}}").unwrap();
        let out = sse.take();
        assert_eq!(out.lines().count(), 3, "{out}");
        assert!(out.starts_with("event: message_start\ndata: {") && out.ends_with("}\n\n"), "{out}");
        assert_eq!(sse.tokens.input, Some(7));
        assert!(sse.pass(b"{\"type\":\"x\\ndata: y\"}").is_err());
        assert_eq!(sse.take(), "");
    }
}
