//! What a merchant decides, and which mistakes are found.

use std::time::Duration;

use tower_mpp::{
    protocol::{Timestamp, Visibility},
    receipt::{Ed25519Signer, HmacSigner, Jwk, PayloadCapture, ReceiptBody, ReceiptType, Receipts, ReceiptsBuilder},
};

use super::material::{NOW, builder, full_body, receipts, run, signer};

fn wrong(builder: ReceiptsBuilder) -> String {
    builder.build().unwrap_err().to_string()
}

fn old_key() -> Jwk {
    let key: [u8; 32] = ed25519_dalek::SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
    Jwk::ed25519("key-0", &key)
}

#[test]
fn a_url_that_nobody_could_fetch_from_is_refused() {
    for bad in [
        "",
        "receipts.example.com",
        "https://receipts.example.com/",
        "ftp://x",
        "https://",
        "https://a/b?c",
        "https://a#b",
        "https://user:secret@a",
        "https://a b",
        "/ledger",
    ] {
        let text = wrong(Receipts::builder(bad, signer()));
        assert!(text.starts_with("receipts.base_url: give the public URL"), "{bad}: {text}");
        assert!(!text.contains("secret"));
    }
    let receipts = Receipts::builder("http://127.0.0.1:8402/ledger", signer()).build().unwrap();
    let id = "8c5a4e2a-9b6d-4f3e-89a3-aa3e8b1f7fc3".parse().unwrap();
    assert_eq!(receipts.url(id), format!("http://127.0.0.1:8402/ledger/r/{id}"));
    assert_eq!(receipts.keys_path(), "/.well-known/receipt-keys.json");
}

#[test]
fn names_are_checked() {
    for bad in ["a/b", "a b", "a.b", "é", &"a".repeat(65)] {
        assert!(wrong(builder().keys_name(bad)).starts_with("receipts.keys_name: "), "{bad}");
    }
    let named = builder().keys_name("prxy").build().unwrap();
    assert_eq!(named.keys_path(), "/.well-known/prxy-receipt-keys.json");
    for bad in ["", " a", "a\n", &"a".repeat(257)] {
        assert!(wrong(builder().environment(bad)).starts_with("receipts.environment: "), "{bad}");
        assert!(wrong(builder().agent_handle(bad)).starts_with("receipts.agent_handle: "), "{bad}");
    }
    assert!(wrong(builder().sign_timeout(Duration::ZERO)).starts_with("receipts.sign_timeout: "));
}

#[test]
fn payloads_are_encrypted_for_somebody() {
    let text = wrong(builder().capture(PayloadCapture::EncryptedAtRest));
    assert!(text.starts_with("receipts.capture: ") && text.contains("encrypt_for"), "{text}");
}

#[test]
fn two_keys_do_not_share_a_name() {
    let twice = Jwk::ed25519("key-1", &[1; 32]);
    assert!(wrong(builder().previous_key(Jwk { x: old_key().x, ..twice })).contains("same kid"));
    assert!(wrong(builder().previous_key(old_key()).previous_key(old_key())).contains("same kid"));
    let hmac = HmacSigner::new("key-0", &[1; 32]).unwrap();
    let text = wrong(Receipts::builder("https://r.example", hmac).previous_key(old_key()));
    assert!(text.contains("same kid"), "{text}");
}

#[test]
fn a_previous_key_is_one_that_could_have_signed() {
    let key = old_key();
    for bad in [
        Jwk { kty: "EC".into(), ..key.clone() },
        Jwk { crv: "X25519".into(), ..key.clone() },
        Jwk { alg: "HS256".into(), ..key.clone() },
        Jwk { use_: "enc".into(), ..key.clone() },
        Jwk { x: "AAAA".into(), ..key.clone() },
        Jwk { x: format!("{}=", key.x), ..key.clone() },
        // A key of small order: everybody can sign with it.
        Jwk::ed25519("key-0", &[0; 32]),
        Jwk { kid: "a b".into(), ..key.clone() },
        Jwk { nbf: Some(2), exp: Some(2), ..key.clone() },
    ] {
        assert!(wrong(builder().previous_key(bad.clone())).starts_with("receipts.previous_key: "), "{bad:?}");
    }
    let receipts = builder().previous_key(key.clone()).build().unwrap();
    assert_eq!(receipts.jwks().keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>(), ["key-1", "key-0"]);
}

