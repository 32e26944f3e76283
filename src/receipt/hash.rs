//! Hashes as they stand in a receipt.

use crate::protocol::ContentDigest;

/// The hash of a payload as it stands in a receipt: `sha256-` and 64 lower-case hexadecimal digits.
///
/// ```
/// # use tower_mpp::receipt::payload_hash;
/// assert_eq!(payload_hash(b"a"), "sha256-ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
/// ```
pub fn payload_hash(payload: &[u8]) -> String {
    hash_text(&ContentDigest::of(payload))
}

/// The same for a payload that was hashed piece by piece with a [`Digester`](crate::protocol::Digester).
pub fn hash_text(digest: &ContentDigest) -> String {
    let mut text = String::with_capacity(7 + 64);
    text.push_str("sha256-");
    for byte in digest.as_bytes() {
        text.extend([byte >> 4, byte & 15].iter().filter_map(|half| char::from_digit(u32::from(*half), 16)));
    }
    text
}
