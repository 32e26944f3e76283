//! `[agent]`, as it is written.

use serde::Deserialize;

use super::{super::config::ReceiptForm, extras::Extras};

/// The route that agents pay for a model call with. The commented `prxy.toml` shows every field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    #[serde(default)]
    pub(super) state: State,
    pub(super) production_payments: Option<bool>,
    pub(super) description: Option<String>,
    pub(super) provider: Provider,
    pub(super) max_tokens: Option<u64>,
    pub(super) body_limit: Option<usize>,
    pub(super) timeout_secs: Option<u64>,
    pub(super) token_credentials: Option<bool>,
    pub(super) receipt_header: Option<ReceiptForm>,
}

/// How far the merchant has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Payments buy calls.
    #[default]
    Live,
    /// Prices are shown, and nobody can pay yet.
    PrivatePreview,
    /// The same, answered as a payment that was not verified.
    NotInProduction,
    /// There is nothing of it.
    Disabled,
}

/// Who answers.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Provider {
    /// The built-in demo.
    Demo {},
    Bedrock(Bedrock),
    Anthropic(Anthropic),
}

/// Amazon Bedrock. The credentials come from where AWS's own tools find them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bedrock {
    pub(super) region: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) endpoint_url: Option<String>,
    pub(super) connect_timeout_secs: Option<u64>,
    pub(super) first_token_timeout_secs: Option<u64>,
    pub(super) idle_timeout_secs: Option<u64>,
    #[serde(default)]
    pub(super) allow: Extras,
}

/// The Messages API of Anthropic, or one like it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Anthropic {
    pub(super) url: Option<String>,
    pub(super) key_env: Option<String>,
    pub(super) connect_timeout_secs: Option<u64>,
    pub(super) first_byte_timeout_secs: Option<u64>,
    pub(super) idle_timeout_secs: Option<u64>,
    #[serde(default)]
    pub(super) allow: Extras,
}

/// What agents are sold where there is no configuration.
pub(crate) const DEMO: &str = r#"
[agent]
description = "One model call"
provider = { kind = "demo" }

[[models]]
id = "fast"
label = "Fast"
model = "demo/demo-fast"
price = "0.50"
default = true
description = "The built-in demo: it repeats what you say, and no model is asked."

[[models]]
id = "deep"
label = "Deep"
model = "demo/demo-deep"
price = "1.50"
description = "The same at another price."
"#;
