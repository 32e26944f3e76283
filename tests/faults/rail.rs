//! A rail with a ledger of what it has charged and given back, and faults around every call.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde::Deserialize;
use tower_mpp::{
    method::{
        Attempt, Authorization, Authorized, Checked, DeclineReason, Declined, Fault as RailFault, LostPayment,
        OfferRequest, Payment, PaymentMethod, RefundError, RefundRequest, Refunded, Resolution, SettleError,
        Settlement, Unknown, VerifyError,
    },
    protocol::{ChallengeId, Intent, MethodId, Price},
    store::End,
};

use crate::{
    model::Phase,
    schedule::{Call, Fault},
    world::World,
};

/// Longer than any run lasts: the rail would take a transaction for ever.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What the rail knows of one challenge.
#[derive(Debug, Default)]
struct Account {
    /// What was charged, and with which payload.
    paid: Option<(String, Settlement)>,
    /// Somebody was told that this payload is declined and moves no money: it never does.
    declined: HashSet<String>,
    /// Nobody may complete it any more.
    ended: bool,
    /// Money that was held, and whether it still is. Each is made when the one before was let go.
    holds: Vec<bool>,
    /// How many were let go.
    rounds: usize,
}

/// What the rail has done. Every request can be sent twice.
pub(crate) struct Ledger {
    world: Arc<World>,
    accounts: Mutex<HashMap<ChallengeId, Account>>,
}

impl Ledger {
    pub(crate) fn new(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self { world, accounts: Mutex::default() })
    }

    fn account<T>(&self, id: ChallengeId, work: impl FnOnce(&mut Account) -> T) -> T {
        work(self.accounts.lock().unwrap().entry(id).or_default())
    }

    /// Whether this payload has paid the challenge.
    pub(crate) fn has_charged(&self, id: ChallengeId, payload: &str) -> bool {
        self.account(id, |account| account.paid.as_ref().is_some_and(|(paid, _)| paid == payload))
    }

    /// Whether money of a payer is held that nobody has taken or let go.
    pub(crate) fn is_holding(&self, id: ChallengeId) -> bool {
        self.account(id, |account| account.paid.is_none() && account.holds.contains(&true))
    }

    /// Says no for good, unless the money has moved already.
    fn decline(&self, id: ChallengeId, payload: &str) -> Result<(), Declined> {
        self.account(id, |account| {
            if account.paid.is_some() {
                return Ok(());
            }
            account.declined.insert(payload.to_owned());
            account.holds.fill(false);
            Err(declined())
        })
    }

    fn verify(&self, id: ChallengeId, payload: &str) -> Result<(), Declined> {
        self.account(id, |account| match account.paid.is_none() && account.refuses(payload) {
            true => Err(declined()),
            false => Ok(()),
        })
    }

    /// Moves the money, once. `hold` is the one that is captured.
    fn charge(&self, payment: &Known, hold: Option<usize>) -> Result<Settlement, Declined> {
        let Known { id, payload, settlement } = payment;
        let mut accounts = self.accounts.lock().unwrap();
        let account = accounts.entry(*id).or_default();
        let let_go = hold.is_some_and(|hold| !account.holds.get(hold).is_some_and(|open| *open));
        if let Some((paid, settlement)) = &account.paid {
            if paid != payload {
                // What was let go takes no money, however late it is asked for.
                if let_go {
                    return Err(declined());
                }
                self.world.wrong(format!("{id} is charged with {payload} after it was charged with {paid}"));
            }
            return Ok(settlement.clone());
        }
        if account.refuses(payload) || let_go {
            return Err(declined());
        }
        account.paid = Some((payload.clone(), settlement.clone()));
        let same = |other: &&Account| other.paid.as_ref().is_some_and(|(paid, _)| paid == payload);
        if is_exclusive(payload) && accounts.values().filter(same).count() > 1 {
            self.world.wrong(format!("{payload} has paid twice"));
        }
        drop(accounts);
        self.world.note(|| format!("rail: {id} is charged"));
        let phase = self.world.about(*id, |facts| {
            facts.charges += 1;
            facts.phase
        });
        if phase != Some(Phase::Held) {
            self.world.wrong(format!("{id} is charged, and in the journal it is {phase:?}"));
        }
        Ok(settlement.clone())
    }

    /// Holds the money, or finds what holds it. Requests between two that let go are one request.
    fn authorize(&self, payment: &Known, round: usize) -> Result<Authorized, Declined> {
        self.account(payment.id, |account| {
            if let Some((_, settlement)) = &account.paid {
                return Ok(Authorized::Settled(settlement.clone()));
            }
            if account.refuses(&payment.payload) {
                return Err(declined());
            }
            if account.holds.len() <= round {
                account.holds.push(true);
            }
            Ok(Authorized::Pending(Authorization::new(round.to_string())))
        })
    }

    fn cancel(&self, id: ChallengeId, hold: usize) -> Result<(), Unknown> {
        self.account(id, |account| {
            if account.paid.is_some() {
                return Err(Unknown::new("it was captured"));
            }
            account.holds[hold] = false;
            account.rounds = account.rounds.max(hold + 1);
            Ok(())
        })
    }

    fn resolve(&self, id: ChallengeId) -> Resolution {
        self.account(id, |account| match &account.paid {
            Some((_, settlement)) => Resolution::Settled(settlement.clone()),
            None => {
                account.ended = true;
                account.holds.fill(false);
                Resolution::NotCharged
            }
        })
    }

    /// Gives the money back, once.
    fn refund(&self, id: ChallengeId) {
        let charged = self.account(id, |account| account.paid.is_some());
        let facts = self.world.about(id, |facts| {
            let before = *facts;
            facts.refunds = 1;
            before
        });
        if facts.refunds > 0 {
            return;
        }
        self.world.note(|| format!("rail: {id} is given back"));
        if !charged {
            self.world.wrong(format!("{id} is given back and was never charged"));
        }
        if facts.delivered && !facts.asked_back {
            self.world.wrong(format!("{id} is given back unasked, and was delivered"));
        }
        if !matches!(facts.phase, Some(Phase::Refunding(_) | Phase::Spent(End::Refunded))) {
            self.world.wrong(format!("{id} is given back, and in the journal it is {:?}", facts.phase));
        }
    }
}

