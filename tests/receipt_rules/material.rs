//! Receipts of every kind.

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};
use tower_mpp::{
    ManualClock,
    receipt::{Ed25519Signer, ReceiptBody, Receipts, ReceiptsBuilder},
};

pub(crate) const SEED: [u8; 32] = [7; 32];
pub(crate) const NOW: &str = "2026-06-05T21:10:50.168Z";

pub(crate) fn signer() -> Ed25519Signer {
    Ed25519Signer::from_seed("key-1", &SEED).unwrap()
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW.parse().unwrap()))
}

pub(crate) fn builder() -> ReceiptsBuilder {
    Receipts::builder("https://receipts.example.com", signer()).clock(clock())
}

pub(crate) fn receipts() -> Receipts {
    builder().build().unwrap()
}

/// A key at hand signs at once, so that no runtime is needed.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("it waits for something"),
    }
}

/// A receipt with a value in every member.
pub(crate) fn full_body() -> ReceiptBody {
    let mut members = Map::new();
    for (name, kind) in MEMBERS {
        let value = match kind {
            Kind::Text => json!(format!("some {name}")),
            Kind::OneOf(names) => json!(names[0]),
            Kind::Count => json!(12),
            Kind::Status => json!(200),
            Kind::Cost => json!(0.0000012),
            Kind::Instant => json!(NOW),
            Kind::Id => json!("8c5a4e2a-9b6d-4f3e-89a3-aa3e8b1f7fc3"),
            Kind::List => json!(["mcp-optimizer", "cost-guard"]),
            Kind::Payment => payment(),
        };
        members.insert((*name).to_owned(), value);
    }
    serde_json::from_value(Value::Object(members)).unwrap()
}

fn payment() -> Value {
    json!({
        "method": "stripe", "intent": "charge", "amount": "50", "currency": "usd", "reference": "pi_secret",
        "challenge_id": "VfgHeL5VZKr_GpV-kX2g3yQ2v4uCnfVNntUmPX-an7w",
    })
}

pub(crate) enum Kind {
    Text,
    OneOf(&'static [&'static str]),
    Count,
    Status,
    Cost,
    Instant,
    Id,
    List,
    Payment,
}

/// The schema, a second time, in the order of its description.
#[rustfmt::skip]
pub(crate) const MEMBERS: &[(&str, Kind)] = &[
    ("receipt_id", Kind::Id), ("request_id", Kind::Text), ("parent_receipt_id", Kind::Id),
    ("client_request_id", Kind::Text), ("idempotency_key", Kind::Text), ("agent_id", Kind::Text),
    ("tenant_id", Kind::Text), ("project_id", Kind::Text), ("customer_id", Kind::Text), ("environment", Kind::Text),
    ("api_key_id", Kind::Text), ("user_id", Kind::Text),
    ("provider", Kind::OneOf(&["anthropic", "openai", "google", "aws_bedrock", "openrouter", "groq"])),
    ("upstream_provider", Kind::Text), ("model_id", Kind::Text), ("region", Kind::Text),
    ("aws_account_id", Kind::Text), ("iam_principal", Kind::Text),
    ("receipt_type", Kind::OneOf(&[
        "inference", "cache_hit", "blocked", "failed", "settlement", "refund", "reconciliation_adjustment",
    ])),
    ("status", Kind::Text), ("http_status", Kind::Status), ("provider_status", Kind::Status),
    ("error_class", Kind::Text), ("error_code", Kind::Text), ("error_message_hash", Kind::Text),
    ("input_tokens", Kind::Count), ("output_tokens", Kind::Count), ("cache_read_tokens", Kind::Count),
    ("cache_write_tokens", Kind::Count), ("tokens_source", Kind::Text), ("cost_source", Kind::Text),
    ("cost_estimated_usd", Kind::Cost), ("cost_estimate_confidence", Kind::OneOf(&["complete", "partial", "low"])),
    ("cost_final_usd", Kind::Cost), ("cost_currency", Kind::Text), ("pricing_table_id", Kind::Text),
    ("pricing_version", Kind::Text), ("pricing_effective_at", Kind::Instant), ("routing_decision", Kind::Text),
    ("policy_decision", Kind::Text), ("cache_status", Kind::Text), ("module_chain", Kind::List),
    ("settlement_protocol", Kind::Text), ("client_request_hash", Kind::Text), ("provider_request_hash", Kind::Text),
    ("provider_response_hash", Kind::Text), ("client_response_hash", Kind::Text),
    ("payload_capture", Kind::OneOf(&["hash_only", "encrypted_at_rest", "none"])),
    ("encrypted_request_blob", Kind::Text), ("encrypted_response_blob", Kind::Text), ("encryption_alg", Kind::Text),
    ("encryption_pubkey_fingerprint", Kind::Text),
    ("visibility", Kind::OneOf(&["private", "public_demo", "public_minimal", "public_redacted", "public_full"])),
    ("public_receipt_hash", Kind::Text), ("redaction_policy", Kind::Text), ("request_started_at", Kind::Instant),
    ("request_ended_at", Kind::Instant), ("created_at", Kind::Instant),
    // Ours.
    ("payment", Kind::Payment), ("agent_handle", Kind::Text),
];

