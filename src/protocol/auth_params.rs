//! The one tokenizer for lists of challenges and of credentials (RFC 9110 section 11), on the side
//! of `Authorization` and on the side of `WWW-Authenticate`.
//!
//! A list is cut at the commas outside quoted strings, each element is read once, and nothing is
//! copied. What other schemes put between their commas is not ours to judge: an element that has no
//! legal form only matters when it belongs to the Payment scheme.

use std::{borrow::Cow, fmt};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

/// The most bytes of one header field, over all its lines, that are looked at.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

const PAYMENT: &str = "Payment";

/// There is no single readable Payment credential in `Authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorizationError {
    /// More than one Payment credential; the draft wants a 400 (core draft, appendix, multiple
    /// payment options).
    #[error("more than one Payment credential")]
    Multiple,
    /// More than [`MAX_HEADER_BYTES`].
    #[error("the Authorization header is too large")]
    TooLarge,
    /// A Payment credential that is not one token68 (RFC 9110 section 11.2) or, where that is asked for, an
    /// id and a token; or a list that ends inside a quoted string.
    #[error("the Payment credential is malformed")]
    Malformed,
}

/// What stands behind `Payment` in `Authorization`. `Debug` prints nothing of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PaymentCredential<'h> {
    /// The credential of the core draft (section 5.2): base64url of JSON.
    Token68(&'h str),
    /// `id="...", credential="..."`: a challenge by its id, and a token of its rail.
    Params(TokenCredential<'h>),
}

/// A credential that names a challenge by its id alone and brings a token of its rail. `Debug` prints nothing of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenCredential<'h> {
    id: &'h str,
    token: &'h str,
}

impl<'h> TokenCredential<'h> {
    /// The id of a challenge, as it stands there.
    pub fn id(&self) -> &'h str {
        self.id
    }

    /// The token: whoever has it can take the money.
    pub fn token(&self) -> &'h str {
        self.token
    }
}

impl fmt::Debug for PaymentCredential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaymentCredential(..)")
    }
}

impl fmt::Debug for TokenCredential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenCredential(..)")
    }
}

/// Finds the one Payment credential among all values of `Authorization` and returns its token68.
///
/// Credentials of other schemes, before or after it, in the same or in another header line, are
/// passed over. The scheme is compared without case. `Payment` with nothing behind it is a malformed
/// credential, not an absent one.
///
/// # Errors
/// [`AuthorizationError`].
pub fn payment_credential<'h>(
    values: impl IntoIterator<Item = &'h HeaderValue>,
) -> Result<Option<&'h str>, AuthorizationError> {
    match presented_credential(values)? {
        None => Ok(None),
        Some(PaymentCredential::Token68(token)) => Ok(Some(token)),
        Some(PaymentCredential::Params(_)) => Err(AuthorizationError::Malformed),
    }
}

/// Finds the one Payment credential among all values of `Authorization`, in either form: the token68 of the core
/// draft, or the auth-params `id` and `credential`, each once and not empty, in quotes or not, and without escapes, so
/// that a token has one spelling. Other parameters are passed over. The two forms cannot be taken for each other.
///
/// # Errors
/// [`AuthorizationError`].
pub fn presented_credential<'h>(
    values: impl IntoIterator<Item = &'h HeaderValue>,
) -> Result<Option<PaymentCredential<'h>>, AuthorizationError> {
    let mut room = MAX_HEADER_BYTES;
    let mut token = None;
    let mut params = Params::default();
    let mut count = 0_usize;
    let mut malformed = false;
    // Header lines of one name are one list (RFC 9110 section 5.2), so the scheme that a parameter
    // belongs to may stand on the line before.
    let mut in_payment = false;
    for value in values {
        let bytes = value.as_bytes();
        room = room.checked_sub(bytes.len()).ok_or(AuthorizationError::TooLarge)?;
        if let Some(only) = sole_payment_token(bytes) {
            token = Some(only);
            count += 1;
            in_payment = true;
            continue;
        }
        for element in elements(bytes) {
            let Ok(element) = element else {
                // A text that never names the scheme holds no credential of it, whatever it is.
                malformed |= in_payment || mentions_payment(bytes);
                break;
            };
            match element.scheme {
                Some(scheme) => {
                    in_payment = scheme.eq_ignore_ascii_case(PAYMENT);
                    if in_payment {
                        count += 1;
                        match element.body {
                            Body::Token68(text) => token = Some(text),
                            body => params.take(body),
                        }
                    }
                }
                None if in_payment => params.take(element.body),
                None => {}
            }
        }
    }
    if count > 1 {
        return Err(AuthorizationError::Multiple);
    }
    match (malformed, token, params) {
        (false, None, Params { found: false, .. }) => Ok(None),
        (false, Some(token), Params { found: false, .. }) => Ok(Some(PaymentCredential::Token68(token))),
        (false, None, Params { id: Some(id), token: Some(token), malformed: false, .. }) => {
            Ok(Some(PaymentCredential::Params(TokenCredential { id, token })))
        }
        _ => Err(AuthorizationError::Malformed),
    }
}

