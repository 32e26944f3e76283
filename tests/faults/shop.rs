//! One run: a merchant, a service behind the layer, and clients who do as the schedule says.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::task::JoinHandle;
use tower::{ServiceExt as _, service_fn};
use tower_layer::Layer as _;
use tower_mpp::{
    Clock as _, KeyRing, Merchant, Payment, PaymentInfo, PendingPayment, Price, RefundFailed, RefundStatus, Refusal,
    RequestBody, SettleTiming,
    protocol::{ChallengeId, MethodId, Timestamp},
    refund::{ProviderCall, RefundPolicy},
    store::{MemoryAnswerStore, MemoryNonceStore},
};

use crate::{
    journal::{FaultyAnswers, FaultyStore, Watched},
    model::Phase,
    rail::{FaultyRail, Ledger},
    schedule::{Action, Does, Jump, Payer, Proof, Read, Schedule},
    support::{Frames, Handler, KEY, ask, id_of, pay_with},
    world::{Facts, LATE, World},
};

const LEASE: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(60);
pub(crate) const GRACE: Duration = Duration::from_secs(900);
/// For how long an ended payment is remembered beyond that.
const MEMORY: Duration = Duration::from_secs(61);
/// The longest that a client waits for an answer, or for a frame of it.
const PATIENCE: Duration = Duration::from_secs(40);
/// Answers that nothing can be expected after.
const FINAL: [StatusCode; 3] = [StatusCode::PAYMENT_REQUIRED, StatusCode::FORBIDDEN, StatusCode::UNPROCESSABLE_ENTITY];

type Body = Frames;
type Service = Payment<Handler<Body, Body, std::io::Error>>;

/// A credential, and what its payer saw.
pub(crate) struct Credential {
    pub(crate) id: ChallengeId,
    pub(crate) expires: Timestamp,
    pub(crate) payload: String,
    pub(crate) value: HeaderValue,
    pub(crate) key: Option<HeaderValue>,
    /// The calls of the service whose answers have begun to leave, in order.
    pub(crate) deliveries: Mutex<Vec<String>>,
}

/// What a client saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It hung up, or the service panicked or failed.
    Nothing,
    /// At least the first byte.
    Delivered,
    /// A 2xx that broke off before its first byte.
    Broken,
    Refused(StatusCode),
}

pub(crate) struct Shop {
    pub(crate) world: Arc<World>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) journal: Arc<Watched<MemoryNonceStore>>,
    pub(crate) answers: Arc<MemoryAnswerStore>,
    pub(crate) credentials: Vec<Arc<Credential>>,
    /// Two replicas on one journal, and the service behind each.
    replicas: [(Merchant, Service); 2],
}

