//! From the Messages API to Converse.

use aws_sdk_bedrockruntime::{
    primitives::Blob,
    types::{
        CachePointBlock, CachePointType, ContentBlock, ConversationRole, DocumentBlock, DocumentFormat, DocumentSource,
        ImageBlock, ImageFormat, ImageSource, InferenceConfiguration, Message, ReasoningContentBlock,
        ReasoningTextBlock, SystemContentBlock, ToolConfiguration, ToolResultBlock, ToolResultContentBlock,
        ToolResultStatus, ToolUseBlock,
    },
};
use aws_smithy_types::Document;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use super::{
    document::to_document,
    error::{AnthropicError, invalid},
    messages::{Envelope, Field, Object},
    model::Family,
    tools,
};

/// What a request may say. `metadata`, `service_tier` and `cache_control` are hints, and no model needs them.
const MEMBERS: [&str; 17] = [
    "model",
    "max_tokens",
    "messages",
    "system",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "stream",
    "tools",
    "tool_choice",
    "metadata",
    "thinking",
    "service_tier",
    "cache_control",
    "anthropic_version",
    "anthropic_beta",
];

/// What Converse is asked.
pub(super) struct ConverseRequest {
    pub(super) messages: Vec<Message>,
    pub(super) system: Option<Vec<SystemContentBlock>>,
    pub(super) inference: InferenceConfiguration,
    pub(super) tools: Option<ToolConfiguration>,
    pub(super) additional: Option<Document>,
}

/// Writes a request for Converse.
///
/// # Errors
/// When it says something that Converse cannot say: nothing is left out in silence.
pub(super) fn converse(envelope: &Envelope, family: Family) -> Result<ConverseRequest, AnthropicError> {
    let request = envelope.request();
    request.only(&MEMBERS)?;
    let mut talk = Talk { family, documents: 0, uses_tools: false };
    let messages = talk.messages(&request.must("messages")?)?;
    let system = request.may("system").map(|field| talk.system(&field)).transpose()?;
    let tools = tools::config(&request, family, talk.uses_tools)?;
    Ok(ConverseRequest {
        messages,
        system: system.filter(|blocks| !blocks.is_empty()),
        inference: inference(envelope, &request)?,
        tools,
        additional: additional(&request, family)?,
    })
}

fn inference(envelope: &Envelope, request: &Object<'_>) -> Result<InferenceConfiguration, AnthropicError> {
    #[allow(clippy::cast_possible_truncation, reason = "Converse has them as f32")]
    let fraction = |name| request.may(name).map(|field| field.fraction().map(|number| number as f32)).transpose();
    Ok(InferenceConfiguration::builder()
        .set_max_tokens(i32::try_from(envelope.max_tokens).ok())
        .set_temperature(fraction("temperature")?)
        .set_top_p(fraction("top_p")?)
        .set_stop_sequences(stop_sequences(request)?)
        .build())
}

pub(super) fn stop_sequences(request: &Object<'_>) -> Result<Option<Vec<String>>, AnthropicError> {
    let Some(field) = request.may("stop_sequences") else { return Ok(None) };
    let texts: Result<Vec<_>, _> = field.items()?.iter().map(|item| item.some_text().map(str::to_owned)).collect();
    texts.map(|texts| Some(texts).filter(|texts| !texts.is_empty()))
}

/// What Converse leaves to each family of models.
fn additional(request: &Object<'_>, family: Family) -> Result<Option<Document>, AnthropicError> {
    let mut fields = serde_json::Map::new();
    if let Some(field) = request.may("top_k") {
        let top_k = field.count()?;
        match family {
            Family::Nova => fields.insert("inferenceConfig".to_owned(), json!({ "topK": top_k })),
            Family::Anthropic | Family::Mistral => fields.insert("top_k".to_owned(), json!(top_k)),
            Family::Cohere => fields.insert("k".to_owned(), json!(top_k)),
            Family::Other => return Err(field.wrong("is not supported for this model")),
        };
    }
    if let Some(field) = request.may("thinking") {
        let off = field.object()?.kind()? == "disabled";
        match family {
            Family::Anthropic => fields.insert("thinking".to_owned(), field.value.clone()),
            _ if off => None,
            _ => return Err(field.wrong("is not supported for this model")),
        };
    }
    Ok((!fields.is_empty()).then(|| to_document(&fields.into())))
}

/// What Converse refuses to build says which field is missing; ours are all there.
pub(super) fn unbuilt(error: impl std::fmt::Display) -> AnthropicError {
    invalid(format!("The request cannot be written for this model: {error}"))
}

/// Where the cache of the prompt may end, where the family has one. A hint: others do without it.
pub(super) fn cache_point(block: &Object<'_>, family: Family) -> Result<Option<CachePointBlock>, AnthropicError> {
    let Some(field) = block.may("cache_control") else { return Ok(None) };
    let control = field.object()?;
    let ttl = control.may("ttl").map(|ttl| ttl.some_text()).transpose()?;
    if !family.caches() {
        return Ok(None);
    }
    let ttl = ttl.filter(|_| family == Family::Anthropic).map(Into::into);
    CachePointBlock::builder().r#type(CachePointType::Default).set_ttl(ttl).build().map(Some).map_err(unbuilt)
}

