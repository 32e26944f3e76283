//! Tools of the Messages API for Converse.

use aws_sdk_bedrockruntime::types::{
    AnyToolChoice, AutoToolChoice, SpecificToolChoice, Tool, ToolChoice, ToolConfiguration, ToolInputSchema,
    ToolSpecification,
};

use super::{
    document::to_document,
    error::AnthropicError,
    messages::{Field, Object},
    model::Family,
    request::{cache_point, unbuilt},
};

/// The tools of a request. `used` says that its messages speak of tools.
pub(super) fn config(
    request: &Object<'_>,
    family: Family,
    used: bool,
) -> Result<Option<ToolConfiguration>, AnthropicError> {
    let field = request.may("tools");
    let items = field.as_ref().map(Field::items).transpose()?.unwrap_or_default();
    let choice = request.may("tool_choice");
    if items.is_empty() {
        return match choice {
            Some(choice) if choice.object()?.kind()? != "none" => Err(choice.wrong("needs tools")),
            _ => Ok(None),
        };
    }
    let mut tools = Vec::new();
    for item in &items {
        let tool = item.object()?;
        tools.push(Tool::ToolSpec(specification(&tool)?));
        // Nova caches messages and system prompts, and refuses a cache point among tools.
        if family == Family::Anthropic {
            tools.extend(cache_point(&tool, family)?.map(Tool::CachePoint));
        }
    }
    let choice = match &choice {
        Some(choice) => match tool_choice(choice)? {
            Choice::Is(choice) => Some(choice),
            // Converse has no such choice, and wants the tools that its messages speak of.
            Choice::None if used => {
                return Err(choice.wrong("\"none\" after the use of tools is not supported for this model"));
            }
            Choice::None => return Ok(None),
        },
        None => None,
    };
    ToolConfiguration::builder().set_tools(Some(tools)).set_tool_choice(choice).build().map(Some).map_err(unbuilt)
}

fn specification(tool: &Object<'_>) -> Result<ToolSpecification, AnthropicError> {
    if let Some(kind) = tool.may("type")
        && kind.text()? != "custom"
    {
        return Err(kind.wrong("must be \"custom\": this model has no tools of its provider"));
    }
    tool.only(&["type", "name", "description", "input_schema", "cache_control"])?;
    let schema = tool.must("input_schema")?;
    schema.object()?;
    let description = tool.may("description").map(|field| field.text()).transpose()?.filter(|text| !text.is_empty());
    ToolSpecification::builder()
        .name(tool.must("name")?.some_text()?)
        .set_description(description.map(str::to_owned))
        .input_schema(ToolInputSchema::Json(to_document(schema.value)))
        .build()
        .map_err(unbuilt)
}

enum Choice {
    Is(ToolChoice),
    None,
}

fn tool_choice(field: &Field<'_>) -> Result<Choice, AnthropicError> {
    let choice = field.object()?;
    choice.only(&["type", "name", "disable_parallel_tool_use"])?;
    if let Some(one) = choice.may("disable_parallel_tool_use")
        && one.truth()?
    {
        return Err(one.wrong("is not supported for this model"));
    }
    let kind = choice.must("type")?;
    Ok(Choice::Is(match kind.text()? {
        "auto" => ToolChoice::Auto(AutoToolChoice::builder().build()),
        "any" => ToolChoice::Any(AnyToolChoice::builder().build()),
        "tool" => {
            let name = choice.must("name")?.some_text()?;
            ToolChoice::Tool(SpecificToolChoice::builder().name(name).build().map_err(unbuilt)?)
        }
        "none" => return Ok(Choice::None),
        _ => return Err(kind.wrong("must be \"auto\", \"any\", \"tool\" or \"none\"")),
    }))
}
