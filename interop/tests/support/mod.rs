//! Wallets and servers for the tests.

use axum::Router;
use mpp::{
    MppError, PaymentChallenge, PaymentCredential,
    client::{PaymentProvider, StripeProvider},
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
        let request = client().post(&url).basic_auth("sk_test_interop", Some("")).form(&[
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
