//! Challenges as their receiver sees them: what stands behind `WWW-Authenticate: Payment` (core
//! draft section 5.1).
//!
//! A merchant mints its own challenges on a faster path and never reads them back from the client;
//! this module serves clients, proxies and tests.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::HeaderValue;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    auth_params::{self, Body, MAX_HEADER_BYTES, ParamValue, push_quoted},
    base64url,
    ids::{Intent, MethodId},
    json,
    time::Timestamp,
};

/// The most unknown parameters that one challenge may have. Each is compared with those before it,
/// so this bounds the work.
const MAX_UNKNOWN_PARAMS: usize = 64;

/// A challenge cannot be read, or cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChallengeError {
    /// There is no challenge of the Payment scheme.
    #[error("no challenge of the Payment scheme")]
    NotPayment,
    /// More than one challenge where one was asked for.
    #[error("more than one Payment challenge")]
    Multiple,
    /// More than [`MAX_HEADER_BYTES`].
    #[error("the challenge is too large")]
    TooLarge,
    /// Not a list of auth-params (RFC 9110 section 11.3).
    #[error("the challenge is not a list of parameters")]
    Syntax,
    /// A parameter is given twice, in whatever case (RFC 9110 section 11.2).
    #[error("a parameter of the challenge is given twice")]
    Duplicate,
    /// More parameters than any challenge needs.
    #[error("the challenge has too many parameters")]
    TooManyParameters,
    /// A required parameter is missing or empty.
    #[error("the challenge has no {0}")]
    Missing(&'static str),
    /// A parameter does not have the form that the draft asks for.
    #[error("the {0} of the challenge is invalid")]
    Invalid(&'static str),
    /// A parameter has a line end, which cannot stand in a header.
    #[error("the {0} of the challenge has a line end")]
    LineEnd(&'static str),
    /// The payload of a credential cannot be written as JSON.
    #[error("the payload is not JSON")]
    Payload,
}

/// A challenge of the Payment scheme. Every text is kept exactly as it was received, since it is
/// bound by the id and has to be echoed unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Challenge identifier, never empty.
    pub id: String,
    /// Protection space.
    pub realm: String,
    /// Payment method identifier.
    pub method: MethodId,
    /// Payment intent.
    pub intent: Intent,
    /// Base64url of the JSON object that says what to pay.
    pub request: String,
    /// When the challenge ends, RFC 3339.
    pub expires: Option<String>,
    /// RFC 9530 content digest of the request body that the challenge is for.
    pub digest: Option<String>,
    /// For people; not bound.
    pub description: Option<String>,
    /// Base64url of a JSON object of texts that only the server understands.
    pub opaque: Option<String>,
}

impl Challenge {
    /// Reads the one Payment challenge of a `WWW-Authenticate` value; challenges of other schemes
    /// are passed over, unknown parameters are ignored.
    ///
    /// # Errors
    /// [`ChallengeError`]; `Multiple` when there are several, see [`parse_all`](Self::parse_all).
    pub fn parse(value: &str) -> Result<Self, ChallengeError> {
        let mut found = Found::default();
        found.line(value.as_bytes())?;
        let mut all = found.finish().into_iter();
        match (all.next(), all.next()) {
            (Some(only), None) => only,
            (None, _) => Err(ChallengeError::NotPayment),
            _ => Err(ChallengeError::Multiple),
        }
    }

    /// Reads all Payment challenges of all `WWW-Authenticate` values, in their order.
    ///
    /// A challenge that cannot be read, for instance because its intent has a form that the draft
    /// does not know, does not hide the others: a client that cannot use one offer can still take
    /// another. A header line that ends inside a quoted string is passed over as a whole. No Payment
    /// challenge at all is an empty list.
    ///
    /// # Errors
    /// `TooLarge`; and what is wrong with the first one when none of several can be read.
    pub fn parse_all<'h>(values: impl IntoIterator<Item = &'h HeaderValue>) -> Result<Vec<Self>, ChallengeError> {
        let mut found = Found::default();
        let mut first_error = None;
        for value in values {
            match found.line(value.as_bytes()) {
                Err(ChallengeError::TooLarge) => return Err(ChallengeError::TooLarge),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
                Ok(()) => {}
            }
        }
        let mut challenges = Vec::new();
        for challenge in found.finish() {
            match challenge {
                Ok(challenge) => challenges.push(challenge),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if challenges.is_empty() => Err(error),
            _ => Ok(challenges),
        }
    }

    /// Writes the challenge as a `WWW-Authenticate` value.
    ///
    /// # Errors
    /// What [`parse`](Self::parse) would not read back: an empty id, a request that is no JSON
    /// object; and `LineEnd`.
    pub fn to_header_value(&self) -> Result<HeaderValue, ChallengeError> {
        self.check()?;
        let params = self.params();
        let size = params.iter().flatten().map(|(name, value)| name.len() + value.len() + 5);
        let mut out = String::with_capacity("Payment ".len() + size.sum::<usize>());
        for (name, value) in params.into_iter().flatten() {
            if value.contains(['\r', '\n']) {
                return Err(ChallengeError::LineEnd(name));
            }
            out.push_str(if out.is_empty() { "Payment " } else { ", " });
            push_quoted(&mut out, name, value);
        }
        if out.len() > MAX_HEADER_BYTES {
            return Err(ChallengeError::TooLarge);
        }
        HeaderValue::from_maybe_shared(Bytes::from(out)).map_err(|_| ChallengeError::Syntax)
    }

    /// Reads the request object.
    ///
    /// # Errors
    /// `Invalid("request")` when it does not have the shape of `T`.
    pub fn request_as<T: DeserializeOwned>(&self) -> Result<T, ChallengeError> {
        let invalid = ChallengeError::Invalid("request");
        let json = base64url::decode(&self.request).ok_or(invalid)?;
        serde_json::from_slice(&json).map_err(|_| invalid)
    }

    /// The members of `opaque`; none when there is no `opaque`.
    ///
    /// # Errors
    /// `Invalid("opaque")` when it is not a JSON object of texts without duplicate members.
    pub fn opaque_members(&self) -> Result<BTreeMap<String, String>, ChallengeError> {
        let Some(opaque) = &self.opaque else {
            return Ok(BTreeMap::new());
        };
        base64url::decode(opaque)
            .filter(|text| std::str::from_utf8(text).is_ok_and(json::has_unique_members))
            .and_then(|text| serde_json::from_slice(&text).ok())
            .ok_or(ChallengeError::Invalid("opaque"))
    }

    /// When the challenge ends, if it says so.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires.as_deref()?.parse().ok()
    }

    /// The parameters in the order in which they are written.
    fn params(&self) -> [Option<(&'static str, &str)>; 9] {
        [
            Some(("id", &self.id)),
            Some(("realm", &self.realm)),
            Some(("method", self.method.as_str())),
            Some(("intent", self.intent.as_str())),
            Some(("request", &self.request)),
            self.expires.as_deref().map(|text| ("expires", text)),
            self.description.as_deref().map(|text| ("description", text)),
            self.digest.as_deref().map(|text| ("digest", text)),
            self.opaque.as_deref().map(|text| ("opaque", text)),
        ]
    }

    fn check(&self) -> Result<(), ChallengeError> {
        if self.id.is_empty() {
            return Err(ChallengeError::Missing("id"));
        }
        let request = base64url::decode(&self.request).and_then(|json| String::from_utf8(json).ok());
        if !request.is_some_and(|json| json::is_object(&json) && json::has_unique_members(&json)) {
            return Err(ChallengeError::Invalid("request"));
        }
        if self.expires.as_deref().is_some_and(|text| text.parse::<Timestamp>().is_err()) {
            return Err(ChallengeError::Invalid("expires"));
        }
        if self.digest.as_deref().is_some_and(|text| !is_digest(text)) {
            return Err(ChallengeError::Invalid("digest"));
        }
        if self.opaque.as_deref().is_some_and(|text| !base64url::is_plausible(text)) {
            return Err(ChallengeError::Invalid("opaque"));
        }
        Ok(())
    }
}

/// Writes an `Authorization` value that answers a challenge: all its parameters unchanged, who pays,
/// and the proof (core draft section 5.2).
///
/// # Errors
/// `Payload` when the payload is not a JSON object, `TooLarge` above [`MAX_HEADER_BYTES`].
pub fn authorization(
    challenge: &Challenge,
    source: Option<&str>,
    payload: &(impl Serialize + ?Sized),
) -> Result<HeaderValue, ChallengeError> {
    let json = credential_json(challenge, source, payload)?;
    let mut value = String::from("Payment ");
    URL_SAFE_NO_PAD.encode_string(&*json, &mut value);
    if value.len() > MAX_HEADER_BYTES {
        return Err(ChallengeError::TooLarge);
    }
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(|_| ChallengeError::Syntax)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The JSON of a credential.
pub(super) fn credential_json(
    challenge: &Challenge,
    source: Option<&str>,
    payload: &(impl Serialize + ?Sized),
) -> Result<Zeroizing<String>, ChallengeError> {
    #[derive(Serialize)]
    struct Wire<'a> {
        challenge: Echo<'a>,
        payload: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<&'a str>,
    }

    struct Echo<'a>(&'a Challenge);

    impl Serialize for Echo<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.params().into_iter().flatten())
        }
    }

    let no_payload = |_| ChallengeError::Payload;
    let payload = serde_json::to_string(payload).map(Zeroizing::new).map_err(no_payload)?;
    if !json::is_object(&payload) || !json::has_unique_members(&payload) {
        return Err(ChallengeError::Payload);
    }
    let payload = serde_json::from_str(&payload).map_err(no_payload)?;
    let wire = Wire { challenge: Echo(challenge), payload, source };
    serde_json::to_string(&wire).map(Zeroizing::new).map_err(no_payload)
}

