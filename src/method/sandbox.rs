//! The embedded test rail: play money, signed for with an Ed25519 key.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fmt,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{
    PUBLIC_KEY_LENGTH, SECRET_KEY_LENGTH, SIGNATURE_LENGTH, Signature, Signer as _, SigningKey, VerifyingKey,
};
use parking_lot::Mutex;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    Attempt, Checked, DeclineReason, Declined, Fault, OfferRequest, Payer, Payment, PaymentMethod, RefundError,
    RefundRequest, Refunded, SettleError, Settlement, VerifyError,
};
use crate::protocol::{Amount, ChallengeId, Currency, Intent, MethodId, Price};

/// What every payer has to begin with, in major units of each fiat currency.
const DEFAULT_MAJOR_UNITS: u128 = 1_000;
/// The default of [`Sandbox::max_payers`].
const DEFAULT_MAX_PAYERS: usize = 10_000;
/// The default of [`Sandbox::max_payments`].
const DEFAULT_MAX_PAYMENTS: usize = 1_000_000;
/// `did:key:` of an Ed25519 key: the multicodec prefix 0xed, 0x01 before the 32 bytes of the key.
const ED25519_MULTICODEC: [u8; 2] = [0xed, 0x01];
/// `z` (base58btc) and 34 bytes in base58 are 48 characters.
const DID_KEY_LEN: usize = "did:key:".len() + 48;

/// A rail that moves no real money: method `sandbox`, intent `charge`.
///
/// The payer holds an Ed25519 key. The credential's `source` is the key as a `did:key`
/// (`did:key:z6Mk...`), the payload is `{"signature": "<base64url of 64 bytes, no padding>"}` over the
/// text of the challenge id (its 43 ASCII characters). [`SandboxKey`] is the payer's half.
///
/// Balances live in this process: every payer begins with 1000 major units of each fiat currency, or
/// with what [`opening_balance`](Self::opening_balance) says. Challenges carry
/// `methodDetails.testMode: true`, receipts `testMode: true`, and a merchant refuses this method
/// unless it is in test mode.
///
/// ```
/// use tower_mpp::{method::Sandbox, protocol::Price};
///
/// let sandbox = Sandbox::new()
///     .opening_balance(&Price::usd("5.00")?)
///     .opening_balance(&Price::fiat("jpy", "500")?)
///     .max_payers(100);
/// # Ok::<(), tower_mpp::protocol::InvalidPrice>(())
/// ```
pub struct Sandbox {
    method: MethodId,
    intent: Intent,
    opening: BTreeMap<Currency, Amount>,
    max_payers: usize,
    max_payments: usize,
    ledger: Mutex<Ledger>,
}

impl Sandbox {
    /// A sandbox with the default balances and limits.
    pub fn new() -> Self {
        Self {
            method: MethodId::SANDBOX,
            intent: Intent::CHARGE,
            opening: BTreeMap::new(),
            max_payers: DEFAULT_MAX_PAYERS,
            max_payments: DEFAULT_MAX_PAYMENTS,
            ledger: Mutex::default(),
        }
    }

    /// What every payer has to begin with in the currency of `balance`. May be given once per
    /// currency; the last one counts.
    ///
    /// Without it a payer has 1000 major units of a fiat currency, and nothing of anything else.
    #[must_use]
    pub fn opening_balance(mut self, balance: &Price) -> Self {
        self.opening.insert(balance.currency().clone(), balance.amount());
        self
    }

    /// How many payers are remembered at most (default 10,000). Further ones are refused with a
    /// [`Fault`]: forgetting one would give its money back.
    #[must_use]
    pub fn max_payers(mut self, max: usize) -> Self {
        self.max_payers = max;
        self
    }

    /// How many payments are remembered at most (default 1,000,000). Further ones are refused with a
    /// [`Fault`]: forgetting one would let it be charged twice.
    #[must_use]
    pub fn max_payments(mut self, max: usize) -> Self {
        self.max_payments = max;
        self
    }

    /// What a payer has left, by its `did:key`. `None` when that is no canonical `did:key` of an Ed25519
    /// key, or when nobody has money in the currency.
    pub fn balance(&self, payer: &str, currency: &Currency) -> Option<Amount> {
        let key = parse_did(payer)?.to_bytes();
        let ledger = self.ledger.lock();
        let held = ledger.accounts.get(&key).and_then(|account| account.get(currency)).copied();
        held.or_else(|| self.opening(currency))
    }

