//! Content digests (RFC 9530), which bind a challenge to the body of a request (core draft section
//! 5.1.3).

use std::{fmt, str::FromStr};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use sha2::{Digest as _, Sha256};

/// Structured fields may leave the padding of a byte sequence out (RFC 8941 section 4.2.7).
const UNPADDED: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The SHA-256 of a body, on the wire `sha-256=:<base64>:`.
///
/// A digest is no secret: it is compared like any other text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentDigest([u8; 32]);

/// The text is not a SHA-256 content digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a content digest of the form sha-256=:<base64>:")]
pub struct InvalidDigest;

impl ContentDigest {
    /// Length of the text form.
    pub const TEXT_LEN: usize = 54;

    /// The digest of a body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// The digest of a body that lies in several pieces.
    pub fn of_chunks<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Self {
        let mut digester = Digester::new();
        chunks.into_iter().for_each(|chunk| digester.update(chunk));
        digester.finish()
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Writes the text form into a buffer on the stack.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; 54]) -> &'b str {
        *buffer = *b"sha-256=:                                            :";
        if let Some(base64) = buffer.get_mut(9..53) {
            // 32 bytes are 44 characters, so this cannot fail.
            let _ = STANDARD.encode_slice(self.0, base64);
        }
        std::str::from_utf8(buffer).unwrap_or_default()
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.encode(&mut [0; 54]))
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentDigest {
    type Err = InvalidDigest;

    /// Reads `sha-256=:<base64>:`, and `sha-256=<base64>` as deployed peers write it. Nothing else:
    /// no other algorithm beside it, no parameters, no upper case, no white space.
    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let value = text.strip_prefix("sha-256=").ok_or(InvalidDigest)?;
        let (engine, base64) = match value.strip_prefix(':') {
            Some(value) => (&UNPADDED, value.strip_suffix(':').ok_or(InvalidDigest)?),
            None => (&STANDARD, value),
        };
        let mut bytes = [0; 32];
        match engine.decode_slice(base64, &mut bytes) {
            Ok(32) => Ok(Self(bytes)),
            _ => Err(InvalidDigest),
        }
    }
}

/// Computes the digest of a body while it arrives.
#[derive(Clone, Default)]
pub struct Digester(Sha256);

impl Digester {
    /// A digester that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the body.
    pub fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    /// The digest of everything that was taken.
    pub fn finish(self) -> ContentDigest {
        ContentDigest(self.0.finalize().into())
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester(..)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HELLO: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";

    #[test]
    fn written_as_rfc_9530_has_it() {
        assert_eq!(ContentDigest::of(b"hello").to_string(), HELLO);
        assert_eq!(ContentDigest::of(b"").to_string(), "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
        assert_eq!(HELLO.len(), ContentDigest::TEXT_LEN);
    }

    #[test]
    fn the_form_of_deployed_peers_is_read() {
        for text in [
            HELLO,
            "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ:",
            "sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
        ] {
            assert_eq!(text.parse(), Ok(ContentDigest::of(b"hello")), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_read() {
        for text in [
            "",
            "sha-256=",
            "sha-256=::",
            "sha-256=:",
            "sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ",
            "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
            "sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
            "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ==:",
            "SHA-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
            "sha-512=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
            " sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
            "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=: ",
            "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:;a=1",
            // The last digit carries two bits that are not part of the digest.
            "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCR=:",
            // Another alphabet.
            "sha-256=:LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
            "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmA==:",
        ] {
            assert_eq!(text.parse::<ContentDigest>(), Err(InvalidDigest), "{text}");
        }
    }

    proptest! {
        #[test]
        fn digests_round_trip_and_pieces_do_not_matter(body in any::<Vec<u8>>(), at in any::<prop::sample::Index>()) {
            let digest = ContentDigest::of(&body);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            let (head, tail) = body.split_at(at.index(body.len() + 1));
            prop_assert_eq!(ContentDigest::of_chunks([head, tail]), digest);
        }

        #[test]
        fn any_text_is_read(text in "(sha-256=:?)?[A-Za-z0-9+/=:]{0,60}") {
            if let Ok(digest) = text.parse::<ContentDigest>() {
                prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            }
        }
    }
}
