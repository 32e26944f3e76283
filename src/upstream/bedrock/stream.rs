//! From ConverseStream to the Messages API: events in, server-sent events out. No I/O, no clock.

use std::fmt::Write as _;

use aws_sdk_bedrockruntime::types::{
    ContentBlockDelta, ContentBlockStart, ConverseStreamOutput, ReasoningContentBlockDelta,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    answer::{Asked, message_id, stop_reason},
    error::{AnthropicError, Failure},
    live::Translate,
    usage::Tokens,
};

/// Writes an answer of ConverseStream as a stream of the Messages API.
///
/// What it writes is well-formed in whatever order events come: one `message_start`; blocks one after the other,
/// each begun and ended, with indexes that count up; one `message_delta` and `message_stop`, or one `error`. A block
/// that an error interrupts is not ended: half of a tool's input must not look like the whole.
#[derive(Debug)]
pub(super) struct ConverseSse {
    asked: Asked,
    out: String,
    at: At,
    /// The block that is open: its number in Converse, and its kind.
    open: Option<(i32, Kind)>,
    /// The highest number of Converse that has been a block.
    highest: Option<i32>,
    index: usize,
    stopped: Option<&'static str>,
    tokens: Tokens,
    token_seen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum At {
    Nothing,
    Message,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Tool,
    Thinking,
    Redacted,
}

impl ConverseSse {
    pub(super) fn new(asked: Asked) -> Self {
        Self {
            asked,
            out: String::new(),
            at: At::Nothing,
            open: None,
            highest: None,
            index: 0,
            stopped: None,
            tokens: Tokens::default(),
            token_seen: false,
        }
    }

    fn send(&mut self, name: &str, data: &Value) {
        let _ = write!(self.out, "event: {name}\ndata: {data}\n\n");
    }

    /// A stream that begins with something else has begun all the same.
    fn begin(&mut self) {
        if self.at == At::Nothing {
            self.at = At::Message;
            let message = json!({
                "id": message_id(),
                "type": "message",
                "role": "assistant",
                "model": self.asked.model,
                "content": [],
                "stop_reason": null,
                "stop_sequence": null,
                // Converse counts at the end only: `message_delta` has all of it.
                "usage": self.tokens.json(),
            });
            self.send("message_start", &json!({ "type": "message_start", "message": message }));
        }
    }

    fn open(&mut self, number: i32, kind: Kind, block: &Value) -> Result<(), Failure> {
        self.close();
        // A number that comes back after its end is a second block for text, and nothing for anything else.
        if kind != Kind::Text && self.highest.is_some_and(|highest| number < highest) {
            return Err(Failure::broken("block_out_of_order"));
        }
        self.highest = self.highest.max(Some(number));
        self.open = Some((number, kind));
        let start = json!({ "type": "content_block_start", "index": self.index, "content_block": block });
        self.send("content_block_start", &start);
        Ok(())
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.send("content_block_stop", &json!({ "type": "content_block_stop", "index": self.index }));
            self.index += 1;
        }
    }

    fn delta(&mut self, delta: &Value) {
        let event = json!({ "type": "content_block_delta", "index": self.index, "delta": delta });
        self.send("content_block_delta", &event);
    }

    /// Text and thoughts begin without a start.
    fn ensure(&mut self, number: i32, kind: Kind, block: &Value) -> Result<(), Failure> {
        match self.open {
            Some((open, as_kind)) if open == number && as_kind == kind => Ok(()),
            Some((open, Kind::Tool)) if open == number => Err(Failure::broken("block_of_two_kinds")),
            _ => self.open(number, kind, block),
        }
    }