    fn opening(&self, currency: &Currency) -> Option<Amount> {
        if let Some(amount) = self.opening.get(currency) {
            return Some(*amount);
        }
        let scale = 10_u128.checked_pow(u32::from(currency.iso_decimals()?))?;
        DEFAULT_MAJOR_UNITS.checked_mul(scale).map(Amount::new)
    }

    fn charge(&self, key: AccountKey, payment: &Payment) -> Result<(), SettleError> {
        let id = payment.challenge_id();
        let currency = payment.currency();
        let ledger = &mut *self.ledger.lock();
        let payments = ledger.payments.len();
        let Entry::Vacant(slot) = ledger.payments.entry(id) else {
            return ledger.repeated(id, key);
        };
        if payments >= self.max_payments {
            return Err(Fault::new("the sandbox remembers as many payments as it may (max_payments)").into());
        }
        if !ledger.accounts.contains_key(&key) && ledger.accounts.len() >= self.max_payers {
            return Err(Fault::new("the sandbox has as many payers as it may have (max_payers)").into());
        }
        let held = ledger.accounts.get(&key).and_then(|account| account.get(currency)).copied();
        let Some(left) =
            held.or_else(|| self.opening(currency)).and_then(|balance| balance.checked_sub(payment.amount()))
        else {
            return Err(Declined::new(
                DeclineReason::Insufficient,
                "The sandbox account does not have enough test money.",
            )
            .into());
        };
        ledger.accounts.entry(key).or_default().insert(currency.clone(), left);
        slot.insert(Charge {
            payer: key,
            currency: currency.clone(),
            amount: payment.amount(),
            refunded: Amount::ZERO,
        });
        Ok(())
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("max_payers", &self.max_payers)
            .field("max_payments", &self.max_payments)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl PaymentMethod for Sandbox {
    fn method(&self) -> &MethodId {
        &self.method
    }

    fn intent(&self) -> &Intent {
        &self.intent
    }

    fn is_test(&self) -> bool {
        true
    }

    /// The signature stays good, and the ledger declines whoever has spent the money meanwhile.
    fn can_settle_after(&self) -> bool {
        true
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        // A currency that nobody can have money in is not asked for.
        self.opening(price.currency())?;
        Some(OfferRequest::of(price).method_detail("testMode", true))
    }

    fn check(&self, payment: &Payment) -> Result<Checked, Declined> {
        verify_signature(payment)?;
        // Signed over the challenge id, so it pays nothing else. Another key may sign the same id:
        // that is another payment for the same challenge, which the payload's fingerprint tells.
        Ok(Checked::bound())
    }

    async fn verify(&self, _: &Payment, _: Attempt) -> Result<(), VerifyError> {
        Ok(())
    }

    async fn settle(&self, payment: &Payment, _: Attempt) -> Result<Settlement, SettleError> {
        let payer = verify_signature(payment)?;
        self.charge(payer.to_bytes(), payment)?;
        Ok(Settlement::new(format!("sandbox_{}", payment.challenge_id()), payment.now())
            .payer(Some(Payer::verified(did_of(&payer))))
            .receipt_member("testMode", true))
    }

    async fn refund(&self, refund: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        let ledger = &mut *self.ledger.lock();
        let refused = |why: &'static str| Err(RefundError::Refused(why.into()));
        let Some(charge) = ledger.payments.get_mut(&refund.challenge_id) else {
            return refused("the sandbox does not know this payment");
        };
        if charge.currency != *refund.currency || refund.amount > charge.amount {
            return refused("more than was paid, or another currency");
        }
        let reference = format!("sandbox_refund_{}", refund.challenge_id);
        if !charge.refunded.is_zero() {
            return if charge.refunded == refund.amount {
                Ok(Refunded::new(reference))
            } else {
                refused("already refunded with another amount")
            };
        }
        let balance = ledger.accounts.entry(charge.payer).or_default().entry(charge.currency.clone()).or_default();
        let Some(sum) = balance.checked_add(refund.amount) else {
            return refused("the balance would be too large");
        };
        *balance = sum;
        charge.refunded = refund.amount;
        Ok(Refunded::new(reference))
    }
}

type AccountKey = [u8; PUBLIC_KEY_LENGTH];

#[derive(Default)]
struct Ledger {
    accounts: HashMap<AccountKey, BTreeMap<Currency, Amount>>,
    payments: HashMap<ChallengeId, Charge>,
}

impl Ledger {
    /// The challenge was charged before: fine when the same payer asks again.
    fn repeated(&self, id: ChallengeId, key: AccountKey) -> Result<(), SettleError> {
        match self.payments.get(&id) {
            Some(charge) if charge.payer == key => Ok(()),
            _ => Err(Declined::new(DeclineReason::Refused, "Another payer has paid this challenge.").into()),
        }
    }
}

struct Charge {
    payer: AccountKey,
    currency: Currency,
    amount: Amount,
    refunded: Amount,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    signature: &'a str,
}

/// The key that signed the challenge id of `payment`.
fn verify_signature(payment: &Payment) -> Result<VerifyingKey, Declined> {
    let Payload { signature } = payment.payload()?;
    let key = payment
        .source()
        .and_then(parse_did)
        .ok_or_else(|| Declined::invalid_proof("The source must be the did:key of an Ed25519 key: did:key:z6Mk..."))?;
    let mut bytes = [0; SIGNATURE_LENGTH];
    let decoded = URL_SAFE_NO_PAD.decode_slice(signature, &mut bytes);
    if decoded != Ok(SIGNATURE_LENGTH) {
        return Err(Declined::invalid_proof("The signature must be 64 bytes in base64url without padding."));
    }
    // Strict: no key or R of small order, S below the order of the group, one encoding of R.
    key.verify_strict(payment.challenge_id().encode(&mut [0; 43]).as_bytes(), &Signature::from_bytes(&bytes))
        .map_err(|_| Declined::invalid_proof("The signature over the challenge id is not valid."))?;
    Ok(key)
}

/// Reads a `did:key` in its one canonical spelling, so that a payer has one account.
fn parse_did(did: &str) -> Option<VerifyingKey> {
    if did.len() != DID_KEY_LEN {
        return None;
    }
    let mut bytes = [0; PUBLIC_KEY_LENGTH + 2];
    let length = bs58::decode(did.strip_prefix("did:key:z")?).onto(&mut bytes).ok()?;
    let (codec, key) = bytes.get(..length)?.split_first_chunk()?;
    if *codec != ED25519_MULTICODEC {
        return None;
    }
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    // Decoders of curve points and of base58 forgive; a second spelling must not be a second account.
    (!key.is_weak() && did_of(&key) == did && is_canonical_point(&key)).then_some(key)
}

/// Whether the y coordinate is below the field's prime 2^255 - 19: RFC 8032 section 5.1.3 refuses
/// others, the library takes them.
fn is_canonical_point(key: &VerifyingKey) -> bool {
    key.to_edwards().compress().to_bytes() == key.to_bytes()
}

fn did_of(key: &VerifyingKey) -> String {
    let mut bytes = [0; PUBLIC_KEY_LENGTH + 2];
    let (codec, rest) = bytes.split_at_mut(ED25519_MULTICODEC.len());
    codec.copy_from_slice(&ED25519_MULTICODEC);
    rest.copy_from_slice(key.as_bytes());
    format!("did:key:z{}", bs58::encode(bytes).into_string())
}

/// The payer's half of the [`Sandbox`]: a key that signs challenges. For agents under test and demos.
///
/// `Debug` prints the public key only; the secret is wiped from memory when dropped.
///
/// ```
/// use tower_mpp::method::SandboxKey;
///
/// let key = SandboxKey::from_seed([7; 32]);
/// assert!(key.did().starts_with("did:key:z6Mk"));
/// ```
#[derive(Clone)]
pub struct SandboxKey(SigningKey);

impl SandboxKey {
    /// A fresh key.
    pub fn generate() -> Self {
        Self::from_seed(rand::random())
    }

    /// The key of a seed (the 32 byte secret of RFC 8032).
    pub fn from_seed(seed: [u8; SECRET_KEY_LENGTH]) -> Self {
        Self(SigningKey::from_bytes(&Zeroizing::new(seed)))
    }

    /// The key as a `did:key`: the `source` of a credential.
    pub fn did(&self) -> String {
        did_of(&self.0.verifying_key())
    }

    /// Signs the text of a challenge id (43 characters): base64url without padding of 64 bytes.
    pub fn sign(&self, challenge_id: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.0.sign(challenge_id.as_bytes()).to_bytes())
    }

    /// The `payload` of a credential that pays the challenge with this id.
    pub fn payload(&self, challenge_id: &str) -> serde_json::Value {
        serde_json::json!({ "signature": self.sign(challenge_id) })
    }
}

impl fmt::Debug for SandboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SandboxKey").field(&self.did()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::method::testing::TestPayment;

