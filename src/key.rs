//! The keys that bind challenge ids to their parameters.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::protocol::ChallengeId;

/// The least length of a challenge key in bytes.
pub const MIN_KEY_BYTES: usize = 32;

/// The challenge keys of a merchant: the current one signs, all of them verify.
///
/// Every replica of a merchant needs the same keys. To rotate, put the new key first and keep the old
/// one until the challenges that it signed have expired:
///
/// ```
/// # fn main() -> Result<(), tower_mpp::InvalidKey> {
/// let keys = tower_mpp::KeyRing::new("a new key of at least thirty-two bytes")?
///     .previous("the key before, also of thirty-two bytes")?;
/// # Ok(())
/// # }
/// ```
///
/// `Debug` prints how many keys there are and nothing else; keys are wiped from memory when dropped.
#[derive(Clone)]
pub struct KeyRing {
    current: BindingKey,
    previous: Vec<BindingKey>,
}

/// A key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// Too short to be a secret.
    #[error("a challenge key has at least {MIN_KEY_BYTES} bytes; this one has {0}")]
    TooShort(usize),
    /// A key in a list begins or ends with white space.
    #[error("a challenge key begins or ends with white space: remove it, also at the end of a line")]
    Padded,
    /// The environment variable is not set or is not text.
    #[error("the environment variable {0} is not set: set it to a random text of at least {MIN_KEY_BYTES} bytes")]
    NotSet(String),
    /// A key in the environment variable cannot be used.
    #[error("environment variable {variable}: {source}")]
    Variable {
        /// Its name.
        variable: String,
        /// What is wrong with a key in it.
        source: Box<InvalidKey>,
    },
}

impl KeyRing {
    /// A ring with one key of at least 32 bytes, which should be random.
    ///
    /// # Errors
    /// [`InvalidKey::TooShort`].
    pub fn new(key: impl AsRef<[u8]>) -> Result<Self, InvalidKey> {
        BindingKey::new(key.as_ref()).map(|current| Self { current, previous: Vec::new() })
    }

    /// Adds a key that only verifies.
    ///
    /// # Errors
    /// [`InvalidKey::TooShort`].
    pub fn previous(mut self, key: impl AsRef<[u8]>) -> Result<Self, InvalidKey> {
        self.previous.push(BindingKey::new(key.as_ref())?);
        Ok(self)
    }

    /// Reads the keys from an environment variable: the bytes of the text, several keys separated by
    /// commas, the current one first.
    ///
    /// # Errors
    /// [`InvalidKey`] when the variable is not set or any of its keys cannot be used.
    pub fn from_env(variable: &str) -> Result<Self, InvalidKey> {
        let text = std::env::var(variable).map_err(|_| InvalidKey::NotSet(variable.to_owned()))?;
        let text = Zeroizing::new(text);
        Self::from_list(&text)
            .map_err(|source| InvalidKey::Variable { variable: variable.to_owned(), source: Box::new(source) })
    }

    /// Reads keys from a text: several keys separated by commas, the current one first.
    ///
    /// # Errors
    /// [`InvalidKey::TooShort`] when any of them is too short, [`InvalidKey::Padded`] when any of them
    /// begins or ends with white space: nobody could see whether that belongs to it.
    pub fn from_list(text: &str) -> Result<Self, InvalidKey> {
        let padded = |key: &str| key.trim() != key;
        if text.split(',').any(padded) {
            return Err(InvalidKey::Padded);
        }
        let mut keys = text.split(',');
        let ring = Self::new(keys.next().unwrap_or_default())?;
        keys.try_fold(ring, KeyRing::previous)
    }

    /// All keys, the one that signs first.
    fn all(&self) -> impl Iterator<Item = &BindingKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// Prepares the part of the bound input that does not change from challenge to challenge.
    pub(crate) fn prepare(&self, realm: &str, method: &str, intent: &str, request: &str) -> BoundSlots {
        let mut states = self.all().map(|key| {
            let mut state = key.0.clone();
            for slot in [realm, method, intent, request] {
                state.update(slot.as_bytes());
                state.update(b"|");
            }
            state
        });
        BoundSlots { current: states.next().unwrap_or_else(|| self.current.0.clone()), previous: states.collect() }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", self.all().count())
    }
}

