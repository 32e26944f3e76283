//! Binding: does a credential answer one of our own challenges, for just this request?

use std::sync::Arc;

use super::{
    Inner, Offers, Refusal, RefusalKind,
    answers::Asked,
    former::{self, Former, Recognised},
    mint::is_for_scope,
    token::{self, IdForm},
};
use crate::{
    key::BoundSlots,
    method::{Checked, Payment, PaymentContext, PaymentMethod},
    protocol::{ChallengeId, ContentDigest, CredentialBytes, EchoedChallenge, PaymentCredential, Timestamp},
    store::Proof,
};

/// A payment that answers one of our own offers: right id, realm, method, intent, request, route and
/// body. Only [`bind`] makes one.
pub(crate) struct Bound {
    pub(super) payment: Payment,
    pub(super) method: Arc<dyn PaymentMethod>,
    pub(super) checked: Checked,
    /// The challenge has expired: only money that has moved before can still be redeemed.
    pub(super) expired: bool,
    /// It cannot be redeemed any more at all. Only an answer that was kept can still be given again, and
    /// what became of the money be told.
    pub(super) too_late: bool,
    /// Its terms are not those of today: only money that has moved before can be redeemed. In a box, because it is
    /// rare.
    pub(super) former: Option<Box<Former>>,
    /// The request came with an `Idempotency-Key`.
    pub(super) asked: Option<Asked>,
}

impl Bound {
    /// What is presented in payment.
    pub(super) fn proof(&self) -> Proof {
        match self.checked.proof {
            Some(key) => Proof::Exclusive(key),
            None => Proof::Bound(self.payment.fingerprint()),
        }
    }

    /// The answer is to be kept, or given again.
    pub(crate) fn ask(&mut self, key: &[u8], scope: &str, digest: Option<&ContentDigest>) {
        self.asked = Some(Asked::new(self, key, scope, digest));
    }
}

/// The journal knows nothing of it (any more), so nothing is said about what was charged before.
pub(super) fn too_late(id: ChallengeId) -> Refusal {
    let detail = "The challenge expired too long ago to be redeemed.";
    Refusal::detailed(RefusalKind::PaymentExpired, detail).of(id)
}

/// What is asked for, as far as a payment is bound to it.
#[derive(Clone, Copy)]
pub(crate) struct Requested<'a> {
    pub(crate) scope: &'a str,
    pub(crate) digest: Option<&'a ContentDigest>,
    /// How the ids of its challenges are made.
    pub(crate) ids: IdForm,
    /// What it costs depends on nothing of it that is not bound: other terms are former terms.
    pub(crate) by_resource: bool,
}

/// Checks a credential, without waiting and without touching the journal.
///
/// The price that is taken is never read from the credential: the id is recomputed over the merchant's own offer. Terms
/// that are not asked for any more are read from it once the id has proved them, and nobody is charged on them.
pub(crate) fn bind(
    merchant: &Inner,
    offers: &Offers,
    requested: &Requested<'_>,
    presented: &PaymentCredential<'_>,
    context: Option<&PaymentContext>,
) -> Result<Bound, Refusal> {
    let malformed = |_| Refusal::new(RefusalKind::MalformedCredential);
    let credential = match presented {
        PaymentCredential::Token68(text) => CredentialBytes::decode(text).map_err(malformed)?,
        PaymentCredential::Params(credential) => token::rebuild(merchant, offers, requested, credential)?,
    };
    let parsed = credential.parse().map_err(malformed)?;
    let echoed = &parsed.challenge;

    let invalid = || {
        let offered = offers.has(&echoed.method, &echoed.intent);
        Refusal::new(if offered { RefusalKind::InvalidChallenge } else { RefusalKind::MethodUnsupported })
    };
    let id: ChallengeId = echoed.id.parse().map_err(|_| invalid())?;
    let expires_text = echoed.expires.as_deref().ok_or_else(invalid)?;
    let present = offers
        .list
        .iter()
        .find(|offer| offer.is_for(&echoed.method, &echoed.intent) && offer.request == echoed.request)
        .filter(|offer| is_ours(&offer.slots, requested.ids, &id, echoed));
    let (method, terms, former) = match present {
        Some(offer) => (Arc::clone(&offer.method), Arc::clone(&offer.terms), None),
        None => {
            let Recognised { method, offer, redeemable } =
                former::recognise(merchant, offers, requested, &id, echoed).ok_or_else(invalid)?;
            let otherwise = offers.refused.clone().unwrap_or_else(invalid);
            (method, Arc::new(offer), Some(Box::new(Former { otherwise, redeemable })))
        }
    };
    // From here on it is certain that this merchant issued the challenge.
    let invalid = || invalid().of(id);
    let expires: Timestamp = expires_text.parse().map_err(|_| invalid())?;
    if !may_be_for(merchant, requested, echoed) {
        return Err(invalid());
    }
    let now = merchant.now();
    let too_long_ago = now >= merchant.redeemable_until(expires);

    let payment = Payment {
        id,
        realm: merchant.realm.clone(),
        method: method.method().clone(),
        offer: terms,
        expires,
        now,
        payload: credential.payload_range(&parsed),
        source: parsed.source.as_deref().map(str::to_owned),
        credential,
        context: context.cloned(),
    };
    let checked = method.check(&payment).map_err(|declined| match &former {
        Some(former) => former.otherwise.clone(),
        None if too_long_ago => too_late(id),
        None => Refusal::declined(&declined, id),
    })?;
    Ok(Bound { payment, method, checked, expired: now >= expires, too_late: too_long_ago, former, asked: None })
}

