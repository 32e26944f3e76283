//! The answer of a pricing.

use std::borrow::Cow;

use http::StatusCode;

use crate::protocol::{MethodId, Price};

/// What a request costs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quote {
    /// Nothing: the request goes straight to the service.
    Free,
    /// This much.
    Charge(Prices),
    /// The request is wrong, and no money can make it right: it is answered before any challenge.
    Refused(Refused),
}

/// One price for all methods, or a price per method.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prices {
    general: Option<Price>,
    by_method: Vec<(MethodId, Price)>,
    external_id: Option<String>,
    description: Option<String>,
}

impl Prices {
    /// The same price on every rail that can take it.
    pub fn all(price: Price) -> Self {
        Self { general: Some(price), by_method: Vec::new(), external_id: None, description: None }
    }

    /// A price on one rail only; add more with [`on`](Self::on).
    pub fn only(method: MethodId, price: Price) -> Self {
        Self { general: None, by_method: vec![(method, price)], external_id: None, description: None }
    }

    /// Another price on one rail. Several for one rail give several offers.
    #[must_use]
    pub fn on(mut self, method: MethodId, price: Price) -> Self {
        self.by_method.push((method, price));
        self
    }

    /// The merchant's own reference (an order, an invoice), bound into the challenge as `externalId`
    /// (charge intent draft section 4.2): a payment for one does not pay another.
    #[must_use]
    pub fn external_id(mut self, id: impl Into<String>) -> Self {
        self.external_id = Some(id.into());
        self
    }

    /// What is bought, for people, instead of the description of the route.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// The prices on a rail.
    pub(crate) fn of<'a>(&'a self, method: &'a MethodId) -> impl Iterator<Item = &'a Price> {
        let own = self.by_method.iter().filter(move |(id, _)| id == method);
        let general = self.general.iter().filter(move |_| self.by_method.iter().all(|(id, _)| id != method));
        own.map(|(_, price)| price).chain(general)
    }

    /// The methods that are named.
    pub(crate) fn methods(&self) -> impl Iterator<Item = &MethodId> {
        self.by_method.iter().map(|(id, _)| id)
    }

    pub(crate) fn reference(&self) -> Option<&str> {
        self.external_id.as_deref()
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.description.as_deref()
    }
}

/// Why a request is refused before any challenge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {detail}")]
pub struct Refused {
    status: StatusCode,
    detail: Cow<'static, str>,
}

impl Refused {
    /// Answers with a status; `detail` is shown to the client. Anything but a 4xx other than 402
    /// becomes 400.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        let fits = status.is_client_error() && status != StatusCode::PAYMENT_REQUIRED;
        Self { status: if fits { status } else { StatusCode::BAD_REQUEST }, detail: detail.into() }
    }

    /// 400: the request cannot be priced.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence for the client.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<Price> for Prices {
    fn from(price: Price) -> Self {
        Self::all(price)
    }
}

impl From<Prices> for Quote {
    fn from(prices: Prices) -> Self {
        Self::Charge(prices)
    }
}

impl From<Price> for Quote {
    fn from(price: Price) -> Self {
        Self::Charge(price.into())
    }
}

impl From<Refused> for Quote {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl<T: Into<Quote>> From<Option<T>> for Quote {
    fn from(quote: Option<T>) -> Self {
        quote.map_or(Self::Free, Into::into)
    }
}

impl<T: Into<Quote>> From<Result<T, Refused>> for Quote {
    fn from(quote: Result<T, Refused>) -> Self {
        quote.map_or_else(Self::Refused, Into::into)
    }
}