impl Shop {
    pub(crate) async fn open(schedule: &Schedule, traced: bool) -> Arc<Self> {
        let world = World::new(schedule.faults.clone(), traced);
        let ledger = Ledger::new(Arc::clone(&world));
        let journal = Watched::new(Arc::clone(&world), MemoryNonceStore::single_process(256));
        let (store_yields, rail_yields) = schedule.yields;
        let rail = FaultyRail {
            world: Arc::clone(&world),
            ledger: Arc::clone(&ledger),
            id: MethodId::new("demo").unwrap(),
            yields: rail_yields,
        };
        let kept = Arc::new(MemoryAnswerStore::new(1 << 20));
        let answers = FaultyAnswers { world: Arc::clone(&world), inner: Arc::clone(&kept), yields: store_yields };
        let handler = handler(Arc::clone(&world), schedule);
        let replicas = [(), ()].map(|()| {
            let merchant = Merchant::builder("127.0.0.1", KeyRing::new(KEY).unwrap())
                .method(rail.clone())
                .nonce_store(FaultyStore { watched: Arc::clone(&journal), yields: store_yields })
                .answer_store(answers.clone())
                .clock(Arc::clone(&world))
                .challenge_ttl(TTL)
                .redelivery_grace(GRACE)
                .lease(LEASE)
                .rail_timeout(Duration::from_secs(3))
                .store_timeout(Duration::from_secs(1))
                .refunds(if schedule.refunds { RefundPolicy::all() } else { RefundPolicy::off() })
                .build()
                .unwrap();
            let timing = if schedule.after { SettleTiming::AfterHandler } else { SettleTiming::BeforeHandler };
            let layer = merchant.charge(Price::usd("1.00").unwrap()).unwrap().settle(timing).unwrap();
            (merchant, layer.layer(handler.clone()))
        });
        let mut challenges = Vec::new();
        for _ in 0..3 {
            challenges.push(ask(&replicas[0].1, Request::new(Frames::none())).await);
        }
        let credential = |payer: &Payer| {
            let challenge = &challenges[payer.challenge];
            let payload = match payer.proof {
                Proof::Bound(note) => json!({"note": note}),
                Proof::Exclusive(n) => json!({"transaction": n}),
            };
            Arc::new(Credential {
                id: id_of(challenge),
                expires: challenge.expires.as_deref().unwrap().parse().unwrap(),
                value: pay_with(challenge, Some("did:example:payer"), &payload),
                payload: payload.to_string(),
                key: payer.key.map(|key| HeaderValue::from_str(&format!("key-{key}")).unwrap()),
                deliveries: Mutex::default(),
            })
        };
        let credentials = schedule.payers.iter().map(credential).collect();
        Arc::new(Self { world, ledger, journal, answers: kept, credentials, replicas })
    }

    /// Does what the schedule says, until the last client has gone.
    pub(crate) async fn run(self: &Arc<Self>, schedule: &Schedule) {
        let mut clients: Vec<JoinHandle<()>> = Vec::new();
        for action in &schedule.actions {
            self.world.note(|| format!("{action:?}"));
            let (mut begun, wait) = match *action {
                Action::Sleep(millis) => {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    continue;
                }
                Action::Jump(jump) => {
                    self.world.jump(match jump {
                        Jump::Lease => LEASE + Duration::from_millis(1),
                        Jump::Expiry => TTL,
                        Jump::Grace => TTL + GRACE,
                        Jump::PastMemory => TTL + GRACE + MEMORY,
                    });
                    continue;
                }
                Action::Present { payer, copies, hang_up, read, wait } => {
                    let payer = payer % self.credentials.len();
                    let present = |_| {
                        let shop = Arc::clone(self);
                        tokio::spawn(async move { _ = shop.present(payer, hang_up, read).await })
                    };
                    ((0..copies).map(present).collect::<Vec<_>>(), wait)
                }
                Action::Sweep { replicas, hang_up, wait } => {
                    let sweep = |n| {
                        let shop = Arc::clone(self);
                        tokio::spawn(async move { shop.sweep(n, hang_up).await })
                    };
                    ((0..replicas).map(sweep).collect(), wait)
                }
                Action::Refund { payer, wait } => {
                    let (shop, payer) = (Arc::clone(self), payer % self.credentials.len());
                    (vec![tokio::spawn(async move { shop.ask_back(payer).await })], wait)
                }
            };
            for client in begun.drain(..begun.len() * usize::from(wait)) {
                // A panic of the service is an end like any other.
                let _ = client.await;
            }
            clients.append(&mut begun);
        }
        for client in clients {
            let _ = client.await;
        }
        if schedule.too_late {
            self.world.jump(TTL + GRACE);
            for payer in 0..self.credentials.len() {
                let shop = Arc::clone(self);
                let _ = tokio::spawn(async move { shop.present(payer, None, Read::Whole).await }).await;
            }
        }
    }

    /// One pass of a sweeper.
    async fn sweep(&self, replica: usize, hang_up: Option<u32>) {
        let sweeper = self.replicas[replica].0.sweeper();
        let swept = watched(&mut hang_up.clone(), Box::pin(sweeper.sweep())).await;
        self.world.note(|| format!("swept: {swept:?}"));
    }

