//! What is sold here.

use http::Method;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

use crate::{
    flow::{Merchant, OfferTerms},
    pricing::{ModelOptions, Prices},
    protocol::Amount,
};

/// Everything that one merchant sells in one place.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Catalog {
    /// Of the place, for people.
    pub title: Option<String>,
    /// One sentence about it.
    pub description: Option<String>,
    /// The version of the API: `info.version` of OpenAPI.
    pub version: Option<String>,
    /// Categories of the discovery draft (section "Categories"): `compute`, `data`.
    pub categories: Vec<String>,
    /// Where the documentation is that is not ours: `x-service-info.docs`.
    pub api_reference: Option<String>,
    /// The merchant's page.
    pub homepage: Option<String>,
    /// How to use the API, for agents: `info.x-guidance`.
    pub guidance: Option<String>,
    /// The public origin, such as `https://api.example.com`: links to our own documents begin with it.
    pub origin: Option<String>,
    /// What is put before every path: where the proxy is mounted. Empty, or with a slash at the front only.
    pub base_path: String,
    /// The services, in the order of the configuration.
    pub services: Vec<Service>,
    /// Other documents, named at the end of `llms.txt`.
    pub links: Vec<Link>,
}

/// Another document of the merchant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// What it is.
    pub title: String,
    /// Where it is.
    pub url: String,
    /// One sentence about it.
    pub description: Option<String>,
}

/// A service: what is mounted under one id.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Service {
    /// The first segment of its paths.
    pub id: String,
    /// For people. The id where there is none.
    pub title: Option<String>,
    /// One sentence about it.
    pub description: Option<String>,
    /// Documentation for language models.
    pub docs_llms_url: Option<String>,
    /// Its routes, in the order in which they match.
    pub routes: Vec<Route>,
}

/// A route of a service.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Route {
    /// Any method where there is none.
    pub method: Option<Method>,
    /// The path behind the base path, with `:name` for a segment: `/stripe/v1/customers/:id`.
    pub path: String,
    /// What it costs.
    pub payment: Payment,
    /// Documentation of this route for language models.
    pub docs_llms_url: Option<String>,
    /// One sentence about it.
    pub description: Option<String>,
    /// The JSON Schema of its request body.
    pub request_schema: Option<Value>,
    /// The JSON Schema of a successful answer.
    pub response_schema: Option<Value>,
}

/// What a route costs.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Payment {
    /// Nothing.
    #[default]
    Free,
    /// One of these. Without any, it is paid and nobody knows how much.
    Offers(Vec<Terms>),
}

impl Catalog {
    /// Nothing is sold yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of the place, for people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// One sentence about it.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// What is put before every path.
    #[must_use]
    pub fn base_path(mut self, path: impl Into<String>) -> Self {
        self.base_path = path.into();
        self
    }

    /// Adds a service.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }
}

impl Link {
    /// A document and where it is.
    pub fn new(title: impl Into<String>, url: impl Into<String>) -> Self {
        Self { title: title.into(), url: url.into(), description: None }
    }

    /// One sentence about it.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }
}

impl Service {
    /// A service without routes.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// For people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// One sentence about it.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Documentation for language models.
    #[must_use]
    pub fn docs_llms_url(mut self, url: impl Into<String>) -> Self {
        self.docs_llms_url = Some(url.into());
        self
    }

    /// Adds a route.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// What it is called, for people.
    pub(super) fn name(&self) -> &str {
        self.title.as_deref().filter(|title| !title.is_empty()).unwrap_or(&self.id)
    }
}

impl Route {
    /// A free route; of any method where there is none.
    pub fn new(method: impl Into<Option<Method>>, path: impl Into<String>) -> Self {
        Self { method: method.into(), path: path.into(), ..Self::default() }
    }

    /// What it costs.
    #[must_use]
    pub fn payment(mut self, payment: Payment) -> Self {
        self.payment = payment;
        self
    }

    /// Documentation of this route for language models.
    #[must_use]
    pub fn docs_llms_url(mut self, url: impl Into<String>) -> Self {
        self.docs_llms_url = Some(url.into());
        self
    }

