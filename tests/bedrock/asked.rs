//! What Converse is asked for what a client asks, and what is refused because Converse cannot say it.

use http::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tower_mpp::upstream::{
    Body, Stage,
    bedrock::{Bedrock, BedrockModel},
};

use crate::{
    CLAUDE, NOVA, ask,
    aws::{Aws, json},
    bedrock, builder, hello, post, send,
    support::Frames,
    whole::conversed,
};

/// What is sent for a request.
async fn sent(model: &str, request: Value) -> Value {
    let aws = Aws::says([json(&conversed(json!([{"text": "x"}]), "end_turn"))]);
    let mut body = hello(model, json!({}));
    body.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
    let bedrock = Bedrock::builder(aws.client()).model(BedrockModel::new(model).converse()).build().unwrap();
    let answered = send(&bedrock, post(&body)).await;
    assert_eq!(answered.status, 200, "{}", answered.text);
    aws.request().body
}

/// Why a request is refused, before anything is sent.
async fn refused(request: Value) -> String {
    let mut body = hello(NOVA, json!({}));
    body.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
    let answered = ask(&Aws::default(), body).await;
    let (kind, message) = answered.error();
    assert_eq!((answered.status, kind.as_str(), answered.stage()), (400, "invalid_request_error", Stage::NotStarted));
    message
}

fn user(content: Value) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

#[tokio::test]
async fn a_round_trip_of_a_tool() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let request = json!({
        "messages": [
            {"role": "user", "content": "The weather?"},
            {"role": "assistant", "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "4 degrees"},
                {"type": "tool_result", "tool_use_id": "t2", "is_error": true, "content": [
                    {"type": "text", "text": "no city"},
                    {"type": "json", "json": {"code": 7}},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
                ]},
            ]},
        ],
        "tools": [{"name": "weather", "description": "Tells it.", "input_schema": schema}],
        "tool_choice": {"type": "tool", "name": "weather"},
    });
    let sent = sent(NOVA, request).await;
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "user", "content": [{"text": "The weather?"}]},
            {"role": "assistant", "content": [
                {"text": "I look."},
                {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo"}}},
                {"toolUse": {"toolUseId": "t2", "name": "weather", "input": {}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "t1", "content": [{"text": "4 degrees"}]}},
                {"toolResult": {"toolUseId": "t2", "status": "error", "content": [
                    {"text": "no city"},
                    {"json": {"code": 7}},
                    {"image": {"format": "png", "source": {"bytes": "iVBORw=="}}},
                ]}},
            ]},
        ])
    );
    assert_eq!(
        sent["toolConfig"],
        json!({
            "tools": [{"toolSpec": {"name": "weather", "description": "Tells it.", "inputSchema": {"json": schema}}}],
            "toolChoice": {"tool": {"name": "weather"}},
        })
    );
}

#[tokio::test]
async fn each_choice_of_tools() {
    let tools = json!([{"name": "t", "input_schema": {"type": "object"}}]);
    for (choice, expected) in [
        (json!({"type": "auto"}), json!({"auto": {}})),
        (json!({"type": "any"}), json!({"any": {}})),
        (json!({"type": "auto", "disable_parallel_tool_use": false}), json!({"auto": {}})),
        (Value::Null, Value::Null),
    ] {
        let sent = sent(NOVA, json!({"tools": tools, "tool_choice": choice})).await;
        assert_eq!(sent["toolConfig"]["toolChoice"], expected, "{choice}");
    }
    // None: the model is not told of any.
    let sent = sent(NOVA, json!({"tools": tools, "tool_choice": {"type": "none"}})).await;
    assert_eq!(sent.get("toolConfig"), None);
    let used = json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "t", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]},
    ]);
    let why = refused(json!({"tools": tools, "tool_choice": {"type": "none"}, "messages": used})).await;
    assert_eq!(why, "tool_choice: \"none\" after the use of tools is not supported for this model");
    let one = json!({"type": "any", "disable_parallel_tool_use": true});
    assert!(refused(json!({"tools": tools, "tool_choice": one})).await.contains("disable_parallel_tool_use"));
    assert_eq!(refused(json!({"tool_choice": {"type": "any"}})).await, "tool_choice: needs tools");
    let own = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    assert!(refused(json!({"tools": own})).await.starts_with("tools.0.type: must be"));
}