/// RFC 9530 as far as a receiver must understand it to pass the text on: one `algorithm=:base64:`,
/// or `sha-256=base64` as deployed peers write it.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, value)) = text.split_once('=') else {
        return false;
    };
    match value.strip_prefix(':') {
        Some(value) => {
            matches!(algorithm, "sha-256" | "sha-512") && value.strip_suffix(':').is_some_and(base64url::is_plausible)
        }
        None => algorithm == "sha-256" && base64url::is_plausible(value),
    }
}

/// The challenges found so far, over all header lines.
#[derive(Default)]
struct Found<'h> {
    done: Vec<Result<Challenge, ChallengeError>>,
    /// The Payment challenge whose parameters are being read.
    open: Option<Params<'h>>,
    bytes: usize,
}

impl<'h> Found<'h> {
    /// Reads one header line. It counts as a whole or, with an error, not at all.
    fn line(&mut self, line: &'h [u8]) -> Result<(), ChallengeError> {
        self.bytes = self.bytes.saturating_add(line.len());
        if self.bytes > MAX_HEADER_BYTES {
            return Err(ChallengeError::TooLarge);
        }
        if auth_params::elements(line).any(|element| element.is_err()) {
            self.close();
            return Err(ChallengeError::Syntax);
        }
        for element in auth_params::elements(line).flatten() {
            if let Some(scheme) = element.scheme {
                self.close();
                self.open = scheme.eq_ignore_ascii_case("Payment").then(Params::default);
            }
            if let Some(open) = &mut self.open {
                open.take(element.body);
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        self.done.extend(self.open.take().map(Params::finish));
    }

    fn finish(mut self) -> Vec<Result<Challenge, ChallengeError>> {
        self.close();
        self.done
    }
}

/// The parameters of one challenge, still as they stand in the header.
#[derive(Default)]
struct Params<'h> {
    known: [Option<ParamValue<'h>>; 9],
    unknown: Vec<&'h str>,
    error: Option<ChallengeError>,
}

/// In the order of [`Params::known`].
const NAMES: [&str; 9] = ["id", "realm", "method", "intent", "request", "expires", "digest", "description", "opaque"];

impl<'h> Params<'h> {
    fn take(&mut self, body: Body<'h>) {
        let outcome = match body {
            Body::Empty => Ok(()),
            Body::Param(name, value) => self.insert(name, value),
            Body::Token68(_) | Body::Other => Err(ChallengeError::Syntax),
        };
        if let Err(error) = outcome {
            self.error.get_or_insert(error);
        }
    }

    fn insert(&mut self, name: &'h str, value: ParamValue<'h>) -> Result<(), ChallengeError> {
        let known = NAMES.iter().zip(&mut self.known).find(|(known, _)| known.eq_ignore_ascii_case(name));
        match known {
            Some((_, Some(_))) => Err(ChallengeError::Duplicate),
            Some((_, slot)) => {
                *slot = Some(value);
                Ok(())
            }
            None if self.unknown.iter().any(|known| known.eq_ignore_ascii_case(name)) => Err(ChallengeError::Duplicate),
            None if self.unknown.len() >= MAX_UNKNOWN_PARAMS => Err(ChallengeError::TooManyParameters),
            None => {
                self.unknown.push(name);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Challenge, ChallengeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let [id, realm, method, intent, request, expires, digest, description, opaque] =
            self.known.map(|value| value.map(|value| Cow::into_owned(value.decode())));
        let missing = ChallengeError::Missing;
        let challenge = Challenge {
            id: id.ok_or(missing("id"))?,
            realm: realm.ok_or(missing("realm"))?,
            method: MethodId::new(method.ok_or(missing("method"))?).map_err(|_| ChallengeError::Invalid("method"))?,
            intent: Intent::new(intent.ok_or(missing("intent"))?).map_err(|_| ChallengeError::Invalid("intent"))?,
            request: request.ok_or(missing("request"))?,
            expires,
            digest,
            description,
            opaque,
        };
        challenge.check()?;
        Ok(challenge)
    }
}

#[cfg(test)]
mod tests;
