//! What is sold here.

use http::Method;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

use crate::{flow::OfferTerms, protocol::Amount};

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
    /// What is put before every path: where the proxy is mounted. Empty, or with a slash at the front only.
    pub base_path: String,
    /// The services, in the order of the configuration.
    pub services: Vec<Service>,
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
    /// The whole path from the root, with `:name` for a segment: `/stripe/v1/customers/:id`.
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
