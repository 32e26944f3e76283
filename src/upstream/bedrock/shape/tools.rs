//! Tools of a request, and how they may be chosen.

use std::collections::HashSet;

use super::{
    super::{
        error::AnthropicError,
        messages::{Field, Object},
    },
    Walk,
};

const MAX_NAME: usize = 128;

impl Walk<'_> {
    /// `tools` and `tool_choice`.
    pub(super) fn tools(&mut self, request: &Object<'_>) -> Result<(), AnthropicError> {
        let mut names = HashSet::new();
        let field = request.may("tools");
        for item in field.as_ref().map(Field::items).transpose()?.unwrap_or_default() {
            let name = self.tool(&item)?;
            if !names.insert(name.text()?) {
                return Err(name.wrong("is there twice"));
            }
        }
        match request.may("tool_choice") {
            Some(choice) if names.is_empty() => Err(choice.wrong("needs tools")),
            Some(choice) => chosen(&choice.object()?, &names),
            None => Ok(()),
        }
    }

    /// A tool of the client, or one that its merchant has allowed. Gives its name.
    fn tool<'a>(&mut self, item: &Field<'a>) -> Result<Field<'a>, AnthropicError> {
        let tool = item.object()?;
        if let Some(kind) = tool.may("type")
            && kind.text()? != "custom"
        {
            return match self.shape.tools.iter().any(|allowed| kind.value == allowed) {
                true => {
                    let name = tool.must("name")?;
                    name.some_text()?;
                    Ok(name)
                }
                // Most of them run at the provider, and whoever pays a fixed price would decide what that costs.
                false => Err(kind.wrong("must be \"custom\": tools of the provider are not sold here")),
            };
        }
        tool.known(&TOOL, &["type", "cache_control", "eager_input_streaming"])?;
        let name = tool.must("name")?;
        let text = name.some_text()?;
        if text.len() > MAX_NAME || !is_plain(text) {
            return Err(name.wrong("must be at most 128 letters, digits, hyphens and underscores"));
        }
        let schema = tool.must("input_schema")?.object()?;
        schema.must("type")?.one_of(&["object"])?;
        schema.may("properties").map(|field| field.object()).transpose()?;
        if let Some(required) = schema.may("required") {
            required.items()?.iter().try_for_each(|item| item.text().map(drop))?;
        }
        tool.may("description").map(|field| field.text()).transpose()?;
        for name in ["strict", "eager_input_streaming"] {
            tool.may(name).map(|field| field.truth()).transpose()?;
        }
        if let Some(deferred) = tool.may("defer_loading")
            && deferred.truth()?
            && self.shape.tools.is_empty()
        {
            return Err(deferred.wrong("needs a tool that searches tools, which is not sold here"));
        }
        if let Some(callers) = tool.may("allowed_callers") {
            for caller in callers.items()? {
                self.caller(&caller, caller.text()?)?;
            }
        }
        if let Some(examples) = tool.may("input_examples") {
            examples.items()?.iter().try_for_each(|item| item.object().map(drop))?;
        }
        self.cache(&tool)?;
        Ok(name)
    }

    /// Who calls a tool: the model itself, or code that it runs at its provider.
    pub(super) fn caller(&self, field: &Field<'_>, caller: &str) -> Result<(), AnthropicError> {
        match caller {
            "direct" => Ok(()),
            _ if self.shape.tools.iter().any(|allowed| allowed == caller) => Ok(()),
            _ => Err(field.wrong("must be \"direct\": tools of the provider are not sold here")),
        }
    }
}

const TOOL: [&str; 10] = [
    "type",
    "name",
    "description",
    "input_schema",
    "cache_control",
    "strict",
    "eager_input_streaming",
    "defer_loading",
    "allowed_callers",
    "input_examples",
];

fn chosen(choice: &Object<'_>, names: &HashSet<&str>) -> Result<(), AnthropicError> {
    let known: &[&str] = match choice.must("type")?.one_of(&["auto", "any", "tool", "none"])? {
        "tool" => {
            let name = choice.must("name")?;
            if !names.contains(name.text()?) {
                return Err(name.wrong("must be the name of one of the tools"));
            }
            &["type", "name", "disable_parallel_tool_use"]
        }
        "none" => &["type"],
        _ => &["type", "disable_parallel_tool_use"],
    };
    choice.known(known, &[])?;
    choice.may("disable_parallel_tool_use").map(|field| field.truth()).transpose().map(drop)
}

/// As names of tools and ids of their uses are written.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
