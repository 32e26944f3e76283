//! Whole answers: what is sent, and what a client reads.

use serde_json::{Value, json};
use tower_mpp::{
    receipt::{CostConfidence, Provider},
    upstream::Stage,
};

use crate::{
    CLAUDE, NOVA, ask,
    aws::{Aws, REGION, json},
    builder, hello, post, send,
};

/// An answer of Converse.
pub(crate) fn conversed(content: Value, stop: &str) -> Value {
    json!({
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop,
        "usage": {"inputTokens": 12, "outputTokens": 7, "totalTokens": 19},
        "metrics": {"latencyMs": 321},
    })
}

fn text() -> Value {
    conversed(json!([{"text": "Hello there."}]), "end_turn")
}

#[tokio::test]
async fn an_answer_of_converse_is_one_of_the_messages_api() {
    let aws = Aws::says([json(&text())]);
    let system = json!({"system": "Be brief.", "temperature": 0.5, "top_p": 0.25, "stop_sequences": ["END"]});
    let answered = ask(&aws, hello(NOVA, system)).await;
    assert_eq!(answered.status, 200, "{}", answered.text);
    let mut answer = answered.json();
    let id = answer["id"].take();
    assert!(id.as_str().unwrap().starts_with("msg_") && id.as_str().unwrap().len() > 30, "{id}");
    assert_eq!(
        answer,
        json!({
            "id": null, "type": "message", "role": "assistant", "model": NOVA,
            "content": [{"type": "text", "text": "Hello there."}],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {
                "input_tokens": 12, "output_tokens": 7,
                "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
            },
        })
    );
    assert!(answered.headers["request-id"].to_str().unwrap().starts_with("req_"));

    let sent = aws.request();
    assert!(sent.path.ends_with("/model/us.amazon.nova-micro-v1%3A0/converse"), "{}", sent.path);
    assert_eq!(
        sent.body,
        json!({
            "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
            "system": [{"text": "Be brief."}],
            "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]},
        })
    );
}

#[tokio::test]
async fn a_receipt_says_what_the_call_has_used_and_cost() {
    let mut used = text();
    used["usage"] = json!({"inputTokens": 1000, "outputTokens": 200, "totalTokens": 1200,
        "cacheReadInputTokens": 0, "cacheWriteInputTokens": 0});
    let aws = Aws::says([json(&used)]);
    let answered = ask(&aws, hello("fast", json!({}))).await;
    assert_eq!(answered.stage(), Stage::Finished);
    let receipt = answered.report.body();
    assert_eq!(receipt.provider, Some(Provider::AwsBedrock));
    assert_eq!((receipt.model_id.as_deref(), receipt.region.as_deref()), (Some(NOVA), Some(REGION)));
    assert_eq!((receipt.input_tokens, receipt.output_tokens), (Some(1000), Some(200)));
    assert_eq!((receipt.cache_read_tokens, receipt.cache_write_tokens), (Some(0), Some(0)));
    assert_eq!(receipt.tokens_source.as_deref(), Some("provider"));
    assert_eq!(receipt.provider_status, Some(200));
    // 1,000 at 0.035 dollars a million, and 200 at 0.14.
    assert_eq!(receipt.cost_estimated_usd.unwrap().to_string(), "0.000063");
    assert_eq!(receipt.cost_estimate_confidence, Some(CostConfidence::Complete));
    assert_eq!((receipt.error_class, receipt.error_code), (None, None));
}

