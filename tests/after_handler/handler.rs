//! What becomes of the payment while the handler works.

use tower_mpp::{
    ConfigError, KeyRing,
    method::{Sandbox, SandboxKey},
    pricing::Prices,
    protocol::MethodId,
};

use super::*;

#[tokio::test]
async fn what_is_delivered_is_charged_once_before_its_first_byte() {
    let shop = Shop::open([]);
    let (id, credential) = shop.credential("ok").await;
    let head = shop.head(&credential).await;
    assert_eq!((head.status().as_u16(), shop.rail.settlements()), (200, 1));
    let info = head.extensions().get::<PaymentInfo>().unwrap().clone();
    assert_eq!((info.challenge_id(), info.reference()), (id, &*format!("ref_{id}")));
    assert_eq!(shop.polled.all(), [0; 0], "nobody has asked for the body");
    let answer = read(head).await;
    assert_eq!((answer.text(), answer.receipt().reference), ("served", format!("ref_{id}")));
    assert_eq!((shop.handled.all(), shop.polled.all()), (vec![0], vec![1; 3]));
    assert_eq!(shop.infos.load(Ordering::SeqCst), 0, "no settlement to speak of");
    assert_eq!(shop.buy(&credential).await.status, 403);
    assert_eq!((shop.rail.attempts(), shop.handled.all().len()), (1, 1));
}

#[tokio::test]
async fn a_handler_that_fails_charges_nothing_and_the_same_credential_works_again() {
    for status in [500, 404, 303, 402] {
        let shop = Shop::open([Does::Answer(status), Does::Answer(status)]);
        let (id, credential) = shop.credential("ok").await;
        for _ in 0..2 {
            let failed = shop.buy(&credential).await;
            assert_eq!((failed.status.as_u16(), failed.text()), (status, "served"), "the handler's own answer");
            failed.assert_no_challenge();
            assert_eq!(failed.header("payment-outcome"), Some("not-charged"));
            shop.assert_untouched(id).await;
        }
        assert_eq!(shop.rail.attempts(), 0);
        shop.assert_good(&credential).await;
    }
}

