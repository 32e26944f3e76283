//! What is sold: routes, their offers, and the methods that pay for them.

use super::{
    super::{Invalid, node::Node},
    config::{Config, RouteCard, RouteKind, Sessions},
    facts::Facts,
    models::{Models, dollars, is_usd},
};
use crate::{OfferTerms, Price, pricing::Prices, protocol::Amount};

/// A route of the document.
pub(super) struct Route<'a> {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) card: Option<&'a RouteCard>,
    pub(super) kind: Kind,
    /// What is asked for on it, as a challenge would.
    pub(super) offers: Vec<OfferTerms>,
    /// What one call costs, for people.
    pub(super) price: Option<Price>,
}

pub(super) enum Kind {
    Call {
        by_model: bool,
    },
    Session(Budget),
    /// With the price of a call of the default model.
    SessionCall,
}

/// What a session costs.
#[derive(Clone)]
pub(super) struct Budget {
    pub(super) default: Price,
    pub(super) max: Price,
    /// What one call of the default model costs in it.
    pub(super) call: Option<Price>,
}

impl Budget {
    fn new(sessions: &Sessions, models: Option<&Models<'_>>) -> Result<Self, Invalid> {
        let read = |field: &str, decimal: &str| {
            Price::fiat(&sessions.currency, decimal)
                .map_err(|error| Invalid::new(format_args!("sessions.{field}"), error))
        };
        let default = read("default_budget", &sessions.default_budget)?;
        let max = read("max_budget", &sessions.max_budget)?;
        if default.amount().is_zero() || default.amount() > max.amount() {
            let problem = "it has to be more than nothing and at most max_budget";
            return Err(Invalid::new("sessions.default_budget", problem));
        }
        let call = models.and_then(|models| models.headline()?.session_price.clone());
        Ok(Self { default, max, call })
    }

    /// How many calls the default budget buys.
    pub(super) fn calls(&self) -> Option<u64> {
        let call = self.call.as_ref().filter(|call| call.currency() == self.default.currency())?;
        let calls = self.default.amount().minor_units().checked_div(call.amount().minor_units())?;
        u64::try_from(calls).ok()
    }
}

/// The routes in the order of the configuration, then those that it does not name.
pub(super) fn routes<'a>(
    config: &'a Config,
    models: Option<&Models<'_>>,
    facts: &Facts,
) -> Result<Vec<Route<'a>>, Invalid> {
    let budget = match (&config.sessions, facts.built.sessions) {
        (Some(sessions), true) => Some(Budget::new(sessions, models)?),
        (None, true) => return Err(Invalid::new("sessions", "sessions are served; say what they cost")),
        (_, false) => None,
    };
    let mut routes: Vec<Route<'a>> = Vec::new();
    let is_of = |card: &RouteCard, method: &str, path: &str| card.method == method && card.path == path;
    for card in &config.routes {
        let field = format!("routes.{} {}", card.method, card.path);
        if routes.iter().any(|route| route.method == card.method && route.path == card.path) {
            return Err(Invalid::new(field, "it is there twice; remove one"));
        }
        let route = match (card.kind, &budget) {
            (RouteKind::Call, _) => {
                let sold = facts.sold.iter().find(|sold| is_of(card, sold.method.as_str(), &sold.path));
                let sold = sold.ok_or_else(|| {
                    Invalid::new(&field, "nothing is sold there; mount the route, or remove the table")
                })?;
                call(sold.method.as_str(), &sold.path, sold.prices.as_ref(), Some(card), models, facts)?
            }
            // Who asked there would find nothing.
            (_, None) => continue,
            (RouteKind::Session, Some(budget)) => {
                let offers = facts.offers(budget.default.clone(), "session");
                if offers.is_empty() {
                    let problem = format_args!("no payment method sells a session for {}", budget.default);
                    return Err(Invalid::new("sessions.default_budget", problem));
                }
                let price = budget.call.clone();
                let kind = Kind::Session(budget.clone());
                Route { method: card.method.clone(), path: card.path.clone(), card: Some(card), kind, offers, price }
            }
            (RouteKind::SessionCall, Some(budget)) => Route {
                method: card.method.clone(),
                path: card.path.clone(),
                card: Some(card),
                kind: Kind::SessionCall,
                offers: Vec::new(),
                price: budget.call.clone(),
            },
        };
        routes.push(route);
    }
    for sold in &facts.sold {
        if !config.routes.iter().any(|card| is_of(card, sold.method.as_str(), &sold.path)) {
            routes.push(call(sold.method.as_str(), &sold.path, sold.prices.as_ref(), None, models, facts)?);
        }
    }
    Ok(routes)
}

fn call<'a>(
    method: &str,
    path: &str,
    prices: Option<&Prices>,
    card: Option<&'a RouteCard>,
    models: Option<&Models<'_>>,
    facts: &Facts,
) -> Result<Route<'a>, Invalid> {
    let field = format!("routes.{method} {path}");
    let by_model = prices.is_none();
    let prices = match (prices, models.and_then(Models::headline)) {
        (Some(prices), _) => prices.clone(),
        (None, Some(model)) => model.option.price.clone().into(),
        (None, None) => return Err(Invalid::new(field, "it is priced by a model, and there are none")),
    };
    let offers = facts.offers(prices.clone(), "charge");
    if offers.is_empty() {
        return Err(Invalid::new(field, "no payment method takes its price; raise it above their minimum"));
    }
    let price = shown(&prices, facts);
    Ok(Route { method: method.into(), path: path.into(), card, kind: Kind::Call { by_model }, offers, price })
}