#[tokio::test]
async fn tokens_of_the_cache_are_counted_and_a_cost_without_their_price_is_partial() {
    let mut used = text();
    used["usage"] = json!({"inputTokens": 3, "outputTokens": 4, "totalTokens": 18,
        "cacheReadInputTokens": 5, "cacheWriteInputTokens": 6});
    let answered = ask(&Aws::says([json(&used)]), hello(NOVA, json!({}))).await;
    assert_eq!(
        answered.json()["usage"],
        json!({"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 6})
    );
    let receipt = answered.report.body();
    assert_eq!((receipt.cache_read_tokens, receipt.cache_write_tokens), (Some(5), Some(6)));
    assert_eq!(receipt.cost_estimate_confidence, Some(CostConfidence::Partial));
}

#[tokio::test]
async fn every_reason_to_stop_has_a_name() {
    for (bedrock, anthropic) in [
        ("end_turn", "end_turn"),
        ("tool_use", "tool_use"),
        ("max_tokens", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("guardrail_intervened", "refusal"),
        ("content_filtered", "refusal"),
        ("model_context_window_exceeded", "model_context_window_exceeded"),
        ("a_reason_of_the_future", "end_turn"),
    ] {
        let aws = Aws::says([json(&conversed(json!([{"text": "x"}]), bedrock))]);
        let answer = ask(&aws, hello(NOVA, json!({"stop_sequences": ["END"]}))).await.json();
        assert_eq!(answer["stop_reason"], anthropic, "{bedrock}");
        let sequence = if bedrock == "stop_sequence" { json!("END") } else { Value::Null };
        assert_eq!(answer["stop_sequence"], sequence, "{bedrock}");
    }
    // Which of two it was, nobody says.
    let aws = Aws::says([json(&conversed(json!([{"text": "x"}]), "stop_sequence"))]);
    let answer = ask(&aws, hello(NOVA, json!({"stop_sequences": ["A", "B"]}))).await.json();
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!("stop_sequence"), &Value::Null));
}

#[tokio::test]
async fn an_answer_that_the_model_has_made_badly_is_none() {
    for stop in ["malformed_model_output", "malformed_tool_use"] {
        let aws = Aws::says([json(&conversed(json!([{"text": "x"}]), stop))]);
        let answered = ask(&aws, hello(NOVA, json!({}))).await;
        assert_eq!((answered.status, answered.error().0.as_str()), (502, "api_error"));
        assert_eq!(answered.stage(), Stage::Started, "the model has worked");
        assert_eq!(answered.report.body().error_code.as_deref(), Some(stop));
    }
    // Content that was paid for must not be missing.
    let audio = json!([{"text": "Listen:"}, {"audio": {"format": "mp3", "source": {"bytes": "AAAA"}}}]);
    let answered = ask(&Aws::says([json(&conversed(audio, "end_turn"))]), hello(NOVA, json!({}))).await;
    assert_eq!(answered.status, 502);
}

#[tokio::test]
async fn thoughts_and_uses_of_tools_are_blocks() {
    let content = json!([
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "AQID"}},
        {"text": "I look it up."},
        {"citationsContent": {"content": [{"text": "It is "}, {"text": "known."}], "citations": []}},
        {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo", "days": [1, 2.5, -3, null, true]}}},
    ]);
    let answer = ask(&Aws::says([json(&conversed(content, "tool_use"))]), hello(NOVA, json!({}))).await.json();
    assert_eq!(
        answer["content"],
        json!([
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "AQID"},
            {"type": "text", "text": "I look it up."},
            {"type": "text", "text": "It is known."},
            {"type": "tool_use", "id": "t1", "name": "weather",
                "input": {"city": "Oslo", "days": [1, 2.5, -3, null, true]}},
        ])
    );
}

#[tokio::test]
async fn an_answer_of_anthropic_passes_byte_for_byte() {
    let said = r#"{"id":"msg_bdrk_1","type":"message","role":"assistant","model":"claude-sonnet-4-6","content":[{"type":"text","text":"Hi","citations":[{"n":123456789012345678901}]}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":1,"cache_read_input_tokens":2,"output_tokens":5},"extra":1.50}"#;
    let aws = Aws::says([crate::aws::Reply::Answer {
        status: 200,
        exception: None,
        steps: vec![crate::aws::Step::Bytes(said.into())],
    }]);
    let request = hello(
        "bedrock/us.anthropic.claude-sonnet-4-6",
        json!({
            "thinking": {"type": "enabled", "budget_tokens": 1024}, "top_p": 0.95, "metadata": {"user_id": "u"},
            "system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}], "stream": false,
        }),
    );
    let bedrock = builder(&aws).beta("interleaved-thinking-2025-05-14").build().unwrap();
    let mut post = post(&request);
    let betas = "context-1m-2025-08-07, interleaved-thinking-2025-05-14";
    post.headers_mut().insert("anthropic-beta", betas.parse().unwrap());
    let answered = send(&bedrock, post).await;
    assert_eq!((answered.status, answered.text.as_str()), (200, said));
    let receipt = answered.report.body();
    assert_eq!(receipt.model_id.as_deref(), Some(CLAUDE));
    let tokens = [receipt.input_tokens, receipt.output_tokens, receipt.cache_read_tokens, receipt.cache_write_tokens];
    assert_eq!(tokens, [Some(10), Some(5), Some(2), Some(1)]);

    let sent = aws.request();
    assert!(sent.path.ends_with("/model/us.anthropic.claude-sonnet-4-6/invoke"), "{}", sent.path);
    let mut expected = request;
    let members = expected.as_object_mut().unwrap();
    members.remove("model");
    members.remove("stream");
    members.insert("anthropic_version".into(), json!("bedrock-2023-05-31"));
    // What costs more is not switched on by whoever pays a fixed price.
    members.insert("anthropic_beta".into(), json!(["interleaved-thinking-2025-05-14"]));
    assert_eq!(sent.body, expected);
}

#[tokio::test]
async fn what_is_no_answer_is_not_passed_on() {
    for said in [json!({"type": "error", "error": {"type": "x", "message": "secret"}}), json!([]), json!("x")] {
        let answered = ask(&Aws::says([json(&said)]), hello(CLAUDE, json!({}))).await;
        assert_eq!((answered.status, answered.error().0.as_str()), (502, "api_error"), "{said}");
        assert!(!answered.text.contains("secret"));
        assert_eq!(answered.stage(), Stage::Started);
    }
    let answered = ask(&Aws::says([json(&json!({"stopReason": "end_turn"}))]), hello(NOVA, json!({}))).await;
    assert_eq!(answered.status, 502);
}
