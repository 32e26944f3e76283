//! What the running merchant is known to do. No document says more than these.

use std::fmt;

use http::Method;

use crate::{
    Merchant, OfferTerms,
    pricing::{ModelOptions, Prices},
    refund::RefundPolicy,
};

/// How far the payments of a deployment are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// There is no MPP here: the document is a 404.
    Disabled,
    /// Discovery and challenges; a paid call is answered with a preview, and nothing is charged.
    PrivatePreview,
    /// Discovery and challenges; a payment is refused until settlement is switched on.
    SettlementPending,
    /// Payments are taken.
    #[default]
    Live,
}

impl Stage {
    /// The name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::PrivatePreview => "private_preview",
            Self::SettlementPending => "settlement_pending",
            Self::Live => "live",
        }
    }

    pub(super) fn is_live(self) -> bool {
        self == Self::Live
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which of the larger parts this deployment serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Built {
    /// Funded sessions.
    pub sessions: bool,
    /// Tools by the Model Context Protocol.
    pub mcp: bool,
}

/// What the running merchant is known to do.
#[derive(Clone, Debug)]
#[must_use]
pub struct Facts {
    pub(super) merchant: Merchant,
    pub(super) stage: Stage,
    pub(super) models: Option<ModelOptions>,
    pub(super) sold: Vec<Sold>,
    pub(super) quote: Option<String>,
    pub(super) ledger: bool,
    pub(super) digests: bool,
    pub(super) built: Built,
}

/// A route that takes payments.
#[derive(Clone, Debug)]
pub(super) struct Sold {
    pub(super) method: Method,
    pub(super) path: String,
    /// `None`: by the model of the request.
    pub(super) prices: Option<Prices>,
}

impl Facts {
    /// What the merchant itself knows: its rails, test mode, refunds, whether answers are kept and receipts signed.
    /// Nothing is sold yet.
    pub fn of(merchant: &Merchant) -> Self {
        Self {
            merchant: merchant.clone(),
            stage: Stage::Live,
            models: None,
            sold: Vec::new(),
            quote: None,
            ledger: merchant.ledger_url().is_some(),
            digests: true,
            built: Built::default(),
        }
    }

    /// How far the payments are: [`Stage::Live`] unless this says otherwise.
    pub fn stage(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }

    /// The models by which calls are priced.
    pub fn models(mut self, models: ModelOptions) -> Self {
        self.models = Some(models);
        self
    }

    /// A mounted route on which a call is paid by its model.
    pub fn sold_by_model(mut self, method: Method, path: impl Into<String>) -> Self {
        self.sold.push(Sold { method, path: path.into(), prices: None });
        self
    }

    /// A mounted route on which every call costs the same.
    pub fn sold(mut self, method: Method, path: impl Into<String>, prices: impl Into<Prices>) -> Self {
        self.sold.push(Sold { method, path: path.into(), prices: Some(prices.into()) });
        self
    }

    /// The path at which a price can be asked for.
    pub fn quote(mut self, path: impl Into<String>) -> Self {
        self.quote = Some(path.into());
        self
    }

    /// Whether the ledger of receipts is open to everybody: where there are signed receipts, yes, unless this says
    /// otherwise.
    pub fn public_ledger(mut self, on: bool) -> Self {
        self.ledger = on;
        self
    }

    /// Whether a payment is good for one body only, as it is unless a route says otherwise.
    pub fn body_digests(mut self, on: bool) -> Self {
        self.digests = on;
        self
    }

    /// Which of the larger parts are served.
    pub fn built(mut self, built: Built) -> Self {
        self.built = built;
        self
    }

    /// The offers of a price with an intent, as a challenge would make them.
    pub(super) fn offers(&self, prices: impl Into<Prices>, intent: &str) -> Vec<OfferTerms> {
        let mut offers = self.merchant.offers(prices);
        offers.retain(|offer| offer.intent.as_str() == intent);
        offers
    }

    pub(super) fn refunds(&self) -> RefundPolicy {
        self.merchant.refund_policy()
    }

    /// Whether real money can move.
    pub(super) fn is_production(&self) -> bool {
        self.stage.is_live() && !self.merchant.is_test_mode()
    }
}
