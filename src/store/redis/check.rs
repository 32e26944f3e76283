//! Whether a server may be trusted with money.

use redis::{FromRedisValue, RedisResult, aio::MultiplexedConnection, cmd};
use tracing::warn;

use crate::{store::StoreError, trace::TARGET};

/// How a server is configured, as far as it tells.
#[derive(Debug, Default)]
pub(super) struct Settings {
    maxmemory: Option<String>,
    policy: Option<String>,
    appendonly: Option<String>,
    appendfsync: Option<String>,
}

pub(super) async fn settings(connection: &mut MultiplexedConnection) -> RedisResult<Settings> {
    let mut settings = Settings::default();
    // Managed servers forbid this, each in words of its own.
    for pattern in ["maxmemory*", "append*"] {
        let known: RedisResult<Vec<String>> = ask(connection, &["CONFIG", "GET", pattern]).await;
        match known {
            Ok(known) => {
                for pair in known.chunks_exact(2) {
                    if let [name, value] = pair {
                        settings.learn(name, value);
                    }
                }
            }
            Err(error) if error.is_io_error() || error.is_unrecoverable_error() => return Err(error),
            Err(_) => {}
        }
    }
    if settings.policy.is_none() || settings.maxmemory.is_none() || settings.appendonly.is_none() {
        for section in ["memory", "persistence"] {
            let known: String = ask(connection, &["INFO", section]).await?;
            for (name, value) in known.lines().filter_map(|line| line.split_once(':')) {
                settings.learn(name, value);
            }
        }
    }
    Ok(settings)
}

async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, words: &[&str]) -> RedisResult<T> {
    let mut command = cmd(words.first().copied().unwrap_or_default());
    for word in words.iter().skip(1) {
        command.arg(word);
    }
    command.query_async(connection).await
}

impl Settings {
    /// By the name in the configuration, or in the server's report on itself.
    fn learn(&mut self, name: &str, value: &str) {
        let value = value.trim();
        let (known, value) = match name {
            "maxmemory" => (&mut self.maxmemory, value),
            "maxmemory-policy" | "maxmemory_policy" => (&mut self.policy, value),
            "appendonly" => (&mut self.appendonly, value),
            "appendfsync" => (&mut self.appendfsync, value),
            "aof_enabled" => (&mut self.appendonly, if value == "0" { "no" } else { "yes" }),
            _ => return,
        };
        known.get_or_insert_with(|| value.to_owned());
    }
}

/// Refuses a server that would forget money. Warns of one that may.
pub(super) fn check(settings: &Settings) -> Result<(), StoreError> {
    let policy = settings.policy.as_deref().ok_or_else(|| {
        StoreError::unavailable(
            "the Redis server does not tell its maxmemory-policy: allow the user `CONFIG GET` or `INFO`",
        )
    })?;
    if policy != "noeviction" && settings.maxmemory.as_deref() != Some("0") {
        return Err(StoreError::unavailable(format!(
            "the Redis server would evict payments when it is full: its maxmemory-policy is {policy}, \
             set it to noeviction"
        )));
    }
    if settings.appendonly.as_deref() == Some("no") {
        warn!(
            target: TARGET,
            "the Redis server keeps the payment journal in memory only: set `appendonly yes` and `appendfsync always`"
        );
    } else if settings.appendfsync.as_deref().is_some_and(|when| when != "always") {
        warn!(
            target: TARGET,
            "the Redis server may lose the last second of the payment journal when it dies: set `appendfsync always`"
        );
    }
    Ok(())
}
