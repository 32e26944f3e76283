//! What a body for a model of Anthropic may say: what is refused is refused before anybody pays, by the name of the
//! member, and what Anthropic takes is sent.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tower_mpp::upstream::{
    Stage,
    bedrock::{Bedrock, MessagesShape},
};

use crate::{CLAUDE, NOVA, ask, aws::Aws, bedrock, builder, hello};

fn user(content: Value) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

fn tool(name: &str) -> Value {
    json!({"name": name, "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}})
}

/// A use of a tool, and what comes after it.
fn after_use(next: Value) -> Value {
    json!({"tools": [tool("f")], "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
        {"role": "user", "content": next},
    ]})
}

fn result(id: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": "4"})
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn image(media: &str, bytes: &[u8]) -> Value {
    json!({"type": "image", "source": {"type": "base64", "media_type": media, "data": base64(bytes)}})
}

fn png() -> Value {
    image("image/png", b"\x89PNG\r\n\x1a\n...")
}

fn document(source: Value) -> Value {
    json!({"type": "document", "source": source})
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    value.as_object_mut().unwrap().insert(name.to_owned(), member);
    value
}

/// What both ways to Anthropic's models take.
fn good() -> Vec<Value> {
    let ephemeral = json!({"type": "ephemeral"});
    let cited = json!([{"type": "char_location", "cited_text": "x", "document_index": 0, "document_title": null,
        "start_char_index": 0, "end_char_index": 1, "file_id": null}]);
    let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": base64(b"%PDF-1.7 ...")});
    let plain = json!({"type": "text", "media_type": "text/plain", "data": "words"});
    let text = json!({"type": "text", "text": "x"});
    vec![
        json!({}),
        json!({"temperature": 1, "top_p": 0.5, "top_k": 40, "stop_sequences": ["END"], "stream": true}),
        json!({"metadata": {"user_id": null}, "system": "be brief", "service_tier": "auto"}),
        json!({"system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}),
        json!({"cache_control": {"type": "ephemeral"}, "output_config": {"effort": "high", "format": null}}),
        json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
        json!({"max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024, "display": null}}),
        json!({"thinking": {"type": "adaptive", "display": "omitted"}, "temperature": 1}),
        json!({"thinking": {"type": "disabled"}, "temperature": 0}),
        json!({"tools": [tool("f")], "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
        json!({"tools": [tool("f"), with(tool("g-1"), "type", json!("custom"))], "tool_choice": {"type": "tool", "name": "f"}}),
        json!({"tools": [tool("f")], "tool_choice": {"type": "none"}}),
        json!({"tools": [{"type": null, "name": "f", "description": "", "input_schema": {"type": "object", "required": []},
            "cache_control": ephemeral, "strict": true, "eager_input_streaming": null, "allowed_callers": ["direct"],
            "input_examples": [{}], "defer_loading": false}]}),
        json!({"tools": []}),
        user(json!([text, png(), image("image/jpeg", b"\xff\xd8\xff\xe0"), image("image/gif", b"GIF89a")])),
        user(json!([with(image("image/webp", b"RIFF\0\0\0\0WEBPVP8 "), "cache_control", ephemeral.clone())])),
        user(json!([with(document(pdf.clone()), "citations", json!({"enabled": true})), text])),
        user(json!([{"type": "document", "source": plain, "title": "t", "context": null, "cache_control": null}])),
        user(json!([document(json!({"type": "content", "content": [text, png()]}))])),
        user(json!([document(json!({"type": "content", "content": "x"}))])),
        user(
            json!([{"type": "search_result", "source": "s", "title": "t", "content": [text], "citations": {"enabled": true}}]),
        ),
        // What an answer looks like when a client sends it back.
        json!({"messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "ZGF0YQ=="},
                {"type": "text", "text": "I look.", "citations": null},
                {"type": "text", "text": "I have looked.", "citations": cited},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {}, "caller": {"type": "direct"}, "toolset_name": null},
                {"type": "tool_use", "id": "t2", "name": "f", "input": {"city": "Oslo"}},
            ]},
            {"role": "user", "content": [
                with(result("t2"), "cache_control", ephemeral),
                {"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": [text]},
                text,
            ]},
        ], "tools": [tool("f")]}),
        // Messages of one side are one turn.
        json!({"messages": [
            {"role": "user", "content": "go"}, {"role": "user", "content": "on"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t2", "name": "f", "input": {}}]},
            {"role": "user", "content": [result("t1")]}, {"role": "user", "content": [result("t2"), text]},
            {"role": "assistant", "content": "It is"},
        ], "tools": [tool("f")]}),
        after_use(json!([{"type": "tool_result", "tool_use_id": "t1"}])),
        after_use(json!([{"type": "tool_result", "tool_use_id": "t1", "content": ""}])),
        after_use(json!([{"type": "tool_result", "tool_use_id": "t1", "content": [png(), document(pdf)]}])),
    ]
}

/// What neither takes, and where it is.
fn bad() -> Vec<(Value, &'static str)> {
    let text = json!({"type": "text", "text": "x"});
    let cached = json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}});
    let said = |block: Value| json!({"messages": [{"role": "user", "content": "go"}, {"role": "assistant", "content": [block]}]});
    vec![
        // The three of the review.
        (user(json!([{"type": "text"}])), "messages.0.content.0.text"),
        (json!({"tools": [{"name": "f"}]}), "tools.0.input_schema"),
        (json!({"frequency_penalty": 0}), "frequency_penalty"),
        (json!({"speed": "fast"}), "speed"),
        (json!({"mcp_servers": []}), "mcp_servers"),
        (json!({"container": null}), "container"),
        (json!({"inference_geo": "us"}), "inference_geo"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (json!({"system": null}), "system"),
        (json!({"system": " "}), "system"),
        (json!({"system": [{"type": "image"}]}), "system.0.type"),
        (json!({"system": [{"type": "text", "text": ""}]}), "system.0.text"),
        (json!({"temperature": 1.01}), "temperature"),
        (json!({"temperature": null}), "temperature"),
        (json!({"top_p": -0.1}), "top_p"),
        (json!({"top_k": -1}), "top_k"),
        (json!({"stop_sequences": ["\n"]}), "stop_sequences.0"),
        (json!({"stop_sequences": "END"}), "stop_sequences"),
        (json!({"stream": 1}), "stream"),
        (json!({"metadata": {"user": "u"}}), "metadata.user"),
        (json!({"output_config": {"effort": "utmost"}}), "output_config.effort"),
        (json!({"output_config": {"format": {"type": "json_schema"}}}), "output_config.format.schema"),
        (
            json!({"cache_control": {"type": "for ever"}, "system": [with(cached.clone(), "cache_control", json!({"type": "for ever"}))]}),
            "system.0.cache_control.type",
        ),
        (json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1023}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "adaptive"}, "temperature": 0.5}), "temperature"),
        (json!({"thinking": {"type": "adaptive"}, "top_k": 5}), "top_k"),
        (
            json!({"thinking": {"type": "adaptive"}, "tools": [tool("f")], "tool_choice": {"type": "any"}}),
            "tool_choice.type",
        ),
        (json!({"thinking": {"type": "deep"}}), "thinking.type"),
        (json!({"thinking": {"type": "disabled", "budget_tokens": 1}}), "thinking.budget_tokens"),
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "tools.0.type"),
        (json!({"tools": [{"type": "bash_20250124", "name": "bash"}]}), "tools.0.type"),
        (json!({"tools": [with(tool("f"), "parameters", json!({}))]}), "tools.0.parameters"),
        (json!({"tools": [with(tool("f"), "input_schema", json!([]))]}), "tools.0.input_schema"),
        (json!({"tools": [with(tool("f"), "input_schema", json!({}))]}), "tools.0.input_schema.type"),
        (json!({"tools": [tool("f f")]}), "tools.0.name"),
        (json!({"tools": [tool("f"), tool("f")]}), "tools.1.name"),
        (
            json!({"tools": [with(tool("f"), "allowed_callers", json!(["code_execution_20260120"]))]}),
            "tools.0.allowed_callers.0",
        ),
        (json!({"tools": [with(tool("f"), "defer_loading", json!(true))]}), "tools.0.defer_loading"),
        (json!({"tools": {}}), "tools"),
        (json!({"tool_choice": {"type": "auto"}}), "tool_choice"),
        (json!({"tools": [tool("f")], "tool_choice": "auto"}), "tool_choice"),
        (json!({"tools": [tool("f")], "tool_choice": {"type": "tool", "name": "g"}}), "tool_choice.name"),
        (json!({"tools": [tool("f")], "tool_choice": {"type": "function"}}), "tool_choice.type"),
        (
            json!({"tools": [tool("f")], "tool_choice": {"type": "none", "disable_parallel_tool_use": true}}),
            "tool_choice.disable_parallel_tool_use",
        ),
        (json!({"messages": [{"role": "system", "content": "x"}]}), "messages.0.role"),
        (json!({"messages": [{"role": "assistant", "content": "x"}]}), "messages.0.role"),
        (json!({"messages": [{"role": "user", "content": "x", "name": "n"}]}), "messages.0.name"),
        (json!({"messages": [{"role": "user"}]}), "messages.0.content"),
        (user(json!(" \n")), "messages.0.content"),
        (user(json!([])), "messages.0.content"),
        (user(json!(7)), "messages.0.content"),
        (user(json!([{"text": "x"}])), "messages.0.content.0.type"),
        (user(json!([{"type": "text", "text": ""}])), "messages.0.content.0.text"),
        (user(json!([{"type": "text", "text": "x", "unheard_of": 1}])), "messages.0.content.0.unheard_of"),
        (
            user(json!([{"type": "text", "text": "x", "citations": [{"type": "char_location"}]}])),
            "messages.0.content.0.citations.0.cited_text",
        ),
        (user(json!([{"type": "video", "source": {}}])), "messages.0.content.0.type"),
        (user(json!([{"type": "container_upload", "file_id": "f"}])), "messages.0.content.0.type"),
        (user(json!([{"type": "image", "source": {}}])), "messages.0.content.0.source.type"),
        (
            user(json!([{"type": "image", "source": {"type": "file", "file_id": "f"}}])),
            "messages.0.content.0.source.type",
        ),
        (user(json!([image("image/tiff", b"II*\0")])), "messages.0.content.0.source.media_type"),
        (user(json!([image("image/png", b"GIF89a")])), "messages.0.content.0.source.data"),
        (user(json!([image("image/png", b"")])), "messages.0.content.0.source.data"),
        (
            user(json!([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "!"}}])),
            "messages.0.content.0.source.data",
        ),
        (
            user(json!([document(
                json!({"type": "base64", "media_type": "application/pdf", "data": base64(b"words")})
            )])),
            "messages.0.content.0.source.data",
        ),
        (user(json!([document(json!({"type": "text", "data": "words"}))])), "messages.0.content.0.source.media_type"),
        (
            user(json!([document(json!({"type": "content", "content": [document(json!({}))]}))])),
            "messages.0.content.0.source.content.0.type",
        ),
        (
            user(json!([{"type": "search_result", "source": "s", "title": "t", "content": []}])),
            "messages.0.content.0.content",
        ),
        (user(json!([{"type": "thinking", "thinking": "x", "signature": "s"}])), "messages.0.content.0.type"),
        (said(json!({"type": "thinking", "thinking": "x"})), "messages.1.content.0.signature"),
        (
            said(json!({"type": "thinking", "thinking": "x", "signature": "s", "cache_control": null})),
            "messages.1.content.0.cache_control",
        ),
        (said(json!({"type": "redacted_thinking"})), "messages.1.content.0.data"),
        (said(png()), "messages.1.content.0.type"),
        (
            said(json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}})),
            "messages.1.content.0.type",
        ),
        (said(json!({"type": "text", "text": "It is "})), "messages.1.content.0.text"),
        (said(json!({"type": "tool_use", "id": "t 1", "name": "f", "input": {}})), "messages.1.content.0.id"),
        (said(json!({"type": "tool_use", "id": "t1", "name": "f", "input": "{}"})), "messages.1.content.0.input"),
        (said(json!({"type": "tool_use", "id": "t1", "name": "f", "input": {}})), "messages.1.content.0.id"),
        (after_use(json!("and?")), "messages.1.content.0.id"),
        (after_use(json!([result("t2")])), "messages.2.content.0.tool_use_id"),
        (after_use(json!([result("t1"), result("t1")])), "messages.2.content.1.tool_use_id"),
        (after_use(json!([text, result("t1")])), "messages.2.content.1.tool_use_id"),
        (
            after_use(json!([{"type": "tool_result", "tool_use_id": "t1", "is_error": true}])),
            "messages.2.content.0.content",
        ),
        (
            after_use(json!([{"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": [png()]}])),
            "messages.2.content.0.content.0.type",
        ),
        (
            after_use(json!([{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "json", "json": {}}]}])),
            "messages.2.content.0.content.0.type",
        ),
        (user(json!([cached, cached, cached, cached, cached])), "messages.0.content.4.cache_control"),
    ]
}

