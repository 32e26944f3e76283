//! Amazon Bedrock as the provider. Where its credentials are is AWS's own matter: environment, profile, container or
//! machine, in that order.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_bedrockruntime::{Client, config::ProvideCredentials as _};
use tower_mpp::upstream::bedrock::{self, Bedrock, BedrockModel};

use super::{
    super::{config::ConfigError, settings::Place},
    config,
    extras::Extras,
    menu::Menu,
};

const HOUR: u64 = 60 * 60;
/// How long AWS's chain is searched at the start. It goes on searching when calls come.
const SEARCH: Duration = Duration::from_secs(5);
/// The surface has limits of its own, which are smaller.
const LONGEST: Duration = Duration::from_secs(HOUR);
const MOST: usize = 1024 * 1024 * 1024;
/// For a client that is never called.
const NOWHERE: &str = "us-east-1";

/// `[agent.provider]` of kind `bedrock`, checked.
pub(crate) struct BedrockSettings {
    region: Option<String>,
    profile: Option<String>,
    endpoint_url: Option<String>,
    connect_timeout: Duration,
    first_token_timeout: Duration,
    idle_timeout: Duration,
    allow: Extras,
    place: String,
}

pub(super) fn check(place: Place<'_>, table: config::Bedrock) -> Result<BedrockSettings, ConfigError> {
    let seconds = |field: &str, given, or| place.seconds(&format!("agent.provider.{field}"), given, or, HOUR);
    if let Some(url) = &table.endpoint_url {
        let is_url = url.parse::<http::Uri>().is_ok_and(|url| url.scheme().is_some() && url.host().is_some());
        if !is_url {
            return Err(place.error("agent.provider.endpoint_url", format_args!("{url:?} is no absolute URL")));
        }
    }
    Ok(BedrockSettings {
        region: table.region,
        profile: table.profile,
        endpoint_url: table.endpoint_url,
        connect_timeout: seconds("connect_timeout_secs", table.connect_timeout_secs, 5)?,
        first_token_timeout: seconds("first_token_timeout_secs", table.first_token_timeout_secs, 60)?,
        idle_timeout: seconds("idle_timeout_secs", table.idle_timeout_secs, 60)?,
        allow: table.allow,
        place: place.of("agent.provider"),
    })
}

impl BedrockSettings {
    /// Looks for region and credentials. Why calls would fail, if they would, comes with it.
    pub(super) async fn open(&self, menu: &Menu) -> Result<(Bedrock, Option<String>), ConfigError> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(bedrock::http_client());
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(url) = &self.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        let slow = |_| ConfigError::new(&self.place, "AWS's configuration was not found in time; set region");
        let config = tokio::time::timeout(SEARCH, loader.load()).await.map_err(slow)?;
        if config.region().is_none() {
            return Err(ConfigError::new(
                format_args!("{}.region", self.place),
                "it is not set, and AWS's configuration (AWS_REGION, or the profile) names none",
            ));
        }
        let trouble = match config.credentials_provider() {
            None => Some("there are no AWS credentials".to_owned()),
            Some(chain) => match tokio::time::timeout(SEARCH, chain.provide_credentials()).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => {
                    // What was tried where is for the log.
                    tracing::warn!(error = ?error, "no AWS credentials");
                    Some("no AWS credentials were found; calls fail until there are some".to_owned())
                }
                Err(_) => Some("no AWS credentials were found in time; calls fail until there are some".to_owned()),
            },
        };
        Ok((self.upstream(Client::new(&config), menu)?, trouble))
    }

    /// The same without looking for anything: it can be checked, and not called.
    pub(super) fn look(&self, menu: &Menu) -> Result<Bedrock, ConfigError> {
        let region = self.region.clone().unwrap_or_else(|| NOWHERE.to_owned());
        let config = aws_sdk_bedrockruntime::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .http_client(bedrock::http_client())
            .build();
        self.upstream(Client::from_conf(config), menu)
    }

    /// The menu decides about models and tokens, and it may change while this client lives. Models by their ARN have to
    /// be known from the start.
    fn upstream(&self, client: Client, menu: &Menu) -> Result<Bedrock, ConfigError> {
        let mut builder = self
            .allow
            .tell(Bedrock::builder(client))
            .any_model(true)
            .connect_timeout(self.connect_timeout)
            .first_token_timeout(self.first_token_timeout)
            .idle_timeout(self.idle_timeout)
            .total_timeout(LONGEST)
            .max_request_bytes(MOST);
        for option in menu.options().options() {
            builder = builder.model(BedrockModel::new(option.asked_model()).name(option.bare_model()));
        }
        builder.build().map_err(|error| ConfigError::new(&self.place, error))
    }
}
