//! The client hangs up, the journal goes away, the handler takes too long: whatever happens, money moves
//! at most once, the journal knows of it, and what was paid for is delivered once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod leases;
mod outcomes;
#[path = "../support/mod.rs"]
mod support;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing};
use futures_util::poll;
use http::{HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::BodyExt as _;
use serde_json::json;
use support::*;
use tokio::{task::yield_now, time::timeout};
use tower::{ServiceExt as _, service_fn};
use tower_layer::Layer as _;
use tower_mpp::{
    Clock as _, ManualClock, Merchant, MerchantBuilder, Payment, Price, RequestBody,
    pricing::{self, Pricing},
    protocol::{Challenge, ChallengeId, Timestamp},
    store::{MemoryNonceStore, NonceStore, Page},
};

/// The default lease, and a second.
const LEASE_OVER: Duration = Duration::from_secs(61);

type Store = FaultyStore<Arc<MemoryNonceStore>>;
type Service = Payment<Handler<Frames, Frames, io::Error>>;

/// What the handler does the first time; after that it serves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Serve,
    /// 204.
    ServeNothing,
    /// 500.
    Fail,
    /// An error instead of an answer.
    Error,
    /// 200, and the body breaks off before its first byte.
    BreakEarly,
    /// 200, and the body breaks off after its first chunk.
    BreakLate,
}

/// One run.
#[derive(Clone, Copy, Debug)]
struct Plan {
    token: &'static str,
    does: Does,
    /// A POST with a body of several chunks, that has to be collected.
    upload: bool,
    /// A price that has to be waited for.
    slow_price: bool,
    /// How often the rail gives way at every step.
    rail_yields: usize,
    /// Whether the journal gives way before and after every step.
    slow_store: bool,
}

const PLAN: Plan =
    Plan { token: "ok", does: Does::Serve, upload: false, slow_price: false, rail_yields: YIELDS, slow_store: true };

/// A merchant with one route, without a socket.
struct Stand {
    plan: Plan,
    rail: TestRail,
    clock: Arc<ManualClock>,
    store: Store,
    merchant: Merchant,
    handled: Arc<AtomicUsize>,
    service: Service,
}

/// What a client saw of its answer before it hung up.
#[derive(Debug, Default)]
struct Seen {
    status: Option<StatusCode>,
    challenged: bool,
    chunks: usize,
    text: String,
    /// There is nothing more to see.
    ended: bool,
}

impl Seen {
    /// Asserts that nobody is told to pay, or told that nothing was taken, when something was.
    #[track_caller]
    fn assert_honest(&self, charged: usize, context: &str) {
        assert!(!self.challenged || charged == 0, "{context}: asked to pay what was paid");
        assert!(!self.text.contains("Nothing was charged.") || charged == 0, "{context}: {}", self.text);
    }

    /// Whether anything of what was paid for has left.
    fn delivered(&self) -> bool {
        self.status == Some(StatusCode::NO_CONTENT) || self.chunks > 0 && self.status == Some(StatusCode::OK)
    }
}

fn price() -> Price {
    Price::usd("1.00").unwrap()
}

impl Stand {
    fn open(plan: Plan) -> Self {
        Self::with(plan, |builder| builder)
    }

    fn with(plan: Plan, configure: impl FnOnce(MerchantBuilder) -> MerchantBuilder) -> Self {
        let rail = TestRail::new("demo").yielding(plan.rail_yields);
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let store = FaultyStore::new(Arc::new(MemoryNonceStore::single_process(1000)));
        let builder = builder(&rail).clock(Arc::clone(&clock));
        let builder = match plan.slow_store {
            true => builder.nonce_store(YieldingStore(store.clone())),
            false => builder.nonce_store(store.clone()),
        };
        let merchant = configure(builder).build().unwrap();
        let handled = Arc::new(AtomicUsize::new(0));
        let handler = {
            let handled = Arc::clone(&handled);
            service_fn(move |request: Request<RequestBody<Frames>>| {
                let first = handled.fetch_add(1, Ordering::SeqCst) == 0;
                handle(request, if first { plan.does } else { Does::Serve })
            })
        };
        let service = match plan.slow_price {
            true => charge(
                &merchant,
                pricing::with_async(|_, _| async {
                    yield_now().await;
                    price()
                }),
                handler,
            ),
            false => charge(&merchant, pricing::Prices::all(price()), handler),
        };
        Self { plan, rail, clock, store, merchant, handled, service }
    }

