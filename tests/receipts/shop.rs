//! A shop that signs receipts, over a journal and a ledger in memory that can fail.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::{Layer as _, ServiceExt as _};
use tower_mpp::{
    Merchant, MerchantBuilder, Payment, PaymentLayer, Price, RequestBody, ResponseBody,
    protocol::{ChallengeId, ContentDigest, ReceiptId, Visibility},
    receipt::{
        Ed25519Signer, Jwk, ReceiptSigner, Receipts, ReceiptsBuilder, SignError, SigningAlgorithm, canonicalize,
        verify_receipt,
    },
    store::{
        MemoryNonceStore, MemoryReceiptStore, OutcomeRow, PublicPage, ReceiptRow, ReceiptStore, StoreError, Totals,
    },
};

use crate::support::*;

pub(crate) const BASE: &str = "https://receipts.example";
pub(crate) const KID: &str = "shop-2026";

/// A ledger that can be switched off, and remembers in which order it was written.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<Books>);

struct Books {
    store: MemoryReceiptStore,
    rows: Mutex<Vec<ReceiptRow>>,
    down: AtomicBool,
    hangs: AtomicBool,
    slow: AtomicBool,
}

impl Ledger {
    fn new() -> Self {
        let store = MemoryReceiptStore::new(1000);
        Self(Arc::new(Books {
            store,
            rows: Mutex::default(),
            down: false.into(),
            hangs: false.into(),
            slow: false.into(),
        }))
    }

    pub(crate) fn down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn hangs(&self, hangs: bool) {
        self.0.hangs.store(hangs, Ordering::SeqCst);
    }

    /// Gives way before every step.
    pub(crate) fn slow(&self, slow: bool) {
        self.0.slow.store(slow, Ordering::SeqCst);
    }

    async fn open(&self) -> Result<&MemoryReceiptStore, StoreError> {
        if self.0.slow.load(Ordering::SeqCst) {
            give_way(2).await;
        }
        if self.0.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.0.down.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("the ledger is switched off"));
        }
        Ok(&self.0.store)
    }

    pub(crate) fn rows(&self) -> Vec<ReceiptRow> {
        self.0.rows.lock().unwrap().clone()
    }

    /// The final receipts, each of which verifies, in the order in which they were added.
    pub(crate) fn finals(&self) -> Vec<Value> {
        self.rows().iter().filter(|row| !row.provisional).map(checked).collect()
    }

    /// The only receipt.
    #[track_caller]
    pub(crate) fn only(&self) -> Value {
        let rows = self.rows();
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert!(!rows[0].provisional);
        checked(&rows[0])
    }
}

/// The keys of the shop.
pub(crate) fn jwks() -> tower_mpp::receipt::Jwks {
    tower_mpp::receipt::Jwks { keys: vec![Key::default().0.0.public_key().unwrap()] }
}

/// Everything that a row serves verifies, and the row says what the receipt says.
fn checked(row: &ReceiptRow) -> Value {
    let verified = verify_receipt(&row.full, &jwks()).unwrap();
    assert_eq!(verified.key_id, KID);
    assert_eq!(canonicalize(&row.full).unwrap(), *row.full);
    if let Some(public) = &row.public {
        verify_receipt(public, &jwks()).unwrap();
    }
    let json: Value = serde_json::from_str(&row.full).unwrap();
    assert_eq!(json["receipt_id"], row.id.to_string());
    assert_eq!(json["parent_receipt_id"].as_str(), row.parent.map(|id| id.to_string()).as_deref());
    assert_eq!(json["visibility"], row.visibility.as_str());
    assert_eq!(json["payment"]["challenge_id"].as_str(), row.payment.map(|id| id.to_string()).as_deref());
    json
}

#[async_trait]
impl ReceiptStore for Ledger {
    async fn append(&self, row: ReceiptRow) -> Result<(), StoreError> {
        self.open().await?.append(row.clone()).await?;
        let mut rows = self.0.rows.lock().unwrap();
        if !rows.contains(&row) {
            rows.push(row);
        }
        Ok(())
    }

    async fn get(&self, id: ReceiptId) -> Result<Option<ReceiptRow>, StoreError> {
        self.open().await?.get(id).await
    }

    async fn of_payment(&self, payment: ChallengeId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.open().await?.of_payment(payment, limit).await
    }

    async fn children(&self, parent: ReceiptId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.open().await?.children(parent, limit).await
    }

    async fn public_page(&self, before: Option<u64>, limit: usize) -> Result<PublicPage, StoreError> {
        self.open().await?.public_page(before, limit).await
    }

    async fn totals(&self, names: usize, since: u32) -> Result<Totals, StoreError> {
        self.open().await?.totals(names, since).await
    }