#[tokio::test]
async fn a_handler_that_ends_in_an_error_charges_nothing() {
    let shop = Shop::open([Does::Error]);
    let (id, credential) = shop.credential("ok").await;
    shop.service.clone().oneshot(get_paid("/", &credential)).await.err().unwrap();
    shop.assert_untouched(id).await;
    shop.assert_good(&credential).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_handler_works_is_not_charged() {
    let shop = Shop::open([Does::Hang]);
    let (id, credential) = shop.credential("ok").await;
    let request = shop.start(&credential).await;
    assert_eq!(shop.merchant.in_flight(), 1);
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    shop.assert_untouched(id).await;
    shop.assert_good(&credential).await;
}

#[tokio::test(start_paused = true)]
async fn the_claim_is_kept_for_as_long_as_the_handler_works() {
    let shop = Shop::open([Does::Take(600)]);
    let (_, credential) = shop.credential("ok").await;
    let request = shop.start(&credential).await;
    for _ in 0..9 {
        tokio::time::sleep(LEASE_OVER).await;
        let busy = shop.buy(&credential).await;
        assert_eq!((busy.status.as_u16(), shop.rail.settlements()), (409, 0));
    }
    let answer = read(request.await.unwrap()).await;
    assert_eq!((answer.status.as_u16(), shop.rail.settlements(), shop.handled.all().len()), (200, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_proof_that_is_no_good_never_reaches_the_handler() {
    let shop = Shop::open([]);
    for (token, status) in [("forged", 402), ("verify_fault", 503)] {
        let (id, credential) = shop.credential(token).await;
        assert_eq!(shop.buy(&credential).await.status, status);
        shop.assert_untouched(id).await;
    }
    let (_, late) = shop.credential("ok").await;
    tokio::time::sleep(Duration::from_secs(301)).await;
    shop.buy(&late).await.assert_challenged("payment-expired");
    assert_eq!(shop.handled.all(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_while_the_handler_works_leaves_one_charge_to_whoever_comes_again() {
    let shop = Shop::open([Does::Hang]);
    let (_, credential) = shop.credential("ok").await;
    let mut request = Box::pin(shop.service.clone().oneshot(get_paid("/", &credential)));
    assert!(futures_util::poll!(&mut request).is_pending());
    assert_eq!(shop.handled.all().len(), 1);
    // No destructor runs when a process dies.
    std::mem::forget(request);
    assert_eq!(shop.buy(&credential).await.status, 409);
    tokio::time::sleep(LEASE_OVER).await;
    shop.assert_good(&credential).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_lost_the_claim_neither_charges_nor_gives_anything_up() {
    for does in [Does::Take(100), Does::FailAfter(100)] {
        let shop = Shop::open([does]);
        let (id, credential) = shop.credential("ok").await;
        let slow = shop.start(&credential).await;
        // The lease runs out because it cannot be renewed; somebody else takes over.
        shop.store.fail(Outage { first: 0, length: usize::MAX, fault: Broken::Before, step: Some("renew") });
        tokio::time::sleep(LEASE_OVER).await;
        shop.store.heal();
        assert_eq!((shop.buy(&credential).await.status.as_u16(), shop.rail.settlements()), (200, 1));
        let late = read(slow.await.unwrap()).await;
        shop.merchant.drain().await;
        late.assert_no_challenge();
        assert_eq!(late.status, if does == Does::Take(100) { 409 } else { 500 });
        assert_eq!(late.header("payment-outcome"), None, "it is not for this one to say");
        assert_eq!((shop.rail.attempts(), shop.rail.settlements()), (1, 1));
        assert!(matches!(shop.state(id).await, Some(EntryState::Spent { .. })));
    }
}

#[tokio::test]
async fn an_answer_is_given_again_to_its_idempotency_key() {
    let answers = MemoryAnswerStore::new(1 << 20);
    let plan = [Does::Answer(500), Does::Answer(201)];
    let shop = Shop::with(TestRail::new("demo"), plan, |builder| builder.answer_store(answers));
    let (_, credential) = shop.credential("ok").await;
    let buy = || async {
        let mut request = get_paid("/", &credential);
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("order-7"));
        call(&shop.service, request).await
    };
    let failed = buy().await;
    assert_eq!((failed.status.as_u16(), failed.header("payment-outcome")), (500, Some("not-charged")));
    let first = buy().await;
    assert_eq!((first.status.as_u16(), first.text()), (201, "served"));
    let again = buy().await;
    assert_eq!((again.status, &again.headers, &again.body), (first.status, &first.headers, &first.body));
    assert_eq!((shop.rail.settlements(), shop.handled.all().len()), (1, 2));
}

#[tokio::test]
async fn a_rail_that_cannot_is_refused_at_start_up() {
    let (rail, other) = (TestRail::new("demo"), TestRail::new("other").settling_after());
    let merchant = builder(&rail).method(other).build().unwrap();
    let error = merchant.charge(price()).unwrap().settle(SettleTiming::AfterHandler).err().unwrap();
    assert!(matches!(&error, ConfigError::SettleTiming(method) if method.as_str() == "demo"), "{error}");
    assert!(error.to_string().starts_with("settle: demo cannot"), "{error}");
    let dynamic = merchant.charge(|_: &http::request::Parts| price()).unwrap();
    assert!(dynamic.settle(SettleTiming::AfterHandler).is_err(), "any method may be offered");
    assert!(merchant.charge(price()).unwrap().settle(SettleTiming::BeforeHandler).is_ok());
    // A rail that this route does not offer is no obstacle.
    let prices = Prices::only(MethodId::new("other").unwrap(), price());
    assert!(merchant.charge(prices).unwrap().settle(SettleTiming::AfterHandler).is_ok());
}

#[tokio::test]
async fn the_sandbox_takes_its_test_money_after_the_handler() {
    let (sandbox, payer) = (Arc::new(Sandbox::new().opening_balance(&price())), SandboxKey::generate());
    let merchant = Merchant::builder("127.0.0.1", KeyRing::new(KEY).unwrap())
        .shared_method(sandbox.clone())
        .nonce_store(MemoryNonceStore::single_process(10))
        .test_mode(true)
        .build()
        .unwrap();
    let (ledger, did) = (sandbox.clone(), payer.did());
    let balance = move || ledger.balance(&did, price().currency()).unwrap().minor_units();
    let (look, failed) = (balance.clone(), Arc::new(AtomicUsize::new(0)));
    let handler = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
        let status = if failed.fetch_add(1, Ordering::SeqCst) == 0 { 500 } else { 200 };
        let response = Response::builder().status(status).body(Full::<Bytes>::from(look().to_string())).unwrap();
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let layer = merchant.charge(price()).unwrap().settle(SettleTiming::AfterHandler).unwrap();
    let service = layer.layer(Handler::<_, _>::new(handler));
    let paid = pay_sandbox(&ask(&service, get("/")).await, &payer);
    let second = pay_sandbox(&ask(&service, get("/")).await, &payer);
    for (credential, status, text, left) in [(&paid, 500, "100", 100), (&paid, 200, "100", 0)] {
        let answer = call(&service, get_paid("/", credential)).await;
        assert_eq!((answer.status.as_u16(), answer.text(), balance()), (status, text, left));
    }
    let broke = call(&service, get_paid("/", &second)).await;
    broke.assert_challenged("payment-insufficient");
    assert_eq!(balance(), 0);
}
