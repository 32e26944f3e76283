//! Other spellings of a path, and what servers make of them.

use super::path::{decode, decode_leniently};

/// More than any path has that somebody has written by accident.
const MOST: usize = 64;

/// A slash that is part of a segment, `%2F`. Paths have no control characters.
const INNER_SLASH: u8 = 0;

/// What a server does to a path before it looks for its route.
type Change = fn(&[u8]) -> Vec<u8>;

/// A path in its usual spelling: nothing percent-encoded that need not be, no empty segments, no slash at the end.
/// `None` when its percent-encoding is broken.
///
/// ```
/// use tower_mpp::upstream::usual_path;
///
/// assert_eq!(usual_path("/v1//%67enerate/").as_deref(), Some("/v1/generate"));
/// assert_eq!(usual_path("/v1/a%2fb%20").as_deref(), Some("/v1/a%2Fb%20"));
/// ```
pub fn usual_path(path: &str) -> Option<String> {
    decode_segments(path.as_bytes(), decode).map(|decoded| written(&tidy(&decoded)))
}

/// Every path, in its [usual spelling](usual_path), for which some server may take this one; the first is the path
/// itself. `None` when there are too many of them, or one has dot segments: nobody should be asked for such a path.
///
/// Routes tell prices by paths as they are written, and the server behind has a reading of its own. Servers undo
/// percent-encoding, some of them twice, and some that of slashes too; they pass over empty segments, a slash at the
/// end, what follows a semicolon in a segment, spaces around one, an ending such as `.json`, and an encoded question
/// mark ends the path for some. Where one of these readings has a price of its own, a request that has matched
/// another route must not pass. Some servers do not tell capital letters from small ones: compare in both ways.
///
/// ```
/// use tower_mpp::upstream::path_readings;
///
/// assert_eq!(path_readings("/v1/generate"), Some(vec!["/v1/generate".to_owned()]));
/// assert!(path_readings("/v1/%2567enerate;v=2/").unwrap().contains(&"/v1/generate".to_owned()));
/// ```
pub fn path_readings(path: &str) -> Option<Vec<String>> {
    // Most paths are of this kind, and every request asks.
    if has_one_reading(path) { Some(vec![path.to_owned()]) } else { all_readings(path) }
}

/// Whether nothing in a path can be taken for anything else.
fn has_one_reading(path: &str) -> bool {
    let plain = |segment: &str| {
        !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_~:@".contains(&byte))
    };
    path.strip_prefix('/').is_some_and(|segments| segments.split('/').all(plain))
}

fn all_readings(path: &str) -> Option<Vec<String>> {
    // An ending may show only behind the rest, and be there no more when an encoded slash before it is undone.
    const CHANGES: [Change; 6] = [
        without_ending,
        without_inner_slashes,
        without_encoded_query,
        without_semicolons,
        without_spaces,
        without_ending,
    ];
    let mut decoded = decode_segments(path.as_bytes(), decode)?;
    let mut readings = vec![tidy(&decoded)];
    // As often as is looked for dot segments.
    for _ in 0..3 {
        let again = decode_segments(&decoded, |segment| Some(decode_leniently(segment)))?;
        if again == decoded {
            break;
        }
        readings.push(tidy(&again));
        decoded = again;
    }
    for change in CHANGES {
        let changed: Vec<_> = readings.iter().map(|reading| tidy(&change(reading))).collect();
        for reading in changed {
            if !readings.contains(&reading) {
                readings.push(reading);
            }
        }
        if readings.len() > MOST {
            return None;
        }
    }
    let has_dots = |reading: &Vec<u8>| reading.split(|byte| *byte == b'/').any(|name| name == b"." || name == b"..");
    if readings.iter().any(has_dots) {
        return None;
    }
    Some(readings.iter().map(|reading| written(reading)).collect())
}

/// Undoes percent-encoding, once, without making more segments.
fn decode_segments(path: &[u8], decode: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(path.len());
    for (index, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if index > 0 {
            decoded.push(b'/');
        }
        let marks = |text: &[u8]| text.iter().filter(|byte| **byte == INNER_SLASH).count();
        // A `%00` is none.
        let text = decode(segment).filter(|text| marks(text) == marks(segment))?;
        decoded.extend(text.into_iter().map(|byte| if byte == b'/' { INNER_SLASH } else { byte }));
    }
    Some(decoded)
}

