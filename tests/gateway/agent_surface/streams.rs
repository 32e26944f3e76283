//! Calls that stream, and the receipts of calls.

use std::time::Duration;

use http::{
    Request,
    header::{AUTHORIZATION, TE},
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::timeout;
use tower_mpp::protocol::Receipt;

use super::{MESSAGES, Shop, call};
use crate::{harness::PATIENCE, support::Server};

const RECEIPTS: &str = "[receipts]\nbase_url = \"http://127.0.0.1:1\"\nvisibility = \"public_full\"\n";
const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-haiku-4-5\",\"content\":[],\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n";
const STOP: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// The signed receipt of a URL that an answer names.
async fn receipt(server: &Server, url: &str) -> serde_json::Value {
    let id = url.rsplit_once("/r/").unwrap().1;
    let path = format!("/v1/receipts/{id}");
    // It is kept a moment after the answer.
    for _ in 0..100 {
        let found = server.get(&path).await;
        if found.status == 200 {
            return found.json();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no receipt at {path}");
}

#[tokio::test]
async fn a_stream_is_charged_before_its_first_byte_and_receipted_at_its_end() {
    let shop = Shop::with("", RECEIPTS).await;
    let body = call("fast").replacen('{', "{\"stream\":true,", 1);
    let credential = shop.credential(&body, "spt_ok").await;
    let pieces = shop.provider.streams();
    let client: Client<_, Full<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(format!("http://{}{MESSAGES}", shop.server.address)).header(AUTHORIZATION, &credential);
    let request = request.header(TE, "trailers");
    let asked = client.request(request.body(Full::from(body)).unwrap());
    let asked = tokio::spawn(asked);
    // The money is there before the provider has said a word.
    timeout(PATIENCE, async {
        while shop.provider.calls().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(shop.stripe.charges().len(), 1);
    pieces.send(START).unwrap();
    let mut answer = timeout(PATIENCE, asked).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["payment-receipt-provisional"], "true");
    assert!(answer.headers().contains_key("payment-receipt"));
    let first = timeout(PATIENCE, answer.body_mut().frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.data_ref().unwrap(), START, "as it comes");
    pieces.send(STOP).unwrap();
    drop(pieces);
    let rest = timeout(PATIENCE, answer.into_body().collect()).await.unwrap().unwrap();
    let trailers = rest.trailers().cloned().expect("the final receipt behind the body");
    let rest = rest.to_bytes();
    let rest = std::str::from_utf8(&rest).unwrap();
    let (said, closing) = rest.split_once("event: payment-receipt\ndata: ").unwrap();
    assert_eq!(said, STOP);
    let closing: serde_json::Value = serde_json::from_str(closing.trim_end()).unwrap();
    let receipt = receipt(&shop.server, closing["receiptUrl"].as_str().unwrap()).await;
    assert_eq!((&receipt["provider"], &receipt["model_id"]), (&"anthropic".into(), &"claude-haiku-4-5".into()));
    assert_eq!((&receipt["input_tokens"], &receipt["output_tokens"]), (&9.into(), &4.into()), "{receipt}");
    assert_eq!((&receipt["status"], &receipt["provider_status"]), (&"succeeded".into(), &200.into()));
    assert_eq!(receipt["payment"]["amount"], "50");
    let of = |name: &str| trailers[name].to_str().unwrap();
    let last = Receipt::parse(of("payment-receipt")).unwrap();
    assert_eq!(last.extra["receiptUrl"], closing["receiptUrl"]);
    assert_eq!(last.extra["receiptDigest"], of("payment-receipt-digest"));
    assert_eq!(closing["receiptDigest"], of("payment-receipt-digest"));
    assert_eq!(last.extra["receiptKid"], of("payment-receipt-kid"));
    assert_eq!((shop.stripe.charges().len(), shop.provider.calls().len()), (1, 1));
}

#[tokio::test]
async fn a_receipt_tells_what_the_provider_did() {
    let shop = Shop::with("", RECEIPTS).await;
    let paid = shop.buy(&call("coding")).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    // The payment receipt of the protocol, and the signed one beside it.
    assert!(paid.headers.contains_key("payment-receipt-digest") && paid.headers.contains_key("payment-receipt-kid"));
    let url = paid.receipt().extra["receiptUrl"].as_str().unwrap().to_owned();
    let signed = receipt(&shop.server, &url).await;
    assert_eq!((&signed["provider"], &signed["model_id"]), (&"anthropic".into(), &"claude-opus-4-7".into()));
    assert_eq!((&signed["input_tokens"], &signed["output_tokens"]), (&7.into(), &3.into()));
    assert_eq!(signed["payment"]["amount"], "150");
    assert_eq!(signed["http_status"], 200);

    // A call that failed has none in its head, and is in the ledger as what it was.
    let credential = shop.credential(&call("fast"), "spt_ok2").await;
    shop.provider.fails_with(500);
    let failed = shop.pay(&credential, &call("fast")).await;
    assert_eq!(failed.status, 500);
    failed.assert_no_challenge();
}

#[tokio::test]
async fn the_form_of_the_header_is_the_routes() {
    let shop = Shop::with("receipt_header = \"mpp\"", &format!("{RECEIPTS}header = \"url\"\n")).await;
    let paid = shop.buy(&call("fast")).await;
    assert_eq!(paid.receipt().method.as_str(), "stripe", "the spec's, though the gateway's is a URL");
}
