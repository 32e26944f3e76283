//! Paths that mean one thing to us and another to an upstream.

/// Whether a path reads the same to everybody: no segment is `.` or `..`, in whatever spelling, and nothing in it is a
/// backslash, a control character or broken percent-encoding.
///
/// What was priced and what is asked for must be the same resource, so [`HttpUpstream`](super::HttpUpstream) refuses
/// other paths; refuse them before anything is paid.
///
/// ```
/// use tower_mpp::upstream::is_plain_path;
///
/// assert!(is_plain_path("/v1/messages"));
/// assert!(!is_plain_path("/free/%2e%2e/paid"));
/// ```
pub fn is_plain_path(path: &str) -> bool {
    let Some(mut decoded) = decode(path.as_bytes()) else { return false };
    // A server behind a proxy of its own may decode more than once.
    for _ in 0..3 {
        if !has_plain_segments(&decoded) {
            return false;
        }
        let again = decode_leniently(&decoded);
        if again == decoded {
            break;
        }
        decoded = again;
    }
    true
}

fn has_plain_segments(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').all(|segment| {
        // Some servers cut a segment at a semicolon: `/..;/`.
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        name != b"." && name != b".." && !segment.iter().any(|byte| *byte == b'\\' || byte.is_ascii_control())
    })
}

/// Undoes percent-encoding, once; `None` when it is broken.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (decoded, is_whole) = decode_what_can_be(text);
    is_whole.then_some(decoded)
}

/// The same for a text that has been decoded before, and may have a percent sign of its own: some servers leave that
/// alone and decode the rest.
pub(super) fn decode_leniently(text: &[u8]) -> Vec<u8> {
    decode_what_can_be(text).0
}

fn decode_what_can_be(text: &[u8]) -> (Vec<u8>, bool) {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut decoded, mut is_whole) = (Vec::with_capacity(text.len()), true);
    let mut rest = text;
    while let [byte, behind @ ..] = rest {
        let escaped = match behind {
            [high, low, ..] if *byte == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        is_whole &= *byte != b'%' || escaped.is_some();
        decoded.push(escaped.map_or(*byte, |(high, low)| high * 16 + low));
        rest = if escaped.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    (decoded, is_whole)
}

#[cfg(test)]
mod tests {
    use super::is_plain_path;

    #[test]
    fn no_spelling_of_a_dot_segment_passes() {
        for bad in [
            "/..",
            "/a/../b",
            "/./a",
            "/a/.",
            "/%2e%2e/a",
            "/%2E./a",
            "/.%2e",
            "/a\\b",
            "/a%5cb",
            "/a%5C..%5Cb",
            "/a%2f..%2fb",
            "/..;/a",
            "/..;x=1/a",
            "/a%00b",
            "/a%0d%0ab",
            "/%zz",
            "/%2",
            "/%",
            "/%252e%252e/a",
            "/%25252e./a",
            "/a%255cb",
            "/%252e%252e/100%25",
            "/100%25/%25252e%25252e",
        ] {
            assert!(!is_plain_path(bad), "{bad}");
        }
        for good in
            ["/", "/v1/messages", "/a.b/..c/...", "/a%2fb", "/a%20b;v=1", "//a", "", "/%E2%82%AC", "/a:b@c", "/100%25"]
        {
            assert!(is_plain_path(good), "{good}");
        }
    }
}