/// Changes every segment, and leaves out those that are empty then.
fn each(path: &[u8], change: impl Fn(&[u8]) -> &[u8]) -> Vec<u8> {
    let mut changed = Vec::with_capacity(path.len());
    for segment in path.split(|byte| *byte == b'/').map(change).filter(|segment| !segment.is_empty()) {
        changed.push(b'/');
        changed.extend_from_slice(segment);
    }
    if changed.is_empty() {
        changed.push(b'/');
    }
    changed
}

fn tidy(path: &[u8]) -> Vec<u8> {
    each(path, |segment| segment)
}

fn without_inner_slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == INNER_SLASH { b'/' } else { *byte }).collect()
}

fn without_encoded_query(path: &[u8]) -> Vec<u8> {
    path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default().to_vec()
}

fn without_semicolons(path: &[u8]) -> Vec<u8> {
    each(path, |segment| segment.split(|byte| *byte == b';').next().unwrap_or_default())
}

fn without_spaces(path: &[u8]) -> Vec<u8> {
    each(path, <[u8]>::trim_ascii)
}

/// `/v1/items.json`, `/v1/items/.json` and `/v1/items.` without the ending; dots alone have none.
fn without_ending(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|byte| matches!(byte, b'.' | b'/')).unwrap_or_default();
    let (stem, ending) = path.split_at(end);
    let name = stem.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let is_whole = name.is_empty() && ending.len() > 1;
    let has_ending = ending.starts_with(b".") && (is_whole || name.iter().any(|byte| *byte != b'.'));
    if has_ending { stem.to_vec() } else { path.to_vec() }
}

/// With percent-encoding where it cannot be done without (RFC 3986, `pchar`).
fn written(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let byte = if *byte == INNER_SLASH { b'/' } else { *byte };
            text.push('%');
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
            }
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reads(path: &str, other: &str) -> bool {
        path_readings(path).unwrap().iter().any(|reading| reading == other)
    }

    #[test]
    fn what_a_server_may_read_is_found() {
        for path in [
            "/v1/generate",
            "/v1/%67enerate",
            "/v1/%2567enerate",
            "/v1/%252567enerate",
            "/v1/%2567enerate/%3F%2525",
            "/v1/generate/",
            "/v1/generate//",
            "//v1/generate",
            "/v1//generate",
            "/v1%2fgenerate",
            "/v1%252Fgenerate",
            "/v1%2F%252Fgenerate",
            "/v1/generate%2F",
            "/v1/generate;x",
            "/v1;a=b/generate%3bx",
            "/v1/generate%3Fx=1",
            "/v1/generate%23",
            "/v1/%20generate%20",
            "/v1/generate.json",
            "/v1/generate.",
            "/v1/generate/.json",
            "/v1//%67enerate;v=1.json%2f",
        ] {
            assert!(reads(path, "/v1/generate"), "{path}: {:?}", path_readings(path));
        }
    }

    #[test]
    fn a_plain_path_has_one_reading() {
        for path in ["/", "/v1/chat/completions", "/v1/a%20b", "/v1/%E2%82%AC", "/a:b@c+d", "/..."] {
            assert_eq!(path_readings(path).unwrap(), [path], "{path}");
        }
        assert!(reads("/v1/items/a%2fb", "/v1/items/a%2Fb") && reads("/v1/items/a%2fb", "/v1/items/a/b"));
    }

    #[test]
    fn dot_segments_behind_a_spelling_are_no_reading() {
        for path in ["/a/..%20", "/a/%20../b", "/a/..%3Fx", "/a/.%20;x/b", "/%zz", "/a%00b", "/a%2500b/"] {
            assert_eq!(path_readings(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_finds_what_the_long_one_does(path in "/?[a-z0-9A-Z_~:@./;%? -]{0,12}(/[a-z0-9:-]{1,4}){0,3}/?") {
            prop_assert_eq!(path_readings(&path), all_readings(&path));
        }
    }

    #[test]
    fn no_path_has_many_readings() {
        let worst = "/%25252561%2525252Fb%3Fc%3Bd%20/%2520%252Fe;%2525.a%25202F%25%33F.b";
        assert!(path_readings(worst).is_none_or(|readings| readings.len() <= MOST));
    }
}
