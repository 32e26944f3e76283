//! Which models clients may ask for.

use serde_json::{Value, json};
use tower_mpp::upstream::{
    Stage,
    bedrock::{Bedrock, BedrockConfigError, BedrockModel},
};

use crate::{
    NOVA, ask,
    aws::{Aws, json},
    builder, hello, post, send,
    whole::conversed,
};

fn text() -> Value {
    conversed(json!([{"text": "Hello"}]), "end_turn")
}

#[tokio::test]
async fn a_model_goes_by_its_id_and_its_aliases_and_the_first_is_the_default() {
    for name in [Some("fast"), Some(NOVA), Some("bedrock/us.amazon.nova-micro-v1:0"), Some("bedrock/fast"), None] {
        let aws = Aws::says([json(&text())]);
        let mut body = hello(NOVA, json!({}));
        body["model"] = json!(name);
        let answered = ask(&aws, body).await;
        assert_eq!((answered.status, answered.json()["model"].as_str()), (200, Some(NOVA)), "{name:?}");
        assert!(aws.request().path.contains("us.amazon.nova-micro-v1%3A0"));
    }
}

#[tokio::test]
async fn other_models_are_refused_before_anything_is_sent() {
    for name in ["us.amazon.nova-pro-v1:0", "anthropic.claude-opus-4-7", "arn:aws:bedrock:x:123456789012:y/z", "FAST"] {
        let answered = ask(&Aws::default(), hello(name, json!({}))).await;
        assert_eq!((answered.status, answered.error().0.as_str()), (400, "invalid_request_error"));
        assert_eq!(answered.stage(), Stage::NotStarted);
    }
    // Where every model may be asked for, still no ARN may: it is somebody's own.
    let open = |aws: &Aws| Bedrock::builder(aws.client()).any_model(true).build().unwrap();
    for name in ["arn:aws:bedrock:x:123456789012:y/z", "bedrock/arn:aws:bedrock:x:1:y/z", "../x", "a b", "a/b"] {
        let bedrock = open(&Aws::default());
        let answered = send(&bedrock, post(&hello(name, json!({})))).await;
        assert_eq!((answered.status, bedrock.name_of(name)), (400, None), "{name}");
        assert!(!answered.error().1.contains("123456789012"), "somebody else may have written it");
    }
    let aws = Aws::says([json(&text())]);
    assert_eq!(send(&open(&aws), post(&hello("meta.llama3-8b-instruct-v1:0", json!({})))).await.status, 200);
}

#[tokio::test]
async fn an_account_in_an_arn_is_not_seen() {
    let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3";
    let aws = Aws::says([json(&text())]);
    let bedrock = Bedrock::builder(aws.client()).model(BedrockModel::new(arn).alias("fast")).build().unwrap();
    let answered = send(&bedrock, post(&hello("fast", json!({})))).await;
    assert_eq!(answered.json()["model"], "a1b2c3");
    for name in [arn, "fast", "bedrock/a1b2c3"] {
        assert_eq!(bedrock.name_of(name).as_deref(), Some("a1b2c3"));
    }
    assert_eq!(answered.report.body().model_id.as_deref(), Some("a1b2c3"));
    assert!(aws.request().path.contains("123456789012"), "it is called by its ARN: {}", aws.request().path);
}

#[tokio::test]
async fn a_model_is_called_in_the_place_of_its_vendor() {
    let aws = Aws::says([json(&text())]);
    let model = BedrockModel::new("amazon.nova-lite-v1:0");
    let bedrock =
        Bedrock::builder(aws.client()).inference_profile("amazon.nova", "eu.").model(model).region("eu-west-3");
    let answered = send(&bedrock.build().unwrap(), post(&hello("amazon.nova-lite-v1:0", json!({})))).await;
    assert_eq!(answered.status, 200);
    assert!(aws.request().path.contains("/model/eu.amazon.nova-lite-v1%3A0/"), "{}", aws.request().path);
    assert_eq!(answered.report.body().region.as_deref(), Some("eu-west-3"));
}

#[tokio::test]
async fn a_fixed_price_buys_a_fixed_number_of_tokens() {
    let limited = |aws: &Aws| builder(aws).max_tokens(100).build().unwrap();
    let aws = Aws::says([json(&text())]);
    assert_eq!(send(&limited(&aws), post(&hello(NOVA, json!({"max_tokens": 100})))).await.status, 200);
    let answered = send(&limited(&Aws::default()), post(&hello(NOVA, json!({"max_tokens": 101})))).await;
    assert_eq!(answered.error(), ("invalid_request_error".into(), "max_tokens: must be at most 100 here".into()));
    assert_eq!(answered.stage(), Stage::NotStarted);
}

#[test]
fn a_configuration_that_cannot_be_meant_is_refused() {
    let aws = Aws::default();
    let nothing = || Bedrock::builder(aws.client());
    assert_eq!(nothing().build().unwrap_err(), BedrockConfigError::NoModel);
    let twice = nothing().model(BedrockModel::new("a.b").alias("x")).model(BedrockModel::new("c.d").alias("bedrock/x"));
    assert!(matches!(twice.build().unwrap_err(), BedrockConfigError::Ambiguous(_)));
    let other = nothing().model(BedrockModel::new("a.b")).default_model("c.d");
    assert_eq!(other.build().unwrap_err(), BedrockConfigError::NoSuchDefault("c.d".into()));
    assert_eq!(nothing().model(BedrockModel::new("")).build().unwrap_err(), BedrockConfigError::EmptyName);
    let zero = nothing().model(BedrockModel::new("a.b")).idle_timeout(std::time::Duration::ZERO);
    assert_eq!(zero.build().unwrap_err(), BedrockConfigError::Zero("idle_timeout"));
}

#[test]
fn neither_keys_nor_accounts_are_printed() {
    let printed = format!("{:?}", crate::bedrock(&Aws::default()));
    assert!(!printed.contains("AKIDTEST") && !printed.contains("secret"), "{printed}");
}
