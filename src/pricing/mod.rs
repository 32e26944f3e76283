//! Pricing: from a request to what it costs.
//!
//! A [`Price`] is the simplest [`Pricing`]; a closure over the head of the request is another;
//! [`with_body`] and [`with_async`] take more, and [`ModelOptions`] reads the model in a JSON body.
//! Whatever a price depends on, it is decided before a challenge is issued, and decided again, from the
//! merchant's own side, when the credential comes.

mod closures;
mod media_type;
mod models;
mod named_model;
mod quote;

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;

pub(crate) use self::media_type::MediaType;
pub use self::{
    closures::{WithAsync, WithBody, with_async, with_body},
    models::{InvalidModelOptions, ModelOption, ModelOptions, ModelStatus},
    quote::{Prices, Quote, Refused},
};
use crate::protocol::Price;

/// Tells what a request costs.
///
/// Implemented by [`Price`], [`Prices`] and closures `Fn(&http::request::Parts) -> Q`, where `Q` is a
/// [`Price`], [`Prices`], a [`Quote`], an `Option` of these (`None` is free) or a `Result` of these
/// and [`Refused`].
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not tell a price",
    label = "this must implement `Pricing`",
    note = "use a `Price`, `Prices`, a closure `|head: &http::request::Parts| ...`, `pricing::with_body` or `pricing::with_async`"
)]
pub trait Pricing: Send + Sync + 'static {
    /// A price that is the same for every request, so that it can be checked and prepared once, at
    /// start-up.
    fn fixed(&self) -> Option<&Prices> {
        None
    }

    /// The prices that it may ask for, as far as they are known before a request comes: for discovery.
    fn known(&self) -> Vec<Prices> {
        self.fixed().into_iter().cloned().collect()
    }

    /// Whether the HTTP method, the path and the body of a request decide alone, as with [`ModelOptions`]: no query, no
    /// other header, nothing of who asks. A request that was paid for at another price was then priced before the
    /// price changed, and what was paid and not delivered is delivered. Where this is `false`, which is what a
    /// pricing says that does not implement it, such a payment is only delivered where it covers the present price:
    /// it might be for a cheaper request to the same path.
    fn is_by_resource(&self) -> bool {
        self.fixed().is_some()
    }

    /// Whether it reads the body as JSON. Where that body is forwarded, nobody else may read it as something else: a
    /// [proxy](crate::proxy) refuses another `Content-Type`, and adds the missing one.
    fn reads_json(&self) -> bool {
        false
    }

    /// Decides from the head of the request, or says what else it takes.
    fn quote_head(&self, head: &Parts) -> HeadQuote;

    /// Decides from the head and the body. Called after [`HeadQuote::NeedsBody`] and
    /// [`HeadQuote::NeedsTime`]; in the second case `body` is empty unless the route binds bodies.
    async fn quote(&self, head: &Parts, body: &Bytes) -> Quote;
}

/// What [`Pricing::quote_head`] found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HeadQuote {
    /// Decided.
    Quote(Quote),
    /// The body decides: it is buffered, up to the route's limit.
    NeedsBody,
    /// Something has to be awaited.
    NeedsTime,
}

#[async_trait]
impl Pricing for Prices {
    fn fixed(&self) -> Option<&Prices> {
        Some(self)
    }

    fn quote_head(&self, _: &Parts) -> HeadQuote {
        HeadQuote::Quote(Quote::Charge(self.clone()))
    }

    async fn quote(&self, _: &Parts, _: &Bytes) -> Quote {
        Quote::Charge(self.clone())
    }
}

/// Lets [`Merchant::charge`](crate::Merchant::charge) take a bare [`Price`] as well as any [`Pricing`].
pub trait IntoPricing {
    /// What it becomes.
    type Pricing: Pricing;

    /// Becomes a [`Pricing`].
    fn into_pricing(self) -> Self::Pricing;
}

impl IntoPricing for Price {
    type Pricing = Prices;

    fn into_pricing(self) -> Prices {
        self.into()
    }
}

impl<P: Pricing> IntoPricing for P {
    type Pricing = P;

    fn into_pricing(self) -> P {
        self
    }
}
