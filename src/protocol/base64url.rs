//! Base64url as peers write it. We emit RFC 4648 section 5 without padding and read a little more.

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, general_purpose::NO_PAD, general_purpose::URL_SAFE_NO_PAD},
};

const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, NO_PAD);

/// Decodes base64url. Padding of any length is allowed, and so is the standard alphabet, since
/// deployed clients use both; the two alphabets mixed are not, and neither are stray bits.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    URL_SAFE_NO_PAD.decode(digits).or_else(|_| STANDARD.decode(digits)).ok()
}

/// Whether a text is not empty and has only characters of base64url or base64, with padding at the
/// end at most. It may still not decode.
pub(super) fn is_plausible(text: &str) -> bool {
    let digits = text.trim_end_matches('=').as_bytes();
    !digits.is_empty() && digits.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_and_the_standard_alphabet_are_read() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("e30", b"{}"),
            ("e30=", b"{}"),
            ("e30==", b"{}"),
            ("-_8", b"\xfb\xff"),
            ("+/8=", b"\xfb\xff"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(bytes), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_read() {
        for text in ["e3 0", "e3\n0", "e", "=e30", "e=30", "-/8", "e31", "caf\u{e9}"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
