//! From Converse to the Messages API: whole answers.

use aws_sdk_bedrockruntime::{
    operation::converse::ConverseOutput,
    types::{self, ContentBlock, ReasoningContentBlock, StopReason},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{document::from_document, error::Failure, usage::Tokens};

/// What an answer says that only its request knows.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) stop_sequences: Vec<String>,
}

impl Asked {
    /// Converse does not say which sequence it was; with one there is no question.
    fn stop_sequence(&self, reason: &str) -> Option<&str> {
        match self.stop_sequences.as_slice() {
            [only] if reason == "stop_sequence" => Some(only),
            _ => None,
        }
    }

    /// `stop_reason` and `stop_sequence`.
    pub(super) fn stop(&self, reason: &'static str) -> Value {
        json!({ "stop_reason": reason, "stop_sequence": self.stop_sequence(reason) })
    }
}

pub(super) fn message_id() -> String {
    format!("msg_{:032x}", rand::random::<u128>())
}

/// Why a model has stopped.
///
/// # Errors
/// When it has stopped over an answer that it has made badly: that is none.
pub(super) fn stop_reason(reason: &StopReason) -> Result<&'static str, Failure> {
    Ok(match reason {
        StopReason::ToolUse => "tool_use",
        StopReason::MaxTokens => "max_tokens",
        StopReason::StopSequence => "stop_sequence",
        StopReason::ContentFiltered | StopReason::GuardrailIntervened => "refusal",
        StopReason::ModelContextWindowExceeded => "model_context_window_exceeded",
        StopReason::MalformedModelOutput => return Err(Failure::broken("malformed_model_output")),
        StopReason::MalformedToolUse => return Err(Failure::broken("malformed_tool_use")),
        // Of a reason that is not known yet, it is known that the model has come to an end.
        _ => "end_turn",
    })
}

/// Writes the answer, and says what it has used.
pub(super) fn message(output: &ConverseOutput, asked: &Asked) -> Result<(Value, Tokens), Failure> {
    let Some(types::ConverseOutput::Message(message)) = output.output() else {
        return Err(Failure::broken("no_message"));
    };
    // An empty text could not be sent back in the next turn.
    let is_something = |block: &&ContentBlock| !matches!(block, ContentBlock::Text(text) if text.is_empty());
    let content: Vec<Value> = message.content().iter().filter(is_something).map(block).collect::<Result<_, _>>()?;
    let tokens = output.usage().map(Tokens::of_converse).unwrap_or_default();
    let reason = stop_reason(output.stop_reason())?;
    let answer = json!({
        "id": message_id(),
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": asked.stop_sequence(reason),
        "usage": tokens.json(),
    });
    Ok((answer, tokens))
}

fn block(block: &ContentBlock) -> Result<Value, Failure> {
    Ok(match block {
        ContentBlock::Text(text) => json!({ "type": "text", "text": text }),
        ContentBlock::ToolUse(tool) => json!({
            "type": "tool_use",
            "id": tool.tool_use_id(),
            "name": tool.name(),
            "input": from_document(tool.input()),
        }),
        ContentBlock::ReasoningContent(ReasoningContentBlock::ReasoningText(thought)) => json!({
            "type": "thinking",
            "thinking": thought.text(),
            "signature": thought.signature().unwrap_or_default(),
        }),
        ContentBlock::ReasoningContent(ReasoningContentBlock::RedactedContent(data)) => json!({
            "type": "redacted_thinking",
            "data": BASE64_STANDARD.encode(data.as_ref()),
        }),
        // The words that citations are about.
        ContentBlock::CitationsContent(cited) => {
            let words = cited.content().iter().map(|piece| piece.as_text().map(String::as_str));
            let text: String = words.collect::<Result<_, _>>().map_err(|_| Failure::broken("unknown_content"))?;
            json!({ "type": "text", "text": text })
        }
        // It was paid for, and it would be missing.
        _ => return Err(Failure::broken("unknown_content")),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use aws_sdk_bedrockruntime::types::{ConversationRole, Message, ToolUseBlock};
    use aws_smithy_types::Document;

    use super::*;

    fn answered(content: Vec<ContentBlock>) -> Value {
        let message = Message::builder().role(ConversationRole::Assistant).set_content(Some(content)).build().unwrap();
        let output = types::ConverseOutput::Message(message);
        let output = ConverseOutput::builder().output(output).stop_reason(StopReason::EndTurn).build().unwrap();
        let asked = Asked { model: "m".to_owned(), stop_sequences: Vec::new() };
        super::message(&output, &asked).unwrap().0["content"].take()
    }

    #[test]
    fn an_empty_text_is_left_out_because_it_could_not_be_sent_back() {
        let text = |text: &str| ContentBlock::Text(text.to_owned());
        let tool = ToolUseBlock::builder().tool_use_id("t1").name("f").input(Document::Object([].into())).build();
        let tool = ContentBlock::ToolUse(tool.unwrap());
        let used = json!({ "type": "tool_use", "id": "t1", "name": "f", "input": {} });
        assert_eq!(answered(vec![text(""), tool, text("")]), json!([used]));
        let said = |text: &str| json!({ "type": "text", "text": text });
        assert_eq!(answered(vec![text("a"), text(""), text(" ")]), json!([said("a"), said(" ")]));
        assert_eq!(answered(vec![text("")]), json!([]));
    }
}
