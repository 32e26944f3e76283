//! A merchant made of the `mpp` crate's own parts.
//!
//! `mpp::server::middleware::PaymentLayer::charge` exists only together with mpp's Tempo client. [`Charge`] makes
//! the same calls in the same order for any method, which is what mpp's documentation tells the author of another
//! method to do.

use std::{future::Future, pin::Pin};

use mpp::{
    Base64UrlJson, ChargeMethod, ChargeRequest, MppError, PaymentChallenge, PaymentCredential, Receipt,
    VerificationError, format_receipt, format_www_authenticate_many, parse_authorization,
    protocol::methods::stripe::method::ChargeMethod as StripeMethod,
    server::{Mpp, StripeConfig, middleware::PaymentVerifier, stripe},
};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

pub const REALM: &str = "api.example.com";
pub const SECRET: &str = "an HMAC key of more than thirty-two bytes";

/// Makes the challenges of a route, bound to a body when there is one.
pub type Issue = Box<dyn Fn(Option<&[u8]>) -> mpp::Result<Vec<PaymentChallenge>> + Send + Sync>;

/// mpp's charge flow for one route.
pub struct Charge<M> {
    issue: Issue,
    verifier: Mpp<M>,
    expected: ChargeRequest,
}

impl<M: ChargeMethod> Charge<M> {
    /// A route whose challenges come from `issue` and are verified by `method`.
    ///
    /// # Errors
    /// When `issue` fails or makes no challenge.
    pub fn new(method: M, issue: Issue) -> mpp::Result<Self> {
        let first = issue(None)?.into_iter().next();
        let expected = first.ok_or_else(|| MppError::InvalidConfig("no challenge".into()))?.request.decode()?;
        Ok(Self { issue, verifier: Mpp::new(method, REALM, SECRET), expected })
    }

    fn header(&self, body: Option<&[u8]>) -> mpp::Result<String> {
        format_www_authenticate_many(&(self.issue)(body)?).map(|values| values.join(", "))
    }
}

impl<M: ChargeMethod + 'static> PaymentVerifier for Charge<M> {
    fn challenge(&self) -> Result<String, String> {
        self.header(None).map_err(|e| e.to_string())
    }

    fn challenge_with_body(&self, body: &[u8]) -> Result<String, String> {
        self.header(Some(body)).map_err(|e| e.to_string())
    }

    fn verify(&self, credential: &str) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> {
        let verified = self.verify_credential(credential, None);
        Box::pin(async move { verified.await.map_err(|e| e.to_string()) })
    }

    fn verify_credential(
        &self,
        credential: &str,
        body: Option<&[u8]>,
    ) -> Pin<Box<dyn Future<Output = Result<String, MppError>> + Send>> {
        let (verifier, expected) = (self.verifier.clone(), self.expected.clone());
        let (credential, body) = (credential.to_owned(), body.map(<[u8]>::to_vec));
        Box::pin(async move {
            let credential = parse_authorization(&credential)?;
            let receipt = match body {
                None => verifier.verify_credential_with_expected_request(&credential, &expected).await?,
                Some(body) => {
                    verifier.verify_credential_with_expected_request_and_body(&credential, &expected, &body).await?
                }
            };
            format_receipt(&receipt)
        })
    }
}

/// mpp's Stripe merchant, with its own Stripe client pointed at `api_base`.
///
/// # Errors
/// When mpp refuses the configuration.
pub fn stripe_merchant(api_base: &str, currency: &str) -> mpp::Result<Mpp<StripeMethod>> {
    let config = StripeConfig {
        secret_key: "sk_test_interop",
        network_id: "profile_interop",
        payment_method_types: &["card"],
        currency,
        decimals: 2,
    };
    Mpp::create_stripe(stripe(config).realm(REALM).secret_key(SECRET).stripe_api_base(api_base))
}

/// Challenges of mpp's Stripe merchants: one for each of them, in their order.
pub fn stripe_issue(merchants: Vec<Mpp<StripeMethod>>, amount: &'static str) -> Issue {
    Box::new(move |body| {
        let challenge = |merchant: &Mpp<StripeMethod>| match body {
            None => merchant.stripe_charge(amount),
            Some(body) => merchant.stripe_charge_with_body(amount, body),
        };
        merchants.iter().map(challenge).collect()
    })
}

/// A charge route of mpp's Stripe merchant.
///
/// # Errors
/// When mpp refuses the configuration.
pub fn stripe_charge(api_base: &str, amount: &'static str) -> mpp::Result<Charge<StripeMethod>> {
    let method = StripeMethod::new("sk_test_interop", "profile_interop", vec!["card".to_owned()]);
    Charge::new(method.with_api_base(api_base), stripe_issue(vec![stripe_merchant(api_base, "usd")?], amount))
}

/// A charge route for the custom method `demo`.
///
/// # Errors
/// When mpp refuses the request.
pub fn demo_charge() -> mpp::Result<Charge<Demo>> {
    Charge::new(Demo, Box::new(|body| Ok(vec![demo_challenge(body)?])))
}

fn demo_challenge(body: Option<&[u8]>) -> mpp::Result<PaymentChallenge> {
    let request = ChargeRequest { amount: "100".into(), currency: "usd".into(), ..Default::default() };
    let expires = (OffsetDateTime::now_utc() + Duration::minutes(5)).format(&Rfc3339);
    Ok(PaymentChallenge::with_secret_key_full(
        SECRET,
        REALM,
        "demo",
        "charge",
        Base64UrlJson::from_typed(&request)?,
        Some(&expires.map_err(|e| MppError::InvalidConfig(e.to_string()))?),
        body.map(mpp::body_digest::compute).as_deref(),
        None,
        None,
        None,
    ))
}

/// The server side of the method `demo`: takes the token `ok`, declines everything else.
#[derive(Clone)]
pub struct Demo;

impl ChargeMethod for Demo {
    fn method(&self) -> &str {
        "demo"
    }

    async fn verify(
        &self,
        credential: &PaymentCredential,
        _request: &ChargeRequest,
    ) -> Result<Receipt, VerificationError> {
        match credential.payload.get("token").and_then(|token| token.as_str()) {
            Some("ok") => Ok(Receipt::success("demo", "demo_1")),
            _ => Err(VerificationError::new("declined")),
        }
    }
}

/// A rail that moves nothing and accepts everything, under the name of the method whose challenges it verifies.
#[derive(Clone)]
pub struct Noop(pub &'static str);

impl ChargeMethod for Noop {
    fn method(&self) -> &str {
        self.0
    }

    async fn verify(&self, _: &PaymentCredential, _: &ChargeRequest) -> Result<Receipt, VerificationError> {
        Ok(Receipt::success(self.0, "pi_3QxNoop0000000000000000"))
    }
}