    fn content(&mut self, number: i32, delta: &ContentBlockDelta) -> Result<(), Failure> {
        match delta {
            // Some models begin with it before they call a tool. As a block of its own it could not be sent back: the
            // Messages API refuses an empty text.
            ContentBlockDelta::Text(text) if text.is_empty() => {}
            ContentBlockDelta::Text(text) => {
                self.ensure(number, Kind::Text, &json!({ "type": "text", "text": "" }))?;
                self.delta(&json!({ "type": "text_delta", "text": text }));
            }
            ContentBlockDelta::ToolUse(tool) => match self.open {
                Some((open, Kind::Tool)) if open == number => {
                    self.delta(&json!({ "type": "input_json_delta", "partial_json": tool.input() }));
                }
                _ => return Err(Failure::broken("tool_without_name")),
            },
            ContentBlockDelta::ReasoningContent(thought) => self.thought(number, thought)?,
            // The words that a citation is about come as text.
            ContentBlockDelta::Citation(_) => {}
            // It was paid for, and it would be missing.
            _ => return Err(Failure::broken("unknown_content")),
        }
        Ok(())
    }

    fn thought(&mut self, number: i32, thought: &ReasoningContentBlockDelta) -> Result<(), Failure> {
        let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
        match thought {
            ReasoningContentBlockDelta::Text(text) => {
                self.ensure(number, Kind::Thinking, &block)?;
                self.delta(&json!({ "type": "thinking_delta", "thinking": text }));
            }
            ReasoningContentBlockDelta::Signature(signature) => {
                self.ensure(number, Kind::Thinking, &block)?;
                self.delta(&json!({ "type": "signature_delta", "signature": signature }));
            }
            ReasoningContentBlockDelta::RedactedContent(data) => {
                let data = BASE64_STANDARD.encode(data.as_ref());
                self.open(number, Kind::Redacted, &json!({ "type": "redacted_thinking", "data": data }))?;
            }
            _ => return Err(Failure::broken("unknown_content")),
        }
        Ok(())
    }

    fn finish(&mut self) {
        let Some(reason) = self.stopped.filter(|_| self.at == At::Message) else { return };
        let delta = json!({ "type": "message_delta", "delta": self.asked.stop(reason), "usage": self.tokens.json() });
        self.send("message_delta", &delta);
        self.send("message_stop", &json!({ "type": "message_stop" }));
        self.at = At::Done;
    }

