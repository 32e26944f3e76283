//! What only the merchant can say in its document: names, links, texts. Plain structs for a configuration file.
//!
//! Nothing here says what works: that is told by the [`Facts`](super::Facts).

use serde::{Deserialize, Serialize};

use super::super::{Invalid, node::Node};
use crate::{
    Price,
    pricing::{ModelOption, ModelOptions, ModelStatus},
};

/// The texts of a `/.well-known/mpp` document. Every table but `merchant` may be left out, and what belongs to it
/// is then left out of the document.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Config {
    /// How much the document says.
    pub form: Form,
    /// `spec_version`: `0.1` where it is not given.
    pub spec_version: Option<String>,
    /// What stands before `_api_key_required` in the document: `prxy` gives `prxy_api_key_required`.
    pub vendor: Option<String>,
    /// What is said in `mpp.reason`, by stage. A plain sentence of our own where there is none.
    pub reason: Reasons,
    /// Who sells.
    pub merchant: MerchantCard,
    /// The logo as an image.
    pub logo: Option<Logo>,
    /// More images.
    pub icons: Vec<Icon>,
    /// Who pays the provider of the models.
    pub provider_billing: Option<ProviderBilling>,
    /// What is known of the payment methods beyond their offers. A method without a table is listed too.
    pub payment_methods: Vec<PaymentMethodCard>,
    /// The paid routes, in the order of the document.
    pub routes: Vec<RouteCard>,
    /// The protocols that the routes speak: `["mpp"]` where it is not given.
    pub payment_protocols: Option<Vec<String>>,
    /// `capabilities.receipts_format`.
    pub receipts_format: Option<String>,
    /// `capabilities.replay_protection`.
    pub replay_protection: Option<String>,
    /// Funded sessions.
    pub sessions: Option<Sessions>,
    /// Tools for agents by the Model Context Protocol, paid by ATXP.
    pub atxp_mcp: Option<AtxpMcp>,
}

/// How much the document says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Form {
    /// Everything.
    #[default]
    Full,
    /// `spec_version`, `realm` and four members of each route.
    Minimal,
}

/// Why the document says what it says, by [`Stage`](super::Stage).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Reasons {
    /// Payments are taken.
    pub live: Option<String>,
    /// Payments are taken in test mode.
    pub test_mode: Option<String>,
    /// Challenges are issued, payments are not taken yet.
    pub private_preview: Option<String>,
    /// The same, with the settlement being switched on.
    pub settlement_pending: Option<String>,
}

/// Who sells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct MerchantCard {
    /// The name. The realm where there is none.
    pub name: Option<String>,
    /// The merchant's page.
    pub homepage: Option<String>,
    /// The URL of the logo.
    pub logo: Option<String>,
    /// The same under its other name: as `logo` where it is not given.
    pub logo_url: Option<String>,
    /// The URL of the favicon.
    pub favicon: Option<String>,
    /// Where to write to.
    pub contact: Option<String>,
    /// The terms of service.
    pub tos: Option<String>,
    /// The privacy policy.
    pub privacy: Option<String>,
}

/// The logo as an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Logo {
    /// Where it is.
    pub url: String,
    /// What it shows.
    pub alt: String,
    /// Its media type.
    #[serde(rename = "type")]
    pub media_type: String,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Icon {
    /// Where it is.
    pub url: String,
    /// `192x192`.
    pub sizes: String,
    /// Its media type.
    #[serde(rename = "type")]
    pub media_type: String,
}

