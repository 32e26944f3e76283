//! The official Anthropic SDK buys calls of models of Amazon Bedrock, by the route of agents.

use serde_json::json;

use crate::sdk::{Sdk, Shop, assert_bought, assert_provider, assert_receipt};

const PROVIDER: &str = "aws_bedrock";
const NOVA: &str = "us.amazon.nova-micro-v1:0";
const CLAUDE: &str = "us.anthropic.claude-sonnet-4-6";

const fn asks_for(model: &'static str) -> Sdk {
    Sdk { script: "anthropic_sdk.py", base: "/v1/agent", model }
}

#[tokio::test]
async fn the_anthropic_sdk_buys_a_message_of_any_model_over_converse() {
    let shop = Shop::of_bedrock().await;
    let played = shop.plays(&asks_for("fast"), &["complete", "stream", "helper"]).await;
    for name in ["complete", "stream", "helper"] {
        let played = &played[name];
        assert_eq!(played["seen"]["text"], "Hello! How can I help you today?", "{played:#}");
        assert_bought(played, 1);
        assert_receipt(played, 0);
        assert_provider(played, 0, PROVIDER, NOVA, [11, 7]);
    }
    for name in ["complete", "helper"] {
        let seen = &played[name]["seen"];
        assert_eq!(seen["stop"], "end_turn", "{seen:#}");
        assert_eq!(seen["usage"], json!({"input_tokens": 11, "output_tokens": 7}), "{seen:#}");
    }
    shop.close().await;
}

#[tokio::test]
async fn a_tool_of_a_model_over_converse_goes_round() {
    let shop = Shop::of_bedrock().await;
    let played = &shop.plays(&asks_for("fast"), &["tools"]).await["tools"];
    assert_eq!(played["seen"]["first"]["stop"], "tool_use", "{played:#}");
    assert_eq!(played["seen"]["called"], json!(["get_weather", {"city": "Paris"}]));
    assert_eq!(played["seen"]["text"], "It is 21 degrees in Paris.");
    assert_bought(played, 2);
    assert_provider(played, 0, PROVIDER, NOVA, [30, 12]);
    assert_provider(played, 1, PROVIDER, NOVA, [40, 9]);
    shop.close().await;
}

#[tokio::test]
async fn the_anthropic_sdk_buys_a_message_of_claude_in_its_own_words() {
    let shop = Shop::of_bedrock().await;
    let played = shop.plays(&asks_for("balanced"), &["complete", "helper", "unknown_model"]).await;
    for name in ["complete", "helper"] {
        let played = &played[name];
        let seen = &played["seen"];
        assert_eq!(seen["text"], "Hello! How can I help you today?", "{seen:#}");
        assert_eq!(seen["stop"], "end_turn", "{seen:#}");
        assert_bought(played, 1);
        assert_receipt(played, 0);
        // The stand-in counts these by itself.
        let tokens = ["input_tokens", "output_tokens"].map(|name| seen["usage"][name].as_u64().unwrap());
        assert!(tokens.iter().all(|tokens| *tokens > 0), "{seen:#}");
        assert_provider(played, 0, PROVIDER, CLAUDE, tokens);
    }
    let unknown = &played["unknown_model"];
    assert_eq!((&unknown["seen"]["error"], &unknown["seen"]["status"]), (&json!("BadRequestError"), &json!(400)));
    assert_eq!(unknown["sent"].as_array().unwrap().len(), 1, "nobody has asked for money: {unknown:#}");
    shop.close().await;
}
