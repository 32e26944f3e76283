//! Checks an [`Upstream`] against every line of its contract that can be seen from outside.
//!
//! ```
//! use std::time::Duration;
//! use tower_mpp::{conformance::upstream::Suite, upstream::HttpUpstream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! Suite::new(|base_url: String| async move { HttpUpstream::builder(base_url).build().unwrap() }).assert().await;
//! # }
//! ```
//!
//! Every [`Law`] starts a provider on loopback that speaks HTTP/1.1, and gets an upstream for its base URL. What an
//! upstream of another kind says to its provider, the suite does not understand: put an HTTP client in place of it. The
//! upstream's own time limits must be longer than ten seconds, or a law takes them for a fault.

mod asking;
mod bodies;
mod failing;
mod lab;
mod law;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use self::lab::Lab;
pub use self::law::{Law, Violation, Violations};
use crate::{conformance::laws::runs, upstream::Upstream};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Make = Box<dyn Fn(String) -> BoxFuture<'static, Arc<dyn Upstream>> + Send + Sync>;

/// The laws of an upstream.
pub struct Suite(Lab);

impl Suite {
    /// A suite that gets its upstreams from `make`: one for each law, which asks the HTTP provider at the base URL.
    pub fn new<F, Fut, U>(make: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = U> + Send + 'static,
        U: Upstream,
    {
        Self(Lab::new(Box::new(move |base_url| {
            let upstream = make(base_url);
            Box::pin(async move { Arc::new(upstream.await) as Arc<dyn Upstream> })
        })))
    }

    runs! { suite, law => law.check(&suite.0).await; }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").finish_non_exhaustive()
    }
}