/// A model that is sold: its names and price, and what is said of it.
///
/// One table of these is both the price list ([`model_options`]) and the text of the document.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelCard {
    /// The id of the option: `fast`.
    pub id: String,
    /// For people. The id where there is none.
    pub label: Option<String>,
    /// The model with its provider: `bedrock/us.amazon.nova-micro-v1:0`.
    pub model: String,
    /// What clients read and ask for instead of what stands behind the slash of `model`. An ARN needs one.
    pub name: Option<String>,
    /// Who runs it. What stands before the slash of `model` where there is none.
    pub provider: Option<String>,
    /// Other names by which clients may ask for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What one call costs, as a decimal: `0.50`.
    pub price: String,
    /// Of the price, by ISO 4217.
    #[serde(default = "usd")]
    pub currency: String,
    /// What one call costs in a funded session, as a decimal.
    pub session_price: Option<String>,
    /// Whether this one is meant when a request names none.
    #[serde(default)]
    pub default: bool,
    /// Whether it is known and not sold.
    #[serde(default)]
    pub disabled: bool,
    /// One sentence about it.
    pub description: Option<String>,
}

fn usd() -> String {
    "usd".into()
}

impl ModelCard {
    /// What it is called and what it costs.
    ///
    /// # Errors
    /// When its price cannot be read, or its name would tell everybody the number of an account.
    pub fn option(&self) -> Result<ModelOption, Invalid> {
        let price = Price::fiat(&self.currency, &self.price);
        let price = price.map_err(|error| Invalid::new(format_args!("models.{}.price", self.id), error))?;
        let status = if self.disabled { ModelStatus::Disabled } else { ModelStatus::Live };
        let (of, asked) = self.model.split_once('/').map_or(("", &*self.model), |(of, asked)| (of, asked));
        let option = match self.name.as_deref() {
            None => ModelOption::new(&*self.id, &*self.model, price),
            Some("") => return Err(Invalid::new(format_args!("models.{}.name", self.id), "it is empty; remove it")),
            Some(name) if of.is_empty() => ModelOption::new(&*self.id, name, price).upstream_model(asked),
            Some(name) => ModelOption::new(&*self.id, format!("{of}/{name}"), price).upstream_model(asked),
        };
        let option = self.aliases.iter().fold(option.status(status), |option, alias| option.alias(alias));
        is_for_everybody(&option)?;
        Ok(option)
    }
}

/// An ARN holds the number of an account, and every name of an option is published.
pub(super) fn is_for_everybody(option: &ModelOption) -> Result<(), Invalid> {
    let is_arn = |name: &str| name.starts_with("arn:") || name.contains("/arn:");
    let field = match () {
        () if is_arn(&option.model) => "model",
        () if is_arn(&option.id) => "id",
        () if option.aliases.iter().any(|alias| is_arn(alias)) => "aliases",
        () => return Ok(()),
    };
    let advice = "an ARN, which tells everybody the number of an account; give the model a name of yours for clients";
    Err(Invalid::new(format_args!("models.{}.{field}", option.id), advice))
}

/// The price list that some cards are.
///
/// # Errors
/// When a price cannot be read, two options share a name, or there is more than one default.
pub fn model_options(cards: &[ModelCard]) -> Result<ModelOptions, Invalid> {
    let wrong = |error| Invalid::new("models", error);
    let options = cards.iter().map(ModelCard::option).collect::<Result<Vec<_>, _>>()?;
    let mut options = ModelOptions::new(options).map_err(wrong)?;
    for card in cards.iter().filter(|card| card.default) {
        options = options.default_option(&card.id).map_err(wrong)?;
    }
    Ok(options)
}

/// Who pays the provider of the models.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ProviderBilling {
    /// `included_in_mpp_price`, or a word of the merchant.
    pub mode: String,
    /// Whether the agent brings a key of the provider.
    #[serde(default)]
    pub provider_key_required_from_agent: bool,
    /// Who pays it.
    pub provider_cost_paid_by: String,
}

impl ProviderBilling {
    /// Whether the provider is paid out of the price of a call.
    pub(super) fn is_included(&self) -> bool {
        self.mode == "included_in_mpp_price"
    }
}

/// What is known of a payment method beyond its offers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PaymentMethodCard {
    /// Which one.
    pub method: String,
    /// The wallet that pays by it.
    pub wallet_provider: Option<String>,
    /// Where payers may be, by ISO 3166.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Who is paid, where the challenges of the method do not say it. One that they do say has to be the same.
    pub recipient: Option<String>,
}

