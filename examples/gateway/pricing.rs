//! A price by the model that the JSON body names.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use tower_mpp::{
    Price,
    pricing::{InvalidModelOptions, ModelOptions},
};

/// Unknown models, and bodies that name none, are refused before any challenge. The names are those of the upstream,
/// which reads the same bytes: nothing else means one of them.
pub(super) fn by_model(prices: BTreeMap<String, Price>) -> Result<ModelOptions, InvalidModelOptions> {
    ModelOptions::by_name(prices)
}

/// Declares the body as what it was priced as.
pub(super) fn declare_json(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
}
