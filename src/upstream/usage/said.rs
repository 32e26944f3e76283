//! The parts of a document or an event that speak of the model and of tokens.

use serde::Deserialize;

use super::Usage;
use crate::{receipt::ReceiptBody, upstream::Report};

/// The largest number that a receipt can say.
const MAX_COUNT: u64 = (1 << 53) - 1;
/// Longer than any name of a model; what is longer is none.
const MAX_MODEL: usize = 256;

/// A document, or an event with one in it: `message` of Anthropic's `message_start`, `response` of OpenAI's
/// `response.completed`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    model: Maybe<String>,
    usage: Maybe<Tokens>,
    message: Maybe<Inner>,
    response: Maybe<Inner>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Inner {
    model: Maybe<String>,
    usage: Maybe<Tokens>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tokens {
    input_tokens: Maybe<u64>,
    output_tokens: Maybe<u64>,
    cache_read_input_tokens: Maybe<u64>,
    cache_creation_input_tokens: Maybe<u64>,
    prompt_tokens: Maybe<u64>,
    completion_tokens: Maybe<u64>,
    prompt_tokens_details: Maybe<Details>,
    input_tokens_details: Maybe<Details>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Maybe<u64>,
}

/// Something, or anything else: a member of another type is no reason to miss the others.
#[derive(Deserialize)]
#[serde(untagged)]
enum Maybe<T> {
    Some(T),
    Other(serde::de::IgnoredAny),
}

impl<T> Default for Maybe<T> {
    fn default() -> Self {
        Self::Other(serde::de::IgnoredAny)
    }
}

impl<T> Maybe<T> {
    fn get(self) -> Option<T> {
        match self {
            Self::Some(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}

/// Writes into the report what a document or an event says.
pub(super) fn read(usage: Usage, json: &[u8], report: &Report) {
    // Most events are text and nothing else.
    let says = |name: &[u8]| json.windows(name.len()).any(|window| window == name);
    if !says(b"\"usage\"") && !says(b"\"model\"") {
        return;
    }
    let Ok(said) = serde_json::from_slice::<Said>(json) else { return };
    let inner = match usage {
        Usage::Anthropic => said.message,
        Usage::OpenAi => said.response,
    };
    let inner = inner.get().unwrap_or_default();
    let model = inner.model.get().or(said.model.get()).filter(|model| !model.is_empty() && model.len() <= MAX_MODEL);
    let tokens = inner.usage.get().or(said.usage.get());
    if model.is_none() && tokens.is_none() {
        return;
    }
    report.update(|receipt| {
        if let Some(model) = model {
            receipt.model_id = Some(model);
        }
        if let Some(tokens) = tokens {
            count(usage, tokens, receipt);
        }
    });
}

/// What is said later stands: counts of events are sums.
fn count(usage: Usage, tokens: Tokens, receipt: &mut ReceiptBody) {
    let (input, output, read, written) = match usage {
        Usage::Anthropic => (
            tokens.input_tokens.get(),
            tokens.output_tokens.get(),
            tokens.cache_read_input_tokens.get(),
            tokens.cache_creation_input_tokens.get(),
        ),
        Usage::OpenAi => {
            let details = tokens.prompt_tokens_details.get().or(tokens.input_tokens_details.get());
            (
                tokens.prompt_tokens.get().or(tokens.input_tokens.get()),
                tokens.completion_tokens.get().or(tokens.output_tokens.get()),
                details.and_then(|details| details.cached_tokens.get()),
                None,
            )
        }
    };
    let mut says = false;
    for (place, count) in [
        (&mut receipt.input_tokens, input),
        (&mut receipt.output_tokens, output),
        (&mut receipt.cache_read_tokens, read),
        (&mut receipt.cache_write_tokens, written),
    ] {
        if let Some(count) = count.filter(|count| *count <= MAX_COUNT) {
            *place = Some(count);
            says = true;
        }
    }
    if says {
        receipt.tokens_source = Some("provider".to_owned());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn said(usage: Usage, documents: &[&str]) -> ReceiptBody {
        let report = Report::default();
        for document in documents {
            read(usage, document.as_bytes(), &report);
        }
        report.body()
    }

    type Counts = (Option<u64>, Option<u64>, Option<u64>, Option<u64>);

    fn counts(body: &ReceiptBody) -> Counts {
        (body.input_tokens, body.output_tokens, body.cache_read_tokens, body.cache_write_tokens)
    }

    #[test]
    fn each_provider_is_read_in_its_own_words() {
        let whole = r#"{"id":"m","model":"claude-x","content":[{"type":"text","text":"\"usage\""}],"usage":{"input_tokens":7,"output_tokens":9,"cache_read_input_tokens":3,"cache_creation_input_tokens":null}}"#;
        let body = said(Usage::Anthropic, &[whole]);
        assert_eq!((body.model_id.as_deref(), counts(&body)), (Some("claude-x"), (Some(7), Some(9), Some(3), None)));
        assert_eq!(body.tokens_source.as_deref(), Some("provider"));

        let events = [
            r#"{"type":"message_start","message":{"model":"claude-y","usage":{"input_tokens":7,"output_tokens":1,"cache_creation_input_tokens":5}}}"#,
            r#"{"type":"content_block_delta","delta":{"text":"hello"}}"#,
            r#"{"type":"message_delta","usage":{"output_tokens":42}}"#,
        ];
        let body = said(Usage::Anthropic, &events);
        assert_eq!((body.model_id.as_deref(), counts(&body)), (Some("claude-y"), (Some(7), Some(42), None, Some(5))));

        let chunks = [
            r#"{"model":"gpt-x","choices":[{"delta":{"content":"a"}}],"usage":null}"#,
            r#"{"model":"gpt-x","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#,
            "[DONE]",
        ];
        let body = said(Usage::OpenAi, &chunks);
        assert_eq!((body.model_id.as_deref(), counts(&body)), (Some("gpt-x"), (Some(11), Some(2), Some(4), None)));

        let completed = r#"{"type":"response.completed","response":{"model":"gpt-y","usage":{"input_tokens":5,"output_tokens":6,"input_tokens_details":{"cached_tokens":1}}}}"#;
        let body = said(Usage::OpenAi, &[completed]);
        assert_eq!((body.model_id.as_deref(), counts(&body)), (Some("gpt-y"), (Some(5), Some(6), Some(1), None)));
    }

    #[test]
    fn what_makes_no_sense_says_nothing() {
        let nothing = [
            "",
            "null",
            "[1,2]",
            r#"{"usage":7,"model":[1]}"#,
            r#"{"usage":{"input_tokens":-1,"output_tokens":1.5,"cache_read_input_tokens":"3"}}"#,
            r#"{"usage":{"input_tokens":9007199254740992}}"#,
            r#"{"model":""}"#,
            r#"{"usage":{"#,
        ];
        for usage in [Usage::Anthropic, Usage::OpenAi] {
            for document in nothing {
                assert_eq!(said(usage, &[document]), ReceiptBody::default(), "{document}");
            }
        }
    }
}
