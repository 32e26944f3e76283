//! The models in the document, and who pays for them.

use super::{
    super::{Invalid, node::Node},
    config::{ModelCard, ProviderBilling, is_for_everybody},
    facts::Facts,
};
use crate::{Price, pricing::ModelOption, protocol::Amount};

/// A model with its text and its price.
pub(super) struct Model<'a> {
    pub(super) option: &'a ModelOption,
    card: Option<&'a ModelCard>,
    /// `None` when it has none.
    pub(super) session_price: Option<Price>,
}

/// The models that are sold.
pub(super) struct Models<'a> {
    pub(super) all: Vec<Model<'a>>,
    /// The one that is meant when a request names none. `None` when such a request is refused.
    default: Option<usize>,
    /// The one whose price stands where there is room for one.
    headline: usize,
    /// Whether there are sessions to spend their session prices in.
    sessions: bool,
}

impl<'a> Models<'a> {
    /// `None` when nothing is priced by a model.
    pub(super) fn new(cards: &'a [ModelCard], facts: &'a Facts) -> Result<Option<Self>, Invalid> {
        let Some(options) = &facts.models else {
            return match cards.first() {
                None => Ok(None),
                Some(card) => Err(Invalid::new(
                    format_args!("models.{}", card.id),
                    "nothing is priced by a model; give the facts the price list, or remove the table",
                )),
            };
        };
        for card in cards {
            if !options.options().contains(&card.option()?) {
                return Err(Invalid::new(
                    format_args!("models.{}", card.id),
                    "the price list has no such option with these names and this price; make it of the same table",
                ));
            }
        }
        let mut all = Vec::new();
        for option in options.options() {
            is_for_everybody(option)?;
            if option.is_live() && facts.offers(option.price.clone(), "charge").is_empty() {
                return Err(Invalid::new(
                    format_args!("models.{}.price", option.id),
                    format_args!(
                        "no payment method takes {}; raise it above their minimum, or disable it",
                        option.price
                    ),
                ));
            }
            let card = cards.iter().find(|card| card.id == option.id);
            let session_price = card.map(|card| session_price(card, &option.price)).transpose()?.flatten();
            all.push(Model { option, card, session_price });
        }
        let default = options.default().and_then(|default| all.iter().position(|model| model.option == default));
        let headline = default.or_else(|| all.iter().position(|model| model.option.is_live()));
        let Some(headline) = headline else {
            return Err(Invalid::new("models", "none of them is live; a merchant that sells nothing is disabled"));
        };
        Ok(Some(Self { all, default, headline, sessions: facts.built.sessions }))
    }

    /// The default one; the first that is sold where there is none.
    pub(super) fn headline(&self) -> Option<&Model<'a>> {
        self.all.get(self.headline)
    }

    pub(super) fn policy(&self) -> Node {
        let default = self.default.and_then(|at| self.all.get(at));
        Node::object()
            .with("provider", self.headline().map(Model::provider))
            .with("arbitrary_models_allowed", false)
            .with("default_option_id", default.map(|model| &model.option.id))
            .with("default_model", default.map(|model| &model.option.model))
            .with("requested_model_must_match_live_option", true)
    }

    pub(super) fn options(&self, live: &str) -> Node {
        let node = |(at, model): (usize, &Model<'_>)| {
            let card = model.card;
            let status = if model.option.is_live() { live } else { model.option.status.as_str() };
            let node = Node::object()
                .with("id", &model.option.id)
                .with("label", card.and_then(|card| card.label.as_ref()).unwrap_or(&model.option.id))
                .with("model", &model.option.model)
                .with("provider", model.provider());
            with_price(node, "price_usd", &model.option.price)
                .maybe("session_price_usd_per_call", self.in_session(model))
                .with("status", status)
                .maybe("default", (Some(at) == self.default).then_some(true))
                .maybe("description", card.and_then(|card| card.description.as_ref()))
        };
        Node::list(self.all.iter().enumerate().map(node))
    }

    /// What a call costs in a session: `null` while there are none, and nothing where none was ever meant.
    pub(super) fn in_session(&self, model: &Model<'_>) -> Option<Node> {
        let price = model.session_price.as_ref()?;
        Some(if self.sessions { dollars(price).into() } else { Node::Null })
    }

    /// The lowest price of a call.
    fn lowest(&self) -> Option<&Price> {
        let live = self.all.iter().filter(|model| model.option.is_live());
        live.map(|model| &model.option.price).min_by_key(|price| price.amount())
    }
}

