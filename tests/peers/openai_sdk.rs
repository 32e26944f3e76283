//! The official OpenAI SDK buys chat completions.

use serde_json::{Value, json};

use crate::sdk::{Sdk, Shop, assert_bought, assert_failed, assert_provider, assert_receipt};

const SERVICE: Sdk = Sdk { base: "/openai/v1", ..SDK };
const SDK: Sdk = Sdk { script: "openai_sdk.py", base: "/v1", model: "gpt-small" };

fn usage(prompt: u64, completion: u64) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

#[tokio::test]
async fn the_openai_sdk_buys_a_completion_whole_and_in_a_stream() {
    let shop = Shop::open().await;
    let played = shop.plays(&SDK, &["complete", "stream"]).await;
    for name in ["complete", "stream"] {
        let played = &played[name];
        let seen = &played["seen"];
        assert_eq!(seen["text"], "Hello! How can I help you today?", "{seen:#}");
        assert_eq!((&seen["stop"], &seen["usage"]), (&json!("stop"), &usage(11, 7)), "{seen:#}");
        assert_bought(played, 1);
        assert_receipt(played, 0);
    }
    // The role, two pieces of text, the stop and the usage; what the merchant adds behind [DONE] is not seen.
    assert_eq!(played["stream"]["seen"]["events"], 5, "{played:#}");
    let calls = shop.upstream_calls().await;
    assert_eq!(calls.len(), 2, "{calls:#?}");
    for call in &calls {
        assert_eq!(call["path"], "/v1/chat/completions");
        let headers = call["headers"].as_object().unwrap();
        assert!(headers.contains_key("x-api-key") && !headers.contains_key("authorization"), "{headers:?}");
    }
    shop.close().await;
}

#[tokio::test]
async fn a_tool_that_the_openai_sdk_is_asked_for_is_two_payments() {
    let shop = Shop::open().await;
    let played = &shop.plays(&SDK, &["tools"]).await["tools"];
    assert_eq!(played["seen"]["called"], json!(["get_weather", {"city": "Paris"}]));
    assert_eq!(played["seen"]["text"], "It is 21 degrees in Paris.");
    assert_eq!(played["seen"]["usage"], usage(40, 9));
    assert_bought(played, 2);
    assert_receipt(played, 0);
    assert_receipt(played, 1);
    shop.close().await;
}

#[tokio::test]
async fn errors_are_those_of_the_openai_sdk() {
    let shop = Shop::open().await;
    let played = shop.plays(&SDK, &["rate_limited", "unknown_model"]).await;
    assert_failed(&played["rate_limited"], "RateLimitError", 429);
    let unknown = &played["unknown_model"];
    assert_eq!((&unknown["seen"]["error"], &unknown["seen"]["status"]), (&json!("BadRequestError"), &json!(400)));
    assert_eq!(unknown["sent"].as_array().unwrap().len(), 1, "nobody has asked for money: {unknown:#}");
    assert_eq!(shop.upstream_calls().await.len(), 1);
    shop.close().await;
}

#[tokio::test]
async fn an_openai_sdk_that_tries_again_pays_once() {
    let shop = Shop::open().await;
    let played = &shop.plays(&SDK, &["retried"]).await["retried"];
    assert_eq!(played["seen"]["text"], "Now there is time.");
    let statuses: Vec<_> = played["sent"].as_array().unwrap().iter().map(|sent| sent["status"].clone()).collect();
    assert_eq!(statuses, [402, 429, 200]);
    assert_bought(played, 1);
    shop.close().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error_of_the_openai_sdk_and_one_that_is_left_is_paid() {
    let shop = Shop::open().await;
    let played = shop.plays(&SDK, &["cut", "left_early", "complete"]).await;
    let cut = &played["cut"];
    assert!(cut["seen"]["error"].is_string(), "{cut:#}");
    assert_bought(cut, 1);
    assert_eq!(cut["receipts"][0]["status"], "partial", "{cut:#}");
    let left = &played["left_early"];
    assert_eq!(left["seen"]["role"], "assistant", "{left:#}");
    assert_bought(left, 1);
    assert_eq!(left["receipts"][0]["error_class"], "client_gone", "{left:#}");
    // The gateway goes on.
    assert_bought(&played["complete"], 1);
    shop.close().await;
}

#[tokio::test]
async fn the_openai_sdk_buys_of_a_service_and_its_receipts_count_the_same_tokens() {
    let shop = Shop::of_services().await;
    let played = shop.plays(&SERVICE, &["complete", "stream", "tools", "rate_limited"]).await;
    for name in ["complete", "stream"] {
        let played = &played[name];
        assert_eq!(played["seen"]["text"], "Hello! How can I help you today?", "{played:#}");
        assert_eq!(played["seen"]["usage"], usage(11, 7), "{played:#}");
        assert_bought(played, 1);
        assert_receipt(played, 0);
        assert_provider(played, 0, "openai", SDK.model, [11, 7]);
    }
    let tools = &played["tools"];
    assert_bought(tools, 2);
    assert_provider(tools, 0, "openai", SDK.model, [30, 12]);
    assert_provider(tools, 1, "openai", SDK.model, [40, 9]);
    assert_failed(&played["rate_limited"], "RateLimitError", 429);
    for call in shop.upstream_calls().await {
        assert_eq!(call["path"], "/v1/chat/completions");
    }
    shop.close().await;
}
