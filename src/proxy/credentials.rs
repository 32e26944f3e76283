//! What a service shows its upstream to be let in, and what of a client's request must not stand beside it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use zeroize::Zeroizing;

use crate::upstream::scrub;

/// A text that nobody may read in a log. Wiped from memory when it is dropped.
#[derive(Clone)]
pub(super) struct Secret(Zeroizing<String>);

impl Secret {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How an API takes its key.
#[derive(Clone, Debug)]
pub(super) enum ApiKeyIn {
    /// `Authorization: Bearer <key>`.
    Bearer,
    /// `Authorization: Basic base64(<key>:)`.
    BasicUser,
    /// A header of its own.
    Header(HeaderName),
}

/// What may be said for a service and again for one of its routes.
#[derive(Clone, Debug, Default)]
pub(super) struct Credentials {
    pub(super) api_key: Option<Secret>,
    pub(super) bearer: Option<Secret>,
    pub(super) headers: Option<Vec<(String, Secret)>>,
}

/// What is done to the headers of a request.
#[derive(Clone, Default)]
pub(super) struct Injection {
    /// Headers that only the merchant may send.
    strip: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
}

/// A credential cannot be used: which, and what to do.
pub(super) type Unusable = (String, &'static str);

impl Credentials {
    pub(super) fn is_empty(&self) -> bool {
        self.api_key.is_none() && self.bearer.is_none() && self.headers.is_none()
    }

    /// What a route sends: its own words before those of the service. A map of headers takes the place of the whole
    /// map of the service.
    pub(super) fn injection(&self, route: &Self, key_in: Option<&ApiKeyIn>) -> Result<Injection, Unusable> {
        let mut injection = Injection::default();
        match (route.api_key.as_ref().or(self.api_key.as_ref()), key_in) {
            (Some(key), Some(key_in)) => injection.api_key(key, key_in)?,
            (Some(_), None) => {
                return Err(("api_key".into(), "this service does not say where its key goes; use bearer or header"));
            }
            (None, _) => {}
        }
        if let Some(bearer) = route.bearer.as_ref().or(self.bearer.as_ref()) {
            injection.set(AUTHORIZATION, value("bearer", &[b"Bearer ", token("bearer", bearer)?.as_bytes()])?);
        }
        let headers = route.headers.as_ref().or(self.headers.as_ref());
        for (name, secret) in headers.into_iter().flatten() {
            let header = header_name(name)?;
            injection.set(header, value(name, &[secret.expose().as_bytes()])?);
        }
        // A header that the route leaves out must not come from the client instead.
        for (name, _) in self.headers.iter().chain(&route.headers).flatten() {
            injection.strip(header_name(name)?);
        }
        Ok(injection)
    }
}

impl Injection {
    fn api_key(&mut self, key: &Secret, key_in: &ApiKeyIn) -> Result<(), Unusable> {
        let text = token("api_key", key)?;
        match key_in {
            ApiKeyIn::Bearer => self.set(AUTHORIZATION, value("api_key", &[b"Bearer ", text.as_bytes()])?),
            ApiKeyIn::BasicUser => {
                let user = Zeroizing::new(format!("{text}:"));
                let encoded = Zeroizing::new(STANDARD.encode(user.as_bytes()));
                self.set(AUTHORIZATION, value("api_key", &[b"Basic ", encoded.as_bytes()])?);
            }
            ApiKeyIn::Header(name) => self.set(name.clone(), value("api_key", &[text.as_bytes()])?),
        }
        Ok(())
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.strip(name.clone());
        self.set.retain(|(known, _)| *known != name);
        self.set.push((name, value));
    }

    /// Never takes a header from a client.
    pub(super) fn strip(&mut self, name: HeaderName) {
        if !self.strip.contains(&name) {
            self.strip.push(name);
        }
    }

    /// Takes away what a client has sent in place of the merchant.
    pub(super) fn clean(&self, headers: &mut HeaderMap) {
        for name in &self.strip {
            headers.remove(name);
        }
    }

    /// Adds what the merchant sends.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// A header that a merchant may set, and that belongs neither to a connection nor to the body.
pub(super) fn header_name(name: &str) -> Result<HeaderName, Unusable> {
    let wrong = |problem| (name.escape_debug().to_string(), problem);
    let header: HeaderName = name.parse().map_err(|_| wrong("this is not the name of a header"))?;
    if scrub::is_ours_to_set(&header) {
        return Err(wrong("this header belongs to the connection, the body or the payment; remove it"));
    }
    Ok(header)
}

/// A credential without white space, which a file or a variable may have at its end.
fn token<'s>(field: &str, secret: &'s Secret) -> Result<&'s str, Unusable> {
    let text = secret.expose();
    if text.is_empty() {
        return Err((field.to_owned(), "it is empty"));
    }
    if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err((field.to_owned(), "it has white space; remove it, also at the end of a line"));
    }
    Ok(text)
}

/// A value that `Debug` does not print, in memory that is wiped.
fn value(field: &str, parts: &[&[u8]]) -> Result<HeaderValue, Unusable> {
    let bytes = Bytes::from_owner(Zeroizing::new(parts.concat()));
    let mut value = HeaderValue::from_maybe_shared(bytes)
        .map_err(|_| (field.to_owned(), "its value cannot stand in a header: no line breaks or control characters"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<_> = self.set.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Injection").field("strip", &self.strip).field("set", &set).finish()
    }
}
