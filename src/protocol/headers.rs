//! Names of the header fields of the Payment scheme, in one place.

use http::HeaderName;

/// `Payment-Receipt` (core draft section 5.3).
pub const PAYMENT_RECEIPT: HeaderName = HeaderName::from_static("payment-receipt");

/// `Accept-Payment` (core draft section 7.4).
pub const ACCEPT_PAYMENT: HeaderName = HeaderName::from_static("accept-payment");

/// `Payment-Receipt-Digest`: the digest of the signed receipt that `Payment-Receipt` names.
pub const PAYMENT_RECEIPT_DIGEST: HeaderName = HeaderName::from_static("payment-receipt-digest");

/// `Payment-Receipt-Kid`: the key that it is signed with.
pub const PAYMENT_RECEIPT_KID: HeaderName = HeaderName::from_static("payment-receipt-kid");

/// `Payment-Receipt-Provisional`: `true` where the final receipt is made at the end of the body.
pub const PAYMENT_RECEIPT_PROVISIONAL: HeaderName = HeaderName::from_static("payment-receipt-provisional");

/// `Payment-Receipt-Mpp`: the receipt of the core draft, where `Payment-Receipt` is a URL.
pub const PAYMENT_RECEIPT_MPP: HeaderName = HeaderName::from_static("payment-receipt-mpp");

/// `Payment-Outcome`, our extension on an answer that was paid for but not delivered:
/// `redeliverable`, `refunded` or `unfulfilled`. Where the money would only have been taken afterwards:
/// `not-charged`.
pub const PAYMENT_OUTCOME: HeaderName = HeaderName::from_static("payment-outcome");

/// `Idempotency-Key` (core draft, security considerations, idempotency).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
