//! Keys at hand, keys far away, and signers that do not do what they should.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tower_mpp::{
    conformance::receipt_signer::{Law, Suite},
    protocol::Visibility,
    receipt::{
        Ed25519Signer, HmacSigner, InvalidReceiptKey, Jwk, ReceiptBody, ReceiptSigner, Receipts, SignError,
        SigningAlgorithm, VerifyError, verify_receipt, verify_receipt_with_secret,
    },
};

use super::material::{SEED, builder, full_body, receipts, run, signer};

const SECRET: [u8; 32] = [9; 32];

fn public() -> ReceiptBody {
    ReceiptBody { visibility: Visibility::PublicMinimal, ..full_body() }
}

/// Signs, but not at once.
struct Far(Ed25519Signer, Duration);

#[async_trait]
impl ReceiptSigner for Far {
    fn key_id(&self) -> &str {
        self.0.key_id()
    }

    fn algorithm(&self) -> SigningAlgorithm {
        self.0.algorithm()
    }

    fn public_key(&self) -> Option<Jwk> {
        self.0.public_key()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        tokio::time::sleep(self.1).await;
        self.0.sign(message).await
    }
}

/// Lies about itself.
struct Strange {
    id: &'static str,
    algorithm: SigningAlgorithm,
    key: Option<Jwk>,
    signature: Result<usize, ()>,
}

#[async_trait]
impl ReceiptSigner for Strange {
    fn key_id(&self) -> &str {
        self.id
    }

    fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> Option<Jwk> {
        self.key.clone()
    }

    async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
        self.signature.map(|length| vec![0; length]).map_err(|()| SignError("the key service is down".into()))
    }
}

fn strange() -> Strange {
    let key = Ed25519Signer::from_seed("k", &SEED).unwrap().public_key();
    Strange { id: "k", algorithm: SigningAlgorithm::Ed25519, key, signature: Ok(64) }
}

#[tokio::test(start_paused = true)]
async fn a_signer_far_away_is_asked_for_both_at_once_and_not_waited_for_forever() {
    let far = |time| Receipts::builder("https://r.example", Far(signer(), time)).build().unwrap();
    let begin = tokio::time::Instant::now();
    let receipts = far(Duration::from_millis(1500));
    let signed = receipts.sign(public(), false).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_millis(1500), "the two signatures were made one after the other");
    verify_receipt(signed.json(), &receipts.jwks()).unwrap();
    verify_receipt(signed.public_json().unwrap(), &receipts.jwks()).unwrap();

    let begin = tokio::time::Instant::now();
    let error = far(Duration::from_secs(60)).sign(public(), false).await.unwrap_err();
    assert_eq!(begin.elapsed(), Duration::from_secs(2));
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "the signer took longer than 2s");
}

#[test]
fn a_signer_that_fails_or_signs_nonsense_makes_no_receipt() {
    for signature in [Err(()), Ok(0), Ok(63), Ok(65), Ok(32)] {
        let receipts = Receipts::builder("https://r.example", Strange { signature, ..strange() }).build().unwrap();
        let error = run(receipts.sign(public(), false)).unwrap_err();
        assert_eq!(error.to_string(), "the receipt could not be signed");
    }
}

#[test]
fn a_signer_that_contradicts_itself_is_refused() {
    let hmac = SigningAlgorithm::HmacSha256;
    let weak = Some(Jwk::ed25519("k", &[0; 32]));
    for bad in [
        Strange { id: "", ..strange() },
        Strange { id: "k\r\nx: y", ..strange() },
        Strange { id: "other", ..strange() },
        Strange { key: None, ..strange() },
        Strange { key: weak, ..strange() },
        Strange { algorithm: hmac, ..strange() },
    ] {
        let error = Receipts::builder("https://r.example", bad).build().unwrap_err();
        assert_eq!(error.field(), "signer", "{error}");
    }
}

#[test]
fn keys_are_read_from_pem_as_openssl_writes_it() {
    // RFC 8410, section 10.3, and what `openssl genpkey -algorithm ed25519` prints for the same key.
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    for text in [pem.to_owned(), pem.trim().to_owned(), format!("{pem}\n"), pem.replace('\n', "\r\n")] {
        let signer = Ed25519Signer::from_pkcs8_pem("k", &text).unwrap();
        assert_eq!(signer.public_key().unwrap().x, "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE");
    }
    for bad in ["", "x", &pem.replace("PRIVATE", "PUBLIC"), &pem.replace("MC4C", "MC4D"), &pem[..40]] {
        assert_eq!(Ed25519Signer::from_pkcs8_pem("k", bad).unwrap_err(), InvalidReceiptKey::Pem, "{bad}");
    }
    assert_eq!(Ed25519Signer::from_pkcs8_pem("a b", pem).unwrap_err(), InvalidReceiptKey::KeyId);
    assert!(Ed25519Signer::from_seed("", &SEED).is_err());
    assert_eq!(HmacSigner::new("k", &[1; 31]).unwrap_err(), InvalidReceiptKey::TooShort);
}