/// A conversation on its way.
struct Talk {
    family: Family,
    documents: usize,
    uses_tools: bool,
}

impl Talk {
    fn system(&mut self, field: &Field<'_>) -> Result<Vec<SystemContentBlock>, AnthropicError> {
        if let Some(text) = field.value.as_str() {
            return Ok(if text.is_empty() { Vec::new() } else { vec![SystemContentBlock::Text(text.to_owned())] });
        }
        let mut blocks = Vec::new();
        for item in field.items()? {
            let block = item.object()?;
            if block.kind()? != "text" {
                return Err(item.wrong("must be a text block"));
            }
            block.only(&["type", "text", "cache_control"])?;
            blocks.push(SystemContentBlock::Text(block.must("text")?.some_text()?.to_owned()));
            blocks.extend(cache_point(&block, self.family)?.map(SystemContentBlock::CachePoint));
        }
        Ok(blocks)
    }

    /// Turns of one side that follow each other become one, as Anthropic takes them: Converse wants them in turns.
    fn messages(&mut self, field: &Field<'_>) -> Result<Vec<Message>, AnthropicError> {
        let mut turns: Vec<(ConversationRole, Vec<ContentBlock>)> = Vec::new();
        for item in field.items()? {
            let message = item.object()?;
            message.only(&["role", "content"])?;
            let field = message.must("role")?;
            let role = match field.text()? {
                "user" => ConversationRole::User,
                "assistant" if turns.is_empty() => {
                    return Err(field.wrong("must be \"user\": the first message is the user's"));
                }
                "assistant" => ConversationRole::Assistant,
                _ => return Err(field.wrong("must be \"user\" or \"assistant\"")),
            };
            let blocks = self.content(&message.must("content")?, &role)?;
            match turns.last_mut() {
                Some((last, content)) if *last == role => content.extend(blocks),
                _ => turns.push((role, blocks)),
            }
        }
        let message = |(role, blocks)| Message::builder().role(role).set_content(Some(blocks)).build();
        turns.into_iter().map(message).collect::<Result<_, _>>().map_err(unbuilt)
    }

    fn content(&mut self, field: &Field<'_>, role: &ConversationRole) -> Result<Vec<ContentBlock>, AnthropicError> {
        if field.value.is_string() {
            return Ok(vec![ContentBlock::Text(field.some_text()?.to_owned())]);
        }
        let items = field.items()?;
        if items.is_empty() {
            return Err(field.wrong("must not be empty"));
        }
        let mut blocks = Vec::new();
        for item in items {
            let block = item.object()?;
            let kind = block.must("type")?;
            let user = *role == ConversationRole::User;
            blocks.push(match kind.text()? {
                "text" => {
                    block.only(&["type", "text", "cache_control", "citations"])?;
                    ContentBlock::Text(block.must("text")?.some_text()?.to_owned())
                }
                "image" if user => ContentBlock::Image(image(&block)?),
                "document" if user => ContentBlock::Document(self.document(&block)?),
                "tool_result" if user => ContentBlock::ToolResult(self.tool_result(&block)?),
                "tool_use" if !user => ContentBlock::ToolUse(self.tool_use(&block)?),
                "thinking" if !user => ContentBlock::ReasoningContent(thinking(&block)?),
                "redacted_thinking" if !user => ContentBlock::ReasoningContent(redacted(&block)?),
                _ => return Err(kind.wrong("is not supported here for this model")),
            });
            blocks.extend(cache_point(&block, self.family)?.map(ContentBlock::CachePoint));
        }
        Ok(blocks)
    }

    fn tool_use(&mut self, block: &Object<'_>) -> Result<ToolUseBlock, AnthropicError> {
        block.only(&["type", "id", "name", "input", "cache_control", "caller"])?;
        self.uses_tools = true;
        let input = block.must("input")?;
        input.object()?;
        ToolUseBlock::builder()
            .tool_use_id(block.must("id")?.some_text()?)
            .name(block.must("name")?.some_text()?)
            .input(to_document(input.value))
            .build()
            .map_err(unbuilt)
    }

    fn tool_result(&mut self, block: &Object<'_>) -> Result<ToolResultBlock, AnthropicError> {
        block.only(&["type", "tool_use_id", "content", "is_error", "cache_control"])?;
        self.uses_tools = true;
        let failed = block.may("is_error").map(|field| field.truth()).transpose()?.unwrap_or(false);
        let content = match block.may("content") {
            None => Vec::new(),
            Some(field) => match field.value.as_str() {
                Some("") => Vec::new(),
                Some(text) => vec![ToolResultContentBlock::Text(text.to_owned())],
                None => field.items()?.iter().map(|item| self.result(item)).collect::<Result<_, _>>()?,
            },
        };
        ToolResultBlock::builder()
            .tool_use_id(block.must("tool_use_id")?.some_text()?)
            .set_content(Some(content))
            // Only a few families take a status: success is what they assume.
            .set_status(failed.then_some(ToolResultStatus::Error))
            .build()
            .map_err(unbuilt)
    }

