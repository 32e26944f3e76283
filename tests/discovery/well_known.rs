//! `/.well-known/mpp`: the document of a whole configuration, and what it says when less is there.

use std::{path::Path, time::Duration};

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_mpp::{
    KeyRing, ManualClock, Merchant, MerchantBuilder, Price,
    discovery::{
        Catalog, Discovery,
        well_known::{Built, Config, Facts, Form, ModelCard, Stage, WellKnown, model_options},
    },
    method::{Sandbox, stripe::Stripe},
    pricing::{ModelOption, ModelOptions},
    protocol::Timestamp,
    receipt::{Ed25519Signer, Receipts},
    refund::RefundPolicy,
    store::{MemoryAnswerStore, MemoryNonceStore},
};

use crate::{get, header, rail::Rail, send, support, text};

/// The tables of the gateway's example that are about the document.
#[derive(Deserialize)]
pub(crate) struct Prxy {
    pub(crate) models: Vec<ModelCard>,
    pub(crate) well_known: Config,
}

pub(crate) fn prxy() -> Prxy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gateway/prxy.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn stripe() -> Stripe {
    Stripe::builder("sk_live_of_nobody_at_all", "profile_of_nobody").build().unwrap()
}

fn builder() -> MerchantBuilder {
    let signer = Ed25519Signer::from_seed("r1", &[7; 32]).unwrap();
    Merchant::builder("api.prxy.monster", KeyRing::new(support::KEY).unwrap())
        .nonce_store(MemoryNonceStore::single_process(100))
        .answer_store(MemoryAnswerStore::new(1_000_000))
        .receipts(Receipts::builder("https://receipts.prxy.monster", signer).build().unwrap())
}

const EVERYTHING: Built = Built { sessions: true, mcp: true };

/// Everything that the configuration is about.
pub(crate) fn facts(merchant: &Merchant, cards: &[ModelCard]) -> Facts {
    Facts::of(merchant)
        .models(model_options(cards).unwrap())
        .sold_by_model(Method::POST, "/v1/agent/messages")
        .quote("/v1/agent/quote")
        .built(EVERYTHING)
}

pub(crate) fn whole() -> Merchant {
    builder().method(stripe()).method(Rail::new("stripe", "session").least(50)).build().unwrap()
}

pub(crate) fn seed_time() -> Timestamp {
    "2026-06-05T21:10:50.167Z".parse().unwrap()
}

fn document(config: &Config, cards: &[ModelCard], facts: &Facts) -> Value {
    let document = WellKnown::new(config, cards, facts).unwrap().document(seed_time()).unwrap();
    serde_json::from_slice(&document).unwrap()
}

/// What the example says with other facts.
fn prxy_with(facts_of: impl Fn(Facts) -> Facts) -> Value {
    let Prxy { models, well_known } = prxy();
    document(&well_known, &models, &facts_of(facts(&whole(), &models)))
}

fn problem(config: &Config, cards: &[ModelCard], facts: &Facts) -> String {
    WellKnown::new(config, cards, facts).unwrap_err().to_string()
}

#[test]
fn the_whole_configuration_is_the_recorded_document_byte_for_byte() {
    let Some(folder) = std::env::var_os("MPP_VECTORS_DIR") else {
        eprintln!("MPP_VECTORS_DIR is not set: well-known-mpp.json is not run");
        return;
    };
    let recorded = std::fs::read_to_string(Path::new(&folder).join("../seeds/well-known-mpp.json")).unwrap();
    let Prxy { models, well_known } = prxy();
    // Whom the document names as paid is what the challenges say, or what the texts say where they are silent.
    let named = Stripe::builder("sk_live_of_nobody_at_all", "profile_of_nobody").recipient("acct_1SCXoFBQFhC8k5Tn");
    let named = builder()
        .method(named.build().unwrap())
        .method(Rail::new("stripe", "session").least(50).recipient("acct_1SCXoFBQFhC8k5Tn"))
        .build()
        .unwrap();
    for merchant in [whole(), named] {
        let document = WellKnown::new(&well_known, &models, &facts(&merchant, &models)).unwrap();
        // Its `generated_at` is ours, so that every byte can be compared.
        let document = document.document(seed_time()).unwrap();
        assert_eq!(std::str::from_utf8(&document).unwrap(), recorded.trim_end());
    }
}

