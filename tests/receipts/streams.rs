//! Answers that stream: a provisional receipt at their head, and the final one behind them.

use http::{HeaderValue, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower_mpp::{protocol::Visibility, receipt::Attribution};

use crate::{shop::*, support::*};

fn event_of(body: &str) -> Option<Value> {
    let (_, event) = body.split_once("event: payment-receipt\ndata: ")?;
    let data = event.strip_suffix("\n\n").expect("one event, at the end");
    assert!(!data.contains('\n'));
    Some(serde_json::from_str(data).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_its_provisional_receipt_at_once_and_the_final_one_as_trailers() {
    let shop = Shop::open();
    shop.answers(|| {
        let mut response = stream();
        *response.body_mut() = Frames::of(["one ", "two"])
            .chunked()
            .waiting()
            .trailer("x-sum", "2")
            .trailer("payment-receipt-kid", "forged");
        response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        response
    });
    let paid = shop.pay().await;
    assert!(!paid.body().is_end_stream());
    assert_eq!(paid.body().size_hint().exact(), None);
    let answer = all(paid).await;
    assert_eq!(answer.body, "one two");
    shop.settle_down().await;
    let rows = shop.ledger.rows();
    assert_eq!(rows.iter().filter(|row| row.provisional).count(), 1);
    let provisional = rows.iter().find(|row| row.provisional).unwrap();
    let provisional: Value = serde_json::from_str(&provisional.full).unwrap();
    let [receipt] = shop.ledger.finals().try_into().unwrap();
    assert_eq!(provisional["receipt_id"], receipt["receipt_id"]);
    assert_eq!((&provisional["status"], &provisional["client_response_hash"]), (&json!("in_progress"), &Value::Null));
    assert_eq!(provisional["request_ended_at"], Value::Null);
    assert_named(&answer.headers, &provisional);
    assert_eq!(answer.header("payment-receipt-provisional"), Some("true"));
    let announced: Vec<_> = answer.headers.get_all("trailer").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(announced, ["x-sum", "Payment-Receipt, Payment-Receipt-Digest, Payment-Receipt-Kid"]);
    let trailers = answer.trailers.as_ref().unwrap();
    assert_named(trailers, &receipt);
    assert_eq!((trailers.len(), answer.trailer("x-sum")), (4, Some("2")));
    assert_eq!((&receipt["status"], &receipt["client_response_hash"]), (&json!("succeeded"), &hash(b"one two")));
    assert_ne!(answer.header("payment-receipt-digest"), answer.trailer("payment-receipt-digest"));
}

#[tokio::test(start_paused = true)]
async fn strangers_see_nothing_of_a_stream_until_its_service_has_said_who_may() {
    for (wanted, seen) in [(Visibility::Private, false), (Visibility::PublicFull, true)] {
        for by_default in [Visibility::PublicFull, Visibility::PublicMinimal] {
            let shop = Plan::default().visible(by_default).open();
            shop.does(move |request| async move {
                let attribution: Attribution = request.extensions().get().cloned().unwrap();
                tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    attribution.update(|receipt| receipt.visibility = wanted);
                });
                Ok(stream())
            });
            let paid = shop.pay().await;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            let [row] = shop.ledger.rows().try_into().unwrap();
            assert_eq!((row.provisional, &row.public, &row.listed), (true, &None, &None));
            assert_named(paid.headers(), &serde_json::from_str(&row.full).unwrap());
            all(paid).await;
            shop.settle_down().await;
            let last = shop.ledger.rows().pop().unwrap();
            assert_eq!((last.provisional, last.public.is_some()), (false, seen));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_events_ends_with_one_more() {
    let shop = Shop::open();
    shop.answers(events);
    let answer = shop.buy().await;
    shop.settle_down().await;
    let [receipt] = shop.ledger.finals().try_into().unwrap();
    let bare = "data: 1\n\ndata: [DONE]\n\n";
    assert!(answer.body.starts_with(bare));
    let event = event_of(&answer.body).unwrap();
    assert_eq!(event["receiptUrl"], format!("{BASE}/r/{}", receipt["receipt_id"].as_str().unwrap()));
    assert_eq!(event["receiptDigest"], digest(&receipt));
    assert_eq!((&event["receiptKid"], &event["status"]), (&json!(KID), &json!("succeeded")));
    // For clients that go by the data alone.
    assert_eq!(event["type"], "payment-receipt");
    assert_eq!(event.as_object().unwrap().len(), 5);
    assert_named(answer.trailers.as_ref().unwrap(), &receipt);
    // The receipt cannot say anything about the event that names it.
    assert_eq!(receipt["client_response_hash"], hash(bare.as_bytes()));
}

/// Whether a stream of these bytes, in pieces of this size, gets a closing event.
async fn closes(bytes: &[u8], size: usize, change: impl Fn(&mut Response<Frames>) + Send + Sync + 'static) -> bool {
    let shop = Shop::open();
    let chunks: Vec<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
    shop.answers(move || {
        let mut response = events();
        *response.body_mut() = Frames::of(chunks.clone()).chunked();
        change(&mut response);
        response
    });
    let paid = shop.pay().await;
    let body = paid.into_body().collect().await.unwrap();
    assert!(body.trailers().unwrap().contains_key("payment-receipt"));
    let sent = body.to_bytes();
    let rest = sent.strip_prefix(bytes).expect("the service's bytes are untouched");
    let closed = event_of(std::str::from_utf8(rest).unwrap()).is_some();
    assert!(closed || rest.is_empty());
    closed
}

#[tokio::test(start_paused = true)]
async fn the_closing_event_comes_only_between_events() {
    for (bytes, between) in [
        ("data: 1\n\n", true),
        ("data: 1\r\n\r\n", true),
        ("data: 1\r\r", true),
        ("data: 1\n\r\n", true),
        ("data: 1\r\n\n", true),
        ("data: 1\n\r", true),
        ("data: 1\r\n\r", true),
        ("\n", true),
        ("\r\n", true),
        (": ping\n\n", true),
        ("data: 1\n", false),
        ("data: 1\r\n", false),
        ("data: 1\r", false),
        ("data: 1", false),
        (": ping\n", false),
        ("data: 1\n\ndata: 2", false),
        ("data: 1\n\n ", false),
        ("x\r\n", false),
    ] {
        for size in [1, 2, 3, 100] {
            assert_eq!(closes(bytes.as_bytes(), size, |_| {}).await, between, "{bytes:?} by {size}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_plain_stream_of_events_gets_none() {
    const EVENT: &[u8] = b"data: 1\n\n";
    for (name, value, closed) in [
        ("content-type", "text/event-stream", true),
        ("content-type", "Text/Event-Stream ; charset=utf-8", true),
        ("content-type", "text/event-streams", false),
        ("content-type", "text/plain", false),
        ("content-encoding", "gzip", false),
        ("content-encoding", "identity", true),
    ] {
        let change = move |response: &mut Response<Frames>| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        assert_eq!(closes(EVENT, 100, change).await, closed, "{name}: {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_declared_length_or_an_old_client_is_followed_by_nothing() {
    let shop = Shop::open();
    shop.answers(|| {
        let mut response = events();
        response.headers_mut().insert("content-length", HeaderValue::from_static("23"));
        response
    });
    let declared = shop.buy().await;
    shop.answers(events);
    let old = || {
        let mut request = plain();
        *request.version_mut() = http::Version::HTTP_10;
        request
    };
    let credential = shop.credential(old()).await;
    let old = all(shop.send(with(old(), &credential)).await).await;
    for answer in [declared, old] {
        assert_eq!(answer.body, "data: 1\n\ndata: [DONE]\n\n");
        assert_eq!((answer.header("trailer"), &answer.trailers), (None, &None));
        assert_eq!(answer.header("payment-receipt-provisional"), Some("true"));
    }
    shop.settle_down().await;
    let finals = shop.ledger.finals();
    assert_eq!(finals.len(), 2);
    for receipt in finals {
        assert_eq!(receipt["status"], "succeeded");
        assert_eq!(receipt["client_response_hash"], hash(b"data: 1\n\ndata: [DONE]\n\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_is_truthful_about_its_end_at_every_step() {
    let shop = Shop::open();
    shop.answers(events);
    let mut body = shop.pay().await.into_body();
    let (mut data, mut trailers) = (0, 0);
    loop {
        assert!(!body.is_end_stream(), "the end is said once it is there");
        let hint = body.size_hint();
        match body.frame().await {
            Some(frame) => {
                let frame = frame.unwrap();
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                assert!(hint.lower() <= length + 100 && hint.upper().is_none_or(|upper| upper >= length));
                match frame.is_trailers() {
                    true => trailers += 1,
                    false => data += 1,
                }
                if trailers == 1 {
                    break;
                }
            }
            None => panic!("trailers come last"),
        }
    }
    assert_eq!((data, trailers), (3, 1));
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_all_bytes_and_does_not_wait_for_more_was_served() {
    let shop = Shop::open();
    shop.answers(|| Response::new(Frames::of(["one ", "two"])));
    let mut body = shop.pay().await.into_body();
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    shop.settle_down().await;
    let [receipt] = shop.ledger.finals().try_into().unwrap();
    assert_eq!((&receipt["status"], &receipt["client_response_hash"]), (&json!("succeeded"), &hash(b"one two")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// However the bytes of a stream come, they leave as they are, and the receipt's hash is theirs.
    #[test]
    fn every_stream_leaves_as_it_is(
        chunks in prop::collection::vec("[a\r\n:]{0,4}", 0..8),
        sse in any::<bool>(),
        waits in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let shop = Shop::open();
            let bytes: String = chunks.concat();
            let sent = chunks.clone();
            shop.answers(move || {
                let mut response = if sse { events() } else { stream() };
                let frames = Frames::of(sent.clone()).chunked();
                *response.body_mut() = if waits { frames.waiting() } else { frames };
                response
            });
            let answer = shop.buy().await;
            assert!(answer.body.starts_with(&bytes));
            let text = bytes.replace("\r\n", "\n").replace('\r', "\n");
            let between = text.is_empty() || text.ends_with("\n\n") || text == "\n";
            assert_eq!(event_of(&answer.body[bytes.len()..]).is_some(), sse && between, "{bytes:?}");
            shop.settle_down().await;
            let [receipt] = shop.ledger.finals().try_into().unwrap();
            assert_eq!(receipt["client_response_hash"], hash(bytes.as_bytes()));
            assert_named(answer.trailers.as_ref().unwrap(), &receipt);
        });
    }
}