    fn result(&mut self, item: &Field<'_>) -> Result<ToolResultContentBlock, AnthropicError> {
        let block = item.object()?;
        let kind = block.must("type")?;
        Ok(match kind.text()? {
            "text" => {
                block.only(&["type", "text", "cache_control", "citations"])?;
                ToolResultContentBlock::Text(block.must("text")?.some_text()?.to_owned())
            }
            "json" => {
                block.only(&["type", "json", "cache_control"])?;
                ToolResultContentBlock::Json(to_document(block.must("json")?.value))
            }
            "image" => ToolResultContentBlock::Image(image(&block)?),
            "document" => ToolResultContentBlock::Document(self.document(&block)?),
            _ => return Err(kind.wrong("is not supported here for this model")),
        })
    }

    fn document(&mut self, block: &Object<'_>) -> Result<DocumentBlock, AnthropicError> {
        block.only(&["type", "source", "title", "context", "citations", "cache_control"])?;
        if let Some(field) = block.may("context") {
            return Err(field.wrong("is not supported for this model"));
        }
        if let Some(field) = block.may("citations") {
            let enabled = field.object()?.may("enabled").map(|field| field.truth()).transpose()?;
            if enabled == Some(true) {
                return Err(field.wrong("are not supported for this model"));
            }
        }
        let source = block.must("source")?.object()?;
        let kind = source.must("type")?;
        let (format, bytes) = match kind.text()? {
            "base64" => {
                let media = source.must("media_type")?;
                match media.text()? {
                    "application/pdf" => (DocumentFormat::Pdf, decoded(&source)?),
                    _ => return Err(media.wrong("must be \"application/pdf\"")),
                }
            }
            "text" => (DocumentFormat::Txt, source.must("data")?.some_text()?.as_bytes().to_vec()),
            _ => return Err(kind.wrong("must be \"base64\" or \"text\" for this model: nothing is fetched")),
        };
        self.documents += 1;
        let title = block.may("title").map(|field| field.text()).transpose()?.unwrap_or_default();
        DocumentBlock::builder()
            .format(format)
            .name(name(title, self.documents))
            .source(DocumentSource::Bytes(Blob::new(bytes)))
            .build()
            .map_err(unbuilt)
    }
}

/// Converse allows a name letters, digits, single spaces, hyphens, parentheses and brackets, and wants each once.
fn name(title: &str, number: usize) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-()[]".contains(c);
    let plain: String = title.chars().map(|c| if allowed(c) { c } else { ' ' }).take(150).collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    let title = if words.is_empty() { "document".to_owned() } else { words.join(" ") };
    format!("{title} {number}")
}

fn image(block: &Object<'_>) -> Result<ImageBlock, AnthropicError> {
    block.only(&["type", "source", "cache_control"])?;
    let source = block.must("source")?.object()?;
    let kind = source.must("type")?;
    if kind.text()? != "base64" {
        return Err(kind.wrong("must be \"base64\" for this model: nothing is fetched"));
    }
    let media = source.must("media_type")?;
    let format = match media.text()? {
        "image/png" => ImageFormat::Png,
        "image/jpeg" => ImageFormat::Jpeg,
        "image/gif" => ImageFormat::Gif,
        "image/webp" => ImageFormat::Webp,
        _ => return Err(media.wrong("must be image/png, image/jpeg, image/gif or image/webp")),
    };
    let bytes = ImageSource::Bytes(Blob::new(decoded(&source)?));
    ImageBlock::builder().format(format).source(bytes).build().map_err(unbuilt)
}

fn decoded(source: &Object<'_>) -> Result<Vec<u8>, AnthropicError> {
    let data = source.must("data")?;
    let bytes = BASE64_STANDARD.decode(data.some_text()?).map_err(|_| data.wrong("must be base64"))?;
    if bytes.is_empty() { Err(data.wrong("must not be empty")) } else { Ok(bytes) }
}

fn thinking(block: &Object<'_>) -> Result<ReasoningContentBlock, AnthropicError> {
    block.only(&["type", "thinking", "signature", "cache_control"])?;
    let signature = block.may("signature").map(|field| field.text()).transpose()?.filter(|text| !text.is_empty());
    let text = ReasoningTextBlock::builder()
        .text(block.must("thinking")?.text()?)
        .set_signature(signature.map(str::to_owned))
        .build()
        .map_err(unbuilt)?;
    Ok(ReasoningContentBlock::ReasoningText(text))
}

fn redacted(block: &Object<'_>) -> Result<ReasoningContentBlock, AnthropicError> {
    block.only(&["type", "data", "cache_control"])?;
    let data = block.must("data")?;
    let bytes = BASE64_STANDARD.decode(data.some_text()?).map_err(|_| data.wrong("must be base64"))?;
    Ok(ReasoningContentBlock::RedactedContent(Blob::new(bytes)))
}
