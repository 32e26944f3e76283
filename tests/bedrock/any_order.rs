//! Whatever Converse sends, and in whatever order: a client reads a well-formed stream.

use proptest::prelude::*;
use serde_json::{Value, json};
use tower_mpp::upstream::Stage;

use crate::{
    NOVA, ask,
    aws::{Aws, Step, event, events, thrown},
    hello, sse,
};

fn any_event() -> impl Strategy<Value = Step> {
    let block = 0..3_u32;
    let delta =
        |block: u32, delta: Value| event("contentBlockDelta", &json!({"contentBlockIndex": block, "delta": delta}));
    prop_oneof![
        2 => Just(event("messageStart", &json!({"role": "assistant"}))),
        2 => block.clone().prop_map(|block| event("contentBlockStart", &json!({"contentBlockIndex": block,
            "start": {"toolUse": {"toolUseId": "t", "name": "n"}}}))),
        6 => block.clone().prop_map(move |block| delta(block, json!({"text": "x\n\nevent: y"}))),
        3 => block.clone().prop_map(move |block| delta(block, json!({"toolUse": {"input": "{}"}}))),
        2 => block.clone().prop_map(move |block| delta(block, json!({"reasoningContent": {"text": "t"}}))),
        1 => block.clone().prop_map(move |block| delta(block, json!({"reasoningContent": {"signature": "s"}}))),
        1 => block.clone().prop_map(move |block| delta(block, json!({"reasoningContent": {"redactedContent": "AQID"}}))),
        1 => block.clone().prop_map(move |block| delta(block, json!({"image": {"source": {"bytes": "AQID"}}}))),
        4 => block.prop_map(|block| event("contentBlockStop", &json!({"contentBlockIndex": block}))),
        1 => Just(event("messageStop", &json!({"stopReason": "end_turn"}))),
        1 => Just(event("messageStop", &json!({"stopReason": "malformed_tool_use"}))),
        1 => Just(event("metadata", &json!({"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
            "metrics": {"latencyMs": 1}}))),
        1 => Just(event("somethingNew", &json!({}))),
        1 => Just(thrown("modelStreamErrorException", "x")),
        1 => Just(Step::Break),
    ]
}

/// The grammar of a stream of the Messages API.
fn assert_well_formed(events: &[Value]) {
    let mut open: Option<(u64, String)> = None;
    let mut next = 0;
    let mut at = "nothing";
    for event in events {
        let kind = event["type"].as_str().unwrap();
        assert_ne!(at, "done", "something behind the end: {event}");
        match kind {
            "message_start" => {
                assert_eq!(at, "nothing", "{event}");
                at = "message";
            }
            "content_block_start" => {
                assert_eq!((at, &open), ("message", &None), "{event}");
                assert_eq!(event["index"], next);
                open = Some((next, event["content_block"]["type"].as_str().unwrap().to_owned()));
                next += 1;
            }
            "content_block_delta" => {
                let (index, block) = open.as_ref().expect("an open block");
                assert_eq!(event["index"], *index);
                let fits: &[&str] = match block.as_str() {
                    "text" => &["text_delta"],
                    "tool_use" => &["input_json_delta"],
                    "thinking" => &["thinking_delta", "signature_delta"],
                    _ => &[],
                };
                assert!(fits.contains(&event["delta"]["type"].as_str().unwrap()), "{event} in {block}");
            }
            "content_block_stop" => {
                let (index, _) = open.take().expect("an open block");
                assert_eq!(event["index"], index);
            }
            "message_delta" => {
                assert_eq!((at, &open), ("message", &None));
                assert!(event["delta"]["stop_reason"].is_string() && event["usage"]["output_tokens"].is_u64());
                at = "stopped";
            }
            "message_stop" => {
                assert_eq!(at, "stopped");
                at = "done";
            }
            "error" => {
                assert_ne!(at, "stopped");
                at = "done";
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(at, "done", "a stream without an end: {events:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_events_makes_a_well_formed_stream(steps in proptest::collection::vec(any_event(), 0..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let answered = runtime.block_on(ask(&Aws::says([events(steps)]), hello(NOVA, json!({"stream": true}))));
        if answered.status == 200 {
            let events = sse(&answered.text);
            assert_well_formed(&events);
            let whole = events.last().unwrap()["type"] == "message_stop";
            prop_assert_eq!(answered.stage() == Stage::Finished, whole, "{}", answered.text);
        } else {
            // It has failed before its first token.
            answered.error();
            prop_assert!(answered.status >= 500 && answered.stage() <= Stage::Started);
        }
    }
}