/// Texts that are easy to get wrong.
pub(crate) fn text() -> BoxedStrategy<String> {
    let parts = select(vec![
        "a",
        "Z",
        "0",
        " ",
        "\"",
        "\\",
        "/",
        "\n",
        "\u{0}",
        "\u{1f}",
        "\u{7f}",
        "e\u{301}",
        "\u{e9}",
        "\u{212b}",
        "\u{958}",
        "\u{fb33}",
        "\u{1f602}",
        "\u{2028}",
        "\u{1112}\u{1161}\u{11ab}",
        "\u{fb01}",
        "\u{301}",
    ]);
    prop_oneof![vec(parts, 0..6).prop_map(|parts| parts.concat()), any::<String>(), "[a-zA-Z0-9_:. -]{0,30}",].boxed()
}

fn instants() -> impl Strategy<Value = Value> {
    (0_i64..4_000_000_000_000, 0_u32..1_000_000).prop_map(|(millis, nanos)| {
        let at = tower_mpp::protocol::Timestamp::from_unix_millis(millis).unwrap();
        json!(at.saturating_add(std::time::Duration::from_nanos(nanos.into())).to_string())
    })
}

fn member(kind: &Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::Text => option::of(text()).prop_map(|text| json!(text)).boxed(),
        Kind::OneOf(names) => select(names.to_vec()).prop_map(|name| json!(name)).boxed(),
        Kind::Count => option::of(0_u64..1 << 53).prop_map(|count| json!(count)).boxed(),
        Kind::Status => option::of(any::<u16>()).prop_map(|status| json!(status)).boxed(),
        Kind::Cost => option::of((-999_999_999_999_999_i64..=999_999_999_999_999, 0_i32..4))
            .prop_map(|cost| {
                json!(cost.map(|(digits, more)| format!("{digits}e{}", more - 12).parse::<f64>().unwrap()))
            })
            .boxed(),
        Kind::Instant => prop_oneof![Just(Value::Null), instants()].boxed(),
        Kind::Id => {
            any::<[u8; 16]>().prop_map(|id| json!(tower_mpp::protocol::ReceiptId::from_bytes(id).to_string())).boxed()
        }
        Kind::List => vec(text(), 0..4).prop_map(|list| json!(list)).boxed(),
        Kind::Payment => (option::of(text()), any::<u128>(), option::of(any::<[u8; 32]>()))
            .prop_map(|(reference, amount, challenge)| {
                let mut payment = payment();
                payment["reference"] = json!(reference);
                payment["amount"] = json!(amount.to_string());
                let challenge = challenge.map(tower_mpp::protocol::ChallengeId::from_bytes);
                payment["challenge_id"] = json!(challenge);
                if amount % 4 == 0 { Value::Null } else { payment }
            })
            .boxed(),
    }
}

/// Receipts with anything in their members.
pub(crate) fn bodies() -> impl Strategy<Value = ReceiptBody> {
    let members: Vec<BoxedStrategy<Value>> = MEMBERS.iter().map(|(_, kind)| member(kind)).collect();
    members.prop_map(|values| {
        let members = MEMBERS.iter().map(|(name, _)| (*name).to_owned()).zip(values).collect();
        serde_json::from_value(Value::Object(members)).unwrap()
    })
}

fn tree(text: BoxedStrategy<String>) -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<f64>().prop_filter("JSON has no others", |number| number.is_finite()).prop_map(|number| json!(number)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number,
        text.clone().prop_map(Value::String)
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let objects = vec((text.clone(), inner.clone()), 0..6);
        prop_oneof![
            vec(inner, 0..6).prop_map(Value::Array),
            objects.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

pub(crate) fn json() -> impl Strategy<Value = Value> {
    tree(text())
}

pub(crate) fn ascii_json() -> impl Strategy<Value = Value> {
    tree("[\\x00-\\x7f]{0,8}".boxed())
}