#[test]
fn a_test_with_play_money_may_keep_the_texts_of_production() {
    let Prxy { models, well_known } = prxy();
    let merchant = builder().test_mode(true).method(Sandbox::new()).build().unwrap();
    let document = document(&well_known, &models, &facts(&merchant, &models).built(Built::default()));
    let methods: Vec<_> = document["payment_methods"].as_array().unwrap().iter().map(|each| &each["method"]).collect();
    assert_eq!(methods, ["sandbox"]);
    assert_eq!(document["offers"][0]["method"], "sandbox");
    assert!(!document.to_string().contains("acct_"), "nobody is paid there");
}

#[test]
fn what_is_not_served_is_not_offered() {
    let served = prxy_with(|facts| facts);
    let without = prxy_with(|facts| facts.built(Built::default()));
    let intents: Vec<_> = without["offers"].as_array().unwrap().iter().map(|offer| &offer["intent"]).collect();
    assert_eq!(intents, ["charge"]);
    let paths: Vec<_> = without["routes"].as_array().unwrap().iter().map(|route| &route["path"]).collect();
    assert_eq!(paths, ["/v1/agent/messages"]);
    let capabilities = &without["capabilities"];
    assert_eq!(capabilities["sessions"]["status"], "not_live");
    assert_eq!(capabilities["sessions"]["endpoints"], json!([]));
    assert_eq!(without["mpp_model_options"][0]["session_price_usd_per_call"], Value::Null);
    let billing = &without["mpp_provider_billing"];
    assert_eq!(billing["effective_session_price_usd_per_call"], Value::Null);

    // No member of MCP claims anything, and none is missing.
    let (mcp, of_served) = (&capabilities["atxp_mcp"], &served["capabilities"]["atxp_mcp"]);
    assert_eq!(mcp["status"], "not_live");
    assert_eq!(mcp["server_url"], Value::Null);
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(mcp), names(of_served));
    assert!(mcp.as_object().unwrap().values().all(|value| *value != json!(true)), "{mcp}");
    for tool in capabilities["atxp_mcp_tools"].as_array().unwrap() {
        assert_eq!(tool["status"], "not_live");
    }

    // Everything else is as it was.
    let rest = |document: &Value| {
        let mut rest = document.clone();
        for member in ["sessions", "atxp_mcp", "atxp_mcp_tools", "mpp_model_options", "mpp_provider_billing"] {
            rest["capabilities"].as_object_mut().unwrap().remove(member);
        }
        for member in ["mpp_model_options", "mpp_provider_billing"] {
            rest.as_object_mut().unwrap().remove(member);
            rest["routes"][0].as_object_mut().unwrap().remove(member);
        }
        rest["routes"][0].as_object_mut().unwrap().remove("model_options");
        rest["routes"].as_array_mut().unwrap().truncate(1);
        rest["offers"].as_array_mut().unwrap().truncate(1);
        rest
    };
    assert_eq!(rest(&without), rest(&served));
}

#[test]
fn each_stage_says_what_it_does() {
    for (stage, status, charging) in [
        (Stage::PrivatePreview, "private_preview", false),
        (Stage::SettlementPending, "settlement_pending", false),
        (Stage::Live, "live", true),
    ] {
        let document = prxy_with(|facts| facts.stage(stage));
        let mpp = &document["mpp"];
        assert_eq!(mpp["status"], status);
        for (member, on) in [
            ("discovery", true),
            ("challenge", true),
            ("charging", charging),
            ("settlement", charging),
            ("receipts", charging),
            ("production_payments", charging),
            ("test_mode", false),
            ("quote", true),
        ] {
            assert_eq!(mpp[member], on, "{status} {member}");
        }
        for path in ["/offers/0", "/offers/1", "/payment_methods/0", "/routes/0", "/routes/0/receipt"] {
            assert_eq!(document.pointer(path).unwrap()["status"], status, "{path}");
        }
        assert_eq!(document["mpp_model_options"][2]["status"], status);
        assert_eq!(document["capabilities"]["receipts"] == "header", charging);
        let reason = mpp["reason"].as_str().unwrap();
        assert_eq!(reason.starts_with("MPP discovery, quote"), charging, "the words of another stage: {reason}");
    }
}