    async fn append_outcome(&self, outcome: OutcomeRow) -> Result<(), StoreError> {
        self.open().await?.append_outcome(outcome).await
    }

    async fn outcomes(&self, receipt: ReceiptId, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        self.open().await?.outcomes(receipt, limit).await
    }
}

/// What a signer does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Signing {
    Works,
    Fails,
    Hangs,
    Panics,
    /// Works after so many milliseconds.
    Takes(u64),
}

/// A signer that does as it is told.
#[derive(Clone)]
pub(crate) struct Key(Arc<(Ed25519Signer, Mutex<Signing>)>);

impl Default for Key {
    fn default() -> Self {
        Self(Arc::new((Ed25519Signer::from_seed(KID, &[7; 32]).unwrap(), Mutex::new(Signing::Works))))
    }
}

impl Key {
    pub(crate) fn is(&self, signing: Signing) {
        *self.0.1.lock().unwrap() = signing;
    }
}

#[async_trait]
impl ReceiptSigner for Key {
    fn key_id(&self) -> &str {
        KID
    }

    fn algorithm(&self) -> SigningAlgorithm {
        SigningAlgorithm::Ed25519
    }

    fn public_key(&self) -> Option<Jwk> {
        self.0.0.public_key()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signing = *self.0.1.lock().unwrap();
        match signing {
            Signing::Works => {}
            Signing::Fails => return Err(SignError("the key is away".into())),
            Signing::Hangs => std::future::pending().await,
            Signing::Panics => panic!("a bug in a signer"),
            Signing::Takes(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
        }
        self.0.0.sign(message).await
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Frames>, io::Error>> + Send>>;
type Doing = Arc<dyn Fn(Request<RequestBody<Body>>) -> Answering + Send + Sync>;
pub(crate) type Service = Payment<Handler<Body, Frames, io::Error>>;
pub(crate) type Paid = Response<ResponseBody<Frames>>;

pub(crate) struct Shop {
    pub(crate) rail: TestRail,
    pub(crate) journal: FaultyStore<Arc<MemoryNonceStore>>,
    pub(crate) ledger: Ledger,
    pub(crate) key: Key,
    pub(crate) receipts: Receipts,
    pub(crate) merchant: Merchant,
    pub(crate) service: Service,
    doing: Arc<Mutex<Doing>>,
}

/// What a shop is made with.
pub(crate) struct Plan {
    pub(crate) rail: TestRail,
    pub(crate) receipts: Box<dyn FnOnce(ReceiptsBuilder) -> ReceiptsBuilder>,
    pub(crate) merchant: Box<dyn FnOnce(MerchantBuilder) -> MerchantBuilder>,
    pub(crate) layer: Box<dyn FnOnce(PaymentLayer) -> PaymentLayer>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rail: TestRail::new("demo"),
            receipts: Box::new(|receipts| receipts),
            merchant: Box::new(|merchant| merchant),
            layer: Box::new(|layer| layer),
        }
    }
}

impl Shop {
    pub(crate) fn open() -> Self {
        Plan::default().open()
    }

    /// What the service answers from now on.
    pub(crate) fn answers(&self, answer: impl Fn() -> Response<Frames> + Send + Sync + 'static) {
        self.does(move |_| {
            let answer = answer();
            async { Ok(answer) }
        });
    }

