//! What a signed receipt costs, beside what no signed receipt can do without in the same run: writing the document
//! as plain JSON, hashing it, signing it.
//!
//! `cargo bench --bench receipt`. What counts is the ratio of the two figures of one group. A private receipt is
//! signed once; of another one everybody sees a part, which has a signature of its own, so that it costs two.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};
use tower_mpp::{
    protocol::{Amount, Currency, Intent, MethodId, Visibility},
    receipt::{
        CostConfidence, Ed25519Signer, PaidWith, Provider, ReceiptBody, Receipts, SignedReceipt, UsdCost, canonicalize,
        payload_hash, verify_receipt,
    },
};

const SEED: [u8; 32] = [7; 32];

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// As a merchant fills it in: a usual call, with most of what is known of one.
fn body(visibility: Visibility) -> ReceiptBody {
    let hash = Some(payload_hash(b"payload"));
    ReceiptBody {
        receipt_id: Some("8c5a4e2a-9b6d-4f3e-89a3-aa3e8b1f7fc3".parse().unwrap()),
        request_id: text("req_01JXT3Q4W5E6R7T8Y9U0"),
        client_request_id: text("client-0001"),
        idempotency_key: text("idem-1"),
        agent_id: text("agent_1"),
        tenant_id: text("tenant_1"),
        project_id: text("project_1"),
        environment: text("production"),
        provider: Some(Provider::AwsBedrock),
        model_id: text("us.amazon.nova-micro-v1:0"),
        region: text("us-east-1"),
        status: text("succeeded"),
        http_status: Some(200),
        provider_status: Some(200),
        input_tokens: Some(1200),
        output_tokens: Some(345),
        cache_read_tokens: Some(0),
        cache_write_tokens: Some(0),
        tokens_source: text("provider"),
        cost_source: text("pricing_table"),
        cost_estimated_usd: Some(UsdCost::from_pico(1_200_000)),
        cost_estimate_confidence: Some(CostConfidence::Complete),
        cost_currency: text("usd"),
        pricing_table_id: text("pt_1"),
        pricing_version: text("2026-05-01"),
        pricing_effective_at: Some("2026-05-01T00:00:00Z".parse().unwrap()),
        policy_decision: text("allowed"),
        cache_status: text("miss"),
        module_chain: vec!["mcp-optimizer".to_owned(), "cost-guard".to_owned()],
        settlement_protocol: text("mpp"),
        client_request_hash: hash.clone(),
        provider_request_hash: hash.clone(),
        provider_response_hash: hash.clone(),
        client_response_hash: hash,
        request_started_at: Some("2026-06-05T21:10:50Z".parse().unwrap()),
        request_ended_at: Some("2026-06-05T21:10:50.167Z".parse().unwrap()),
        created_at: Some("2026-06-05T21:10:50.168Z".parse().unwrap()),
        visibility,
        payment: Some(PaidWith {
            method: MethodId::STRIPE,
            intent: Intent::CHARGE,
            amount: Amount::new(50),
            currency: Currency::new("usd").unwrap(),
            reference: text("pi_3abc123XYZ"),
            challenge_id: Some("VfgHeL5VZKr_GpV-kX2g3yQ2v4uCnfVNntUmPX-an7w".parse().unwrap()),
        }),
        ..ReceiptBody::default()
    }
}

/// The key is at hand: it signs at once.
fn sign(receipts: &Receipts, body: ReceiptBody) -> SignedReceipt {
    let signing = pin!(receipts.sign(body, false));
    match signing.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(signed) => signed.unwrap(),
        Poll::Pending => unreachable!(),
    }
}

fn receipt(c: &mut Criterion) {
    let key = SigningKey::from_bytes(&SEED);
    let signer = Ed25519Signer::from_seed("receipts-2026-q2", &SEED).unwrap();
    let receipts = Receipts::builder("https://receipts.example.com", signer).build().unwrap();
    let jwks = receipts.jwks();

    for (name, visibility, signatures) in
        [("issue, private", Visibility::Private, 1), ("issue, public", Visibility::PublicMinimal, 2)]
    {
        let mut group = c.benchmark_group(name);
        group.bench_function("primitives", |b| {
            b.iter_batched(
                || body(visibility),
                |body| {
                    for _ in 0..signatures {
                        let json = serde_json::to_vec(&body).unwrap();
                        black_box((Sha256::digest(&json), key.sign(&json)));
                    }
                },
                BatchSize::SmallInput,
            )
        });
        group.bench_function("receipts", |b| {
            b.iter_batched(|| body(visibility), |body| sign(&receipts, body), BatchSize::SmallInput)
        });
        group.finish();
    }

    let full = sign(&receipts, body(Visibility::Private));
    let json = serde_json::to_vec(full.body()).unwrap();
    let mut group = c.benchmark_group("parts of issuing");
    group.bench_function("plain JSON", |b| b.iter(|| serde_json::to_vec(full.body()).unwrap()));
    group.bench_function("SHA-256", |b| b.iter(|| Sha256::digest(&json)));
    group.bench_function("Ed25519", |b| b.iter(|| key.sign(&json)));
    group.bench_function("generic canonical form", |b| b.iter(|| canonicalize(full.json()).unwrap()));
    group.finish();

    let signature = key.sign(&json);
    let public_key = key.verifying_key();
    let mut group = c.benchmark_group("verify");
    group.bench_function("primitives", |b| {
        b.iter(|| {
            let value: serde_json::Value = serde_json::from_str(full.json()).unwrap();
            black_box((Sha256::digest(&json), serde_json::to_vec(&value).unwrap()));
            public_key.verify_strict(&json, &signature).unwrap();
        })
    });
    group.bench_function("receipts", |b| b.iter(|| verify_receipt(full.json(), &jwks).unwrap()));
    group.finish();
}

criterion_group!(benches, receipt);
criterion_main!(benches);
