//! The journal in Redis.

mod answers;
mod check;
mod link;
mod reply;
mod steps;

use std::{fmt, sync::Arc, time::Duration};

use redis::ScriptInvocation;

use self::{
    link::{Does, Link, Replicas},
    reply::Reply,
};
use super::StoreError;

/// A journal in Redis or Valkey, for any number of replicas of a service. It keeps answers too.
///
/// It does not keep signed receipts: these are for ever and all of them would have to be in memory, and a server
/// that forgets its last second, or is asked to drop a key, would contradict what was handed out. Put the ledger into
/// PostgreSQL or into SQLite, beside this journal.
///
/// ```no_run
/// # async fn journal() -> Result<(), tower_mpp::store::StoreError> {
/// use tower_mpp::store::RedisNonceStore;
///
/// let journal = RedisNonceStore::connect("redis://:password@redis.internal:6379/0").await?;
/// // Or, where a replica of the server must have every step before it counts:
/// let journal = RedisNonceStore::builder()
///     .prefix("shop")
///     .wait_for_replicas(1, std::time::Duration::from_millis(500))
///     .connect("rediss://shop:password@redis.internal:6379/0")
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// A clone is another handle of the same store: give one to the builder of the merchant as the journal, and
/// another as the store of answers.
///
/// # What is durable, and when
///
/// That is the server's choice. It needs:
///
/// * `appendonly yes` and `appendfsync always`: each step is on disk before it is answered. Otherwise a server that
///   dies has lost the last second, or everything: a payment that was delivered can be delivered again, and money
///   that was taken is not known to anybody. The store warns of this and works.
/// * `maxmemory-policy noeviction`, or no `maxmemory`. Any other policy makes room by dropping payments: such a
///   server is refused.
/// * Where a replica may become the primary, [`wait_for_replicas`](RedisNonceStoreBuilder::wait_for_replicas):
///   replication is behind by default, and what only the old primary had is lost by a failover. `WAIT` makes this
///   unlikely, not impossible. A journal that must survive the loss of a machine for certain belongs in PostgreSQL.
///
/// All steps go over one connection. The server writes its log to disk once for all steps that arrive together, so
/// many payers at once cost it little more than one.
///
/// A step that the server did not answer in time, or that it refused because it is starting or not the primary, is
/// [`Unavailable`](super::StoreErrorKind::Unavailable). The connection is opened again by the next step: nothing
/// has to be done when the server was restarted or has failed over.
///
/// # How big it gets
///
/// About 1.3 kilobytes for each payment with a record of 200 bytes, until it is forgotten: the server does
/// that by itself, when both the merchant's clock and its own say that it may. Open entries stay until they have
/// ended. `maxmemory` is the bound: a server that is full refuses further payments and answers
/// ([`Full`](super::StoreErrorKind::Full)), and goes on with the payments that it has.
///
/// # Cluster, Valkey
///
/// Valkey is the same to this store, and Redis from version 7 on. In a cluster all keys are in one slot, by the
/// hash tag in their prefix: connect to a name that always leads to the primary of that slot.
#[derive(Clone)]
pub struct RedisNonceStore {
    /// With its colon.
    prefix: Arc<str>,
    link: Arc<Link>,
}

impl RedisNonceStore {
    /// Connects to a server, with all that [`builder`](Self::builder) has by default: `redis://`, with TLS
    /// `rediss://`, then `user:password@host:port/database`.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable) when the server cannot be reached within three seconds,
    /// does not let us in, or would evict payments. The source says why, without the password.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder().connect(url).await
    }

    /// Options, before [`connect`](RedisNonceStoreBuilder::connect).
    pub fn builder() -> RedisNonceStoreBuilder {
        RedisNonceStoreBuilder { prefix: "mpp".to_owned(), timeout: Duration::from_secs(3), replicas: None }
    }

    fn key(&self, kind: &str, name: &str) -> String {
        [&self.prefix, kind, name].concat()
    }

    async fn run(&self, script: &ScriptInvocation<'_>, does: Does) -> Result<Reply, StoreError> {
        self.link.run(script, does).await
    }
}

impl fmt::Debug for RedisNonceStore {
    /// Not where the server is, for that has a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisNonceStore")
            .field("prefix", &self.prefix)
            .field("replicas", &self.link.replicas())
            .finish_non_exhaustive()
    }
}

/// Options of a [`RedisNonceStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RedisNonceStoreBuilder {
    prefix: String,
    timeout: Duration,
    replicas: Option<Replicas>,
}

impl RedisNonceStoreBuilder {
    /// What all keys begin with, `mpp` by default: they are `{mpp}:` and more. Services that do not share their
    /// journal need one each, or a database each.
    ///
    /// One to 64 letters, digits, `.`, `-` and `_`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long the server may take to be connected, and to answer a step: three seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Each step counts only when `count` replicas of the server have it, and fails as
    /// [`Unavailable`](super::StoreErrorKind::Unavailable) where they have it not within `timeout`. Without this
    /// a step counts when the primary has it. None (0) by default.
    pub fn wait_for_replicas(mut self, count: usize, timeout: Duration) -> Self {
        self.replicas = (count > 0).then_some(Replicas { count, within: timeout });
        self
    }

    /// Connects, see [`RedisNonceStore::connect`].
    ///
    /// # Errors
    /// Those of [`RedisNonceStore::connect`]; and when the prefix is not allowed.
    pub async fn connect(self, url: &str) -> Result<RedisNonceStore, StoreError> {
        // What is in the braces is the hash tag: it must not be empty, nor end early.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !(1..=64).contains(&self.prefix.len()) || !self.prefix.bytes().all(allowed) {
            return Err(StoreError::unavailable("the prefix is not 1 to 64 letters, digits, `.`, `-` and `_`"));
        }
        let link = Link::new(url, self.timeout, self.replicas).await?;
        Ok(RedisNonceStore { prefix: format!("{{{}}}:", self.prefix).into(), link: Arc::new(link) })
    }
}
