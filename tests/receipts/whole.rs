//! Answers that are there as a whole: the final receipt stands in the head.

use axum::body::Body;
use http::{HeaderValue, Request, Response};
use serde_json::{Value, json};
use tower_mpp::{ReceiptHeader, protocol::Visibility, receipt::PayloadCapture, store::ReceiptStore as _};

use crate::{shop::*, support::*};

#[tokio::test(start_paused = true)]
async fn a_paid_answer_names_a_receipt_that_says_all_about_the_call() {
    let shop = Shop::open();
    let request = || {
        let mut request = post("what is asked");
        request.headers_mut().insert("x-client-request-id", HeaderValue::from_static("client-7"));
        request.headers_mut().insert("x-request-id", HeaderValue::from_static("request-8"));
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("key-9"));
        request
    };
    let credential = shop.credential(request()).await;
    let answer = all(shop.send(with(request(), &credential)).await).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "one two"));
    let receipt = shop.ledger.only();
    assert_named(&answer.headers, &receipt);
    assert_eq!(answer.header("payment-receipt-provisional"), None);
    assert_eq!(answer.header("trailer"), None);
    assert_eq!(answer.trailers, None);
    for (member, value) in [
        ("receipt_type", json!("inference")),
        ("status", json!("succeeded")),
        ("http_status", json!(200)),
        ("client_request_hash", hash(b"what is asked")),
        ("client_response_hash", hash(b"one two")),
        ("payload_capture", json!("hash_only")),
        ("visibility", json!("private")),
        ("client_request_id", json!("client-7")),
        ("request_id", json!("request-8")),
        ("idempotency_key", json!("key-9")),
        ("settlement_protocol", json!("mpp")),
        ("request_started_at", json!("2026-01-01T00:00:00.000Z")),
        ("request_ended_at", json!("2026-01-01T00:00:00.000Z")),
        ("created_at", json!("2026-01-01T00:00:00.000Z")),
        ("signing_key_id", json!(KID)),
        ("parent_receipt_id", Value::Null),
    ] {
        assert_eq!(receipt[member], value, "{member}");
    }
    let payment = &receipt["payment"];
    assert_eq!(payment["amount"], "100");
    assert_eq!(payment["method"], "demo");
    assert_eq!(payment["currency"], "usd");
    let draft = mpp(answer.header("payment-receipt").unwrap());
    assert_eq!(payment["reference"], draft["reference"]);
    shop.settle_down().await;
    assert_eq!(shop.ledger.rows().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_id_gets_one() {
    let shop = Shop::open();
    shop.buy().await;
    shop.buy().await;
    let ids: Vec<Value> = shop.ledger.finals().iter().map(|receipt| receipt["request_id"].clone()).collect();
    assert!(ids.iter().all(|id| id.as_str().unwrap().starts_with("req_")), "{ids:?}");
    assert_ne!(ids[0], ids[1]);
    let receipt = &shop.ledger.finals()[0];
    assert_eq!((&receipt["client_request_id"], &receipt["idempotency_key"]), (&Value::Null, &Value::Null));
    assert_eq!(receipt["client_request_hash"], hash(b""));
}

#[tokio::test(start_paused = true)]
async fn the_digest_is_of_what_everybody_can_fetch() {
    for visibility in [Visibility::PublicDemo, Visibility::PublicMinimal, Visibility::PublicFull] {
        let shop = Plan::default().visible(visibility).open();
        let answer = shop.buy().await;
        let id = mpp(answer.header("payment-receipt").unwrap())["receiptUrl"].as_str().unwrap()[BASE.len() + 3..]
            .parse()
            .unwrap();
        let row = shop.ledger.get(id).await.unwrap().unwrap();
        let public: Value = serde_json::from_str(row.public.as_deref().unwrap()).unwrap();
        assert_eq!(answer.header("payment-receipt-digest"), Some(digest(&public).as_str()), "{visibility:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_header_takes_three_forms_and_there_is_never_more_than_one() {
    for (form, of) in [
        (ReceiptHeader::Mpp, None),
        (ReceiptHeader::Url, Some("payment-receipt-mpp")),
        (ReceiptHeader::Raw, None::<&str>),
    ] {
        let plan = Plan { layer: Box::new(move |layer| layer.receipt_header(form).unwrap()), ..Plan::default() };
        let shop = plan.open();
        for answer in [whole as fn() -> Response<Frames>, stream] {
            shop.answers(move || {
                let mut answer = answer();
                for name in ["payment-receipt", "payment-receipt", "payment-receipt-digest", "payment-receipt-mpp"] {
                    answer.headers_mut().append(name, HeaderValue::from_static("forged"));
                }
                answer
            });
            let answer = shop.buy().await;
            shop.settle_down().await;
            let receipt = shop.ledger.finals().pop().unwrap();
            let (url, reference) =
                (format!("{BASE}/r/{}", receipt["receipt_id"].as_str().unwrap()), &receipt["payment"]["reference"]);
            let value = answer.header("payment-receipt").unwrap();
            match form {
                ReceiptHeader::Url => assert_eq!(value, url),
                ReceiptHeader::Raw => assert_eq!(value, reference.as_str().unwrap()),
                _ => assert_eq!(mpp(value)["receiptUrl"], url),
            }
            assert_eq!(
                answer.header("payment-receipt-mpp").map(mpp).map(|draft| draft["receiptUrl"].clone()),
                of.map(|_| url.into())
            );
            assert_eq!(answer.header("payment-receipt-kid"), Some(KID));
            if answer.trailers.is_none() {
                assert_eq!(answer.header("payment-receipt-digest"), Some(digest(&receipt).as_str()));
            } else {
                assert_eq!(answer.trailer("payment-receipt-digest"), Some(digest(&receipt).as_str()));
                assert_eq!(
                    answer.trailer("payment-receipt").is_some_and(|last| last.contains("://")),
                    form == ReceiptHeader::Url
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_to_send_is_a_receipt_too() {
    let shop = Shop::open();
    for status in [200, 204, 205, 101] {
        shop.answers(move || {
            let mut response = Response::new(Frames::none());
            *response.status_mut() = status.try_into().unwrap();
            response
        });
        let answer = shop.buy().await;
        assert_eq!(answer.status, status);
        let receipt = shop.ledger.finals().pop().unwrap();
        assert_named(&answer.headers, &receipt);
        assert_eq!(receipt["http_status"], status);
        assert_eq!(receipt["client_response_hash"], hash(b""));
    }
    shop.settle_down().await;
    assert_eq!(shop.ledger.rows().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_head_has_its_final_receipt_even_where_get_would_stream() {
    let shop = Shop::open();
    for answer in [whole as fn() -> Response<Frames>, stream, events] {
        shop.answers(answer);
        let head = || Request::head("/a").body(Body::empty()).unwrap();
        let credential = shop.credential(head()).await;
        let answer = all(shop.send(with(head(), &credential)).await).await;
        assert_eq!((answer.status, answer.body.as_str(), &answer.trailers), (200, "", &None));
        assert_eq!((answer.header("payment-receipt-provisional"), answer.header("trailer")), (None, None));
        assert_named(&answer.headers, &shop.ledger.finals().pop().unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_pieces_with_trailers_stays_what_it_is() {
    let shop = Shop::open();
    shop.answers(|| {
        let frames = Frames::of(["o", "n", "e", " two"]).declared().waiting();
        Response::new(frames.trailer("x-sum", "4").trailer("payment-receipt", "forged"))
    });
    let answer = shop.buy().await;
    assert_eq!((answer.body.as_str(), answer.trailer("x-sum")), ("one two", Some("4")));
    assert_eq!(answer.trailer("payment-receipt"), None);
    assert_named(&answer.headers, &shop.ledger.only());
}

#[tokio::test(start_paused = true)]
async fn no_hashes_where_none_are_wanted() {
    let receipts = Box::new(|receipts: tower_mpp::receipt::ReceiptsBuilder| receipts.capture(PayloadCapture::None));
    let shop = Plan { receipts, ..Plan::default() }.open();
    shop.buy().await;
    shop.answers(events);
    shop.buy().await;
    shop.settle_down().await;
    let receipts = shop.ledger.finals();
    assert_eq!(receipts.len(), 2);
    for receipt in receipts {
        assert_eq!(receipt["payload_capture"], "none");
        assert_eq!((&receipt["client_request_hash"], &receipt["client_response_hash"]), (&Value::Null, &Value::Null));
    }
}

#[tokio::test(start_paused = true)]
async fn the_hash_of_a_streamed_request_is_of_what_the_service_has_read_to_its_end() {
    let plan = || Plan { layer: Box::new(|layer| layer.bind_body(false)), ..Plan::default() };
    for (frames, read, known) in [
        (Frames::of(["up", "load"]).chunked().waiting(), 9, true),
        (Frames::of(["up", "load"]).declared(), 2, true),
        (Frames::of(["up", "load"]).chunked(), 2, false),
        (Frames::of(["up", "load"]).declared(), 1, false),
        (Frames::of(["up", "load"]).chunked().trailer("x-sum", "2"), 3, true),
        (Frames::of(["up"]).broken(), 9, false),
    ] {
        let shop = plan().open();
        shop.does(move |mut request| async move {
            for _ in 0..read {
                use http_body_util::BodyExt as _;
                let Some(Ok(_)) = request.body_mut().frame().await else { break };
            }
            Ok(whole())
        });
        let credential = shop.credential(post("upload")).await;
        let debug = format!("{frames:?} {read}");
        let answer = all(shop.send(with(post(Body::new(frames)), &credential)).await).await;
        assert_eq!(answer.status, 200);
        let expected = if known { hash(b"upload") } else { Value::Null };
        assert_eq!(shop.ledger.only()["client_request_hash"], expected, "{debug}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_of_known_length_is_not_held_back() {
    let merchant = Box::new(|merchant: tower_mpp::MerchantBuilder| merchant.receipt_body_limit(6));
    let shop = Plan { merchant, ..Plan::default() }.open();
    let answer = shop.buy().await;
    assert_eq!((answer.body.as_str(), answer.header("payment-receipt-provisional")), ("one two", Some("true")));
    // The length is fixed: nothing can follow.
    assert_eq!((answer.header("trailer"), &answer.trailers), (None, &None));
    shop.settle_down().await;
    let receipt = shop.ledger.finals().pop().unwrap();
    assert_eq!((&receipt["status"], &receipt["client_response_hash"]), (&json!("succeeded"), &hash(b"one two")));
    let provisional: Value = serde_json::from_str(&shop.ledger.rows()[0].full).unwrap();
    assert_named(&answer.headers, &provisional);
    assert_eq!(provisional["receipt_id"], receipt["receipt_id"]);
}

#[test]
fn a_limit_that_makes_no_sense_is_refused_at_start_up() {
    let error = builder(&TestRail::new("demo")).receipt_body_limit(1024 * 1024 * 1024 + 1).build().unwrap_err();
    assert_eq!(error.to_string(), "receipt_body_limit: give at most 1 GiB");
}

#[tokio::test(start_paused = true)]
async fn without_a_signer_every_byte_is_as_before() {
    let rail = TestRail::new("demo");
    let merchant = builder(&rail).clock(RuntimeClock::start()).build().unwrap();
    assert!(
        merchant.charge(tower_mpp::Price::usd("1.00").unwrap()).unwrap().receipt_header(ReceiptHeader::Url).is_err()
    );
    use tower::Layer as _;
    let raw = merchant.charge(tower_mpp::Price::usd("1.00").unwrap()).unwrap();
    let service = raw.receipt_header(ReceiptHeader::Raw).unwrap().layer(served());
    let challenge = ask(&service, get("/a")).await;
    let paid = call(&service, get_paid("/a", &pay_with(&challenge, None, &json!({"token": "ok"})))).await;
    assert_eq!(paid.header("payment-receipt"), Some(format!("ref_{}", challenge.id).as_str()));
    for answer in [whole as fn() -> Response<Frames>, stream, events] {
        let layer = merchant.charge(tower_mpp::Price::usd("1.00").unwrap()).unwrap();
        let service = layer.layer(Handler::<axum::body::Body, Frames, std::io::Error>::new(tower::service_fn(
            move |request: Request<tower_mpp::RequestBody<Body>>| {
                assert!(request.extensions().get::<tower_mpp::receipt::Attribution>().is_none());
                async move { Ok(answer()) }
            },
        )));
        let credential = pay_with(&ask(&service, plain()).await, None, &json!({"token": "ok"}));
        let paid = all(tower::ServiceExt::oneshot(service.clone(), with(plain(), &credential)).await.unwrap()).await;
        let bare = answer();
        let mut names: Vec<_> = paid.headers.keys().map(|name| name.as_str()).collect();
        names.retain(|name| !bare.headers().contains_key(*name));
        names.sort_unstable();
        assert_eq!(names, ["cache-control", "payment-receipt"]);
        assert_eq!(paid.trailers, None);
        assert!(!paid.body.contains("payment-receipt"));
        let draft = mpp(paid.header("payment-receipt").unwrap());
        let mut members: Vec<_> = draft.as_object().unwrap().keys().collect();
        members.sort_unstable();
        assert_eq!(members, ["challengeId", "method", "reference", "status", "timestamp"]);
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_behind_an_empty_body_arrive() {
    let shop = Shop::open();
    shop.answers(|| Response::new(Frames::none().declared().trailer("x-sum", "1")));
    let answer = shop.buy().await;
    assert_eq!((answer.body.as_str(), answer.trailer("x-sum")), ("", Some("1")));
    assert_named(&answer.headers, &shop.ledger.only());
}
