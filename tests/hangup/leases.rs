//! Leases that are renewed or lost, and what `drain` waits for.

use super::*;

/// A journal whose leases go with the runtime's clock, and a rail or a handler that takes ten seconds.
struct Slow {
    rail: TestRail,
    store: Store,
    merchant: Merchant,
    service: Payment<Handler>,
}

impl Slow {
    fn open(rail_takes: Duration, first_handler_takes: Duration) -> Self {
        let rail = TestRail::new("demo").delay(rail_takes);
        let store = FaultyStore::new(Arc::new(MemoryNonceStore::single_process(1000)));
        let merchant = builder(&rail)
            .clock(RuntimeClock::start())
            .nonce_store(store.clone())
            .lease(Duration::from_secs(1))
            .build()
            .unwrap();
        let handled = Arc::new(AtomicUsize::new(0));
        let handler = service_fn(move |_| {
            let first = handled.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if first {
                    tokio::time::sleep(first_handler_takes).await;
                }
                Ok(Response::new("served".into()))
            }
        });
        let service = merchant.charge(price()).unwrap().layer(Handler::new(handler));
        Self { rail, store, merchant, service }
    }

    async fn credential(&self) -> HeaderValue {
        pay_with(&ask(&self.service, support::get("/")).await, None, &json!({"token": "ok"}))
    }

    fn send(&self, credential: &HeaderValue) -> tokio::task::JoinHandle<Answer> {
        let (service, credential) = (self.service.clone(), credential.clone());
        tokio::spawn(async move { call(&service, get_paid("/", &credential)).await })
    }
}

const TEN_SECONDS: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_for_as_long_as_rail_or_handler_take() {
    for (rail, handler) in [(TEN_SECONDS, Duration::ZERO), (Duration::ZERO, TEN_SECONDS)] {
        let slow = Slow::open(rail, handler);
        let credential = slow.credential().await;
        let first = slow.send(&credential);
        for _ in 0..19 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let second = slow.send(&credential).await.unwrap();
            assert_eq!(second.status, 409);
            second.assert_no_challenge();
        }
        assert_eq!(first.await.unwrap().status, 200);
        assert_eq!((slow.rail.settlements(), slow.rail.attempts()), (1, 1));
        assert_eq!(slow.send(&credential).await.unwrap().status, 403);
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_lost_the_lease_delivers_nothing() {
    // The journal takes no renewals, so that a second request takes over while the first is at work.
    for (rail, handler) in [(TEN_SECONDS, Duration::ZERO), (Duration::ZERO, TEN_SECONDS)] {
        let slow = Slow::open(rail, handler);
        slow.store.fail(Outage { first: 0, length: usize::MAX, fault: Broken::Before, step: Some("renew") });
        let credential = slow.credential().await;
        let first = slow.send(&credential);
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(slow.send(&credential).await.unwrap().status, 409);
        tokio::time::sleep(Duration::from_secs(4)).await;
        let second = slow.send(&credential);
        let first = first.await.unwrap();
        assert_eq!(first.status, 503);
        first.assert_no_challenge();
        assert_eq!(second.await.unwrap().status, 200);
        assert_eq!(slow.rail.settlements(), 1);
        slow.merchant.drain().await;
        assert_eq!(slow.send(&credential).await.unwrap().status, 403);
    }
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_a_settlement_whose_client_has_gone() {
    let slow = Slow::open(TEN_SECONDS, Duration::ZERO);
    let credential = slow.credential().await;
    assert!(timeout(Duration::from_secs(1), slow.merchant.drain()).await.is_ok(), "there was nothing to wait for");
    let client = slow.send(&credential);
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.abort();
    assert!(client.await.is_err());
    assert_eq!((slow.merchant.in_flight(), slow.rail.settlements()), (1, 0));
    assert!(timeout(Duration::from_secs(5), slow.merchant.drain()).await.is_err(), "the money is on its way");
    assert_eq!(slow.merchant.in_flight(), 1);
    slow.merchant.drain().await;
    assert_eq!((slow.merchant.in_flight(), slow.rail.settlements()), (0, 1));
    // A merchant that has been drained goes on when asked.
    assert_eq!(slow.send(&credential).await.unwrap().status, 200);
    assert_eq!(slow.rail.settlements(), 1);
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_a_handler_and_for_an_answer_that_has_not_begun_to_leave() {
    let slow = Slow::open(Duration::ZERO, TEN_SECONDS);
    let credential = slow.credential().await;
    let answer = slow.service.clone().oneshot(get_paid("/", &credential));
    let answer = tokio::spawn(answer);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(slow.merchant.in_flight(), 1);
    let answer = answer.await.unwrap().unwrap();
    assert!(timeout(Duration::from_secs(1), slow.merchant.drain()).await.is_err());
    drop(answer);
    slow.merchant.drain().await;
    assert_eq!(slow.merchant.in_flight(), 0);
    assert_eq!(slow.send(&credential).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_socket_that_closes_while_the_money_moves_loses_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let rail = TestRail::new("demo").delay(Duration::from_millis(300));
    let merchant = merchant(&rail);
    let layer = merchant.charge(price()).unwrap();
    let server = Server::start(Router::new().route("/", routing::get(|| async { "served" }).route_layer(layer))).await;
    let credential = pay_with(&challenge(&server.get("/").await.headers), None, &json!({"token": "ok"}));
    let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\r\n", credential.to_str().unwrap());
    socket.write_all(head.as_bytes()).await.unwrap();
    while rail.attempts() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(socket);
    merchant.drain().await;
    assert_eq!(rail.settlements(), 1);
    let answer = server.get_paid("/", &credential).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "served"));
    assert_eq!(rail.settlements(), 1);
}