    fn usd(decimal: &str) -> Price {
        Price::usd(decimal).unwrap()
    }

    fn paid_by(key: &SandboxKey, id: [u8; 32], price: &Price) -> Payment {
        let text = ChallengeId::from_bytes(id).to_string();
        TestPayment::new(&Sandbox::new().offer(price).unwrap())
            .id(id)
            .source(&key.did())
            .payload(key.payload(&text))
            .build()
    }

    async fn settle(sandbox: &Sandbox, payment: &Payment) -> Result<Settlement, SettleError> {
        sandbox.check(payment)?;
        sandbox.settle(payment, Attempt::First).await
    }

    fn refund<'a>(settlement: &'a Settlement, id: [u8; 32], price: &'a Price) -> RefundRequest<'a> {
        RefundRequest {
            challenge_id: ChallengeId::from_bytes(id),
            settlement,
            amount: price.amount(),
            currency: price.currency(),
        }
    }

    #[tokio::test]
    async fn a_payment_is_taken_from_the_payer_once_and_given_back_once() {
        let (sandbox, key, price) = (Sandbox::new(), SandboxKey::generate(), usd("400.00"));
        let payment = paid_by(&key, [1; 32], &price);
        let settlement = settle(&sandbox, &payment).await.unwrap();
        assert_eq!(settlement.payer, Some(Payer::verified(key.did())));
        assert_eq!(settlement.receipt["testMode"], true);
        assert_eq!(settlement.reference, format!("sandbox_{}", payment.challenge_id()));

        let again = sandbox.settle(&payment, Attempt::Resumed).await.unwrap();
        assert_eq!(again, settlement);
        let left = || sandbox.balance(&key.did(), price.currency()).unwrap().minor_units();
        assert_eq!(left(), 60_000);

        let first = sandbox.refund(refund(&settlement, [1; 32], &price)).await.unwrap();
        let second = sandbox.refund(refund(&settlement, [1; 32], &price)).await.unwrap();
        assert_eq!(first, second);
        assert_eq!(left(), 100_000);
    }

