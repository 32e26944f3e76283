//! No event, no span, no `Debug`, no answer ever says a key, a credential or the proof inside of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    fmt::{Debug, Write as _},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose as base64_of};
use bytes::Bytes;
use futures_util::poll;
use http::{HeaderValue, Method, Request, Response, header::AUTHORIZATION, request::Parts};
use http_body_util::Full;
use serde_json::{Value, json};
use support::{
    Broken, FaultyStore, Handler, Outage, TestRail, YIELDS, YieldingStore, get_paid, pay_sandbox, pay_with,
    with_credential,
};
use tower::{ServiceExt as _, service_fn};
use tower_layer::Layer as _;
use tower_mpp::{
    HttpsPolicy, InvalidKey, KeyRing, ManualClock, Merchant, Payment, PaymentInfo, Price, Redemption, ReplayAnswer,
    RequestBody, TRACING_TARGET,
    method::{
        Attempt, Checked, Declined, OfferRequest, PaymentMethod, RefundError, RefundRequest, Refunded, Sandbox,
        SandboxKey, SettleError, Settlement, VerifyError,
    },
    pricing::{Prices, Refused},
    protocol::{Challenge, ChallengeId, CredentialBytes, Intent, MethodId, Timestamp, presented_credential},
    store::{
        Claim, Claimed, End, JournalEntry, Lease, MemoryNonceStore, NonceStore, Page, RefundReason, Release,
        StoreError, Take, Taken,
    },
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{layer::Context, prelude::*};

/// The key of the merchant.
const SECRET_KEY: &str = "KEY-f00dcafe-of-the-merchant-KEY-f00dcafe";
/// What proves a payment: whoever has it can take the money.
const SECRET_PROOF: &str = "spt_SECRET_4242424242424242";
/// Of another scheme, not ours to show.
const SECRET_BEARER: &str = "bearer-SECRET-0123456789";
/// What a rail and a journal tell the merchant, and nobody else.
const FOR_THE_MERCHANT: [&str; 2] = ["sk_secret", "postgres://merchant:password@db"];

type Service = Payment<Handler<Full<Bytes>, Full<Bytes>, io::Error>>;

/// Everything that was said, and where.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    said: Vec<(String, String)>,
    credentials: Vec<String>,
    /// Modules of this crate that speak under another name.
    strays: Vec<String>,
}

impl Ear {
    fn hear(&self, place: impl Into<String>, text: impl Into<String>) {
        self.0.lock().unwrap().said.push((place.into(), text.into()));
    }

    fn debug(&self, place: &str, value: &impl Debug) {
        self.hear(place, format!("{value:?} {value:#?}"));
    }

    fn keep_secret(&self, credential: &HeaderValue) {
        self.0.lock().unwrap().credentials.push(credential.to_str().unwrap().to_owned());
    }
}

