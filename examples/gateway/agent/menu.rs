//! The models that are sold, with what people and agents read about them.

use std::sync::Arc;

use http::request::Parts;
use serde_json::{Map, Value, json};
use tower_mpp::{
    Price,
    discovery::well_known::{ModelCard, model_options},
    pricing::{ModelOption, ModelOptions, Refused},
};

use super::super::{config::ConfigError, settings::Place};

/// The options, and the texts beside them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Menu(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: ModelOptions,
    /// One for each option, in the same order.
    cards: Vec<ModelCard>,
    provider: &'static str,
}

impl Menu {
    /// Checks the models of a provider.
    pub(super) fn check(place: Place<'_>, provider: &'static str, cards: Vec<ModelCard>) -> Result<Self, ConfigError> {
        let options = model_options(&cards).map_err(|error| place.error("models", error))?;
        for (index, card) in cards.iter().enumerate() {
            let at = |field: &str| format!("models[{index}].{field}");
            if !card.model.split_once('/').is_some_and(|(of, name)| of == provider && !name.is_empty()) {
                let advice = format!("{:?} is no model of the provider; write {provider}/NAME", card.model);
                return Err(place.error(&at("model"), advice));
            }
            if session_price(card).is_err() {
                return Err(place.error(&at("session_price"), "write a decimal such as \"0.05\""));
            }
        }
        if let Some(option) = options.options().iter().position(|option| option.price.amount().is_zero()) {
            return Err(place.error(&format!("models[{option}].price"), "a price of nothing; nobody would pay it"));
        }
        if options.live().next().is_none() {
            return Err(place.error("models", "none of them is sold; remove disabled = true from one"));
        }
        Ok(Self(Arc::new(Inner { options, cards, provider })))
    }

    /// What a body asks for; see [`ModelOptions::choose`].
    pub(super) fn choose(&self, head: &Parts, body: &[u8]) -> Result<&ModelOption, Refused> {
        self.0.options.choose(head, body)
    }

    pub(crate) fn options(&self) -> &ModelOptions {
        &self.0.options
    }

    pub(crate) fn cards(&self) -> &[ModelCard] {
        &self.0.cards
    }

    pub(crate) fn provider(&self) -> &'static str {
        self.0.provider
    }

    fn card(&self, option: &ModelOption) -> Option<&ModelCard> {
        self.0.cards.iter().find(|card| card.id == option.id)
    }

    /// What a body may say to get which model at which price, for people.
    pub(super) fn prices(&self) -> String {
        let of =
            |option: &ModelOption| format!("{} {} ({}, {})", option.id, option.price, self.label(option), option.model);
        self.0.options.live().map(of).collect::<Vec<_>>().join("; ")
    }

    fn label<'a>(&'a self, option: &'a ModelOption) -> &'a str {
        self.card(option).and_then(|card| card.label.as_deref()).unwrap_or(&option.id)
    }

    /// An option, as catalogues and quotes show it. `live` is what the discovery document says of whatever is sold.
    pub(super) fn entry(&self, option: &ModelOption, live: &str) -> Map<String, Value> {
        let mut entry = Map::new();
        let mut add = |name: &str, value: Value| entry.insert(name.to_owned(), value);
        add("id", option.id.as_str().into());
        add("label", self.label(option).into());
        add("model", option.model.as_str().into());
        add("aliases", option.aliases.as_slice().into());
        add("provider", self.provider().into());
        add("price", money(&option.price));
        if option.price.currency().as_str() == "usd" {
            add("price_usd", decimal(&option.price).into());
        }
        let card = self.card(option);
        if let Some(price) = card.and_then(|card| session_price(card).ok().flatten()) {
            add("session_price", money(&price));
        }
        add("status", if option.is_live() { live } else { option.status.as_str() }.into());
        if self.0.options.default().is_some_and(|default| default.id == option.id) {
            add("default", true.into());
        }
        if let Some(description) = card.and_then(|card| card.description.as_deref()) {
            add("description", description.into());
        }
        entry
    }

    /// Every option, sold or not.
    pub(super) fn entries(&self, live: &str) -> Vec<Value> {
        self.0.options.options().iter().map(|option| self.entry(option, live).into()).collect()
    }
}

/// What one call costs within a funded session.
fn session_price(card: &ModelCard) -> Result<Option<Price>, tower_mpp::protocol::InvalidPrice> {
    card.session_price.as_deref().map(|price| Price::fiat(&card.currency, price)).transpose()
}

/// `0.50` of 50 cents.
pub(super) fn decimal(price: &Price) -> String {
    price.amount().to_decimal(price.decimals())
}

/// A price in the members of a `request`, and as people write it.
pub(super) fn money(price: &Price) -> Value {
    json!({
        "amount": price.amount().to_string(),
        "currency": price.currency().as_str(),
        "decimals": price.decimals(),
        "display": decimal(price),
    })
}
