//! The keys of the gateway: given by the environment, or made at the first start and kept.

use std::{error::Error, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tower_mpp::KeyRing;
use zeroize::Zeroizing;

use super::{
    common::secret_file::{self, SecretFileError},
    config::ConfigError,
    settings::{AdminToken, Keys},
};

/// In the data folder. One line, in the form of `MPP_SECRET_KEY`: to rotate, put a new key and a comma
/// before the old one.
const CHALLENGE_KEY: &str = "challenge.key";

/// The challenge keys, made and stored when there are none.
pub(crate) fn open(keys: &Keys) -> Result<KeyRing, SecretFileError> {
    let folder = match keys {
        Keys::Given(ring) => return Ok(ring.clone()),
        Keys::Folder(folder) => folder,
    };
    secret_file::private_folder(folder)?;
    let path = folder.join(CHALLENGE_KEY);
    ring(&path, &secret_file::read_or_create(&path, random)?)
}

/// The same, writing nothing: when there are no keys yet, some that are forgotten again.
pub(crate) fn look(keys: &Keys) -> Result<KeyRing, SecretFileError> {
    let folder = match keys {
        Keys::Given(ring) => return Ok(ring.clone()),
        Keys::Folder(folder) => folder,
    };
    secret_file::check_folder(folder)?;
    let path = folder.join(CHALLENGE_KEY);
    let key = secret_file::read(&path)?.unwrap_or_else(random);
    ring(&path, &key)
}

/// A token that can be guessed is a way to other people's money.
const SHORTEST_TOKEN: usize = 32;

/// The operator's token, made and stored when there is none.
pub(crate) fn open_admin(admin: &AdminToken) -> Result<Zeroizing<String>, Box<dyn Error>> {
    let token = match admin {
        AdminToken::Given { token, .. } => token.clone(),
        AdminToken::File { path, ours } => {
            if let Some(folder) = path.parent().filter(|_| *ours) {
                secret_file::private_folder(folder)?;
            }
            secret_file::read_or_create(path, random)?
        }
    };
    long_enough(admin, token)
}

/// The same, writing nothing.
pub(crate) fn look_admin(admin: &AdminToken) -> Result<Zeroizing<String>, Box<dyn Error>> {
    let token = match admin {
        AdminToken::Given { token, .. } => token.clone(),
        AdminToken::File { path, .. } => secret_file::read(path)?.unwrap_or_else(random),
    };
    long_enough(admin, token)
}

fn long_enough(admin: &AdminToken, token: Zeroizing<String>) -> Result<Zeroizing<String>, Box<dyn Error>> {
    if token.len() >= SHORTEST_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(token);
    }
    let at = match admin {
        AdminToken::Given { variable, .. } => variable.clone(),
        AdminToken::File { path, .. } => path.display().to_string(),
    };
    let problem =
        format!("a token has {SHORTEST_TOKEN} visible ASCII characters or more; openssl rand -hex 32 makes one");
    Err(ConfigError::new(at, problem).into())
}

fn ring(path: &Path, text: &str) -> Result<KeyRing, SecretFileError> {
    KeyRing::from_list(text).map_err(|_| SecretFileError::Unusable { path: path.to_owned() })
}

fn random() -> Zeroizing<String> {
    let bytes = Zeroizing::new(rand::random::<[u8; 32]>());
    Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes))
}
