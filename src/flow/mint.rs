//! Minting: from offers to `WWW-Authenticate` values. Per challenge only randomness and one HMAC; the
//! rest is prepared or shared.

use std::{borrow::Cow, fmt::Write as _, io::Write as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use rand::RngExt as _;

use super::{
    bind::Requested,
    offer::{Offer, Offers},
    scope::MAX_SCOPE,
    token::{IdForm, Seed},
};
use crate::protocol::{AcceptPayment, ChallengeId, ContentDigest, Timestamp};

/// Header lines of a 402 stay under 8 KB in all (core draft section 5.4): this much for challenges.
const MAX_CHALLENGES_BYTES: usize = 7 * 1024;

/// What the challenges of one answer have in common.
pub(crate) struct Terms<'a> {
    pub(crate) requested: Requested<'a>,
    pub(crate) expires: Timestamp,
    /// `, description="..."`, or nothing.
    pub(crate) description: &'a str,
    pub(crate) accept: Option<&'a AcceptPayment>,
}

/// Adds a challenge for each offer that the client accepts, in its order of preference, to the headers
/// of an answer. Returns the id of the first.
pub(crate) fn mint(offers: &Offers, terms: &Terms<'_>, headers: &mut HeaderMap) -> Option<ChallengeId> {
    let mut opaque_buffer = [0; MAX_OPAQUE];
    let mut expires_buffer = StackText::<MAX_TIMESTAMP>::new();
    let mut digest_buffer = [0; ContentDigest::TEXT_LEN];
    let Requested { scope, digest, ids, .. } = terms.requested;
    let (expires, seed) = match ids {
        IdForm::Plain => (terms.expires, None),
        // Whole seconds are what the id has room for.
        IdForm::SelfContained => (terms.expires.truncated(), Some(Seed::random(terms.expires)?)),
    };
    let random = || rand::rng().random::<[u8; 16]>();
    let nonce = seed.as_ref().map_or_else(random, |seed| seed.0);
    // The scope is bounded and the time is ours, so both fit.
    let opaque = opaque(&nonce, scope, &mut opaque_buffer)?;
    write!(expires_buffer, "{expires}").ok()?;
    let shared = Shared {
        seed,
        expires: expires_buffer.as_str(),
        digest: digest.map_or("", |digest| digest.encode(&mut digest_buffer)),
        opaque,
        description: terms.description,
    };

    match terms.accept {
        None => add_all(offers.list.iter(), shared, headers),
        Some(accept) => {
            let mut wanted: Vec<&Offer> = offers.list.iter().collect();
            accept.arrange(&mut wanted, |offer| (offer.method.method().as_str(), offer.method.intent().as_str()));
            add_all(wanted.into_iter(), shared, headers)
        }
    }
}

fn add_all<'o>(
    wanted: impl Iterator<Item = &'o Offer> + Clone,
    mut shared: Shared<'_>,
    headers: &mut HeaderMap,
) -> Option<ChallengeId> {
    // An offer is worth more than words about it.
    if wanted.clone().map(|offer| shared.length_with(offer)).sum::<usize>() > MAX_CHALLENGES_BYTES {
        shared.description = "";
    }
    let mut first = None;
    let mut room = MAX_CHALLENGES_BYTES;
    for offer in wanted {
        let hmac = offer.slots.sign(shared.expires, shared.digest, shared.opaque);
        let id = shared.seed.as_ref().map_or(hmac, |seed| seed.id(&hmac));
        let text = challenge(offer, &id, &shared);
        if text.len() > room {
            tracing::warn!(target: crate::trace::TARGET, method = %offer.method.method(), "offer left out: the challenges would exceed 8 KB");
            continue;
        }
        room -= text.len();
        // Every part is printable ASCII by construction.
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
            first.get_or_insert(id);
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    first
}

/// The parameters that the challenges of one answer share, as text.
struct Shared<'a> {
    /// Where ids are self-contained.
    seed: Option<Seed>,
    expires: &'a str,
    digest: &'a str,
    opaque: &'a str,
    description: &'a str,
}

impl Shared<'_> {
    /// About the length of a challenge for an offer, and not less.
    fn length_with(&self, offer: &Offer) -> usize {
        const NAMES_AND_ID: usize = 100;
        let texts = [&offer.params, self.expires, self.digest, self.opaque, self.description];
        NAMES_AND_ID + texts.map(str::len).iter().sum::<usize>()
    }
}

/// `2025-01-15T12:05:00Z`, with room for years of other lengths.
const MAX_TIMESTAMP: usize = 40;
/// A scope needs no escapes in JSON; base64 adds a third. Buffers on the stack are wiped for every
/// challenge, so they are no larger than need be.
const MAX_OPAQUE_JSON: usize = MAX_SCOPE + 64;
pub(super) const MAX_OPAQUE: usize = MAX_OPAQUE_JSON.div_ceil(3) * 4;

/// The `opaque` parameter: base64url of `{"nonce":"...","scope":"..."}`, whose members stand in
/// canonical order. The nonce makes every challenge unique, the scope ties it to one resource.
pub(super) fn opaque<'b>(nonce_bytes: &[u8; 16], scope: &str, buffer: &'b mut [u8; MAX_OPAQUE]) -> Option<&'b str> {
    let mut nonce = [0; 22];
    URL_SAFE_NO_PAD.encode_slice(nonce_bytes, &mut nonce).ok()?;
    let mut json = [0; MAX_OPAQUE_JSON];
    let mut rest = json.as_mut_slice();
    rest.write_all(br#"{"nonce":""#).ok()?;
    rest.write_all(&nonce).ok()?;
    rest.write_all(br#"","scope":"#).ok()?;
    serde_json::to_writer(&mut rest, scope).ok()?;
    rest.write_all(b"}").ok()?;
    let unused = rest.len();
    let json = json.get(..MAX_OPAQUE_JSON - unused)?;
    let length = URL_SAFE_NO_PAD.encode_slice(json, buffer).ok()?;
    std::str::from_utf8(buffer.get(..length)?).ok()
}

/// Whether an `opaque` whose binding has been verified is for this scope.
pub(super) fn is_for_scope(opaque: &str, scope: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Opaque<'a> {
        #[serde(borrow)]
        scope: Cow<'a, str>,
    }
    let mut json = [0; MAX_OPAQUE_JSON];
    URL_SAFE_NO_PAD
        .decode_slice(opaque, &mut json)
        .ok()
        .and_then(|length| serde_json::from_slice::<Opaque<'_>>(json.get(..length)?).ok())
        .is_some_and(|opaque| opaque.scope == scope)
}

/// The header value, in one allocation of exactly its size.
fn challenge(offer: &Offer, id: &ChallengeId, shared: &Shared<'_>) -> String {
    let mut id_buffer = [0; ChallengeId::TEXT_LEN];
    let id = id.encode(&mut id_buffer);
    let (before, after) = if shared.digest.is_empty() { ("", "") } else { (", digest=\"", "\"") };
    let parts = [
        "Payment id=\"",
        id,
        "\"",
        &offer.params,
        ", expires=\"",
        shared.expires,
        "\"",
        shared.description,
        before,
        shared.digest,
        after,
        ", opaque=\"",
        shared.opaque,
        "\"",
    ];
    parts.concat()
}

/// A short text on the stack.
struct StackText<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> StackText<N> {
    fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl<const N: usize> std::fmt::Write for StackText<N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        let room = self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
