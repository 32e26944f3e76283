//! Credentials that name a challenge by its id and bring nothing but a token. Nothing is kept for a challenge, so the
//! id itself must say what the rest of it is rebuilt from.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngExt as _;

use super::{
    Inner, Offers, Refusal, RefusalKind,
    bind::Requested,
    mint::{MAX_OPAQUE, opaque},
    offer::Offer,
};
use crate::{
    key::BoundSlots,
    protocol::{Challenge, ChallengeId, ContentDigest, CredentialBytes, Timestamp, TokenCredential},
};

/// How a route makes the ids of its challenges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum IdForm {
    /// The HMAC of the bound slots (core draft section 5.1.3).
    #[default]
    Plain,
    /// 11 random bytes, the second of expiry in 5 bytes, and the first 16 bytes of the HMAC of the bound slots. Before
    /// the HMAC stands the nonce in `opaque`, so that nobody chooses anything of it.
    SelfContained,
}

/// The half of a self-contained id that is not the HMAC. Randomness comes first: journals spread ids by their first
/// bytes.
pub(super) struct Seed(pub(super) [u8; 16]);

/// The other half.
type Mac = [u8; 16];

impl Seed {
    /// `None` for an instant before 1970.
    pub(super) fn random(expires: Timestamp) -> Option<Self> {
        let [0, 0, 0, seconds @ ..] = u64::try_from(expires.unix()).ok()?.to_be_bytes() else { return None };
        let mut seed: [u8; 16] = rand::rng().random();
        *seed.last_chunk_mut()? = seconds;
        Some(Self(seed))
    }

    fn of(id: &ChallengeId) -> Option<(Self, Mac)> {
        let (seed, mac) = id.as_bytes().split_first_chunk()?;
        Some((Self(*seed), mac.try_into().ok()?))
    }

    /// The id of which this is the first half.
    pub(super) fn id(&self, hmac: &ChallengeId) -> ChallengeId {
        let mut id = *hmac.as_bytes();
        let (_, mac) = id.split_at_mut(16);
        mac.iter_mut().zip(hmac.as_bytes()).for_each(|(to, from)| *to = *from);
        id.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        ChallengeId::from_bytes(id)
    }

    fn expires(&self) -> Option<Timestamp> {
        let [a, b, c, d, e] = *self.0.last_chunk()?;
        Timestamp::from_unix(i64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
    }

    fn nonce(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// Whether a self-contained id says the same as the parameters beside it, and any key of the ring binds it to them.
pub(super) fn verify(slots: &BoundSlots, id: &ChallengeId, expires: &str, digest: &str, opaque: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Opaque {
        nonce: String,
    }
    let Some((seed, mac)) = Seed::of(id) else { return false };
    let same_nonce = || {
        let json = URL_SAFE_NO_PAD.decode(opaque).ok()?;
        let Opaque { nonce } = serde_json::from_slice(&json).ok()?;
        Some(nonce == seed.nonce())
    };
    seed.expires().is_some_and(|instant| instant.to_string() == expires)
        && slots.verify_half(&mac, expires, digest, opaque)
        && same_nonce() == Some(true)
}

/// Writes the credential of the core draft that a token credential stands for. It goes the way of any other from
/// here: nothing is believed of it yet, except that one of these offers was made under this id to just this request.
pub(super) fn rebuild(
    merchant: &Inner,
    offers: &Offers,
    requested: &Requested<'_>,
    credential: &TokenCredential<'_>,
) -> Result<CredentialBytes, Refusal> {
    let invalid = || Refusal::new(RefusalKind::InvalidChallenge);
    let id: ChallengeId = credential.id().parse().map_err(|_| invalid())?;
    let (seed, mac) = Seed::of(&id).ok_or_else(invalid)?;
    let expires = seed.expires().ok_or_else(invalid)?.to_string();
    let mut opaque_buffer = [0; MAX_OPAQUE];
    let opaque = opaque(&seed.0, requested.scope, &mut opaque_buffer).ok_or_else(invalid)?;
    let mut digest_buffer = [0; ContentDigest::TEXT_LEN];
    let digest = requested.digest.map(|digest| digest.encode(&mut digest_buffer));

    let mut taken =
        offers.list.iter().filter_map(|offer| Some((offer, offer.method.token_payload(credential.token())?)));
    let answered =
        |(offer, _): &(&Offer, _)| offer.slots.verify_half(&mac, &expires, digest.unwrap_or_default(), opaque);
    let Some(first) = taken.next() else { return Err(Refusal::new(RefusalKind::MethodUnsupported)) };
    let (offer, payload) = std::iter::once(first).chain(taken).find(answered).ok_or_else(invalid)?;
    let challenge = Challenge {
        id: credential.id().to_owned(),
        realm: merchant.realm.as_str().to_owned(),
        method: offer.method.method().clone(),
        intent: offer.method.intent().clone(),
        request: offer.request.clone(),
        expires: Some(expires),
        digest: digest.map(str::to_owned),
        description: None,
        opaque: Some(opaque.to_owned()),
    };
    CredentialBytes::answering(&challenge, &payload).map_err(|_| Refusal::new(RefusalKind::MalformedCredential))
}

/// The id of a token credential that may have been issued for another request. It cannot be told from an invented one
/// without that request, so it is worth no more than a look at what was kept under it.
pub(super) fn plausible_id(merchant: &Inner, credential: &TokenCredential<'_>) -> Option<ChallengeId> {
    let id: ChallengeId = credential.id().parse().ok()?;
    let expires = Seed::of(&id)?.0.expires()?;
    let latest = merchant.now().saturating_add(merchant.settings.challenge_ttl);
    (expires <= latest).then_some(id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_it_was_made_of() {
        for seconds in [0, 1, 1_767_225_600, 253_402_207_200] {
            let expires = Timestamp::from_unix(seconds).unwrap();
            let seed = Seed::random(expires).unwrap();
            let hmac = ChallengeId::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()));
            let id = seed.id(&hmac);
            let (again, mac) = Seed::of(&id).unwrap();
            assert_eq!((again.0, again.expires()), (seed.0, Some(expires)));
            assert_eq!(mac, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        }
        assert!(Seed::random(Timestamp::from_unix(-1).unwrap()).is_none());
        // A second after the year 9999 is no instant.
        assert!(Seed([0xff; 16]).expires().is_none());
    }

    #[test]
    fn two_seeds_of_one_second_differ() {
        let expires = Timestamp::from_unix(1_767_225_600).unwrap();
        let seeds: std::collections::BTreeSet<_> = (0..1000).map(|_| Seed::random(expires).unwrap().0).collect();
        assert_eq!(seeds.len(), 1000);
    }
}