#[test]
fn test_mode_never_looks_like_production() {
    let Prxy { models, well_known } = prxy();
    let rails =
        |builder: MerchantBuilder| builder.method(Rail::new("stripe", "charge")).method(Rail::new("stripe", "session"));
    let merchant = rails(builder().test_mode(true)).build().unwrap();
    let document = document(&well_known, &models, &facts(&merchant, &models));
    assert_eq!(document["mpp"]["status"], "test_mode");
    assert_eq!(document["mpp"]["test_mode"], true);
    assert_eq!(document["mpp"]["production_payments"], false);
    assert_eq!(document["capabilities"]["test_mode"], true);
    assert_eq!(document["offers"][0]["status"], "test_mode");
    assert!(document["mpp"]["reason"].as_str().unwrap().contains("test mode"));
    // A rail that takes a cent has no minimum.
    assert_eq!(document["mpp_provider_billing"].get("stripe_minimum_charge_usd"), None);
}

#[test]
fn without_a_default_none_is_named_and_the_headline_is_the_first_that_is_sold() {
    let Prxy { mut models, well_known } = prxy();
    let named = document(&well_known, &models, &facts(&whole(), &models));
    models[0].default = false;
    let unnamed = document(&well_known, &models, &facts(&whole(), &models));
    let policy = &unnamed["mpp_model_policy"];
    assert_eq!((&policy["default_option_id"], &policy["default_model"]), (&Value::Null, &Value::Null));
    assert!(named.to_string().contains("\"default\":true") && !unnamed.to_string().contains("\"default\":true"));
    for member in ["offers", "payment_methods", "mpp_provider_billing"] {
        assert_eq!(unnamed[member], named[member], "{member}");
    }
}

#[test]
fn an_account_in_an_arn_is_never_published() {
    const ARN: &str = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc";
    let Prxy { mut models, well_known } = prxy();
    models[1].model = format!("bedrock/{ARN}");
    assert!(model_options(&models).unwrap_err().to_string().contains("models.balanced.model"));
    // Also where the price list was made by hand.
    let option = ModelOption::new("fast", format!("bedrock/{ARN}"), Price::usd("0.50").unwrap());
    let by_hand = Facts::of(&whole()).models(ModelOptions::new([option]).unwrap());
    let by_hand = by_hand.sold_by_model(Method::POST, "/v1/agent/messages");
    assert!(problem(&Config::default(), &[], &by_hand).contains("models.fast.model"));

    models[1].name = Some("house-sonnet".into());
    let options = model_options(&models).unwrap();
    let option = options.find("bedrock/house-sonnet").unwrap();
    assert_eq!((option.bare_model(), option.asked_model()), ("house-sonnet", ARN));
    assert!(options.find(ARN).is_none(), "nobody can find it out");
    let document = document(&well_known, &models, &facts(&whole(), &models)).to_string();
    assert!(document.contains("bedrock/house-sonnet") && !document.contains("123456789012"), "{document}");
}

