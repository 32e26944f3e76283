//! Secrets that the configuration names: they stand in the environment, or in files that nobody else may read.

use std::path::PathBuf;

use http::HeaderName;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    common::secret_file,
    config::{ConfigError, Environment, Injected},
};

/// Where a secret is. There is no way to write it down itself.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "write { env = \"NAME\" } or { file = \"PATH\" }; the secret itself does not belong here"
)]
pub(super) enum Secret {
    Env(EnvOnly),
    File(FileOnly),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnvOnly {
    env: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileOnly {
    file: PathBuf,
}

impl Secret {
    /// That of a variable.
    pub(super) fn of_variable(name: &str) -> Self {
        Self::Env(EnvOnly { env: name.to_owned() })
    }

    /// Reads it for a field.
    pub(super) fn read(self, at: &str, environment: Environment<'_>) -> Result<Zeroizing<String>, ConfigError> {
        match self {
            Self::Env(EnvOnly { env }) => environment.required(&env, at).map(Zeroizing::new),
            Self::File(FileOnly { file }) => of_file(file, at),
        }
    }
}

/// The value of an injected header.
pub(super) fn of_header(
    name: &HeaderName,
    value: Injected,
    at: &str,
    environment: Environment<'_>,
) -> Result<Zeroizing<String>, ConfigError> {
    let (prefix, secret) = match value {
        Injected::Text(_) if holds_secret(name) => {
            return Err(ConfigError::new(
                at,
                "a secret does not belong into the file; write { env = \"NAME\" } and set the variable",
            ));
        }
        Injected::Text(text) => return Ok(text.into()),
        Injected::Env(from) => (from.prefix, Zeroizing::new(environment.required(&from.env, at)?)),
        Injected::File(from) => (from.prefix, of_file(from.file, at)?),
    };
    Ok(Zeroizing::new(format!("{prefix}{}", secret.as_str())))
}

fn of_file(path: PathBuf, at: &str) -> Result<Zeroizing<String>, ConfigError> {
    match secret_file::read(&path) {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(ConfigError::new(path.display(), format_args!("there is no such file, but {at} needs it"))),
        Err(error) => Err(ConfigError::new(at, error)),
    }
}

fn holds_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    ["authorization", "key", "token", "secret", "password", "cookie"].iter().any(|part| name.contains(part))
}