#[tokio::test]
async fn what_anthropic_takes_is_taken() {
    let bedrock = bedrock(&Aws::default());
    for more in good() {
        let body = hello(CLAUDE, more).to_string();
        assert_eq!(bedrock.check(body.as_bytes()), Ok(()), "{body}");
        // That tier is for whoever pays for it.
        let body = body.replace(",\"service_tier\":\"auto\"", "");
        assert_eq!(MessagesShape::new().check(body.as_bytes()), Ok(()), "{body}");
    }
}

#[tokio::test]
async fn what_it_would_refuse_is_refused_here_by_the_name_of_the_member() {
    let bedrock = bedrock(&Aws::default());
    for (more, named) in bad() {
        let body = hello(CLAUDE, more).to_string();
        for refused in [bedrock.check(body.as_bytes()), MessagesShape::new().check(body.as_bytes())] {
            let error = refused.expect_err(&body);
            assert_eq!(error.status(), 400, "{body}");
            assert!(error.message().starts_with(&format!("{named}: ")), "{}: {body}", error.message());
        }
    }
}

#[tokio::test]
async fn nothing_of_that_is_sent() {
    let aws = Aws::default();
    let answered =
        ask(&aws, hello(CLAUDE, json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}))).await;
    assert_eq!(
        (answered.status, answered.error().0.as_str(), answered.stage()),
        (400, "invalid_request_error", Stage::NotStarted)
    );
}

