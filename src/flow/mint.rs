//! Minting: from offers to `WWW-Authenticate` values. Per challenge only randomness and one HMAC; the
//! rest is prepared or shared.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::HeaderValue;
use rand::RngExt as _;

use super::offer::{Offer, Offers};
use crate::protocol::{AcceptPayment, ChallengeId, ContentDigest, Timestamp};

/// Header lines of a 402 stay under 8 KB in all (core draft section 5.4): this much for challenges.
const MAX_CHALLENGES_BYTES: usize = 7 * 1024;

/// What the challenges of one answer have in common.
pub(crate) struct Terms<'a> {
    pub(crate) scope: &'a str,
    pub(crate) digest: Option<&'a ContentDigest>,
    pub(crate) expires: Timestamp,
    /// `, description="..."`, or nothing.
    pub(crate) description: &'a str,
    pub(crate) accept: Option<&'a AcceptPayment>,
}

/// A challenge for each offer that the client accepts, in its order of preference, and the id of the first.
pub(crate) fn mint(offers: &Offers, terms: &Terms<'_>) -> (Vec<HeaderValue>, Option<ChallengeId>) {
    let opaque = opaque(terms.scope);
    let expires = terms.expires.to_string();
    let mut digest_buffer = [0; ContentDigest::TEXT_LEN];
    let digest = terms.digest.map_or("", |digest| digest.encode(&mut digest_buffer));
    let mint_one = |offer: &Offer| {
        let id = offer.slots.sign(&expires, digest, &opaque);
        (challenge(offer, &id, &expires, digest, &opaque, terms.description), id)
    };

    let mut values = Vec::with_capacity(offers.list.len());
    let mut first = None;
    let mut room = MAX_CHALLENGES_BYTES;
    let mut add = |offer: &Offer| {
        let (text, id) = mint_one(offer);
        if text.len() > room {
            tracing::warn!(target: crate::trace::TARGET, method = %offer.method.method(), "offer left out: the challenges would exceed 8 KB");
            return;
        }
        room -= text.len();
        // Every part is printable ASCII by construction.
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
            first.get_or_insert(id);
            values.push(value);
        }
    };
    match terms.accept {
        None => offers.list.iter().for_each(&mut add),
        Some(accept) => {
            let mut wanted: Vec<&Offer> = offers.list.iter().collect();
            accept.arrange(&mut wanted, |offer| (offer.method.method().as_str(), offer.method.intent().as_str()));
            wanted.into_iter().for_each(&mut add);
        }
    }
    (values, first)
}

/// The `opaque` parameter: base64url of `{"nonce":"...","scope":"..."}`, whose members stand in
/// canonical order. The nonce makes every challenge unique, the scope ties it to one resource.
fn opaque(scope: &str) -> String {
    let mut json = Vec::with_capacity(scope.len() + 64);
    json.extend_from_slice(br#"{"nonce":""#);
    let mut nonce = [0; 22];
    // 16 bytes are 22 characters.
    let _ = URL_SAFE_NO_PAD.encode_slice(rand::rng().random::<[u8; 16]>(), &mut nonce);
    json.extend_from_slice(&nonce);
    json.extend_from_slice(br#"","scope":"#);
    // Writing text into memory cannot fail.
    let _ = serde_json::to_writer(&mut json, scope);
    json.push(b'}');
    URL_SAFE_NO_PAD.encode(json)
}

/// Reads the scope back from an `opaque` whose binding has been verified.
pub(super) fn scope_of(opaque: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Opaque {
        scope: String,
    }
    let json = URL_SAFE_NO_PAD.decode(opaque).ok()?;
    serde_json::from_slice::<Opaque>(&json).ok().map(|opaque| opaque.scope)
}

/// The header value, in one allocation of exactly its size.
fn challenge(offer: &Offer, id: &ChallengeId, expires: &str, digest: &str, opaque: &str, description: &str) -> String {
    let mut id_buffer = [0; ChallengeId::TEXT_LEN];
    let id = id.encode(&mut id_buffer);
    let digest_parts: [&str; 3] = if digest.is_empty() { [""; 3] } else { [", digest=\"", digest, "\""] };
    let parts = [
        "Payment id=\"",
        id,
        "\"",
        &offer.params,
        ", expires=\"",
        expires,
        "\"",
        description,
        digest_parts[0],
        digest_parts[1],
        digest_parts[2],
        ", opaque=\"",
        opaque,
        "\"",
    ];
    parts.concat()
}
