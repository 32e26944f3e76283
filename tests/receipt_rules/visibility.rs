//! Who sees what.

use serde_json::Value;
use tower_mpp::{
    protocol::Visibility,
    receipt::{ReceiptBody, ReceiptType, RedactionPolicy, SignedReceipt},
};

use super::{
    material::{builder, full_body, run},
    signed,
};

fn names(json: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(json).unwrap();
    value.as_object().unwrap().keys().cloned().collect()
}

fn with(visibility: Visibility) -> SignedReceipt {
    signed(ReceiptBody { visibility, ..full_body() })
}

const DEMO: [&str; 29] = [
    "cache_read_tokens",
    "cache_status",
    "cache_write_tokens",
    "client_request_hash",
    "client_response_hash",
    "cost_estimate_confidence",
    "cost_estimated_usd",
    "created_at",
    "environment",
    "http_status",
    "input_tokens",
    "model_id",
    "module_chain",
    "output_tokens",
    "parent_receipt_id",
    "payload_capture",
    "payment",
    "policy_decision",
    "provider",
    "provider_request_hash",
    "provider_response_hash",
    "receipt_id",
    "receipt_type",
    "signature",
    "signing_algorithm",
    "signing_key_id",
    "status",
    "verified",
    "visibility",
];

#[test]
fn a_private_receipt_has_nothing_for_everybody() {
    let signed = with(Visibility::Private);
    assert_eq!(signed.public_json(), None);
    assert_eq!(signed.row().listed, None);
    let names = names(signed.json());
    assert!(!names.contains(&"verified".to_owned()));
    assert!(!names.contains(&"agent_handle".to_owned()));
    // The 58 of the schema, the payment, and three of the signature.
    assert_eq!(names.len(), 62);
}

#[test]
fn a_demo_shows_no_names_and_is_in_no_list() {
    let signed = with(Visibility::PublicDemo);
    assert_eq!(names(signed.public_json().unwrap()), DEMO);
    assert_eq!(signed.row().listed, None);
    for hidden in ["some tenant_id", "some agent_handle", "pi_secret", "VfgHeL5VZKr", "some idempotency_key"] {
        assert!(!signed.public_json().unwrap().contains(hidden), "{hidden}");
    }
    assert!(signed.json().contains("pi_secret"));
}

#[test]
fn a_minimal_one_has_the_handle_as_well() {
    let signed = with(Visibility::PublicMinimal);
    let mut expected = DEMO.to_vec();
    expected.insert(0, "agent_handle");
    assert_eq!(names(signed.public_json().unwrap()), expected);
    let listed = signed.row().listed.clone().unwrap();
    assert_eq!(
        (listed.name.as_str(), listed.succeeded, listed.paid, listed.tokens),
        ("some agent_handle", false, false, 24)
    );

    let body = ReceiptBody { visibility: Visibility::PublicMinimal, agent_handle: None, ..full_body() };
    let unclaimed = signed_status(body);
    assert_eq!(names(unclaimed.public_json().unwrap()), DEMO);
    let listed = unclaimed.row().listed.clone().unwrap();
    assert_eq!((listed.name.as_str(), listed.succeeded), ("some model_id", true));
}

fn signed_status(body: ReceiptBody) -> SignedReceipt {
    signed(ReceiptBody { status: Some("succeeded".into()), ..body })
}