/// The challenge of a credential that could not be bound, where this merchant has issued it for another
/// body or another resource than those of this request.
pub(super) fn issued_for_another_request(
    merchant: &Inner,
    requested: &Requested<'_>,
    presented: &str,
) -> Option<ChallengeId> {
    let credential = CredentialBytes::decode(presented).ok()?;
    let parsed = credential.parse().ok()?;
    let echoed = &parsed.challenge;
    let id: ChallengeId = echoed.id.parse().ok()?;
    (!may_be_for(merchant, requested, echoed) && verifies(merchant, &id, echoed)).then_some(id)
}

/// Whether this merchant has issued the challenge, on whatever terms and in whatever form of its id. Another body, or
/// another day, may have another price, so the offer is not one of this request.
pub(super) fn verifies(merchant: &Inner, id: &ChallengeId, echoed: &EchoedChallenge<'_>) -> bool {
    if echoed.realm != merchant.realm.as_str() {
        return false;
    }
    let slots = merchant.keys.prepare(&echoed.realm, &echoed.method, &echoed.intent, &echoed.request);
    is_ours(&slots, IdForm::SelfContained, id, echoed)
}

/// Whether what is echoed is for just this request, if it is ours.
pub(super) fn may_be_for(merchant: &Inner, requested: &Requested<'_>, echoed: &EchoedChallenge<'_>) -> bool {
    let is_for = |opaque| is_for_scope(opaque, requested.scope);
    fits(echoed, merchant, requested.digest) && echoed.opaque.as_deref().is_some_and(is_for)
}

/// Whether a key of the merchant binds the id to the parameters that are echoed beside it.
fn is_ours(slots: &BoundSlots, ids: IdForm, id: &ChallengeId, echoed: &EchoedChallenge<'_>) -> bool {
    let (Some(expires), Some(opaque)) = (echoed.expires.as_deref(), echoed.opaque.as_deref()) else { return false };
    let digest = echoed.digest.as_deref().unwrap_or_default();
    // A challenge of the other form was issued before the route was told to make this one.
    slots.verify(id, expires, digest, opaque)
        || (ids == IdForm::SelfContained && token::verify(slots, id, expires, digest, opaque))
}

/// What is not under the offer's own HMAC slots, or must be the same text as well as bound.
fn fits(echoed: &EchoedChallenge<'_>, merchant: &Inner, digest: Option<&ContentDigest>) -> bool {
    let mut buffer = [0; ContentDigest::TEXT_LEN];
    let expected = digest.map(|digest| digest.encode(&mut buffer));
    echoed.realm == merchant.realm.as_str() && echoed.digest.as_deref() == expected
}
