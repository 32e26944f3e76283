//! What a Bedrock upstream is told.

use std::time::Duration;

use aws_sdk_bedrockruntime::{
    Client,
    config::{SharedHttpClient, StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use super::{
    Bedrock,
    error::{AnthropicError, invalid},
    model::{BedrockModel, Profiles},
    shape::MessagesShape,
};

/// A client for HTTPS over rustls and ring, for the configuration of the SDK. Plain HTTP is spoken where the endpoint
/// says so, as tests do.
///
/// ```no_run
/// # async fn example() {
/// use aws_config::BehaviorVersion;
/// use tower_mpp::upstream::bedrock;
///
/// // Credentials and region by AWS's own default chain.
/// let config = aws_config::defaults(BehaviorVersion::latest())
///     .http_client(bedrock::http_client())
///     .load()
///     .await;
/// let client = aws_sdk_bedrockruntime::Client::new(&config);
/// # }
/// ```
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// Why there is no upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BedrockConfigError {
    /// There is nothing to call.
    #[error("no model: add one with `model`")]
    NoModel,
    /// Two models have one name.
    #[error("two models are called {0:?}: give one of them another alias")]
    Ambiguous(String),
    /// The default is none of the models.
    #[error("the default model {0:?} is none of the models: add it with `model`")]
    NoSuchDefault(String),
    /// A model has no id, or a name is empty.
    #[error("a model has an empty id or name")]
    EmptyName,
    /// A limit is zero.
    #[error("{0} must be more than zero")]
    Zero(&'static str),
}

/// Collects what a [`Bedrock`] needs.
#[derive(Debug)]
#[must_use = "nothing happens until `build()`"]
pub struct BedrockBuilder {
    client: Client,
    models: Vec<BedrockModel>,
    default: Option<String>,
    any: bool,
    profiles: Profiles,
    region: Option<String>,
    betas: Vec<String>,
    shape: MessagesShape,
    limits: Limits,
}

/// How long and how large things may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) first_token: Duration,
    pub(super) idle: Duration,
    pub(super) total: Duration,
    pub(super) request: usize,
    pub(super) answer: usize,
    pub(super) max_tokens: Option<u32>,
    pub(super) retries: u32,
}

impl BedrockBuilder {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            models: Vec::new(),
            default: None,
            any: false,
            profiles: Profiles::default(),
            region: None,
            betas: Vec::new(),
            shape: MessagesShape::of_bedrock(),
            limits: Limits {
                connect: Duration::from_secs(5),
                first_token: Duration::from_secs(60),
                idle: Duration::from_secs(60),
                total: Duration::from_secs(600),
                request: 16 * 1024 * 1024,
                answer: 64 * 1024 * 1024,
                max_tokens: None,
                retries: 0,
            },
        }
    }

    /// A model that clients may ask for. The first is the default.
    pub fn model(mut self, model: BedrockModel) -> Self {
        self.models.push(model);
        self
    }

    /// The model of requests that name none, by any of its names.
    pub fn default_model(mut self, name: impl Into<String>) -> Self {
        self.default = Some(name.into());
        self
    }

    /// Lets clients ask for any model of the account, by its id. Off by default: models differ in their cost by a
    /// factor of a thousand.
    pub fn any_model(mut self, on: bool) -> Self {
        self.any = on;
        self
    }

    /// Calls models whose id begins with `ids` through the inference profile of a place: with `"anthropic."` and
    /// `"us."`, `anthropic.claude-sonnet-4-6` is called as `us.anthropic.claude-sonnet-4-6`. The longest match counts.
    pub fn inference_profile(mut self, ids: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.profiles.add(ids.into(), prefix.into());
        self
    }

    /// The region in receipts. By default that of the client.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// A beta of Anthropic's that clients may switch on, by the header `anthropic-beta` or in the body. By default
    /// none: some cost more. Others are left out.
    pub fn beta(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.shape = self.shape.allow_beta(&name);
        self.betas.push(name);
        self
    }

    /// A tool of the provider that clients of Anthropic's models may use, by its type: `text_editor_20250728`. By
    /// default none: see [`MessagesShape`].
    pub fn allow_tool(mut self, kind: impl Into<String>) -> Self {
        self.shape = self.shape.allow_tool(kind);
        self
    }

    /// A member that bodies for Anthropic's models may have beside those of [`MessagesShape`]: `context_management`.
    pub fn allow_member(mut self, name: impl Into<String>) -> Self {
        self.shape = self.shape.allow_member(name);
        self
    }

    /// How long connecting may take; 5 seconds by default.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.limits.connect = limit;
        self
    }

    /// How long a stream may take up to its first token; a minute by default. Nobody has to pay for a stream that
    /// does not begin: see [`RefundRule::ProviderTimeoutBeforeFirstToken`](crate::refund::RefundRule).
    pub fn first_token_timeout(mut self, limit: Duration) -> Self {
        self.limits.first_token = limit;
        self
    }

    /// How long a stream may be silent after it has begun; a minute by default.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle = limit;
        self
    }

    /// How long a call may take in all, and so an answer that is no stream; ten minutes by default.
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.limits.total = limit;
        self
    }

    /// The largest request in bytes; 16 MiB by default. Images count as they are written.
    pub fn max_request_bytes(mut self, limit: usize) -> Self {
        self.limits.request = limit;
        self
    }

    /// The largest answer in bytes; 64 MiB by default.
    pub fn max_answer_bytes(mut self, limit: usize) -> Self {
        self.limits.answer = limit;
        self
    }

    /// The most tokens that a request may ask for, where its model has no limit of its own.
    pub fn max_tokens(mut self, limit: u32) -> Self {
        self.limits.max_tokens = Some(limit);
        self
    }

    /// How often a call that Bedrock has refused because of its rate is sent again, within the time of the call. By
    /// default it is not. Nothing else is ever sent twice.
    pub fn throttling_retries(mut self, times: u32) -> Self {
        self.limits.retries = times;
        self
    }

    /// The upstream. Retries and time limits of the client are replaced by those given here.
    ///
    /// # Errors
    /// When models have no names or share them, when the default is none of them, or a limit is zero.
    pub fn build(self) -> Result<Bedrock, BedrockConfigError> {
        let limits = self.limits;
        for (name, zero) in [
            ("connect_timeout", limits.connect.is_zero()),
            ("first_token_timeout", limits.first_token.is_zero()),
            ("idle_timeout", limits.idle.is_zero()),
            ("total_timeout", limits.total.is_zero()),
            ("max_request_bytes", limits.request == 0),
            ("max_answer_bytes", limits.answer == 0),
            ("max_tokens", limits.max_tokens == Some(0) || self.models.iter().any(|model| model.max_tokens == Some(0))),
        ] {
            if zero {
                return Err(BedrockConfigError::Zero(name));
            }
        }
        let catalog = Catalog::new(self.models, self.default, self.any, self.profiles)?;
        let config = self.client.config();
        let region = self.region.or_else(|| config.region().map(ToString::to_string));
        let mut own = config
            .to_builder()
            .retry_config(RetryConfig::disabled())
            // A model may think for long without a byte: our own limits watch over that.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(limits.connect)
                    .disable_read_timeout()
                    .disable_operation_timeout()
                    .disable_operation_attempt_timeout()
                    .build(),
            );
        if config.http_client().is_none() {
            own = own.http_client(http_client());
        }
        Ok(Bedrock {
            client: Client::from_conf(own.build()),
            catalog,
            region,
            betas: self.betas,
            shape: self.shape,
            limits,
        })
    }
}

