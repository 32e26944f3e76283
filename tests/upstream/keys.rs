//! The `Idempotency-Key` of clients, at an upstream that they share.

use http::{Request, header::AUTHORIZATION};
use http_body_util::Empty;
use hyper::body::Bytes;

use crate::{
    provider::Provider,
    shop::{Shop, client, quick, read, service},
};

const FAILED: &str = "HTTP/1.1 500 x\r\ncontent-length: 2\r\n\r\nno";

async fn ask(shop: &Shop, path: &str, credential: Option<&http::HeaderValue>) {
    let mut request = Request::get(shop.url(path)).header("idempotency-key", "order-1");
    if let Some(credential) = credential {
        request = request.header(AUTHORIZATION, credential);
    }
    let answer = client().request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    read(body).await;
    assert_eq!(head.status, 500);
}

fn key(head: &str) -> Option<String> {
    head.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).map(str::to_owned)
}

#[tokio::test]
async fn the_same_key_of_two_payers_is_two_keys_at_the_upstream_and_of_one_payment_one() {
    let provider = Provider::keeping(FAILED).await;
    let shop = Shop::open(service(quick(provider.url()))).await;
    let (one, two) = (shop.credential("/paid/a").await, shop.credential("/paid/a").await);
    // What failed can be asked for again with the same payment.
    for credential in [&one, &one, &two] {
        ask(&shop, "/paid/a", Some(credential)).await;
    }
    let keys: Vec<_> = provider.heads().iter().map(|head| key(head).expect("a key")).collect();
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[0], keys[2]);
    assert!(keys.iter().all(|key| key.starts_with("mpp-") && !key.contains("order-1")), "{keys:?}");
}

#[tokio::test]
async fn a_key_that_no_payment_stands_behind_does_not_pass() {
    let provider = Provider::keeping(FAILED).await;
    let shop = Shop::open(service(quick(provider.url()))).await;
    ask(&shop, "/free/a", None).await;
    assert_eq!(key(&provider.heads()[0]), None);
}
