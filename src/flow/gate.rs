//! The gate: claim, verify, settle, journal. Everything here runs detached from the connection.

use std::{
    future::Future,
    io::Write as _,
    pin::{Pin, pin},
    sync::Arc,
};

use super::{
    Delivery, Inner, NotServed, PaymentInfo, PaymentOutcome, Redemption, Refusal, RefusalKind, ReplayAnswer,
    SettleTiming,
    after::{Money, Pending},
    answers::{self, Found},
    bind::{Bound, too_late},
    events, former, repeat,
    tasks::{InFlight, within},
};
use crate::{
    method::{Attempt, Authorized, DeclineReason, Declined, Fault, SettleError, Settlement, Unknown, VerifyError},
    protocol::{ChallengeId, Timestamp},
    store::{Claim, Claimed, End, EntryState, JournalEntry, Lease, Release, StoreError, StoreErrorKind},
};

/// Money has moved, the journal says so, and we hold the right to deliver. Only [`settle`] makes one.
pub(crate) struct Settled {
    pub(super) merchant: Arc<Inner>,
    pub(super) lease: Lease,
    pub(super) info: PaymentInfo,
    pub(super) in_flight: InFlight,
}

/// Takes the money for a bound payment, once, or makes sure of it. What comes out gives the lease back when
/// nobody is there any more to take it.
pub(crate) async fn settle(
    merchant: Arc<Inner>,
    bound: Bound,
    scope: String,
    timing: SettleTiming,
    redemption: Redemption,
    in_flight: InFlight,
) -> Result<Delivery, NotServed> {
    let started = std::time::Instant::now();
    let (lease, money, redelivery) = Gate { redemption, ..Gate::new(&merchant, &scope, &bound, timing) }
        .run()
        .await
        .map_err(|not_served| not_served.of(bound.payment.id))?;
    match money {
        Money::Settled(settlement) => {
            deliver(merchant, &bound, lease, settlement, redelivery, in_flight, started).await
        }
        Money::Pending(authorization, attempt) => {
            let held = (authorization, attempt);
            Ok(Delivery::pending(Pending::new(merchant, bound, scope, lease, held, in_flight)))
        }
    }
}

/// The money has moved.
pub(super) async fn deliver(
    merchant: Arc<Inner>,
    bound: &Bound,
    lease: Lease,
    settlement: Settlement,
    redelivery: bool,
    in_flight: InFlight,
    started: std::time::Instant,
) -> Result<Delivery, NotServed> {
    let info = PaymentInfo::new(
        bound.payment.id,
        bound.payment.method.clone(),
        bound.method.intent().clone(),
        bound.payment.amount(),
        bound.payment.currency().clone(),
        settlement,
        redelivery,
        bound.method.is_test(),
    );
    events::settled(&info, started.elapsed());
    let delivery = Delivery::new(Settled { merchant: Arc::clone(&merchant), lease, info, in_flight });
    keep_or_give_again(&merchant, delivery, bound, answers::Row::new(&merchant, lease, bound)).await
}

/// Where the answer was kept and found nobody, it is delivered now. Otherwise it is reserved.
async fn keep_or_give_again(
    merchant: &Arc<Inner>,
    mut delivery: Delivery,
    bound: &Bound,
    row: answers::Row,
) -> Result<Delivery, NotServed> {
    let redelivery = delivery.info().is_some_and(PaymentInfo::is_redelivery);
    if redelivery {
        // Whoever held the lease before may still be making an answer. It is kept by now, and found, or never.
        row.fence(merchant).await?;
        let given = match answers::look_up(merchant, bound.payment.id, bound.asked.as_ref()).await? {
            Found::Kept(kept) => Some(NotServed::Kept(kept)),
            Found::OtherRequest { complete: true } => Some(Refusal::new(RefusalKind::IdempotencyKeyReused).into()),
            Found::OtherKey { complete: true } => Some(Refusal::detailed(RefusalKind::AlreadyUsed, NOT_KEPT).into()),
            Found::Nothing | Found::Running | Found::OtherRequest { .. } | Found::OtherKey { .. } => None,
        };
        if let Some(given) = given {
            // Dropping the delivery gives the lease back.
            delivery.commit().await.map_err(|_| Refusal::new(RefusalKind::OutcomeUnknown))?;
            delivery.info().into_iter().for_each(events::delivered);
            delivery.end();
            return Err(given);
        }
    }
    if bound.asked.is_some() {
        delivery.keep_with(row.keeper(merchant).await);
    }
    Ok(delivery)
}

