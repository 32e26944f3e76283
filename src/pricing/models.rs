//! A price by the model that the JSON body names.

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;

use super::{HeadQuote, Pricing, Quote, Refused};
use crate::protocol::Price;

/// A model that is sold: what clients call it, what the provider calls it, what a call costs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelOption {
    /// The id of the option: `fast`.
    pub id: String,
    /// The name of the model, with its provider in front: `bedrock/us.amazon.nova-micro-v1:0`.
    pub model: String,
    /// Other names by which clients may ask for it.
    pub aliases: Vec<String>,
    /// What one call costs.
    pub price: Price,
}

/// The models that are sold, and which of them is meant when a request names none.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    options: Vec<ModelOption>,
    default: Option<usize>,
}

impl ModelOption {
    /// An option with these names and this price.
    pub fn new(id: impl Into<String>, model: impl Into<String>, price: Price) -> Self {
        Self { id: id.into(), model: model.into(), aliases: Vec::new(), price }
    }

    /// Adds another name.
    #[must_use]
    pub fn alias(mut self, name: impl Into<String>) -> Self {
        self.aliases.push(name.into());
        self
    }
}

impl ModelOptions {
    /// The option that a JSON body asks for: by id, by model with or without its provider, or by alias; the default
    /// one when the body names none.
    ///
    /// # Errors
    /// [`Refused`] when the body has more than one reading, or names a model that is not sold.
    pub fn choose(&self, _head: &Parts, _body: &[u8]) -> Result<&ModelOption, Refused> {
        self.default
            .and_then(|index| self.options.get(index))
            .ok_or_else(|| Refused::bad_request("There is no such model here."))
    }
}

#[async_trait]
impl Pricing for ModelOptions {
    fn quote_head(&self, _: &Parts) -> HeadQuote {
        HeadQuote::NeedsBody
    }

    async fn quote(&self, head: &Parts, body: &Bytes) -> Quote {
        self.choose(head, body).map(|option| option.price.clone()).into()
    }
}
