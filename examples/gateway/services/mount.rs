//! From the settings of the services to a proxy.

use std::fmt::Display;

use tower_mpp::{
    Merchant, ReceiptHeader,
    proxy::{EndpointOptions, Proxy, Route, Service, presets},
    upstream::{self, Failure, UpstreamError},
};

use super::{
    super::{app::Foundation, config::ConfigError, pricing, routes::Pricing},
    Credentials, Preset, Retry, ServiceRoute, ServiceSettings, Services,
};

/// Everything that is sold route by route; nothing without services.
pub(crate) fn proxy(services: &Services, foundation: &Foundation) -> Result<Option<Proxy>, ConfigError> {
    if services.list.is_empty() {
        return Ok(None);
    }
    let merchant = &foundation.merchant;
    let header = foundation.receipts.as_ref().map(|issuing| issuing.header);
    let mut builder = Proxy::builder(merchant.clone()).base_path(services.base_path.as_str());
    for service in &services.list {
        builder = builder.service(mounted(service, merchant, header)?);
    }
    builder.build().map(Some).map_err(|error| ConfigError::new(&services.place, error))
}

fn mounted(
    settings: &ServiceSettings,
    merchant: &Merchant,
    header: Option<ReceiptHeader>,
) -> Result<Service, ConfigError> {
    let Credentials { api_key, bearer, headers } = &settings.credentials;
    let key = api_key.as_ref().map(|key| key.as_str()).unwrap_or_default();
    let mut service = match settings.preset {
        Some(Preset::OpenAi) => presets::openai(key),
        Some(Preset::Anthropic) => presets::anthropic(key),
        Some(Preset::Stripe) => presets::stripe(key),
        None => Service::new(settings.id.as_str(), settings.upstream()),
    };
    service = service.id(settings.id.as_str()).base_url(settings.upstream());
    if let Some(title) = &settings.title {
        service = service.title(title);
    }
    if let Some(description) = &settings.description {
        service = service.description(description);
    }
    if let Some(url) = &settings.docs_llms_url {
        service = service.docs_llms_url(url);
    }
    if let Some(token) = bearer {
        service = service.bearer(token.as_str());
    }
    for (name, value) in headers {
        service = service.header(name, value.as_str());
    }
    for name in &settings.remove_headers {
        service = service.remove_header(name);
    }
    let (connect, first_byte, idle) = (settings.limits.connect, settings.limits.first_byte, settings.limits.idle);
    service =
        service.http(move |client| client.connect_timeout(connect).first_byte_timeout(first_byte).idle_timeout(idle));
    if let Some(limit) = settings.limits.total {
        service = service.timeout(limit);
    }
    if let Some(retry) = settings.retry.clone() {
        let attempts = retry.attempts;
        service = service.http(move |client| client.max_attempts(attempts));
        service = service.on_upstream_error(move |failure| retry.decide(failure));
    }
    for route in &settings.routes {
        service = service.route(route.key.text(), sold(route, merchant, header)?);
    }
    Ok(service)
}

fn sold(settings: &ServiceRoute, merchant: &Merchant, header: Option<ReceiptHeader>) -> Result<Route, ConfigError> {
    let wrong = |field: &str, error: &dyn Display| ConfigError::new(format_args!("{}.{field}", settings.place), error);
    let mut route = match &settings.pricing {
        Pricing::Free => Route::free(),
        Pricing::Fixed(price) => {
            merchant.charge(price.clone()).map(drop).map_err(|error| wrong("price", &error))?;
            Route::paid(price.clone())
        }
        Pricing::ByModel(prices) => {
            // What a request costs is looked up when it comes; whether it can be paid is known now.
            for (model, price) in prices {
                let payable = merchant.charge(price.clone()).map(drop);
                payable.map_err(|error| wrong(&format!("price_by_model.{model}"), &error))?;
            }
            Route::paid(pricing::by_model(prices.clone()).map_err(|error| wrong("price_by_model", &error))?)
        }
    };
    if let (false, Some(header)) = (matches!(settings.pricing, Pricing::Free), header) {
        route = route.charge(move |layer| layer.receipt_header(header));
    }
    if let Some(description) = &settings.description {
        route = route.description(description);
    }
    if let Some(schema) = &settings.request_schema {
        route = route.request_schema(schema.clone());
    }
    if let Some(schema) = &settings.response_schema {
        route = route.response_schema(schema.clone());
    }
    let Credentials { api_key, bearer, headers } = &settings.credentials;
    let mut options = EndpointOptions::new();
    if let Some(key) = api_key {
        options = options.api_key(key.as_str());
    }
    if let Some(token) = bearer {
        options = options.bearer(token.as_str());
    }
    for (name, value) in headers {
        options = options.header(name, value.as_str());
    }
    Ok(route.options(options).bind_body(settings.bind_body).body_limit(settings.body_limit))
}

impl Retry {
    /// Within one call, for which nothing more is charged.
    fn decide(&self, failure: &Failure<'_>) -> upstream::Retry {
        let is_passing = match (failure.status(), failure.error()) {
            (Some(status), _) => self.statuses.contains(&status),
            // One that was waited for in vain is not waited for again.
            (None, Some(error)) => matches!(
                error,
                UpstreamError::Unreachable(_) | UpstreamError::ConnectTimeout | UpstreamError::Broken(_)
            ),
            (None, None) => false,
        };
        if !failure.can_retry || !is_passing || !self.methods.contains(failure.method) {
            return upstream::Retry::No;
        }
        upstream::Retry::After(self.pause.saturating_mul(1 << failure.attempt.saturating_sub(1).min(8)))
    }
}
