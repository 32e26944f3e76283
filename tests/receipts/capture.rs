//! What is kept of requests and answers: their hashes, or themselves for their owner only.

use axum::body::Body;
use http::Response;
use serde_json::Value;
use tower_mpp::{
    MerchantBuilder,
    receipt::{ENCRYPTION_ALG, ReceiptsBuilder, RecipientSecret, open},
};

use crate::{shop::*, support::*};

fn encrypting(secret: &RecipientSecret) -> Plan {
    let recipient = secret.recipient();
    let receipts = Box::new(move |receipts: ReceiptsBuilder| receipts.encrypt_for(recipient));
    let merchant = Box::new(|merchant: MerchantBuilder| merchant.receipt_body_limit(24));
    Plan { receipts, merchant, ..Plan::default() }
}

fn opened(secret: &RecipientSecret, blob: &Value) -> Option<Vec<u8>> {
    blob.as_str().map(|envelope| open(secret, envelope).unwrap())
}

/// Every byte that the ledger has.
fn ledger(shop: &Shop) -> String {
    let rows = shop.ledger.rows();
    rows.iter().map(|row| format!("{}{}", row.full, row.public.as_deref().unwrap_or_default())).collect()
}

#[tokio::test(start_paused = true)]
async fn requests_and_answers_are_encrypted_for_their_owner() {
    let secret = RecipientSecret::random();
    let question = || Body::from("the question");
    let streamed = Body::new(Frames::of(["the ", "question"]).chunked());
    for (answer, bind, response, sent) in [
        (whole as fn() -> Response<Frames>, true, "one two", question()),
        (stream, true, "one two", question()),
        (whole, false, "one two", streamed),
        (events, true, "data: 1\n\ndata: [DONE]\n\n", question()),
    ] {
        let plan = Plan { layer: Box::new(move |layer| layer.bind_body(bind)), ..encrypting(&secret) };
        let shop = plan.open();
        shop.does(move |request| async move {
            http_body_util::BodyExt::collect(request.into_body()).await.unwrap();
            Ok(answer())
        });
        let credential = shop.credential(post("the question")).await;
        all(shop.send(with(post(sent), &credential)).await).await;
        shop.settle_down().await;
        let receipt = shop.ledger.finals().pop().unwrap();
        assert_eq!(receipt["payload_capture"], "encrypted_at_rest");
        assert_eq!(receipt["encryption_alg"], ENCRYPTION_ALG);
        assert_eq!(receipt["encryption_pubkey_fingerprint"], secret.recipient().fingerprint());
        assert_eq!(opened(&secret, &receipt["encrypted_request_blob"]).unwrap(), b"the question");
        assert_eq!(opened(&secret, &receipt["encrypted_response_blob"]).unwrap(), response.as_bytes());
        assert_eq!(receipt["client_request_hash"], hash(b"the question"));
        let stored = ledger(&shop);
        assert!(!stored.contains("question") && !stored.contains("one two"), "{stored}");
        open(&RecipientSecret::random(), receipt["encrypted_request_blob"].as_str().unwrap()).unwrap_err();
        // Nothing is encrypted twice: the provisional receipt has none of it.
        for row in shop.ledger.rows().iter().filter(|row| row.provisional) {
            let provisional: Value = serde_json::from_str(&row.full).unwrap();
            assert_eq!(provisional["encrypted_request_blob"], Value::Null);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_or_not_there_leaves_its_hash() {
    let secret = RecipientSecret::random();
    let long = "a question of more than twenty-four bytes";
    let shop = encrypting(&secret).open();
    for (question, asked) in [(long, None), ("short", Some(b"short".to_vec())), ("", None)] {
        for (answer, answered) in [
            (whole as fn() -> Response<Frames>, Some(b"one two".to_vec())),
            (|| Response::new(Frames::of(["twenty-five bytes of text", "!"]).chunked()), None),
        ] {
            shop.answers(answer);
            let credential = shop.credential(post(question)).await;
            all(shop.send(with(post(question), &credential)).await).await;
            shop.settle_down().await;
            let receipt = shop.ledger.finals().pop().unwrap();
            assert_eq!(receipt["client_request_hash"], hash(question.as_bytes()));
            assert_eq!(opened(&secret, &receipt["encrypted_request_blob"]), asked);
            assert_eq!(opened(&secret, &receipt["encrypted_response_blob"]), answered);
            let some = asked.is_some() || answered.is_some();
            assert_eq!(receipt["payload_capture"], if some { "encrypted_at_rest" } else { "hash_only" });
            assert_eq!(receipt["encryption_alg"].is_null(), !some);
        }
    }
}

fn large(secret: &RecipientSecret, bytes: usize) -> Shop {
    let merchant = Box::new(|merchant: MerchantBuilder| merchant.receipt_body_limit(2 * 1024 * 1024));
    let shop = Plan { merchant, ..encrypting(secret) }.open();
    shop.answers(move || Response::new(Frames::of([vec![b'a'; bytes]]).declared()));
    shop
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_together_leaves_its_hashes() {
    let secret = RecipientSecret::random();
    let question = "q".repeat(1_000_000);
    for (bytes, kept) in [(1_500_000, false), (100, true)] {
        let shop = large(&secret, bytes);
        let credential = shop.credential(post(question.clone())).await;
        let answer = all(shop.send(with(post(question.clone()), &credential)).await).await;
        shop.settle_down().await;
        let receipt = shop.ledger.only();
        assert_named(&answer.headers, &receipt);
        assert_eq!(receipt["payload_capture"], if kept { "encrypted_at_rest" } else { "hash_only" });
        for member in ["encrypted_request_blob", "encrypted_response_blob", "encryption_alg"] {
            assert_eq!(receipt[member].is_null(), !kept, "{member}");
        }
        assert_eq!(receipt["client_request_hash"], hash(question.as_bytes()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_had_left_of_a_stream_is_there_too() {
    let secret = RecipientSecret::random();
    let shop = encrypting(&secret).open();
    shop.answers(|| Response::new(Frames::of(["one ", "two"]).chunked().broken()));
    let paid = shop.pay().await;
    http_body_util::BodyExt::collect(paid.into_body()).await.map(|_| ()).unwrap_err();
    shop.settle_down().await;
    let receipt = shop.ledger.finals().pop().unwrap();
    assert_eq!(receipt["status"], "partial");
    assert_eq!(opened(&secret, &receipt["encrypted_response_blob"]).unwrap(), b"one two");
}

#[tokio::test(start_paused = true)]
async fn hashes_alone_hold_no_plaintext() {
    let shop = Plan::default().visible(tower_mpp::protocol::Visibility::PublicFull).open();
    for answer in [whole as fn() -> Response<Frames>, events] {
        shop.answers(answer);
        let credential = shop.credential(post("the question")).await;
        all(shop.send(with(post("the question"), &credential)).await).await;
    }
    shop.settle_down().await;
    let stored = ledger(&shop);
    assert!(!stored.contains("question") && !stored.contains("one two") && !stored.contains("DONE"));
}
