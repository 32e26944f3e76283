//! What a body of Anthropic's Messages API may say, before anybody pays for it.

mod blocks;
mod tools;
mod turns;
mod unique;

use serde_json::Value;

use self::{
    turns::{Side, Turns},
    unique::Unique,
};
use super::{
    error::{AnthropicError, invalid},
    messages::{Field, Object},
};

/// Anthropic takes no more.
const MOST_MESSAGES: usize = 100_000;
const MOST_CACHED: usize = 4;
const LEAST_THOUGHTS: u64 = 1024;

/// What both take. All other members are refused: nobody here knows what they do, and some cost more.
const MEMBERS: [&str; 15] = [
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
    "output_config",
    "cache_control",
];
/// What a [`Bedrock`](super::Bedrock) writes itself or leaves out.
const LEFT_OUT: [&str; 3] = ["anthropic_version", "anthropic_beta", "service_tier"];

/// The shape of a request of Anthropic's Messages API, for whoever sells calls at a fixed price: a body that the
/// provider would refuse is refused here first, and so is what makes a call cost more than it was sold for.
///
/// Tools of the provider (`web_search_20250305` and the like), files of the merchant's account, and members such as
/// `service_tier`, `speed`, `mcp_servers` and `container` are refused unless they are allowed. What depends on the
/// model alone, or on what is in an image, only the provider can know.
///
/// ```
/// use tower_mpp::upstream::bedrock::MessagesShape;
///
/// let shape = MessagesShape::new();
/// let body = br#"{"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": [{"role": "user", "content":
///     [{"type": "text"}]}]}"#;
/// assert_eq!(shape.check(body).unwrap_err().message(), "messages.0.content.0.text: is required");
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct MessagesShape {
    bedrock: bool,
    betas: Vec<String>,
    members: Vec<String>,
    tools: Vec<String>,
}

impl MessagesShape {
    /// What the API of Anthropic takes.
    pub fn new() -> Self {
        Self::default()
    }

    /// What Bedrock takes for models of Anthropic: nothing is fetched there.
    pub(super) fn of_bedrock() -> Self {
        Self { bedrock: true, ..Self::default() }
    }

    /// A beta that clients may switch on. Some of them allow more in a body.
    pub fn allow_beta(mut self, name: impl Into<String>) -> Self {
        self.betas.push(name.into());
        self
    }

    /// Another member of the body, as it may be: `service_tier`.
    pub fn allow_member(mut self, name: impl Into<String>) -> Self {
        self.members.push(name.into());
        self
    }

    /// A tool of the provider by its type, `web_search_20250305`, and what it leaves in conversations.
    pub fn allow_tool(mut self, kind: impl Into<String>) -> Self {
        self.tools.push(kind.into());
        self
    }

    /// Whether a body has this shape. Nobody is asked.
    ///
    /// # Errors
    /// `400 invalid_request_error`, which names the member and never says what is in it.
    pub fn check(&self, body: &[u8]) -> Result<(), AnthropicError> {
        let unread = |error| invalid(format!("The body cannot be read: {error}"));
        let Unique(value) = serde_json::from_slice(body).map_err(unread)?;
        let Value::Object(members) = &value else { return Err(invalid("The body must be a JSON object.")) };
        let request = Object::of_request(members);
        let mut known = MEMBERS.to_vec();
        if self.bedrock {
            known.extend(LEFT_OUT);
        }
        known.extend(self.members.iter().map(String::as_str));
        let mut nullable = vec!["cache_control"];
        nullable.extend(self.members.iter().map(String::as_str));
        request.known(&known, &nullable)?;
        Walk { shape: self, cached: 0 }.request(&request)
    }

    fn is_bedrock(&self) -> bool {
        self.bedrock
    }

    fn is_of_allowed_tool(&self, block: &str) -> bool {
        !self.tools.is_empty() && (block == "server_tool_use" || block.ends_with("_tool_result"))
    }
}

/// One body on its way through.
struct Walk<'s> {
    shape: &'s MessagesShape,
    /// How often the cache of the prompt may end.
    cached: usize,
}