/// A key with its schedule computed.
#[derive(Clone)]
struct BindingKey(Hmac<Sha256>);

impl BindingKey {
    fn new(key: &[u8]) -> Result<Self, InvalidKey> {
        if key.len() < MIN_KEY_BYTES {
            return Err(InvalidKey::TooShort(key.len()));
        }
        Hmac::new_from_slice(key).map(Self).map_err(|_| InvalidKey::TooShort(key.len()))
    }
}

/// The first four of the seven slots of core draft section 5.1.3, hashed once per offer.
pub(crate) struct BoundSlots {
    current: Hmac<Sha256>,
    previous: Vec<Hmac<Sha256>>,
}

impl BoundSlots {
    /// The id of a challenge with these last three slots.
    pub(crate) fn sign(&self, expires: &str, digest: &str, opaque: &str) -> ChallengeId {
        finish(&self.current, expires, digest, opaque)
    }

    /// Whether any key of the ring gives this id to these slots. Takes as long for a wrong id as for a
    /// right one under the last key.
    pub(crate) fn verify(&self, id: &ChallengeId, expires: &str, digest: &str, opaque: &str) -> bool {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .any(|state| finish(state, expires, digest, opaque).as_bytes().ct_eq(id.as_bytes()).into())
    }

    /// The same for the first half of an id. 128 bits are enough for a MAC that nobody can look for offline.
    pub(crate) fn verify_half(&self, half: &[u8; 16], expires: &str, digest: &str, opaque: &str) -> bool {
        std::iter::once(&self.current).chain(&self.previous).any(|state| {
            let id = finish(state, expires, digest, opaque);
            id.as_bytes().first_chunk::<16>().is_some_and(|first| first.ct_eq(half).into())
        })
    }
}

fn finish(state: &Hmac<Sha256>, expires: &str, digest: &str, opaque: &str) -> ChallengeId {
    let mut state = state.clone();
    for part in [expires, "|", digest, "|", opaque] {
        state.update(part.as_bytes());
    }
    ChallengeId::from_bytes(state.finalize().into_bytes().into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NEW: &str = "0123456789abcdef0123456789abcdef";
    const OLD: &str = "fedcba9876543210fedcba9876543210";

    #[test]
    fn short_keys_are_refused_wherever_they_stand_in_the_list() {
        assert_eq!(KeyRing::new("short").unwrap_err(), InvalidKey::TooShort(5));
        assert!(KeyRing::from_list(&format!("{NEW},short")).is_err());
        assert!(KeyRing::from_list(&format!("{NEW},")).is_err());
        assert!(KeyRing::from_list(&format!("{NEW},{OLD}")).is_ok());
        assert_eq!(KeyRing::from_list(&format!("{NEW}, {OLD}")).unwrap_err(), InvalidKey::Padded);
    }

    #[test]
    fn a_previous_key_verifies_and_does_not_sign() {
        let old = KeyRing::new(OLD).unwrap().prepare("r", "m", "i", "q");
        let both = KeyRing::new(NEW).unwrap().previous(OLD).unwrap().prepare("r", "m", "i", "q");
        let new = KeyRing::new(NEW).unwrap().prepare("r", "m", "i", "q");
        let by_old = old.sign("e", "", "o");
        assert!(both.verify(&by_old, "e", "", "o"));
        assert!(!new.verify(&by_old, "e", "", "o"));
        assert_eq!(both.sign("e", "", "o"), new.sign("e", "", "o"));
    }

    #[test]
    fn an_empty_slot_is_not_a_missing_slot() {
        let slots = KeyRing::new(NEW).unwrap().prepare("r", "m", "i", "q");
        assert_ne!(slots.sign("x", "", ""), slots.sign("", "x", ""));
        assert_ne!(slots.sign("", "x", ""), slots.sign("", "", "x"));
    }

    #[test]
    fn debug_prints_no_key() {
        assert_eq!(format!("{:?}", KeyRing::new(NEW).unwrap()), "KeyRing(1 keys)");
    }
}