    fn request(&self, credential: Option<&HeaderValue>) -> Request<Frames> {
        let request = match self.plan.upload {
            true => Request::post("/thing").body(Frames::of(["one ", "two ", "three"]).chunked().waiting()),
            false => Request::get("/thing").body(Frames::none()),
        };
        let mut request = request.unwrap();
        request.headers_mut().extend(credential.map(|credential| (AUTHORIZATION, credential.clone())));
        request
    }

    async fn challenge(&self) -> Challenge {
        ask(&self.service, self.request(None)).await
    }

    async fn credential(&self) -> (ChallengeId, HeaderValue) {
        let challenge = self.challenge().await;
        (id_of(&challenge), pay_with(&challenge, None, &json!({"token": self.plan.token})))
    }

    /// Sends a request and watches until the end of the answer.
    async fn send(&self, credential: &HeaderValue) -> Seen {
        self.send_and_hang_up(credential, usize::MAX, false).await
    }

    /// Sends a request, polls for the answer and then for its frames so many times, and hangs up. Between
    /// the polls everybody else has a turn, with `late` also after the last one.
    async fn send_and_hang_up(&self, credential: &HeaderValue, polls: usize, late: bool) -> Seen {
        let mut seen = Seen::default();
        let mut polls = 0..polls;
        // Paused time only goes on when everybody waits for it.
        let turn = async |polled: usize| match polled {
            ..300 => yield_now().await,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        };
        let mut answer = Box::pin(self.service.clone().oneshot(self.request(Some(credential))));
        let response = loop {
            if polls.next().is_none() {
                return seen;
            }
            if let std::task::Poll::Ready(response) = poll!(answer.as_mut()) {
                break response;
            }
            if late || !polls.is_empty() {
                turn(polls.start).await;
            }
        };
        drop(answer);
        let Ok(response) = response else {
            return Seen { ended: true, ..seen };
        };
        seen.status = Some(response.status());
        seen.challenged = response.headers().contains_key("www-authenticate");
        assert!(!seen.challenged || response.status() == 402);
        assert_eq!(response.headers().contains_key("payment-receipt"), response.status().is_success());
        let mut body = Box::pin(response.into_body());
        while polls.next().is_some() {
            match poll!(body.frame()) {
                std::task::Poll::Ready(Some(Ok(frame))) => {
                    seen.chunks += 1;
                    seen.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
                }
                std::task::Poll::Ready(Some(Err(_)) | None) => return Seen { ended: true, ..seen },
                std::task::Poll::Pending => {}
            }
            if late || !polls.is_empty() {
                turn(polls.start).await;
            }
        }
        seen
    }