#[test]
fn a_secret_verifies_for_who_has_it_and_never_as_a_public_key() {
    let signer = HmacSigner::new("old", &SECRET).unwrap();
    let receipts = Receipts::builder("https://r.example", signer).build().unwrap();
    assert_eq!(receipts.jwks().keys, []);
    let signed = run(receipts.sign(public(), false)).unwrap();
    for json in [signed.json(), signed.public_json().unwrap()] {
        assert_eq!(verify_receipt_with_secret(json, "old", &SECRET).unwrap().key_id, "old");
        assert_eq!(verify_receipt_with_secret(json, "old", &[8; 32]), Err(VerifyError::Signature));
        assert_eq!(verify_receipt_with_secret(json, "old", &SECRET[..31]), Err(VerifyError::Key));
        assert_eq!(verify_receipt_with_secret(json, "new", &SECRET), Err(VerifyError::UnknownKey("old".into())));
        assert_eq!(verify_receipt(json, &receipts.jwks()), Err(VerifyError::Algorithm));
    }
    let touched = signed.json().replacen("\"input_tokens\":12", "\"input_tokens\":13", 1);
    assert_eq!(verify_receipt_with_secret(&touched, "old", &SECRET), Err(VerifyError::Signature));
}

/// The public key of a receipt taken for the secret of an HMAC.
#[test]
fn the_receipt_does_not_choose_what_its_key_is_for() {
    let receipts = receipts();
    let key = receipts.jwks().keys[0].clone();
    let public_key = ed25519_dalek::SigningKey::from_bytes(&SEED).verifying_key().to_bytes();
    let forger =
        Receipts::builder("https://r.example", HmacSigner::new(key.kid, &public_key).unwrap()).build().unwrap();
    let forged = run(forger.sign(public(), false)).unwrap();
    assert_eq!(verify_receipt(forged.json(), &receipts.jwks()), Err(VerifyError::Algorithm));
    let relabelled = forged.json().replace("hmac_sha256", "ed25519");
    assert_eq!(verify_receipt(&relabelled, &receipts.jwks()), Err(VerifyError::Signature));
    let signed = run(receipts.sign(public(), false)).unwrap();
    assert_eq!(verify_receipt_with_secret(signed.json(), "key-1", &public_key), Err(VerifyError::Algorithm));
}

#[test]
fn receipts_of_the_key_before_still_verify_and_those_of_a_key_that_left_do_not() {
    let old = receipts();
    let signed = run(old.sign(full_body(), false)).unwrap();
    let new = Ed25519Signer::from_seed("key-2", &[3; 32]).unwrap();
    let rotated = Receipts::builder("https://r.example", new).previous_key(old.jwks().keys[0].clone()).build().unwrap();
    verify_receipt(signed.json(), &rotated.jwks()).unwrap();
    let newer = run(rotated.sign(full_body(), false)).unwrap();
    verify_receipt(newer.json(), &rotated.jwks()).unwrap();
    let unknown = Err(VerifyError::UnknownKey("key-2".into()));
    assert_eq!(verify_receipt(newer.json(), &builder().build().unwrap().jwks()), unknown);
}

#[tokio::test]
async fn the_signers_of_this_crate_keep_the_laws() {
    Suite::new(signer()).assert().await;
    Suite::new(Arc::new(signer()) as Arc<dyn ReceiptSigner>).assert().await;
    Suite::new(Box::new(signer()) as Box<dyn ReceiptSigner>).assert().await;
    Suite::new(HmacSigner::new("h", &SECRET).unwrap()).secret(SECRET).assert().await;
    assert!(Suite::new(HmacSigner::new("h", &SECRET).unwrap()).run().await.is_err(), "nothing was checked");
}

#[tokio::test]
async fn wrong_signers_are_caught() {
    let other_key = Ed25519Signer::from_seed("k", &[1; 32]).unwrap().public_key();
    for (signer, law) in [
        (Strange { id: "a b", ..strange() }, Law::FittingName),
        (Strange { id: "other", ..strange() }, Law::ListedKey),
        (Strange { key: None, ..strange() }, Law::ListedKey),
        (Strange { key: Some(Jwk::ed25519("k", &[0; 32])), ..strange() }, Law::ListedKey),
        (strange(), Law::SignsTheBytes),
        (Strange { signature: Err(()), ..strange() }, Law::SignsAtOnce),
        (Strange { signature: Ok(32), ..strange() }, Law::SignsAgain),
        (Strange { key: other_key, ..strange() }, Law::MakesReceipts),
    ] {
        let violations = Suite::new(signer).run().await.unwrap_err();
        assert!(violations.iter().any(|violation| violation.law() == law), "{law:?}: {violations}");
    }
}