    /// One sentence about it.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// The JSON Schema of its request body.
    #[must_use]
    pub fn request_schema(mut self, schema: impl Into<Value>) -> Self {
        self.request_schema = Some(schema.into());
        self
    }

    /// The JSON Schema of a successful answer.
    #[must_use]
    pub fn response_schema(mut self, schema: impl Into<Value>) -> Self {
        self.response_schema = Some(schema.into());
        self
    }

    /// `None` when it is free.
    pub(super) fn offers(&self) -> Option<&[Terms]> {
        match &self.payment {
            Payment::Free => None,
            Payment::Offers(offers) => Some(offers),
        }
    }

    /// What it does, or what is bought.
    pub(super) fn says(&self) -> Option<&str> {
        let bought = self.offers().and_then(|offers| offers.first()?.text("description"));
        bought.or(self.description.as_deref()).filter(|text| !text.is_empty())
    }
}

impl Payment {
    /// A price, as each rail of the merchant asks for it.
    pub fn priced(merchant: &Merchant, prices: impl Into<Prices>, description: Option<&str>) -> Self {
        Self::Offers(merchant.offers(prices).iter().map(|offer| Terms::of(offer, description)).collect())
    }

    /// A price that only the request decides.
    pub fn dynamic(merchant: &Merchant, description: Option<&str>) -> Self {
        let terms = merchant.rails().map(|(method, intent)| {
            let terms = Terms::new().member("intent", intent.as_str()).member("method", method.as_str());
            let terms = terms.member("amount", Value::Null);
            description.into_iter().fold(terms, |terms, text| terms.member("description", text))
        });
        Self::Offers(terms.collect())
    }

    /// A price by the model that the request names. When models cost different prices the amount is left open, and
    /// the description says between which prices it is; in different currencies the currency is left open too.
    pub fn by_model(merchant: &Merchant, models: &ModelOptions, description: Option<&str>) -> Self {
        let mut live: Vec<_> = models.live().map(|model| &model.price).collect();
        live.sort_by_key(|price| price.amount());
        let (Some(least), Some(most)) = (live.first(), live.last()) else { return Self::Offers(Vec::new()) };
        if live.iter().any(|price| (price.currency(), price.decimals()) != (most.currency(), most.decimals())) {
            return Self::dynamic(merchant, description);
        }
        if least == most {
            return Self::priced(merchant, Prices::all((*least).clone()), description);
        }
        let range = format!("{least} to {most}, by the model");
        let text = description.map_or_else(|| range.clone(), |text| format!("{text} ({range})"));
        let offers = merchant.offers((*most).clone()).into_iter().map(|mut offer| {
            offer.amount = None;
            Terms::of(&offer, Some(&text))
        });
        Self::Offers(offers.collect())
    }
}

/// One offer of a route: members of JSON in an order of their own. `intent` and `method` come first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms(Vec<(String, Value)>);

impl Terms {
    /// No member yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An offer of the merchant, as the challenge will make it. A price of `None` depends on the request.
    pub fn of(offer: &OfferTerms, description: Option<&str>) -> Self {
        let mut terms = Self::new()
            .member("intent", offer.intent.as_str())
            .member("method", offer.method.as_str())
            .member("currency", offer.currency.as_str());
        if let Some(decimals) = offer.decimals {
            terms = terms.member("decimals", decimals);
        }
        if let Some(recipient) = &offer.recipient {
            terms = terms.member("recipient", recipient.as_str());
        }
        terms = terms.member("amount", offer.amount.map_or(Value::Null, |amount: Amount| amount.to_string().into()));
        match description {
            Some(description) => terms.member("description", description),
            None => terms,
        }
    }

    /// Adds a member at the end, or replaces its value where it stands.
    #[must_use]
    pub fn member(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
        self
    }

    /// A member.
    pub fn find(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.find(name)?.as_str()
    }

    /// The members in their order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl Serialize for Terms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
