//! Signed receipts: what is written, what everybody may see of it, and that nothing of it can be changed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

#[path = "receipt_rules/configuration.rs"]
mod configuration;
#[path = "receipt_rules/keys.rs"]
mod keys;
#[path = "receipt_rules/material.rs"]
mod material;
#[path = "receipt_rules/signers.rs"]
mod signers;
#[path = "receipt_rules/visibility.rs"]
mod visibility;

use material::{bodies, full_body, receipts, run};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower_mpp::{
    protocol::{ContentDigest, Visibility},
    receipt::{
        CanonicalError, IssueError, ReceiptBody, SignedReceipt, UsdCost, Verified, VerifyError, canonicalize,
        verify_receipt,
    },
};

/// What serde makes of a receipt, with what the signature adds.
fn generic(signed: &SignedReceipt) -> String {
    let mut value = serde_json::to_value(signed.body()).unwrap();
    let written: Value = serde_json::from_str(signed.json()).unwrap();
    let members = value.as_object_mut().unwrap();
    if signed.body().visibility == Visibility::PublicFull {
        members.insert("verified".into(), json!(true));
    } else {
        members.remove("agent_handle");
    }
    for name in ["signature", "signing_algorithm", "signing_key_id"] {
        members.insert(name.into(), written[name].clone());
    }
    canonicalize(&value.to_string()).unwrap()
}

fn signed(body: ReceiptBody) -> SignedReceipt {
    run(receipts().sign(body, false)).unwrap()
}

fn verified(json: &str) -> Result<Verified, VerifyError> {
    verify_receipt(json, &receipts().jwks())
}