    #[tokio::test]
    async fn an_empty_account_declines_and_stays_as_it_is() {
        let sandbox = Sandbox::new().opening_balance(&usd("1.00"));
        let key = SandboxKey::generate();
        settle(&sandbox, &paid_by(&key, [1; 32], &usd("0.75"))).await.unwrap();
        let error = settle(&sandbox, &paid_by(&key, [2; 32], &usd("0.50"))).await.unwrap_err();
        assert!(matches!(error, SettleError::Declined(declined) if declined.reason() == DeclineReason::Insufficient));
        settle(&sandbox, &paid_by(&key, [3; 32], &usd("0.25"))).await.unwrap();
        assert_eq!(sandbox.balance(&key.did(), usd("1").currency()), Some(Amount::ZERO));
    }

    #[tokio::test]
    async fn a_full_sandbox_refuses_and_never_forgets_a_payer_or_a_payment() {
        let sandbox = Sandbox::new().max_payers(1).max_payments(2);
        let (first, second) = (SandboxKey::generate(), SandboxKey::generate());
        settle(&sandbox, &paid_by(&first, [1; 32], &usd("1"))).await.unwrap();
        let error = settle(&sandbox, &paid_by(&second, [2; 32], &usd("1"))).await.unwrap_err();
        assert!(matches!(error, SettleError::Fault(_)));
        settle(&sandbox, &paid_by(&first, [3; 32], &usd("1"))).await.unwrap();
        let error = settle(&sandbox, &paid_by(&first, [4; 32], &usd("1"))).await.unwrap_err();
        assert!(matches!(error, SettleError::Fault(_)));
        assert_eq!(sandbox.balance(&first.did(), usd("1").currency()), Some(Amount::new(99_800)));
    }

    #[tokio::test]
    async fn a_declined_stranger_does_not_use_up_an_account() {
        let sandbox = Sandbox::new().max_payers(1).opening_balance(&usd("1"));
        let broke = SandboxKey::generate();
        settle(&sandbox, &paid_by(&broke, [1; 32], &usd("2"))).await.unwrap_err();
        settle(&sandbox, &paid_by(&SandboxKey::generate(), [2; 32], &usd("1"))).await.unwrap();
    }

    #[tokio::test]
    async fn another_key_cannot_pay_a_challenge_that_was_paid() {
        let sandbox = Sandbox::new();
        settle(&sandbox, &paid_by(&SandboxKey::generate(), [1; 32], &usd("1"))).await.unwrap();
        let error = settle(&sandbox, &paid_by(&SandboxKey::generate(), [1; 32], &usd("1"))).await.unwrap_err();
        assert!(matches!(error, SettleError::Declined(_)));
    }