impl Account {
    fn refuses(&self, payload: &str) -> bool {
        self.ended || self.declined.contains(payload)
    }
}

fn declined() -> Declined {
    Declined::new(DeclineReason::Refused, "The card was declined.")
}

fn fault() -> RailFault {
    RailFault::new("401 from the rail")
}

fn unknown() -> Unknown {
    Unknown::new("the reply was lost")
}

fn is_exclusive(payload: &str) -> bool {
    payload.contains("transaction")
}

#[derive(Deserialize)]
struct Payload {
    transaction: Option<u8>,
}

/// What a request to the rail says.
#[derive(Clone)]
struct Known {
    id: ChallengeId,
    payload: String,
    settlement: Settlement,
}

/// The rail as the merchant sees it.
#[derive(Clone)]
pub(crate) struct FaultyRail {
    pub(crate) world: Arc<World>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) id: MethodId,
    pub(crate) yields: usize,
}

impl FaultyRail {
    fn known(payment: &Payment) -> Known {
        let id = payment.challenge_id();
        let settlement = Settlement::new(format!("ref_{id}"), payment.now()).payer(payment.claimed_payer());
        Known { id, payload: payment.payload_json().to_owned(), settlement }
    }

    /// A call that takes money, or makes sure of it.
    async fn take<T: Send + 'static>(
        &self,
        call: Call,
        known: &Known,
        work: impl Fn(&Ledger, &Known) -> Result<T, Declined> + Clone + Send + 'static,
    ) -> Result<T, SettleError> {
        let execute = {
            let (ledger, known, work) = (Arc::clone(&self.ledger), known.clone(), work.clone());
            move || Ok(work(&ledger, &known)?)
        };
        let failed = |wrong| match wrong {
            Fault::Declined => {
                self.ledger.decline(known.id, &known.payload)?;
                Ok(work(&self.ledger, known)?)
            }
            Fault::Error => Err(fault().into()),
            _ => Err(unknown().into()),
        };
        self.world.through(call, self.yields, execute, failed).await
    }
}