pub(super) struct Gate<'a> {
    pub(super) merchant: &'a Inner,
    scope: &'a str,
    pub(super) bound: &'a Bound,
    timing: SettleTiming,
    redemption: Redemption,
}

const NOT_KEPT: &str = "This credential was used before: its answer was delivered, and none is kept under this Idempotency-Key. Do not pay again unless you want the resource again: ask without a credential for a new challenge.";

type Won = (Lease, Money, bool);

impl<'a> Gate<'a> {
    pub(super) fn new(merchant: &'a Inner, scope: &'a str, bound: &'a Bound, timing: SettleTiming) -> Self {
        Self { merchant, scope, bound, timing, redemption: Redemption::Live }
    }

    async fn run(&self) -> Result<Won, NotServed> {
        if self.bound.too_late {
            return Err(self.too_late().await);
        }
        let not_taken = self.not_taken();
        if let Some(refusal) = &not_taken {
            self.look_for_money(refusal).await?;
        }
        match (self.claim().await?, not_taken) {
            // Somebody has taken its money back, or forgotten it, since the look.
            (Claimed::Won { lease, resumed: false }, Some(refusal)) => {
                self.give_up(lease, Release::NotCharged, refusal).await.map_err(NotServed::from)
            }
            (Claimed::Won { lease, resumed: true }, Some(_)) => {
                let refusal = Refusal::new(RefusalKind::OutcomeUnknown);
                self.give_up(lease, Release::Unknown, refusal).await.map_err(NotServed::from)
            }
            (Claimed::Settled { lease, .. }, Some(_)) if !self.is_redeemable() => {
                self.give_up(lease, Release::Undelivered, former::other_terms()).await.map_err(NotServed::from)
            }
            (claimed, _) => self.go_on(claimed).await,
        }
    }

    async fn go_on(&self, claimed: Claimed) -> Result<Won, NotServed> {
        match claimed {
            Claimed::Won { lease, resumed } => {
                let attempt = if resumed { Attempt::Resumed } else { Attempt::First };
                // Pinned here: a future that is handed on by value is kept twice.
                let work = pin!(self.take_money(lease, attempt));
                let money = keeping(self.merchant, lease, work).await?;
                Ok((lease, money, false))
            }
            Claimed::Settled { lease, settlement } => Ok((lease, Money::Settled(settlement), true)),
            Claimed::Busy => Err(self.busy().await),
            Claimed::OtherProof => Err(Refusal::new(RefusalKind::ProofUsed).into()),
            Claimed::Refunding => {
                let refusal = Refusal::new(RefusalKind::AlreadyUsed).with_outcome(PaymentOutcome::RefundPending);
                Err(refusal.into())
            }
            Claimed::Spent(end) => {
                let refusal = match (end, &self.bound.asked) {
                    (End::Delivered, Some(_)) => Refusal::detailed(RefusalKind::AlreadyUsed, NOT_KEPT),
                    _ => Refusal::new(RefusalKind::AlreadyUsed),
                };
                let refusal = match end {
                    End::Delivered => refusal,
                    End::Refunded => refusal.with_outcome(PaymentOutcome::Refunded),
                };
                let refusal = match self.merchant.settings.replay_answer {
                    ReplayAnswer::Forbidden => refusal,
                    ReplayAnswer::Challenge => refusal.with_challenge(),
                };
                Err(if end == End::Delivered { self.given_before(refusal).await } else { refusal.into() })
            }
        }
    }

    /// What is answered where no money is taken any more, or not yet, and none has moved.
    fn not_taken(&self) -> Option<Refusal> {
        let former = self.bound.former.as_ref().map(|former| former.otherwise.clone());
        former.or_else(|| self.redemption.refusal())
    }

    /// What was paid may be delivered for this request.
    fn is_redeemable(&self) -> bool {
        self.bound.former.as_ref().is_none_or(|former| former.redeemable)
    }