    /// The merchant gives the money of a payer back.
    async fn ask_back(&self, payer: usize) {
        let id = self.credentials[payer].id;
        self.world.about(id, |facts| facts.asked_back = true);
        let answer = self.replicas[0].0.refund(id).await;
        self.world.note(|| format!("asked back: {answer:?}"));
        let Facts { charges, refunds, .. } = self.world.facts(id);
        match answer {
            Ok(RefundStatus::Refunded) if refunds == 0 => self.world.wrong(format!("{id} is said to be given back")),
            Err(RefundFailed::NotCharged) if charges > 0 => self.world.wrong(format!("{id} is said not to be charged")),
            _ => {}
        }
    }

    /// Faults stop, and whatever is under way without a client comes to its end.
    pub(crate) async fn calm_down(&self) {
        self.world.heal();
        tokio::time::sleep(LATE).await;
        for (merchant, _) in &self.replicas {
            if tokio::time::timeout(Duration::from_secs(3600), merchant.drain()).await.is_err() {
                self.world.wrong("there is work that never ends");
            }
            let in_flight = merchant.in_flight();
            if in_flight != 0 {
                self.world.wrong(format!("{in_flight} payments are in flight after the end"));
            }
        }
    }

    /// Sweeps until every lease is over and nothing is put off that the rail can do now.
    pub(crate) async fn sweep_up(&self) {
        for pause in [LEASE, Duration::from_secs(5), Duration::from_secs(2 * 60 * 60)] {
            tokio::time::sleep(pause).await;
            self.sweep(0, None).await;
            self.calm_down().await;
        }
    }

    /// What the merchant sees of what has not ended.
    pub(crate) async fn unfulfilled(&self) -> Vec<ChallengeId> {
        let listed = self.replicas[1].0.unfulfilled(None, 1000).await.unwrap();
        listed.into_iter().map(|payment| payment.challenge_id).collect()
    }

    /// Presents credentials until each has a final answer, with a sweep now and then. Answers those that have none.
    pub(crate) async fn present_again(self: &Arc<Self>, payers: Vec<usize>) -> Vec<usize> {
        let mut open = payers;
        for _ in 0..6 {
            let mut left = Vec::new();
            for payer in open {
                let shop = Arc::clone(self);
                let seen = tokio::spawn(async move { shop.present(payer, None, Read::Whole).await }).await;
                match seen {
                    Ok(Seen::Delivered) => {}
                    Ok(Seen::Refused(status)) if FINAL.contains(&status) => {}
                    _ => left.push(payer),
                }
            }
            self.calm_down().await;
            if left.is_empty() {
                return left;
            }
            open = left;
            tokio::time::sleep(LEASE).await;
            self.sweep(1, None).await;
        }
        open
    }

    /// It cannot be redeemed any more at all.
    pub(crate) fn is_too_late(&self, credential: &Credential) -> bool {
        self.world.now() >= credential.expires.saturating_add(GRACE)
    }