impl Walk<'_> {
    fn request(&mut self, request: &Object<'_>) -> Result<(), AnthropicError> {
        request.may("model").map(|field| field.some_text()).transpose()?;
        let field = request.must("max_tokens")?;
        let max_tokens = field.count()?;
        if max_tokens == 0 {
            return Err(field.wrong("must be at least 1"));
        }
        request.may("stream").map(|field| field.truth()).transpose()?;
        for name in ["temperature", "top_p"] {
            request.may(name).map(|field| field.fraction()).transpose()?;
        }
        request.may("top_k").map(|field| field.count()).transpose()?;
        if let Some(field) = request.may("stop_sequences") {
            field.items()?.iter().try_for_each(|item| item.words().map(drop))?;
        }
        if let Some(field) = request.may("metadata") {
            let metadata = field.object()?;
            metadata.known(&["user_id"], &["user_id"])?;
            metadata.may("user_id").map(|field| field.text()).transpose()?;
        }
        self.tools(request)?;
        self.thinking(request, max_tokens)?;
        output_config(request)?;
        if let Some(field) = request.may("system") {
            self.system(&field)?;
        }
        self.messages(&request.must("messages")?)?;
        // There is no such cache at Bedrock, and it is left out.
        if self.shape.bedrock { Ok(()) } else { self.cache(request) }
    }

    fn system(&mut self, field: &Field<'_>) -> Result<(), AnthropicError> {
        if field.value.is_string() {
            return field.words().map(drop);
        }
        for item in field.some_items()? {
            let block = item.object()?;
            block.must("type")?.one_of(&["text"])?;
            self.text(&block)?;
        }
        Ok(())
    }

    fn messages<'a>(&mut self, field: &Field<'a>) -> Result<(), AnthropicError> {
        let items = field.some_items()?;
        if items.len() > MOST_MESSAGES {
            return Err(field.wrong("are too many"));
        }
        let mut turns = Turns::default();
        for (index, item) in items.iter().enumerate() {
            let message = item.object()?;
            message.known(&["role", "content"], &[])?;
            let role = message.must("role")?;
            let side = match role.text()? {
                "user" => Side::User,
                "assistant" if index > 0 => Side::Assistant,
                "assistant" => return Err(role.wrong("must be \"user\": the first message is the user's")),
                _ => return Err(role.wrong("must be \"user\" or \"assistant\"; instructions belong into system")),
            };
            turns.begin(side)?;
            let content = message.must("content")?;
            if content.value.is_string() {
                content.words()?;
                turns.text(content);
                continue;
            }
            for item in content.some_items()? {
                self.block(&item, side, &mut turns)?;
            }
        }
        turns.end()
    }

    /// How the model may think, and what cannot be said beside that.
    fn thinking(&self, request: &Object<'_>, max_tokens: u64) -> Result<(), AnthropicError> {
        let Some(field) = request.may("thinking") else { return Ok(()) };
        let thinking = field.object()?;
        match thinking.must("type")?.one_of(&["enabled", "adaptive", "disabled", "between_tools"])? {
            "enabled" => {
                thinking.known(&["type", "budget_tokens", "display"], &["display"])?;
                let budget = thinking.must("budget_tokens")?;
                let tokens = budget.count()?;
                if tokens < LEAST_THOUGHTS {
                    return Err(budget.wrong("must be at least 1024"));
                }
                // Between tools it may think more than it says in one answer.
                let interleaved = self.shape.betas.iter().any(|beta| beta.starts_with("interleaved-thinking"));
                if tokens >= max_tokens && !interleaved {
                    return Err(budget.wrong("must be less than max_tokens"));
                }
            }
            "adaptive" => thinking.known(&["type", "display"], &["display"])?,
            _ => return thinking.known(&["type"], &[]),
        }
        thinking.may("display").map(|field| field.one_of(&["summarized", "omitted"])).transpose()?;
        if let Some(field) = request.may("temperature")
            && field.fraction()? < 1.0
        {
            return Err(field.wrong("must be 1 with thinking"));
        }
        if let Some(field) = request.may("top_p")
            && field.fraction()? < 0.95
        {
            return Err(field.wrong("must be at least 0.95 with thinking"));
        }
        if let Some(field) = request.may("top_k") {
            return Err(field.wrong("cannot be said with thinking"));
        }
        if let Some(choice) = request.may("tool_choice") {
            let kind = choice.object()?.must("type")?;
            if matches!(kind.text()?, "any" | "tool") {
                return Err(kind.wrong("must be \"auto\" or \"none\" with thinking"));
            }
        }
        Ok(())
    }

    /// A place where the cache of the prompt may end.
    fn cache(&mut self, object: &Object<'_>) -> Result<(), AnthropicError> {
        let Some(field) = object.may("cache_control") else { return Ok(()) };
        let control = field.object()?;
        control.known(&["type", "ttl"], &[])?;
        control.must("type")?.one_of(&["ephemeral"])?;
        control.may("ttl").map(|field| field.one_of(&["5m", "1h"])).transpose()?;
        self.cached += 1;
        if self.cached > MOST_CACHED { Err(field.wrong("is there more than 4 times")) } else { Ok(()) }
    }
}

fn output_config(request: &Object<'_>) -> Result<(), AnthropicError> {
    let Some(field) = request.may("output_config") else { return Ok(()) };
    let config = field.object()?;
    config.known(&["effort", "format"], &["effort", "format"])?;
    config.may("effort").map(|field| field.one_of(&["low", "medium", "high", "xhigh", "max"])).transpose()?;
    if let Some(format) = config.may("format") {
        let format = format.object()?;
        format.known(&["type", "schema"], &[])?;
        format.must("type")?.one_of(&["json_schema"])?;
        format.must("schema")?.object()?;
    }
    Ok(())
}
