//! Typed names of the protocol: realm, payment method, intent, challenge id, spend key.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A name on the wire that does not have the form its specification asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what}: {why}")]
pub struct InvalidName {
    what: &'static str,
    why: &'static str,
}

impl InvalidName {
    pub(crate) fn new(what: &'static str, why: &'static str) -> Self {
        Self { what, why }
    }
}

/// The protection space of a challenge (core draft section 5.1.1, RFC 9110 section 11.5), for
/// instance `api.example.com`.
///
/// Printable ASCII, at most 255 bytes, without `|`, `"` and `\`: it is a slot of the bound id and
/// must have one spelling. It is configuration and never read from a `Host` header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Realm(Arc<str>);

impl Realm {
    /// Checks and takes a realm.
    ///
    /// # Errors
    /// When it is empty, too long, or has a byte outside printable ASCII or one of `|`, `"`, `\`.
    pub fn new(realm: impl AsRef<str>) -> Result<Self, InvalidName> {
        let realm = realm.as_ref();
        let why = if realm.is_empty() {
            "it is empty"
        } else if realm.len() > 255 {
            "it is longer than 255 bytes"
        } else if !realm.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
            "it has a character outside printable ASCII"
        } else if realm.contains(['|', '"', '\\']) {
            "it has one of | \" \\"
        } else if realm.trim() != realm {
            "it begins or ends with a space"
        } else {
            return Ok(Self(realm.into()));
        };
        Err(InvalidName::new("realm", why))
    }

    /// The realm as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the realm names this machine: `localhost`, `127.0.0.0/8` or `[::1]`, with or without a port.
    pub fn is_loopback(&self) -> bool {
        let host = match self.0.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => self.0.split(':').next().unwrap_or_default(),
        };
        host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A payment method identifier such as `stripe` or `tempo` (core draft section 6.1).
///
/// The draft allows lowercase ASCII letters only; deployed peers also use digits, `:`, `_` and `-`
/// after the first letter (`x402`). Both are read; [`MethodId::is_registrable`] tells whether the
/// strict form holds.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct MethodId(Cow<'static, str>);

impl MethodId {
    /// The embedded test rail, [`Sandbox`](crate::method::Sandbox).
    pub const SANDBOX: Self = Self(Cow::Borrowed("sandbox"));

    /// Stripe (Stripe charge draft).
    pub const STRIPE: Self = Self(Cow::Borrowed("stripe"));

    /// Checks and takes an identifier.
    ///
    /// # Errors
    /// When it does not begin with `a`-`z`, has a character outside `a-z0-9:_-`, or is over 64 bytes.
    pub fn new(id: impl Into<Cow<'static, str>>) -> Result<Self, InvalidName> {
        let id = id.into();
        if Self::is_valid(&id) {
            Ok(Self(id))
        } else {
            Err(InvalidName::new("method", "it must begin with a-z and have only a-z, 0-9, : _ -"))
        }
    }

    /// Whether a text on the wire is a method identifier as peers write them.
    pub fn is_valid(id: &str) -> bool {
        id.len() <= 64
            && id.starts_with(|c: char| c.is_ascii_lowercase())
            && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b':' | b'_' | b'-'))
    }

    /// The identifier as a label, which for a literal is no copy.
    pub(crate) fn label(&self) -> Cow<'static, str> {
        self.0.clone()
    }

    /// Whether the identifier has the draft's strict form, `1*LOWERALPHA`.
    pub fn is_registrable(&self) -> bool {
        self.0.bytes().all(|b| b.is_ascii_lowercase())
    }

    /// The identifier as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An intent such as `charge` (core draft section 7.1: `1*( ALPHA / DIGIT / "-" )`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Intent(Cow<'static, str>);

impl Intent {
    /// A one-time payment of a fixed amount (charge intent draft).
    pub const CHARGE: Self = Self(Cow::Borrowed("charge"));

    /// Checks and takes an intent.
    ///
    /// # Errors
    /// When it is empty, over 64 bytes, or has a character outside `A-Za-z0-9-`.
    pub fn new(intent: impl Into<Cow<'static, str>>) -> Result<Self, InvalidName> {
        let intent = intent.into();
        if Self::is_valid(&intent) {
            Ok(Self(intent))
        } else {
            Err(InvalidName::new("intent", "it must have only letters, digits and -"))
        }
    }

