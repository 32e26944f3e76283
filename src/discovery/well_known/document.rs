//! The members of the document in their order.

use super::{
    super::{
        Invalid,
        node::{Node, trimmed},
    },
    config::{AtxpMcp, Config, ModelCard, RouteKind},
    facts::Facts,
    models::{self, Models, dollars, is_usd},
    sold::{self, Kind, Route},
};
use crate::refund::RefundRule;

const SPEC_VERSION: &str = "0.1";
const SCHEME: &str = "Authorization: Payment";
/// What is said of a part that is not served here.
const NOT_LIVE: &str = "not_live";

/// Everything that the document needs, checked.
pub(super) struct Document<'a> {
    config: &'a Config,
    facts: &'a Facts,
    models: Option<Models<'a>>,
    routes: Vec<Route<'a>>,
    methods: Node,
    billing: Option<Node>,
    refunds: Node,
    /// What is said of whatever can be paid.
    live: &'static str,
}

impl<'a> Document<'a> {
    pub(super) fn new(config: &'a Config, cards: &'a [ModelCard], facts: &'a Facts) -> Result<Self, Invalid> {
        let models = Models::new(cards, facts)?;
        let routes = sold::routes(config, models.as_ref(), facts)?;
        let live = match facts.stage {
            stage if !stage.is_live() => stage.as_str(),
            _ if facts.merchant.is_test_mode() => "test_mode",
            stage => stage.as_str(),
        };
        let methods = sold::payment_methods(&routes, config, live, facts.merchant.is_test_mode())?;
        let headline = models.as_ref().and_then(Models::headline).map(|model| &model.option.price);
        let price = headline.or_else(|| routes.first()?.price.as_ref());
        let billing = config.provider_billing.as_ref().map(|card| models::billing(card, price, models.as_ref(), facts));
        Ok(Self { config, facts, models, routes, methods, billing, refunds: refunds(facts), live })
    }

