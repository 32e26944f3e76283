//! What everybody knows of the payments, side by side.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use tower_mpp::{
    Clock as _, SystemClock,
    protocol::ChallengeId,
    store::{End, EntryState, JournalEntry, NonceStore, Page},
};

use crate::{client::Payment, shop::Shop};

/// What became of the payments, each of which was looked at from all sides.
#[derive(Debug, Default)]
pub struct Books {
    pub payments: usize,
    pub charges: usize,
    /// Whole answers at the client.
    pub delivered: usize,
    /// Delivered by the journal's book, but the connection broke before the first byte came.
    pub cut_before: usize,
    /// The connection broke within the answer.
    pub cut_within: usize,
    pub refunded: usize,
    /// Listed for the operator, and charged.
    pub open: usize,
    /// Listed for the operator, and not charged.
    pub in_doubt: usize,
    /// The client left before anything was charged.
    pub nothing: usize,
    /// Answers that the same key brought again.
    pub again: u32,
    pub executions: usize,
    pub broken: u32,
}

/// What may have gone wrong beside gateways that were killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// The server of the journal was restarted: it may have heard a step whose answer was lost.
    Journal,
}

/// All open money in the journal.
async fn listed(journal: &dyn NonceStore) -> Vec<ChallengeId> {
    let mut all = Vec::new();
    loop {
        let page = Page { now: SystemClock.now(), after: all.last().copied(), limit: 7, due: false };
        let entries = journal.unfinished(page).await.unwrap();
        if entries.is_empty() {
            return all;
        }
        all.extend(entries.iter().map(|entry| entry.id));
    }
}

impl Books {
    /// Compares them, with what the operator has `seen` as open as well. Leases are over, and nobody is at work.
    pub async fn balance(
        shop: &Shop,
        payments: &[Payment],
        journal: Option<&dyn NonceStore>,
        seen: &[ChallengeId],
        trouble: Trouble,
    ) -> Self {
        let mut books = Self { payments: payments.len(), ..Self::default() };
        let mut charges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for charge in shop.stripe.charges() {
            books.charges += 1;
            charges.entry(charge.token).or_default().push(charge.payment_intent);
        }
        let refunds: Vec<String> = shop.stripe.refunds().into_iter().map(|refund| refund.payment_intent).collect();
        let distinct: HashSet<&String> = refunds.iter().collect();
        assert_eq!(distinct.len(), refunds.len(), "refunded twice");
        let open = match journal {
            Some(journal) => Some(listed(journal).await),
            None => None,
        };
        for payment in payments {
            let charged = charges.remove(&payment.token).unwrap_or_default();
            assert!(charged.len() <= 1, "charged twice: {payment:?}");
            let charge = charged.first();
            let entry = match journal {
                Some(journal) => Some(journal.find(payment.id).await.unwrap()),
                None => None,
            };
            let refunded = charge.is_some_and(|charge| refunds.contains(charge));
            books.add(shop, payment, charge, refunded, trouble);
            if let Some(entry) = entry {
                let is_listed = open.as_ref().is_some_and(|open| open.contains(&payment.id));
                books.explain(payment, charge, refunded, is_listed, entry.as_ref(), trouble);
                // Where nobody knows whether there was a charge, the sweeper may have found out since.
                assert!(
                    !is_listed || charge.is_none() || seen.contains(&payment.id),
                    "the operator does not see it: {payment:?}"
                );
            } else {
                assert!(payment.answer.is_some(), "{payment:?}");
            }
        }
        assert!(charges.is_empty(), "charged, and nobody paid: {charges:?}");
        assert!(open.iter().flatten().all(|id| payments.iter().any(|payment| payment.id == *id)));
        let accounted = books.delivered + books.cut_before + books.cut_within + books.refunded + books.open;
        assert_eq!(books.charges, accounted, "{books}");
        books
    }

    /// What the client, Stripe and the shop say.
    fn add(&mut self, shop: &Shop, payment: &Payment, charge: Option<&String>, refunded: bool, trouble: Trouble) {
        let made = shop.made(payment.number);
        self.executions += made.len();
        self.broken += payment.broken;
        if let Some(answer) = &payment.answer {
            self.delivered += 1;
            self.again += payment.deliveries - 1;
            assert_eq!(charge, Some(&answer.receipt().reference), "{payment:?}");
            assert!(made.contains(&answer.body), "nobody made this answer: {payment:?}");
            assert!(!refunded, "delivered and refunded: {payment:?}");
        } else if !payment.left {
            // Refused as used before: then something must have got lost.
            let explained = payment.broken > 0 || (trouble == Trouble::Journal && payment.put_off > 0);
            assert!(explained, "refused, and nothing had got lost: {payment:?}");
        }
    }

    /// What the journal says to that.
    fn explain(
        &mut self,
        payment: &Payment,
        charge: Option<&String>,
        refunded: bool,
        is_listed: bool,
        entry: Option<&JournalEntry>,
        trouble: Trouble,
    ) {
        if let (Some(settlement), Some(charge)) = (entry.and_then(JournalEntry::settlement), charge) {
            assert_eq!(settlement.reference, *charge, "{payment:?}");
        }
        let state = entry.map(|entry| &entry.state);
        let is_open =
            matches!(state, Some(EntryState::Held | EntryState::Settled { .. } | EntryState::Refunding { .. }));
        assert_eq!(is_open, is_listed, "{payment:?} {entry:?}");
        if payment.answer.is_some() {
            let delivered = matches!(state, Some(EntryState::Spent { end: End::Delivered, .. }));
            assert!(delivered, "delivered, but not in the journal: {payment:?} {entry:?}");
            return;
        }
        match state {
            None => {
                assert!(payment.left && charge.is_none(), "charged, and not in the journal: {payment:?}");
                self.nothing += 1;
            }
            Some(EntryState::Spent { end: End::Delivered, .. }) => {
                assert!(charge.is_some() && !refunded, "{payment:?}");
                *(if payment.begun > 0 { &mut self.cut_within } else { &mut self.cut_before }) += 1;
            }
            Some(EntryState::Spent { end: End::Refunded, .. }) => {
                assert!(refunded, "{payment:?}");
                self.refunded += 1;
            }
            Some(open) => {
                // A delivery whose record was answered too late may be taken back after somebody was refused.
                assert!(payment.left || trouble == Trouble::Journal, "{payment:?} {entry:?}");
                match charge {
                    Some(_) => {
                        assert!(!payment.complained, "the operator did not give it back: {payment:?} {entry:?}");
                        self.open += 1;
                    }
                    None => {
                        assert!(matches!(open, EntryState::Held), "settled without a charge: {payment:?}");
                        self.in_doubt += 1;
                    }
                }
            }
        }
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { payments, charges, delivered, cut_before, cut_within, refunded, open, in_doubt, nothing, .. } = self;
        let Self { again, executions, broken, .. } = self;
        write!(
            f,
            "{payments} payments: {charges} charges = {delivered} delivered + {cut_before} cut off before the first \
             byte + {cut_within} cut off within the answer + {refunded} refunded + {open} listed as open; \
             {in_doubt} listed and not charged, {nothing} never charged; {again} answers given again by their key, \
             {executions} answers made, {broken} connections broke"
        )
    }
}
