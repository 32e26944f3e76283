//! A shop whose service fails as it is told, over a journal in memory.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::{Layer as _, ServiceExt as _, util::BoxCloneSyncService};
use tower_mpp::{
    Merchant, MerchantBuilder, Price, RequestBody, ResponseBody,
    protocol::ChallengeId,
    refund::{ProviderCall, RefundPolicy},
    store::MemoryNonceStore,
};

use crate::support::{
    Answer, FaultyStore, Frames, RuntimeClock, TestRail, ask, builder, call, get, get_paid, id_of, pay_with,
};

pub(crate) type Store = FaultyStore<Arc<MemoryNonceStore>>;
pub(crate) type Service = BoxCloneSyncService<Request<Full<bytes::Bytes>>, Response<ResponseBody<Frames>>, Infallible>;

/// What the service answers.
pub(crate) struct Doing {
    pub(crate) status: u16,
    pub(crate) call: Option<ProviderCall>,
    pub(crate) body: fn() -> Frames,
}

pub(crate) fn fails(call: Option<ProviderCall>) -> Doing {
    Doing { status: 502, call, body: || Frames::of(["no"]) }
}

pub(crate) fn works() -> Doing {
    Doing { status: 200, call: Some(ProviderCall::FirstByte), body: || Frames::of(["served"]) }
}

pub(crate) struct Shop {
    pub(crate) rail: TestRail,
    pub(crate) store: Store,
    pub(crate) merchant: Merchant,
    pub(crate) service: Service,
    doing: Arc<Mutex<Doing>>,
    calls: Arc<AtomicUsize>,
}

/// Until the challenge has expired and the grace is over.
pub(crate) const TOO_LATE: Duration = Duration::from_secs(300 + 600);

impl Shop {
    pub(crate) fn open(policy: RefundPolicy) -> Self {
        Self::with(policy, |builder| builder)
    }

    pub(crate) fn with(policy: RefundPolicy, change: impl FnOnce(MerchantBuilder) -> MerchantBuilder) -> Self {
        let store = FaultyStore::new(Arc::new(MemoryNonceStore::single_process(1000)));
        Self::over(store, TestRail::new("demo"), policy, change)
    }

    pub(crate) fn over(
        store: Store,
        rail: TestRail,
        policy: RefundPolicy,
        change: impl FnOnce(MerchantBuilder) -> MerchantBuilder,
    ) -> Self {
        let builder = builder(&rail).nonce_store(store.clone()).clock(RuntimeClock::start()).refunds(policy);
        let merchant = change(builder).build().unwrap();
        let doing = Arc::new(Mutex::new(works()));
        let calls = Arc::new(AtomicUsize::new(0));
        let (told, counted) = (Arc::clone(&doing), Arc::clone(&calls));
        let inner = tower::service_fn(move |_: Request<RequestBody<Full<bytes::Bytes>>>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let doing = told.lock().unwrap();
            let mut response = Response::new((doing.body)());
            *response.status_mut() = StatusCode::from_u16(doing.status).unwrap();
            if let Some(call) = doing.call {
                response.extensions_mut().insert(call);
            }
            async { Ok::<_, Infallible>(response) }
        });
        let layer = merchant.charge(Price::usd("1.50").unwrap()).unwrap();
        let service = Service::new(layer.layer(inner));
        Self { rail, store, merchant, service, doing, calls }
    }

    pub(crate) fn does(&self, doing: Doing) {
        *self.doing.lock().unwrap() = doing;
    }

    /// How often the service was called.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) async fn credential(&self, payload: &Value) -> (ChallengeId, HeaderValue) {
        let challenge = ask(&self.service, get("/a")).await;
        (id_of(&challenge), pay_with(&challenge, None, payload))
    }

    pub(crate) async fn paid(&self) -> (ChallengeId, HeaderValue) {
        self.credential(&json!({"token": "ok"})).await
    }

    pub(crate) async fn redeem(&self, credential: &HeaderValue) -> Answer {
        call(&self.service, get_paid("/a", credential)).await
    }

    /// Redeems for an answer whose body nobody reads yet.
    pub(crate) async fn head(&self, credential: &HeaderValue) -> Response<ResponseBody<Frames>> {
        self.service.clone().oneshot(get_paid("/a", credential)).await.unwrap()
    }

    pub(crate) async fn sweep(&self) -> tower_mpp::Swept {
        self.merchant.sweeper().sweep().await.unwrap()
    }

    /// The ids that are listed.
    pub(crate) async fn listed(&self) -> Vec<ChallengeId> {
        self.merchant.unfulfilled(None, 1000).await.unwrap().iter().map(|payment| payment.challenge_id).collect()
    }
}

/// The outcome that an answer names, and its status.
pub(crate) fn outcome(answer: &Answer) -> (u16, Option<&str>) {
    answer.assert_no_challenge();
    (answer.status.as_u16(), answer.header("payment-outcome"))
}
