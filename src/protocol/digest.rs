//! Content digests (RFC 9530), which bind a challenge to the body of a request (core draft section
//! 5.1.4).

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
