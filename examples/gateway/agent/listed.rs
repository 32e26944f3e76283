//! What is sold here, in the shapes of the documents that list it.

use http::Method;
use serde_json::{Value, json};
use tower_mpp::{
    Merchant,
    discovery::{Payment, Route, Service},
};

use super::{AgentSettings, CAPABILITIES, CATALOG, MESSAGES, QUOTE, SKILL, Stated, WELL_KNOWN, menu, reading::Reading};

/// `/v1/catalog`.
pub(super) fn catalog(agent: &AgentSettings, merchant: &Merchant, state: &Stated) -> Value {
    let prices: Vec<_> = agent.menu.options().prices().into_iter().map(menu::money).collect();
    json!({
        "realm": merchant.realm().as_str(),
        "name": agent.well_known.merchant.name,
        "status": state.status,
        "test_mode": merchant.is_test_mode(),
        "models": agent.menu.entries(&state.status),
        "routes": [
            {
                "method": "POST", "path": MESSAGES, "paid": true, "prices": prices,
                "description": agent.description, "authorization_scheme": "Authorization: Payment",
            },
            {"method": "POST", "path": QUOTE, "paid": false, "description": QUOTED},
            {"method": "GET", "path": CATALOG, "paid": false, "description": "This document."},
            {"method": "GET", "path": CAPABILITIES, "paid": false, "description": "What is switched on."},
            {"method": "GET", "path": SKILL, "paid": false, "description": "How an agent pays here."},
            {"method": "GET", "path": WELL_KNOWN, "paid": false, "description": "The discovery document."},
        ],
    })
}

const QUOTED: &str = "What a call would cost, before paying.";

/// The terms of funded sessions, with the truth about whether there are any.
pub(super) fn sessions(agent: &AgentSettings, reading: &Reading) -> Value {
    let listed = reading.member("capabilities");
    let status = listed.pointer("/sessions/status").cloned().unwrap_or_else(|| "not_live".into());
    let terms = agent.well_known.sessions.as_ref();
    json!({
        "status": status,
        "available": false,
        "default_budget": terms.map(|terms| &terms.default_budget),
        "max_budget": terms.map(|terms| &terms.max_budget),
        "currency": terms.map(|terms| &terms.currency),
    })
}

/// The surface as a service of `/openapi.json`, `/llms.txt` and `/discover`.
pub(crate) fn service(agent: &AgentSettings, merchant: &Merchant) -> Service {
    let prices = agent.menu.prices();
    let sentence = format!("{}: {prices}", agent.description);
    let mut messages = Route::default();
    messages.method = Some(Method::POST);
    messages.path = MESSAGES.into();
    messages.payment = Payment::by_model(merchant, agent.menu.options(), Some(&sentence));
    messages.description = Some(agent.description.clone());
    messages.request_schema = Some(request(agent, true));
    messages.response_schema = Some(answer());
    let mut quote = Route::default();
    quote.method = Some(Method::POST);
    quote.path = QUOTE.into();
    quote.description = Some(QUOTED.into());
    quote.request_schema = Some(request(agent, false));
    quote.response_schema = Some(quoted());
    let free = |path: &str, description: &str| {
        let mut route = Route::default();
        route.method = Some(Method::GET);
        route.path = path.into();
        route.description = Some(description.into());
        route
    };
    let mut service = Service::default();
    service.id = "agent".into();
    service.title = Some(agent.well_known.merchant.name.clone().unwrap_or_else(|| "Agent".into()));
    service.description = Some("Model calls that an agent pays for with a wallet, without an account.".into());
    service.docs_llms_url = None;
    service.routes = vec![
        messages,
        quote,
        free(CATALOG, "Models, prices and routes."),
        free(CAPABILITIES, "What is switched on."),
        free(SKILL, "How an agent pays here."),
        free(WELL_KNOWN, "The discovery document."),
    ];
    service
}

/// The body of a call. All of it is optional where only the price is asked for.
fn request(agent: &AgentSettings, is_call: bool) -> Value {
    let priced = format!(
        "One of these ids; the names and aliases in {CATALOG} are understood too. A call costs: {}.",
        agent.menu.prices()
    );
    let names: Vec<_> = agent.menu.options().live().map(|option| option.id.as_str()).collect();
    let content = json!({"oneOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "minItems": 1, "items": {
            "type": "object", "required": ["type"], "properties": {"type": {"type": "string", "minLength": 1}},
        }},
    ]});
    let fraction = json!({"type": "number", "minimum": 0, "maximum": 1});
    let typed =
        json!({"type": "object", "required": ["type"], "properties": {"type": {"type": "string", "minLength": 1}}});
    let mut schema = json!({
        "type": "object",
        "properties": {
            "model": {
                "type": "string",
                "enum": names,
                "description": priced,
            },
            "max_tokens": {"type": "integer", "minimum": 1, "maximum": agent.max_tokens},
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["role", "content"],
                    "properties": {"role": {"enum": ["user", "assistant"]}, "content": content},
                },
                "description": "The first one is the user's.",
            },
            "system": content,
            "stream": {"type": "boolean"},
            "temperature": fraction,
            "top_p": fraction,
            "top_k": {"type": "integer", "minimum": 0},
            "stop_sequences": {"type": "array", "items": {"type": "string", "minLength": 1}},
            "tools": {"type": "array", "items": {
                "type": "object", "required": ["name"], "properties": {"name": {"type": "string", "minLength": 1}},
            }},
            "tool_choice": typed,
            "thinking": typed,
            "metadata": {"type": "object"},
        },
    });
    let mut required: Vec<Value> = if is_call { vec!["max_tokens".into(), "messages".into()] } else { Vec::new() };
    if agent.menu.options().default().is_none() {
        required.push("model".into());
    }
    if let Some(members) = schema.as_object_mut().filter(|_| !required.is_empty()) {
        members.insert("required".into(), required.into());
    }
    schema
}

/// A message of the assistant.
fn answer() -> Value {
    let count = json!({"type": ["integer", "null"]});
    json!({
        "type": "object",
        "required": ["type", "role", "content"],
        "properties": {
            "id": {"type": "string"},
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "model": {"type": "string"},
            "content": {"type": "array", "items": {"type": "object"}},
            "stop_reason": {"type": ["string", "null"]},
            "stop_sequence": {"type": ["string", "null"]},
            "usage": {"type": "object", "properties": {
                "input_tokens": count, "output_tokens": count,
                "cache_read_input_tokens": count, "cache_creation_input_tokens": count,
            }},
        },
    })
}

/// A quote.
fn quoted() -> Value {
    let price = json!({
        "type": "object",
        "required": ["amount", "currency", "decimals", "display"],
        "properties": {
            "amount": {"type": "string", "description": "In minor units."},
            "currency": {"type": "string"},
            "decimals": {"type": "integer"},
            "display": {"type": "string"},
        },
    });
    json!({
        "type": "object",
        "required": ["object", "status", "payable", "price", "model_option", "payment_methods", "challenge", "note"],
        "properties": {
            "object": {"const": "quote"},
            "status": {"type": "string"},
            "payable": {"type": "boolean"},
            "price": price,
            "model_option": {"type": "object"},
            "payment_methods": {"type": "array", "items": {"type": "object"}},
            "challenge": {"type": "object", "properties": {"expires_in_seconds": {"type": "integer"}}},
            "refunds": {"type": "object"},
            "sessions": {"type": "object"},
            "note": {"type": "string"},
        },
    })
}