#[test]
fn refunds_are_what_the_merchant_does() {
    let all = [
        "refund_if_payment_succeeds_but_no_provider_call_starts",
        "refund_if_provider_timeout_before_first_token",
        "no_refund_after_successful_stream_start",
        "no_refund_after_side_effecting_tool_success",
    ];
    let Prxy { models, well_known } = prxy();
    let of = |policy: RefundPolicy| {
        let rails = builder().refunds(policy).method(stripe()).method(Rail::new("stripe", "session"));
        document(&well_known, &models, &facts(&rails.build().unwrap(), &models))
    };
    let on = of(RefundPolicy::all());
    assert_eq!(on["refunds"]["supported"], true);
    assert_eq!(on["refunds"]["rules"], json!(all));
    assert_eq!(on["refunds"]["planned_rules"], json!([]));
    assert_eq!(on["capabilities"]["refunds"], true);
    assert_eq!(on["routes"][0]["refunds"], on["refunds"]);
    let some = of(RefundPolicy::off().refund_if_provider_timeout_before_first_token(true));
    assert_eq!(some["refunds"]["rules"], json!([all[1]]));
    assert_eq!(some["refunds"]["planned_rules"], json!([all[0], all[2], all[3]]));
    // Rules that only say when not to refund give nothing back.
    let none = of(RefundPolicy::off().no_refund_after_successful_stream_start(true));
    assert_eq!(none["refunds"]["supported"], false);
    assert_eq!(none["refunds"]["planned_rules"], json!(all));
}

#[test]
fn flags_follow_what_is_configured() {
    let Prxy { models, well_known } = prxy();
    let merchant = Merchant::builder("api.prxy.monster", KeyRing::new(support::KEY).unwrap())
        .nonce_store(MemoryNonceStore::single_process(100))
        .method(stripe())
        .build()
        .unwrap();
    let facts = Facts::of(&merchant)
        .models(model_options(&models).unwrap())
        .sold_by_model(Method::POST, "/v1/agent/messages")
        .body_digests(false);
    let document = document(&well_known, &models, &facts);
    let capabilities = &document["capabilities"];
    assert_eq!(capabilities["idempotency"], false);
    assert_eq!(capabilities["content_digest"], Value::Null);
    assert_eq!((&capabilities["ledger_public"], &capabilities["ledger_url"]), (&json!(false), &Value::Null));
    assert_eq!(document["routes"][0]["receipt"]["ledger_url"], Value::Null);
    assert_eq!(document["mpp"]["quote"], false);
    assert_eq!(capabilities["quote_endpoint"], Value::Null);
}

#[test]
fn the_minimal_form_has_four_members_for_each_route() {
    let cards: Vec<ModelCard> = serde_json::from_value(json!([
        {"id": "sonnet", "model": "claude-sonnet-4-6", "price": "0.05", "default": true}
    ]))
    .unwrap();
    let config: Config = serde_json::from_value(json!({
        "form": "minimal",
        "routes": [{"path": "/v1/agent/messages", "category": "llm-generation"}],
    }))
    .unwrap();
    assert_eq!(config.form, Form::Minimal);
    let merchant = builder().method(Rail::new("acme", "charge")).build().unwrap();
    let facts = Facts::of(&merchant)
        .models(model_options(&cards).unwrap())
        .sold_by_model(Method::POST, "/v1/agent/messages")
        .stage(Stage::PrivatePreview);
    let document = WellKnown::new(&config, &cards, &facts).unwrap().document(seed_time()).unwrap();
    assert_eq!(
        std::str::from_utf8(&document).unwrap(),
        concat!(
            r#"{"spec_version":"0.1","realm":"api.prxy.monster","routes":[{"path":"/v1/agent/messages","#,
            r#""method":"POST","price_usd_per_call":0.05,"category":"llm-generation"}]}"#
        )
    );
}

#[test]
fn a_price_that_no_rail_takes_is_never_offered() {
    let Prxy { mut models, mut well_known } = prxy();
    let of = |models: &[ModelCard]| facts(&whole(), models);
    models[1].price = "0.49".into();
    let error = problem(&well_known, &models, &of(&models));
    assert!(error.starts_with("models.balanced.price: no payment method takes 0.49 USD"), "{error}");
    // One that is not sold may cost anything.
    models[1].disabled = true;
    let document = document(&well_known, &models, &of(&models));
    assert_eq!(document["mpp_model_options"][1]["status"], "disabled");

    well_known.sessions.as_mut().unwrap().default_budget = "0.40".into();
    let error = problem(&well_known, &models, &of(&models));
    assert!(error.starts_with("sessions.default_budget: no payment method sells a session for 0.40 USD"), "{error}");
    let cheap = facts(&whole(), &prxy().models).sold(Method::GET, "/cheap", Price::usd("0.10").unwrap());
    let error = problem(&prxy().well_known, &prxy().models, &cheap);
    assert!(error.starts_with("routes.GET /cheap: no payment method takes its price"), "{error}");
}