/// The parameters of a Payment credential that is not a token68.
#[derive(Default)]
struct Params<'h> {
    id: Option<&'h str>,
    token: Option<&'h str>,
    found: bool,
    malformed: bool,
}

impl<'h> Params<'h> {
    fn take(&mut self, body: Body<'h>) {
        self.found = true;
        let Body::Param(name, value) = body else {
            self.malformed = true;
            return;
        };
        let slot = match () {
            () if name.eq_ignore_ascii_case("id") => &mut self.id,
            () if name.eq_ignore_ascii_case("credential") => &mut self.token,
            () => return,
        };
        let value = value.as_plain().filter(|value| !value.is_empty());
        self.malformed |= value.is_none() || slot.is_some();
        *slot = value;
    }
}

/// Whether anything in `Authorization` belongs to another scheme than Payment.
pub(crate) fn has_other_scheme<'h>(values: impl IntoIterator<Item = &'h HeaderValue>) -> bool {
    let mut in_payment = false;
    values.into_iter().map(HeaderValue::as_bytes).any(|line| {
        elements(line).any(|element| match element {
            Ok(element) => {
                in_payment = element.scheme.map_or(in_payment, |scheme| scheme.eq_ignore_ascii_case(PAYMENT));
                element.scheme.is_some() && !in_payment
            }
            Err(Unterminated) => !in_payment && !mentions_payment(line),
        })
    })
}

/// Takes Payment credentials out of `Authorization`, so that what lies behind the gate never sees
/// the bearer token. Credentials of other schemes stay byte for byte and are marked sensitive.
///
/// A value that names the Payment scheme but cannot be read is taken out as a whole.
pub fn remove_payment_credentials(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = lines.next() else {
        return;
    };
    let mut kept = Vec::new();
    if lines.next().is_some() || sole_payment_token(first.as_bytes()).is_none() {
        let mut in_payment = false;
        let rest = |value| without_payment(value, &mut in_payment);
        kept = headers.get_all(AUTHORIZATION).iter().filter_map(rest).collect();
    }
    headers.remove(AUTHORIZATION);
    for mut value in kept {
        value.set_sensitive(true);
        headers.append(AUTHORIZATION, value);
    }
}

/// What is left of a header line without its Payment credentials: the line itself when it has none.
fn without_payment(value: &HeaderValue, in_payment: &mut bool) -> Option<HeaderValue> {
    let bytes = value.as_bytes();
    let mut kept = Vec::new();
    let mut removed = false;
    for element in elements(bytes) {
        let Ok(element) = element else {
            return (!*in_payment && !mentions_payment(bytes)).then(|| value.clone());
        };
        if let Some(scheme) = element.scheme {
            *in_payment = scheme.eq_ignore_ascii_case(PAYMENT);
        }
        if *in_payment {
            removed = true;
        } else {
            if !kept.is_empty() {
                kept.extend_from_slice(b", ");
            }
            kept.extend_from_slice(element.raw);
        }
    }
    if !removed {
        return Some(value.clone());
    }
    if kept.is_empty() {
        return None;
    }
    // Parts of a header value are a header value.
    HeaderValue::from_bytes(&kept).ok()
}

/// The token68 of a value that is one Payment credential and nothing else. This is nearly every
/// paid request, so it takes one pass and no more.
fn sole_payment_token(bytes: &[u8]) -> Option<&str> {
    let (scheme, rest) = bytes.split_at_checked(PAYMENT.len())?;
    if !scheme.eq_ignore_ascii_case(PAYMENT.as_bytes()) || !rest.first().is_some_and(is_space) {
        return None;
    }
    token68(trim(rest))
}

/// Whether the name of the scheme stands anywhere in a text.
fn mentions_payment(bytes: &[u8]) -> bool {
    bytes.windows(PAYMENT.len()).any(|window| window.eq_ignore_ascii_case(PAYMENT.as_bytes()))
}

/// A list ends inside a quoted string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unterminated;

/// One element of a list of challenges or credentials.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'h> {
    /// The element as it stands there, without the white space around it.
    pub(super) raw: &'h [u8],
    /// The scheme that begins here, or nothing when the element continues the scheme before.
    pub(super) scheme: Option<&'h str>,
    /// What stands behind the scheme, or the whole element.
    pub(super) body: Body<'h>,
}

