//! Streams: events of Bedrock in, server-sent events of the Messages API out.

use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower_mpp::upstream::{Call, Report, Stage, Upstream as _};

use crate::{
    CLAUDE, NOVA, ask,
    aws::{Aws, Step, chunk, event, events, thrown},
    bedrock, hello, names, post, sse,
};

pub(crate) fn started() -> Step {
    event("messageStart", &json!({"role": "assistant"}))
}

pub(crate) fn text(block: u32, text: &str) -> Step {
    event("contentBlockDelta", &json!({"contentBlockIndex": block, "delta": {"text": text}}))
}

pub(crate) fn ended(block: u32) -> Step {
    event("contentBlockStop", &json!({"contentBlockIndex": block}))
}

pub(crate) fn stopped(reason: &str) -> Step {
    event("messageStop", &json!({"stopReason": reason}))
}

pub(crate) fn counted() -> Step {
    event(
        "metadata",
        &json!({"usage": {"inputTokens": 11, "outputTokens": 5, "totalTokens": 19, "cacheReadInputTokens": 3},
            "metrics": {"latencyMs": 100}}),
    )
}

fn delta(block: u32, delta: Value) -> Step {
    event("contentBlockDelta", &json!({"contentBlockIndex": block, "delta": delta}))
}

fn streamed(model: &str) -> Value {
    hello(model, json!({"stream": true}))
}

