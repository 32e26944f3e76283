//! What fails, what a client hears of it, and what is said about the call.

use std::time::Duration;

use aws_sdk_bedrockruntime::{
    Client,
    config::{BehaviorVersion, Config, Region},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_mpp::{
    refund::ProviderCall,
    upstream::{
        Report, Stage, UpstreamService,
        bedrock::{Bedrock, BedrockModel},
    },
};

use crate::{
    Answered, CLAUDE, NOVA, ask,
    aws::{Aws, Reply, Step, chunk, event, events, exception, json, thrown},
    bedrock, builder, hello, names, post, read, send, sse,
    streams::{counted, ended, started, stopped, text},
    whole::conversed,
};

const SECRET: &str = "User: arn:aws:iam::123456789012:role/merchant is not authorized to perform: bedrock:InvokeModel";

/// Each exception: its status and name at Bedrock; what the client gets, and what is said about the call.
const EXCEPTIONS: [(u16, &str, u16, &str, ProviderCall); 13] = {
    use ProviderCall::{NotStarted, Started, TimedOut};
    [
        (403, "AccessDeniedException", 502, "api_error", NotStarted),
        (404, "ResourceNotFoundException", 502, "api_error", NotStarted),
        (403, "UnrecognizedClientException", 502, "api_error", NotStarted),
        (403, "ExpiredTokenException", 502, "api_error", NotStarted),
        (429, "ThrottlingException", 529, "overloaded_error", NotStarted),
        (400, "ServiceQuotaExceededException", 529, "overloaded_error", NotStarted),
        (429, "ModelNotReadyException", 503, "overloaded_error", NotStarted),
        (503, "ServiceUnavailableException", 503, "overloaded_error", NotStarted),
        (408, "ModelTimeoutException", 504, "timeout_error", TimedOut),
        (424, "ModelErrorException", 502, "api_error", Started),
        (500, "InternalServerException", 502, "api_error", Started),
        (500, "SomethingOfTheFuture", 502, "api_error", Started),
        (418, "SomethingElseOfTheFuture", 502, "api_error", NotStarted),
    ]
};

fn requests() -> [Value; 4] {
    let stream = json!({"stream": true});
    [hello(NOVA, json!({})), hello(NOVA, stream.clone()), hello(CLAUDE, json!({})), hello(CLAUDE, stream)]
}

/// Nothing about the merchant's account is said.
fn assert_discreet(answered: &Answered) {
    let said = format!("{} {:?}", answered.text, answered.headers).to_ascii_lowercase();
    for secret in ["123456789012", "arn:", "aws", "bedrock", "akidtest"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn each_exception_has_its_envelope_and_its_effect_on_all_four_ways() {
    for (status, name, expected, kind, called) in EXCEPTIONS {
        for request in requests() {
            let answered = ask(&Aws::says([exception(status, name, SECRET)]), request).await;
            assert_eq!((answered.status, answered.error().0.as_str()), (expected, kind), "{name}");
            assert_eq!(answered.report.provider_call(), called, "{name}");
            assert_discreet(&answered);
            let receipt = answered.report.body();
            assert_eq!((receipt.error_code.as_deref(), receipt.provider_status), (Some(name), Some(status)));
            assert!(receipt.error_class.is_some());
            assert_eq!(answered.headers.contains_key("retry-after"), kind == "overloaded_error", "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_unless_it_is_about_the_merchant() {
    for (said, status, kind) in [
        ("messages.1: roles must alternate", 400, "invalid_request_error"),
        ("The provided model identifier is invalid.", 502, "api_error"),
        ("Operation not allowed", 502, "api_error"),
        (SECRET, 502, "api_error"),
    ] {
        for request in requests() {
            let answered = ask(&Aws::says([exception(400, "ValidationException", said)]), request).await;
            let (as_kind, message) = answered.error();
            assert_eq!((answered.status, as_kind.as_str()), (status, kind), "{said}");
            assert_eq!(message == said, status == 400);
            assert_discreet(&answered);
            assert_eq!(answered.stage(), Stage::NotStarted, "no model has run");
        }
    }
}

#[tokio::test]
async fn who_cannot_be_reached_was_not_asked_and_a_lost_connection_tells_nothing() {
    for request in requests() {
        let answered = ask(&Aws::says([Reply::Unreachable]), request.clone()).await;
        assert_eq!((answered.status, answered.error().0.as_str()), (502, "api_error"));
        assert_eq!(answered.stage(), Stage::NotStarted);
        let answered = ask(&Aws::says([Reply::Broken]), request).await;
        assert_eq!((answered.status, answered.error().0.as_str()), (502, "api_error"));
        assert_eq!(answered.report.provider_call(), ProviderCall::Started, "it may have been worked on");
    }
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let config = Config::builder().behavior_version(BehaviorVersion::latest()).region(Region::new("eu-north-1"));
    let aws = Aws::says([json(&json!({}))]);
    let client = Client::from_conf(config.http_client(aws.clone()).build());
    for request in requests() {
        let models = [BedrockModel::new(NOVA), BedrockModel::new(CLAUDE)];
        let builder = models.into_iter().fold(Bedrock::builder(client.clone()), |builder, model| builder.model(model));
        let answered = send(&builder.build().unwrap(), post(&request)).await;
        assert_eq!((answered.status, answered.error().0.as_str()), (502, "api_error"));
        assert_eq!(answered.stage(), Stage::NotStarted);
        assert_discreet(&answered);
    }
    assert!(aws.sent().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wait_without_an_end_ends_and_says_how_far_it_came() {
    for (reply, called) in [
        (Reply::ConnectingForEver, ProviderCall::NotStarted),
        (Reply::Silence, ProviderCall::TimedOut),
        (events([Step::Hang]), ProviderCall::TimedOut),
    ] {
        for request in requests() {
            let begun = tokio::time::Instant::now();
            let answered = ask(&Aws::says([reply.clone()]), request.clone()).await;
            assert_eq!((answered.status, answered.error().0.as_str()), (504, "timeout_error"));
            assert_eq!(answered.report.provider_call(), called, "{reply:?}");
            let limit = if request["stream"] == true { 20 } else { 100 };
            assert_eq!(begun.elapsed().as_secs(), limit, "{reply:?}");
        }
    }
    // It has begun, and says nothing.
    let begins = chunk(r#"{"type":"message_start","message":{"usage":{"input_tokens":1}}}"#);
    for (model, begins) in [(NOVA, started()), (CLAUDE, begins)] {
        let aws = Aws::says([events([begins, Step::Hang])]);
        let answered = ask(&aws, hello(model, json!({"stream": true}))).await;
        assert_eq!((answered.status, answered.error().0.as_str()), (504, "timeout_error"));
        assert_eq!(answered.report.provider_call(), ProviderCall::TimedOut, "no token has come");
    }
}

#[tokio::test]
async fn an_exception_before_the_first_token_has_a_status() {
    use ProviderCall::{NotStarted, Started, TimedOut};
    for (thrown_as, status, first, later) in [
        ("throttlingException", 529, NotStarted, Started),
        ("serviceUnavailableException", 503, NotStarted, Started),
        ("modelStreamErrorException", 502, Started, Started),
        ("internalServerException", 502, Started, Started),
        ("anExceptionOfTheFuture", 502, Started, Started),
    ] {
        let request = hello(NOVA, json!({"stream": true}));
        let answered = ask(&Aws::says([events([thrown(thrown_as, SECRET)])]), request.clone()).await;
        assert_eq!((answered.status, answered.report.provider_call()), (status, first), "{thrown_as}");
        assert_discreet(&answered);
        // Once the model has said that it begins, nobody can say that it did nothing.
        let answered = ask(&Aws::says([events([started(), thrown(thrown_as, SECRET)])]), request).await;
        assert_eq!((answered.status, answered.report.provider_call()), (status, later), "{thrown_as}");
    }
    let aws = Aws::says([events([thrown("modelTimeoutException", "x")])]);
    let answered = ask(&aws, hello(CLAUDE, json!({"stream": true}))).await;
    assert_eq!((answered.status, answered.report.provider_call()), (504, TimedOut));
}

/// A stream that has begun ends with an error event, in order, and is not called finished.
fn assert_broken_off(answered: &Answered, kind: &str) {
    assert_eq!(answered.status, 200);
    let events = sse(&answered.text);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!(kind)), "{}", answered.text);
    assert!(last["request_id"].as_str().unwrap().starts_with("req_"));
    let names = names(&events);
    assert!(!names.contains(&"message_stop") && !names.contains(&"content_block_stop"), "{names:?}");
    assert_eq!((answered.stage(), answered.report.provider_call()), (Stage::FirstByte, ProviderCall::FirstByte));
    assert!(answered.report.body().error_class.is_some() && answered.report.body().error_code.is_some());
    assert_discreet(answered);
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_mid_stream_is_an_event_of_its_own() {
    let mut garbage = vec![0_u8, 0, 0, 20, 0, 0, 0, 0];
    garbage.extend([7; 12]);
    for (last, kind) in [
        (vec![thrown("modelStreamErrorException", SECRET)], "api_error"),
        (vec![thrown("throttlingException", SECRET)], "overloaded_error"),
        (vec![thrown("validationException", SECRET)], "api_error"),
        (vec![], "api_error"),
        (vec![Step::Break], "api_error"),
        (vec![Step::Bytes(garbage.into())], "api_error"),
        (vec![event("messageStop", &json!("garbage"))], "api_error"),
        (vec![stopped("malformed_model_output")], "api_error"),
        (vec![Step::Hang], "timeout_error"),
    ] {
        let mut steps = vec![started(), text(0, "Once")];
        steps.extend(last.clone());
        let answered = ask(&Aws::says([events(steps)]), hello(NOVA, json!({"stream": true}))).await;
        assert_broken_off(&answered, kind);

        let begins = r#"{"type":"message_start","message":{"usage":{"input_tokens":3}}}"#;
        let begins = [chunk(begins), chunk(r#"{"type":"content_block_start","index":0}"#)];
        let last =
            last.into_iter().filter(|step| !matches!(step, Step::Bytes(bytes) if contains(bytes, "messageStop")));
        let aws = Aws::says([events(begins.into_iter().chain(last))]);
        let answered = ask(&aws, hello(CLAUDE, json!({"stream": true}))).await;
        assert_broken_off(&answered, kind);
        assert_eq!(answered.report.body().input_tokens, Some(3), "what is known of the tokens");
    }
    for (said, kind) in [
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"arn:aws"}}"#, "overloaded_error"),
        (r#"{"type":"error"}"#, "api_error"),
        ("not json", "api_error"),
        (r#"{"type":"message_start","message":{}}"#, "api_error"),
        (r#"{"type":7}"#, "api_error"),
    ] {
        let begins = [r#"{"type":"message_start","message":{}}"#, r#"{"type":"content_block_start","index":0}"#, said];
        let answered = ask(&Aws::says([events(begins.map(chunk))]), hello(CLAUDE, json!({"stream": true}))).await;
        assert_broken_off(&answered, kind);
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_ends_ends_with_its_time() {
    let drip = (0..100).flat_map(|_| [text(0, "."), Step::Wait(Duration::from_secs(9))]);
    let begun = tokio::time::Instant::now();
    let answered = ask(&Aws::says([events(drip)]), hello(NOVA, json!({"stream": true}))).await;
    assert_broken_off(&answered, "timeout_error");
    assert_eq!(begun.elapsed().as_secs(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_the_service_in_front_allows_no_more_time_says_so_before_it_ends() {
    let drip = (0..100).flat_map(|_| [text(0, "."), Step::Wait(Duration::from_secs(9))]);
    let aws = Aws::says([events(drip)]);
    let service = UpstreamService::new(bedrock(&aws)).timeout(Duration::from_secs(30));
    let report = Report::default();
    let mut request = post(&hello(NOVA, json!({"stream": true})));
    request.extensions_mut().insert(report.clone());
    let answered = read(service.oneshot(request).await.unwrap(), report).await;
    assert_broken_off(&answered, "timeout_error");
}

#[tokio::test]
async fn an_answer_larger_than_it_may_be_is_cut() {
    let limited = |aws: &Aws| builder(aws).max_answer_bytes(2000).build().unwrap();
    let long = "x".repeat(3000);
    let aws = Aws::says([json(&conversed(json!([{"text": long}]), "end_turn"))]);
    let answered = send(&limited(&aws), post(&hello(NOVA, json!({})))).await;
    assert_eq!((answered.status, answered.stage()), (502, Stage::Started));
    let steps = (0..50).map(|_| text(0, &long[..100]));
    let aws = Aws::says([events(steps)]);
    let answered = send(&limited(&aws), post(&hello(NOVA, json!({"stream": true})))).await;
    assert_broken_off(&answered, "api_error");
}

fn throttled() -> Reply {
    exception(429, "ThrottlingException", "Too many requests")
}

fn served() -> [Reply; 2] {
    let stream = [started(), text(0, "Hi"), ended(0), stopped("end_turn"), counted()];
    [json(&conversed(json!([{"text": "Hi"}]), "end_turn")), events(stream)]
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_twice_unless_it_was_throttled_and_that_is_wanted() {
    for failed in [throttled(), exception(500, "InternalServerException", "x"), Reply::Broken, Reply::Unreachable] {
        let was_throttled = matches!(failed, Reply::Answer { status: 429, .. });
        for (stream, answer) in [false, true].into_iter().zip(served()) {
            let request = hello(NOVA, json!({"stream": stream}));
            let once = Aws::says([failed.clone(), answer.clone()]);
            assert!(send(&bedrock(&once), post(&request)).await.status >= 500);
            assert!(once.sent().len() <= 1);

            let again = Aws::says([failed.clone(), answer.clone()]);
            let retrying: Bedrock = builder(&again).throttling_retries(2).build().unwrap();
            let answered = send(&retrying, post(&request)).await;
            assert_eq!(answered.status == 200, was_throttled, "{failed:?}");
            if was_throttled {
                let sent = again.sent();
                assert_eq!((sent.len(), &sent[0].raw), (2, &sent[1].raw), "the same again");
                assert_eq!(answered.stage(), Stage::Finished);
                assert_eq!(answered.report.body().provider_status, Some(200));
            }
        }
    }
    let aws = Aws::says([throttled(), throttled(), throttled()]);
    let answered = send(&builder(&aws).throttling_retries(2).build().unwrap(), post(&hello(NOVA, json!({})))).await;
    assert_eq!((answered.status, answered.stage(), aws.sent().len()), (529, Stage::NotStarted, 3));
}
