//! Settling after the handler: the payment is made sure of, the handler works, and only for an answer that
//! can be delivered the money is taken, before any of it leaves.

use std::{fmt, pin::pin, sync::Arc};

use tracing::Instrument as _;

use super::{
    ConfigError, Delivery, Inner, NotServed, OfferBook, PaymentInfo, Refusal, RefusalKind,
    bind::Bound,
    events,
    gate::{Gate, deliver, keeping, store_step},
    repeat,
    tasks::{Detached, InFlight, within},
};
use crate::{
    method::{Attempt, Authorization, Payer, SettleError, Settlement, Unknown},
    protocol::{Amount, ChallengeId, Currency, Intent, MethodId},
    store::{Lease, Release, StoreError, StoreErrorKind},
};

/// When the money of a route is taken.
///
/// | | `BeforeHandler` | `AfterHandler` |
/// |---|---|---|
/// | the handler runs | for money that has moved | for a proof that was checked, or money that is held |
/// | the handler fails (anything but 2xx and 101) | paid: the same credential is delivered without a second charge | nothing is charged, the same credential is good again until it expires |
/// | the client hangs up while the handler works | as above | as above |
/// | the rail says no | the handler never runs | 402; the handler has worked for nothing, and its answer is dropped |
/// | the outcome is unknown | 503; the same credential resumes | 503; the answer is dropped, the same credential resumes |
/// | the handler has [`PaymentInfo`] | always | only when it was settled by an earlier request; [`PendingPayment`] always |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SettleTiming {
    /// The money is taken, and then the handler is called.
    #[default]
    BeforeHandler,
    /// The payment is made sure of, the handler is called, and the money is taken for its 2xx before any of
    /// it leaves. For handlers that fail now and then and do nothing that matters when they do. A payer can
    /// make the handler work for nothing, within what the rail lets through.
    AfterHandler,
}

/// Whether all methods that a route may offer can do what it wants.
pub(crate) fn check_timing(merchant: &Inner, book: &OfferBook, timing: SettleTiming) -> Result<(), ConfigError> {
    let offered =
        |id: &MethodId, intent: &Intent| book.fixed().is_none_or(|offers| offers.has(id.as_str(), intent.as_str()));
    let cannot = merchant.methods.iter().find(|method| {
        timing == SettleTiming::AfterHandler && !method.can_settle_after() && offered(method.method(), method.intent())
    });
    cannot.map_or(Ok(()), |method| Err(ConfigError::SettleTiming(method.method().clone())))
}

/// A payment that is good and whose money has yet to be taken: what the handler of a route with
/// [`SettleTiming::AfterHandler`] finds in the extensions of its request, always. With the feature `axum`
/// it is an extractor.
///
/// It is a type of its own because there is no reference, no receipt and no instant of settlement yet: a
/// [`PaymentInfo`] says that money has moved. Where an earlier request has settled the payment and was not
/// delivered, the handler finds that one as well. Outer layers find it in the extensions of the answer, as on
/// any route.
///
/// Cheap to clone. It holds no secret.
#[derive(Clone)]
pub struct PendingPayment(Arc<Details>);

struct Details {
    challenge_id: ChallengeId,
    method: MethodId,
    intent: Intent,
    amount: Amount,
    currency: Currency,
    payer: Option<Payer>,
    test_mode: bool,
}

impl PendingPayment {
    fn of_bound(bound: &Bound) -> Self {
        Self(Arc::new(Details {
            challenge_id: bound.payment.id,
            method: bound.payment.method.clone(),
            intent: bound.method.intent().clone(),
            amount: bound.payment.amount(),
            currency: bound.payment.currency().clone(),
            payer: bound.payment.claimed_payer(),
            test_mode: bound.method.is_test(),
        }))
    }

    fn of_settled(info: &PaymentInfo) -> Self {
        Self(Arc::new(Details {
            challenge_id: info.challenge_id(),
            method: info.method().clone(),
            intent: info.intent().clone(),
            amount: info.amount(),
            currency: info.currency().clone(),
            payer: info.payer().cloned(),
            test_mode: info.is_test(),
        }))
    }

    /// The challenge that is being paid. Unique per payment: use it to correlate. The same one comes again
    /// when the handler fails and the client repeats its request.
    pub fn challenge_id(&self) -> ChallengeId {
        self.0.challenge_id
    }

    /// The payment method, for instance `stripe`.
    pub fn method(&self) -> &MethodId {
        &self.0.method
    }

