//! Receipts as a ledger holds them, with every member, signed by a key of the tests.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "no test uses all of it")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tower_mpp::{
    protocol::{ChallengeId, ReceiptId, Timestamp, Visibility},
    receipt::{Ed25519Signer, Receipts, canonicalize},
    store::{
        Listed, MemoryReceiptStore, OutcomeRow, PublicPage, ReceiptRow, ReceiptStore, StoreError, StoreErrorKind,
        Totals,
    },
};

pub const SEED: [u8; 32] = [7; 32];
pub const KEY_ID: &str = "test-receipts-2026";
pub const BASE: &str = "https://receipts.example.com";

/// What a stranger sees of a receipt that is public in part.
const KEPT: [&str; 35] = [
    "receipt_id",
    "receipt_type",
    "provider",
    "model_id",
    "status",
    "http_status",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_estimated_usd",
    "cost_estimate_confidence",
    "module_chain",
    "cache_status",
    "policy_decision",
    "payload_capture",
    "environment",
    "client_request_hash",
    "provider_request_hash",
    "provider_response_hash",
    "client_response_hash",
    "visibility",
    "created_at",
    "request_started_at",
    "request_ended_at",
    "parent_receipt_id",
    "payment",
    "agent_handle",
    "signing_algorithm",
    "signing_key_id",
    "settlement_protocol",
    "redaction_policy",
    "cost_currency",
    "cost_source",
    "tokens_source",
];

pub fn id(number: u8) -> ReceiptId {
    ReceiptId::from_bytes([number, 0x5a, 0x4e, 0x2a, 0x9b, 0x6d, 0x4f, 0x3e, 0x89, 0xa3, 0xaa, 0x3e, 0x8b, 1, 2, 3])
}

/// Every member of a receipt.
pub fn members(id: ReceiptId) -> Map<String, Value> {
    let hash = |digit: &str| format!("sha256-{}", digit.repeat(64));
    let value = json!({
        "receipt_id": id, "request_id": "req_secret_1", "parent_receipt_id": null, "client_request_id": "client_secret_1",
        "idempotency_key": "idem_secret_1", "agent_id": "agent_secret_1", "tenant_id": "tenant_secret_1",
        "project_id": "project_secret_1", "customer_id": "customer_secret_1", "environment": "production",
        "api_key_id": "api_secret_1", "user_id": "user_secret_1", "provider": "aws_bedrock",
        "upstream_provider": "amazon", "model_id": "us.amazon.nova-micro-v1:0", "region": "us-east-1",
        "aws_account_id": "account_secret_1", "iam_principal": "iam_secret_1", "receipt_type": "inference",
        "status": "succeeded", "http_status": 200, "provider_status": 200, "error_class": null, "error_code": null,
        "error_message_hash": null, "input_tokens": 1812, "output_tokens": 405, "cache_read_tokens": 0,
        "cache_write_tokens": 0, "tokens_source": "provider", "cost_source": "pricing_table",
        "cost_estimated_usd": 1.2e-7, "cost_estimate_confidence": "complete", "cost_final_usd": null,
        "cost_currency": "usd", "pricing_table_id": "pt_1", "pricing_version": "2026-05-01",
        "pricing_effective_at": "2026-05-01T00:00:00.000Z", "routing_decision": "cheapest",
        "policy_decision": "allowed", "cache_status": "miss", "module_chain": ["mcp-optimizer", "cost-guard"],
        "settlement_protocol": "mpp", "client_request_hash": hash("a"), "provider_request_hash": hash("b"),
        "provider_response_hash": hash("c"), "client_response_hash": hash("d"), "payload_capture": "hash_only",
        "encrypted_request_blob": null, "encrypted_response_blob": null, "encryption_alg": null,
        "encryption_pubkey_fingerprint": null, "visibility": "private", "public_receipt_hash": null,
        "redaction_policy": null, "request_started_at": "2026-06-05T21:10:50.000Z",
        "request_ended_at": "2026-06-05T21:10:51.167Z", "created_at": "2026-06-05T21:10:51.168Z",
        "payment": {
            "amount": "50", "challenge_id": "challenge_secret_1", "currency": "usd", "intent": "charge",
            "method": "stripe", "reference": "reference_secret_1"
        },
        "signing_algorithm": "ed25519", "signing_key_id": KEY_ID
    });
    value.as_object().unwrap().clone()
}

