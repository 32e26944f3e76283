//! Keys of routes, `METHOD /pattern`, and the requests that they match.

use http::Method;

use crate::upstream::{is_plain_path, path_readings, usual_path};

/// `POST /v1/generate`, or `/v1/generate` for any method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) method: Option<Method>,
    /// As it was written: `/v1/items/:id`.
    pub(super) pattern: String,
    segments: Vec<Segment>,
    /// The same in its [usual spelling](usual_path).
    usual: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// One segment that is not empty.
    Param(String),
    /// Whatever follows, slashes included; only at the end.
    Rest,
}

/// What the parameters of a pattern stand for in one request, as they are written in its path.
pub(super) type Params = Vec<(String, String)>;

impl Key {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (method, pattern) = match text.split_once(' ') {
            Some((method, pattern)) => (Some(method_of(method)?), pattern),
            None => (None, text),
        };
        let Some(path) = pattern.strip_prefix('/') else {
            return Err("write \"METHOD /pattern\", or \"/pattern\" for any method, with one space and a slash");
        };
        if !is_plain_path(pattern) {
            return Err("a pattern has no dot segments, backslashes or control characters");
        }
        let mut segments: Vec<Segment> = Vec::new();
        for segment in path.split('/') {
            if segments.last() == Some(&Segment::Rest) {
                return Err("`*` stands at the end only");
            }
            segments.push(Segment::parse(segment)?);
        }
        let names: Vec<_> = segments.iter().filter_map(Segment::name).collect();
        if names.iter().enumerate().any(|(index, name)| names.iter().take(index).any(|other| other == name)) {
            return Err("a parameter has one name, and no other parameter has it");
        }
        let usual = segments.iter().filter_map(Segment::usual).collect();
        Ok(Self { method, pattern: pattern.to_owned(), segments, usual })
    }

    /// What the parameters are, when the path of a request fits.
    pub(super) fn fits(&self, path: &str) -> Option<Params> {
        let mut given = path.strip_prefix('/')?.split('/');
        let mut params = Params::new();
        for segment in &self.segments {
            // What stands for the rest may be empty, and its slash may not be missing: `/v1/*` is not `/v1`.
            let text = given.next()?;
            match segment {
                Segment::Literal(literal) if literal == text => {}
                Segment::Param(name) if is_one_segment(text) => params.push((name.clone(), text.to_owned())),
                Segment::Rest => return Some(params),
                Segment::Literal(_) | Segment::Param(_) => return None,
            }
        }
        given.next().is_none().then_some(params)
    }

    /// Whether a server may take a path for one of this key, by one of the [readings](path_readings) of the path.
    pub(super) fn may_be(&self, reading: &str, any_case: bool) -> bool {
        let mut given = reading.split('/').filter(|segment| !segment.is_empty());
        for segment in &self.usual {
            match (segment, given.next()) {
                (Segment::Rest, _) => return true,
                (Segment::Param(_), Some(_)) => {}
                (Segment::Literal(literal), Some(text)) if literal == text => {}
                (Segment::Literal(literal), Some(text)) if any_case && literal.eq_ignore_ascii_case(text) => {}
                _ => return false,
            }
        }
        given.next().is_none()
    }

    /// Whether this key is `other` in another spelling: then the two were written side by side on purpose.
    pub(super) fn is_spelling_of(&self, other: &Self) -> bool {
        // What `*` stands for may be spelled in any way, and nobody has said how.
        let is_other = |reading: &String| {
            let mut ours = reading.split('/').filter(|segment| !segment.is_empty());
            other.usual.iter().all(|theirs| match (theirs, ours.next()) {
                (Segment::Literal(theirs), Some(ours)) => theirs.eq_ignore_ascii_case(ours),
                (Segment::Param(_), Some(ours)) => ours.starts_with(':'),
                // `/v1` beside `/v1/*`.
                (Segment::Rest, ours) => ours.is_none(),
                (_, None) => false,
            }) && ours.next().is_none()
        };
        !self.segments.contains(&Segment::Rest)
            && path_readings(&self.pattern).is_some_and(|readings| readings.iter().any(is_other))
    }

    pub(super) fn takes(&self, method: &Method) -> bool {
        match &self.method {
            Some(own) => own == method,
            // Neither is a request for a resource: no service hears of them.
            None => *method != Method::CONNECT && *method != Method::TRACE,
        }
    }

    /// Whether every request that fits `other` fits this key too, so that behind it `other` is never reached.
    pub(super) fn covers(&self, other: &Self) -> bool {
        // A request with HEAD is one for the route of its GET.
        let is_head_of = self.method == Some(Method::GET) && other.method == Some(Method::HEAD);
        if self.method.is_some() && self.method != other.method && !is_head_of {
            return false;
        }
        let mut theirs = other.segments.iter();
        for ours in &self.segments {
            match (ours, theirs.next()) {
                (Segment::Rest, Some(_)) => return true,
                (Segment::Param(_), Some(Segment::Param(_))) => {}
                (Segment::Param(_), Some(Segment::Literal(text))) if is_one_segment(text) => {}
                (Segment::Literal(ours), Some(Segment::Literal(theirs))) if ours == theirs => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            return Ok(Self::Rest);
        }
        if let Some(name) = text.strip_prefix(':') {
            let mut letters = name.chars();
            let begins = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
            return match begins && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
                true => Ok(Self::Param(name.to_owned())),
                false => Err("a parameter is a whole segment, `:name`, of letters, digits and `_`"),
            };
        }
        // What URL patterns give a meaning that this does not have must not be taken literally.
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&',;=@%".contains(&byte)) {
            return Err("of URL patterns only `:name` for a whole segment and `*` for the last one are known");
        }
        Ok(Self::Literal(text.to_owned()))
    }

    /// As it stands in the [usual spelling](usual_path) of a path; nothing when it is empty.
    fn usual(&self) -> Option<Self> {
        let Self::Literal(text) = self else { return Some(self.clone()) };
        let usual = usual_path(text)?;
        usual.strip_prefix('/').filter(|usual| !usual.is_empty()).map(|usual| Self::Literal(usual.to_owned()))
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Param(name) => Some(name),
            Self::Literal(_) | Self::Rest => None,
        }
    }
}

