//! What of the gateway is live, in test mode or disabled, and why: said at the start, and by `--check`.

use std::fmt;

use tower_mpp::{method::PaymentMethod as _, upstream::Upstream as _};

use super::{
    agent,
    app::Foundation,
    common::journal::Location,
    routes::{ADMIN, Pricing},
    services::ServiceSettings,
    settings::Settings,
    upstream::settings::UpstreamSettings,
};

/// What a part of the gateway is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Live,
    /// It works, but for nothing that lasts: no money moves, or a restart forgets it.
    TestMode,
    Disabled,
}

/// One part of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    part: String,
    state: State,
    why: String,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Report(Vec<Line>);

impl State {
    /// Of what is sold: nothing is live where only test money is taken.
    pub(crate) fn of_money(settings: &Settings) -> Self {
        match settings.stripe.as_ref().is_some_and(|stripe| !stripe.is_test()) {
            true => Self::Live,
            false => Self::TestMode,
        }
    }
}

impl Line {
    pub(crate) fn new(part: impl Into<String>, state: State, why: impl Into<String>) -> Self {
        Self { part: part.into(), state, why: why.into() }
    }
}

impl Report {
    pub(crate) fn of(settings: &Settings, foundation: &Foundation) -> Self {
        let mut lines = vec![stripe(settings), sandbox(settings), journal(settings)];
        lines.push(routes(settings));
        lines.extend(services(settings));
        lines.push(agent(settings, foundation));
        lines.extend(api(settings));
        lines.push(discovery(settings));
        lines.push(receipts(settings, foundation));
        lines.push(refunds(settings));
        lines.push(match settings.admin {
            Some(_) => Line::new("admin", State::Live, format!("The operator's routes are on, under {ADMIN}.")),
            None => Line::new("admin", State::Disabled, "There is neither [admin] nor GATEWAY_ADMIN_TOKEN."),
        });
        Self(lines)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.0.iter().map(|line| line.part.len()).max().unwrap_or_default();
        self.0.iter().try_for_each(|Line { part, state, why }| writeln!(f, "  {part:widest$}  {state:9}  {why}"))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Live => "live",
            Self::TestMode => "test mode",
            Self::Disabled => "disabled",
        })
    }
}

fn stripe(settings: &Settings) -> Line {
    const PART: &str = "rails.stripe";
    match &settings.stripe {
        Some(stripe) if stripe.is_test() => {
            Line::new(PART, State::TestMode, "The secret key is a test key: no money moves.")
        }
        Some(_) => Line::new(PART, State::Live, "The secret key is a live one: money moves."),
        None => Line::new(PART, State::Disabled, "There is no [rails.stripe]."),
    }
}

fn sandbox(settings: &Settings) -> Line {
    const PART: &str = "rails.sandbox";
    match settings.sandbox {
        true => Line::new(PART, State::TestMode, "It takes play money that every payer has."),
        false => Line::new(PART, State::Disabled, "rails.sandbox is not true."),
    }
}

fn journal(settings: &Settings) -> Line {
    const PART: &str = "payments";
    match &settings.journal {
        Location::Memory { .. } => Line::new(
            PART,
            State::TestMode,
            "Payments are remembered in memory: a restart forgets what was paid and what was delivered.",
        ),
        durable => Line::new(PART, State::Live, format!("Payments are remembered in {durable}.")),
    }
}

fn routes(settings: &Settings) -> Line {
    const PART: &str = "routes";
    if settings.routes.is_empty() {
        return Line::new(PART, State::Disabled, "There are no [[routes]].");
    }
    let paid = settings.routes.iter().filter(|route| !matches!(route.pricing, Pricing::Free)).count();
    let free = settings.routes.len() - paid;
    let to = match &settings.upstream {
        UpstreamSettings::Demo => "the built-in demo: no model is asked".to_owned(),
        UpstreamSettings::Http(upstream) => upstream.name().to_owned(),
    };
    let state = if paid == 0 { State::Live } else { State::of_money(settings) };
    Line::new(PART, state, format!("{paid} paid and {free} free, to {to}."))
}

fn services(settings: &Settings) -> Vec<Line> {
    if settings.services.list.is_empty() {
        return vec![Line::new("services", State::Disabled, "There are no [[services]].")];
    }
    let mounts = settings.services.mounts();
    let line = |(service, mount): (&ServiceSettings, String)| {
        let (paid, free) = service.counts();
        let state = if paid == 0 { State::Live } else { State::of_money(settings) };
        let why = format!("{paid} paid and {free} free at {mount}/, to {}.", service.upstream());
        Line::new(format!("services.{}", service.id), state, why)
    };
    settings.services.list.iter().zip(mounts).map(line).collect()
}

fn agent(settings: &Settings, foundation: &Foundation) -> Line {
    const PART: &str = "agent";
    let Some(agent) = &settings.agent else { return Line::new(PART, State::Disabled, "There is no [agent].") };
    let (state, taken) = match agent.state {
        agent::State::Live => (State::of_money(settings), "one call for one payment"),
        agent::State::PrivatePreview => (State::Disabled, "a private preview: prices are shown, no payment is taken"),
        agent::State::NotInProduction => {
            (State::Disabled, "not in production: challenges are issued, no payment is taken")
        }
        agent::State::Disabled => return Line::new(PART, State::Disabled, "state is \"disabled\": all of it is 404."),
    };
    let models = agent.menu.options().live().count();
    let mut why = format!("{models} models of {} at {}: {taken}.", agent.menu.provider(), agent::MESSAGES);
    if let Some(trouble) = foundation.provider.as_ref().and_then(|provider| provider.trouble()) {
        why.push_str(&format!(" But {trouble}."));
    }
    Line::new(PART, state, why)
}

/// Not spoken of where there are none, as in every document.
fn api(settings: &Settings) -> Option<Line> {
    let api = settings.api.as_ref()?;
    let paths = api.routes.iter().map(|route| route.path.as_str()).collect::<Vec<_>>().join(", ");
    Some(Line::new("api", State::Live, format!("{paths}: for customers with a key, never for payments.")))
}

fn discovery(settings: &Settings) -> Line {
    const PART: &str = "discovery";
    match settings.discovery {
        Some(_) => Line::new(PART, State::Live, "What is sold is told at /llms.txt, /discover and /openapi.json."),
        None => Line::new(PART, State::Disabled, "It is switched off by enabled = false in [discovery]."),
    }
}

fn receipts(settings: &Settings, foundation: &Foundation) -> Line {
    const PART: &str = "receipts";
    match &foundation.receipts {
        Some(issuing) => {
            let (base, keys) = (issuing.receipts.base_url(), issuing.receipts.keys_path());
            let why = format!("Every paid call gets a signed receipt: {base}/ledger (keys: {base}{keys}).");
            Line::new(PART, State::of_money(settings), why)
        }
        None => Line::new(PART, State::Disabled, "There is no [receipts]."),
    }
}

fn refunds(settings: &Settings) -> Line {
    const PART: &str = "refunds";
    if !settings.refunds.is_on() {
        return Line::new(
            PART,
            State::Disabled,
            "No rule of [refunds] gives money back: what was paid and not delivered can be asked for again.",
        );
    }
    let rules = settings.refunds.rules().map(|rule| rule.as_str()).collect::<Vec<_>>().join(", ");
    Line::new(PART, State::of_money(settings), format!("Money is given back unasked, by {rules}."))
}