#[tokio::test]
async fn images_and_documents_are_decoded() {
    let image =
        |media: &str| json!({"type": "image", "source": {"type": "base64", "media_type": media, "data": "AQID"}});
    let content = json!([
        image("image/png"), image("image/jpeg"), image("image/gif"), image("image/webp"),
        {"type": "document", "title": "Q3: 50% up/down_", "source":
            {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
        {"type": "text", "text": "What is it?"},
    ]);
    let sent = sent(NOVA, user(content)).await;
    let image = |format: &str| json!({"image": {"format": format, "source": {"bytes": "AQID"}}});
    assert_eq!(
        sent["messages"][0]["content"],
        json!([
            image("png"), image("jpeg"), image("gif"), image("webp"),
            {"document": {"format": "pdf", "name": "Q3 50 up down 1", "source": {"bytes": "JVBERg=="}}},
            {"document": {"format": "txt", "name": "document 2", "source": {"bytes": "cGxhaW4="}}},
            {"text": "What is it?"},
        ])
    );
    // Nothing is fetched for anybody.
    for kind in ["image", "document"] {
        let url = json!([{"type": kind, "source": {"type": "url", "url": "http://169.254.169.254/"}}]);
        let why = refused(user(url)).await;
        assert!(
            why.starts_with("messages.0.content.0.source.type: must be") && why.contains("nothing is fetched"),
            "{why}"
        );
    }
    let bad = json!([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "!"}}]);
    assert_eq!(refused(user(bad)).await, "messages.0.content.0.source.data: must be base64");
    let bad = json!([{"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": "AQID"}}]);
    assert!(refused(user(bad)).await.starts_with("messages.0.content.0.source.media_type: must be image/png"));
}

#[tokio::test]
async fn turns_of_one_side_become_one() {
    let sent = sent(NOVA, json!({"messages": [
        {"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "AQID"},
            {"type": "thinking", "thinking": "unsigned", "signature": ""}, {"type": "text", "text": "c"},
        ]},
        {"role": "user", "content": "d"},
    ]}))
    .await;
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "user", "content": [{"text": "a"}, {"text": "b"}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "AQID"}},
                {"reasoningContent": {"reasoningText": {"text": "unsigned"}}},
                {"text": "c"},
            ]},
            {"role": "user", "content": [{"text": "d"}]},
        ])
    );
}

#[tokio::test]
async fn a_cache_point_stands_where_the_family_has_a_cache() {
    let request = |ttl: Value| {
        json!({
            "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": ttl}}],
            "messages": [{"role": "user", "content": [
                {"type": "text", "text": "m", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "n"},
            ]}],
            "tools": [{"name": "t", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        })
    };
    let point = json!({"cachePoint": {"type": "default"}});
    let claude = sent(CLAUDE, request(json!("1h"))).await;
    assert_eq!(claude["system"], json!([{"text": "s"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]));
    assert_eq!(claude["messages"][0]["content"], json!([{"text": "m"}, point, {"text": "n"}]));
    assert_eq!(claude["toolConfig"]["tools"][1], point);
    let nova = sent(NOVA, request(json!("1h"))).await;
    assert_eq!(nova["system"], json!([{"text": "s"}, point]));
    assert_eq!(nova["toolConfig"]["tools"].as_array().unwrap().len(), 1);
    let llama = sent("meta.llama3-8b-instruct-v1:0", request(Value::Null)).await;
    assert!(!llama.to_string().contains("cachePoint"), "{llama}");
}

#[tokio::test]
async fn what_each_family_has_of_its_own() {
    let top_k = json!({"top_k": 40});
    for (model, fields) in [
        (NOVA, json!({"inferenceConfig": {"topK": 40}})),
        (CLAUDE, json!({"top_k": 40})),
        ("mistral.mistral-large-2402-v1:0", json!({"top_k": 40})),
        ("cohere.command-r-v1:0", json!({"k": 40})),
    ] {
        assert_eq!(sent(model, top_k.clone()).await["additionalModelRequestFields"], fields, "{model}");
    }
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}});
    assert_eq!(sent(CLAUDE, thinking.clone()).await["additionalModelRequestFields"], thinking);
    assert_eq!(refused(thinking).await, "thinking: is not supported for this model");
    assert_eq!(sent(NOVA, json!({"thinking": {"type": "disabled"}})).await.get("additionalModelRequestFields"), None);
    let llama = Bedrock::builder(Aws::default().client()).model(BedrockModel::new("meta.llama3-8b-instruct-v1:0"));
    let answered = send(&llama.build().unwrap(), post(&hello("meta.llama3-8b-instruct-v1:0", top_k))).await;
    assert_eq!(answered.error().1, "top_k: is not supported for this model");
}

