//! The one tokenizer for lists of challenges and of credentials (RFC 9110 section 11), on the side
//! of `Authorization` and on the side of `WWW-Authenticate`.
//!
//! A list is cut at the commas outside quoted strings, each element is read once, and nothing is
//! copied. What other schemes put between their commas is not ours to judge: an element that has no
//! legal form only matters when it belongs to the Payment scheme.

use std::borrow::Cow;

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
    /// A Payment credential that is not one token68 (RFC 9110 section 11.2), or a list that ends
    /// inside a quoted string.
    #[error("the Payment credential is malformed")]
    Malformed,
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
    let mut room = MAX_HEADER_BYTES;
    let mut token = None;
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
                            _ => malformed = true,
                        }
                    }
                }
                None => malformed |= in_payment,
            }
        }
    }
    if count > 1 {
        Err(AuthorizationError::Multiple)
    } else if malformed {
        Err(AuthorizationError::Malformed)
    } else {
        Ok(token)
    }
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
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        pub(super) static BYTES_READ: Cell<usize> = const { Cell::new(0) };
    }

    fn lines(texts: &[&str]) -> Vec<HeaderValue> {
        texts.iter().map(|text| HeaderValue::from_bytes(text.as_bytes()).unwrap()).collect()
    }

    fn find(texts: &[&str]) -> Result<Option<String>, AuthorizationError> {
        payment_credential(&lines(texts)).map(|token| token.map(str::to_owned))
    }

    fn remove(texts: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in lines(texts) {
            headers.append(AUTHORIZATION, value);
        }
        remove_payment_credentials(&mut headers);
        headers
            .get_all(AUTHORIZATION)
            .iter()
            .map(|value| {
                assert!(value.is_sensitive(), "{value:?}");
                String::from_utf8(value.as_bytes().to_vec()).unwrap()
            })
            .collect()
    }

    #[test]
    fn a_credential_is_found_wherever_it_stands() {
        for (texts, token) in [
            (&["Payment abc"][..], "abc"),
            (&["payment abc=="], "abc=="),
            (&["pAyMeNt\tabc"], "abc"),
            (&["Payment   abc  "], "abc"),
            (&[",,Payment abc,"], "abc"),
            (&["Payment a-b._~+/9="], "a-b._~+/9="),
            (&["Bearer t0ken, Payment abc"], "abc"),
            (&["Payment abc, Bearer t0ken"], "abc"),
            (&["Bearer t0ken", "Payment abc"], "abc"),
            (&["Payment abc", "Bearer t0ken"], "abc"),
            (&["", "Payment abc"], "abc"),
            (&["Digest username=\"a, Payment b\", Payment abc"], "abc"),
            (&["Digest a=\"\\\", Payment x, \\\"\",Payment abc"], "abc"),
            (&["AWS4-HMAC-SHA256 Credential=A/b/s3, SignedHeaders=host;date, Signature=f, Payment abc"], "abc"),
        ] {
            assert_eq!(find(texts), Ok(Some(token.to_owned())), "{texts:?}");
        }
    }

    #[test]
    fn other_schemes_are_no_payment() {
        for texts in [
            &[][..],
            &[""],
            &[" , ,"],
            &["Bearer abc"],
            &["Basic dXNlcjpwYXNz"],
            &["Bearer a,b,c"],
            &["PaymentX abc"],
            &["xPayment abc"],
            &["Digest username=\"a, Payment b\""],
            &["Digest username=\"a\\\", Payment b\""],
            &["Bearer Payment"],
            &["Digest payment=abc"],
            &["Payment =="],
            &["Digest a=b, payment = \"abc\""],
            &["Digest a=\"never closed"],
            &["AWS4-HMAC-SHA256 Credential=A/b/s3/aws4_request, SignedHeaders=host;date, Signature=f"],
            &["caf\u{e9} \u{e9}"],
        ] {
            assert_eq!(find(texts), Ok(None), "{texts:?}");
        }
    }

    #[test]
    fn a_payment_without_a_token68_is_malformed_and_not_absent() {
        for texts in [
            &["Payment"][..],
            &["Payment "],
            &["payment,"],
            &["Bearer abc, Payment"],
            &["Payment !"],
            &["Payment a b"],
            &["Payment a|b"],
            &["Payment a=b"],
            &["Payment \"abc\""],
            &["Payment caf\u{e9}"],
            &["Payment id=\"x\", credential=\"abc\""],
            &["Payment abc, id=\"x\""],
            &["Payment abc", "id=\"x\""],
            &["Payment abc, \"never closed"],
            &["Bearer \"never closed, Payment abc"],
            &["Digest a=\"never closed, Payment abc", "Payment abc"],
        ] {
            assert_eq!(find(texts), Err(AuthorizationError::Malformed), "{texts:?}");
        }
    }

    #[test]
    fn two_credentials_are_refused_and_none_is_chosen() {
        for texts in [
            &["Payment abc, Payment abc"][..],
            &["Payment abc", "payment def"],
            &["Payment abc, Bearer x", "Bearer y, PAYMENT def"],
            &["Payment , Payment abc"],
            &["Payment, Payment"],
        ] {
            assert_eq!(find(texts), Err(AuthorizationError::Multiple), "{texts:?}");
        }
    }

    #[test]
    fn the_size_is_capped_over_all_lines() {
        let half = format!("Bearer {}", "a".repeat(MAX_HEADER_BYTES / 2 - 7));
        assert_eq!(find(&[&half, &half]), Ok(None));
        assert_eq!(find(&[&half, &half, "x"]), Err(AuthorizationError::TooLarge));
        let large = format!("Payment {}", "a".repeat(MAX_HEADER_BYTES - 7));
        assert_eq!(find(&[&large]), Err(AuthorizationError::TooLarge));
    }

    #[test]
    fn latin_1_is_a_typed_error_and_no_panic() {
        let value = HeaderValue::from_bytes(b"Payment caf\xe9").unwrap();
        assert_eq!(payment_credential([&value]), Err(AuthorizationError::Malformed));
        let value = HeaderValue::from_bytes(b"Basic \xe9, Payment abc").unwrap();
        assert_eq!(payment_credential([&value]), Ok(Some("abc")));
    }

    #[test]
    fn only_payment_credentials_are_removed() {
        for (before, after) in [
            (&["Payment abc"][..], &[][..]),
            (&["Payment"], &[]),
            (&["Payment abc", "payment def"], &[]),
            (&["Bearer abc"], &["Bearer abc"]),
            (&["Bearer t0ken, Payment abc"], &["Bearer t0ken"]),
            (&["Payment abc, Bearer t0ken"], &["Bearer t0ken"]),
            (&["Bearer t0ken", "Payment abc"], &["Bearer t0ken"]),
            (&["Payment id=\"a, Digest b\", credential=\"c\", Bearer t0ken"], &["Bearer t0ken"]),
            (&["Payment abc", "id=\"x\", Basic Zm9v"], &["Basic Zm9v"]),
            (
                &["Digest  username=\"a, Payment b\" ,\trealm = \"\\\"\", Payment abc"],
                &["Digest  username=\"a, Payment b\", realm = \"\\\"\""],
            ),
            (&["Digest username=\"a, Payment b\" ,realm=x"], &["Digest username=\"a, Payment b\" ,realm=x"]),
            (&["Bearer \"never closed, Payment abc"], &[]),
            (&["Bearer \"never closed"], &["Bearer \"never closed"]),
        ] {
            assert_eq!(remove(before), after, "{before:?}");
        }
    }

    #[test]
    fn nothing_to_remove_changes_nothing() {
        let mut headers = HeaderMap::new();
        remove_payment_credentials(&mut headers);
        assert_eq!((headers.len(), headers.capacity()), (0, 0));
    }

    #[test]
    fn unicode_escapes_are_utf_16() {
        for (quoted, text) in [
            (r"plain", "plain"),
            (r"\u2014 \u00E9", "\u{2014} \u{e9}"),
            (r"\ud83d\ude00!", "\u{1f600}!"),
            (r"\ud83d here", "\u{fffd} here"),
            (r"\ude00 here", "\u{fffd} here"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (r"\\u2014", r"\u2014"),
            (r"\u12 tail", "u12 tail"),
            (r"\u+123", "u+123"),
            (r"\uZZZZ", "uZZZZ"),
            ("\\\u{e9}", "\u{e9}"),
            (r#"\"a\,b\c\\"#, r#""a,bc\"#),
            (r"api\u0061", "apia"),
        ] {
            assert_eq!(ParamValue::Quoted(quoted.as_bytes()).decode(), text, "{quoted}");
        }
        assert_eq!(ParamValue::Quoted(b"caf\xe9 \\u2014").decode(), "caf\u{e9} \u{2014}");
    }

    #[test]
    fn what_is_written_is_one_ascii_line() {
        let mut out = String::new();
        push_quoted(&mut out, "a", "x\"y\\z\t\r\n\0\u{7f}\u{e9}\u{1f600}");
        assert_eq!(out, r#"a="x\"y\\z	\u000d\u000a\u0000\u007f\u00e9\ud83d\ude00""#);
    }

    /// Every byte is looked at a bounded number of times, whatever the header says.
    #[test]
    fn the_work_is_linear() {
        let unit = ["\"", ",", " ", "=", "\\", "\\\"", "a", "a ", "a=", "a,", ", \"", "\",", "Payment ", "Payment,"];
        for (first, second) in unit.iter().flat_map(|a| unit.iter().map(move |b| (a, b))) {
            let line = format!("{first}{second}").repeat(MAX_HEADER_BYTES / (first.len() + second.len()));
            let value = HeaderValue::from_str(&line).unwrap();
            BYTES_READ.set(0);
            let _ = payment_credential([&value]);
            let read = BYTES_READ.get();
            assert!(read <= 8 * line.len(), "{first:?} {second:?}: {read} bytes read");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let mut out = String::new();
            push_quoted(&mut out, "name", &text);
            let all: Vec<_> = elements(out.as_bytes()).collect();
            prop_assert_eq!(all.len(), 1);
            let Ok(Element { scheme: None, body: Body::Param("name", value), .. }) = all[0] else {
                return Err(TestCaseError::fail(format!("{all:?}")));
            };
            prop_assert_eq!(value.decode(), text);
        }

        #[test]
        fn any_bytes_are_read(bytes in any::<Vec<u8>>()) {
            for element in elements(&bytes).flatten() {
                if let Body::Param(_, value) = element.body {
                    value.decode();
                }
            }
            let steps = elements(&bytes).count();
            prop_assert!(steps <= bytes.len());
        }
    }
}
