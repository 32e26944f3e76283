//! The `Idempotency-Key` of a client, towards an upstream that all clients share.
//!
//! Every payer calls the upstream on the merchant's one account. If keys passed as they are, whoever guesses or repeats
//! the key of somebody else would be given that one's answer. So each payment has a space of its own: the same client
//! that comes again with the same payment and key, for instance because the first answer was lost, has the same key at
//! the upstream; nobody else ever has.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue, request::Parts};
use sha2::{Digest as _, Sha256};

use crate::{PaymentInfo, PendingPayment, protocol::ChallengeId};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Gives the key of a paid request a name of its own, and takes away that of any other.
pub(super) fn rename(head: &mut Parts) {
    let Some(key) = head.headers.remove(&IDEMPOTENCY_KEY) else { return };
    if let Some(own) = challenge(head).and_then(|id| name(id, key.as_bytes())) {
        head.headers.insert(IDEMPOTENCY_KEY, own);
    }
}

fn challenge(head: &Parts) -> Option<ChallengeId> {
    let settled = head.extensions.get::<PaymentInfo>().map(PaymentInfo::challenge_id);
    settled.or_else(|| head.extensions.get::<PendingPayment>().map(PendingPayment::challenge_id))
}

fn name(id: ChallengeId, key: &[u8]) -> Option<HeaderValue> {
    let mut hash = Sha256::new_with_prefix(id.to_string());
    hash.update(key);
    HeaderValue::try_from(format!("mpp-{}", URL_SAFE_NO_PAD.encode(hash.finalize()))).ok()
}
