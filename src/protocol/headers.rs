//! Names of the header fields of the Payment scheme, in one place.

use http::HeaderName;

/// `Payment-Receipt` (core draft section 5.3).
pub const PAYMENT_RECEIPT: HeaderName = HeaderName::from_static("payment-receipt");

/// `Accept-Payment` (core draft section 7.4).
pub const ACCEPT_PAYMENT: HeaderName = HeaderName::from_static("accept-payment");

/// `Payment-Outcome`, our extension on an answer that was paid for but not delivered:
/// `redeliverable`, `refunded` or `unfulfilled`. Where the money would only have been taken afterwards:
/// `not-charged`.
pub const PAYMENT_OUTCOME: HeaderName = HeaderName::from_static("payment-outcome");

/// `Idempotency-Key` (core draft, security considerations, idempotency).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
