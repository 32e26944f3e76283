//! Wallets and servers for the tests.

use std::sync::{Arc, Mutex};

use axum::Router;
use mpp::{
    MppError, PaymentChallenge, PaymentCredential,
    client::{PaymentContext, PaymentProvider, StripeProvider},
    protocol::{core::accept_payment, methods::stripe::CreateTokenResult},
};
use serde_json::json;
use tokio::net::TcpListener;

/// Serves on a loopback port of its own, for as long as the test's runtime lives.
pub async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

/// A client that a proxy in the environment cannot reach.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// Pays `demo` charges with a token it was given.
#[derive(Clone)]
pub struct DemoWallet(pub &'static str);

impl PaymentProvider for DemoWallet {
    fn supports(&self, method: &str, intent: &str) -> bool {
        method == "demo" && intent == "charge"
    }

    async fn pay(&self, challenge: &PaymentChallenge) -> Result<PaymentCredential, MppError> {
        challenge.validate_for_charge("demo")?;
        let credential = PaymentCredential::new(challenge.to_echo(), json!({ "token": self.0 }));
        Ok(PaymentCredential { source: Some("did:key:z6MkInterop".into()), ..credential })
    }

    fn accept_payment_header(&self) -> Option<String> {
        Some(accept_payment::from_methods(&[("demo", "charge")]))
    }
}

/// mpp's own Stripe wallet; it lets Stripe make the token the way an agent's wallet does.
pub fn stripe_wallet(stripe: &str) -> StripeProvider {
    let url = format!("{stripe}/v1/test_helpers/shared_payment/granted_tokens");
    StripeProvider::new(move |offer| {
        let request = client().post(&url).basic_auth("sk_test_standin", Some("")).form(&[
            ("payment_method", "pm_card_visa"),
            ("usage_limits[currency]", &offer.currency),
            ("usage_limits[max_amount]", &offer.amount),
            ("usage_limits[expires_at]", &offer.expires_at.to_string()),
            ("seller_details[network_id]", &offer.network_id),
        ]);
        Box::pin(async move {
            let answer = async { request.send().await?.error_for_status()?.json::<serde_json::Value>().await };
            let token = answer.await.map_err(|e| MppError::Http(e.to_string()))?;
            let spt = token["id"].as_str().ok_or_else(|| MppError::Http("a token without an id".into()))?;
            Ok(CreateTokenResult::from(spt.to_owned()))
        })
    })
}

/// mpp's own Stripe wallet with tokens that exist already: one after the other, the last one again and again.
pub fn stripe_wallet_of(tokens: &[&str]) -> StripeProvider {
    let mut left: Vec<String> = tokens.iter().rev().map(|&token| token.to_owned()).collect();
    let last = left.first().cloned().expect("a token");
    let left = Mutex::new(std::mem::take(&mut left));
    StripeProvider::new(move |_| {
        let token = left.lock().expect("lock").pop().unwrap_or_else(|| last.clone());
        Box::pin(async { Ok(CreateTokenResult::from(token)) })
    })
}

/// What a wallet has signed.
pub type Paid = (PaymentChallenge, PaymentCredential);

/// Writes down what a wallet pays, and can send one of its credentials again before it is asked for money.
#[derive(Clone)]
pub struct Purse<W> {
    wallet: W,
    paid: Arc<Mutex<Vec<Paid>>>,
    in_hand: Option<Paid>,
}

impl<W> Purse<W> {
    pub fn new(wallet: W) -> Self {
        Self { wallet, paid: Arc::default(), in_hand: None }
    }

    /// The same wallet, which tries its last credential first.
    pub fn with_last_in_hand(self) -> Self {
        let in_hand = self.paid().pop();
        assert!(in_hand.is_some(), "nothing was paid");
        Self { in_hand, ..self }
    }

    /// Every payment so far.
    pub fn paid(&self) -> Vec<Paid> {
        self.paid.lock().expect("lock").clone()
    }
}

impl<W: PaymentProvider> PaymentProvider for Purse<W> {
    fn supports(&self, method: &str, intent: &str) -> bool {
        self.wallet.supports(method, intent)
    }

    async fn pay(&self, challenge: &PaymentChallenge) -> Result<PaymentCredential, MppError> {
        let credential = self.wallet.pay(challenge).await?;
        self.paid.lock().expect("lock").push((challenge.clone(), credential.clone()));
        Ok(credential)
    }

    async fn prepaid_credential(&self, _: PaymentContext) -> Option<Paid> {
        self.in_hand.clone()
    }

    fn accept_payment_header(&self) -> Option<String> {
        self.wallet.accept_payment_header()
    }
}

/// Answers every challenge with a credential for another one.
#[derive(Clone)]
pub struct Stubborn(pub PaymentCredential);

impl PaymentProvider for Stubborn {
    fn supports(&self, method: &str, intent: &str) -> bool {
        method == self.0.challenge.method.as_str() && intent == self.0.challenge.intent.as_str()
    }

    async fn pay(&self, _: &PaymentChallenge) -> Result<PaymentCredential, MppError> {
        Ok(self.0.clone())
    }
}
