//! Where payments are remembered, by the configuration.

use std::path::{Path, PathBuf};

use super::{
    common::journal::{CAPACITY, Location, Url},
    config::{self, ConfigError, Environment, StoreKind},
    settings::Place,
};

/// In the data folder, beside the key.
const FILE: &str = "payments.db";
/// Says all of it in one line.
const VARIABLE: &str = "GATEWAY_STORE";

/// Where the journal is, and the folder that has to be made for it.
pub(super) fn check(
    place: Place<'_>,
    table: Option<config::Store>,
    data_dir: &Path,
    environment: Environment<'_>,
) -> Result<(Location, Option<PathBuf>), ConfigError> {
    if let Some(text) = environment.get(VARIABLE)? {
        let location = Location::parse(&text).map_err(|problem| ConfigError::new(VARIABLE, problem))?;
        return Ok((location, None));
    }
    let config::Store { kind, path, url, url_env, capacity } = table.unwrap_or_default();
    for (field, given, wanted) in [
        ("store.path", path.is_some(), kind == StoreKind::Sqlite),
        ("store.capacity", capacity.is_some(), kind == StoreKind::Memory),
        ("store.url", url.is_some(), matches!(kind, StoreKind::Postgres | StoreKind::Redis)),
        ("store.url_env", url_env.is_some(), matches!(kind, StoreKind::Postgres | StoreKind::Redis)),
    ] {
        if given && !wanted {
            return Err(place.error(field, "a store of this kind has none; remove it, or see store.kind"));
        }
    }
    Ok(match kind {
        StoreKind::Sqlite => match path {
            Some(path) if path.as_os_str().is_empty() => {
                return Err(place.error("store.path", "it is empty; name a file"));
            }
            Some(path) => (Location::Sqlite(path), None),
            None => (Location::Sqlite(data_dir.join(FILE)), Some(data_dir.to_owned())),
        },
        StoreKind::Memory => match capacity {
            Some(0) => return Err(place.error("store.capacity", "0 payments; give at least 1")),
            capacity => (Location::Memory { capacity: capacity.unwrap_or(CAPACITY) }, None),
        },
        StoreKind::Postgres | StoreKind::Redis => {
            let (location, at) = server(place, url, url_env, environment)?;
            let fits = match kind {
                StoreKind::Postgres => matches!(location, Location::Postgres(_)),
                _ => matches!(location, Location::Redis(_)),
            };
            if !fits {
                return Err(ConfigError::new(at, "it is no URL of this kind of store; see store.kind"));
            }
            (location, None)
        }
    })
}

/// A server by its address, and where that stands.
fn server(
    place: Place<'_>,
    url: Option<config::Hidden>,
    url_env: Option<String>,
    environment: Environment<'_>,
) -> Result<(Location, String), ConfigError> {
    let (text, at) = match (url, url_env) {
        (Some(config::Hidden(url)), None) => {
            if Url::new(url.as_str()).has_password() {
                return Err(place.error(
                    "store.url",
                    "a password does not belong into the file; write url_env = \"NAME\" and set the variable",
                ));
            }
            (url, place.of("store.url"))
        }
        (None, Some(variable)) => (environment.required(&variable, &place.of("store.url_env"))?, variable),
        _ => return Err(place.error("store", "give exactly one of url_env and url")),
    };
    match Location::parse(&text) {
        Ok(location) => Ok((location, at)),
        Err(_) => Err(ConfigError::new(at, "it is no URL; write postgres://... or redis://...")),
    }
}