fn method_of(text: &str) -> Result<Method, &'static str> {
    let method = Method::from_bytes(text.as_bytes()).ok().filter(|_| text.bytes().all(|b| b.is_ascii_uppercase()));
    match method {
        Some(Method::CONNECT | Method::TRACE) => Err("CONNECT and TRACE are not forwarded"),
        Some(method) => Ok(method),
        None => Err("a method has capital letters only"),
    }
}

/// Some servers read an encoded slash as a slash: then it would be two segments, of another resource.
fn is_one_segment(text: &str) -> bool {
    !text.is_empty() && !text.to_ascii_lowercase().contains("%2f")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"))
    }

    #[test]
    fn a_parameter_is_one_segment_that_is_not_empty() {
        let items = key("GET /v1/items/:id");
        assert_eq!(items.fits("/v1/items/42"), Some(vec![("id".into(), "42".into())]));
        assert_eq!(items.fits("/v1/items/a%20b").unwrap()[0].1, "a%20b");
        for other in ["/v1/items", "/v1/items/", "/v1/items/1/2", "/v1/items/1/", "//items/1", "/v1/items/a%2Fb", "v1"]
        {
            assert_eq!(items.fits(other), None, "{other}");
        }
    }

    #[test]
    fn the_rest_may_be_anything_behind_its_slash() {
        let all = key("/v1/*");
        for path in ["/v1/", "/v1/a", "/v1/a/b%2fc"] {
            assert!(all.fits(path).is_some(), "{path}");
        }
        for path in ["/v1", "/", "/v2/a"] {
            assert_eq!(all.fits(path), None, "{path}");
        }
        assert!(key("/*").fits("/").is_some());
        assert!(all.takes(&Method::DELETE) && !all.takes(&Method::CONNECT) && !all.takes(&Method::TRACE));
    }

    #[test]
    fn a_key_that_could_be_read_in_two_ways_is_refused() {
        for bad in [
            "",
            "GET",
            "GET v1",
            "get /v1",
            "GET  /v1",
            "GET /v1 /v2",
            " GET /v1",
            "GET /v1 ",
            "G3T /v1",
            "CONNECT /v1",
            "TRACE /v1",
            "/v1/../v2",
            "/v1/%2e%2E",
            "/v1\\x",
            "/v1/%zz",
            "/v1/*/x",
            "/v1/**",
            "/v1/a*",
            "/:",
            "/:1a",
            "/x:id",
            "/:id.json",
            "/:id?",
            "/:id+",
            "/{id}",
            "/(a|b)",
            "/v1?x=1",
            "/v1#x",
            "/:id/:id",
            "/\u{e9}",
        ] {
            assert!(Key::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_comes_behind_a_wider_key_is_never_reached() {
        for (earlier, later) in [
            ("GET /a", "GET /a"),
            ("/a", "POST /a"),
            ("GET /:x", "GET /:y"),
            ("GET /:x", "GET /a"),
            ("/*", "GET /"),
            ("GET /v1/*", "GET /v1/a/:id"),
            ("GET /v1/*", "GET /v1/*"),
            ("GET /v1/*", "HEAD /v1/a"),
        ] {
            assert!(key(earlier).covers(&key(later)), "{earlier} and {later}");
        }
        for (earlier, later) in [
            ("GET /a", "POST /a"),
            ("HEAD /a", "GET /a"),
            ("GET /a", "/a"),
            ("GET /a", "GET /:x"),
            ("GET /:x", "GET /*"),
            ("GET /:x", "GET /a%2fb"),
            ("GET /v1/*", "GET /v1"),
            ("GET /a/b", "GET /a"),
        ] {
            assert!(!key(earlier).covers(&key(later)), "{earlier} and {later}");
        }
    }
}
