//! A payment method of one's own: prepaid vouchers. Run `cargo run --example custom_method`, then
//! `curl -i http://127.0.0.1:3000/` shows a 402 with `method="voucher"`. Its payload is
//! `{"code":"GIFT-2026"}`; that voucher is worth five dollars, and a page costs two.
//!
//! The merchant sees to everything that is not about vouchers: single use, expiry, which route and which
//! price. Here is only what a rail has to say, and the contract is in the docs of `PaymentMethod`.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use axum::{Router, routing::get};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tower_mpp::{
    KeyRing, Merchant, PaymentInfo, Price,
    method::{
        Attempt, Checked, DeclineReason, Declined, OfferRequest, Payment, PaymentMethod, RefundError, RefundRequest,
        Refunded, SettleError, Settlement, VerifyError,
    },
    protocol::{Amount, ChallengeId, Intent, InvalidName, MethodId},
    store::MemoryNonceStore,
};

/// Vouchers in US cents. Cheap to clone; all clones share the ledger.
#[derive(Clone)]
struct Vouchers {
    method: MethodId,
    ledger: Arc<Mutex<Ledger>>,
}

/// Stands for a table in a database, and a lock on it for a transaction.
#[derive(Default)]
struct Ledger {
    /// What is left on each voucher. Codes are kept hashed: who reads the table cannot spend them, and
    /// how long a look-up takes says nothing about them.
    balances: HashMap<CodeHash, Amount>,
    /// What was paid for which challenge.
    debits: HashMap<ChallengeId, Debit>,
}

struct Debit {
    voucher: CodeHash,
    amount: Amount,
    refunded: bool,
}

type CodeHash = [u8; 32];

/// What the payer sends.
#[derive(Deserialize)]
struct Payload {
    code: String,
}

impl Vouchers {
    fn new() -> Result<Self, InvalidName> {
        Ok(Self { method: MethodId::new("voucher")?, ledger: Arc::default() })
    }

    /// Sells a voucher.
    fn issue(&self, code: &str, worth: Amount) {
        self.ledger().balances.insert(hash(code), worth);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(code: &str) -> CodeHash {
    Sha256::digest(code).into()
}

fn voucher(payment: &Payment) -> Result<CodeHash, Declined> {
    payment.payload().map(|Payload { code }| hash(&code))
}

impl Ledger {
    /// What is left on a voucher when it has paid `amount`, or why it cannot pay that.
    fn after(&self, voucher: &CodeHash, amount: Amount) -> Result<Amount, Declined> {
        // The payer reads these sentences.
        let balance = self.balances.get(voucher).ok_or(Declined::invalid_proof("There is no such voucher."))?;
        balance
            .checked_sub(amount)
            .ok_or(Declined::new(DeclineReason::Insufficient, "There is not enough left on this voucher."))
    }
}

#[async_trait]
impl PaymentMethod for Vouchers {
    fn method(&self) -> &MethodId {
        &self.method
    }

    fn intent(&self) -> &Intent {
        &Intent::CHARGE
    }

    /// Called when a price is prepared. No offer for what cannot be paid with a voucher: other rails of
    /// the merchant may still take it.
    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        let dollars = price.currency().as_str() == "usd";
        dollars.then(|| OfferRequest::of(price).method_detail("issuer", "example.com"))
    }

    /// Reads the payload, without waiting for anything. A voucher may pay many challenges, and every
    /// challenge debits it once, so the code itself is not claimed. Were a code good for one payment,
    /// this would be `Checked::exclusive(payment.spend_key(code))`.
    fn check(&self, payment: &Payment) -> Result<Checked, Declined> {
        voucher(payment).map(|_| Checked::bound())
    }

    /// What needs the ledger, before any money moves. It comes again when a payment is resumed, and must
    /// not decline then because of what the first attempt did.
    async fn verify(&self, payment: &Payment, attempt: Attempt) -> Result<(), VerifyError> {
        let ledger = self.ledger();
        if attempt == Attempt::Resumed && ledger.debits.contains_key(&payment.challenge_id()) {
            return Ok(());
        }
        ledger.after(&voucher(payment)?, payment.amount())?;
        Ok(())
    }

    /// Takes the money, once per challenge however often it is called. The amount is what the merchant
    /// asked for, never what the payload says.
    ///
    /// A ledger that is reached over a network has a third answer: after a timeout, or a reply that was
    /// lost, nobody knows, and that is `Unknown`. `Declined` is for when no money moved, for certain.
    async fn settle(&self, payment: &Payment, _: Attempt) -> Result<Settlement, SettleError> {
        let (id, amount, voucher) = (payment.challenge_id(), payment.amount(), voucher(payment)?);
        let mut ledger = self.ledger();
        if !ledger.debits.contains_key(&id) {
            let left = ledger.after(&voucher, amount)?;
            ledger.balances.insert(voucher, left);
            ledger.debits.insert(id, Debit { voucher, amount, refunded: false });
        }
        let left = ledger.balances.get(&voucher).copied().unwrap_or_default();
        // What the payer is told in the receipt, beside the reference.
        Ok(Settlement::new(format!("voucher_{id}"), payment.now()).receipt_member("balance", left.to_string()))
    }

    /// Gives the money back, once per challenge.
    async fn refund(&self, refund: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        let ledger = &mut *self.ledger();
        let debit = ledger.debits.get_mut(&refund.challenge_id);
        let debit = debit.filter(|debit| debit.amount == refund.amount);
        let debit = debit.ok_or(RefundError::Refused("that was not paid".into()))?;
        if let Some(balance) = ledger.balances.get_mut(&debit.voucher).filter(|_| !debit.refunded) {
            let sum = balance.checked_add(debit.amount);
            *balance = sum.ok_or(RefundError::Refused("the voucher is full".into()))?;
            debit.refunded = true;
        }
        Ok(Refunded::new(format!("refund_{}", refund.challenge_id)))
    }
}

fn app(vouchers: Vouchers) -> Result<Router, Box<dyn Error>> {
    let merchant = Merchant::builder("localhost", KeyRing::new("replace this by 32 random bytes!")?)
        .method(vouchers)
        .nonce_store(MemoryNonceStore::single_process(100_000))
        .build()?;
    let charge = merchant.charge(Price::usd("2.00")?)?.description("A page");
    Ok(Router::new().route("/", get(page).route_layer(charge)))
}

async fn page(payment: PaymentInfo) -> String {
    format!("A page, paid by {}.\n", payment.reference())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let vouchers = Vouchers::new()?;
    vouchers.issue("GIFT-2026", Amount::new(500));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app(vouchers)?).await?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use axum::body::Body;
    use http::{HeaderValue, Request, Response};
    use serde_json::json;
    use tower::ServiceExt as _;
    use tower_mpp::protocol::{Challenge, Currency, PAYMENT_RECEIPT, Receipt, Timestamp, authorization};