/// Hears every event and span of every target.
struct Tracing(Ear);

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Tracing {
    fn hear(&self, what: &str, metadata: &Metadata<'_>, fields: Fields) {
        let module = metadata.module_path().unwrap_or_default();
        let ours = module == "tower_mpp" || module.starts_with("tower_mpp::");
        if ours && metadata.target() != TRACING_TARGET {
            self.0.0.lock().unwrap().strays.push(format!("{metadata:?}"));
        }
        self.0.hear(format!("{what} {module} {} {}", metadata.target(), metadata.level()), fields.0);
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Tracing {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.hear("event", event.metadata(), fields);
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        self.hear("span", attributes.metadata(), fields);
    }

    fn on_record(&self, _: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.0.hear("record", fields.0);
    }
}

/// A rail that shows what it is given.
struct NosyRail(TestRail, Ear);

#[async_trait]
impl PaymentMethod for NosyRail {
    fn method(&self) -> &MethodId {
        self.0.method()
    }

    fn intent(&self) -> &Intent {
        self.0.intent()
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        let offer = self.0.offer(price);
        self.1.debug("OfferRequest", &offer);
        offer
    }

    fn token_payload(&self, token: &str) -> Option<serde_json::Map<String, Value>> {
        self.0.token_payload(token)
    }

    fn check(&self, payment: &tower_mpp::method::Payment) -> Result<Checked, Declined> {
        self.1.debug("method::Payment", payment);
        let checked = self.0.check(payment);
        self.1.debug("Checked", &checked);
        checked
    }

    async fn verify(&self, payment: &tower_mpp::method::Payment, attempt: Attempt) -> Result<(), VerifyError> {
        let verified = self.0.verify(payment, attempt).await;
        self.1.debug("verified", &verified);
        verified
    }

    async fn settle(&self, payment: &tower_mpp::method::Payment, attempt: Attempt) -> Result<Settlement, SettleError> {
        let settled = self.0.settle(payment, attempt).await;
        self.1.debug("settled", &settled);
        settled
    }

    async fn refund(&self, refund: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        self.0.refund(refund).await
    }
}

/// A journal that shows what it is given, and whose errors name its database.
struct NosyStore<T>(T, Ear);

impl<T> NosyStore<T> {
    fn named<R: Debug>(&self, step: &str, result: Result<R, StoreError>) -> Result<R, StoreError> {
        self.1.debug(step, &result);
        result.map_err(|error| {
            self.1.hear(step, error.to_string());
            StoreError::unavailable(FOR_THE_MERCHANT[1])
        })
    }
}

#[async_trait]
impl<T: NonceStore> NonceStore for NosyStore<T> {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.1.debug("Claim", &claim);
        self.1.hear("record of a claim", std::str::from_utf8(&claim.record).unwrap());
        self.named("claim", self.0.claim(claim).await)
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.named("renew", self.0.renew(lease, until).await)
    }

    async fn settle(&self, lease: Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.1.debug("Settlement", settlement);
        self.1.hear("settlement in JSON", serde_json::to_string(settlement).unwrap());
        self.named("settle", self.0.settle(lease, settlement).await)
    }

    async fn commit(&self, lease: Lease, end: End) -> Result<(), StoreError> {
        self.named("commit", self.0.commit(lease, end).await)
    }

    async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        self.named("release", self.0.release(lease, reason).await)
    }

    async fn refund(&self, lease: Lease, reason: RefundReason) -> Result<(), StoreError> {
        self.named("refund", self.0.refund(lease, reason).await)
    }

    async fn put_off(&self, lease: Lease, until: Timestamp) -> Result<(), StoreError> {
        self.named("put_off", self.0.put_off(lease, until).await)
    }

    async fn take(&self, take: Take) -> Result<Taken, StoreError> {
        self.named("take", self.0.take(take).await)
    }

    async fn find(&self, id: ChallengeId) -> Result<Option<JournalEntry>, StoreError> {
        self.named("find", self.0.find(id).await)
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.named("forget", self.0.forget(now, limit).await)
    }

    async fn unfinished(&self, page: Page) -> Result<Vec<JournalEntry>, StoreError> {
        self.named("unfinished", self.0.unfinished(page).await)
    }
}

/// A merchant whose every part is listened to.
struct Shop {
    ear: Ear,
    clock: Arc<ManualClock>,
    store: FaultyStore<Arc<MemoryNonceStore>>,
    merchant: Merchant,
    service: Service,
}

fn price(head: &Parts) -> Result<Option<Prices>, Refused> {
    let dollar = Price::usd("1.00").unwrap();
    match head.uri.path() {
        "/free" => Ok(None),
        "/unpriced" => Err(Refused::bad_request("There is no such thing.")),
        "/nobody" => Ok(Some(Prices::only(MethodId::new("nobody").unwrap(), dollar))),
        _ => Ok(Some(dollar.into())),
    }
}