    /// Presents a credential and judges what comes back.
    pub(crate) async fn present(&self, payer: usize, hang_up: Option<u32>, read: Read) -> Seen {
        let credential = &self.credentials[payer];
        let mut request = Request::new(Frames::none());
        request.headers_mut().insert("authorization", credential.value.clone());
        if let Some(key) = &credential.key {
            request.headers_mut().insert("idempotency-key", key.clone());
        }
        self.world.note(|| format!("payer {payer} presents {}", credential.id));
        let mut left = hang_up;
        let before = self.world.facts(credential.id);
        let service = &self.replicas[payer % self.replicas.len()].1;
        let answer = Box::pin(service.clone().oneshot(request));
        let Some(Ok(answer)) = watched(&mut left, answer).await else {
            self.world.note(|| format!("payer {payer} saw nothing"));
            return Seen::Nothing;
        };
        self.judge(payer, &answer, before);
        let status = answer.status();
        if !status.is_success() {
            return Seen::Refused(status);
        }
        let call = answer.headers().get("x-call").map_or("none", |call| call.to_str().unwrap()).to_owned();
        if status == StatusCode::NO_CONTENT {
            self.delivered(payer, call, before);
            return Seen::Delivered;
        }
        let mut body = Box::pin(answer.into_body());
        let mut seen = Seen::Nothing;
        while !matches!((read, seen), (Read::Nothing, _) | (Read::First, Seen::Delivered)) {
            let frame = match watched(&mut left, Box::pin(body.frame())).await {
                None => break,
                Some(Some(Err(_))) if seen == Seen::Nothing => return Seen::Broken,
                Some(Some(Err(_))) => break,
                Some(frame) => frame,
            };
            if seen == Seen::Nothing {
                seen = Seen::Delivered;
                self.delivered(payer, call.clone(), before);
            }
            if frame.is_none() {
                break;
            }
        }
        self.world.note(|| format!("payer {payer} is gone, {seen:?}"));
        seen
    }

    /// The first byte of an answer has left. `before` is what was known when it was asked for.
    fn delivered(&self, payer: usize, call: String, before: Facts) {
        let credential = &self.credentials[payer];
        self.world.note(|| format!("payer {payer} is delivered call {call}"));
        if !self.ledger.has_charged(credential.id, &credential.payload) {
            self.world.wrong(format!("payer {payer} is served for nothing"));
        }
        let facts = self.world.about(credential.id, |facts| {
            facts.delivered = true;
            *facts
        });
        // What was on its way when the merchant gave the money back on request cannot be called back; and a kept
        // answer outlives the entry that says that it was given back.
        let excused = facts.asked_back && (before.refunds == 0 || self.journal.is_forgettable(credential.id));
        if facts.refunds > 0 && !excused {
            self.world.wrong(format!("payer {payer} is served for money that was given back"));
        }
        credential.deliveries.lock().unwrap().push(call);
        // Other payers may hold the same challenge and proof: together they are served one answer, and again
        // only the same one to who has asked for that.
        let all: Vec<String> =
            self.same_as(credential).flat_map(|same| same.deliveries.lock().unwrap().clone()).collect();
        let without_key = credential.key.is_none() && all.len() > 1;
        if without_key || all.iter().any(|call| *call != all[0]) {
            self.world.wrong(format!("payer {payer} is served again: calls {all:?}"));
        }
    }

    pub(crate) fn same_as<'a>(&'a self, credential: &'a Credential) -> impl Iterator<Item = &'a Arc<Credential>> {
        self.credentials.iter().filter(|other| other.id == credential.id && other.payload == credential.payload)
    }

    /// Whether the head of an answer is honest. `before` is what was known when it was asked for.
    fn judge<B>(&self, payer: usize, answer: &Response<B>, before: Facts) {
        let credential = &self.credentials[payer];
        let (status, refusal) = (answer.status(), answer.extensions().get::<Refusal>());
        let outcome = answer.headers().get("payment-outcome").map(|outcome| outcome.to_str().unwrap());
        self.world.note(|| format!("payer {payer} is answered {status} {:?} {outcome:?}", refusal.map(Refusal::kind)));
        let wrong = |what: &str| self.world.wrong(format!("payer {payer} is answered {status}: {what}"));
        let charged = self.ledger.has_charged(credential.id, &credential.payload);
        let after = self.world.facts(credential.id);
        // Since the payer asked, the journal was told that nothing was charged. What may have moved since has
        // moved for another request with the same credential.
        let let_go = after.let_go > before.let_go;
        let forgotten = self.journal.is_forgettable(credential.id);
        let challenged = answer.headers().contains_key("www-authenticate");
        if challenged != (status == StatusCode::PAYMENT_REQUIRED) {
            wrong("it has a challenge, or should have");
        }
        if challenged && !forgotten && charged && !let_go {
            wrong("asked to pay what was paid");
        }
        if refusal.is_some_and(|refusal| refusal.detail().contains("Nothing was charged."))
            && charged
            && !let_go
            && !forgotten
        {
            wrong("told that nothing was charged");
        }
        if status.is_success() != answer.headers().contains_key("payment-receipt") {
            wrong("the receipt does not fit");
        }
        let honest = match outcome {
            Some("refunded") => after.refunds > 0,
            Some("not-charged") => let_go || !charged,
            Some("refund-pending" | "redeliverable" | "unfulfilled") => charged,
            None => true,
            Some(_) => false,
        };
        if !honest {
            wrong("its outcome is not true");
        }
    }
}