    fn in_order(&mut self, event: ConverseStreamOutput) -> Result<(), Failure> {
        match &event {
            ConverseStreamOutput::Metadata(metadata) => {
                if let Some(usage) = metadata.usage() {
                    self.tokens = Tokens::of_converse(usage);
                }
                // Without a stop before it, the stop is still to come.
                self.finish();
                return Ok(());
            }
            // What is not known yet is no content: that has a place of its own.
            event if event.is_unknown() => return Ok(()),
            _ if self.stopped.is_some() => return Err(Failure::broken("event_after_stop")),
            _ => self.begin(),
        }
        match event {
            ConverseStreamOutput::ContentBlockStart(start) => {
                self.token_seen = true;
                match start.start() {
                    Some(ContentBlockStart::ToolUse(tool)) => {
                        let block = json!({
                            "type": "tool_use", "id": tool.tool_use_id(), "name": tool.name(), "input": {},
                        });
                        if self.highest.is_some_and(|highest| start.content_block_index() <= highest) {
                            return Err(Failure::broken("block_out_of_order"));
                        }
                        self.open(start.content_block_index(), Kind::Tool, &block)?;
                    }
                    Some(ContentBlockStart::Image(_) | ContentBlockStart::ToolResult(_)) => {
                        return Err(Failure::broken("unknown_content"));
                    }
                    // The first piece of the block says what it is.
                    _ => {}
                }
            }
            ConverseStreamOutput::ContentBlockDelta(delta) => {
                self.token_seen = true;
                if let Some(piece) = delta.delta() {
                    self.content(delta.content_block_index(), piece)?;
                }
            }
            // Another end is that of a block that was empty, or that the next one has ended already.
            ConverseStreamOutput::ContentBlockStop(stop)
                if self.open.is_some_and(|(open, _)| open == stop.content_block_index()) =>
            {
                self.close();
            }
            ConverseStreamOutput::MessageStop(stop) => {
                let reason = stop_reason(stop.stop_reason())?;
                self.token_seen = true;
                self.close();
                self.stopped = Some(reason);
                // The counts come in an event of their own, and usually after this one.
                if self.tokens != Tokens::default() {
                    self.finish();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Translate for ConverseSse {
    type Event = ConverseStreamOutput;

    fn event(&mut self, event: ConverseStreamOutput) -> Result<(), Failure> {
        if self.at == At::Done { Ok(()) } else { self.in_order(event) }
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.finish();
        if self.at == At::Done { Ok(()) } else { Err(Failure::cut()) }
    }

    fn fail(&mut self, error: &AnthropicError) {
        if self.at != At::Done {
            error.event(&mut self.out);
            self.at = At::Done;
        }
    }

    fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    fn has_token(&self) -> bool {
        self.token_seen
    }

    fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    fn is_done(&self) -> bool {
        self.at == At::Done
    }

    fn tokens(&self) -> Tokens {
        self.tokens
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use aws_sdk_bedrockruntime::types::{
        ContentBlockDeltaEvent, ContentBlockStartEvent, ContentBlockStopEvent, MessageStopEvent, StopReason,
        ToolUseBlockStart,
    };

    use super::*;

    fn text(number: i32, text: &str) -> ConverseStreamOutput {
        let delta = ContentBlockDelta::Text(text.to_owned());
        let delta = ContentBlockDeltaEvent::builder().content_block_index(number).delta(delta).build();
        ConverseStreamOutput::ContentBlockDelta(delta.unwrap())
    }

    fn ended(number: i32) -> ConverseStreamOutput {
        ConverseStreamOutput::ContentBlockStop(
            ContentBlockStopEvent::builder().content_block_index(number).build().unwrap(),
        )
    }

    fn tool(number: i32) -> ConverseStreamOutput {
        let tool = ToolUseBlockStart::builder().tool_use_id("t1").name("f").build().unwrap();
        let start = ContentBlockStartEvent::builder().content_block_index(number);
        let start = start.start(ContentBlockStart::ToolUse(tool)).build().unwrap();
        ConverseStreamOutput::ContentBlockStart(start)
    }

    /// The blocks that begin, and how often one ends.
    fn blocks(events: impl IntoIterator<Item = ConverseStreamOutput>) -> (Vec<(u64, String)>, usize) {
        let mut sse = ConverseSse::new(Asked { model: "m".to_owned(), stop_sequences: Vec::new() });
        let stopped = MessageStopEvent::builder().stop_reason(StopReason::EndTurn).build().unwrap();
        for event in events.into_iter().chain([ConverseStreamOutput::MessageStop(stopped)]) {
            sse.event(event).unwrap();
        }
        sse.end().unwrap();
        let out = sse.take();
        let data = out.lines().filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
        let of = |name: &'static str| events.iter().filter(move |event| event["type"] == name);
        let begun = of("content_block_start").map(|event| {
            let kind = event["content_block"]["type"].as_str().unwrap().to_owned();
            (event["index"].as_u64().unwrap(), kind)
        });
        (begun.collect(), of("content_block_stop").count())
    }

    #[test]
    fn an_empty_text_begins_no_block_because_it_could_not_be_sent_back() {
        let one = |index, kind: &str| (index, kind.to_owned());
        assert_eq!(blocks([text(0, ""), ended(0), tool(1), ended(1)]), (vec![one(0, "tool_use")], 1));
        assert_eq!(blocks([text(0, ""), text(0, "a"), text(0, ""), ended(0)]), (vec![one(0, "text")], 1));
        assert_eq!(
            blocks([text(0, "a"), ended(0), text(1, ""), ended(1), tool(2), ended(2)]),
            (vec![one(0, "text"), one(1, "tool_use")], 2)
        );
        assert_eq!(blocks([text(0, ""), ended(0)]), (vec![], 0));
    }
}
