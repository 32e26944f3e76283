//! Where the gateways remember payments.

use std::{env, path::Path, sync::Arc};

use tower_mpp::store::NonceStore;

use crate::{journal::Location, postgres::Postgres, redis_server::Redis};

/// A journal that outlives gateways, and the server that it needs for that.
pub enum Backend {
    /// For a dry run: it outlives nothing.
    Memory,
    Sqlite,
    Postgres {
        server: Postgres,
        url: String,
    },
    Redis {
        server: Redis,
    },
}

impl Backend {
    pub async fn postgres() -> Self {
        let server = Postgres::start().await;
        let url = server.fresh_database().await;
        Self::Postgres { server, url }
    }

    /// With every step on the disk before it is answered.
    pub async fn redis() -> Self {
        Self::Redis { server: Redis::start().await }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "SQLite",
            Self::Postgres { .. } => "PostgreSQL",
            Self::Redis { .. } => "Redis",
        }
    }

    /// As the configuration says it, for a gateway in this folder.
    pub fn location(&self, folder: &Path) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::Sqlite => format!("sqlite:{}", folder.join("payments.db").display()),
            Self::Postgres { url, .. } => url.clone(),
            Self::Redis { server } => server.url(),
        }
    }

    /// Restarts the server, in order or after a crash.
    pub async fn restart(&self, crash: bool) {
        match self {
            Self::Memory | Self::Sqlite => {}
            Self::Postgres { server, .. } => {
                if crash {
                    server.kill().await;
                }
                server.restart().await;
            }
            Self::Redis { server } => {
                if crash {
                    server.kill().await;
                }
                server.restart().await;
            }
        }
    }

    /// The journal, without a gateway: none is running any more.
    pub async fn open(&self, folder: &Path) -> Option<Arc<dyn NonceStore>> {
        if matches!(self, Self::Memory) {
            return None;
        }
        let location = Location::parse(&self.location(folder)).unwrap();
        Some(location.open().await.unwrap().payments)
    }
}

/// How much there is to do, unless the environment wants more.
pub fn how_many(variable: &str, normally: u32) -> u32 {
    match env::var(variable) {
        Ok(number) => number.parse().unwrap_or_else(|_| panic!("{variable} is no number: {number:?}")),
        Err(_) => normally,
    }
}
