//! What receipts say about models and tokens, read from answers that pass.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use tower::ServiceExt as _;
use tower_mpp::{
    receipt::{Attribution, ReceiptBody},
    upstream::{Body, Report, Usage},
};

use crate::{
    provider::Provider,
    shop::{quick, service},
    support::Frames,
};

const ANTHROPIC: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-a\",\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":4,\"cache_creation_input_tokens\":3,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_delta\ndata: {\"delta\":{\"text\":\"\\\"usage\\\"\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const OPENAI: &str = "data: {\"model\":\"gpt-a\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\ndata: {\"model\":\"gpt-a\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":12,\"prompt_tokens_details\":{\"cached_tokens\":2}}}\n\ndata: [DONE]\n\n";

fn head(kind: &str, encoding: Option<&str>) -> http::response::Parts {
    let mut response = Response::builder().header("content-type", kind);
    if let Some(encoding) = encoding {
        response = response.header("content-encoding", encoding);
    }
    response.body(()).unwrap().into_parts().0
}

/// What comes out of a tap, and what it has read.
fn tapped(usage: Usage, kind: &str, encoding: Option<&str>, frames: Frames) -> (Bytes, ReceiptBody) {
    let report = Report::new(Attribution::new());
    let body = usage.tap(&head(kind, encoding), Body::new(frames), &report);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    (runtime.block_on(body.collect()).unwrap().to_bytes(), report.body())
}

fn pieces(text: &[u8], size: usize) -> Vec<Bytes> {
    text.chunks(size).map(Bytes::copy_from_slice).collect()
}

#[test]
fn streams_are_read_however_they_are_cut_and_ended() {
    for ending in ["\n", "\r\n", "\r"] {
        for size in [1, 2, 3, 7, 64, 100_000] {
            let text = ANTHROPIC.replace('\n', ending);
            let (out, said) = tapped(
                Usage::Anthropic,
                "text/event-stream; charset=utf-8",
                None,
                Frames::of(pieces(text.as_bytes(), size)),
            );
            assert_eq!(out, text);
            assert_eq!(said.model_id.as_deref(), Some("claude-a"));
            assert_eq!((said.input_tokens, said.output_tokens), (Some(25), Some(15)), "{ending:?} {size}");
            assert_eq!((said.cache_read_tokens, said.cache_write_tokens), (Some(4), Some(3)));
            assert_eq!(said.tokens_source.as_deref(), Some("provider"));

            let text = OPENAI.replace('\n', ending);
            let (out, said) =
                tapped(Usage::OpenAi, "text/event-stream", None, Frames::of(pieces(text.as_bytes(), size)).chunked());
            assert_eq!(out, text);
            assert_eq!((said.model_id.as_deref(), said.input_tokens), (Some("gpt-a"), Some(9)));
            assert_eq!((said.output_tokens, said.cache_read_tokens), (Some(12), Some(2)));
        }
    }
}

#[test]
fn what_cannot_be_read_passes_all_the_same() {
    let whole = r#"{"model":"claude-a","usage":{"input_tokens":1,"output_tokens":2}}"#;
    let frames = || Frames::of([whole]);
    assert_eq!(tapped(Usage::Anthropic, "application/json", None, frames()).1.input_tokens, Some(1));
    for (kind, encoding) in [("application/json", Some("gzip")), ("text/plain", None), ("audio/mpeg", None)] {
        let (out, said) = tapped(Usage::Anthropic, kind, encoding, frames());
        assert_eq!((out, said), (Bytes::from(whole), ReceiptBody::default()));
    }
    // Too large to be about tokens.
    let large = format!("{{\"data\":\"{}\",\"usage\":{{\"input_tokens\":1}}}}", "x".repeat(1024 * 1024));
    for frames in [Frames::of(pieces(large.as_bytes(), 65_536)), Frames::of([large.clone()]).declared()] {
        let (out, said) = tapped(Usage::Anthropic, "application/json", None, frames);
        assert_eq!((out, said), (Bytes::from(large.clone()), ReceiptBody::default()));
    }
}

proptest! {
    #[test]
    fn no_byte_is_changed_whatever_passes(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..2000),
            "(data: ?\\{\"usage\":\\{\"input_tokens\":[0-9]{1,25}\\}\\}|event: x|:|data|\\{|\\}|\r|\n|\r\n){0,60}".prop_map(String::into_bytes),
        ],
        size in 1_usize..40,
        json in any::<bool>(),
        open in any::<bool>(),
    ) {
        for usage in [Usage::Anthropic, Usage::OpenAi] {
            let kind = if json { "application/json" } else { "text/event-stream" };
            let frames = Frames::of(pieces(&bytes, size)).trailer("x-end", "1");
            let frames = if open { frames.chunked() } else { frames };
            let (out, _) = tapped(usage, kind, None, frames);
            prop_assert_eq!(&out[..], &bytes[..]);
        }
    }
}

#[tokio::test]
async fn an_answer_is_read_before_its_last_byte_has_left() {
    let json = r#"{"model":"gpt-a","usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}", json.len());
    let provider = Provider::keeping(answer.leak()).await;
    let upstream = service(quick(provider.url()).usage(Usage::OpenAi));
    let attribution = Attribution::new();
    let mut request = Request::post("/v1/chat/completions").body(Body::from("{}")).unwrap();
    request.extensions_mut().insert(attribution.clone());
    let mut body = upstream.oneshot(request).await.unwrap().into_body();
    let mut read = Vec::new();
    while read.len() < json.len() {
        read.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    // Nobody has asked for the end yet: a receipt is written with the last byte.
    let said = attribution.body();
    assert_eq!((said.input_tokens, said.output_tokens, said.provider_status), (Some(3), Some(4), Some(200)));
}