    /// Where payments are not taken: goes on for money that has moved before, and for nothing else. Only looks.
    async fn look_for_money(&self, refusal: &Refusal) -> Result<(), NotServed> {
        let entry = find(self.merchant, self.bound.payment.id).await?;
        match entry.map(|entry| (entry.proof == self.bound.proof(), entry.state)) {
            None => Err(self.given_before(refusal.clone()).await),
            // Somebody is at work on it, or was. To ask the rail again might be to charge: the sweeper finds out.
            Some((_, EntryState::Held)) => Err(Refusal::new(RefusalKind::OutcomeUnknown).into()),
            Some((true, EntryState::Settled { .. })) if !self.is_redeemable() => {
                Err(self.given_before(former::other_terms()).await)
            }
            Some(_) => Ok(()),
        }
    }

    /// The credential can buy nothing any more. What became of its money is said all the same: who has paid
    /// must not be asked to pay again.
    async fn too_late(&self) -> NotServed {
        let id = self.bound.payment.id;
        let entry = match find(self.merchant, id).await {
            Ok(entry) => entry,
            Err(refusal) => return refusal.into(),
        };
        let outcome = match entry.filter(|entry| entry.proof == self.bound.proof()).map(|entry| entry.state) {
            None => {
                let refusal = self.not_taken().unwrap_or_else(|| too_late(id));
                return self.given_before(refusal).await;
            }
            Some(EntryState::Held) => return Refusal::new(RefusalKind::OutcomeUnknown).into(),
            Some(EntryState::Spent { end: End::Delivered, .. }) => {
                return self.given_before(Refusal::new(RefusalKind::AlreadyUsed)).await;
            }
            Some(EntryState::Spent { end: End::Refunded, .. }) => PaymentOutcome::Refunded,
            Some(EntryState::Refunding { .. }) => PaymentOutcome::RefundPending,
            Some(EntryState::Settled { .. }) => PaymentOutcome::Unfulfilled,
        };
        const LATE: &str = "This payment was taken before and came too late to be redeemed: see Payment-Outcome.";
        Refusal::detailed(RefusalKind::AlreadyUsed, LATE).with_outcome(outcome).into()
    }

    /// What was delivered before: the answer, where it was kept, or else a refusal.
    async fn given_before(&self, otherwise: Refusal) -> NotServed {
        let Some(asked) = &self.bound.asked else { return otherwise.into() };
        let refusal = match answers::look_up(self.merchant, self.bound.payment.id, Some(asked)).await {
            Ok(Found::Kept(kept)) => return NotServed::Kept(kept),
            Ok(Found::Running) => {
                let detail = "The first request with this Idempotency-Key is still being answered.";
                Refusal::detailed(RefusalKind::InFlight, detail)
            }
            Ok(Found::OtherRequest { .. }) => Refusal::new(RefusalKind::IdempotencyKeyReused),
            Ok(Found::Nothing | Found::OtherKey { .. }) => otherwise,
            Err(refusal) => refusal,
        };
        refusal.into()
    }

    /// Somebody else is at work, for the same request unless its key says otherwise.
    async fn busy(&self) -> NotServed {
        if let Some(asked) = &self.bound.asked
            && let Ok(Found::OtherRequest { .. }) =
                answers::look_up(self.merchant, self.bound.payment.id, Some(asked)).await
        {
            return Refusal::new(RefusalKind::IdempotencyKeyReused).into();
        }
        Refusal::new(RefusalKind::InFlight).into()
    }

    async fn claim(&self) -> Result<Claimed, Refusal> {
        let payment = &self.bound.payment;
        let now = payment.now;
        let remembered = self.bound.checked.remember_for.map(|duration| now.saturating_add(duration));
        let keep_until = self.merchant.keep_until(payment.expires);
        let claim = Claim {
            id: payment.id,
            proof: self.bound.proof(),
            now,
            lease_until: now.saturating_add(self.merchant.settings.lease),
            keep_until: remembered.map_or(keep_until, |remembered| remembered.max(keep_until)),
            record: self.record(),
        };
        first_step(self.merchant, "claim", self.merchant.store.claim(claim)).await
    }

