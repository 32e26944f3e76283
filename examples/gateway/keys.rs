//! The keys of the gateway: given by the environment, or made at the first start and kept.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tower_mpp::KeyRing;
use zeroize::Zeroizing;

use super::{
    common::secret_file::{self, SecretFileError},
    settings::Keys,
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
    ring(&path, &secret_file::read_or_create(&path, random_key)?)
}

/// The same, writing nothing: when there are no keys yet, some that are forgotten again.
pub(crate) fn look(keys: &Keys) -> Result<KeyRing, SecretFileError> {
    let folder = match keys {
        Keys::Given(ring) => return Ok(ring.clone()),
        Keys::Folder(folder) => folder,
    };
    secret_file::check_folder(folder)?;
    let path = folder.join(CHALLENGE_KEY);
    let key = secret_file::read(&path)?.unwrap_or_else(random_key);
    ring(&path, &key)
}

fn ring(path: &Path, text: &str) -> Result<KeyRing, SecretFileError> {
    KeyRing::from_list(text).map_err(|_| SecretFileError::Unusable { path: path.to_owned() })
}

fn random_key() -> Zeroizing<String> {
    let bytes = Zeroizing::new(rand::random::<[u8; 32]>());
    Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes))
}
