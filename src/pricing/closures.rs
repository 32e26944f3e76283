//! Closures as pricing.

use std::future::Future;

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;

use super::{HeadQuote, Pricing, Quote};

#[async_trait]
impl<F, Q> Pricing for F
where
    F: Fn(&Parts) -> Q + Send + Sync + 'static,
    Q: Into<Quote>,
{
    fn quote_head(&self, head: &Parts) -> HeadQuote {
        HeadQuote::Quote(self(head).into())
    }

    async fn quote(&self, head: &Parts, _: &Bytes) -> Quote {
        self(head).into()
    }
}

/// A price that depends on the body, for instance on the model that it names. The body is buffered up
/// to the route's limit; a body that cannot be read is best answered with
/// [`Refused::bad_request`](super::Refused::bad_request).
///
/// ```
/// use tower_mpp::{Price, pricing::{self, Refused}};
///
/// let small = Price::usd("0.50")?;
/// let pricing = pricing::with_body(move |_head, body| match &body[..] {
///     br#"{"model":"fast"}"# => Ok(small.clone()),
///     _ => Err(Refused::bad_request("There is no such model.")),
/// });
/// # Ok::<(), tower_mpp::protocol::InvalidPrice>(())
/// ```
pub fn with_body<F, Q>(price: F) -> WithBody<F>
where
    F: Fn(&Parts, &Bytes) -> Q + Send + Sync + 'static,
    Q: Into<Quote>,
{
    WithBody(price)
}

/// See [`with_body`].
#[derive(Clone, Copy, Debug)]
pub struct WithBody<F>(F);

#[async_trait]
impl<F, Q> Pricing for WithBody<F>
where
    F: Fn(&Parts, &Bytes) -> Q + Send + Sync + 'static,
    Q: Into<Quote>,
{
    fn quote_head(&self, _: &Parts) -> HeadQuote {
        HeadQuote::NeedsBody
    }

    async fn quote(&self, head: &Parts, body: &Bytes) -> Quote {
        (self.0)(head, body).into()
    }
}

/// A price that has to be looked up. The closure is called with the head and the buffered body (empty
/// when the route does not bind bodies) and returns a future.
///
/// The look-up is limited by [`MerchantBuilder::pricing_timeout`](crate::MerchantBuilder::pricing_timeout).
pub fn with_async<F, Fut, Q>(price: F) -> WithAsync<F>
where
    F: Fn(&Parts, &Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Q> + Send,
    Q: Into<Quote>,
{
    WithAsync(price)
}

/// See [`with_async`].
#[derive(Clone, Copy, Debug)]
pub struct WithAsync<F>(F);

#[async_trait]
impl<F, Fut, Q> Pricing for WithAsync<F>
where
    F: Fn(&Parts, &Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Q> + Send,
    Q: Into<Quote>,
{
    fn quote_head(&self, _: &Parts) -> HeadQuote {
        HeadQuote::NeedsTime
    }

    async fn quote(&self, head: &Parts, body: &Bytes) -> Quote {
        let quote = (self.0)(head, body);
        quote.await.into()
    }
}