#[test]
fn a_redacted_one_shows_what_its_policy_keeps() {
    let signed = with(Visibility::PublicRedacted);
    let public = names(signed.public_json().unwrap());
    for shown in ["request_started_at", "cost_final_usd", "agent_handle", "redaction_policy"] {
        assert!(public.contains(&shown.to_owned()), "{shown}");
    }
    for hidden in [
        "tenant_id",
        "project_id",
        "agent_id",
        "customer_id",
        "api_key_id",
        "user_id",
        "iam_principal",
        "aws_account_id",
        "region",
        "request_id",
        "client_request_id",
        "idempotency_key",
        "error_message_hash",
        "encrypted_request_blob",
        "encrypted_response_blob",
        "public_receipt_hash",
    ] {
        assert!(!public.contains(&hidden.to_owned()), "{hidden}");
    }
    assert!(!signed.public_json().unwrap().contains("pi_secret"));
    assert_eq!(signed.body().redaction_policy.as_deref(), Some("standard-v1"));

    let policy = RedactionPolicy::new("proof-of-work", ["provider", "payment"]).unwrap();
    let receipts = builder().redaction(policy).build().unwrap();
    let body = ReceiptBody { visibility: Visibility::PublicRedacted, ..full_body() };
    let signed = run(receipts.sign(body, false)).unwrap();
    let expected = [
        "created_at",
        "parent_receipt_id",
        "payment",
        "provider",
        "receipt_id",
        "receipt_type",
        "redaction_policy",
        "signature",
        "signing_algorithm",
        "signing_key_id",
        "verified",
        "visibility",
    ];
    assert_eq!(names(signed.public_json().unwrap()), expected);
    assert!(signed.public_json().unwrap().contains("\"redaction_policy\":\"proof-of-work\""));
    assert!(!signed.public_json().unwrap().contains("pi_secret"));
    let listed = signed.row().listed.clone().unwrap();
    assert_eq!((listed.name.as_str(), listed.succeeded, listed.paid, listed.tokens), ("", false, false, 0));
}

#[test]
fn a_policy_keeps_only_what_there_is() {
    for bad in ["", "a b", &"a".repeat(65)] {
        assert!(RedactionPolicy::new(bad, []).is_err());
    }
    for bad in ["", "tenant", "public_receipt_hash", "signature", "verified"] {
        assert!(RedactionPolicy::new("p", [bad]).unwrap_err().to_string().contains("no member"), "{bad}");
    }
    assert!(RedactionPolicy::new("p", ["tenant_id"]).is_ok());
}

#[test]
fn a_full_one_is_one_document() {
    let signed = with(Visibility::PublicFull);
    assert_eq!(signed.public_json(), Some(signed.json()));
    assert!(signed.json().contains("pi_secret"));
    assert!(signed.json().contains("\"public_receipt_hash\":null"));
    assert!(signed.json().contains("\"verified\":true"));
    assert_eq!(names(signed.json()).len(), 64);
}

#[test]
fn what_the_signing_fills_in_cannot_be_brought_along() {
    let signed = with(Visibility::PublicMinimal);
    assert_eq!(signed.body().redaction_policy, None);
    assert_ne!(signed.body().public_receipt_hash.as_deref(), Some("some public_receipt_hash"));
}

#[test]
fn money_that_goes_back_and_beginnings_of_streams_are_no_payments() {
    let body = |receipt_type| ReceiptBody {
        visibility: Visibility::PublicMinimal,
        receipt_type: Some(receipt_type),
        status: Some("succeeded".into()),
        ..full_body()
    };
    for (receipt_type, paid) in [
        (ReceiptType::Inference, true),
        (ReceiptType::CacheHit, true),
        (ReceiptType::Settlement, true),
        (ReceiptType::Blocked, false),
        (ReceiptType::Failed, false),
        (ReceiptType::Refund, false),
        (ReceiptType::ReconciliationAdjustment, false),
    ] {
        assert_eq!(signed(body(receipt_type)).row().listed.clone().unwrap().paid, paid);
    }
    for (status, paid) in [("partial", true), ("failed", false), ("blocked", false), ("some status", false)] {
        let body = ReceiptBody { status: Some(status.into()), ..body(ReceiptType::Inference) };
        assert_eq!(signed(body).row().listed.clone().unwrap().paid, paid, "{status}");
    }
    let receipts = builder().build().unwrap();
    let provisional = run(receipts.sign(body(ReceiptType::Inference), true)).unwrap();
    assert!(provisional.row().provisional);
    assert_eq!(provisional.row().listed, None);
    assert_eq!(provisional.public_json(), None);
    assert_eq!(provisional.body().public_receipt_hash, None);
}