    /// What somebody needs who finds the entry unfinished. Nothing secret.
    fn record(&self) -> Arc<[u8]> {
        let payment = &self.bound.payment;
        // Each of these texts is bounded by its type, to 600 bytes in all, and none needs an escape.
        let mut json = [0; 768];
        let mut rest = json.as_mut_slice();
        let _ = write!(
            rest,
            r#"{{"method":"{}","intent":"{}","amount":"{}","currency":"{}","scope":"{}","expires":"{}"}}"#,
            payment.method,
            self.bound.method.intent(),
            payment.amount(),
            payment.currency(),
            self.scope,
            payment.expires,
        );
        let unused = rest.len();
        json.get(..json.len() - unused).unwrap_or_default().into()
    }

    /// Verify, settle, journal, with the lease held. Or verify and authorise.
    async fn take_money(&self, lease: Lease, attempt: Attempt) -> Result<Money, Refusal> {
        let payment = &self.bound.payment;
        // A lost lease of an expired challenge may have moved money; a first one must not any more.
        let too_late = || attempt == Attempt::First && self.merchant.now() >= payment.expires;
        if self.bound.expired && attempt == Attempt::First {
            return self.give_up(lease, Release::NotCharged, Refusal::new(RefusalKind::PaymentExpired)).await;
        }
        match within(self.merchant.settings.rail_timeout, self.bound.method.verify(payment, attempt)).await {
            Some(Ok(())) => {}
            Some(Err(VerifyError::Declined(declined))) => return self.declined(lease, &declined).await,
            Some(Err(VerifyError::Fault(fault))) => return self.fault(lease, attempt, &fault).await,
            None => return self.fault(lease, attempt, &Fault::new("verification took too long")).await,
        }
        if too_late() {
            return self.give_up(lease, Release::NotCharged, Refusal::new(RefusalKind::PaymentExpired)).await;
        }
        let taken = async {
            match self.timing {
                SettleTiming::BeforeHandler => {
                    self.bound.method.settle(payment, attempt).await.map(Authorized::Settled)
                }
                SettleTiming::AfterHandler => self.bound.method.authorize(payment, attempt).await,
            }
        };
        let settlement = match within(self.merchant.settings.rail_timeout, taken).await {
            Some(Ok(Authorized::Settled(settlement))) => settlement,
            Some(Ok(Authorized::Pending(authorization))) => return Ok(Money::Pending(authorization, attempt)),
            Some(Err(SettleError::Declined(declined))) => return self.declined(lease, &declined).await,
            Some(Err(SettleError::Fault(fault))) => return self.fault(lease, attempt, &fault).await,
            Some(Err(SettleError::Unknown(unknown))) => return self.unknown(lease, &unknown).await,
            None => return self.unknown(lease, &Unknown::new("settlement took too long")).await,
        };
        self.record_settlement(lease, settlement).await.map(Money::Settled)
    }

    /// The rail says that the money has moved.
    pub(super) async fn record_settlement(
        &self,
        lease: Lease,
        mut settlement: Settlement,
    ) -> Result<Settlement, Refusal> {
        // Milliseconds: there are clients that cannot read more.
        let now = self.merchant.now();
        settlement.settled_at = Timestamp::from_unix_millis(now.unix_millis()).unwrap_or(now);
        self.journal(lease, &settlement).await?;
        Ok(settlement)
    }

    /// Records the settlement. The money has moved: this is tried more than once, and when it fails the
    /// outcome stays unknown to the journal, so that the same credential finds its way back here.
    async fn journal(&self, lease: Lease, settlement: &Settlement) -> Result<(), Refusal> {
        let failed = |error: &StoreError| events::journal_failed("settle", error, Some(&settlement.reference));
        let step = || self.store(self.merchant.store.settle(lease, settlement));
        if repeat::insist(repeat::SETTLED, failed, step).await.is_ok() {
            return Ok(());
        }
        let _ = self.release(lease, Release::Unknown).await;
        Err(Refusal::new(RefusalKind::OutcomeUnknown))
    }

    pub(super) async fn declined<T>(&self, lease: Lease, declined: &Declined) -> Result<T, Refusal> {
        let refusal = Refusal::declined(declined, self.bound.payment.id);
        self.give_up(lease, Release::NotCharged, refusal).await
    }