/// What an element carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'h> {
    /// Nothing: the scheme stands alone.
    Empty,
    /// A token68.
    Token68(&'h str),
    /// `name=value`.
    Param(&'h str, ParamValue<'h>),
    /// None of the forms of RFC 9110.
    Other,
}

/// The value of an auth-param.
#[derive(Clone, Copy, Debug)]
pub(super) enum ParamValue<'h> {
    /// A token.
    Token(&'h str),
    /// What stands between the quotes, still escaped.
    Quoted(&'h [u8]),
}

impl<'h> ParamValue<'h> {
    /// The value where it is printable ASCII that stands there as it is.
    fn as_plain(self) -> Option<&'h str> {
        match self {
            Self::Token(text) => Some(text),
            Self::Quoted(quoted) if read(quoted).all(|b| matches!(b, b' '..=b'~') && *b != b'\\') => {
                std::str::from_utf8(quoted).ok()
            }
            Self::Quoted(_) => None,
        }
    }

    /// The value as text.
    ///
    /// Bytes outside ASCII are UTF-8 or, when they are not, Latin-1. `\uXXXX` is a UTF-16 code unit
    /// as deployed peers write it, half a surrogate pair becomes U+FFFD, and any other backslash
    /// makes the next character literal (RFC 9110 section 5.6.4).
    pub(super) fn decode(self) -> Cow<'h, str> {
        let quoted = match self {
            Self::Token(text) => return Cow::Borrowed(text),
            Self::Quoted(quoted) => quoted,
        };
        let text = match std::str::from_utf8(quoted) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(quoted.iter().copied().map(char::from).collect()),
        };
        if text.contains('\\') { Cow::Owned(unescape(&text)) } else { text }
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        rest = match unicode_escape(after) {
            Some((character, tail)) => {
                out.push(character);
                tail
            }
            None => {
                let mut tail = after.chars();
                out.extend(tail.next());
                tail.as_str()
            }
        };
    }
    out.push_str(rest);
    out
}

/// Reads what stands behind the backslash of `\uXXXX`, with the second half of a surrogate pair.
fn unicode_escape(text: &str) -> Option<(char, &str)> {
    fn unit(text: &str) -> Option<(u16, &str)> {
        let (digits, tail) = text.strip_prefix('u')?.split_at_checked(4)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        Some((u16::from_str_radix(digits, 16).ok()?, tail))
    }
    let (first, tail) = unit(text)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, tail));
    }
    let pair = tail.strip_prefix('\\').and_then(unit).and_then(|(second, tail)| {
        let character = char::decode_utf16([first, second]).next()?.ok()?;
        Some((character, tail))
    });
    Some(pair.unwrap_or((char::REPLACEMENT_CHARACTER, tail)))
}

/// Appends `name="value"`, escaped: quotes and backslashes by a backslash, everything outside
/// printable ASCII (but the tab) as the UTF-16 code units `\uXXXX`.
///
/// A line end is escaped like any other control character, so the outcome is always one header
/// line; who takes text from outside refuses line ends before.
pub(crate) fn push_quoted(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str("=\"");
    let mut rest = value;
    while let Some(at) = rest.find(|c: char| !is_plain(c)) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut tail = tail.chars();
        match tail.next() {
            Some(c @ ('"' | '\\')) => {
                out.push('\\');
                out.push(c);
            }
            Some(c) => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| push_unit(out, *unit)),
            None => {}
        }
        rest = tail.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

fn is_plain(c: char) -> bool {
    matches!(c, '\t' | ' '..='~') && !matches!(c, '"' | '\\')
}

fn push_unit(out: &mut String, unit: u16) {
    out.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        out.extend(char::from_digit(u32::from(unit >> shift) & 0xf, 16));
    }
}

/// The elements of one header line; empty ones are passed over (RFC 9110 section 5.6.1.2). After an
/// error there is nothing more.
pub(super) fn elements(line: &[u8]) -> Elements<'_> {
    Elements { rest: line }
}

/// See [`elements`].
pub(super) struct Elements<'h> {
    rest: &'h [u8],
}

impl<'h> Iterator for Elements<'h> {
    type Item = Result<Element<'h>, Unterminated>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let Some((raw, rest)) = split_at_comma(self.rest) else {
                self.rest = &[];
                return Some(Err(Unterminated));
            };
            self.rest = rest;
            let raw = trim(raw);
            if !raw.is_empty() {
                return Some(Ok(element(raw)));
            }
        }
        None
    }
}