#[tokio::test]
async fn hints_are_left_out_and_everything_else_is_refused_by_its_path() {
    let hints = json!({"metadata": {"user_id": "u-1"}, "service_tier": "auto", "cache_control": {"type": "ephemeral"},
        "stop_sequences": [], "system": "", "tools": []});
    let sent = sent(NOVA, hints).await;
    assert_eq!(
        sent,
        json!({
            "messages": [{"role": "user", "content": [{"text": "Hello"}]}], "inferenceConfig": {"maxTokens": 100},
        })
    );
    for (request, why) in [
        (json!({"mcp_servers": []}), "mcp_servers: is not supported for this model"),
        (json!({"temperature": 1.5}), "temperature: must be a number from 0 to 1"),
        (json!({"top_p": "1"}), "top_p: must be a number from 0 to 1"),
        (json!({"max_tokens": 3_000_000_000_u64}), "max_tokens: must be at least 1, and less than 2^31"),
        (json!({"stop_sequences": [1]}), "stop_sequences.0: must be a string"),
        (json!({"system": [{"type": "image"}]}), "system.0: must be a text block"),
        (
            json!({"messages": [{"role": "system", "content": "x"}]}),
            "messages.0.role: must be \"user\" or \"assistant\"",
        ),
        (json!({"messages": [{"role": "user"}]}), "messages.0.content: is required"),
        (json!({"messages": [{"role": "user", "content": []}]}), "messages.0.content: must not be empty"),
        (json!({"messages": "x"}), "messages: must be an array"),
        (user(json!([{"type": "text", "text": ""}])), "messages.0.content.0.text: must not be empty"),
        (user(json!([{"type": "video"}])), "messages.0.content.0.type: is not supported here for this model"),
        (
            user(json!([{"type": "tool_use", "id": "a", "name": "b", "input": {}}])),
            "messages.0.content.0.type: is not supported here for this model",
        ),
        (
            user(json!([{"type": "document", "citations": {"enabled": true}, "source": {"type": "text"}}])),
            "messages.0.content.0.citations: are not supported for this model",
        ),
    ] {
        assert_eq!(refused(request.clone()).await, why, "{request}");
    }
}

#[tokio::test]
async fn what_is_no_request_for_a_message_is_told_so() {
    let aws = Aws::default();
    for (change, status, kind) in [
        ("path", 404, "not_found_error"),
        ("method", 405, "invalid_request_error"),
        ("garbage", 400, "invalid_request_error"),
        ("large", 413, "request_too_large"),
        ("broken", 400, "invalid_request_error"),
    ] {
        let mut request = post(&hello(NOVA, json!({})));
        match change {
            "path" => *request.uri_mut() = "/v1/messages/count_tokens".parse().unwrap(),
            "method" => *request.method_mut() = Method::GET,
            "garbage" => *request.body_mut() = Body::from("{\"model\""),
            "large" => *request.body_mut() = Body::from(vec![b' '; 2000]),
            _ => *request.body_mut() = Body::new(Frames::of(["{"]).broken()),
        }
        let answered = send(&builder(&aws).max_request_bytes(1000).build().unwrap(), request).await;
        assert_eq!((answered.status, answered.error().0.as_str()), (status, kind), "{change}");
        assert_eq!(answered.stage(), Stage::NotStarted);
        assert_eq!(answered.headers.get("allow").is_some(), change == "method");
    }
    assert!(aws.sent().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_come_to_its_end_is_not_waited_for() {
    let request = post(&json!({})).map(|_| Body::new(Frames::of(["{"]).hanging()));
    let answered = send(&bedrock(&Aws::default()), request).await;
    assert_eq!((answered.status, answered.stage()), (408, Stage::NotStarted));
    assert_eq!(answered.headers[CONTENT_TYPE], "application/json");
}