/// The body as a reader has it: texts are normalised.
fn normal(body: &ReceiptBody) -> ReceiptBody {
    let text = canonicalize(&serde_json::to_string(body).unwrap()).unwrap();
    serde_json::from_str(&text).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_short_way_writes_what_the_generic_one_writes(body in bodies()) {
        let signed = signed(body);
        prop_assert_eq!(signed.json(), generic(&signed));
        prop_assert_eq!(canonicalize(signed.json()).unwrap(), signed.json());
        let read = verified(signed.json()).unwrap();
        let mut back = read.body().unwrap();
        if signed.body().visibility != Visibility::PublicFull {
            prop_assert_eq!(&back.agent_handle, &None);
            back.agent_handle = normal(signed.body()).agent_handle;
        }
        prop_assert_eq!(back, normal(signed.body()));
    }

    #[test]
    fn what_everybody_may_see_is_a_part_of_it_with_its_own_signature(body in bodies()) {
        let signed = signed(body);
        let full: Value = serde_json::from_str(signed.json()).unwrap();
        let Some(public) = signed.public_json() else {
            prop_assert_eq!(signed.body().visibility, Visibility::Private);
            prop_assert_eq!(signed.digest(), verified(signed.json()).unwrap().digest);
            prop_assert_eq!(&full["public_receipt_hash"], &Value::Null);
            return Ok(());
        };
        prop_assert_eq!(canonicalize(public).unwrap(), public);
        let read = verified(public).unwrap();
        prop_assert_eq!(signed.digest(), read.digest);
        let handle = normal(signed.body()).agent_handle;
        for (name, value) in read.receipt.as_object().unwrap() {
            match name.as_str() {
                "verified" => prop_assert_eq!(value, &Value::Bool(true)),
                "agent_handle" => prop_assert_eq!(value.as_str(), handle.as_deref()),
                "payment" if value.is_object() => {
                    for (name, part) in value.as_object().unwrap() {
                        prop_assert_eq!(part, &full["payment"][name]);
                    }
                }
                name => prop_assert_eq!(value, &full[name], "{}", name),
            }
        }
        if signed.body().visibility == Visibility::PublicFull {
            prop_assert_eq!(public, signed.json());
            prop_assert_eq!(&full["public_receipt_hash"], &Value::Null);
        } else {
            prop_assert_eq!(&full["public_receipt_hash"], &json!(hash_without_signature(public)));
        }
    }

    #[test]
    fn canonical_json_is_canonical(value in material::json()) {
        let text = value.to_string();
        match canonicalize(&text) {
            Ok(once) => {
                prop_assert_eq!(canonicalize(&once).unwrap(), once.clone());
                // The same members in another order and with white space.
                let pretty = serde_json::to_string_pretty(&value).unwrap();
                prop_assert_eq!(canonicalize(&pretty).unwrap(), once);
            }
            Err(error) => prop_assert_eq!(error, CanonicalError::Duplicate),
        }
    }

    #[test]
    fn where_nothing_is_to_normalise_it_is_rfc_8785(value in material::ascii_json()) {
        let theirs = tower_mpp::protocol::jcs::to_string(&value).unwrap();
        prop_assert_eq!(canonicalize(&value.to_string()).unwrap(), theirs);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[\\[\\]{}:,\"\\\\a-e0-9.eE+\\-u\u{301}\u{e9} ]{0,40}") {
        if let Ok(once) = canonicalize(&text) {
            prop_assert_eq!(canonicalize(&once).unwrap(), once);
        }
    }
}

fn hash_without_signature(json: &str) -> String {
    let mut value: Value = serde_json::from_str(json).unwrap();
    value.as_object_mut().unwrap().remove("signature").unwrap();
    tower_mpp::receipt::payload_hash(canonicalize(&value.to_string()).unwrap().as_bytes())
}

#[test]
fn every_member_is_covered_by_the_signature() {
    for visibility in
        [Visibility::Private, Visibility::PublicMinimal, Visibility::PublicRedacted, Visibility::PublicFull]
    {
        let signed = signed(ReceiptBody { visibility, ..full_body() });
        let value: Value = serde_json::from_str(signed.public_json().unwrap_or(signed.json())).unwrap();
        let names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        assert!(names.len() > 20);
        for name in &names {
            for other in [json!(null), json!("x")] {
                let mut touched = value.clone();
                if touched[name] != other {
                    touched[name] = other;
                    assert!(verified(&touched.to_string()).is_err(), "{name}: {touched}");
                }
            }
            let mut touched = value.clone();
            touched.as_object_mut().unwrap().remove(name);
            assert!(verified(&touched.to_string()).is_err(), "{name} was taken out");
        }
        for (name, more) in [("more", json!(1)), ("verified ", json!(true)), ("", json!(null))] {
            let mut touched = value.clone();
            touched[name] = more;
            assert_eq!(verified(&touched.to_string()), Err(VerifyError::Signature), "{name} was added");
        }
        verified(&serde_json::to_string_pretty(&value).unwrap()).unwrap();
    }
}

#[test]
fn every_byte_of_a_receipt_matters() {
    let signed = signed(ReceiptBody { visibility: Visibility::PublicMinimal, ..full_body() });
    let bytes = signed.public_json().unwrap().as_bytes();
    for at in 0..bytes.len() {
        let mut touched = bytes.to_vec();
        touched[at] ^= 1;
        let Ok(text) = String::from_utf8(touched) else { continue };
        assert!(verified(&text).is_err(), "byte {at}");
    }
}

#[test]
fn the_digest_is_of_what_is_signed() {
    let signed = signed(full_body());
    let mut value: Value = serde_json::from_str(signed.json()).unwrap();
    value.as_object_mut().unwrap().remove("signature");
    let message = canonicalize(&value.to_string()).unwrap();
    assert_eq!(signed.digest(), ContentDigest::of(message.as_bytes()));
    assert_eq!(verified(signed.json()).unwrap().receipt, value);
}

#[test]
fn what_readers_would_not_agree_about_is_not_signed() {
    let refused = |body: ReceiptBody, name| match run(receipts().sign(body, false)) {
        Err(IssueError::Canonical(error)) => assert_eq!(error, CanonicalError::Number(name)),
        other => panic!("{other:?}"),
    };
    refused(ReceiptBody { input_tokens: Some(1 << 53), ..full_body() }, "input_tokens");
    let cost = Some(UsdCost::from_pico(1_000_000_000_000_001));
    refused(ReceiptBody { cost_final_usd: cost, ..full_body() }, "cost_final_usd");
    let most = ReceiptBody { input_tokens: Some((1 << 53) - 1), ..full_body() };
    assert!(signed(most).json().contains("\"input_tokens\":9007199254740991"));
    let long = ReceiptBody { encrypted_request_blob: Some("x".repeat(5 << 20)), ..full_body() };
    match run(receipts().sign(long, false)) {
        Err(IssueError::Canonical(error)) => assert_eq!(error, CanonicalError::TooLong),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_json_has_no_canonical_form() {
    for (bad, error) in [
        ("", CanonicalError::Json),
        ("{}x", CanonicalError::Json),
        ("{\"a\":01}", CanonicalError::Json),
        ("{\"a\":1,}", CanonicalError::Json),
        ("[NaN]", CanonicalError::Json),
        ("[1e999]", CanonicalError::Json),
        ("[-1e999]", CanonicalError::Json),
        ("\"\\ud800\"", CanonicalError::Json),
        ("\"\\udc00x\"", CanonicalError::Json),
        ("\"\u{1}\"", CanonicalError::Json),
        ("{\"a\":1,\"a\":1}", CanonicalError::Duplicate),
        ("{\"a\":1,\"\\u0061\":1}", CanonicalError::Duplicate),
        ("[{\"b\":{\"a\":1,\"a\":1}}]", CanonicalError::Duplicate),
        ("[{\"\u{e9}\":1,\"e\u{301}\":1}]", CanonicalError::Duplicate),
    ] {
        assert_eq!(canonicalize(bad), Err(error), "{bad}");
    }
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(canonicalize(&nested(64)).is_ok());
    assert_eq!(canonicalize(&nested(65)), Err(CanonicalError::TooDeep));
    assert!(canonicalize(&nested(100_000)).is_err());
    assert_eq!(canonicalize(&" ".repeat(5 << 20)), Err(CanonicalError::TooLong));
    assert_eq!(canonicalize("[-0, -0.0, 1.0, 10e-1, 9007199254740993]").unwrap(), "[0,0,1,1,9007199254740992]");
    assert_eq!(canonicalize("\"\\u0000\\u001f\\u007f\\u2028\\/\"").unwrap(), "\"\\u0000\\u001f\u{7f}\u{2028}/\"");
}

#[test]
fn names_that_the_schema_does_not_know_are_not_a_body() {
    let signed = signed(full_body());
    let value = verified(signed.json()).unwrap().receipt;
    for (name, bad) in [
        ("provider", json!("acme")),
        ("receipt_type", json!("gift")),
        ("visibility", json!("everybody")),
        ("payload_capture", json!("plain")),
        ("cost_estimate_confidence", json!("high")),
        ("receipt_id", json!("8C5A4E2A-9B6D-4F3E-89A3-AA3E8B1F7FC3")),
        ("created_at", json!("yesterday")),
        ("input_tokens", json!(-1)),
        ("input_tokens", json!(1.5)),
        ("cost_final_usd", json!("0.5")),
        ("module_chain", json!("a")),
        ("payment", json!({"amount": 1})),
    ] {
        let mut touched = value.clone();
        touched[name] = bad;
        assert!(serde_json::from_value::<ReceiptBody>(touched).is_err(), "{name}");
    }
    let mut more = value;
    more["more"] = json!([1]);
    assert_eq!(serde_json::from_value::<ReceiptBody>(more).unwrap().input_tokens, signed.body().input_tokens);
}

#[test]
fn instants_have_three_digits_whatever_they_are_made_from() {
    let at = |text: &str| Some(text.parse().unwrap());
    let body = ReceiptBody {
        created_at: at("2026-06-05T21:10:50.1239Z"),
        request_started_at: at("2026-06-05T23:10:50+02:00"),
        pricing_effective_at: at("1969-12-31T23:59:59.9999Z"),
        ..full_body()
    };
    let signed = signed(body);
    assert!(signed.json().contains("\"created_at\":\"2026-06-05T21:10:50.123Z\""));
    assert!(signed.json().contains("\"request_started_at\":\"2026-06-05T21:10:50.000Z\""));
    assert!(signed.json().contains("\"pricing_effective_at\":\"1969-12-31T23:59:59.999Z\""));
    assert_eq!(signed.row().created_at, signed.body().created_at.unwrap());
    assert_eq!(signed.row().created_at, "2026-06-05T21:10:50.123Z".parse().unwrap());
}