    async fn fault<T>(&self, lease: Lease, attempt: Attempt, fault: &Fault) -> Result<T, Refusal> {
        events::fault(self.bound.method.method(), self.bound.payment.id, fault);
        let (release, kind) = match attempt {
            Attempt::First => (Release::NotCharged, RefusalKind::Unavailable),
            Attempt::Resumed => (Release::Unknown, RefusalKind::OutcomeUnknown),
        };
        let refusal = Refusal::new(kind).retry_after_or_default(fault.retry_after());
        let _ = self.release(lease, release).await;
        Err(refusal)
    }

    pub(super) async fn unknown<T>(&self, lease: Lease, unknown: &Unknown) -> Result<T, Refusal> {
        events::unknown(self.bound.method.method(), self.bound.payment.id, unknown);
        let _ = self.release(lease, Release::Unknown).await;
        Err(Refusal::new(RefusalKind::OutcomeUnknown).retry_after_or_default(unknown.retry_after()))
    }

    /// Gives the claim up before an answer with a challenge. If the journal cannot do that, the payer
    /// must not be asked to pay again while the claim stands in the way.
    pub(super) async fn give_up<T>(&self, lease: Lease, reason: Release, refusal: Refusal) -> Result<T, Refusal> {
        match self.release(lease, reason).await {
            Ok(()) => Err(refusal),
            Err(error) => Err(unavailable("release", &error)),
        }
    }

    pub(super) async fn release(&self, lease: Lease, reason: Release) -> Result<(), StoreError> {
        self.store(self.merchant.store.release(lease, reason)).await
    }

    /// One step of the journal, within its time.
    async fn store<T>(&self, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        store_step(self.merchant, step).await
    }
}

/// Renews the lease for as long as `work` takes.
pub(super) async fn keeping<T>(merchant: &Inner, lease: Lease, mut work: Pin<&mut impl Future<Output = T>>) -> T {
    loop {
        if let Some(result) = within(merchant.settings.lease / 3, work.as_mut()).await {
            return result;
        }
        renew(merchant, lease).await;
    }
}

/// Moves the end of a lease. A lease that cannot be renewed is no reason to stop: the journal refuses
/// the next step if somebody else has taken over.
pub(super) async fn renew(merchant: &Inner, lease: Lease) {
    let until = merchant.now().saturating_add(merchant.settings.lease);
    if let Err(error) = store_step(merchant, merchant.store.renew(lease, until)).await {
        events::journal_failed("renew", &error, None);
    }
}

/// One step of the journal, within its time.
pub(super) async fn store_step<T>(
    merchant: &Inner,
    step: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    within(merchant.settings.store_timeout, step)
        .await
        .unwrap_or_else(|| Err(StoreError::unavailable("the payment journal did not answer in time")))
}

/// A look at an entry, before anything is done about it.
pub(super) async fn find(merchant: &Inner, id: ChallengeId) -> Result<Option<JournalEntry>, Refusal> {
    first_step(merchant, "find", merchant.store.find(id)).await
}

/// A step with which work on a payment begins: not taken while the journal is down.
async fn first_step<T>(
    merchant: &Inner,
    name: &'static str,
    step: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Refusal> {
    if let Err(pause) = merchant.breaker.admit() {
        return Err(Refusal::new(RefusalKind::Unavailable).retry_after_or_default(Some(pause)));
    }
    let result = store_step(merchant, step).await;
    let down = result.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::Unavailable);
    merchant.breaker.record(!down);
    result.map_err(|error| unavailable(name, &error))
}

fn unavailable(step: &'static str, error: &StoreError) -> Refusal {
    events::journal_failed(step, error, None);
    Refusal::new(RefusalKind::Unavailable).retry_after_or_default(error.retry_after())
}

impl Refusal {
    /// The rail's no, in words for the payer.
    pub(super) fn declined(declined: &Declined, id: ChallengeId) -> Self {
        let kind = match declined.reason() {
            DeclineReason::Insufficient => RefusalKind::PaymentInsufficient,
            DeclineReason::InvalidProof | DeclineReason::Refused => RefusalKind::VerificationFailed,
        };
        Self::detailed(kind, declined.detail().to_owned()).of(id)
    }
}
