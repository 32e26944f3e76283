//! `[agent]` and `[well_known]`, checked.

use std::time::Duration;

use tower_mpp::{
    ReceiptHeader, Redemption,
    discovery::well_known::{self, ModelCard, Stage},
};

use super::{
    super::{
        config::{ConfigError, Environment, ReceiptForm},
        settings::Place,
    },
    config::{State, Table},
    menu::Menu,
    provider::{self, Provider, ProviderSettings},
};

/// What one price buys at most, unless the configuration says otherwise.
const MAX_TOKENS: u64 = 8192;
const TIMEOUT: u64 = 600;
const LONGEST: u64 = 60 * 60;
const DESCRIPTION: &str = "One model call";

/// The surface for agents.
pub(crate) struct AgentSettings {
    pub(crate) state: State,
    pub(crate) provider: ProviderSettings,
    pub(crate) menu: Menu,
    /// The most output of one call.
    pub(super) max_tokens: u64,
    pub(super) body_limit: usize,
    /// How long a call may take in all.
    pub(super) timeout: Duration,
    /// Whether a bare token is taken for a credential.
    pub(super) token_credentials: bool,
    /// Another one than that of `[receipts]`.
    pub(super) header: Option<ReceiptHeader>,
    pub(crate) description: String,
    pub(crate) well_known: well_known::Config,
    /// Where `[agent]` stands, for errors that are found later.
    place: String,
    /// The same of `[[models]]` and `[well_known]`.
    place_of_models: String,
    place_of_texts: String,
}

/// `[agent]`, and what may stand beside it only.
pub(in super::super) fn checked(
    place: Place<'_>,
    table: Option<Table>,
    models: Vec<ModelCard>,
    well_known: Option<well_known::Config>,
    body_limit: usize,
    environment: Environment<'_>,
) -> Result<Option<AgentSettings>, ConfigError> {
    let alone = "nothing is made of it without [agent]; add that table, or remove this one";
    match table {
        Some(table) => check(place, table, models, well_known, body_limit, environment).map(Some),
        None if !models.is_empty() => Err(place.error("models", alone)),
        None if well_known.is_some() => Err(place.error("well_known", alone)),
        None => Ok(None),
    }
}

fn check(
    place: Place<'_>,
    table: Table,
    models: Vec<ModelCard>,
    well_known: Option<well_known::Config>,
    body_limit: usize,
    environment: Environment<'_>,
) -> Result<AgentSettings, ConfigError> {
    let state = match (table.state, table.production_payments) {
        (State::Live, Some(false)) => State::NotInProduction,
        (State::NotInProduction, Some(true)) => {
            let problem = "it is true, but state = \"not-in-production\"; remove one of them";
            return Err(place.error("agent.production_payments", problem));
        }
        (state, _) => state,
    };
    let provider = provider::check(place, table.provider, environment)?;
    let max_tokens = table.max_tokens.unwrap_or(MAX_TOKENS);
    if max_tokens == 0 {
        return Err(place.error("agent.max_tokens", "0 tokens; give at least 1"));
    }
    Ok(AgentSettings {
        state,
        menu: Menu::check(place, provider.name(), models)?,
        provider,
        max_tokens,
        body_limit: place.size("agent.body_limit", table.body_limit, body_limit)?,
        timeout: place.seconds("agent.timeout_secs", table.timeout_secs, TIMEOUT, LONGEST)?,
        token_credentials: table.token_credentials.unwrap_or(true),
        header: table.receipt_header.map(|form| match form {
            ReceiptForm::Mpp => ReceiptHeader::Mpp,
            ReceiptForm::Url => ReceiptHeader::Url,
            ReceiptForm::Raw => ReceiptHeader::Raw,
        }),
        description: table.description.unwrap_or_else(|| DESCRIPTION.to_owned()),
        well_known: well_known.unwrap_or_default(),
        place: place.of("agent"),
        place_of_models: place.of("models"),
        place_of_texts: place.of("well_known"),
    })
}

impl AgentSettings {
    /// Makes the provider ready, unless there is nothing to sell.
    pub(crate) async fn open(&self) -> Result<Option<Provider>, ConfigError> {
        if !self.is_on() {
            return Ok(None);
        }
        self.provider.open(&self.menu).await.map(Some)
    }

    /// The same without asking anybody.
    pub(crate) fn look(&self) -> Result<Option<Provider>, ConfigError> {
        self.is_on().then(|| self.provider.look(&self.menu)).transpose()
    }

    /// What of the models a provider that was opened for others cannot sell.
    pub(crate) fn unknown_to(&self, provider: &Provider) -> Vec<String> {
        let options = self.menu.options().options().iter().enumerate();
        let unknown = options.filter(|(_, option)| option.is_live() && !provider.knows(option));
        unknown.map(|(index, _)| format!("models[{index}].model")).collect()
    }

    /// Where a field stands, for people.
    pub(super) fn at(&self, field: &str) -> String {
        format!("{}.{field}", self.place)
    }

    pub(super) fn at_models(&self, rest: &str) -> String {
        format!("{}{rest}", self.place_of_models)
    }

    pub(super) fn at_well_known(&self) -> &str {
        &self.place_of_texts
    }

    /// Whether payments are taken; `None` when there is nothing here.
    pub(super) fn redemption(&self) -> Option<Redemption> {
        match self.state {
            State::Live => Some(Redemption::Live),
            State::PrivatePreview => Some(Redemption::PrivatePreview),
            State::NotInProduction => Some(Redemption::NotInProduction),
            State::Disabled => None,
        }
    }

    /// The same for the discovery document.
    pub(super) fn stage(&self) -> Stage {
        match self.state {
            State::Live => Stage::Live,
            State::PrivatePreview => Stage::PrivatePreview,
            State::NotInProduction => Stage::SettlementPending,
            State::Disabled => Stage::Disabled,
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.state != State::Disabled
    }
}