    pub(crate) fn does<F>(&self, doing: impl Fn(Request<RequestBody<Body>>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<Response<Frames>, io::Error>> + Send + 'static,
    {
        *self.doing.lock().unwrap() = Arc::new(move |request| Box::pin(doing(request)));
    }

    /// A credential for this request.
    pub(crate) async fn credential(&self, request: Request<Body>) -> HeaderValue {
        self.credential_with(request, &json!({"token": "ok"})).await
    }

    pub(crate) async fn credential_with(&self, request: Request<Body>, payload: &Value) -> HeaderValue {
        pay_with(&ask(&self.service, request).await, None, payload)
    }

    /// Sends a request. Only the head is read.
    pub(crate) async fn send(&self, request: Request<Body>) -> Paid {
        self.service.clone().oneshot(request).await.unwrap()
    }

    /// Pays for `GET /a`. Only the head is read.
    pub(crate) async fn pay(&self) -> Paid {
        let credential = self.credential(plain()).await;
        self.send(with(plain(), &credential)).await
    }

    /// The same, and all of the answer.
    pub(crate) async fn buy(&self) -> All {
        all(self.pay().await).await
    }

    /// Everything that is under way has ended.
    pub(crate) async fn settle_down(&self) {
        self.merchant.drain().await;
        assert_eq!(self.merchant.in_flight(), 0);
    }
}

impl Plan {
    pub(crate) fn open(self) -> Shop {
        let (ledger, key) = (Ledger::new(), Key::default());
        let receipts = Receipts::builder(BASE, key.clone()).store(ledger.clone()).clock(RuntimeClock::start());
        let receipts = (self.receipts)(receipts).build().unwrap();
        let journal = FaultyStore::new(Arc::new(MemoryNonceStore::single_process(1000)));
        let builder = builder(&self.rail).nonce_store(journal.clone()).clock(RuntimeClock::start());
        let merchant = (self.merchant)(builder.receipts(receipts.clone())).build().unwrap();
        let doing = Arc::new(Mutex::new(Arc::new(|_| -> Answering { Box::pin(async { Ok(whole()) }) }) as Doing));
        let told = Arc::clone(&doing);
        let handler = Handler::new(tower::service_fn(move |request| {
            let doing = Arc::clone(&told.lock().unwrap());
            doing(request)
        }));
        let layer = (self.layer)(merchant.charge(Price::usd("1.00").unwrap()).unwrap());
        let service = layer.layer(handler);
        Shop { rail: self.rail, journal, ledger, key, receipts, merchant, service, doing }
    }

    pub(crate) fn visible(mut self, visibility: Visibility) -> Self {
        self.receipts = Box::new(move |receipts| receipts.visibility(visibility));
        self
    }
}

/// An answer of known length.
pub(crate) fn whole() -> Response<Frames> {
    Response::new(Frames::of(["one ", "two"]).declared())
}

/// A stream of events.
pub(crate) fn events() -> Response<Frames> {
    let mut response = Response::new(Frames::of(["data: 1\n\n", "data: [DONE]\n\n"]).chunked());
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream; charset=utf-8"));
    response
}

/// A stream of something else.
pub(crate) fn stream() -> Response<Frames> {
    Response::new(Frames::of(["one ", "two"]).chunked())
}

pub(crate) fn plain() -> Request<Body> {
    Request::get("/a").body(Body::empty()).unwrap()
}

pub(crate) fn post(body: impl Into<Body>) -> Request<Body> {
    Request::post("/a").body(body.into()).unwrap()
}

pub(crate) fn with(mut request: Request<Body>, credential: &HeaderValue) -> Request<Body> {
    request.headers_mut().insert(AUTHORIZATION, credential.clone());
    request
}

/// An answer to its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct All {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: Option<HeaderMap>,
}

pub(crate) async fn all(response: Paid) -> All {
    let (head, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    let body = String::from_utf8(collected.to_bytes().to_vec()).unwrap();
    All { status: head.status.as_u16(), headers: head.headers, body, trailers }
}

impl All {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub(crate) fn trailer(&self, name: &str) -> Option<&str> {
        header(self.trailers.as_ref()?, name)
    }
}

/// The only value of a header.
#[track_caller]
pub(crate) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    assert!(values.next().is_none(), "more than one {name}: {headers:?}");
    Some(value.to_str().unwrap())
}

/// The receipt of the core draft in a header, as JSON.
pub(crate) fn mpp(value: &str) -> Value {
    serde_json::to_value(tower_mpp::protocol::Receipt::parse(value).unwrap()).unwrap()
}

/// What `Payment-Receipt-Digest` must say about a receipt, by hand: the digest of the canonical form without its
/// signature.
pub(crate) fn digest(receipt: &Value) -> String {
    let mut receipt = receipt.clone();
    receipt.as_object_mut().unwrap().remove("signature").unwrap();
    ContentDigest::of(canonicalize(&receipt.to_string()).unwrap().as_bytes()).to_string()
}

/// `sha256-` and the hexadecimal hash.
pub(crate) fn hash(bytes: &[u8]) -> Value {
    let hex: String = ContentDigest::of(bytes).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256-{hex}").into()
}

/// The three headers of a receipt, checked against it.
#[track_caller]
pub(crate) fn assert_named(headers: &HeaderMap, receipt: &Value) {
    let id = receipt["receipt_id"].as_str().unwrap();
    assert_eq!(header(headers, "payment-receipt-digest"), Some(digest(receipt).as_str()));
    assert_eq!(header(headers, "payment-receipt-kid"), Some(KID));
    let draft = mpp(header(headers, "payment-receipt").unwrap());
    assert_eq!(draft["receiptUrl"], format!("{BASE}/r/{id}"));
    assert_eq!(draft["receiptDigest"], digest(receipt));
    assert_eq!(draft["receiptKid"], KID);
    assert_eq!(draft["challengeId"], receipt["payment"]["challenge_id"]);
}
