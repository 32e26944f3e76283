//! `[proxy]` and `[[services]]`, as they are written. The commented `proxy.toml` shows every field.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::{config::Injected, secrets::Secret};

/// Where all services are.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proxy {
    pub(super) base_path: Option<String>,
}

/// An API that is sold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    pub(super) preset: Option<Preset>,
    pub(super) id: Option<String>,
    pub(super) url: Option<String>,
    pub(super) title: Option<String>,
    pub(super) description: Option<String>,
    pub(super) docs_llms_url: Option<String>,
    pub(super) api_key: Option<Secret>,
    pub(super) bearer: Option<Secret>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Injected>,
    #[serde(default)]
    pub(super) remove_headers: Vec<String>,
    pub(super) currency: Option<String>,
    pub(super) body_limit: Option<usize>,
    pub(super) connect_timeout_secs: Option<u64>,
    pub(super) first_byte_timeout_secs: Option<u64>,
    pub(super) idle_timeout_secs: Option<u64>,
    pub(super) timeout_secs: Option<u64>,
    pub(super) retry: Option<Retry>,
    #[serde(default)]
    pub(super) routes: BTreeMap<String, Route>,
}

/// APIs that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Preset {
    OpenAi,
    Anthropic,
    Stripe,
}

/// When an upstream is asked once more, within one call that is charged once.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    pub(super) attempts: Option<u32>,
    pub(super) pause_ms: Option<u64>,
    pub(super) methods: Option<Vec<String>>,
    pub(super) statuses: Option<Vec<u16>>,
}

/// What one route costs, and what is different on it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    #[serde(default)]
    pub(super) free: bool,
    pub(super) price: Option<String>,
    pub(super) price_by_model: Option<BTreeMap<String, String>>,
    pub(super) currency: Option<String>,
    pub(super) description: Option<String>,
    pub(super) api_key: Option<Secret>,
    pub(super) bearer: Option<Secret>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Injected>,
    pub(super) body_limit: Option<usize>,
    pub(super) bind_body: Option<bool>,
    pub(super) request_schema: Option<Value>,
    pub(super) response_schema: Option<Value>,
}
