//! Where the gateways remember payments.

use std::{env, path::Path, sync::Arc};

use tokio::sync::{Mutex, MutexGuard};
use tower_mpp::store::NonceStore;

use crate::journal::Location;

/// A journal that outlives gateways, and what it needs to do so.
pub enum Backend {
    /// For a dry run: it does not outlive anything.
    Memory,
}

impl Backend {
    /// As the configuration says it, for a gateway in this folder.
    pub fn location(&self, _folder: &Path) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
        }
    }

    /// Whether a killed gateway leaves anything behind.
    pub fn outlives(&self) -> bool {
        !matches!(self, Self::Memory)
    }

    /// The journal, without a gateway. Nobody else may have it open.
    pub async fn open(&self, folder: &Path) -> Option<Arc<dyn NonceStore>> {
        if !self.outlives() {
            return None;
        }
        let location = Location::parse(&self.location(folder)).unwrap();
        Some(location.open().await.unwrap().payments)
    }
}

/// The machine is for one of these tests at a time: a port of a killed gateway must not become another
/// test's before its clients know.
pub async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// How much there is to do, unless the environment wants more.
pub fn how_many(variable: &str, normally: u32) -> u32 {
    match env::var(variable) {
        Ok(number) => number.parse().unwrap_or_else(|_| panic!("{variable} is no number: {number:?}")),
        Err(_) => normally,
    }
}
