//! The merchant's surface for agents: a model call that a wallet pays for, and everything an agent reads before that.
//!
//! | | |
//! |---|---|
//! | `POST /v1/agent/messages` | one call in the shape of Anthropic's Messages API, paid |
//! | `POST /v1/agent/quote` | what a call would cost, free |
//! | `GET /.well-known/mpp`, `/.well-known/mpp.json` | who sells what, and what works |
//! | `GET /v1/catalog`, `/v1/capabilities`, `/SKILL.md` | the same in parts, and for language models |
//!
//! All of it is made from `[agent]` and `[well_known]`, and from the running merchant: no document can say another
//! price than a challenge. While it is disabled, all of it is 404.

mod bedrock;
mod config;
mod extras;
pub(crate) mod health;
pub(crate) mod keyed;
mod listed;
mod menu;
mod messages;
mod provider;
mod quote;
mod reading;
mod settings;
mod skill;
mod sold;

use std::sync::Arc;

use axum::{
    Router,
    routing::{MethodFilter, any, get, on_service, post},
};
use bytes::Bytes;
use http::Method;
use tower_mpp::{
    Merchant, PaymentLayer, Redemption,
    discovery::well_known::{Built, Facts, Form, WellKnown},
    upstream::UpstreamService,
};

pub(super) use self::settings::checked;
pub(crate) use self::{
    config::{DEMO, State, Table},
    listed::service,
    provider::Provider,
    settings::AgentSettings,
};
use self::{messages::Called, quote::Quoting, reading::Reading, skill::Skill, sold::Sold};
use super::{app::Foundation, config::ConfigError, settings::Settings};

pub(crate) const MESSAGES: &str = "/v1/agent/messages";
const QUOTE: &str = "/v1/agent/quote";
const CATALOG: &str = "/v1/catalog";
const CAPABILITIES: &str = "/v1/capabilities";
const SKILL: &str = "/SKILL.md";
const WELL_KNOWN: &str = "/.well-known/mpp";
const WELL_KNOWN_JSON: &str = "/.well-known/mpp.json";

/// Everything of this surface: no route of the configuration can have one of them.
pub(crate) const PATHS: [&str; 7] = [MESSAGES, QUOTE, CATALOG, CAPABILITIES, SKILL, WELL_KNOWN, WELL_KNOWN_JSON];

/// What is said of the state of payments, everywhere in the same words.
#[derive(Clone, Debug)]
struct Stated {
    status: String,
    payable: bool,
    reason: String,
}

/// The routes of the surface. A disabled one is 404, whatever else is served under its paths.
pub(super) fn router(
    agent: &AgentSettings,
    settings: &Settings,
    foundation: &Foundation,
) -> Result<Router, ConfigError> {
    let Some(redemption) = agent.redemption() else {
        let absent = |router: Router, path| router.route(path, any(|| async { reading::absent() }));
        return Ok(PATHS.into_iter().fold(Router::new(), absent));
    };
    let merchant = &foundation.merchant;
    let provider = provider(agent, foundation)?;
    let called = Called { menu: agent.menu.clone(), provider, max_tokens: agent.max_tokens };
    let body_limit = agent.body_limit;
    let sold = sold(agent, foundation, body_limit)?;
    let charge = charge(agent, foundation, called.clone(), redemption)?;

    let (well_known, reading) = documents(agent, merchant)?;
    let state = reading.stated();
    let skill = Bytes::from(skill(agent, settings, foundation, &state).text());
    let catalog = listed::catalog(agent, merchant, &state);
    let capabilities = reading.capabilities();
    let quoting = Quoting {
        merchant: merchant.clone(),
        called,
        state,
        body_limit,
        challenge_ttl: settings.challenge_ttl,
        refunds: reading.member("refunds"),
        sessions: listed::sessions(agent, &reading),
        provider_billing: reading.member("mpp_provider_billing"),
    };
    let mut router = Router::new()
        .route(MESSAGES, on_service(MethodFilter::POST, sold).route_layer(charge))
        .route(QUOTE, post(quote::answer).with_state(Arc::new(quoting)))
        .route(CATALOG, get(move || async move { reading::json(&catalog) }))
        .route(CAPABILITIES, get(move || async move { reading::json(&capabilities) }))
        .route(SKILL, get(move || async move { reading::markdown(skill) }));
    let well_known = reading::well_known(well_known)?;
    for path in [WELL_KNOWN, WELL_KNOWN_JSON] {
        let well_known = well_known.clone();
        router = router.route(path, get(move |request| async move { reading::answer(&well_known, request) }));
    }
    Ok(router)
}