/// The models that clients may ask for.
#[derive(Debug)]
pub(super) struct Catalog {
    models: Vec<BedrockModel>,
    default: Option<usize>,
    any: bool,
    profiles: Profiles,
}

impl Catalog {
    fn new(
        mut models: Vec<BedrockModel>,
        default: Option<String>,
        any: bool,
        profiles: Profiles,
    ) -> Result<Self, BedrockConfigError> {
        if models.is_empty() && !any {
            return Err(BedrockConfigError::NoModel);
        }
        for (at, model) in models.iter().enumerate() {
            let names = || [&model.id, &model.name].into_iter().chain(&model.aliases);
            if names().any(|name| name.is_empty()) {
                return Err(BedrockConfigError::EmptyName);
            }
            let mut others = models.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other);
            if let Some(name) = others.find_map(|other| names().find(|name| other.is_called(name))) {
                return Err(BedrockConfigError::Ambiguous(name.clone()));
            }
        }
        let default = match default {
            Some(name) => match models.iter().position(|model| model.is_called(&name)) {
                None => return Err(BedrockConfigError::NoSuchDefault(name)),
                found => found,
            },
            None => (!models.is_empty()).then_some(0),
        };
        for model in &mut models {
            model.id = profiles.id(&model.id);
        }
        Ok(Self { models, default, any, profiles })
    }

    /// The model that a client means.
    pub(super) fn find(&self, asked: Option<&str>) -> Result<BedrockModel, AnthropicError> {
        let Some(asked) = asked else {
            let default = self.default.and_then(|at| self.models.get(at));
            return default.cloned().ok_or_else(|| invalid("model: is required"));
        };
        if let Some(model) = self.models.iter().find(|model| model.is_called(asked)) {
            return Ok(model.clone());
        }
        // An ARN would call what is somebody's own, in a region of their choice.
        let id = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        let is_arn = asked.trim_start_matches("bedrock/").starts_with("arn:");
        if self.any && !is_arn && asked.trim_start_matches("bedrock/").chars().all(id) {
            let mut model = BedrockModel::new(asked);
            model.id = self.profiles.id(&model.id);
            return Ok(model);
        }
        // Whoever reads the answer may not be who wrote the ARN.
        Err(match is_arn {
            true => invalid("model: this ARN is not offered here"),
            false => invalid(format!("model: {asked:?} is not offered here")),
        })
    }
}
