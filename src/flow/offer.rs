//! Offers: what can be prepared of a challenge before anybody asks for it.

use std::{fmt::Write as _, sync::Arc};

use parking_lot::RwLock;
use serde_json::{Map, Value};

use super::{ConfigError, Inner, Refusal};
use crate::{
    key::BoundSlots,
    method::{OfferRequest, PaymentMethod},
    pricing::Prices,
    protocol::{jcs, push_quoted},
};

/// One way to pay.
pub(crate) struct Offer {
    pub(crate) method: Arc<dyn PaymentMethod>,
    /// What the rail asks for.
    pub(crate) terms: Arc<OfferRequest>,
    /// The `request` parameter: base64url of canonical JSON.
    pub(crate) request: String,
    /// The key schedules, with realm, method, intent and request already hashed.
    pub(crate) slots: BoundSlots,
    /// The parameters from `realm` to `request`, as they stand on the wire.
    pub(crate) params: String,
}

/// The ways to pay one price, in the merchant's order of preference.
pub(crate) struct Offers {
    pub(crate) list: Vec<Offer>,
    /// `, description="..."` when the price brings its own.
    pub(crate) description: Option<String>,
    /// Why there is no price, and so none of them.
    pub(crate) refused: Option<Refusal>,
}

impl Offers {
    pub(crate) fn prepare(merchant: &Inner, prices: &Prices) -> Self {
        let mut list = Vec::new();
        for method in &merchant.methods {
            for price in prices.of(method.method()) {
                if let Some(terms) = method.offer(price) {
                    list.extend(Offer::prepare(merchant, method, terms, prices.reference()));
                }
            }
        }
        Self { list, description: prices.text().map(description_param), refused: None }
    }

    /// No way to pay. Who has paid before the price was refused is still heard.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self { list: Vec::new(), description: None, refused: Some(refusal) }
    }

    /// Whether a method and intent are among the offers.
    pub(crate) fn has(&self, method: &str, intent: &str) -> bool {
        self.list.iter().any(|offer| offer.is_for(method, intent))
    }
}

impl Offer {
    /// `None` when the rail asks for something that has no canonical JSON, which no built-in rail does.
    fn prepare(
        merchant: &Inner,
        method: &Arc<dyn PaymentMethod>,
        terms: OfferRequest,
        external_id: Option<&str>,
    ) -> Option<Self> {
        let mut request = Map::new();
        request.insert("amount".into(), terms.amount.to_string().into());
        request.insert("currency".into(), terms.currency.as_str().into());
        if let Some(recipient) = &terms.recipient {
            request.insert("recipient".into(), recipient.as_str().into());
        }
        if let Some(external_id) = external_id {
            request.insert("externalId".into(), external_id.into());
        }
        if !terms.method_details.is_empty() {
            request.insert("methodDetails".into(), Value::Object(terms.method_details.clone()));
        }
        let request = jcs::to_base64url(&request)
            .inspect_err(|error| {
                tracing::error!(target: crate::trace::TARGET, method = %method.method(), %error, "offer left out");
            })
            .ok()?;
        let (realm, id, intent) = (merchant.realm.as_str(), method.method().as_str(), method.intent().as_str());
        let mut params = String::with_capacity(request.len() + 96);
        for (name, value) in [("realm", realm), ("method", id), ("intent", intent), ("request", &request)] {
            push_param(&mut params, name, value);
        }
        Some(Self {
            slots: merchant.keys.prepare(realm, id, intent, &request),
            method: Arc::clone(method),
            terms: Arc::new(terms),
            request,
            params,
        })
    }

    pub(crate) fn is_for(&self, method: &str, intent: &str) -> bool {
        self.method.method().as_str() == method && self.method.intent().as_str() == intent
    }
}

fn push_param(params: &mut String, name: &str, value: &str) {
    params.push_str(", ");
    push_quoted(params, name, value);
}

/// `, description="..."`, escaped.
pub(crate) fn description_param(text: &str) -> String {
    let mut param = String::with_capacity(text.len() + 20);
    push_param(&mut param, "description", text);
    param
}

/// The offers of a route: prepared once for a fixed price, and remembered for prices that depend on
/// the request, of which there are usually a handful.
pub(crate) struct OfferBook {
    fixed: Option<Arc<Offers>>,
    quoted: RwLock<Vec<(Prices, Arc<Offers>)>>,
}

/// A route with more prices than this prepares the further ones anew each time.
const MAX_REMEMBERED: usize = 64;

impl OfferBook {
    /// # Errors
    /// When a fixed price cannot be paid at all, or is for a rail that is not there.
    pub(crate) fn new(merchant: &Inner, fixed: Option<&Prices>) -> Result<Self, ConfigError> {
        let fixed = match fixed {
            Some(prices) => {
                let known = |id| merchant.methods.iter().any(|method| method.method() == id);
                if let Some(unknown) = prices.methods().find(|id| !known(*id)) {
                    return Err(ConfigError::UnknownMethod(unknown.clone()));
                }
                let offers = Offers::prepare(merchant, prices);
                if offers.list.is_empty() {
                    return Err(ConfigError::NoOffer { price: shown(prices, merchant) });
                }
                Some(Arc::new(offers))
            }
            None => None,
        };
        Ok(Self { fixed, quoted: RwLock::new(Vec::new()) })
    }

    /// The offers of a fixed price.
    pub(crate) fn fixed(&self) -> Option<&Arc<Offers>> {
        self.fixed.as_ref()
    }

    /// The offers for a price that was quoted.
    pub(crate) fn quoted(&self, merchant: &Inner, prices: &Prices) -> Arc<Offers> {
        let known = self.quoted.read().iter().find(|(known, _)| known == prices).map(|(_, offers)| Arc::clone(offers));
        known.unwrap_or_else(|| {
            let offers = Arc::new(Offers::prepare(merchant, prices));
            let mut quoted = self.quoted.write();
            // A price with a reference is for one order only; it would push out those that come back.
            if quoted.len() < MAX_REMEMBERED && prices.reference().is_none() {
                quoted.push((prices.clone(), Arc::clone(&offers)));
            }
            offers
        })
    }
}

fn shown(prices: &Prices, merchant: &Inner) -> String {
    let mut text = String::new();
    for method in &merchant.methods {
        for price in prices.of(method.method()) {
            let gap = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{gap}{price} by {}", method.method());
        }
    }
    text
}
