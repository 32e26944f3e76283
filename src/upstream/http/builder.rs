//! What an [`HttpUpstream`] is made of.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;

use super::{
    HttpUpstream,
    base::Base,
    connect,
    retry::{Failure, Hook, Retry},
};
use crate::{
    receipt::Provider,
    upstream::{Usage, scrub},
};

/// Longer than any model thinks.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_ATTEMPTS: u32 = 10;

/// How long is waited for what, and how many connections are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
    pub(super) idle: Duration,
    pub(super) pool_idle: Duration,
    pub(super) max_idle: usize,
}

/// Which versions of HTTP are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    Http1,
    /// What TLS agrees on; HTTP/1.1 without TLS.
    Any,
    Http2,
}

impl Versions {
    /// How many calls may be at work at once, whatever is wanted.
    fn most_calls(self) -> Option<usize> {
        (self != Self::Http1).then_some(connect::MOST_STREAMS)
    }
}

/// Collects what an [`HttpUpstream`] needs.
#[must_use = "nothing happens until `build()`"]
pub struct HttpUpstreamBuilder {
    base_url: String,
    headers: Vec<(Result<HeaderName, String>, Option<HeaderValue>)>,
    remove: Vec<Result<HeaderName, String>>,
    limits: Limits,
    versions: Versions,
    max_calls: Option<usize>,
    provider: Option<Provider>,
    usage: Option<Usage>,
    hook: Option<Hook>,
    max_attempts: u32,
    replay_limit: usize,
}

/// Why there is no [`HttpUpstream`]: which field is wrong, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidUpstream {
    field: String,
    problem: String,
}

impl InvalidUpstream {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The field, by the name of the builder's method: `base_url`, `header x-api-key`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong with it. Never a value of a header.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl HttpUpstreamBuilder {
    pub(super) fn new(base_url: String) -> Self {
        Self {
            base_url,
            headers: Vec::new(),
            remove: Vec::new(),
            limits: Limits {
                connect: Duration::from_secs(10),
                first_byte: Duration::from_secs(120),
                idle: Duration::from_secs(120),
                pool_idle: Duration::from_secs(60),
                max_idle: 64,
            },
            versions: Versions::Http1,
            max_calls: None,
            provider: None,
            usage: None,
            hook: None,
            max_attempts: 3,
            replay_limit: 1024 * 1024,
        }
    }