    /// The intent, for instance `charge`.
    pub fn intent(&self) -> &Intent {
        &self.0.intent
    }

    /// What is to be paid, in minor units of [`currency`](Self::currency).
    pub fn amount(&self) -> Amount {
        self.0.amount
    }

    /// The currency or asset.
    pub fn currency(&self) -> &Currency {
        &self.0.currency
    }

    /// Who pays, if the credential says so. Not proved by the rail before the money has moved.
    pub fn payer(&self) -> Option<&Payer> {
        self.0.payer.as_ref()
    }

    /// Whether no real money moves.
    pub fn is_test(&self) -> bool {
        self.0.test_mode
    }
}

impl fmt::Debug for PendingPayment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingPayment")
            .field("challenge_id", &self.0.challenge_id)
            .field("method", &self.0.method)
            .field("amount", &self.0.amount)
            .field("currency", &self.0.currency)
            .finish_non_exhaustive()
    }
}

/// What is at hand once a payment was taken on.
pub(super) enum Money {
    Settled(Settlement),
    Pending(Authorization, Attempt),
}

/// The right to take the money of one payment. Dropped, it gives up what was authorised and the claim.
pub(super) struct Pending(Option<Box<Parts>>);

struct Parts {
    merchant: Arc<Inner>,
    bound: Bound,
    scope: String,
    lease: Lease,
    authorization: Authorization,
    attempt: Attempt,
    in_flight: InFlight,
}

impl Pending {
    pub(super) fn new(
        merchant: Arc<Inner>,
        bound: Bound,
        scope: String,
        lease: Lease,
        (authorization, attempt): (Authorization, Attempt),
        in_flight: InFlight,
    ) -> Self {
        Self(Some(Box::new(Parts { merchant, bound, scope, lease, authorization, attempt, in_flight })))
    }

    pub(super) fn lease(&self) -> Option<(&Arc<Inner>, Lease)> {
        self.0.as_ref().map(|parts| (&parts.merchant, parts.lease))
    }

    fn payment(&self) -> Option<PendingPayment> {
        self.0.as_ref().map(|parts| PendingPayment::of_bound(&parts.bound))
    }

    /// The handler has succeeded: takes the money.
    async fn capture(mut self) -> Result<Delivery, NotServed> {
        let fenced = match &self.0 {
            Some(parts) => fence(&parts.merchant, parts.lease).await,
            None => Ok(()),
        };
        if let Err(error) = fenced {
            if error.kind() == StoreErrorKind::LeaseLost {
                self.0 = None;
                return Err(Refusal::new(RefusalKind::InFlight).into());
            }
            // Money that cannot be written down is not taken; dropping this calls it off.
            return Err(Refusal::new(RefusalKind::Unavailable).retry_after_or_default(error.retry_after()).into());
        }
        let Some(parts) = self.0.take() else { return Err(Refusal::new(RefusalKind::OutcomeUnknown).into()) };
        let started = std::time::Instant::now();
        let Parts { merchant, bound, scope, lease, authorization, attempt, in_flight } = *parts;
        let settlement = {
            let gate = Gate::new(&merchant, &scope, &bound, SettleTiming::AfterHandler);
            let work = pin!(gate.capture(lease, &authorization, attempt));
            keeping(&merchant, lease, work).await.map_err(|refusal| refusal.of(bound.payment.id))?
        };
        deliver(merchant, &bound, lease, settlement, false, in_flight, started).await
    }
}

impl Parts {
    /// Gives up what was authorised, and then the claim.
    async fn try_call_off(&self) -> Result<(), StoreError> {
        let gate = Gate::new(&self.merchant, &self.scope, &self.bound, SettleTiming::AfterHandler);
        let work = pin!(gate.call_off(self.lease, &self.authorization));
        keeping(&self.merchant, self.lease, work).await
    }

    /// The same, more than once. What cannot be given up ends with its lease, and the same credential then
    /// finds what was authorised.
    async fn call_off(self: Box<Self>) {
        // What has failed was logged where it happened.
        let _ = repeat::insist(repeat::PATIENT, |_| {}, || self.try_call_off()).await;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(parts) = self.0.take() {
            let merchant = Arc::clone(&parts.merchant);
            merchant.tasks.spawn_from_drop(parts.call_off());
        }
    }
}

/// Nobody has taken the claim over, and the journal can be written: only then money is moved.
async fn fence(merchant: &Inner, lease: Lease) -> Result<(), StoreError> {
    let until = merchant.now().saturating_add(merchant.settings.lease);
    let renewed = store_step(merchant, merchant.store.renew(lease, until)).await;
    renewed.inspect_err(|error| events::journal_failed("renew", error, None))
}