#[tokio::test]
async fn text_streams_as_anthropics_does() {
    // Converse begins text without a word.
    let steps = [started(), text(0, "Hel"), text(0, "lo"), ended(0), stopped("end_turn"), counted()];
    let aws = Aws::says([events(steps)]);
    let answered = ask(&aws, streamed(NOVA)).await;
    assert_eq!(answered.status, 200);
    assert_eq!(answered.headers["content-type"], "text/event-stream; charset=utf-8");
    let mut events = sse(&answered.text);
    let id = events[0]["message"]["id"].take();
    assert!(id.as_str().unwrap().starts_with("msg_"));
    let none =
        json!({"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0});
    assert_eq!(
        json!(events),
        json!([
            {"type": "message_start", "message": {"id": null, "type": "message", "role": "assistant", "model": NOVA,
                "content": [], "stop_reason": null, "stop_sequence": null, "usage": none}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage":
                {"input_tokens": 11, "output_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 0}},
            {"type": "message_stop"},
        ])
    );
    assert_eq!(answered.stage(), Stage::Finished);
    let receipt = answered.report.body();
    assert_eq!((receipt.input_tokens, receipt.output_tokens, receipt.cache_read_tokens), (Some(11), Some(5), Some(3)));
    assert!(receipt.cost_estimated_usd.is_some());
    assert!(aws.request().path.ends_with("/converse-stream"));
}

#[tokio::test]
async fn thoughts_tools_and_text_are_blocks_one_after_the_other() {
    let tool = |id: &str| json!({"toolUse": {"toolUseId": id, "name": "weather"}});
    let steps = [
        started(),
        delta(0, json!({"reasoningContent": {"text": "Hm."}})),
        delta(0, json!({"reasoningContent": {"signature": "c2ln"}})),
        ended(0),
        delta(1, json!({"reasoningContent": {"redactedContent": "AQID"}})),
        ended(1),
        text(2, "I look."),
        ended(2),
        event("contentBlockStart", &json!({"contentBlockIndex": 3, "start": tool("t1")})),
        delta(3, json!({"toolUse": {"input": "{\"city\":"}})),
        delta(3, json!({"toolUse": {"input": "\"Oslo\"}"}})),
        ended(3),
        // A tool without input.
        event("contentBlockStart", &json!({"contentBlockIndex": 4, "start": tool("t2")})),
        ended(4),
        stopped("tool_use"),
        counted(),
    ];
    let events = sse(&ask(&Aws::says([events(steps)]), streamed(NOVA)).await.text);
    let blocks: Vec<_> = events.iter().filter_map(|event| event.get("content_block")).collect();
    assert_eq!(
        json!(blocks),
        json!([
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "redacted_thinking", "data": "AQID"},
            {"type": "text", "text": ""},
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {}},
            {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
        ])
    );
    let deltas: Vec<_> = events.iter().filter(|event| event["type"] == "content_block_delta").collect();
    let deltas: Vec<_> = deltas.iter().map(|event| (event["index"].as_u64().unwrap(), &event["delta"])).collect();
    assert_eq!(
        deltas,
        [
            (0, &json!({"type": "thinking_delta", "thinking": "Hm."})),
            (0, &json!({"type": "signature_delta", "signature": "c2ln"})),
            (2, &json!({"type": "text_delta", "text": "I look."})),
            (3, &json!({"type": "input_json_delta", "partial_json": "{\"city\":"})),
            (3, &json!({"type": "input_json_delta", "partial_json": "\"Oslo\"}"})),
        ]
    );
    let stop = &events[events.len() - 2];
    assert_eq!((&stop["type"], &stop["delta"]["stop_reason"]), (&json!("message_delta"), &json!("tool_use")));
}

#[tokio::test]
async fn anthropics_own_stream_passes_event_by_event() {
    let said = [
        r#"{"type":"message_start","message":{"id":"msg_bdrk_1","type":"message","role":"assistant","model":"claude-sonnet-4-6","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi","n":1.50}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"an_event_of_the_future","x":[]}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":6}}"#,
        r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":9}}"#,
    ];
    let aws = Aws::says([events(said.map(chunk))]);
    let answered = ask(&aws, streamed(CLAUDE)).await;
    let mut expected = String::new();
    for event in said {
        let kind = serde_json::from_str::<Value>(event).unwrap()["type"].as_str().unwrap().to_owned();
        let event = if kind == "message_stop" { r#"{"type":"message_stop"}"# } else { event };
        expected.push_str(&format!("event: {kind}\ndata: {event}\n\n"));
    }
    assert_eq!(answered.text, expected);
    let receipt = answered.report.body();
    assert_eq!((receipt.input_tokens, receipt.output_tokens, receipt.cache_read_tokens), (Some(9), Some(6), Some(4)));
    assert_eq!(answered.stage(), Stage::Finished);
    let sent = aws.request();
    assert!(sent.path.ends_with("/invoke-with-response-stream"), "{}", sent.path);
    assert_eq!(sent.body.get("stream"), None);
}

#[tokio::test(start_paused = true)]
async fn counts_that_do_not_come_do_not_hold_the_answer_up() {
    for last in [vec![Step::Hang], vec![], vec![Step::Break], vec![thrown("internalServerException", "x")]] {
        let mut steps = vec![started(), text(0, "Hi"), ended(0), stopped("end_turn")];
        steps.extend(last);
        let before = tokio::time::Instant::now();
        let answered = ask(&Aws::says([events(steps)]), streamed(NOVA)).await;
        let events = sse(&answered.text);
        assert_eq!(names(&events)[4..], ["message_delta", "message_stop"], "{}", answered.text);
        assert!(before.elapsed() < Duration::from_secs(6));
        assert_eq!((answered.stage(), answered.report.body().output_tokens), (Stage::Finished, None));
    }
}

#[tokio::test]
async fn counts_before_the_stop_and_what_is_not_known_are_fine() {
    let odd = event("aNewKindOfEvent", &json!({"x": 1}));
    let steps = [odd.clone(), started(), counted(), odd, text(0, "Hi"), ended(7), stopped("max_tokens")];
    let answered = ask(&Aws::says([events(steps)]), streamed(NOVA)).await;
    let events = sse(&answered.text);
    assert_eq!(
        names(&events),
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert_eq!(events[4]["usage"]["output_tokens"], 5);
}

#[tokio::test]
async fn an_answer_without_a_word_is_finished_too() {
    let answered = ask(&Aws::says([events([started(), counted(), stopped("end_turn")])]), streamed(NOVA)).await;
    assert_eq!(names(&sse(&answered.text)), ["message_start", "message_delta", "message_stop"]);
    assert_eq!((answered.stage(), answered.report.body().output_tokens), (Stage::Finished, Some(5)));
}

#[tokio::test(start_paused = true)]
async fn the_head_waits_for_the_first_token_and_nothing_else_waits() {
    let steps = [
        started(),
        Step::Wait(Duration::from_secs(3)),
        text(0, "a"),
        Step::Wait(Duration::from_secs(9)),
        text(0, "b"),
        ended(0),
        stopped("end_turn"),
        counted(),
    ];
    let (aws, begun) = (Aws::says([events(steps)]), tokio::time::Instant::now());
    let (bedrock, call) = (bedrock(&aws), Call::new(Report::default()));
    let response = bedrock.call(post(&streamed(NOVA)), &call).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 3);
    assert_eq!((response.status().as_u16(), call.report.stage()), (200, Stage::FirstByte));
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(std::str::from_utf8(&first).unwrap().contains("\"a\""));
    assert_eq!(begun.elapsed().as_secs(), 3, "what has come is there");
    let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(std::str::from_utf8(&second).unwrap().contains("\"b\""));
    assert_eq!((begun.elapsed().as_secs(), call.report.stage()), (12, Stage::FirstByte));
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    assert_eq!(call.report.stage(), Stage::Finished);
}

#[tokio::test]
async fn dropping_the_body_ends_the_call() {
    let aws = Aws::says([events([started(), text(0, "a"), Step::Hang])]);
    let (bedrock, call) = (bedrock(&aws), Call::new(Report::default()));
    let idle = aws.open();
    let response = bedrock.call(post(&streamed(NOVA)), &call).await.unwrap();
    assert!(aws.open() > idle, "the answer is being read");
    drop(response);
    assert_eq!(aws.open(), idle);
    assert_eq!(call.report.stage(), Stage::FirstByte);
}
