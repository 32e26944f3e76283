//! A paid proxy: services mounted at `/{id}/`, each route paid, paid with options, or free.
//!
//! ```
//! use tower_mpp::{
//!     KeyRing, Merchant, Price,
//!     method::Sandbox,
//!     proxy::{Proxy, Route, Service, presets::{self, OpenAi}},
//!     store::MemoryNonceStore,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let merchant = Merchant::builder("api.example.com", KeyRing::new("a random secret of 32 bytes or more")?)
//!     .test_mode(true)
//!     .method(Sandbox::new())
//!     .nonce_store(MemoryNonceStore::single_process(100_000))
//!     .build()?;
//! let proxy = Proxy::builder(merchant)
//!     .title("My proxy")
//!     .service(
//!         presets::openai("sk-of-the-merchant")
//!             .route(OpenAi::ChatCompletions, Route::paid(Price::usd("0.50")?).description("Chat completion"))
//!             .route("GET /v1/models", Route::free()),
//!     )
//!     .service(
//!         Service::new("my-api", "https://api.example.com")
//!             .bearer("token-of-the-merchant")
//!             .route("GET /v1/items/:id", Route::paid(Price::usd("0.50")?)),
//!     )
//!     .build()?;
//! # #[cfg(feature = "axum")]
//! let app: axum::Router = axum::Router::new().fallback_service(proxy);
//! # Ok(())
//! # }
//! ```
//!
//! # What is bought
//!
//! A payment is good for one method, one concrete path, its query and, unless [`Route::bind_body`] says otherwise, one
//! body: who has paid for `/stripe/v1/customers/1` has not paid for `/stripe/v1/customers/2`. A receipt is put on what
//! succeeds (2xx) only. A failure of the upstream leaves the payment good for the same request, or gives it back by the
//! rules of the merchant's [`RefundPolicy`](crate::refund::RefundPolicy); nothing is charged twice. A redirect (3xx) is
//! a failure in this sense: redirects are not followed, and whoever has paid has got nothing yet. Where an upstream
//! answers what is paid for with 303, make a success of it in [`rewrite_response`](Service::rewrite_response).
//!
//! # Paths in other spellings
//!
//! A route matches paths as they are written, letter by letter, and the upstream reads them in its own way. So that a
//! cheaper or free route, such as `/v1/*` behind `POST /v1/generate`, is no way around the price, a request that has
//! matched it is not found where its path could be read as one of another, paid route:
//! [`path_readings`](crate::upstream::path_readings) with capital and small letters taken for the same. An item that is
//! called like a paid route but for case, a slash, an ending or the like therefore needs a route of its own that
//! writes it out: `GET /v1/Models` beside a paid `GET /v1/models`.
//!
//! # What is answered here
//!
//! | request | answer |
//! |---|---|
//! | a path with dot segments, backslashes or control characters in any spelling, or broken percent-encoding | 400 |
//! | the documents of discovery | see [`Discovery`](crate::discovery::Discovery) |
//! | an unknown service or route, `/`, another method | 404 `Not Found` |
//! | a path that has matched one route, and that servers may read as one of another, paid route | 404 `Not Found` |
//! | another `Content-Type` than JSON where the price is read from JSON ([`ModelOptions`](crate::pricing::ModelOptions)) | 415 |
//! | `OPTIONS` of a path that has a route, none of them for `OPTIONS`, or a paid one before it | 204 with `Allow` |
//! | `HEAD`, where the first route for `HEAD` or `GET` is free | that of the upstream |
//! | `HEAD`, where the first one is a paid `GET` | the 402 of its `GET`; with a payment 405: there would be nothing to deliver |
//! | `POST` with `Authorization` of a path without a `POST` route, where exactly one other method is paid | the 402 of that method; with a payment 405 |
//!
//! The last one is for clients that manage a payment by `POST` on the resource that they pay for. It never reaches an
//! upstream, a free route, or a rail: no method of this crate has an intent that is managed in this way, so a
//! credential is answered 405 with `Allow` and is still good for its own request.

mod builder;
mod credentials;
mod error;
mod hooks;
mod management;
mod mounted;
mod pattern;
pub mod presets;
mod route;
mod router;
mod service;

pub use self::{
    builder::ProxyBuilder,
    error::InvalidProxy,
    hooks::{Context, EndpointOptions},
    route::Route,
    router::{Proxy, ResponseFuture},
    service::Service,
};