/// What a price is for people: in US dollars where a rail has it so.
fn shown(prices: &Prices, facts: &Facts) -> Option<Price> {
    let mut all = facts.merchant.rails().flat_map(|(method, _)| prices.of(method));
    let first = all.next()?;
    if is_usd(first) { Some(first.clone()) } else { Some(all.find(|price| is_usd(price)).unwrap_or(first).clone()) }
}

/// Who is paid by a method: what its challenges say, or what the merchant says where they do not.
fn recipient(offer: &OfferTerms, config: &Config) -> Option<String> {
    let card = config.payment_methods.iter().find(|card| card.method == offer.method.as_str());
    offer.recipient.clone().or_else(|| card?.recipient.clone())
}

/// What is paid, in the members of a challenge.
pub(super) fn payment_request(offer: &OfferTerms) -> Node {
    Node::object()
        .with("amount", offer.amount.map(|amount: Amount| amount.to_string()))
        .with("currency", offer.currency.as_str())
        .maybe("decimals", offer.decimals)
}

/// The offers of all routes.
pub(super) fn offers(routes: &[Route<'_>], config: &Config, models: Option<&Models<'_>>, live: &str) -> Node {
    let default = models.and_then(Models::headline).map(|model| &model.option.id);
    let billing = config.provider_billing.as_ref();
    let node = |route: &Route<'_>, offer: &OfferTerms| {
        let text = route.card.and_then(|card| card.offer.as_ref().or(card.description.as_ref()));
        let (price, by_model) = match &route.kind {
            Kind::Call { by_model } => (route.price.as_ref(), *by_model),
            Kind::Session(budget) => (Some(&budget.default), true),
            Kind::SessionCall => (None, false),
        };
        let mut node = Node::object()
            .with("method", offer.method.as_str())
            .with("intent", offer.intent.as_str())
            .with("route", &route.path)
            .with("amount", offer.amount.map(|amount: Amount| amount.to_string()))
            .with("currency", offer.currency.as_str())
            .maybe("decimals", offer.decimals)
            .maybe("display_price_usd", price.filter(|price| is_usd(price)).map(dollars))
            .maybe("recipient", recipient(offer, config))
            .with("status", live)
            .maybe("description", text);
        if let Kind::Session(budget) = &route.kind {
            node = node
                .maybe("price_usd_per_call", budget.call.as_ref().filter(|price| is_usd(price)).map(dollars))
                .maybe("max_calls", budget.calls())
                .maybe("max_budget_usd", Some(&budget.max).filter(|price| is_usd(price)).map(dollars));
        }
        node.maybe("model_option_id", default.filter(|_| by_model))
            .maybe("provider_cost_included", billing.map(|billing| billing.is_included()))
            .maybe("provider_key_required_from_agent", billing.map(|billing| billing.provider_key_required_from_agent))
    };
    let all = routes.iter().flat_map(|route| route.offers.iter().map(move |offer| node(route, offer)));
    Node::list(all)
}

/// The methods behind the offers, each once for each currency. A test without an account at the rail may keep the table
/// of production.
pub(super) fn payment_methods(
    routes: &[Route<'_>],
    config: &Config,
    live: &str,
    test_mode: bool,
) -> Result<Node, Invalid> {
    let mut seen: Vec<&OfferTerms> = Vec::new();
    for offer in routes.iter().flat_map(|route| &route.offers) {
        if !seen.iter().any(|known| known.method == offer.method && known.currency == offer.currency) {
            seen.push(offer);
        }
    }
    let node = |offer: &&OfferTerms| {
        let card = config.payment_methods.iter().find(|card| card.method == offer.method.as_str());
        Node::object()
            .with("method", offer.method.as_str())
            .maybe("wallet_provider", card.and_then(|card| card.wallet_provider.as_ref()))
            .maybe("regions", card.filter(|card| !card.regions.is_empty()).map(|card| Node::list(&card.regions)))
            .maybe("recipient", recipient(offer, config))
            .with("currency", offer.currency.as_str())
            .with("status", live)
    };
    for card in &config.payment_methods {
        let field = format!("payment_methods.{}", card.method);
        let Some(offer) = seen.iter().find(|offer| offer.method.as_str() == card.method) else {
            if test_mode {
                continue;
            }
            return Err(Invalid::new(field, "nothing here is paid by this method; add the rail, or remove the table"));
        };
        if offer.recipient.is_some() && card.recipient.is_some() && offer.recipient != card.recipient {
            let problem = "it is not whom the challenges of this method name; remove it, or make them agree";
            return Err(Invalid::new(field + ".recipient", problem));
        }
    }
    Ok(Node::list(seen.iter().map(node)))
}