/// What of it a stranger may see.
pub fn projection(full: &Map<String, Value>) -> Map<String, Value> {
    let mut public: Map<String, Value> =
        full.iter().filter(|(name, _)| KEPT.contains(&name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect();
    if let Some(payment) = public.get_mut("payment").and_then(Value::as_object_mut) {
        payment.remove("challenge_id");
        payment.remove("reference");
    }
    public.insert("verified".into(), true.into());
    public
}

/// As canonical JSON, with a signature by the key of the tests.
pub fn sign(members: &Map<String, Value>) -> String {
    let message = canonicalize(&serde_json::to_string(members).unwrap()).unwrap();
    let signature = SigningKey::from_bytes(&SEED).sign(message.as_bytes()).to_bytes();
    with_signature(members, &signature)
}

pub fn with_signature(members: &Map<String, Value>, signature: &[u8]) -> String {
    let mut signed = members.clone();
    signed.insert("signature".into(), URL_SAFE_NO_PAD.encode(signature).into());
    canonicalize(&serde_json::to_string(&signed).unwrap()).unwrap()
}

pub fn row(mut full: Map<String, Value>, visibility: Visibility) -> ReceiptRow {
    full.insert("visibility".into(), visibility.as_str().into());
    let id: ReceiptId = full["receipt_id"].as_str().unwrap().parse().unwrap();
    let public = match visibility {
        Visibility::Private => None,
        Visibility::PublicFull => Some(sign(&full)),
        _ => Some(sign(&projection(&full))),
    };
    let listed = !matches!(visibility, Visibility::Private | Visibility::PublicDemo);
    ReceiptRow {
        id,
        provisional: false,
        parent: full["parent_receipt_id"].as_str().map(|id| id.parse().unwrap()),
        payment: None,
        visibility,
        created_at: "2026-06-05T21:10:51.168Z".parse().unwrap(),
        full: sign(&full).into(),
        public: public.map(Into::into),
        listed: listed.then(|| Listed { name: "nova".into(), succeeded: true, paid: true, tokens: 17 }),
    }
}

pub fn receipts(store: impl ReceiptStore) -> Receipts {
    receipts_at(BASE, store)
}

pub fn receipts_at(base: &str, store: impl ReceiptStore) -> Receipts {
    Receipts::builder(base, Ed25519Signer::from_seed(KEY_ID, &SEED).unwrap()).store(store).build().unwrap()
}

/// A ledger in memory that fails or hangs when it is told to, and has the sums that it is given.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Inner>);

struct Inner {
    rows: MemoryReceiptStore,
    broken: AtomicBool,
    hangs: AtomicBool,
    totals: Mutex<Option<Totals>>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            rows: MemoryReceiptStore::new(1000),
            broken: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            totals: Mutex::new(None),
        }
    }
}

impl Shelf {
    pub async fn with(rows: impl IntoIterator<Item = ReceiptRow>) -> Self {
        let shelf = Self::default();
        for row in rows {
            shelf.append(row).await.unwrap();
        }
        shelf
    }

    pub fn break_down(&self) {
        self.0.broken.store(true, Ordering::SeqCst);
    }

    pub fn hang(&self) {
        self.0.hangs.store(true, Ordering::SeqCst);
    }

    pub fn set_totals(&self, totals: Totals) {
        *self.0.totals.lock() = Some(totals);
    }

    async fn works(&self) -> Result<&MemoryReceiptStore, StoreError> {
        if self.0.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        match self.0.broken.load(Ordering::SeqCst) {
            true => Err(StoreErrorKind::Unavailable.into()),
            false => Ok(&self.0.rows),
        }
    }
}

#[async_trait]
impl ReceiptStore for Shelf {
    async fn append(&self, row: ReceiptRow) -> Result<(), StoreError> {
        self.works().await?.append(row).await
    }

    async fn get(&self, id: ReceiptId) -> Result<Option<ReceiptRow>, StoreError> {
        self.works().await?.get(id).await
    }

    async fn of_payment(&self, payment: ChallengeId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.works().await?.of_payment(payment, limit).await
    }

    async fn children(&self, parent: ReceiptId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.works().await?.children(parent, limit).await
    }

    async fn public_page(&self, before: Option<u64>, limit: usize) -> Result<PublicPage, StoreError> {
        self.works().await?.public_page(before, limit).await
    }

    async fn totals(&self, names: usize, since: u32) -> Result<Totals, StoreError> {
        let rows = self.works().await?;
        let given = self.0.totals.lock().clone();
        match given {
            Some(totals) => Ok(totals),
            None => rows.totals(names, since).await,
        }
    }

    async fn append_outcome(&self, outcome: OutcomeRow) -> Result<(), StoreError> {
        self.works().await?.append_outcome(outcome).await
    }

    async fn outcomes(&self, receipt: ReceiptId, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        self.works().await?.outcomes(receipt, limit).await
    }
}

/// The instant at which the tests stand.
pub fn today() -> Timestamp {
    "2026-11-21T12:00:00.250Z".parse().unwrap()
}
