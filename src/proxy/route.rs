//! One route of a service: what it costs, and what is said about it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use serde_json::Value;

use super::EndpointOptions;
use crate::{
    flow::ConfigError,
    layer::PaymentLayer,
    pricing::{HeadQuote, IntoPricing, Prices, Pricing, Quote},
};

/// What a route costs and how it is described.
///
/// ```
/// use tower_mpp::{Price, proxy::{EndpointOptions, Route}};
///
/// # fn main() -> Result<(), tower_mpp::protocol::InvalidPrice> {
/// let paid = Route::paid(Price::usd("0.05")?).description("Chat completion");
/// let other_key = Route::paid_with(Price::usd("0.10")?, EndpointOptions::new().api_key("sk-images"));
/// let free = Route::free();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a route does nothing until it is given to a service"]
pub struct Route {
    pub(super) pricing: Option<Shared>,
    pub(super) adjust: Option<Adjust>,
    pub(super) options: EndpointOptions,
    pub(super) description: Option<String>,
    pub(super) request_schema: Option<Value>,
    pub(super) response_schema: Option<Value>,
    pub(super) bind_body: bool,
    pub(super) body_limit: Option<usize>,
}

/// Changes to a layer.
pub(super) struct Adjust(pub(super) Box<dyn FnOnce(PaymentLayer) -> Result<PaymentLayer, ConfigError> + Send>);

/// A price that the layer and the catalog are made from.
#[derive(Clone)]
pub(super) struct Shared(Arc<dyn Pricing>);

impl Route {
    fn new(pricing: Option<Shared>) -> Self {
        Self {
            pricing,
            adjust: None,
            options: EndpointOptions::new(),
            description: None,
            request_schema: None,
            response_schema: None,
            bind_body: true,
            body_limit: None,
        }
    }

    /// Costs something: a [`Price`](crate::Price), or any [`Pricing`].
    pub fn paid(pricing: impl IntoPricing) -> Self {
        Self::new(Some(Shared(Arc::new(pricing.into_pricing()))))
    }

    /// Costs something, and is sent with other credentials or options than the rest of the service.
    pub fn paid_with(pricing: impl IntoPricing, options: EndpointOptions) -> Self {
        Self::paid(pricing).options(options)
    }

    /// Costs nothing. It is sent with the same credentials as the paid routes.
    pub fn free() -> Self {
        Self::new(None)
    }

    /// What is different on this route.
    pub fn options(mut self, options: EndpointOptions) -> Self {
        self.options = options;
        self
    }

    /// One sentence for people, in the challenges and in discovery.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// The JSON Schema of the request body, for OpenAPI.
    pub fn request_schema(mut self, schema: impl Into<Value>) -> Self {
        self.request_schema = Some(schema.into());
        self
    }

    /// The JSON Schema of a successful answer, for OpenAPI.
    pub fn response_schema(mut self, schema: impl Into<Value>) -> Self {
        self.response_schema = Some(schema.into());
        self
    }

    /// Whether a payment is good for one body only, which means that the body is buffered before it is paid for. On by
    /// default; switch it off for streaming uploads.
    pub fn bind_body(mut self, on: bool) -> Self {
        self.bind_body = on;
        self
    }

    /// The largest request body, in bytes. Without one, a body that is bound to its payment has at most 1 MiB, and any
    /// other streams through without a limit. A declared length is refused before anything is charged.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = Some(bytes);
        self
    }

    /// Changes how the route is charged for, for instance when it settles: see [`PaymentLayer`].
    ///
    /// ```
    /// # use tower_mpp::{Price, proxy::Route, SettleTiming};
    /// # fn main() -> Result<(), tower_mpp::protocol::InvalidPrice> {
    /// let route = Route::paid(Price::usd("0.05")?).charge(|layer| layer.settle(SettleTiming::AfterHandler));
    /// # Ok(())
    /// # }
    /// ```
    pub fn charge(
        mut self,
        adjust: impl FnOnce(PaymentLayer) -> Result<PaymentLayer, ConfigError> + Send + 'static,
    ) -> Self {
        self.adjust = Some(Adjust(Box::new(adjust)));
        self
    }
}

#[async_trait]
impl Pricing for Shared {
    fn fixed(&self) -> Option<&Prices> {
        self.0.fixed()
    }

    fn known(&self) -> Vec<Prices> {
        self.0.known()
    }

    fn is_by_resource(&self) -> bool {
        self.0.is_by_resource()
    }

    fn reads_json(&self) -> bool {
        self.0.reads_json()
    }

    fn quote_head(&self, head: &Parts) -> HeadQuote {
        self.0.quote_head(head)
    }

    async fn quote(&self, head: &Parts, body: &Bytes) -> Quote {
        self.0.quote(head, body).await
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fixed() {
            Some(prices) => f.debug_tuple("Fixed").field(prices).finish(),
            None => f.write_str("Dynamic"),
        }
    }
}

impl fmt::Debug for Adjust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Adjust(..)")
    }
}