#[test]
fn texts_about_what_is_not_there_are_errors() {
    let Prxy { models, well_known } = prxy();
    let merchant = whole();
    let mut other = models.clone();
    other[2].price = "2.50".into();
    let mut unmounted = well_known.clone();
    unmounted.routes[0].path = "/v1/agent/message".into();
    let mut unknown = well_known.clone();
    unknown.payment_methods[0].method = "strype".into();
    let mut twice = well_known.clone();
    twice.routes.push(twice.routes[0].clone());
    let mut unfunded = well_known.clone();
    unfunded.sessions = None;
    for (config, cards, field) in [
        (&well_known, &other, "models.coding: "),
        (&unmounted, &models, "routes.POST /v1/agent/message: "),
        (&unknown, &models, "payment_methods.strype: "),
        (&twice, &models, "routes.POST /v1/agent/messages: "),
        (&unfunded, &models, "sessions: "),
    ] {
        let error = problem(config, cards, &facts(&merchant, &models));
        assert!(error.starts_with(field), "{error}");
    }
    let named = builder()
        .method(Rail::new("stripe", "charge").recipient("acct_other"))
        .method(Rail::new("stripe", "session"))
        .build()
        .unwrap();
    let error = problem(&well_known, &models, &facts(&named, &models));
    assert!(error.starts_with("payment_methods.stripe.recipient: "), "{error}");

    for text in
        ["[well_known]\nfrom = 1", "[well_known.merchant]\nnmae = \"x\"", "[well_known.sessions]\nprice = \"1\""]
    {
        #[derive(Debug, Deserialize)]
        struct Only {
            #[allow(dead_code, reason = "it is never read")]
            well_known: Config,
        }
        assert!(toml::from_str::<Only>(text).is_err(), "{text}");
    }
}

#[tokio::test]
async fn both_paths_give_out_the_same_copy() {
    let Prxy { models, well_known } = prxy();
    let document = WellKnown::new(&well_known, &models, &facts(&whole(), &models)).unwrap();
    let clock = std::sync::Arc::new(ManualClock::new(seed_time()));
    let catalog = Catalog::new().base_path("/api");
    let discovery = Discovery::new(&catalog).unwrap().well_known(document).clock(std::sync::Arc::clone(&clock));
    let first = get(&discovery, "/.well-known/mpp").await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(header(&first, "content-type"), Some("application/json"));
    assert_eq!(header(&first, "cache-control"), Some("public, max-age=60"));
    clock.advance(Duration::from_secs(59));
    let second = get(&discovery, "/.well-known/mpp.json").await;
    assert_eq!(first.body, second.body);
    clock.advance(Duration::from_secs(1));
    let third = get(&discovery, "/.well-known/mpp").await;
    assert!(text(&third).ends_with(r#""generated_at":"2026-06-05T21:11:50.167Z"}"#));
    let head = send(&discovery, Method::HEAD, "/.well-known/mpp", &[]).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(send(&discovery, Method::POST, "/.well-known/mpp", &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(&discovery, "/api/.well-known/mpp").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_deployment_without_mpp_has_no_document() {
    let Prxy { models, well_known } = prxy();
    let disabled = facts(&whole(), &models).stage(Stage::Disabled);
    let document = WellKnown::new(&well_known, &models, &disabled).unwrap();
    assert_eq!(document.document(seed_time()), None);
    let discovery = Discovery::new(&Catalog::new()).unwrap().well_known(document);
    for path in ["/.well-known/mpp", "/.well-known/mpp.json"] {
        assert_eq!(get(&discovery, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}
