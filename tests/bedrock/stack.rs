//! The real SDK over real sockets: ministack answers as Bedrock's runtime, with the words and counts of aimock.
//! `scripts/test` installs both.

use aws_sdk_bedrockruntime::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region},
};
use serde_json::{Value, json};
use tower_mpp::upstream::{
    Stage,
    bedrock::{self, Bedrock, BedrockModel},
};

use crate::{CLAUDE, NOVA, hello, names, post, send, sse, third_parties::ThirdParty};

fn fixtures() -> Value {
    let usage = |input: u64, output: u64| {
        json!({"input_tokens": input, "output_tokens": output, "prompt_tokens": input,
        "completion_tokens": output, "total_tokens": input + output})
    };
    json!([
        {"match": {"userMessage": "Hello"}, "response": {"content": "Hello from far away.", "usage": usage(11, 7)}},
        {"match": {"userMessage": "weather"}, "response": {
            "toolCalls": [{"id": "call_weather", "name": "get_weather", "arguments": {"city": "Oslo"}}],
            "usage": usage(30, 12),
        }},
    ])
}

/// An upstream over the HTTP client that merchants use, without a script in between.
fn at(endpoint: String) -> Bedrock {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIDTEST", "secret", None, None, "test"))
        .http_client(bedrock::http_client())
        .endpoint_url(endpoint);
    let builder = Bedrock::builder(Client::from_conf(config.build()));
    builder.model(BedrockModel::new(NOVA)).model(BedrockModel::new(CLAUDE)).build().unwrap()
}

#[tokio::test]
async fn all_four_ways_over_a_socket() {
    let models = ThirdParty::aimock(&fixtures(), &[]).await;
    let aws = ThirdParty::ministack(Some(models.address)).await;
    let bedrock = at(aws.url(""));
    for model in [NOVA, CLAUDE] {
        let answered = send(&bedrock, post(&hello(model, json!({})))).await;
        assert_eq!(answered.status, 200, "{model}: {}\n{}", answered.text, aws.log());
        let answer = answered.json();
        assert_eq!(answer["content"][0], json!({"type": "text", "text": "Hello from far away."}), "{model}");
        assert_eq!(answer["stop_reason"], "end_turn");
        let receipt = answered.report.body();
        // ministack counts itself what it answers to InvokeModel.
        let counted = |name: &str| answer["usage"][name].as_u64().filter(|count| *count > 0);
        let tokens = [receipt.input_tokens, receipt.output_tokens];
        assert_eq!(tokens, [counted("input_tokens"), counted("output_tokens")], "{model}: {}", answered.text);
        assert!(model == CLAUDE || tokens == [Some(11), Some(7)], "{model}: {}", answered.text);
        assert_eq!((receipt.region.as_deref(), answered.stage()), (Some("us-east-1"), Stage::Finished));

        let answered = send(&bedrock, post(&hello(model, json!({"stream": true})))).await;
        assert_eq!(answered.status, 200, "{model}: {}", answered.text);
        let events = sse(&answered.text);
        let names = names(&events);
        assert_eq!((names[0], names[names.len() - 1]), ("message_start", "message_stop"), "{}", answered.text);
        let said: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
        assert_eq!(said, "Hello from far away.", "{model}");
        let receipt = answered.report.body();
        assert_eq!(receipt.output_tokens, tokens[1], "{model}: {}", answered.text);
        assert_eq!(answered.stage(), Stage::Finished);
    }
}

#[tokio::test]
async fn a_tool_over_a_socket() {
    let models = ThirdParty::aimock(&fixtures(), &[]).await;
    let aws = ThirdParty::ministack(Some(models.address)).await;
    let bedrock = at(aws.url(""));
    let request = json!({
        "messages": [{"role": "user", "content": "The weather in Oslo?"}],
        "tools": [{"name": "get_weather", "input_schema": {"type": "object"}}],
    });
    let answered = send(&bedrock, post(&hello(NOVA, request))).await;
    let answer = answered.json();
    let tool = &answer["content"].as_array().unwrap().iter().find(|block| block["type"] == "tool_use");
    let tool = tool.unwrap_or_else(|| panic!("{answer}\n{}", aws.log()));
    assert_eq!((&tool["name"], &tool["input"]), (&json!("get_weather"), &json!({"city": "Oslo"})));
    assert_eq!(answer["stop_reason"], "tool_use");
}

#[tokio::test]
async fn nobody_at_the_other_end_means_that_nothing_was_asked() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let answered = send(&at(format!("http://{address}")), post(&hello(NOVA, json!({})))).await;
    assert_eq!((answered.status, answered.stage()), (502, Stage::NotStarted));
}

#[tokio::test]
async fn a_connection_that_is_closed_behind_the_request_may_have_been_asked() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.windows(5).any(|window| window == b"Hello") {
            socket.read_buf(&mut seen).await.unwrap();
        }
    });
    let answered = send(&at(format!("http://{address}")), post(&hello(NOVA, json!({})))).await;
    assert_eq!((answered.status, answered.stage()), (502, Stage::Started));
}