    /// Lets what goes on without a client come to its end.
    async fn settle_down(&self) {
        timeout(Duration::from_secs(600), self.merchant.drain()).await.expect("work that never ends");
        assert_eq!(self.merchant.in_flight(), 0);
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether the journal lists open money for a challenge once every lease is over.
    async fn is_listed(&self, id: ChallengeId) -> bool {
        let now = "2100-01-01T00:00:00Z".parse().unwrap();
        let open = self.store.unfinished(Page { now, after: None, limit: 100, due: false }).await.unwrap();
        open.iter().any(|entry| entry.id == id)
    }

    /// Presents a credential until it is served or refused for good. Returns how often it was served.
    /// What stands in the way is waited for: only the end of a lease may take time.
    async fn redeem(&self, id: ChallengeId, credential: &HeaderValue) -> usize {
        for _ in 0..10 {
            let seen = self.send(credential).await;
            seen.assert_honest(self.rail.settlements_of(id), "again");
            match seen.status.map(|status| status.as_u16()) {
                Some(200 | 204) if seen.delivered() => return 1,
                Some(402 | 403) => return 0,
                Some(409) => self.clock.advance(LEASE_OVER),
                _ => {
                    self.settle_down().await;
                    // As long as `Retry-After` says where the journal is down.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        panic!("neither served nor refused");
    }
}

fn charge<H, F>(merchant: &Merchant, pricing: impl Pricing, handler: H) -> Service
where
    H: tower::Service<Request<RequestBody<Frames>>, Response = Response<Frames>, Error = io::Error, Future = F>,
    H: Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<Frames>, io::Error>> + Send + 'static,
{
    merchant.charge(pricing).unwrap().layer(Handler::new(handler))
}

async fn handle(request: Request<RequestBody<Frames>>, does: Does) -> Result<Response<Frames>, io::Error> {
    assert!(!request.headers().contains_key(AUTHORIZATION));
    let uploaded = request.into_body().collect().await?.to_bytes();
    assert!(uploaded.is_empty() || uploaded == "one two three");
    give_way(2).await;
    let body = Frames::of(["first", "second"]).chunked().waiting();
    let (status, body) = match does {
        Does::Serve => (200, body),
        Does::ServeNothing => (204, Frames::none()),
        Does::Fail => (500, body),
        Does::Error => return Err(io::ErrorKind::Other.into()),
        Does::BreakEarly => (200, Frames::none().broken().waiting()),
        Does::BreakLate => (200, Frames::of(["first"]).broken().waiting()),
    };
    Ok(Response::builder().status(status).body(body).unwrap())
}

/// Hangs up after every number of polls, and asserts what is left behind.
async fn hang_up_everywhere(plan: Plan) {
    // How many runs ended in each way, so that none of them is missed without a word.
    let (mut nothing, mut paid_for_nothing, mut delivered) = (0, 0, 0);
    for late in [false, true] {
        for polls in 0.. {
            let context = format!("{plan:?}, {polls} polls, late: {late}");
            let stand = Stand::open(plan);
            let (id, credential) = stand.credential().await;
            let seen = stand.send_and_hang_up(&credential, polls, late).await;
            stand.settle_down().await;

            let charged = stand.rail.settlements_of(id);
            assert!(charged <= 1, "{context}");
            assert!(charged == 1 || !seen.delivered(), "{context}: served for nothing");
            // No charge without a word in the journal: listed as open, or spent on an answer that has left.
            assert_eq!(stand.is_listed(id).await, charged == 1 && !seen.delivered(), "{context}");
            match (charged, seen.delivered()) {
                (0, _) => nothing += 1,
                (_, false) => paid_for_nothing += 1,
                (_, true) => delivered += 1,
            }

            // Whoever was not served is served now, at once and without a second charge.
            let again = stand.send(&credential).await;
            match seen.delivered() {
                true => assert_eq!(again.status, Some(StatusCode::FORBIDDEN), "{context}"),
                false if stand.handled.load(Ordering::SeqCst) == 1 && plan.does != Does::Serve => {
                    // That was the first time for the handler.
                    stand.settle_down().await;
                    if !again.delivered() {
                        assert_eq!(stand.send(&credential).await.status, Some(StatusCode::OK), "{context}");
                    }
                }
                false => assert_eq!(again.status, Some(StatusCode::OK), "{context}"),
            }
            assert_eq!(stand.rail.settlements_of(id), 1, "{context}");
            assert_eq!(stand.send(&credential).await.status, Some(StatusCode::FORBIDDEN), "{context}");
            assert!(!stand.is_listed(id).await, "{context}");
            if seen.ended || polls > 500 {
                break;
            }
        }
    }
    let served = matches!(plan.does, Does::Serve | Does::ServeNothing | Does::BreakLate);
    assert!(nothing > 0 && paid_for_nothing > 0 && (delivered > 0) == served, "{plan:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_at_any_point_loses_nothing() {
    for (rail_yields, slow_store) in [(0, false), (0, true), (1, false), (YIELDS, false), (YIELDS, true)] {
        for (upload, slow_price) in [(false, false), (true, false), (false, true), (true, true)] {
            hang_up_everywhere(Plan { rail_yields, slow_store, upload, slow_price, ..PLAN }).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_on_a_handler_that_fails_loses_nothing() {
    for does in [Does::ServeNothing, Does::Fail, Does::Error, Does::BreakEarly, Does::BreakLate] {
        for (rail_yields, slow_store) in [(0, false), (YIELDS, true)] {
            hang_up_everywhere(Plan { does, rail_yields, slow_store, ..PLAN }).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_on_a_lost_settlement_is_not_charged_twice() {
    for token in ["lost", "unknown"] {
        for slow_store in [false, true] {
            let (mut charged_once, plan) = (false, Plan { token, slow_store, ..PLAN });
            for polls in 0.. {
                let stand = Stand::open(plan);
                let (id, credential) = stand.credential().await;
                let seen = stand.send_and_hang_up(&credential, polls, false).await;
                stand.settle_down().await;
                let charged = stand.rail.settlements_of(id);
                charged_once |= charged == 1;
                assert!(charged == 0 || stand.is_listed(id).await, "{plan:?}, {polls} polls");
                // The claim was given back with the outcome unknown: no lease to wait for.
                let before = stand.now();
                assert_eq!(stand.redeem(id, &credential).await, 1, "{plan:?}, {polls} polls");
                assert_eq!(stand.now(), before);
                assert_eq!(stand.rail.settlements_of(id), 1);
                assert_eq!(stand.send(&credential).await.status, Some(StatusCode::FORBIDDEN));
                if seen.ended {
                    assert_eq!(seen.status, Some(StatusCode::SERVICE_UNAVAILABLE));
                    break;
                }
            }
            assert_eq!(charged_once, token == "lost");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_on_a_refusal_leaves_no_claim_behind() {
    for token in ["decline", "insufficient", "fault", "verify_fault"] {
        for slow_store in [false, true] {
            let plan = Plan { token, slow_store, ..PLAN };
            for polls in 0.. {
                let stand = Stand::open(plan);
                let challenge = stand.challenge().await;
                let id = id_of(&challenge);
                let seen =
                    stand.send_and_hang_up(&pay_with(&challenge, None, &json!({"token": token})), polls, false).await;
                stand.settle_down().await;
                assert!(!stand.is_listed(id).await, "{plan:?}, {polls} polls");
                let payable = pay_with(&challenge, None, &json!({"token": "ok"}));
                assert_eq!(stand.send(&payable).await.status, Some(StatusCode::OK), "{plan:?}, {polls} polls");
                assert_eq!(stand.rail.settlements_of(id), 1);
                if seen.ended {
                    break;
                }
            }
        }
    }
}

const FAULTS: [Broken; 3] = [Broken::Before, Broken::After, Broken::Stuck];

/// Sends one request through an outage of the journal, hangs up after some polls, and asserts that in the end everything was
/// charged once and served once. Returns how many steps failed, and whether the client stayed to the end.
async fn come_through(stand: &Stand, outage: Outage, lasts: Option<Duration>, polls: usize) -> (usize, bool) {
    let context = format!("{:?}, {outage:?}, {polls} polls", stand.plan);
    let challenge = stand.challenge().await;
    let id = id_of(&challenge);
    let credential = pay_with(&challenge, None, &json!({"token": stand.plan.token}));
    stand.store.fail(outage);
    let end = lasts.map(|lasts| {
        let store = stand.store.clone();
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            store.heal();
        })
    });
    let seen = stand.send_and_hang_up(&credential, polls, false).await;
    seen.assert_honest(stand.rail.settlements_of(id), &context);
    stand.settle_down().await;
    if let Some(end) = end {
        end.await.unwrap();
    }
    stand.store.heal();

    // Who is asked to pay can: no claim stands in the way.
    assert!(!seen.challenged || !stand.is_listed(id).await, "{context}");
    let mut served = usize::from(seen.delivered());
    assert!(served == 0 || stand.rail.settlements_of(id) == 1, "{context}: served for nothing");
    served += stand.redeem(id, &credential).await;
    if stand.plan.token == "decline" {
        assert_eq!((served, stand.rail.settlements_of(id)), (0, 0), "{context}");
        // Nothing stands in the way of a better proof.
        served += stand.redeem(id, &pay_with(&challenge, None, &json!({"token": "ok"}))).await;
    }
    assert_eq!((served, stand.rail.settlements_of(id)), (1, 1), "{context}");
    assert_eq!(stand.redeem(id, &credential).await, 0, "{context}");
    assert!(!stand.is_listed(id).await, "{context}");
    (stand.store.failures(), seen.ended)
}

/// All kinds of payments that a journal may fail.
fn plans() -> impl Iterator<Item = Plan> {
    let good = [Does::Serve, Does::ServeNothing, Does::Fail, Does::Error, Does::BreakEarly, Does::BreakLate];
    let good = good.into_iter().map(|does| Plan { does, ..PLAN });
    let bad = ["lost", "unknown", "decline"].into_iter().map(|token| Plan { token, ..PLAN });
    good.chain(bad)
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_fails_at_any_step_neither_charges_twice_nor_loses_a_payment() {
    for plan in plans() {
        for fault in FAULTS {
            for length in [1, 2, 3, 4, 6] {
                for first in 0.. {
                    let outage = Outage { first, length, fault, step: None };
                    if come_through(&Stand::open(plan), outage, None, usize::MAX).await.0 == 0 {
                        assert!(first >= 2);
                        break;
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_while_the_journal_fails_loses_nothing() {
    for plan in plans() {
        for fault in FAULTS {
            for first in 0.. {
                let mut failed = 0;
                // As far as an exchange goes that does not have to wait for time to pass.
                for polls in 0..50 {
                    let stand = Stand::open(Plan { rail_yields: 0, ..plan });
                    let outage = Outage { first, length: 1, fault, step: None };
                    let (failures, ended) = come_through(&stand, outage, None, polls).await;
                    failed += failures;
                    if ended {
                        break;
                    }
                }
                if failed == 0 {
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_away_for_half_a_minute_is_waited_for() {
    for plan in plans() {
        for fault in FAULTS {
            for first in 0.. {
                let outage = Outage { first, length: usize::MAX, fault, step: None };
                if come_through(&Stand::open(plan), outage, Some(Duration::from_secs(30)), usize::MAX).await.0 == 0 {
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_fails_a_redelivery_does_not_lose_the_payment() {
    for does in [Does::Fail, Does::Error, Does::BreakEarly] {
        for fault in FAULTS {
            for first in 0.. {
                let stand = Stand::open(Plan { does, ..PLAN });
                let (id, credential) = stand.credential().await;
                assert!(!stand.send(&credential).await.delivered());
                stand.settle_down().await;
                stand.store.fail(Outage { first, length: 1, fault, step: None });
                let seen = stand.send(&credential).await;
                seen.assert_honest(1, &format!("{does:?} {fault:?} {first}"));
                stand.settle_down().await;
                stand.store.heal();
                let served = usize::from(seen.delivered()) + stand.redeem(id, &credential).await;
                assert_eq!((served, stand.rail.settlements_of(id)), (1, 1), "{does:?} {fault:?} {first}");
                if stand.store.failures() == 0 {
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_too_late_is_not_told_that_nothing_was_charged() {
    let stand = Stand::open(Plan { does: Does::Fail, ..PLAN });
    let (id, credential) = stand.credential().await;
    assert!(!stand.send(&credential).await.delivered());
    // Beyond expiry and grace.
    stand.clock.advance(Duration::from_secs(300 + 600));
    let late = stand.send(&credential).await;
    // Nor to pay again.
    assert_eq!(late.status, Some(StatusCode::FORBIDDEN));
    assert!(late.text.contains("too late") && !late.text.contains("charged"), "{}", late.text);
    // It is not lost: the journal lists it for a refund.
    assert!(stand.is_listed(id).await);
    assert_eq!(stand.rail.settlements_of(id), 1);
}