impl Gate<'_> {
    async fn capture(
        &self,
        lease: Lease,
        authorization: &Authorization,
        attempt: Attempt,
    ) -> Result<Settlement, Refusal> {
        let (payment, method) = (&self.bound.payment, &self.bound.method);
        let limit = self.merchant.settings.rail_timeout;
        let settlement = match within(limit, method.capture(payment, authorization, attempt)).await {
            Some(Ok(settlement)) => settlement,
            Some(Err(SettleError::Declined(declined))) => return self.declined(lease, &declined).await,
            Some(Err(SettleError::Unknown(unknown))) => return self.unknown(lease, &unknown).await,
            Some(Err(SettleError::Fault(fault))) => {
                events::fault(method.method(), payment.id, &fault);
                return match self.cancel(authorization).await {
                    Ok(()) => {
                        let refusal = Refusal::new(RefusalKind::Unavailable);
                        self.give_up(lease, Release::NotCharged, refusal.retry_after_or_default(fault.retry_after()))
                            .await
                    }
                    Err(unknown) => self.unknown(lease, &unknown).await,
                };
            }
            None => return self.unknown(lease, &Unknown::new("settlement took too long")).await,
        };
        self.record_settlement(lease, settlement).await
    }

    async fn cancel(&self, authorization: &Authorization) -> Result<(), Unknown> {
        let cancelled = self.bound.method.cancel(&self.bound.payment, authorization);
        within(self.merchant.settings.rail_timeout, cancelled)
            .await
            .unwrap_or_else(|| Err(Unknown::new("cancelling took too long")))
    }

    /// Nothing was delivered, and nothing is charged for it.
    async fn call_off(&self, lease: Lease, authorization: &Authorization) -> Result<(), StoreError> {
        // Whoever has taken the claim over works with the same authorisation.
        if let Err(error) = fence(self.merchant, lease).await
            && error.kind() == StoreErrorKind::LeaseLost
        {
            return Err(error);
        }
        match self.cancel(authorization).await {
            Ok(()) => {
                let released = self.release(lease, Release::NotCharged).await;
                released
                    .inspect(|()| events::called_off(self.bound))
                    .inspect_err(|error| events::journal_failed("release", error, None))
            }
            Err(unknown) => {
                events::unknown(self.bound.method.method(), self.bound.payment.id, &unknown);
                let _ = self.release(lease, Release::Unknown).await;
                // Not to be tried again: the lease is given up.
                Err(StoreErrorKind::LeaseLost.into())
            }
        }
    }
}

impl Delivery {
    /// Whether the money has yet to be taken.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// What the handler is told of money that has yet to be taken.
    pub(crate) fn pending_payment(&self) -> Option<PendingPayment> {
        match &self.pending {
            Some(pending) => pending.payment(),
            None => self.info().map(PendingPayment::of_settled),
        }
    }

    /// Takes the money, detached from the connection.
    pub(crate) fn capture(mut self) -> Detached<Result<Self, NotServed>> {
        let pending = self.pending.take();
        let record = if pending.is_some() { self.record().take() } else { None };
        let span = pending.as_ref().and_then(|pending| pending.0.as_ref()).map(|it| events::payment_span(&it.bound));
        let capture = async move {
            match pending {
                Some(pending) => match pending.capture().await {
                    Ok(mut delivery) => {
                        delivery.record_with(record);
                        Ok(delivery)
                    }
                    Err(not_served) => {
                        if let (NotServed::Refused(refusal), Some(record)) = (&not_served, record) {
                            record.refused(refusal);
                        }
                        Err(not_served)
                    }
                },
                None => Ok(self),
            }
        };
        Detached::new(capture.instrument(span.unwrap_or_else(tracing::Span::none)))
    }

    /// Gives the payment up, detached from the connection: whether it is certain that nothing was charged.
    pub(crate) fn call_off(mut self) -> Detached<bool> {
        let parts = self.pending.take().and_then(|mut pending| pending.0.take());
        Detached::new(async move {
            let Some(parts) = parts else { return false };
            let Err(error) = parts.try_call_off().await else { return true };
            if error.kind() == StoreErrorKind::Unavailable {
                let merchant = Arc::clone(&parts.merchant);
                drop(merchant.tasks.spawn(parts.call_off()));
            }
            false
        })
    }
}