    /// Four members of each route, and no more.
    pub(super) fn minimal(&self) -> Node {
        let node = |route: &Route<'_>| {
            Node::object()
                .with("path", &route.path)
                .with("method", &route.method)
                .with("price_usd_per_call", route.per_call())
                .with("category", route.card.and_then(|card| card.category.as_ref()))
        };
        let calls = self.routes.iter().filter(|route| !matches!(route.kind, Kind::Session(_)));
        self.head().with("routes", Node::list(calls.map(node)))
    }

    fn head(&self) -> Node {
        Node::object()
            .with("spec_version", self.config.spec_version.as_deref().unwrap_or(SPEC_VERSION))
            .with("realm", self.facts.merchant.realm().as_str())
    }

    /// Everything but `generated_at`.
    pub(super) fn full(&self) -> Node {
        let config = self.config;
        let node = self
            .head()
            .with("mpp", self.mpp())
            .with("merchant", config.merchant.node(self.facts.merchant.realm().as_str()))
            .maybe("logo", config.logo.as_ref().map(Node::of))
            .maybe("icons", (!config.icons.is_empty()).then(|| Node::of(&config.icons)));
        self.selling(node, ["mpp_model_policy", "mpp_model_options"])
            .with("refunds", self.refunds.clone())
            .with("offers", sold::offers(&self.routes, config, self.models.as_ref(), self.live))
            .with("payment_methods", self.methods.clone())
            .with("routes", Node::list(self.routes.iter().map(|route| self.route(route))))
            .with("capabilities", self.capabilities())
    }

    /// The models and who pays for them, which the document says in several places.
    fn selling(&self, node: Node, [policy, options]: [&'static str; 2]) -> Node {
        let node = match &self.models {
            Some(models) => node.with(policy, models.policy()).with(options, models.options(self.live)),
            None => node,
        };
        node.maybe("mpp_provider_billing", self.billing.clone())
    }

    fn mpp(&self) -> Node {
        let (facts, reasons) = (self.facts, &self.config.reason);
        let (given, ours) = match self.live {
            "private_preview" => (
                &reasons.private_preview,
                "Private preview: discovery and challenges are enabled, and no payment is taken yet.",
            ),
            "settlement_pending" => (
                &reasons.settlement_pending,
                "Discovery and challenges are enabled; payments are refused until settlement is enabled.",
            ),
            "test_mode" => (&reasons.test_mode, "Payments are taken in test mode: no real money moves."),
            _ => (&reasons.live, "Discovery, challenges, charging, settlement and receipts are enabled."),
        };
        let charging = facts.stage.is_live();
        Node::object()
            .with("status", self.live)
            .with("discovery", true)
            .with("challenge", true)
            .with("charging", charging)
            .with("settlement", charging)
            .with("receipts", charging)
            .with("test_mode", facts.merchant.is_test_mode())
            .with("quote", facts.quote.is_some())
            .with("production_payments", facts.is_production())
            .with("reason", given.as_deref().unwrap_or(ours))
    }

    fn vendored(&self, name: &str) -> String {
        self.config.vendor.as_ref().map_or_else(|| name.to_owned(), |vendor| format!("{vendor}_{name}"))
    }

    fn route(&self, route: &Route<'_>) -> Node {
        let card = route.card;
        let price = route.per_call();
        let request = || route.offers.first().map(sold::payment_request);
        let is_call = matches!(route.kind, Kind::Call { .. });
        let mut node = Node::object().with("path", &route.path).with("method", &route.method);
        if is_call {
            node = node.maybe("price_usd_per_call", price.clone()).maybe("payment_request", request());
        }
        node = node
            .with("status", self.live)
            .maybe("category", card.and_then(|card| card.category.as_ref()))
            .maybe("description", card.and_then(|card| card.description.as_ref()));
        let scheme = match &route.kind {
            Kind::Call { .. } => SCHEME,
            Kind::Session(budget) => {
                let usd = |price: Option<&crate::Price>| price.filter(|price| is_usd(price)).map(dollars);
                node = node
                    .maybe("default_budget_usd", usd(Some(&budget.default)))
                    .maybe("max_budget_usd", usd(Some(&budget.max)))
                    .maybe("effective_price_usd_per_call", usd(budget.call.as_ref()))
                    .maybe("payment_request", request());
                SCHEME
            }
            Kind::SessionCall => {
                node = node.maybe("price_usd_per_call", price);
                "funded MPP session"
            }
        };
        let auth =
            Node::object().with("required", true).with("scheme", scheme).with(self.vendored("api_key_required"), false);
        node = node.with("auth", auth).maybe("mpp_provider_billing", self.billing.clone());
        node = node.with("refunds", self.refunds.clone());
        let by_model = !matches!(route.kind, Kind::Call { by_model: false });
        if let Some(models) = self.models.as_ref().filter(|_| by_model) {
            node = node.with("model_policy", models.policy()).with("model_options", models.options(self.live));
        }
        let receipt = Node::object()
            .with("header", "Payment-Receipt")
            .with("ledger_url", self.ledger_url())
            .with("status", self.live);
        node.with("payment_protocols", self.protocols()).with("receipt", receipt)
    }

    fn protocols(&self) -> Node {
        match &self.config.payment_protocols {
            Some(given) => Node::list(given),
            None => Node::list(["mpp"]),
        }
    }

    fn ledger_url(&self) -> Option<&str> {
        self.facts.merchant.ledger_url().filter(|_| self.facts.ledger)
    }

    fn capabilities(&self) -> Node {
        let (config, facts) = (self.config, self.facts);
        let receipts = if facts.stage.is_live() { "header" } else { NOT_LIVE };
        let format = config.receipts_format.as_deref().unwrap_or("Payment-Receipt header of the MPP core draft");
        let replay = config.replay_protection.as_deref();
        let node = Node::object()
            .with("multi_offer_discovery", true)
            .with("idempotency", facts.merchant.keeps_answers())
            .with("refunds", facts.refunds().is_on())
            .with("receipts", receipts)
            .with("receipts_format", format)
            .with("content_digest", facts.digests.then_some("rfc-9530 sha-256"))
            .with("replay_protection", replay.unwrap_or("single-use challenge, consumed on use in the payment journal"))
            .with("test_mode", facts.merchant.is_test_mode())
            .with("ledger_public", self.ledger_url().is_some())
            .with("ledger_url", self.ledger_url());
        let first = self.routes.iter().find(|route| matches!(route.kind, Kind::Call { .. }));
        self.selling(node, ["mpp_model_policy", "mpp_model_options"])
            .with("mpp_route", first.map(|route| &route.path))
            .with("quote_endpoint", facts.quote.as_ref())
            .with("authorization_scheme", SCHEME)
            .with(self.vendored("api_key_required"), false)
            .maybe("sessions", self.sessions())
            .maybe("atxp_mcp", config.atxp_mcp.as_ref().map(|mcp| self.mcp(mcp)))
            .maybe("atxp_mcp_tools", config.atxp_mcp.as_ref().map(|mcp| self.tools(mcp)))
    }

    fn sessions(&self) -> Option<Node> {
        let sessions = self.config.sessions.as_ref()?;
        let built = self.facts.built.sessions;
        let cards = self.config.routes.iter().filter(|card| built && card.kind != RouteKind::Call);
        let requirement = match built {
            true => sessions.production_requirement.as_deref(),
            false => Some("This deployment does not serve funded sessions yet."),
        };
        let status = if built { "live_when_production_payments_enabled" } else { NOT_LIVE };
        Some(
            Node::object()
                .with("status", status)
                .with("endpoints", Node::list(cards.map(|card| format!("{} {}", card.method, card.path))))
                .with("purpose", &sessions.purpose)
                .maybe("production_requirement", requirement),
        )
    }

    /// Without the server nothing of the table is true but its words.
    fn mcp(&self, table: &AtxpMcp) -> Node {
        let mut mcp = table.clone();
        if !self.facts.built.mcp {
            mcp.status = NOT_LIVE.into();
            mcp.blockers = vec!["This deployment does not serve MCP yet.".into()];
            (mcp.server_url, mcp.endpoint, mcp.payment_authorization_blocker) = (None, None, None);
            (mcp.paid_smoke_price_usd, mcp.bedrock_tool_price_usd) = (None, None);
            (mcp.connection_configured, mcp.oauth_connection_configured) = (false, false);
            (mcp.production_live, mcp.bedrock_tool_live, mcp.provider_cost_included) = (false, false, false);
        }
        Node::of(&mcp)
    }

    fn tools(&self, table: &AtxpMcp) -> Node {
        let mut tools = table.tools.clone();
        if !self.facts.built.mcp {
            for tool in &mut tools {
                tool.status = NOT_LIVE.into();
                tool.provider_call_started = tool.provider_call_started.map(|_| false);
                tool.provider_inference_included = tool.provider_inference_included.map(|_| false);
            }
        }
        Node::of(&tools)
    }
}

impl Route<'_> {
    /// The number that some members are where others are text.
    fn per_call(&self) -> Option<Node> {
        let price = self.price.as_ref().filter(|price| is_usd(price))?;
        Some(Node::number(trimmed(&dollars(price))))
    }
}

/// The rules that are on, and those that are not.
fn refunds(facts: &Facts) -> Node {
    let policy = facts.refunds();
    let rules: Vec<RefundRule> = if policy.is_on() { policy.rules().collect() } else { Vec::new() };
    let planned = RefundRule::ALL.iter().filter(|rule| !rules.contains(rule));
    Node::object()
        .with("supported", policy.is_on())
        .with("policy", if policy.is_on() { "automatic_by_rule" } else { "not_supported" })
        .with("rules", Node::list(rules.iter().map(|rule| rule.as_str())))
        .with("planned_rules", Node::list(planned.map(|rule| rule.as_str())))
}