/// Polls until the end, until the client hangs up, or until it has no patience left.
async fn watched<F: Future>(left: &mut Option<u32>, mut future: Pin<Box<F>>) -> Option<F::Output> {
    let polled = poll_fn(|cx| {
        if *left == Some(0) {
            return Poll::Ready(None);
        }
        *left = left.map(|left| left - 1);
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if *left == Some(0) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    tokio::time::timeout(PATIENCE, polled).await.ok().flatten()
}

fn handler(world: Arc<World>, schedule: &Schedule) -> Handler<Body, Body, std::io::Error> {
    let (calls, script, after) = (Arc::new(AtomicUsize::new(0)), Arc::new(schedule.service.clone()), schedule.after);
    Handler::new(service_fn(move |request: Request<RequestBody<Body>>| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        let does = script.get(call).copied().filter(|_| !world.is_healed()).unwrap_or(Does::Serve);
        world.note(|| format!("service: call {call}, {does:?}"));
        let settled = request.extensions().get::<PaymentInfo>().map(PaymentInfo::challenge_id);
        let pending = request.extensions().get::<PendingPayment>().map(PendingPayment::challenge_id);
        let phase = settled.or(pending).and_then(|id| world.facts(id).phase);
        let held = phase.is_none_or(|phase| phase == Phase::Held);
        if settled.is_none() && !after || settled.is_some() && held {
            world.wrong(format!("the service is called, and in the journal it is {phase:?}"));
        }
        serve(call, does)
    }))
}

async fn serve(call: usize, does: Does) -> Result<Response<Body>, std::io::Error> {
    tokio::task::yield_now().await;
    let two = || Frames::of(["first", "second"]).chunked().waiting();
    let broken = || Frames::none().broken().waiting();
    let (status, body, provider) = match does {
        Does::Serve => (200, two(), None),
        Does::ServeOne => (200, Frames::of(["whole"]).declared().waiting(), None),
        Does::ServeEmpty => (200, Frames::none().chunked().waiting(), None),
        Does::ServeNothing => (204, Frames::none(), None),
        Does::ServeLate => {
            tokio::time::sleep(LEASE + LEASE / 2).await;
            (200, two(), None)
        }
        Does::Fail => (500, two(), None),
        Does::FailNotStarted => (502, two(), Some(ProviderCall::NotStarted)),
        Does::FailTimedOut => (504, two(), Some(ProviderCall::Started)),
        Does::FailSideEffect => (500, two(), Some(ProviderCall::SideEffect)),
        Does::Error => return Err(std::io::ErrorKind::Other.into()),
        // Without a word from the hook for panics.
        Does::Panic => std::panic::resume_unwind(Box::new("scheduled")),
        Does::Hang => std::future::pending().await,
        Does::BreakEarly => (200, broken(), None),
        Does::BreakTimedOut => (200, broken(), Some(ProviderCall::Started)),
        Does::BreakLate => (200, Frames::of(["first"]).broken().waiting(), None),
        Does::HangEarly => (200, Frames::none().hanging(), None),
    };
    let mut response = Response::builder().status(status).header("x-call", call.to_string()).body(body).unwrap();
    provider.map(|provider| response.extensions_mut().insert(provider));
    Ok(response)
}