    use super::*;

    struct Shop {
        vouchers: Vouchers,
        app: Router,
    }

    impl Shop {
        fn open() -> Self {
            let vouchers = Vouchers::new().unwrap();
            vouchers.issue("GIFT", Amount::new(500));
            let app = app(vouchers.clone()).unwrap();
            Self { vouchers, app }
        }

        async fn get(&self, credential: Option<&HeaderValue>) -> Response<Body> {
            let mut request = Request::get("/").body(Body::empty()).unwrap();
            request.headers_mut().extend(credential.map(|value| (http::header::AUTHORIZATION, value.clone())));
            self.app.clone().oneshot(request).await.unwrap()
        }

        async fn buy(&self, code: &str) -> (HeaderValue, Response<Body>) {
            let unpaid = self.get(None).await;
            let challenge = Challenge::parse(unpaid.headers()["www-authenticate"].to_str().unwrap()).unwrap();
            let credential = authorization(&challenge, None, &json!({ "code": code })).unwrap();
            let answer = self.get(Some(&credential)).await;
            (credential, answer)
        }

        fn left(&self) -> u128 {
            self.vouchers.ledger().balances[&hash("GIFT")].minor_units()
        }
    }

    #[tokio::test]
    async fn a_voucher_pays_until_it_is_used_up() {
        let shop = Shop::open();
        for left in [300, 100] {
            let (credential, paid) = shop.buy("GIFT").await;
            assert_eq!((paid.status().as_u16(), shop.left()), (200, left));
            let receipt = Receipt::parse(paid.headers()[PAYMENT_RECEIPT].to_str().unwrap()).unwrap();
            assert_eq!(receipt.extra["balance"], left.to_string());
            // The merchant sees to single use.
            assert_eq!(shop.get(Some(&credential)).await.status(), 403);
        }
        assert_eq!(shop.buy("GIFT").await.1.status(), 402);
        assert_eq!(shop.buy("gift").await.1.status(), 402);
        assert_eq!(shop.left(), 100);
    }

    #[tokio::test]
    async fn money_is_given_back_once() {
        let shop = Shop::open();
        assert_eq!(shop.buy("GIFT").await.1.status(), 200);
        let id = *shop.vouchers.ledger().debits.keys().next().unwrap();
        let (settlement, usd) =
            (Settlement::new("voucher", Timestamp::from_unix(0).unwrap()), Currency::new("usd").unwrap());
        let refund = |minor_units| RefundRequest {
            challenge_id: id,
            settlement: &settlement,
            amount: Amount::new(minor_units),
            currency: &usd,
        };
        assert!(shop.vouchers.refund(refund(201)).await.is_err());
        let first = shop.vouchers.refund(refund(200)).await.unwrap();
        assert_eq!(shop.vouchers.refund(refund(200)).await.unwrap(), first);
        assert_eq!(shop.left(), 500);
    }
}