    #[tokio::test]
    async fn refunds_never_exceed_the_payment() {
        let (sandbox, key) = (Sandbox::new(), SandboxKey::generate());
        let settlement = settle(&sandbox, &paid_by(&key, [1; 32], &usd("1.00"))).await.unwrap();
        let more = sandbox.refund(refund(&settlement, [1; 32], &usd("1.01"))).await;
        assert!(matches!(more, Err(RefundError::Refused(_))));
        let unknown = sandbox.refund(refund(&settlement, [2; 32], &usd("1.00"))).await;
        assert!(matches!(unknown, Err(RefundError::Refused(_))));
        sandbox.refund(refund(&settlement, [1; 32], &usd("0.40"))).await.unwrap();
        let other = sandbox.refund(refund(&settlement, [1; 32], &usd("0.60"))).await;
        assert!(matches!(other, Err(RefundError::Refused(_))));
    }

    #[test]
    fn a_signature_over_anything_else_is_refused() {
        let (sandbox, key, price) = (Sandbox::new(), SandboxKey::from_seed([7; 32]), usd("1"));
        let id = ChallengeId::from_bytes([1; 32]).to_string();
        let good = key.sign(&id);
        let offer = sandbox.offer(&price).unwrap();
        let check = |source: &str, signature: String| {
            let payload = serde_json::json!({ "signature": signature });
            sandbox.check(&TestPayment::new(&offer).id([1; 32]).source(source).payload(payload).build())
        };
        assert!(check(&key.did(), good.clone()).is_ok());
        assert!(check(&SandboxKey::generate().did(), good.clone()).is_err());
        assert!(check(&key.did(), key.sign(&ChallengeId::from_bytes([2; 32]).to_string())).is_err());
        assert!(check(&key.did(), format!("{good}=")).is_err());
        assert!(check(&key.did(), String::new()).is_err());
        // S + L verifies under lenient rules: the same signature with a second spelling.
        let mut bytes: [u8; 64] = URL_SAFE_NO_PAD.decode(&good).unwrap().try_into().unwrap();
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0;
        for (byte, add) in bytes.iter_mut().skip(32).zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert!(check(&key.did(), URL_SAFE_NO_PAD.encode(bytes)).is_err());
    }

    #[test]
    fn a_payer_has_one_spelling() {
        let did = SandboxKey::from_seed([7; 32]).did();
        assert!(parse_did(&did).is_some());
        let encode = |bytes: &[u8]| format!("did:key:z{}", bs58::encode(bytes).into_string());
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        let with = |prefix: [u8; 2], key: [u8; 32]| encode(&[&prefix[..], &key[..]].concat());
        assert_eq!(with([0xed, 1], key), did);
        let small_order = {
            let mut point = [0; 32];
            point[0] = 1;
            point
        };
        // y = 2^255 - 19 + n decodes to the same point as y = n, where there is such a point.
        let second_spelling = (2..19)
            .map(|n| {
                let mut point = [0xff; 32];
                (point[0], point[31]) = (0xed + n, 0x7f);
                point
            })
            .find(|point| VerifyingKey::from_bytes(point).is_ok_and(|key| !key.is_weak()))
            .unwrap();
        for bad in [
            "",
            "did:key:",
            "did:web:example.com",
            &did.replace("did:key", "DID:KEY"),
            &format!("{did}#key-1"),
            &format!("{did} "),
            &did.replacen('z', "z1", 1),
            &with([0xe7, 1], key),
            &with([0xed, 1], small_order),
            &with([0xed, 1], second_spelling),
        ] {
            assert!(parse_did(bad).is_none(), "{bad}");
        }
        let payment = TestPayment::new(&Sandbox::new().offer(&usd("1")).unwrap())
            .payload(serde_json::json!({ "signature": "" }))
            .build();
        assert!(Sandbox::new().check(&payment).is_err(), "no source");
    }

    #[test]
    fn offers_are_marked_as_test_mode() {
        let offer = Sandbox::new().offer(&usd("0.50")).unwrap();
        assert_eq!(offer.method_details["testMode"], true);
        assert!(Sandbox::new().is_test());
        let points = Price::minor(Currency::new("points").unwrap(), Amount::new(5), 0);
        assert!(Sandbox::new().offer(&points).is_none());
        assert!(Sandbox::new().opening_balance(&points).offer(&points).is_some());
    }

    #[test]
    fn debug_does_not_print_the_secret() {
        let key = SandboxKey::from_seed([7; 32]);
        assert_eq!(format!("{key:?}"), format!("SandboxKey({:?})", key.did()));
    }
}