/// What is said of a paid route.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RouteCard {
    /// The path, with `{name}` for a segment.
    pub path: String,
    /// The method.
    #[serde(default = "post")]
    pub method: String,
    /// What is bought there.
    #[serde(default)]
    pub kind: RouteKind,
    /// `llm-generation`.
    pub category: Option<String>,
    /// One sentence about it.
    pub description: Option<String>,
    /// What the offer of this route says.
    pub offer: Option<String>,
}

fn post() -> String {
    "POST".into()
}

/// What is bought on a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RouteKind {
    /// One call.
    #[default]
    Call,
    /// A funded session.
    Session,
    /// One call of a funded session.
    SessionCall,
}

/// Funded sessions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Sessions {
    /// What a session costs unless more is asked for, as a decimal.
    pub default_budget: String,
    /// The most that one may cost.
    pub max_budget: String,
    /// Of both, by ISO 4217.
    #[serde(default = "usd")]
    pub currency: String,
    /// What they are for.
    pub purpose: String,
    /// What it takes for them to be live.
    pub production_requirement: Option<String>,
}

/// Tools for agents by the Model Context Protocol, paid by ATXP. In the document in this order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AtxpMcp {
    /// `live`, or what it waits for.
    pub status: String,
    /// Where the server is.
    pub server_url: Option<String>,
    /// Its path.
    pub endpoint: Option<String>,
    /// `mcp-streamable-http`.
    pub protocol: String,
    /// `atxp`.
    pub payment: String,
    /// Of its prices.
    pub currency: String,
    /// Whether the connection to the payment network is there.
    #[serde(default)]
    pub connection_configured: bool,
    /// Whether its authorisation is there.
    #[serde(default)]
    pub oauth_connection_configured: bool,
    /// What stands between an authorised payment and us.
    pub payment_authorization_blocker: Option<String>,
    /// Whether real payments are taken.
    #[serde(default)]
    pub production_live: bool,
    /// What the cheapest paid tool costs, as a decimal.
    pub paid_smoke_price_usd: Option<String>,
    /// Whether the tool that asks a model is live.
    #[serde(default)]
    pub bedrock_tool_live: bool,
    /// What it costs.
    pub bedrock_tool_price_usd: Option<String>,
    /// Whether the provider is paid out of it.
    #[serde(default)]
    pub provider_cost_included: bool,
    /// Whether the agent brings a key of the provider.
    #[serde(default)]
    pub provider_key_required_from_agent: bool,
    /// What has to happen before it is live.
    #[serde(default)]
    pub blockers: Vec<String>,
    /// Its tools: `atxp_mcp_tools` of the document.
    #[serde(default, skip_serializing)]
    pub tools: Vec<Tool>,
}

/// A tool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// `live`, or what it waits for.
    pub status: String,
    /// One sentence about it.
    pub description: String,
    /// What it costs, as a decimal. `0.00` is free.
    pub price_usd: String,
    /// Of the price.
    pub currency: String,
    /// Whether a provider is asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_call_started: Option<bool>,
    /// Whether the provider is paid out of the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_inference_included: Option<bool>,
    /// Whether the agent brings a key of the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_key_required_from_agent: Option<bool>,
}

impl MerchantCard {
    pub(super) fn node(&self, realm: &str) -> Node {
        Node::object()
            .with("name", self.name.as_deref().unwrap_or(realm))
            .maybe("homepage", self.homepage.as_deref())
            .maybe("logo", self.logo.as_deref())
            .maybe("logo_url", self.logo_url.as_deref().or(self.logo.as_deref()))
            .maybe("favicon", self.favicon.as_deref())
            .maybe("contact", self.contact.as_deref())
            .maybe("tos", self.tos.as_deref())
            .maybe("privacy", self.privacy.as_deref())
    }
}
