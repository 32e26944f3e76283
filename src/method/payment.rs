//! What a payment method is given.

use std::{any::Any, fmt, ops::Range, sync::Arc, time::Duration};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Declined;
use crate::protocol::{
    Amount, ChallengeId, CredentialBytes, Currency, MethodId, Payer, Price, Realm, Settlement, SpendKey, Timestamp,
};

/// What a rail asks for in a challenge: the members of `request` (charge intent draft section 4).
#[derive(Clone, Debug, PartialEq)]
pub struct OfferRequest {
    pub(crate) amount: Amount,
    pub(crate) currency: Currency,
    pub(crate) recipient: Option<String>,
    pub(crate) method_details: serde_json::Map<String, serde_json::Value>,
}

impl OfferRequest {
    /// Asks for an amount in minor units of the currency that the rail settles in.
    pub fn new(amount: Amount, currency: Currency) -> Self {
        Self { amount, currency, recipient: None, method_details: serde_json::Map::new() }
    }

    /// Asks for the price as it is.
    pub fn of(price: &Price) -> Self {
        Self::new(price.amount(), price.currency().clone())
    }

    /// Who receives the money, in the rail's own form.
    #[must_use]
    pub fn recipient(mut self, recipient: impl Into<String>) -> Self {
        self.recipient = Some(recipient.into());
        self
    }

    /// Adds a member to `methodDetails`.
    #[must_use]
    pub fn method_detail(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.method_details.insert(name.to_owned(), value.into());
        self
    }
}

/// A credential that answers one of this merchant's own challenges, all of whose bindings have been
/// checked. Only the merchant makes one.
///
/// `Debug` does not print the payload: it is a bearer token.
pub struct Payment {
    pub(crate) id: ChallengeId,
    pub(crate) realm: Realm,
    pub(crate) method: MethodId,
    pub(crate) offer: Arc<OfferRequest>,
    pub(crate) expires: Timestamp,
    pub(crate) now: Timestamp,
    pub(crate) credential: CredentialBytes,
    pub(crate) payload: Range<usize>,
    pub(crate) source: Option<String>,
    pub(crate) context: Option<PaymentContext>,
}

/// What an outer layer knows about a request and a rail wants to know, for instance the address of the
/// client for a risk check. Put it into the extensions of the request; the rail finds it at
/// [`Payment::context`].
#[derive(Clone)]
pub struct PaymentContext(Arc<dyn Any + Send + Sync>);

impl PaymentContext {
    /// Wraps a value of any type.
    pub fn new<T: Send + Sync + 'static>(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl fmt::Debug for PaymentContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaymentContext(..)")
    }
}

impl Payment {
    /// The challenge that is paid.
    pub fn challenge_id(&self) -> ChallengeId {
        self.id
    }

    /// The merchant's realm.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// What was asked for, from the merchant's own configuration.
    pub fn offer(&self) -> &OfferRequest {
        &self.offer
    }

    /// The amount asked for, in minor units of [`currency`](Self::currency).
    pub fn amount(&self) -> Amount {
        self.offer.amount
    }

    /// The currency asked for.
    pub fn currency(&self) -> &Currency {
        &self.offer.currency
    }

    /// When the challenge expires.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The instant at which this step began, by the merchant's clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The `source` of the credential: who it claims to come from, usually a DID.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The payer that the credential claims, unproved.
    pub fn claimed_payer(&self) -> Option<Payer> {
        self.source.clone().map(Payer::claimed)
    }

    /// Reads the payload as the type that the method's specification defines. Members that are given
    /// twice are refused at every depth.
    ///
    /// # Errors
    /// [`Declined`] with a sentence for the payer when it has another form.
    pub fn payload<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Declined> {
        serde_json::from_str(self.payload_json()).map_err(|_| {
            Declined::invalid_proof("The payload does not have the form that this payment method defines.")
        })
    }

    /// The payload as it was sent: a JSON object without duplicate members.
    pub fn payload_json(&self) -> &str {
        self.credential.text(self.payload.clone())
    }

    /// What an outer layer put into a [`PaymentContext`], if it is of this type.
    pub fn context<T: 'static>(&self) -> Option<&T> {
        self.context.as_ref()?.0.downcast_ref()
    }

    /// Names a proof of this payment's rail for the journal.
    pub fn spend_key(&self, proof: impl AsRef<[u8]>) -> SpendKey {
        SpendKey::new(&self.method, proof)
    }

    /// Tells a retry of this credential from another payment for the same challenge.
    pub(crate) fn fingerprint(&self) -> SpendKey {
        let mut hash = Sha256::new();
        hash.update(self.id.as_bytes());
        hash.update(self.payload_json());
        SpendKey::from_bytes(hash.finalize().into())
    }
}

impl fmt::Debug for Payment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payment")
            .field("challenge_id", &self.id)
            .field("method", &self.method)
            .field("amount", &self.offer.amount)
            .field("currency", &self.offer.currency)
            .finish_non_exhaustive()
    }
}

/// What [`PaymentMethod::check`](super::PaymentMethod::check) found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub(crate) proof: Option<SpendKey>,
    pub(crate) remember_for: Option<Duration>,
}

impl Checked {
    /// The proof cannot pay another challenge by its nature: it is signed over the challenge id, or
    /// the rail itself refuses it elsewhere.
    pub fn bound() -> Self {
        Self::default()
    }

    /// The proof must not pay another challenge. It is claimed beside the challenge, see
    /// [`Payment::spend_key`].
    pub fn exclusive(proof: SpendKey) -> Self {
        Self { proof: Some(proof), remember_for: None }
    }

    /// How long a spent proof must be remembered, when that is longer than the challenge lives: as
    /// long as the rail would still take it.
    #[must_use]
    pub fn remember_for(mut self, duration: Duration) -> Self {
        self.remember_for = Some(duration);
        self
    }
}

/// Whether money may have moved for this payment already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Nobody has tried before.
    First,
    /// An earlier attempt ended with an unknown outcome: ask in a way that cannot charge twice.
    Resumed,
}

/// A payment whose outcome nobody knows, as the journal remembers it: what
/// [`PaymentMethod::resolve`](super::PaymentMethod::resolve) looks up.
#[derive(Clone, Copy, Debug)]
pub struct LostPayment<'a> {
    /// The challenge.
    pub challenge_id: ChallengeId,
    /// What was asked for, in minor units of `currency`.
    pub amount: Amount,
    /// The currency that was asked for.
    pub currency: &'a Currency,
    /// When the challenge expires. Before this instant the payer may still come back with the credential.
    pub expires: Timestamp,
    /// The present instant, by the merchant's clock.
    pub now: Timestamp,
}

/// What [`PaymentMethod::refund`](super::PaymentMethod::refund) gives back.
#[derive(Clone, Copy, Debug)]
pub struct RefundRequest<'a> {
    /// The challenge that was paid.
    pub challenge_id: ChallengeId,
    /// What was settled for it.
    pub settlement: &'a Settlement,
    /// How much to give back, in minor units of `currency`.
    pub amount: Amount,
    /// The currency that was settled.
    pub currency: &'a Currency,
}
