//! Who answers the calls that are paid for.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tower_mpp::{
    pricing::{ModelOption, Refused},
    receipt,
    upstream::{
        HttpUpstream, ServiceUpstream, Upstream, Usage,
        bedrock::{Bedrock, MessagesShape},
    },
};
use zeroize::Zeroizing;

use super::{
    super::{
        config::{ConfigError, Environment},
        demo,
        settings::Place,
    },
    bedrock::{self as on_bedrock, BedrockSettings},
    config,
    extras::Extras,
    menu::Menu,
    sold::Health,
};

const ANTHROPIC: &str = "https://api.anthropic.com";
/// What its SDKs send.
const ANTHROPIC_VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");
const HOUR: u64 = 60 * 60;

/// `[agent.provider]`, checked.
pub(crate) enum ProviderSettings {
    /// The built-in demo.
    Demo,
    /// Amazon Bedrock.
    Bedrock(BedrockSettings),
    /// The Messages API of Anthropic, or one like it.
    Anthropic(AnthropicSettings),
}

/// An HTTP API in the shape of Anthropic's.
pub(crate) struct AnthropicSettings {
    url: String,
    key: Option<Zeroizing<String>>,
    connect_timeout: Duration,
    first_byte_timeout: Duration,
    idle_timeout: Duration,
    allow: Extras,
    place: String,
}

/// A provider that is there. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Provider {
    name: &'static str,
    pub(super) upstream: Arc<dyn Upstream>,
    /// It says before a payment what it would refuse.
    bedrock: Option<Arc<Bedrock>>,
    /// The same, where the provider itself cannot be asked.
    shape: Arc<MessagesShape>,
    /// What its headers may say, when it is an API like Anthropic's.
    pub(super) anthropic: Option<Extras>,
    /// Why it cannot be called; for the operator.
    pub(super) trouble: Option<Arc<str>>,
    pub(super) health: Health,
}

pub(super) fn check(
    place: Place<'_>,
    table: config::Provider,
    environment: Environment<'_>,
) -> Result<ProviderSettings, ConfigError> {
    let seconds = |field: &str, given, or| place.seconds(&format!("agent.provider.{field}"), given, or, HOUR);
    Ok(match table {
        config::Provider::Demo {} => ProviderSettings::Demo,
        config::Provider::Bedrock(table) => ProviderSettings::Bedrock(on_bedrock::check(place, table)?),
        config::Provider::Anthropic(table) => {
            let key = match table.key_env {
                Some(variable) => Some(environment.required(&variable, &place.of("agent.provider.key_env"))?.into()),
                None if table.url.is_none() => {
                    return Err(place.error(
                        "agent.provider.key_env",
                        "it is not set; name the variable with the key, for instance \"ANTHROPIC_API_KEY\"",
                    ));
                }
                None => None,
            };
            ProviderSettings::Anthropic(AnthropicSettings {
                url: table.url.unwrap_or_else(|| ANTHROPIC.to_owned()),
                key,
                connect_timeout: seconds("connect_timeout_secs", table.connect_timeout_secs, 10)?,
                first_byte_timeout: seconds("first_byte_timeout_secs", table.first_byte_timeout_secs, 120)?,
                idle_timeout: seconds("idle_timeout_secs", table.idle_timeout_secs, 120)?,
                allow: table.allow,
                place: place.of("agent.provider"),
            })
        }
    })
}

impl ProviderSettings {
    /// What stands in front of its models.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Bedrock(_) => "bedrock",
            Self::Anthropic(_) => "anthropic",
        }
    }

    /// Makes it ready. Credentials that are missing do not hinder the start: they are said, and may come later.
    pub(super) async fn open(&self, menu: &Menu) -> Result<Provider, ConfigError> {
        match self {
            Self::Bedrock(settings) => {
                let (upstream, trouble) = settings.open(menu).await?;
                Ok(self.bedrock(upstream, trouble))
            }
            Self::Demo | Self::Anthropic(_) => self.look(menu),
        }
    }

    /// The same without asking anybody.
    pub(super) fn look(&self, menu: &Menu) -> Result<Provider, ConfigError> {
        Ok(match self {
            Self::Demo => self.provider(Arc::new(ServiceUpstream::new("demo", demo::router()))),
            Self::Bedrock(settings) => self.bedrock(settings.look(menu)?, None),
            Self::Anthropic(settings) => Provider {
                shape: Arc::new(settings.allow.shape()),
                anthropic: Some(settings.allow.clone()),
                ..self.provider(Arc::new(settings.upstream()?))
            },
        })
    }

    fn provider(&self, upstream: Arc<dyn Upstream>) -> Provider {
        Provider {
            name: self.name(),
            upstream,
            bedrock: None,
            shape: Arc::default(),
            anthropic: None,
            trouble: None,
            health: Health::default(),
        }
    }

    fn bedrock(&self, upstream: Bedrock, trouble: Option<String>) -> Provider {
        let upstream = Arc::new(upstream);
        let bedrock = Some(Arc::clone(&upstream));
        Provider { bedrock, trouble: trouble.map(Into::into), ..self.provider(upstream) }
    }
}

impl AnthropicSettings {
    fn upstream(&self) -> Result<HttpUpstream, ConfigError> {
        let mut builder = HttpUpstream::builder(&self.url)
            .connect_timeout(self.connect_timeout)
            .first_byte_timeout(self.first_byte_timeout)
            .idle_timeout(self.idle_timeout)
            .provider(receipt::Provider::Anthropic)
            .usage(Usage::Anthropic)
            .header(ANTHROPIC_VERSION.0, ANTHROPIC_VERSION.1);
        if let Some(key) = &self.key {
            builder = builder.header("x-api-key", key.as_bytes());
        }
        let upstream = builder.build().map_err(|error| ConfigError::new(&self.place, error))?;
        if self.key.is_some() && !upstream.is_safe_for_secrets() {
            tracing::warn!(?upstream, "the key of the provider travels unencrypted");
        }
        Ok(upstream)
    }
}

impl Provider {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Why it cannot be called, as far as that is known at the start.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What it is known to refuse without being asked.
    pub(super) fn check(&self, body: &[u8]) -> Result<(), Refused> {
        let checked = match &self.bedrock {
            Some(bedrock) => bedrock.check(body),
            None => self.shape.check(body),
        };
        checked.map_err(|error| {
            let problem = error.message().trim_end_matches('.');
            Refused::new(error.status(), format!("{problem}. Nothing was charged."))
        })
    }

    /// Whether it sells an option under the name that clients read. Bedrock knows the ARNs of the start only.
    pub(super) fn knows(&self, option: &ModelOption) -> bool {
        let Some(bedrock) = &self.bedrock else { return true };
        bedrock.name_of(option.asked_model()).is_some_and(|name| name == option.bare_model())
    }

    /// For `/health`, which everybody may read.
    pub(super) fn health(&self) -> Value {
        // Credentials may come after the start.
        let is_without = self.trouble.is_some() && !self.health.has_answered();
        let status = if is_without { "no_credentials" } else { "configured" };
        json!({"status": status, "last_call": self.health.last_call()})
    }
}