    /// Sends this header with every request, in place of whatever the client has sent under the name. The value is
    /// treated as a secret.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        let mut value = HeaderValue::from_bytes(value.as_ref()).ok();
        if let Some(value) = &mut value {
            value.set_sensitive(true);
        }
        self.headers.push((parsed(name.as_ref()), value));
        self
    }

    /// Does not pass this header on, whoever has sent it.
    pub fn remove_header(mut self, name: impl AsRef<str>) -> Self {
        self.remove.push(parsed(name.as_ref()));
        self
    }

    /// For name look-up, TCP and TLS together: 10 seconds by default.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.limits.connect = limit;
        self
    }

    /// From the last piece of the request that has moved to the head of the answer: 120 seconds by default. A client
    /// that stops in the middle of its request for as long is given up too.
    pub fn first_byte_timeout(mut self, limit: Duration) -> Self {
        self.limits.first_byte = limit;
        self
    }

    /// Between two pieces of the answer, while the client waits for the next: 120 seconds by default.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle = limit;
        self
    }

    /// How many idle connections are kept, and for how long: 64 and 60 seconds by default.
    pub fn pool(mut self, max_idle: usize, idle_timeout: Duration) -> Self {
        (self.limits.max_idle, self.limits.pool_idle) = (max_idle, idle_timeout);
        self
    }

    /// How many calls may be at work at once, the bodies of their answers included. One more is answered with 503, and
    /// the upstream is not asked. No limit by default.
    pub fn max_calls(mut self, calls: usize) -> Self {
        self.max_calls = Some(calls);
        self
    }

    /// Lets TLS agree on HTTP/2; without TLS it stays with HTTP/1.1, which is the default for all.
    ///
    /// All calls then share one connection, and so 100 may be at work at once at the most: of
    /// [`max_calls`](Self::max_calls) and this the lower number holds.
    pub fn http2(mut self) -> Self {
        self.versions = Versions::Any;
        self
    }

    /// Speaks HTTP/2 only, also without TLS (prior knowledge). The same limit holds as for [`http2`](Self::http2).
    pub fn http2_only(mut self) -> Self {
        self.versions = Versions::Http2;
        self
    }

    /// The provider that receipts name.
    pub fn provider(mut self, provider: Provider) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Reads the model and the tokens from answers while they pass, for receipts.
    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = Some(usage);
        self
    }

    /// Asks what to do when there is no answer, or one of 400 and above. Without it nothing is ever tried again.
    ///
    /// A request is sent again only if the hook says so, whatever its method: for a call that is not idempotent, say so
    /// only where it certainly had no effect, or where the provider knows the call by an `Idempotency-Key`. All
    /// attempts are one call that was paid once, and the report says how far the furthest of them came. Only a request
    /// whose body is in memory as a whole can be sent again ([`replay_limit`](Self::replay_limit)); the payment layer
    /// has it there where it binds the body; else [`Retry::After`] is no more than [`Retry::No`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_mpp::upstream::{HttpUpstream, Retry};
    ///
    /// # fn main() -> Result<(), tower_mpp::upstream::InvalidUpstream> {
    /// let upstream = HttpUpstream::builder("https://api.example.com")
    ///     .on_error(|failure| match failure.status() {
    ///         Some(status) if status.as_u16() == 429 => Retry::After(Duration::from_millis(200)),
    ///         _ => Retry::No,
    ///     })
    ///     .build()?;
    /// # let _ = upstream;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_error(mut self, hook: impl Fn(&Failure<'_>) -> Retry + Send + Sync + 'static) -> Self {
        self.hook = Some(Hook(Arc::new(hook)));
        self
    }

    /// How often a request may be sent, the first time included: 3 by default, at most 10.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Up to how many bytes a body is kept so that it can be sent again: 1 MiB by default.
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.replay_limit = bytes;
        self
    }

    /// Checks everything. No connection is made yet.
    ///
    /// # Errors
    /// [`InvalidUpstream`] names the field.
    pub fn build(self) -> Result<HttpUpstream, InvalidUpstream> {
        let base = Base::parse(&self.base_url).map_err(|problem| InvalidUpstream::new("base_url", problem))?;
        let limits = self.limits;
        for (field, limit) in [
            ("connect_timeout", limits.connect),
            ("first_byte_timeout", limits.first_byte),
            ("idle_timeout", limits.idle),
            ("pool", limits.pool_idle),
        ] {
            if limit.is_zero() || limit > LONGEST {
                return Err(InvalidUpstream::new(field, "give it between a millisecond and a day"));
            }
        }
        if self.max_calls.is_some_and(|calls| calls == 0 || calls > Semaphore::MAX_PERMITS) {
            return Err(InvalidUpstream::new("max_calls", "allow at least one"));
        }
        if !(1..=MAX_ATTEMPTS).contains(&self.max_attempts) {
            return Err(InvalidUpstream::new("max_attempts", "give it between 1 and 10"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            let name = valid("header", name)?;
            let wrong = |problem| InvalidUpstream::new(format!("header {name}"), problem);
            if scrub::is_ours_to_set(&name) {
                return Err(wrong("this header belongs to the connection or to the payment; remove it"));
            }
            let value = value.ok_or_else(|| wrong("the value cannot stand in a header"))?;
            headers.insert(name, value);
        }
        let remove = self.remove.into_iter().map(|name| valid("remove_header", name)).collect::<Result<_, _>>()?;
        let calls = [self.max_calls, self.versions.most_calls()].into_iter().flatten().min();
        let pool = connect::pool(self.versions, &limits)
            .map_err(|error| InvalidUpstream::new("base_url", format!("there is no TLS: {error}")))?;
        Ok(HttpUpstream {
            name: base.authority().to_owned(),
            base,
            headers,
            remove,
            limits,
            wants_trailers: self.versions == Versions::Http2,
            room: calls.map(|calls| Arc::new(Semaphore::new(calls))),
            provider: self.provider,
            usage: self.usage,
            hook: self.hook,
            max_attempts: self.max_attempts,
            replay_limit: self.replay_limit,
            pool,
        })
    }
}

fn parsed(name: &str) -> Result<HeaderName, String> {
    name.parse().map_err(|_| name.to_owned())
}

fn valid(field: &str, name: Result<HeaderName, String>) -> Result<HeaderName, InvalidUpstream> {
    name.map_err(|name| InvalidUpstream::new(format!("{field} {name:?}"), "it is no header name"))
}

impl fmt::Debug for HttpUpstreamBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpUpstreamBuilder").field("limits", &self.limits).finish_non_exhaustive()
    }
}