/// Cuts at the first comma outside quoted strings; `None` when a quoted string has no end.
fn split_at_comma(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut bytes = read(line).enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b',' => {
                let (element, rest) = line.split_at_checked(at)?;
                return Some((element, rest.get(1..)?));
            }
            b'"' => loop {
                match bytes.next()?.1 {
                    b'"' => break,
                    b'\\' => {
                        bytes.next()?;
                    }
                    _ => {}
                }
            },
            _ => {}
        }
    }
    Some((line, &[]))
}

/// Reads an element that has neither white space around it nor commas outside quoted strings.
fn element(raw: &[u8]) -> Element<'_> {
    let (name, rest) = split_token(raw);
    let scheme_with = |body| Element { raw, scheme: Some(name), body };
    let part_of_the_scheme_before = |body| Element { raw, scheme: None, body };
    if name.is_empty() {
        return part_of_the_scheme_before(Body::Other);
    }
    let behind = trim_start(rest);
    match behind.first() {
        None => scheme_with(Body::Empty),
        Some(b'=') => part_of_the_scheme_before(param(name, behind)),
        // No white space between a token and what is not a token: not a scheme.
        Some(_) if behind.len() == rest.len() => part_of_the_scheme_before(Body::Other),
        Some(_) => scheme_with(match token68(behind) {
            Some(token) => Body::Token68(token),
            None => {
                let (name, rest) = split_token(behind);
                param(name, trim_start(rest))
            }
        }),
    }
}

/// Reads `"=" BWS ( token / quoted-string )`.
fn param<'h>(name: &'h str, rest: &'h [u8]) -> Body<'h> {
    let Some(value) = rest.strip_prefix(b"=").map(trim_start) else {
        return Body::Other;
    };
    if name.is_empty() {
        return Body::Other;
    }
    if let [b'"', quoted @ .., b'"'] = value {
        return if is_quoted_text(quoted) { Body::Param(name, ParamValue::Quoted(quoted)) } else { Body::Other };
    }
    match split_token(value) {
        (token, []) if !token.is_empty() => Body::Param(name, ParamValue::Token(token)),
        _ => Body::Other,
    }
}

/// Whether the text between two quotes is one quoted string: no bare quote, no control character
/// but the tab, and no backslash at the end.
fn is_quoted_text(text: &[u8]) -> bool {
    let mut bytes = read(text);
    while let Some(byte) = bytes.next() {
        let fine = match byte {
            b'"' => false,
            b'\\' => bytes.next().is_some_and(is_text),
            byte => is_text(byte),
        };
        if !fine {
            return false;
        }
    }
    true
}

fn is_text(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Splits the token off the front (RFC 9110 section 5.6.2).
fn split_token(bytes: &[u8]) -> (&str, &[u8]) {
    let len = read(bytes).take_while(|b| is_token_byte(**b)).count();
    let (token, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
    (std::str::from_utf8(token).unwrap_or_default(), rest)
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The bytes as a token68 (RFC 9110 section 11.2), if they are one.
fn token68(bytes: &[u8]) -> Option<&str> {
    let padding = read(bytes).rev().take_while(|b| **b == b'=').count();
    let (digits, _) = bytes.split_at_checked(bytes.len() - padding)?;
    // No early exit: a fold without branches is what the compiler turns into wide instructions.
    let legal = read(digits).fold(true, |legal, b| legal & is_token68_byte(*b));
    if digits.is_empty() || !legal {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

fn is_token68_byte(byte: u8) -> bool {
    ((byte | 0x20).wrapping_sub(b'a') < 26)
        // From `-` to `9`: - . / and the digits.
        | (byte.wrapping_sub(b'-') < 13)
        | (byte == b'+')
        | (byte == b'_')
        | (byte == b'~')
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let len = read(bytes).take_while(|b| is_space(b)).count();
    bytes.get(len..).unwrap_or_default()
}

fn trim(bytes: &[u8]) -> &[u8] {
    let bytes = trim_start(bytes);
    let len = read(bytes).rev().take_while(|b| is_space(b)).count();
    bytes.get(..bytes.len() - len).unwrap_or_default()
}

/// All passes over the bytes of a header go through here, so that a test can bound the work by a
/// number of bytes and not by a clock.
#[cfg(not(test))]
fn read(bytes: &[u8]) -> std::slice::Iter<'_, u8> {
    bytes.iter()
}

#[cfg(test)]
fn read(bytes: &[u8]) -> impl DoubleEndedIterator<Item = &u8> + ExactSizeIterator {
    bytes.iter().inspect(|_| tests::BYTES_READ.set(tests::BYTES_READ.get() + 1))
}

#[cfg(test)]
mod tests;