impl Model<'_> {
    fn provider(&self) -> &str {
        let given = self.card.and_then(|card| card.provider.as_deref());
        given.or_else(|| Some(self.option.model.split_once('/')?.0)).unwrap_or(&self.option.model)
    }
}

fn session_price(card: &ModelCard, price: &Price) -> Result<Option<Price>, Invalid> {
    let Some(decimal) = &card.session_price else { return Ok(None) };
    let amount = Amount::from_decimal(decimal, price.decimals());
    let field = format!("models.{}.session_price", card.id);
    match amount {
        Ok(amount) if amount.is_zero() => Err(Invalid::new(field, "a call for nothing never ends a session")),
        Ok(amount) => Ok(Some(Price::minor(price.currency().clone(), amount, price.decimals()))),
        Err(error) => Err(Invalid::new(field, error)),
    }
}

/// A price under a name that says it is in US dollars, or under its own currency.
pub(super) fn with_price(node: Node, name: &'static str, price: &Price) -> Node {
    if is_usd(price) {
        return node.with(name, dollars(price));
    }
    node.with("price", price.amount().to_decimal(price.decimals())).with("currency", price.currency().as_str())
}

pub(super) fn is_usd(price: &Price) -> bool {
    price.currency().as_str() == "usd"
}

/// `0.50`: with cents, and with more digits only where they count.
pub(super) fn dollars(price: &Price) -> String {
    let mut decimal = price.amount().to_decimal(price.decimals());
    let cents = decimal.find('.').map_or(usize::MAX, |dot| dot.saturating_add(3));
    while decimal.len() > cents && decimal.ends_with('0') {
        decimal.pop();
    }
    decimal
}

/// Who pays the provider, and the least that a call costs.
pub(super) fn billing(
    billing: &ProviderBilling,
    price: Option<&Price>,
    models: Option<&Models<'_>>,
    facts: &Facts,
) -> Node {
    let headline = models.and_then(Models::headline);
    let lowest = models.and_then(Models::lowest).or(price).filter(|price| is_usd(price));
    let price = price.filter(|price| is_usd(price));
    let mut node = Node::object()
        .with("mode", &billing.mode)
        .with("provider_key_required_from_agent", billing.provider_key_required_from_agent)
        .with("provider_cost_paid_by", &billing.provider_cost_paid_by)
        .maybe("price_usd_per_call", price.map(dollars))
        .maybe(
            "effective_session_price_usd_per_call",
            models.zip(headline).and_then(|(models, headline)| models.in_session(headline)),
        )
        .maybe("direct_call_minimum_charge_usd", lowest.map(dollars));
    if let Some(price) = price {
        for (method, least) in minimums(price, facts) {
            node.push(format!("{method}_minimum_charge_usd"), dollars(&least));
        }
    }
    node
}

/// The least that each rail takes, found by asking it: nobody has to keep a number in step with the rail. A rail that
/// takes a cent has no minimum worth a member.
fn minimums(price: &Price, facts: &Facts) -> Vec<(String, Price)> {
    let mut found = Vec::new();
    for offer in facts.offers(price.clone(), "charge") {
        let of = |amount| Price::minor(price.currency().clone(), Amount::new(amount), price.decimals());
        let takes = |amount| facts.offers(of(amount), "charge").iter().any(|other| other.method == offer.method);
        // The rail takes `most`, and does not take what is below `least`.
        let (mut least, mut most) = (1, price.amount().minor_units());
        while least < most {
            let middle = least.midpoint(most);
            if takes(middle) { most = middle } else { least = middle.saturating_add(1) }
        }
        let method = offer.method.to_string();
        if most > 1 && !found.iter().any(|(known, _)| *known == method) {
            found.push((method, of(most)));
        }
    }
    found
}