impl Shop {
    fn open(ear: &Ear, yields: usize, replay: ReplayAnswer) -> Self {
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let store = FaultyStore::new(Arc::new(MemoryNonceStore::single_process(1000)));
        let keys = KeyRing::new(SECRET_KEY).unwrap().previous(format!("{SECRET_KEY} before")).unwrap();
        ear.debug("KeyRing", &keys);
        let nosy = NosyStore(YieldingStore(store.clone()), ear.clone());
        let merchant = Merchant::builder("api.example.com", keys)
            .method(NosyRail(TestRail::new("demo").yielding(yields).taking_tokens(), ear.clone()))
            .method(Sandbox::new())
            .test_mode(true)
            .nonce_store(nosy)
            .clock(Arc::clone(&clock))
            .replay_answer(replay)
            .max_in_flight(1)
            .build()
            .unwrap();
        ear.debug("Merchant", &merchant);
        let layer = merchant.charge(price).unwrap().description("A thing").body_limit(50);
        ear.debug("PaymentLayer", &layer);
        let heard = ear.clone();
        let handler = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
            // What is free passes as it came, and is not ours to change.
            if let Some(payment) = request.extensions().get::<PaymentInfo>() {
                heard.debug("request", &request);
                heard.debug("PaymentInfo", payment);
            }
            async move {
                match request.uri().path() {
                    "/error" => Err(io::ErrorKind::Other.into()),
                    "/fail" => Ok(Response::builder().status(500).body(Full::from("no")).unwrap()),
                    _ => Ok(Response::new(Full::from("served"))),
                }
            }
        });
        let service = layer.layer(Handler::new(handler));
        ear.debug("Payment", &service);
        Self { ear: ear.clone(), clock, store, merchant, service }
    }

    fn get(path: &str) -> Request<Full<Bytes>> {
        Request::get(path).header(AUTHORIZATION, format!("Bearer {SECRET_BEARER}")).body(Full::default()).unwrap()
    }

    async fn challenge(&self, path: &str) -> Challenge {
        let offers = support::challenges(&self.answer(support::get(path)).await.headers);
        offers.into_iter().find(|offer| offer.method.as_str() == "demo").unwrap()
    }

    fn credential(&self, challenge: &Challenge, token: &str) -> HeaderValue {
        let proof = format!("{SECRET_PROOF} of {}", challenge.id);
        let credential = pay_with(challenge, Some("did:example:alice"), &json!({"token": token, "proof": proof}));
        self.ear.debug("authorization", &credential);
        self.ear.keep_secret(&credential);
        credential
    }

    /// Sends a request, and hears the whole answer.
    async fn answer(&self, request: Request<Full<Bytes>>) -> support::Answer {
        let path = request.uri().path().to_owned();
        let future = self.service.clone().oneshot(request);
        let response = match future.await {
            Ok(response) => response,
            Err(error) => {
                self.ear.debug("error", &error);
                return support::read(Response::new(Full::<Bytes>::default())).await;
            }
        };
        self.ear.debug("response", &response);
        self.ear.debug("Refusal", &response.extensions().get::<tower_mpp::Refusal>());
        let answer = support::read(response).await;
        let text = format!("{:?}\n{}", answer.headers, String::from_utf8_lossy(&answer.body));
        self.ear.hear(format!("answer {} of {path}", answer.status), text);
        answer
    }

    /// Pays with a token and sends the request again some times.
    async fn pay(&self, path: &str, token: &str, times: usize) -> (Challenge, HeaderValue) {
        let challenge = self.challenge(path).await;
        let credential = self.credential(&challenge, token);
        for _ in 0..times {
            let mut request = Self::get(path);
            request.headers_mut().append(AUTHORIZATION, credential.clone());
            self.answer(request).await;
            // There is room for one payment at a time.
            self.merchant.drain().await;
        }
        (challenge, credential)
    }
}

fn served_io() -> Handler<Full<Bytes>, Full<Bytes>, io::Error> {
    Handler::new(service_fn(|_| async { Ok(Response::new(Full::from("served"))) }))
}