/// The call itself, behind a payment or a key.
fn sold(agent: &AgentSettings, foundation: &Foundation, body_limit: usize) -> Result<UpstreamService, ConfigError> {
    let provider = provider(agent, foundation)?;
    let sold = Sold { provider, menu: agent.menu.clone(), body_limit, max_tokens: agent.max_tokens };
    Ok(UpstreamService::new(sold).timeout(agent.timeout).body_limit(body_limit))
}

fn provider(agent: &AgentSettings, foundation: &Foundation) -> Result<Provider, ConfigError> {
    let restart = || ConfigError::new(agent.at("provider"), "it is opened at the start: restart the gateway");
    let opened = foundation.provider.as_ref().filter(|provider| provider.name() == agent.menu.provider());
    opened.cloned().ok_or_else(restart)
}

/// What stands before the call.
fn charge(
    agent: &AgentSettings,
    foundation: &Foundation,
    called: Called,
    redemption: Redemption,
) -> Result<PaymentLayer, ConfigError> {
    let merchant = &foundation.merchant;
    // What a call costs is looked up when it comes; whether it can be paid is known now.
    for (index, option) in agent.menu.options().options().iter().enumerate().filter(|(_, option)| option.is_live()) {
        let payable = merchant.charge(option.price.clone()).map(drop);
        payable.map_err(|error| ConfigError::new(agent.at_models(&format!("[{index}].price")), error))?;
    }
    let header = agent.header.or(foundation.receipts.as_ref().map(|issuing| issuing.header)).unwrap_or_default();
    let charge = merchant.charge(called).map_err(|error| ConfigError::new(agent.at_models(""), error))?;
    let charge = charge
        .receipt_header(header)
        .map_err(|error| ConfigError::new(agent.at("receipt_header"), error))?
        .body_limit(agent.body_limit)
        .bind_query(true)
        .description(&agent.description)
        .redemption(redemption)
        .refuse_other_schemes(true)
        .accept_token_credentials(agent.token_credentials);
    Ok(charge)
}

/// The discovery document as it is configured, and all that there is to say.
fn documents(agent: &AgentSettings, merchant: &Merchant) -> Result<(WellKnown, Reading), ConfigError> {
    let facts = Facts::of(merchant)
        .stage(agent.stage())
        .models(agent.menu.options().clone())
        .sold_by_model(Method::POST, MESSAGES)
        .quote(QUOTE)
        .built(Built::default());
    let make = |config| WellKnown::new(config, agent.menu.cards(), &facts);
    let wrong = |error| ConfigError::new(agent.at_well_known(), error);
    let mut in_full = agent.well_known.clone();
    in_full.form = Form::Full;
    Ok((make(&agent.well_known).map_err(wrong)?, Reading::new(&make(&in_full).map_err(wrong)?)?))
}

fn skill<'a>(
    agent: &'a AgentSettings,
    settings: &Settings,
    foundation: &'a Foundation,
    state: &'a Stated,
) -> Skill<'a> {
    let merchant = &foundation.merchant;
    Skill {
        name: agent.well_known.merchant.name.as_deref().unwrap_or(merchant.realm().as_str()),
        merchant,
        menu: &agent.menu,
        state,
        origin: &foundation.origin,
        discovery: settings.discovery.is_some(),
        refunds: settings.refunds.is_on(),
        challenge_secs: settings.challenge_ttl.as_secs(),
        max_tokens: agent.max_tokens,
        token_credentials: agent.token_credentials,
    }
}
