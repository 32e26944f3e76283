//! The key that pays: an Ed25519 key, whose `did:key` is the payer's name.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tower_mpp::method::SandboxKey;
use zeroize::Zeroizing;

use super::common::secret_file::{self, SecretFileError};

/// The key in the file, which is made when there is none; without a file, a fresh key.
pub(super) fn open(path: Option<&Path>) -> Result<SandboxKey, SecretFileError> {
    let Some(path) = path else { return Ok(SandboxKey::generate()) };
    let text =
        secret_file::read_or_create(path, || Zeroizing::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())))?;
    let mut seed = Zeroizing::new([0; 32]);
    match URL_SAFE_NO_PAD.decode_slice(text.as_bytes(), &mut *seed) {
        Ok(32) => Ok(SandboxKey::from_seed(*seed)),
        _ => Err(SecretFileError::Unusable { path: path.to_owned() }),
    }
}