/// All that can become of a request.
async fn everything(ear: &Ear, yields: usize, replay: ReplayAnswer) {
    let shop = Shop::open(ear, yields, replay);
    shop.answer(Shop::get("/free")).await;
    for path in ["/unpriced", "/nobody"] {
        shop.answer(Shop::get(path)).await;
    }
    // Every token, and each of them again.
    let tokens = ["ok", "decline", "insufficient", "forged", "fault", "verify_fault", "unknown", "lost", "panic", "?"];
    for token in tokens {
        shop.pay("/", token, 3).await;
        shop.clock.advance(Duration::from_secs(61));
    }
    for path in ["/error", "/fail"] {
        shop.pay(path, "ok", 3).await;
    }
    // Another proof, another route, another body, too late, too much, twice, cut off.
    let (challenge, credential) = shop.pay("/", "ok", 1).await;
    let other = pay_with(&challenge, None, &json!({"token": "ok", "proof": SECRET_PROOF}));
    ear.keep_secret(&other);
    shop.answer(get_paid("/", &other)).await;
    for path in ["/other", "/free", "/unpriced"] {
        shop.answer(get_paid(path, &credential)).await;
    }
    for body in ["a body", "a body that is much too long for a limit of fifty bytes, for it just goes on and on and on"]
    {
        shop.answer(with_credential(support::request(Method::POST, "/", body), &credential)).await;
        shop.answer(with_credential(support::request(Method::GET, "/", body), &credential)).await;
    }
    let mut twice = get_paid("/", &credential);
    twice.headers_mut().append(AUTHORIZATION, credential.clone());
    shop.answer(twice).await;
    let text = credential.to_str().unwrap();
    for cut in [20, text.len() / 2, text.len() - 1] {
        shop.answer(get_paid("/", &text[..cut].parse().unwrap())).await;
    }
    let garbage = base64_of::URL_SAFE_NO_PAD.encode(format!(r#"{{"challenge": 1, "payload": "{SECRET_PROOF}"}}"#));
    shop.answer(get_paid("/", &format!("Payment {garbage}").parse().unwrap())).await;
    shop.answer(get_paid("/", &format!("Payment \"{SECRET_PROOF}\"").parse().unwrap())).await;
    for (name, value) in [("accept", "text/html"), ("accept-payment", "sandbox/charge"), ("accept-payment", "?")] {
        let mut request = get_paid("/other", &credential);
        request.headers_mut().insert(name, value.parse().unwrap());
        shop.answer(request).await;
    }
    shop.answer(with_credential(support::request(Method::HEAD, "/", ""), &credential)).await;
    let (_, late) = shop.pay("/", "ok", 0).await;
    shop.clock.advance(Duration::from_secs(300));
    shop.answer(get_paid("/", &late)).await;
    shop.clock.advance(Duration::from_secs(3600));
    shop.answer(get_paid("/", &late)).await;

    // The journal fails, step by step.
    for broken in [Broken::Before, Broken::After] {
        for token in ["ok", "decline", "lost"] {
            for first in 0..4 {
                shop.store.fail(Outage { first, length: 2, fault: broken, step: None });
                let (_, credential) = shop.pay("/", token, 1).await;
                shop.store.heal();
                shop.merchant.drain().await;
                shop.clock.advance(Duration::from_secs(61));
                shop.answer(get_paid("/", &credential)).await;
            }
        }
    }

    // In flight, the house full, hung up.
    let (_, credential) = shop.pay("/", "ok", 0).await;
    let (_, second) = shop.pay("/", "ok", 0).await;
    let mut first = Box::pin(shop.service.clone().oneshot(get_paid("/", &credential)));
    if poll!(first.as_mut()).is_pending() {
        ear.debug("ResponseFuture", &shop.service.clone().oneshot(support::get("/")));
        shop.answer(get_paid("/", &credential)).await;
        shop.answer(get_paid("/", &second)).await;
    }
    drop(first);
    shop.merchant.drain().await;

    // The sandbox, whose proof is a signature.
    let key = SandboxKey::generate();
    ear.debug("SandboxKey", &key);
    let offers = support::challenges(&shop.answer(support::get("/")).await.headers);
    let sandbox = offers.iter().find(|offer| offer.method == MethodId::SANDBOX).unwrap();
    let credential = pay_sandbox(sandbox, &key);
    ear.keep_secret(&credential);
    for _ in 0..2 {
        shop.answer(get_paid("/", &credential)).await;
    }
    shop.answer(get_paid("/", &pay_sandbox(sandbox, &SandboxKey::generate()))).await;

    // A bare token: paid, again, declined, for nothing of ours, unreadable, and where no tokens are taken.
    let on = shop.merchant.charge(price).unwrap().accept_token_credentials(true);
    let redemptions = [Redemption::Live, Redemption::PrivatePreview, Redemption::NotInProduction];
    for layer in redemptions.map(|redemption| on.clone().redemption(redemption).refuse_other_schemes(true)) {
        ear.debug("PaymentLayer", &layer);
        let shop = Shop {
            ear: ear.clone(),
            clock: Arc::clone(&shop.clock),
            store: shop.store.clone(),
            merchant: shop.merchant.clone(),
            service: layer.layer(served_io()),
        };
        for token in ["ok", "ok", "decline", "lost", "?", "a b"] {
            let id = shop.challenge("/").await.id;
            for id in [&id, &id, &"A".repeat(43), "\\"] {
                let bare = format!("Payment id=\"{id}\", credential=\"{token}:{SECRET_PROOF} of {id}\"");
                shop.answer(get_paid("/", &bare.parse().unwrap())).await;
                shop.answer(Shop::get("/")).await;
                shop.merchant.drain().await;
            }
        }
    }
    let bare = format!("Payment id=\"x\", credential=\"{SECRET_PROOF}\"").parse().unwrap();
    ear.debug("PaymentCredential", &presented_credential([&bare]));
    shop.answer(get_paid("/", &bare)).await;

    // What the journal lists.
    let now = "2100-01-01T00:00:00Z".parse().unwrap();
    ear.debug("JournalEntry", &shop.store.unfinished(Page { now, after: None, limit: 100, due: false }).await);
}

/// What a mistake in the configuration says.
fn mistakes(ear: &Ear) {
    let short = &SECRET_KEY[..20];
    for mistake in [
        KeyRing::new(short).err(),
        KeyRing::from_list(&format!("{SECRET_KEY},{short}")).err(),
        KeyRing::from_env("TOWER_MPP_NO_SUCH_VARIABLE").err(),
    ] {
        let mistake: InvalidKey = mistake.unwrap();
        ear.debug("InvalidKey", &mistake);
        ear.hear("InvalidKey", mistake.to_string());
    }
    let error = Merchant::builder("a|b", KeyRing::new(SECRET_KEY).unwrap())
        .require_https(HttpsPolicy::direct())
        .build()
        .unwrap_err();
    ear.debug("ConfigError", &error);
    ear.hear("ConfigError", error.to_string());
}

/// What the types of the wire say of themselves.
fn wire(ear: &Ear) {
    let credentials = ear.0.lock().unwrap().credentials.clone();
    for credential in credentials {
        let token = credential.strip_prefix("Payment ").unwrap();
        let bytes = CredentialBytes::decode(token).unwrap();
        ear.debug("CredentialBytes", &bytes);
        ear.debug("Credential", &bytes.parse().unwrap());
    }
    let broken = base64_of::URL_SAFE_NO_PAD.encode(format!(r#"{{"payload": "{SECRET_PROOF}"}}"#));
    ear.debug("CredentialError", &CredentialBytes::decode(&broken).unwrap().parse().err());
}

#[tokio::test(start_paused = true)]
async fn nothing_secret_is_ever_said() {
    let ear = Ear::default();
    tracing_subscriber::registry().with(Tracing(ear.clone())).init();
    // A panic of the rail is part of it.
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>().is_none_or(|text| *text != "a bug in a rail") {
            others(panic);
        }
    }));
    for yields in [0, YIELDS] {
        for replay in [ReplayAnswer::Forbidden, ReplayAnswer::Challenge] {
            everything(&ear, yields, replay).await;
        }
    }
    mistakes(&ear);
    wire(&ear);

    let heard = ear.0.lock().unwrap();
    assert!(heard.strays.is_empty(), "{:?}", heard.strays);
    let mut secrets: Vec<String> = vec![
        SECRET_PROOF.into(),
        SECRET_BEARER.into(),
        SECRET_KEY.into(),
        SECRET_KEY[..20].into(),
        base64_of::STANDARD_NO_PAD.encode(SECRET_KEY),
        base64_of::URL_SAFE_NO_PAD.encode(SECRET_PROOF),
        SECRET_KEY.bytes().map(|byte| format!("{byte:02x}")).collect(),
        format!("{:?}", SECRET_KEY.as_bytes()).trim_matches(['[', ']']).into(),
        format!("{:?}", SECRET_PROOF.as_bytes()).trim_matches(['[', ']']).into(),
    ];
    for credential in &heard.credentials {
        let token = credential.strip_prefix("Payment ").unwrap();
        secrets.push(token[token.len() - 60..].into());
        // The payload by itself, and the signature in it.
        let json: Value = serde_json::from_slice(&base64_of::URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
        secrets.push(json["payload"].to_string());
        secrets.extend(json["payload"]["signature"].as_str().map(str::to_owned));
    }
    for (place, text) in &heard.said {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{place} says {secret}: {text}");
        }
        if place.starts_with("answer") || place.starts_with("Refusal") {
            for secret in FOR_THE_MERCHANT {
                assert!(!text.contains(secret), "{place} says {secret}: {text}");
            }
        }
    }

    // That there was something to hear: every kind of answer, and every event.
    let said =
        |place: &str, words: &str| heard.said.iter().any(|(at, text)| at.starts_with(place) && text.contains(words));
    for status in ["200", "400", "402", "403", "409", "413", "500", "503"] {
        assert!(said(&format!("answer {status}"), ""), "{status}");
    }
    for words in [
        "payment required",
        "refused",
        "settled",
        "delivered",
        "paid but not delivered",
        "settlement outcome unknown",
        "the payment method cannot work",
        "the payment journal failed",
        "no payment method can take this price",
        "test mode is on",
    ] {
        assert!(said("event", words), "{words}");
    }
    assert!(said("span tower_mpp", "challenge_id="));
    // The merchant is told what went wrong.
    for words in FOR_THE_MERCHANT {
        assert!(said("event", words), "{words}");
    }
}