#[async_trait]
impl PaymentMethod for FaultyRail {
    fn method(&self) -> &MethodId {
        &self.id
    }

    fn intent(&self) -> &Intent {
        &Intent::CHARGE
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        Some(OfferRequest::of(price))
    }

    fn check(&self, payment: &Payment) -> Result<Checked, Declined> {
        let payload: Payload = payment.payload()?;
        Ok(match payload.transaction {
            Some(n) => Checked::exclusive(payment.spend_key([n])).remember_for(REMEMBERED),
            None => Checked::bound(),
        })
    }

    async fn verify(&self, payment: &Payment, _: Attempt) -> Result<(), VerifyError> {
        let known = Self::known(payment);
        let verify = {
            let (ledger, known) = (Arc::clone(&self.ledger), known.clone());
            move || Ok(ledger.verify(known.id, &known.payload)?)
        };
        let failed = |wrong| match wrong {
            Fault::Declined => Ok(self.ledger.decline(known.id, &known.payload)?),
            _ => Err(fault().into()),
        };
        self.world.through(Call::RailVerify, self.yields, verify, failed).await
    }

    async fn settle(&self, payment: &Payment, _: Attempt) -> Result<Settlement, SettleError> {
        let known = Self::known(payment);
        self.take(Call::RailSettle, &known, |ledger, known| ledger.charge(known, None)).await
    }

    fn can_settle_after(&self) -> bool {
        true
    }

    async fn authorize(&self, payment: &Payment, _: Attempt) -> Result<Authorized, SettleError> {
        let known = Self::known(payment);
        let round = self.ledger.account(known.id, |account| account.rounds);
        self.take(Call::RailAuthorize, &known, move |ledger, known| ledger.authorize(known, round)).await
    }

    async fn capture(
        &self,
        payment: &Payment,
        authorization: &Authorization,
        _: Attempt,
    ) -> Result<Settlement, SettleError> {
        let (known, hold) = (Self::known(payment), hold_of(authorization));
        self.take(Call::RailCapture, &known, move |ledger, known| ledger.charge(known, Some(hold))).await
    }

    async fn cancel(&self, payment: &Payment, authorization: &Authorization) -> Result<(), Unknown> {
        let (ledger, id, hold) = (Arc::clone(&self.ledger), payment.challenge_id(), hold_of(authorization));
        let cancel = move || ledger.cancel(id, hold);
        self.world.through(Call::RailCancel, self.yields, cancel, |_| Err(unknown())).await
    }

    async fn resolve(&self, lost: LostPayment<'_>) -> Result<Resolution, Unknown> {
        let (ledger, id) = (Arc::clone(&self.ledger), lost.challenge_id);
        let resolve = move || Ok(ledger.resolve(id));
        self.world.through(Call::RailResolve, self.yields, resolve, |_| Err(unknown())).await
    }

    async fn refund(&self, refund: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        let (ledger, id) = (Arc::clone(&self.ledger), refund.challenge_id);
        let again = self.world.facts(id).refunds > 0;
        if refund.settlement.reference != format!("ref_{id}") {
            self.world.wrong(format!("{id} is given back by {:?}", refund.settlement));
        }
        let give_back = move || {
            ledger.refund(id);
            Ok(Refunded::new(format!("back_{id}")))
        };
        let failed = |wrong| match wrong {
            Fault::Declined if !again => Err(RefundError::Refused("disputed".into())),
            Fault::Declined => Ok(Refunded::new(format!("back_{id}"))),
            Fault::Error => Err(fault().into()),
            _ => Err(unknown().into()),
        };
        self.world.through(Call::RailRefund, self.yields, give_back, failed).await
    }
}

fn hold_of(authorization: &Authorization) -> usize {
    authorization.reference().unwrap().parse().unwrap()
}
