//! What the service says in a receipt, and what it cannot say.

use http::Response;
use serde_json::{Value, json};
use tower_mpp::{
    PaymentInfo,
    protocol::{ReceiptId, Visibility},
    receipt::{
        Attribution, CostConfidence, PayloadCapture, Provider, ReceiptBody, ReceiptType, ReceiptsBuilder,
        RedactionPolicy, UsdCost,
    },
};

use crate::{shop::*, support::*};

/// Everything that a service might lie about.
fn lies() -> ReceiptBody {
    ReceiptBody {
        receipt_id: Some(ReceiptId::random()),
        request_id: Some("lie".into()),
        client_request_id: Some("lie".into()),
        idempotency_key: Some("lie".into()),
        http_status: Some(418),
        settlement_protocol: Some("lie".into()),
        client_request_hash: Some("lie".into()),
        client_response_hash: Some("lie".into()),
        payload_capture: Some(PayloadCapture::None),
        encrypted_request_blob: Some("lie".into()),
        encryption_alg: Some("lie".into()),
        public_receipt_hash: Some("lie".into()),
        redaction_policy: Some("lie".into()),
        request_started_at: Some("2001-01-01T00:00:00Z".parse().unwrap()),
        request_ended_at: Some("2001-01-01T00:00:00Z".parse().unwrap()),
        created_at: Some("2001-01-01T00:00:00Z".parse().unwrap()),
        visibility: Visibility::PublicFull,
        ..ReceiptBody::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_says_what_only_it_knows_up_to_the_end_of_its_answer() {
    let shop = Shop::open();
    shop.does(|request| async move {
        let attribution: Attribution = request.extensions().get().cloned().unwrap();
        attribution.update(|receipt| {
            receipt.provider = Some(Provider::Anthropic);
            receipt.model_id = Some("claude".into());
            receipt.module_chain = vec!["cache".into(), "router".into()];
        });
        let mut response = events();
        *response.body_mut() = Frames::of(["data: 1\n\n"]).chunked().waiting();
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            attribution.update(|receipt| {
                receipt.output_tokens = Some(7);
                receipt.cost_final_usd = Some(UsdCost::from_pico(125_000_000));
                receipt.cost_estimate_confidence = Some(CostConfidence::Complete);
            });
        });
        Ok(response)
    });
    let paid = shop.pay().await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    all(paid).await;
    shop.settle_down().await;
    let rows = shop.ledger.rows();
    let provisional: Value = serde_json::from_str(&rows.iter().find(|row| row.provisional).unwrap().full).unwrap();
    assert_eq!((&provisional["model_id"], &provisional["output_tokens"]), (&json!("claude"), &Value::Null));
    let [receipt] = shop.ledger.finals().try_into().unwrap();
    assert_eq!((&receipt["provider"], &receipt["model_id"]), (&json!("anthropic"), &json!("claude")));
    assert_eq!((&receipt["output_tokens"], &receipt["cost_final_usd"]), (&json!(7), &json!(0.000125)));
    assert_eq!(receipt["module_chain"], json!(["cache", "router"]));
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_the_answer_stands_over_what_was_said_in_the_request() {
    let shop = Shop::open();
    shop.does(|request| async move {
        let attribution: Attribution = request.extensions().get().cloned().unwrap();
        attribution.update(|receipt| {
            (receipt.agent_id, receipt.model_id) = (Some("agent".into()), Some("first".into()));
        });
        let mut response = whole();
        let body = ReceiptBody { model_id: Some("second".into()), input_tokens: Some(1), ..attribution.body() };
        response.extensions_mut().insert(body);
        let last = Attribution::new();
        last.update(|receipt| (receipt.input_tokens, receipt.receipt_type) = (Some(2), Some(ReceiptType::CacheHit)));
        response.extensions_mut().insert(last);
        Ok(response)
    });
    shop.buy().await;
    let receipt = shop.ledger.only();
    assert_eq!((&receipt["agent_id"], &receipt["model_id"]), (&json!("agent"), &json!("second")));
    assert_eq!((&receipt["input_tokens"], &receipt["receipt_type"]), (&json!(2), &json!("cache_hit")));
}

#[tokio::test(start_paused = true)]
async fn what_the_merchant_sees_is_its_own() {
    for stream in [false, true] {
        let shop = Plan::default().visible(Visibility::PublicMinimal).open();
        shop.does(move |request| async move {
            request.extensions().get::<Attribution>().unwrap().update(|receipt| *receipt = lies());
            let mut response = if stream { events() } else { whole() };
            response.extensions_mut().insert(lies());
            Ok(response)
        });
        shop.buy().await;
        shop.settle_down().await;
        let [receipt] = shop.ledger.finals().try_into().unwrap();
        let text = receipt.to_string();
        assert!(!text.contains("\"lie\"") && !text.contains("\"2001-"), "{text}");
        assert_eq!(receipt["http_status"], 200);
        assert_eq!(
            (&receipt["visibility"], &receipt["payload_capture"]),
            (&json!("public_minimal"), &json!("hash_only"))
        );
        assert_eq!((&receipt["client_request_id"], &receipt["idempotency_key"]), (&Value::Null, &Value::Null));
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_that_cannot_be_written_is_left_out() {
    for stream in [false, true] {
        let shop = Shop::open();
        shop.does(move |request| async move {
            request.extensions().get::<Attribution>().unwrap().update(|receipt| {
                (receipt.input_tokens, receipt.output_tokens) = (Some(u64::MAX), Some(7));
                receipt.cost_final_usd = Some(UsdCost::from_pico(1_234_567_890_123_456));
                receipt.cost_estimated_usd = Some(UsdCost::from_pico(5));
            });
            Ok(if stream { events() } else { whole() })
        });
        let answer = shop.buy().await;
        shop.settle_down().await;
        let [receipt] = shop.ledger.finals().try_into().unwrap();
        assert_named(answer.trailers.as_ref().unwrap_or(&answer.headers), &receipt);
        assert_eq!((&receipt["input_tokens"], &receipt["output_tokens"]), (&Value::Null, &json!(7)));
        assert_eq!((&receipt["cost_final_usd"], &receipt["cost_estimated_usd"]), (&Value::Null, &json!(5e-12)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_can_hide_a_receipt_and_not_show_one() {
    for (by_default, wanted, seen) in [
        (Visibility::PublicFull, Visibility::Private, "private"),
        (Visibility::PublicFull, Visibility::PublicDemo, "public_demo"),
        (Visibility::PublicMinimal, Visibility::PublicDemo, "public_demo"),
        (Visibility::PublicDemo, Visibility::PublicFull, "public_demo"),
        (Visibility::PublicDemo, Visibility::PublicMinimal, "public_demo"),
        (Visibility::Private, Visibility::PublicFull, "private"),
    ] {
        let shop = Plan::default().visible(by_default).open();
        shop.does(move |request| async move {
            request.extensions().get::<Attribution>().unwrap().update(|receipt| receipt.visibility = wanted);
            Ok(whole())
        });
        shop.buy().await;
        assert_eq!(shop.ledger.only()["visibility"], seen, "{by_default:?} {wanted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_the_merchant_is_not_given_up_for_what_shows_something_else() {
    let standard = RedactionPolicy::default;
    for (policy, by_default, wanted, seen) in [
        (standard(), Visibility::PublicRedacted, Visibility::PublicDemo, "public_demo"),
        (standard(), Visibility::PublicMinimal, Visibility::PublicRedacted, "public_minimal"),
        (
            RedactionPolicy::new("p", ["status"]).unwrap(),
            Visibility::PublicRedacted,
            Visibility::PublicDemo,
            "public_redacted",
        ),
        (
            RedactionPolicy::new("p", ["status"]).unwrap(),
            Visibility::PublicRedacted,
            Visibility::PublicMinimal,
            "public_redacted",
        ),
        (
            RedactionPolicy::new("p", ["status", "region"]).unwrap(),
            Visibility::PublicRedacted,
            Visibility::Private,
            "private",
        ),
        (
            RedactionPolicy::new("p", ["status", "region"]).unwrap(),
            Visibility::PublicFull,
            Visibility::PublicRedacted,
            "public_redacted",
        ),
    ] {
        let receipts = Box::new(move |receipts: ReceiptsBuilder| receipts.visibility(by_default).redaction(policy));
        let shop = Plan { receipts, ..Plan::default() }.open();
        shop.does(move |request| async move {
            request.extensions().get::<Attribution>().unwrap().update(|receipt| receipt.visibility = wanted);
            Ok(whole())
        });
        shop.buy().await;
        assert_eq!(shop.ledger.only()["visibility"], seen, "{by_default:?} {wanted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_handler_can_name_the_receipt_before_it_is_made() {
    let shop = Shop::open();
    shop.does(|request| async move {
        let id = request.extensions().get::<PaymentInfo>().unwrap().receipt_id().unwrap();
        Ok(Response::new(Frames::of([id.to_string()]).declared()))
    });
    let answer = shop.buy().await;
    assert_eq!(shop.ledger.only()["receipt_id"], answer.body);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_refuses_says_that_it_was_one() {
    let shop = Shop::open();
    shop.answers(|| {
        let mut response = whole();
        *response.status_mut() = http::StatusCode::FORBIDDEN;
        let blocked = ReceiptBody {
            receipt_type: Some(ReceiptType::Blocked),
            policy_decision: Some("blocked".into()),
            ..ReceiptBody::default()
        };
        response.extensions_mut().insert(blocked);
        response
    });
    shop.buy().await;
    shop.settle_down().await;
    let receipt = shop.ledger.only();
    assert_eq!((&receipt["receipt_type"], &receipt["status"]), (&json!("blocked"), &json!("blocked")));
    assert_eq!((&receipt["policy_decision"], &receipt["http_status"]), (&json!("blocked"), &json!(403)));
}

#[tokio::test(start_paused = true)]
async fn what_no_layer_sees_is_issued_by_hand() {
    let shop = Shop::open();
    shop.buy().await;
    let first: ReceiptId = shop.ledger.only()["receipt_id"].as_str().unwrap().parse().unwrap();
    for receipt_type in [ReceiptType::Settlement, ReceiptType::ReconciliationAdjustment] {
        let body = ReceiptBody {
            receipt_type: Some(receipt_type),
            parent_receipt_id: Some(first),
            status: Some("succeeded".into()),
            ..ReceiptBody::default()
        };
        shop.receipts.issue(body).await.unwrap();
        let receipt = shop.ledger.finals().pop().unwrap();
        assert_eq!(receipt["receipt_type"], receipt_type.as_str());
        assert_eq!(receipt["parent_receipt_id"], first.to_string());
    }
}