    /// Whether a text on the wire is an intent.
    pub fn is_valid(intent: &str) -> bool {
        !intent.is_empty() && intent.len() <= 64 && intent.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    }

    /// The intent as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_name {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text.to_owned())
            }
        }
    )*};
}

text_name!(MethodId, Intent);

macro_rules! digest_name {
    ($($name:ident, $what:literal;)*) => {$(
        impl $name {
            /// Length of the text form: base64url without padding of 32 bytes.
            pub const TEXT_LEN: usize = 43;

            /// Takes the 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Writes the text form into a buffer on the stack.
            pub fn encode<'b>(&self, buffer: &'b mut [u8; 43]) -> &'b str {
                // 32 bytes are 43 characters, so neither step can fail.
                let _ = URL_SAFE_NO_PAD.encode_slice(self.0, buffer);
                std::str::from_utf8(buffer).unwrap_or_default()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.encode(&mut [0; 43]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            /// Reads the canonical text form only, so that one value has one spelling.
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let mut bytes = [0; 32];
                match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
                    Ok(32) if text.len() == Self::TEXT_LEN => Ok(Self(bytes)),
                    _ => Err(InvalidName::new($what, "it must be 43 characters of base64url")),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.encode(&mut [0; 43]))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

/// The id of a challenge that this merchant issued: an HMAC-SHA256 over the bound parameters
/// (core draft section 5.1.3), so 32 bytes, on the wire 43 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChallengeId([u8; 32]);

/// Names a payment proof (a Shared Payment Token, a transaction hash, a signed nonce) in the
/// journal, so that one proof never pays two challenges.
///
/// It is a SHA-256 of the rail and the proof: the journal of a merchant holds no bearer token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpendKey([u8; 32]);

digest_name! {
    ChallengeId, "challenge id";
    SpendKey, "spend key";
}

impl SpendKey {
    /// The key of `proof` on the rail `method`. The proof is taken byte for byte: a rail whose
    /// proofs have several spellings must bring them to one before.
    pub fn new(method: &MethodId, proof: impl AsRef<[u8]>) -> Self {
        let mut hash = Sha256::new();
        hash.update(method.as_str());
        // A method id never has this byte, so no two (method, proof) pairs share an input.
        hash.update([0]);
        hash.update(proof);
        Self(hash.finalize().into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_cannot_move_the_borders_of_the_bound_slots() {
        for bad in ["", "a|b", "a\"b", "a\\b", "a\nb", "é", " a", &"a".repeat(256)] {
            assert!(Realm::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Realm::new("api.example.com").unwrap().as_str(), "api.example.com");
    }

    #[test]
    fn loopback_realms_are_known() {
        for yes in ["localhost", "localhost:8402", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:80"] {
            assert!(Realm::new(yes).unwrap().is_loopback(), "{yes}");
        }
        for no in ["api.example.com", "localhost.example.com", "128.0.0.1", "10.0.0.1"] {
            assert!(!Realm::new(no).unwrap().is_loopback(), "{no}");
        }
    }

    #[test]
    fn a_challenge_id_has_one_spelling() {
        let id = ChallengeId::from_bytes([0xff; 32]);
        let text = id.to_string();
        assert_eq!(text.parse::<ChallengeId>().unwrap(), id);
        // The last character carries 4 bits; another one with the same upper bits is not the same id.
        let other = format!("{}9", text.get(..42).unwrap());
        assert!(other.parse::<ChallengeId>().is_err());
        assert!(format!("{text}=").parse::<ChallengeId>().is_err());
        assert!("".parse::<ChallengeId>().is_err());
    }

    #[test]
    fn spend_keys_keep_case_and_rail_apart() {
        let stripe = MethodId::new("stripe").unwrap();
        let strip = MethodId::new("strip").unwrap();
        assert_ne!(SpendKey::new(&stripe, "0xab"), SpendKey::new(&stripe, "0xAB"));
        assert_ne!(SpendKey::new(&stripe, "x"), SpendKey::new(&strip, "ex"));
    }
}
