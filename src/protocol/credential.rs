//! Credentials: what stands behind `Authorization: Payment` (core draft section 5.2).

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    base64url,
    ids::{Intent, MethodId},
    jcs,
    json::{self, Text},
};

/// A credential cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Not base64url.
    #[error("the credential is not base64url")]
    Base64,
    /// Not JSON, or a member is missing, given twice or of another type.
    #[error("the credential is not the JSON object that the Payment scheme defines")]
    Json,
    /// A method, an intent or an id that can stand in no challenge.
    #[error("the credential echoes a challenge that nobody can have issued")]
    Challenge,
    /// The payload is no JSON object, or one of its members is given twice.
    #[error("the payload of the credential is not a JSON object without duplicate members")]
    Payload,
}

/// The decoded bytes of a credential. Wiped from memory when dropped; `Debug` prints nothing of them.
pub struct CredentialBytes(Zeroizing<String>);

impl CredentialBytes {
    /// Decodes the token68 of an `Authorization: Payment` value.
    ///
    /// # Errors
    /// [`CredentialError::Base64`], or [`CredentialError::Json`] when the bytes are not UTF-8.
    pub fn decode(token: &str) -> Result<Self, CredentialError> {
        let bytes = base64url::decode(token).ok_or(CredentialError::Base64)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self(Zeroizing::new(text))),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Err(CredentialError::Json)
            }
        }
    }

    /// Reads the credential, borrowing from these bytes.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn parse(&self) -> Result<Credential<'_>, CredentialError> {
        let wire: Wire<'_> = serde_json::from_str(&self.0).map_err(|_| CredentialError::Json)?;
        let payload = wire.payload.get();
        if !json::is_object(payload) || !json::has_unique_members(payload) {
            return Err(CredentialError::Payload);
        }
        let challenge = wire.challenge;
        if challenge.id.is_empty()
            || !MethodId::is_valid(&challenge.method)
            || !Intent::is_valid(&challenge.intent)
        {
            return Err(CredentialError::Challenge);
        }
        Ok(Credential {
            challenge: EchoedChallenge {
                id: challenge.id.0,
                realm: challenge.realm.0,
                method: challenge.method.0,
                intent: challenge.intent.0,
                request: challenge.request.0,
                expires: challenge.expires.map(|Text(text)| text),
                digest: challenge.digest.map(|Text(text)| text),
                opaque: challenge.opaque.map(|Opaque(text)| text),
                description: challenge.description.map(|Text(text)| text),
            },
            source: wire.source.map(|Text(text)| text),
            payload,
        })
    }

    /// Where the payload of a credential that was parsed from these bytes stands in them.
    pub(crate) fn payload_range(&self, credential: &Credential<'_>) -> Range<usize> {
        let start = (credential.payload.as_ptr() as usize).saturating_sub(self.0.as_ptr() as usize);
        start..start + credential.payload.len()
    }

    /// The text in a range, or nothing when there is no such range.
    pub(crate) fn text(&self, range: Range<usize>) -> &str {
        self.0.get(range).unwrap_or_default()
    }
}

impl fmt::Debug for CredentialBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialBytes(..)")
    }
}

/// A credential, parsed but not yet believed. `Debug` does not print the payload.
#[non_exhaustive]
pub struct Credential<'a> {
    /// The challenge as the client echoes it.
    pub challenge: EchoedChallenge<'a>,
    /// Who the credential claims to come from, usually a DID.
    pub source: Option<Cow<'a, str>>,
    /// The method's proof: a JSON object without duplicate members.
    pub payload: &'a str,
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("challenge", &self.challenge)
            .finish_non_exhaustive()
    }
}

/// The challenge parameters that a credential echoes (core draft section 5.2), as text: what is
/// compared is the text that was bound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EchoedChallenge<'a> {
    /// Challenge identifier.
    pub id: Cow<'a, str>,
    /// Protection space.
    pub realm: Cow<'a, str>,
    /// Payment method identifier.
    pub method: Cow<'a, str>,
    /// Payment intent.
    pub intent: Cow<'a, str>,
    /// Base64url of the canonical request object.
    pub request: Cow<'a, str>,
    /// RFC 3339.
    pub expires: Option<Cow<'a, str>>,
    /// RFC 9530 content digest.
    pub digest: Option<Cow<'a, str>>,
    /// Base64url of the canonical correlation data.
    pub opaque: Option<Cow<'a, str>>,
    /// For people; not bound.
    pub description: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    challenge: WireChallenge<'a>,
    #[serde(borrow, default)]
    source: Option<Text<'a>>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct WireChallenge<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    realm: Text<'a>,
    #[serde(borrow)]
    method: Text<'a>,
    #[serde(borrow)]
    intent: Text<'a>,
    #[serde(borrow)]
    request: Text<'a>,
    #[serde(borrow, default)]
    expires: Option<Text<'a>>,
    #[serde(borrow, default)]
    digest: Option<Text<'a>>,
    #[serde(borrow, default)]
    opaque: Option<Opaque<'a>>,
    #[serde(borrow, default)]
    description: Option<Text<'a>>,
}

/// `opaque` as the draft has it (text), or as the object that early clients sent back.
struct Opaque<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Opaque<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OpaqueVisitor;

        impl<'de> Visitor<'de> for OpaqueVisitor {
            type Value = Opaque<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or an object of texts")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Opaque<'de>, E> {
                Ok(Opaque(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Opaque<'de>, E> {
                Ok(Opaque(Cow::Owned(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Opaque<'de>, A::Error> {
                let mut members = BTreeMap::<String, String>::new();
                while let Some((name, value)) = map.next_entry()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("duplicate member"));
                    }
                }
                let text = jcs::to_base64url(&members).map_err(A::Error::custom)?;
                Ok(Opaque(Cow::Owned(text)))
            }
        }

        deserializer.deserialize_any(OpaqueVisitor)
    }
}
