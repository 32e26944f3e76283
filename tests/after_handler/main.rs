//! Routes that settle after the handler: what fails costs nothing, and what is delivered is paid for before
//! its first byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod capture;
mod handler;
mod stripe;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::Full;
use serde_json::json;
use support::*;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_mpp::{
    Merchant, MerchantBuilder, Payment, PaymentInfo, PendingPayment, Price, RequestBody, ResponseBody, SettleTiming,
    protocol::{Challenge, ChallengeId},
    store::{EntryState, MemoryAnswerStore, MemoryNonceStore, NonceStore as _},
};

type Store = FaultyStore<Arc<MemoryNonceStore>>;
type Service = Payment<Handler<Full<Bytes>, Watched, io::Error>>;
type Paid = Response<ResponseBody<Watched>>;

/// The default lease, and a second.
const LEASE_OVER: Duration = Duration::from_secs(61);

/// What the handler does; once there is nothing left to do it serves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Serve,
    /// 200 after this many seconds.
    Take(u64),
    Answer(u16),
    /// An error instead of an answer.
    Error,
    /// Never ends.
    Hang,
    /// Ends after this many seconds with 500.
    FailAfter(u64),
}

/// How much had been charged whenever somebody looked.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<usize>>>);

impl Log {
    fn note(&self, charged: usize) {
        self.0.lock().unwrap().push(charged);
    }

    fn all(&self) -> Vec<usize> {
        self.0.lock().unwrap().clone()
    }
}

/// A body that notes how much had been charged when it was asked for a frame.
struct Watched {
    rail: TestRail,
    polled: Log,
    chunks: VecDeque<&'static str>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.polled.note(self.rail.settlements());
        let chunk = self.chunks.pop_front();
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))))
    }
}

/// A merchant with one route, without a socket.
struct Shop {
    rail: TestRail,
    store: Store,
    merchant: Merchant,
    service: Service,
    /// What had been charged when the handler ran, and when the body was asked for.
    handled: Log,
    polled: Log,
    /// How often the handler found a [`PaymentInfo`].
    infos: Arc<AtomicUsize>,
}

fn price() -> Price {
    Price::usd("1.00").unwrap()
}

impl Shop {
    fn open(plan: impl IntoIterator<Item = Does>) -> Self {
        Self::with(TestRail::new("demo"), plan, |builder| builder)
    }

    fn with(
        rail: TestRail,
        plan: impl IntoIterator<Item = Does>,
        configure: impl FnOnce(MerchantBuilder) -> MerchantBuilder,
    ) -> Self {
        let store = FaultyStore::new(Arc::new(MemoryNonceStore::single_process(1_000)));
        let clock = RuntimeClock::start();
        let rail = rail.settling_after();
        let builder = builder(&rail).nonce_store(store.clone()).clock(clock);
        let merchant = configure(builder).build().unwrap();
        let plan = Arc::new(Mutex::new(plan.into_iter().collect::<VecDeque<_>>()));
        let (handled, polled, infos) = (Log::default(), Log::default(), Arc::<AtomicUsize>::default());
        let handler = handler(&rail, &plan, &handled, &polled, &infos);
        let layer = merchant.charge(price()).unwrap().settle(SettleTiming::AfterHandler).unwrap();
        let service = layer.layer(handler);
        Self { rail, store, merchant, service, handled, polled, infos }
    }

    async fn credential(&self, token: &str) -> (ChallengeId, HeaderValue) {
        let challenge: Challenge = ask(&self.service, get("/")).await;
        let source = Some("did:example:payer");
        (id_of(&challenge), pay_with(&challenge, source, &json!({ "token": token })))
    }

    async fn buy(&self, credential: &HeaderValue) -> Answer {
        read(self.head(credential).await).await
    }

    /// The answer, before anybody has asked for its body.
    async fn head(&self, credential: &HeaderValue) -> Paid {
        self.service.clone().oneshot(get_paid("/", credential)).await.unwrap()
    }

    /// Sends a request from a task of its own, and waits until the handler is at work.
    async fn start(&self, credential: &HeaderValue) -> tokio::task::JoinHandle<Paid> {
        let before = self.handled.all().len();
        let (service, request) = (self.service.clone(), get_paid("/", credential));
        let task = tokio::spawn(async move { service.oneshot(request).await.unwrap() });
        while self.handled.all().len() == before {
            tokio::task::yield_now().await;
        }
        task
    }

    async fn state(&self, id: ChallengeId) -> Option<EntryState> {
        self.store.find(id).await.unwrap().map(|entry| entry.state)
    }

    /// Asserts that nothing is left of a payment.
    async fn assert_untouched(&self, id: ChallengeId) {
        self.merchant.drain().await;
        assert_eq!((self.state(id).await, self.rail.settlements()), (None, 0));
        assert_eq!(self.merchant.in_flight(), 0);
    }

    /// Asserts that a credential is good for one answer.
    async fn assert_good(&self, credential: &HeaderValue) {
        let answer = self.buy(credential).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "served"), "{answer:?}");
        assert_eq!(self.rail.settlements(), 1);
        assert_eq!(self.buy(credential).await.status, 403);
        assert_eq!(self.rail.settlements(), 1);
    }
}

fn handler(
    rail: &TestRail,
    plan: &Arc<Mutex<VecDeque<Does>>>,
    handled: &Log,
    polled: &Log,
    infos: &Arc<AtomicUsize>,
) -> Handler<Full<Bytes>, Watched, io::Error> {
    let (rail, plan, handled) = (rail.clone(), plan.clone(), handled.clone());
    let (polled, infos) = (polled.clone(), infos.clone());
    Handler::new(service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
        handled.note(rail.settlements());
        let pending = request.extensions().get::<PendingPayment>().expect("always there");
        assert_eq!((pending.amount(), pending.method().as_str()), (price().amount(), "demo"));
        assert_eq!(pending.payer().map(|payer| payer.id.as_str()), Some("did:example:payer"));
        if let Some(info) = request.extensions().get::<PaymentInfo>() {
            assert_eq!(info.challenge_id(), pending.challenge_id());
            infos.fetch_add(1, Ordering::SeqCst);
        }
        let does = plan.lock().unwrap().pop_front().unwrap_or(Does::Serve);
        let body = Watched { rail: rail.clone(), polled: polled.clone(), chunks: ["ser", "ved"].into() };
        async move {
            let mut response = Response::new(body);
            match does {
                Does::Serve => {}
                Does::Take(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                Does::Answer(status) => *response.status_mut() = StatusCode::from_u16(status).unwrap(),
                Does::Error => return Err(io::ErrorKind::Other.into()),
                Does::Hang => std::future::pending().await,
                Does::FailAfter(seconds) => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
            }
            Ok(response)
        }
    }))
}
