//! A rail with a ledger of what it has charged and given back, and faults around every call.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use serde::Deserialize;
use std::time::Duration;
use tower_mpp::{
    method::{
        Attempt, Checked, DeclineReason, Declined, Fault as RailFault, OfferRequest, Payment, PaymentMethod,
        RefundError, RefundRequest, Refunded, SettleError, Settlement, Unknown, VerifyError,
    },
    protocol::{ChallengeId, Intent, MethodId, Price},
};

use crate::{
    schedule::{Call, Fault},
    world::World,
};

/// Longer than any run lasts: the rail would take a transaction for ever.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What the rail knows of one challenge.
#[derive(Debug, Default)]
struct Account {
    charges: usize,
    /// The payload that was charged.
    paid_with: Option<String>,
    /// Somebody was told that this payload is declined and moves no money: it never does.
    declined: HashSet<String>,
    /// Somebody has asked in the way of a resumed payment: first attempts may be late ones.
    resumed: bool,
}

pub(crate) struct Ledger {
    world: Arc<World>,
    accounts: Mutex<HashMap<ChallengeId, Account>>,
}

impl Ledger {
    pub(crate) fn new(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self { world, accounts: Mutex::default() })
    }

    /// How often a challenge was charged.
    pub(crate) fn charges(&self, id: ChallengeId) -> usize {
        self.accounts.lock().unwrap().get(&id).map_or(0, |account| account.charges)
    }

    /// Whether this payload has paid the challenge.
    pub(crate) fn has_charged(&self, id: ChallengeId, payload: &str) -> bool {
        let accounts = self.accounts.lock().unwrap();
        accounts.get(&id).is_some_and(|account| account.charges > 0 && account.paid_with.as_deref() == Some(payload))
    }

    /// Says no for good, unless the money has moved already.
    fn decline(&self, id: ChallengeId, payload: &str) -> Result<(), Declined> {
        let mut accounts = self.accounts.lock().unwrap();
        let account = accounts.entry(id).or_default();
        if account.charges > 0 {
            return Ok(());
        }
        account.declined.insert(payload.to_owned());
        Err(declined())
    }

    fn verify(&self, id: ChallengeId, payload: &str, attempt: Attempt) -> Result<(), Declined> {
        let mut accounts = self.accounts.lock().unwrap();
        let account = accounts.entry(id).or_default();
        account.resumed |= attempt == Attempt::Resumed;
        if account.charges == 0 && account.declined.contains(payload) { Err(declined()) } else { Ok(()) }
    }

    /// Moves the money, once. `attempt` is `None` for the second of two equal requests.
    fn charge(&self, id: ChallengeId, payload: &str, attempt: Option<Attempt>) -> Result<(), Declined> {
        let mut accounts = self.accounts.lock().unwrap();
        let account = accounts.entry(id).or_default();
        account.resumed |= attempt == Some(Attempt::Resumed);
        if account.charges > 0 {
            if account.paid_with.as_deref() != Some(payload) {
                self.world.wrong(format!("{id} is charged with {payload} after it was charged: {account:?}"));
            }
            // What a rail without an idempotency key would do.
            if attempt == Some(Attempt::First) && !account.resumed {
                account.charges += 1;
                self.world.wrong(format!("{id} is charged for the first time again"));
            }
            return Ok(());
        }
        if account.declined.contains(payload) {
            return Err(declined());
        }
        account.charges = 1;
        account.paid_with = Some(payload.to_owned());
        let same = |other: &Account| other.charges > 0 && other.paid_with.as_deref() == Some(payload);
        if is_exclusive(payload) && accounts.values().filter(|other| same(other)).count() > 1 {
            self.world.wrong(format!("{payload} has paid twice"));
        }
        self.world.note(|| format!("rail: {id} is charged"));
        Ok(())
    }
}

fn declined() -> Declined {
    Declined::new(DeclineReason::Refused, "The card was declined.")
}

fn is_exclusive(payload: &str) -> bool {
    payload.contains("transaction")
}

#[derive(Deserialize)]
struct Payload {
    transaction: Option<u8>,
}

/// The rail as the merchant sees it.
pub(crate) struct FaultyRail {
    pub(crate) world: Arc<World>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) id: MethodId,
    pub(crate) yields: usize,
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

    async fn verify(&self, payment: &Payment, attempt: Attempt) -> Result<(), VerifyError> {
        let (ledger, id, payload) =
            (Arc::clone(&self.ledger), payment.challenge_id(), payment.payload_json().to_owned());
        let verify = {
            let (ledger, payload) = (Arc::clone(&ledger), payload.clone());
            move || Ok(ledger.verify(id, &payload, attempt)?)
        };
        let failed = |fault| match fault {
            Fault::Declined => Ok(ledger.decline(id, &payload)?),
            _ => Err(RailFault::new("401 from the rail").into()),
        };
        self.world.through(Call::RailVerify, self.yields, verify, failed).await
    }

    async fn settle(&self, payment: &Payment, attempt: Attempt) -> Result<Settlement, SettleError> {
        let (ledger, id, payload) =
            (Arc::clone(&self.ledger), payment.challenge_id(), payment.payload_json().to_owned());
        let settled = Settlement::new(format!("ref_{id}"), payment.now()).payer(payment.claimed_payer());
        let charge = {
            let (ledger, payload, settled) = (Arc::clone(&ledger), payload.clone(), settled.clone());
            // Whatever comes after the first execution is the same request once more.
            let first = Mutex::new(Some(attempt));
            move || -> Result<Settlement, SettleError> {
                ledger.charge(id, &payload, first.lock().unwrap().take())?;
                Ok(settled.clone())
            }
        };
        let failed = |fault| match fault {
            Fault::Declined => {
                ledger.decline(id, &payload)?;
                Ok(settled.clone())
            }
            Fault::Error => Err(RailFault::new("401 from the rail").into()),
            _ => Err(Unknown::new("the reply was lost").into()),
        };
        self.world.through(Call::RailSettle, self.yields, charge, failed).await
    }

    async fn refund(&self, _: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        Err(RefundError::Unsupported)
    }
}
