//! A price by the model that the JSON body names.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tower_mpp::{
    Price,
    pricing::{InvalidModelOptions, ModelOptions},
};

use super::routes::Pricing;

/// Unknown models, and bodies that name none, are refused before any challenge. The names are those of the upstream,
/// which reads the same bytes: nothing else means one of them.
pub(super) fn by_model(prices: BTreeMap<String, Price>) -> Result<ModelOptions, InvalidModelOptions> {
    ModelOptions::by_name(prices)
}

/// Declares the body as what it was priced as.
pub(super) fn declare_json(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

/// What discovery says of the request body where that decides about the price.
pub(super) fn schema(pricing: &Pricing) -> Option<Value> {
    let Pricing::ByModel(prices) = pricing else { return None };
    let models: Vec<_> = prices.keys().collect();
    Some(json!({
        "type": "object",
        "required": ["model"],
        "properties": {"model": {"type": "string", "enum": models}},
    }))
}
