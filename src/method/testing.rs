//! Payments made by hand, for unit tests of rails.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{OfferRequest, Payment};
use crate::protocol::{ChallengeId, CredentialBytes, MethodId, Realm, Timestamp};

/// A payment that passed all checks of the merchant.
pub(crate) struct TestPayment {
    offer: OfferRequest,
    id: [u8; 32],
    method: MethodId,
    source: Option<String>,
    payload: serde_json::Value,
    age: Duration,
}

impl TestPayment {
    const LIFETIME: Duration = Duration::from_secs(300);

    pub(crate) fn new(offer: &OfferRequest) -> Self {
        Self {
            offer: offer.clone(),
            id: [1; 32],
            method: MethodId::SANDBOX,
            source: None,
            payload: serde_json::json!({}),
            age: Duration::ZERO,
        }
    }

    pub(crate) fn id(mut self, id: [u8; 32]) -> Self {
        self.id = id;
        self
    }

    #[cfg(feature = "stripe")]
    pub(crate) fn method(mut self, method: MethodId) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn source(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }

    pub(crate) fn payload(mut self, payload: serde_json::Value) -> Self {
        self.payload = payload;
        self
    }

    /// The step begins this long after the challenge expired.
    #[cfg(feature = "stripe")]
    pub(crate) fn after_expiry(mut self, age: Duration) -> Self {
        self.age = Self::LIFETIME + age;
        self
    }

    pub(crate) fn build(self) -> Payment {
        let payload = self.payload.to_string();
        let issued = Timestamp::from_unix(1_750_000_000).unwrap();
        Payment {
            id: ChallengeId::from_bytes(self.id),
            realm: Realm::new("api.example.com").unwrap(),
            method: self.method,
            offer: Arc::new(self.offer),
            expires: issued.saturating_add(Self::LIFETIME),
            now: issued.saturating_add(self.age),
            credential: CredentialBytes::decode(&URL_SAFE_NO_PAD.encode(&payload)).unwrap(),
            payload: 0..payload.len(),
            source: self.source,
            context: None,
        }
    }
}
