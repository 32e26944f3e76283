//! Blocks of content.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    super::{
        error::AnthropicError,
        messages::{Field, Object},
    },
    Walk,
    tools::is_plain,
    turns::{Side, Turns},
};

/// A PDF says within its first kilobyte that it is one.
const HEAD_OF_PDF: usize = 1024;

impl Walk<'_> {
    pub(super) fn block<'a>(
        &mut self,
        item: &Field<'a>,
        side: Side,
        turns: &mut Turns<'a>,
    ) -> Result<(), AnthropicError> {
        let block = item.object()?;
        let kind = block.must("type")?;
        match (kind.text()?, side) {
            ("text", _) => {
                self.text(&block)?;
                turns.text(block.must("text")?);
                return Ok(());
            }
            ("tool_use", Side::Assistant) => return self.tool_use(&block, turns),
            ("tool_result", Side::User) => return self.tool_result(&block, turns),
            ("image", Side::User) => self.image(&block)?,
            ("document", Side::User) => self.document(&block)?,
            ("search_result", Side::User) => self.search_result(&block)?,
            ("thinking", Side::Assistant) => {
                block.known(&["type", "thinking", "signature"], &[])?;
                block.must("thinking")?.text()?;
                block.must("signature")?.some_text()?;
            }
            ("redacted_thinking", Side::Assistant) => {
                block.known(&["type", "data"], &[])?;
                block.must("data")?.some_text()?;
            }
            ("tool_use" | "thinking" | "redacted_thinking", Side::User) => {
                return Err(kind.wrong("is for messages of the assistant"));
            }
            ("tool_result" | "image" | "document" | "search_result", Side::Assistant) => {
                return Err(kind.wrong("is for messages of the user"));
            }
            // What tools of the provider have said stands in the conversation, in forms of their own.
            (kind, Side::Assistant) if self.shape.is_of_allowed_tool(kind) => {}
            _ => return Err(kind.wrong("is no block that is taken here")),
        }
        turns.other();
        Ok(())
    }

    /// A text block, wherever it stands.
    pub(super) fn text(&mut self, block: &Object<'_>) -> Result<(), AnthropicError> {
        block.known(&["type", "text", "cache_control", "citations"], &["cache_control", "citations"])?;
        block.must("text")?.words()?;
        if let Some(cited) = block.may("citations") {
            cited.items()?.iter().try_for_each(|item| self.citation(item))?;
        }
        self.cache(block)
    }

    /// Where something in a text comes from, as an earlier answer has said it.
    fn citation(&self, item: &Field<'_>) -> Result<(), AnthropicError> {
        let citation = item.object()?;
        let kind = citation.must("type")?;
        let (texts, counts): (&[&str], &[&str]) = match kind.text()? {
            "char_location" => (&[], &["document_index", "start_char_index", "end_char_index"]),
            "page_location" => (&[], &["document_index", "start_page_number", "end_page_number"]),
            "content_block_location" => (&[], &["document_index", "start_block_index", "end_block_index"]),
            "search_result_location" => (&["source"], &["search_result_index", "start_block_index", "end_block_index"]),
            "web_search_result_location" if !self.shape.tools.is_empty() => (&["url", "encrypted_index"], &[]),
            _ => return Err(kind.wrong("is no citation that is taken here")),
        };
        let titles = ["document_title", "title", "file_id"];
        let known = [&["type", "cited_text"], texts, counts, &titles].concat();
        citation.known(&known, &titles)?;
        citation.must("cited_text")?.text()?;
        texts.iter().try_for_each(|name| citation.must(name)?.text().map(drop))?;
        counts.iter().try_for_each(|name| citation.must(name)?.count().map(drop))?;
        titles.iter().try_for_each(|name| citation.may(name).map(|field| field.text()).transpose().map(drop))
    }

    fn tool_use<'a>(&mut self, block: &Object<'a>, turns: &mut Turns<'a>) -> Result<(), AnthropicError> {
        let known = ["type", "id", "name", "input", "cache_control", "caller", "toolset_name"];
        block.known(&known, &["cache_control", "toolset_name"])?;
        block.must("name")?.some_text()?;
        block.must("input")?.object()?;
        if let Some(caller) = block.may("caller") {
            let caller = caller.object()?;
            let kind = caller.must("type")?;
            self.caller(&kind, kind.text()?)?;
            caller.known(if kind.value == "direct" { &["type"] } else { &["type", "tool_id"] }, &[])?;
        }
        self.toolset(block)?;
        self.cache(block)?;
        let id = block.must("id")?;
        if !is_plain(id.some_text()?) {
            return Err(id.wrong("must be letters, digits, hyphens and underscores"));
        }
        turns.uses(id)
    }

    fn tool_result<'a>(&mut self, block: &Object<'a>, turns: &mut Turns<'a>) -> Result<(), AnthropicError> {
        let known = ["type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name"];
        block.known(&known, &["cache_control", "toolset_name"])?;
        let failed = block.may("is_error").map(|field| field.truth()).transpose()?.unwrap_or(false);
        let content = block.may("content");
        let mut is_empty = true;
        if let Some(field) = &content {
            match field.value.as_str() {
                Some(text) => is_empty = text.is_empty(),
                None => {
                    for item in field.items()? {
                        is_empty = false;
                        self.piece_of_result(&item, failed)?;
                    }
                }
            }
        }
        if failed && is_empty {
            let problem = "must not be empty when is_error is true";
            return Err(content.map_or_else(|| block.wrong_member("content", problem), |field| field.wrong(problem)));
        }
        self.toolset(block)?;
        self.cache(block)?;
        turns.result(&block.must("tool_use_id")?)
    }

    fn piece_of_result(&mut self, item: &Field<'_>, failed: bool) -> Result<(), AnthropicError> {
        let block = item.object()?;
        let kind = block.must("type")?;
        match kind.text()? {
            "text" => self.text(&block),
            "image" | "document" | "search_result" if failed => {
                Err(kind.wrong("must be \"text\" when is_error is true"))
            }
            "image" => self.image(&block),
            "document" => self.document(&block),
            "search_result" => self.search_result(&block),
            "tool_reference" if !self.shape.tools.is_empty() => {
                block.known(&["type", "tool_name", "cache_control"], &["cache_control"])?;
                block.must("tool_name")?.some_text()?;
                self.cache(&block)
            }
            _ => Err(kind.wrong("is no block that is taken here")),
        }
    }

    /// A name that only tools of the provider have.
    fn toolset(&self, block: &Object<'_>) -> Result<(), AnthropicError> {
        match block.may("toolset_name") {
            Some(name) if self.shape.tools.is_empty() => Err(name.wrong("is not sold here")),
            Some(name) => name.some_text().map(drop),
            None => Ok(()),
        }
    }

    fn image(&mut self, block: &Object<'_>) -> Result<(), AnthropicError> {
        block.known(&["type", "source", "cache_control", "transformations"], &["cache_control", "transformations"])?;
        if let Some(changes) = block.may("transformations") {
            if self.shape.is_bedrock() {
                return Err(changes.wrong("is not supported for this model"));
            }
            let changes = changes.object()?;
            changes.known(&["oversized_image"], &[])?;
            changes.may("oversized_image").map(|field| field.one_of(&["downsize", "error"])).transpose()?;
        }
        let source = block.must("source")?.object()?;
        let kind = source.must("type")?;
        match kind.text()? {
            "base64" => {
                source.known(&["type", "media_type", "data"], &[])?;
                let media = source.must("media_type")?;
                let media = media.one_of(&["image/jpeg", "image/png", "image/gif", "image/webp"])?;
                let (data, bytes) = decoded(&source)?;
                if !is_image(media, &bytes) {
                    return Err(data.wrong("is not what media_type says"));
                }
            }
            _ => self.elsewhere(&source, &kind)?,
        }
        self.cache(block)
    }

    fn document(&mut self, block: &Object<'_>) -> Result<(), AnthropicError> {
        let known = ["type", "source", "title", "context", "citations", "cache_control"];
        block.known(&known, &["title", "context", "citations", "cache_control"])?;
        for name in ["title", "context"] {
            block.may(name).map(|field| field.text()).transpose()?;
        }
        citations(block)?;
        let source = block.must("source")?.object()?;
        let kind = source.must("type")?;
        match kind.text()? {
            "base64" => {
                source.known(&["type", "media_type", "data"], &[])?;
                source.must("media_type")?.one_of(&["application/pdf"])?;
                let (data, bytes) = decoded(&source)?;
                let head = bytes.get(..HEAD_OF_PDF).unwrap_or(&bytes);
                if !head.windows(5).any(|window| window == b"%PDF-") {
                    return Err(data.wrong("is not what media_type says"));
                }
            }
            "text" => {
                source.known(&["type", "media_type", "data"], &[])?;
                source.must("media_type")?.one_of(&["text/plain"])?;
                source.must("data")?.words()?;
            }
            "content" => {
                source.known(&["type", "content"], &[])?;
                let content = source.must("content")?;
                match content.value.is_string() {
                    true => drop(content.words()?),
                    false => content.some_items()?.iter().try_for_each(|item| self.piece_of_document(item))?,
                }
            }
            _ => self.elsewhere(&source, &kind)?,
        }
        self.cache(block)
    }

    fn piece_of_document(&mut self, item: &Field<'_>) -> Result<(), AnthropicError> {
        let block = item.object()?;
        match block.must("type")?.one_of(&["text", "image"])? {
            "image" => self.image(&block),
            _ => self.text(&block),
        }
    }

    fn search_result(&mut self, block: &Object<'_>) -> Result<(), AnthropicError> {
        block.known(&["type", "source", "title", "content", "citations", "cache_control"], &["cache_control"])?;
        for name in ["source", "title"] {
            block.must(name)?.some_text()?;
        }
        for item in block.must("content")?.some_items()? {
            let piece = item.object()?;
            piece.must("type")?.one_of(&["text"])?;
            self.text(&piece)?;
        }
        citations(block)?;
        self.cache(block)
    }

    /// A source that the provider would have to fetch. A file is the merchant's own, and no client's business.
    fn elsewhere(&self, source: &Object<'_>, kind: &Field<'_>) -> Result<(), AnthropicError> {
        if kind.value != "url" || self.shape.is_bedrock() {
            return Err(kind.wrong("is no source that is taken here"));
        }
        source.known(&["type", "url"], &[])?;
        let url = source.must("url")?;
        match url.text()?.strip_prefix("https://") {
            Some(rest) if !rest.is_empty() => Ok(()),
            _ => Err(url.wrong("must begin with https://")),
        }
    }
}

/// Whether sources are to be cited.
fn citations(block: &Object<'_>) -> Result<(), AnthropicError> {
    let Some(field) = block.may("citations") else { return Ok(()) };
    let config = field.object()?;
    config.known(&["enabled"], &[])?;
    config.may("enabled").map(|field| field.truth()).transpose().map(drop)
}

fn decoded<'a>(source: &Object<'a>) -> Result<(Field<'a>, Vec<u8>), AnthropicError> {
    let data = source.must("data")?;
    match BASE64_STANDARD.decode(data.some_text()?) {
        Ok(bytes) => Ok((data, bytes)),
        Err(_) => Err(data.wrong("must be base64")),
    }
}

/// Whether it begins as such an image does: the provider looks as well.
fn is_image(media: &str, bytes: &[u8]) -> bool {
    match media {
        "image/png" => bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
        "image/jpeg" => bytes.starts_with(b"\xff\xd8\xff"),
        "image/gif" => bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a"),
        _ => bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
    }
}