#[test]
fn the_validity_of_the_key_is_listed_and_kept() {
    let now: Timestamp = NOW.parse().unwrap();
    let hour = Duration::from_secs(3600);
    let early = Timestamp::from_unix(now.unix() - 3600).unwrap();
    let receipts = builder().key_valid_from(early).key_valid_until(now.saturating_add(hour)).build().unwrap();
    let key = receipts.jwks().keys[0].clone();
    assert_eq!((key.nbf, key.exp), (Some(early.unix()), Some(now.unix() + 3600)));
    run(receipts.issue(ReceiptBody::default())).unwrap();
    for at in [Timestamp::from_unix(early.unix() - 1).unwrap(), now.saturating_add(hour)] {
        let late = ReceiptBody { created_at: Some(at), ..full_body() };
        let error = run(receipts.sign(late, false)).unwrap_err();
        assert!(error.to_string().contains("validity"), "{error}");
    }
    assert!(wrong(builder().key_valid_from(now).key_valid_until(now)).starts_with("receipts.key_valid_until: "));
    let hmac = HmacSigner::new("h", &[1; 32]).unwrap();
    let text = wrong(Receipts::builder("https://r.example", hmac).key_valid_until(now));
    assert!(text.starts_with("receipts.key_valid_from: "), "{text}");
}

#[test]
fn what_is_missing_is_filled_in_and_what_is_said_stays() {
    let receipts = builder()
        .environment("production")
        .agent_handle("@agent")
        .capture(PayloadCapture::None)
        .visibility(Visibility::PublicMinimal)
        .build()
        .unwrap();
    assert_eq!(receipts.visibility(), Visibility::PublicMinimal);
    let empty = ReceiptBody { visibility: receipts.visibility(), ..ReceiptBody::default() };
    let body = run(receipts.sign(empty, false)).unwrap().body().clone();
    assert!(body.receipt_id.is_some());
    assert_eq!(body.created_at, Some(NOW.parse().unwrap()));
    assert_eq!(body.environment.as_deref(), Some("production"));
    assert_eq!(body.agent_handle.as_deref(), Some("@agent"));
    assert_eq!(body.payload_capture, Some(PayloadCapture::None));
    assert_eq!(body.receipt_type, Some(ReceiptType::Inference));
    assert_eq!(body.status, None);

    let body = run(receipts.sign(full_body(), false)).unwrap().body().clone();
    assert_eq!(body.environment.as_deref(), Some("some environment"));
    assert_eq!(body.agent_handle.as_deref(), Some("some agent_handle"));
    assert_eq!(body.payload_capture, Some(PayloadCapture::HashOnly));
    assert_eq!(body.visibility, Visibility::Private);
}

#[tokio::test]
async fn an_issued_receipt_is_in_the_ledger() {
    let receipts = receipts();
    let signed = receipts.issue(full_body()).await.unwrap();
    let row = receipts.store().get(signed.id()).await.unwrap().unwrap();
    assert_eq!(&row, signed.row());
    assert_eq!(row.payment, signed.body().payment.as_ref().unwrap().challenge_id);
    assert_eq!(row.parent, signed.body().parent_receipt_id);
    receipts.record(&signed).await.unwrap();
}

#[test]
fn nothing_secret_is_printed() {
    let secret = [0x5e; 32];
    let ed25519 = Ed25519Signer::from_seed("k", &secret).unwrap();
    let hmac = HmacSigner::new("k", &secret).unwrap();
    let signed = run(receipts().sign(full_body(), false)).unwrap();
    for text in [format!("{ed25519:?}{hmac:?}"), format!("{:?}", receipts())] {
        assert!(!text.contains("94") && !text.to_lowercase().contains("5e"), "{text}");
    }
    assert!(!format!("{signed:?}").contains("tenant"));
}
