//! Credentials: what stands behind `Authorization: Payment` (core draft section 5.2).

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};
use zeroize::Zeroizing;

use super::{
    auth_params::MAX_HEADER_BYTES,
    base64url,
    challenge::{Challenge, ChallengeError, credential_json},
    ids::{Intent, MethodId},
    jcs,
    json::{self, Text},
};

/// A credential cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Longer than any header may be.
    #[error("the credential is too large")]
    TooLarge,
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
    /// [`CredentialError::TooLarge`] above [`MAX_HEADER_BYTES`], [`CredentialError::Base64`], or
    /// [`CredentialError::Json`] when the bytes are not UTF-8.
    pub fn decode(token: &str) -> Result<Self, CredentialError> {
        if token.len() > MAX_HEADER_BYTES {
            return Err(CredentialError::TooLarge);
        }
        let bytes = base64url::decode(token).ok_or(CredentialError::Base64)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self(Zeroizing::new(text))),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Err(CredentialError::Json)
            }
        }
    }

    /// The credential that answers `challenge` with `payload`, as if it had been decoded.
    pub(crate) fn answering(challenge: &Challenge, payload: &Map<String, Value>) -> Result<Self, ChallengeError> {
        credential_json(challenge, None, payload).map(Self)
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
        if challenge.id.is_empty() || !MethodId::is_valid(&challenge.method) || !Intent::is_valid(&challenge.intent) {
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
        f.debug_struct("Credential").field("challenge", &self.challenge).finish_non_exhaustive()
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    const CHALLENGE: &str = r#""id":"abc","realm":"api","method":"tempo","intent":"charge","request":"e30""#;

    fn decode(json: &str) -> CredentialBytes {
        CredentialBytes::decode(&URL_SAFE_NO_PAD.encode(json)).unwrap()
    }

    fn error(json: &str) -> CredentialError {
        decode(json).parse().unwrap_err()
    }

    #[test]
    fn what_needs_no_unescaping_is_borrowed() {
        let bytes = decode(&format!(
            r#"{{"challenge":{{{CHALLENGE},"opaque":"e30","expires":null}},"source":"did:x","payload":{{"a":"\u0062"}}}}"#
        ));
        let credential = bytes.parse().unwrap();
        assert!(matches!(credential.challenge.id, Cow::Borrowed("abc")));
        assert!(matches!(credential.challenge.opaque, Some(Cow::Borrowed("e30"))));
        assert!(matches!(credential.source, Some(Cow::Borrowed("did:x"))));
        assert_eq!(credential.challenge.expires, None);
        assert_eq!(credential.payload, r#"{"a":"\u0062"}"#);
        assert_eq!(bytes.text(bytes.payload_range(&credential)), credential.payload);
    }

    #[test]
    fn members_given_twice_are_refused() {
        for json in [
            format!(r#"{{"challenge":{{{CHALLENGE},"id":"d"}},"payload":{{}}}}"#),
            format!(r#"{{"challenge":{{{CHALLENGE},"i\u0064":"d"}},"payload":{{}}}}"#),
            format!(r#"{{"challenge":{{{CHALLENGE}}},"payload":{{}},"payload":{{}}}}"#),
            format!(r#"{{"challenge":{{{CHALLENGE}}},"challenge":{{{CHALLENGE}}},"payload":{{}}}}"#),
            format!(r#"{{"challenge":{{{CHALLENGE},"opaque":{{"a":"b","a":"c"}}}},"payload":{{}}}}"#),
        ] {
            assert_eq!(error(&json), CredentialError::Json, "{json}");
        }
        for payload in [r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"\u0062":2}}"#, r#"{"a":[{"b":1,"b":1}]}"#] {
            let json = format!(r#"{{"challenge":{{{CHALLENGE}}},"payload":{payload}}}"#);
            assert_eq!(error(&json), CredentialError::Payload, "{json}");
        }
    }

    #[test]
    fn a_payload_is_an_object() {
        for payload in [r#""x""#, "[]", "null", "1", "true"] {
            let json = format!(r#"{{"challenge":{{{CHALLENGE}}},"payload":{payload}}}"#);
            assert_eq!(error(&json), CredentialError::Payload, "{payload}");
        }
    }

    #[test]
    fn a_challenge_that_nobody_can_have_issued_is_refused() {
        for (from, to) in [
            (r#""id":"abc""#, r#""id":"""#),
            ("tempo", "Tempo"),
            ("tempo", ""),
            ("tempo", "te|mpo"),
            ("charge", "charge|x"),
            ("charge", ""),
        ] {
            let json = format!(r#"{{"challenge":{{{CHALLENGE}}},"payload":{{}}}}"#).replace(from, to);
            assert_eq!(error(&json), CredentialError::Challenge, "{json}");
        }
    }

    #[test]
    fn what_is_not_the_object_of_the_draft_is_refused() {
        for json in [
            "",
            "{}",
            "[]",
            "null",
            "not valid json",
            r#"{"challenge":{"id":"abc"},"payload":{}}"#,
            r#"{"challenge":"abc","payload":{}}"#,
        ] {
            assert_eq!(error(json), CredentialError::Json, "{json}");
        }
        let deep = format!(r#"{{"challenge":{{{CHALLENGE}}},"payload":{}1}}"#, r#"{"a":"#.repeat(5_000));
        assert_eq!(error(&deep), CredentialError::Json);
        let deep =
            format!(r#"{{"challenge":{{{CHALLENGE}}},"payload":{}1{}}}"#, r#"{"a":"#.repeat(1_000), "}".repeat(1_000));
        assert_eq!(error(&deep), CredentialError::Payload);
    }

    #[test]
    fn the_size_is_capped_before_decoding() {
        // Nothing of this is base64, so the cap must come first.
        let large = "!".repeat(MAX_HEADER_BYTES + 1);
        assert_eq!(CredentialBytes::decode(&large).unwrap_err(), CredentialError::TooLarge);
        assert_eq!(CredentialBytes::decode("!").unwrap_err(), CredentialError::Base64);
        assert_eq!(CredentialBytes::decode("_w").unwrap_err(), CredentialError::Json);
    }

    #[test]
    fn debug_prints_no_proof() {
        let bytes = decode(&format!(r#"{{"challenge":{{{CHALLENGE}}},"payload":{{"spt":"hush"}}}}"#));
        let credential = bytes.parse().unwrap();
        assert!(!format!("{bytes:?} {credential:?}").contains("hush"));
    }
}
