//! The layer and its options.

use std::{fmt, sync::Arc};

use http::request::Parts;
use tower_layer::Layer;

use super::{Payment, ReceiptHeader, route::Route};
use crate::{
    Merchant,
    flow::{self, ConfigError, IdForm, OfferBook, OfferTerms, Redemption, SettleTiming},
    pricing::{IntoPricing, Pricing},
};

/// Charges for the service that it wraps. Made by [`Merchant::charge`].
///
/// ```
/// # use tower_mpp::{KeyRing, Merchant, Price, method::Sandbox, store::MemoryNonceStore};
/// use axum::{Router, routing::post};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let merchant = Merchant::builder("api.example.com", KeyRing::new([7; 32])?)
/// #     .test_mode(true).method(Sandbox::new())
/// #     .nonce_store(MemoryNonceStore::single_process(1000)).build()?;
/// let charge = merchant.charge(Price::usd("0.50")?)?.description("One model call");
/// let app: Router = Router::new().route("/v1/messages", post(|| async { "hello" }).route_layer(charge));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct PaymentLayer {
    route: Route,
}

impl Merchant {
    /// A layer that charges for whatever it wraps.
    ///
    /// Put it on the methods that a route serves, so that an unknown path stays 404 and a method that
    /// is not served stays 405: `get(handler).route_layer(merchant.charge(price)?)`.
    ///
    /// # Errors
    /// [`ConfigError::NoOffer`] when a fixed price can be paid on none of the merchant's rails, and
    /// [`ConfigError::UnknownMethod`] when a price is given for a rail that the merchant does not have.
    /// Prices that depend on the request are checked when the request comes.
    pub fn charge(&self, pricing: impl IntoPricing) -> Result<PaymentLayer, ConfigError> {
        PaymentLayer::new(self.clone(), pricing.into_pricing())
    }
}

impl PaymentLayer {
    fn new(merchant: Merchant, pricing: impl Pricing) -> Result<Self, ConfigError> {
        let book = OfferBook::new(&merchant.0, pricing.fixed())?;
        Ok(Self { route: Route::new(merchant, Arc::new(pricing), Arc::new(book)) })
    }

    /// What is bought, for people. It is shown and not bound, and left out where the challenges would
    /// not fit into 8 KB with it.
    pub fn description(mut self, description: impl AsRef<str>) -> Self {
        self.route.describe(description.as_ref());
        self
    }

    /// Lets requests through without payment when `predicate` holds, for instance for a subscriber that
    /// an outer layer has authenticated. `OPTIONS` is always free.
    pub fn free_when(mut self, predicate: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.route.free_when = Some(Arc::new(predicate));
        self
    }

    /// Adds to the scope of the challenges. A credential is good for one HTTP method and one concrete
    /// path of this merchant; use a label where one path is several resources, for instance on several
    /// hosts.
    ///
    /// Without one, two fixed prices for one path are the former and the present price of one resource: what was paid
    /// at the one and not delivered is delivered at the other, without a second charge.
    pub fn scope(mut self, label: impl Into<String>) -> Self {
        self.route.label = Some(label.into().into());
        self
    }

    /// When the money is taken: before the handler is called, unless this says otherwise.
    ///
    /// ```
    /// # use tower_mpp::{KeyRing, Merchant, Price, SettleTiming, method::Sandbox, store::MemoryNonceStore};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let merchant = Merchant::builder("api.example.com", KeyRing::new([7; 32])?)
    /// #     .test_mode(true).method(Sandbox::new())
    /// #     .nonce_store(MemoryNonceStore::single_process(1000)).build()?;
    /// let charge = merchant.charge(Price::usd("0.50")?)?.settle(SettleTiming::AfterHandler)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConfigError::SettleTiming`] when a method that this route may offer cannot settle after the handler.
    pub fn settle(mut self, timing: SettleTiming) -> Result<Self, ConfigError> {
        flow::check_timing(&self.route.merchant, &self.route.book, timing)?;
        self.route.timing = timing;
        Ok(self)
    }

    /// Whether payments are taken for what is asked for: they are, unless this says otherwise. Challenges are issued
    /// all the same.
    pub fn redemption(mut self, redemption: Redemption) -> Self {
        self.route.redemption = redemption;
        self
    }

    /// Takes `Authorization: Payment id="...", credential="..."` beside the credential of the core draft, for clients
    /// that echo nothing of a challenge but its id: `credential` is a bare token of a rail that knows what to do with
    /// one ([`PaymentMethod::token_payload`](crate::method::PaymentMethod::token_payload)), for instance a Shared
    /// Payment Token. Off by default.
    ///
    /// The ids of such a route contain what its challenges are rebuilt from, so it takes no state, and every check
    /// stays what it is. Challenges that were issued before it was switched on stay good; those that were issued
    /// while it was on do not when it is switched off.
    pub fn accept_token_credentials(mut self, on: bool) -> Self {
        self.route.ids = if on { IdForm::SelfContained } else { IdForm::Plain };
        self
    }

    /// Refuses requests whose `Authorization` has anything of another scheme, for instance an API key, also beside a
    /// payment: 403 before anything is charged, and without a challenge. Off by default: they are asked to pay, and the
    /// service behind sees what they bring.
    pub fn refuse_other_schemes(mut self, on: bool) -> Self {
        self.route.only_payments = on;
        self
    }

    /// What this route asks for, as far as its pricing [knows](Pricing::known) before a request comes: one entry for
    /// each challenge of a fixed price, and otherwise one for each rail and currency, without an amount where that
    /// depends on the request. See [`Merchant::dynamic_offers`] for a pricing that knows nothing.
    pub fn offers(&self) -> Vec<OfferTerms> {
        flow::offers_of(&self.route.merchant, &*self.route.pricing)
    }

    /// Binds the query too: for routes where it selects what is bought. Off by default.
    pub fn bind_query(mut self, on: bool) -> Self {
        self.route.bind_query = on;
        self
    }

    /// Binds the request body by its digest (core draft section 5.1.4; RFC 9530), which means
    /// buffering it. On by default; switch it off for streaming uploads, whose payment is then good for
    /// any body.
    pub fn bind_body(mut self, on: bool) -> Self {
        self.route.bind_body = on;
        self
    }

    /// The largest body in bytes that is buffered to bind it or to price it: 1 MiB by default. A larger
    /// one is answered 413, when its length is declared without reading it.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.route.body_limit = bytes;
        self
    }

    /// What `Payment-Receipt` says: the receipt of the core draft, unless this says otherwise.
    ///
    /// # Errors
    /// [`ConfigError::Setting`] for [`ReceiptHeader::Url`] where the merchant signs no receipts.
    pub fn receipt_header(mut self, header: ReceiptHeader) -> Result<Self, ConfigError> {
        if header == ReceiptHeader::Url && self.route.merchant.receipts.is_none() {
            let problem = "there is no signed receipt that a URL could lead to; add .receipts(..) to the merchant";
            return Err(ConfigError::Setting { field: "receipt_header", problem });
        }
        self.route.receipt_header = header;
        Ok(self)
    }
}

impl<S> Layer<S> for PaymentLayer {
    type Service = Payment<S>;

    fn layer(&self, inner: S) -> Payment<S> {
        Payment::new(inner, Arc::new(self.route.clone()))
    }
}

impl fmt::Debug for PaymentLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentLayer").field("route", &self.route).finish()
    }
}
