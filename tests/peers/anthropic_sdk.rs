//! The official Anthropic SDK buys messages.

use serde_json::{Value, json};

use crate::sdk::{Sdk, Shop, assert_bought, assert_failed, assert_provider, assert_receipt};

const SERVICE: Sdk = Sdk { base: "/anthropic", ..SDK };
const SDK: Sdk = Sdk { script: "anthropic_sdk.py", base: "", model: "claude-small" };

fn usage(input: u64, output: u64) -> Value {
    json!({"input_tokens": input, "output_tokens": output})
}

#[tokio::test]
async fn the_anthropic_sdk_buys_a_message_whole_and_in_a_stream() {
    let shop = Shop::open().await;
    let played = shop.plays(&SDK, &["complete", "stream", "helper"]).await;
    for name in ["complete", "stream", "helper"] {
        let played = &played[name];
        assert_eq!(played["seen"]["text"], "Hello! How can I help you today?", "{played:#}");
        assert_bought(played, 1);
        assert_receipt(played, 0);
    }
    for name in ["complete", "helper"] {
        let seen = &played[name]["seen"];
        assert_eq!((&seen["stop"], &seen["usage"]), (&json!("end_turn"), &usage(11, 7)), "{seen:#}");
        assert_eq!(seen["model"], SDK.model);
    }
    let names: Vec<_> = played["stream"]["seen"]["names"].as_array().unwrap().iter().collect();
    assert_eq!(names[..2], ["message_start", "content_block_start"], "{names:?}");
    let delta = json!("content_block_delta");
    let rest: Vec<_> = names[2..].iter().skip_while(|name| ***name == delta).collect();
    assert_eq!(rest[..3], [&"content_block_stop", &"message_delta", &"message_stop"], "{names:?}");
    // The SDK also hands out the event in which the merchant names the final receipt.
    assert_eq!(rest.len(), 4, "{names:?}");
    let calls = shop.upstream_calls().await;
    assert_eq!(calls.len(), 3, "{calls:#?}");
    for call in &calls {
        assert_eq!(call["path"], "/v1/messages");
        let headers = call["headers"].as_object().unwrap();
        assert!(headers.contains_key("x-api-key") && !headers.contains_key("authorization"), "{headers:?}");
        assert!(headers.contains_key("anthropic-version"), "{headers:?}");
    }
    shop.close().await;
}

#[tokio::test]
async fn a_tool_that_the_anthropic_sdk_is_asked_for_is_two_payments() {
    let shop = Shop::open().await;
    let played = &shop.plays(&SDK, &["tools"]).await["tools"];
    assert_eq!(played["seen"]["first"]["stop"], "tool_use", "{played:#}");
    assert_eq!(played["seen"]["first"]["usage"], usage(30, 12));
    assert_eq!(played["seen"]["called"], json!(["get_weather", {"city": "Paris"}]));
    assert_eq!(played["seen"]["text"], "It is 21 degrees in Paris.");
    assert_eq!(played["seen"]["usage"], usage(40, 9));
    assert_bought(played, 2);
    assert_receipt(played, 0);
    assert_receipt(played, 1);
    shop.close().await;
}

#[tokio::test]
async fn errors_are_those_of_the_anthropic_sdk() {
    let shop = Shop::open().await;
    let played = shop.plays(&SDK, &["rate_limited", "overloaded", "unknown_model"]).await;
    assert_failed(&played["rate_limited"], "RateLimitError", 429);
    assert_failed(&played["overloaded"], "OverloadedError", 529);
    let unknown = &played["unknown_model"];
    assert_eq!((&unknown["seen"]["error"], &unknown["seen"]["status"]), (&json!("BadRequestError"), &json!(400)));
    assert_eq!(unknown["sent"].as_array().unwrap().len(), 1, "nobody has asked for money: {unknown:#}");
    assert_eq!(shop.upstream_calls().await.len(), 2);
    shop.close().await;
}

#[tokio::test]
async fn an_anthropic_sdk_that_tries_again_pays_once() {
    let shop = Shop::open().await;
    let played = &shop.plays(&SDK, &["retried"]).await["retried"];
    assert_eq!(played["seen"]["text"], "Now there is time.");
    let statuses: Vec<_> = played["sent"].as_array().unwrap().iter().map(|sent| sent["status"].clone()).collect();
    assert_eq!(statuses, [402, 429, 200]);
    assert_bought(played, 1);
    shop.close().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error_of_the_anthropic_sdk_and_one_that_is_left_is_paid() {
    let shop = Shop::open().await;
    let played = shop.plays(&SDK, &["cut", "left_early", "complete"]).await;
    let cut = &played["cut"];
    assert!(cut["seen"]["error"].is_string(), "{cut:#}");
    assert_bought(cut, 1);
    assert_eq!(cut["receipts"][0]["status"], "partial", "{cut:#}");
    let left = &played["left_early"];
    assert_eq!(left["seen"]["type"], "message_start", "{left:#}");
    assert_bought(left, 1);
    assert_eq!(left["receipts"][0]["error_class"], "client_gone", "{left:#}");
    // The gateway goes on.
    assert_bought(&played["complete"], 1);
    shop.close().await;
}

#[tokio::test]
async fn the_anthropic_sdk_buys_of_a_service_and_its_receipts_count_the_same_tokens() {
    let shop = Shop::of_services().await;
    let played = shop.plays(&SERVICE, &["complete", "stream", "helper", "tools", "overloaded"]).await;
    for name in ["complete", "stream", "helper"] {
        let played = &played[name];
        assert_eq!(played["seen"]["text"], "Hello! How can I help you today?", "{played:#}");
        assert_bought(played, 1);
        assert_receipt(played, 0);
        assert_provider(played, 0, "anthropic", SDK.model, [11, 7]);
    }
    assert_eq!(played["helper"]["seen"]["usage"], usage(11, 7), "{played:#}");
    let tools = &played["tools"];
    assert_bought(tools, 2);
    assert_provider(tools, 0, "anthropic", SDK.model, [30, 12]);
    assert_provider(tools, 1, "anthropic", SDK.model, [40, 9]);
    assert_failed(&played["overloaded"], "OverloadedError", 529);
    for call in shop.upstream_calls().await {
        assert_eq!(call["path"], "/v1/messages");
    }
    shop.close().await;
}
