//! `METHOD /pattern`: which requests a route is for.

use std::cmp::Ordering;

use super::routes::METHODS;

/// The key of a route, in the order in which routes are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    method: Option<String>,
    pattern: String,
}

impl Key {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (method, pattern) = match text.split_once(' ') {
            Some((method, pattern)) => (Some(method), pattern),
            None => (None, text),
        };
        if let Some(method) = method
            && METHODS.iter().all(|known| known.as_str() != method)
        {
            let names = METHODS.map(|method| method.to_string()).join(", ");
            return Err(format!("{method:?} is not one of {names}; write METHOD /path, or /path for any method"));
        }
        let braces = pattern.contains(['{', '}']);
        if !pattern.starts_with('/') || braces || pattern.contains(char::is_whitespace) {
            return Err("write METHOD /path with one space, and :name for a part that differs".to_owned());
        }
        Ok(Self { method: method.map(str::to_owned), pattern: pattern.to_owned() })
    }

    pub(super) fn text(&self) -> String {
        match &self.method {
            Some(method) => format!("{method} {}", self.pattern),
            None => self.pattern.clone(),
        }
    }

    /// Fixed parts stand before `:name`, and that before `*`; a longer pattern before its beginning, and a method
    /// before any method.
    fn rank(&self) -> impl Iterator<Item = (u8, &str)> {
        let segments = self.pattern.split('/').map(|segment| match segment {
            "*" => (2, ""),
            name if name.starts_with(':') => (1, ""),
            fixed => (0, fixed),
        });
        segments.chain([(3, "")])
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_path = self.rank().cmp(other.rank());
        by_path
            .then_with(|| self.method.is_none().cmp(&other.method.is_none()))
            .then_with(|| (&self.method, &self.pattern).cmp(&(&other.method, &other.pattern)))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn whatever_says_more_of_a_path_comes_first() {
        let expected = [
            "GET /v1/a/:id",
            "POST /v1/a",
            "/v1/a",
            "GET /v1/:any/x",
            "GET /v1/:any",
            "POST /v1/:other",
            "GET /v1/*",
            "/*",
        ];
        let mut keys = expected.map(|text| Key::parse(text).unwrap());
        keys.reverse();
        keys.sort();
        assert_eq!(keys.map(|key| key.text()), expected);
    }

    #[test]
    fn a_key_that_no_request_can_match_is_refused() {
        for bad in ["", "POST", "v1/x", "post /x", "POST  /x", "POST /x y", "OPTIONS /x", "POST /x/{id}", "POST/x"] {
            assert!(Key::parse(bad).is_err(), "{bad:?}");
        }
    }
}