#[tokio::test]
async fn only_anthropic_itself_fetches_what_is_elsewhere() {
    let at = |url: &str| {
        user(json!([{"type": "image", "source": {"type": "url", "url": url}},
        document(json!({"type": "url", "url": url}))]))
    };
    let body = |more| hello(CLAUDE, more).to_string();
    let by_url = body(at("https://example.com/a"));
    assert_eq!(MessagesShape::new().check(by_url.as_bytes()), Ok(()));
    let refused = bedrock(&Aws::default()).check(by_url.as_bytes()).unwrap_err();
    assert!(refused.message().starts_with("messages.0.content.0.source.type: "), "{refused}");
    for url in ["http://example.com/a", "https://", "file:///etc/passwd"] {
        let refused = MessagesShape::new().check(body(at(url)).as_bytes()).unwrap_err();
        assert_eq!(refused.message(), "messages.0.content.0.source.url: must begin with https://");
    }
}

#[tokio::test]
async fn what_a_merchant_allows_is_taken_and_nothing_else() {
    let searches = json!({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 1}], "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}},
            {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
            {"type": "text", "text": "found", "citations": [{"type": "web_search_result_location", "cited_text": "x",
                "url": "https://example.com", "title": null, "encrypted_index": "e"}]},
        ]},
        {"role": "user", "content": "more"},
    ]});
    let body = hello(CLAUDE, searches).to_string();
    let shape = MessagesShape::new().allow_tool("web_search_20250305").allow_member("service_tier");
    assert_eq!(shape.check(body.as_bytes()), Ok(()));
    assert!(shape.check(body.replace("20250305", "20260209").as_bytes()).is_err());
    assert_eq!(shape.check(hello(CLAUDE, json!({"service_tier": "auto"})).to_string().as_bytes()), Ok(()));
    let allowing: Bedrock =
        builder(&Aws::default()).allow_tool("web_search_20250305").allow_member("extra").build().unwrap();
    assert_eq!(allowing.check(body.as_bytes()), Ok(()));
    assert_eq!(allowing.check(hello(CLAUDE, json!({"extra": {"any": null}})).to_string().as_bytes()), Ok(()));
    // That is about Anthropic's own bodies: Converse cannot say it.
    assert!(allowing.check(hello(NOVA, json!({"extra": 1})).to_string().as_bytes()).is_err());
    let longer = hello(CLAUDE, json!({"thinking": {"type": "enabled", "budget_tokens": 4000}})).to_string();
    assert_eq!(MessagesShape::new().allow_beta("interleaved-thinking-2025-05-14").check(longer.as_bytes()), Ok(()));
}

#[tokio::test]
async fn nobody_reads_another_body_than_was_checked() {
    let bedrock = bedrock(&Aws::default());
    let body = hello(CLAUDE, json!({"tools": [tool("f")]})).to_string();
    for twice in [
        body.replace("\"name\":\"f\"", "\"name\":\"f\",\"type\":\"bash_20250124\",\"type\":\"custom\""),
        body.replacen('{', "{\"tools\":[],", 1),
    ] {
        let refused = bedrock.check(twice.as_bytes()).unwrap_err();
        assert!(refused.message().contains("is there twice"), "{refused}");
    }
    let long = body.replacen('{', &format!("{{\"{}\":1,", "x\\n".repeat(5000)), 1);
    let refused = bedrock.check(long.as_bytes()).unwrap_err();
    assert!(refused.message().len() < 200 && !refused.message().contains('\n'), "{refused}");
    assert!(bedrock.check(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).as_bytes()).is_err());
}
