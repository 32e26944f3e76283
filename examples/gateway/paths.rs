//! Targets that mean one thing here and another behind us.

use std::collections::BTreeMap;

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, Uri, uri::PathAndQuery};
use matchit::Router;
use tower_mpp::upstream::{is_plain_path, path_readings, usual_path};

use super::{problem::Problem, routes::Pricing, settings::Settings};

/// Refuses what an upstream might read as another path than the one that was priced. Forgets the scheme
/// and the host that a client may write into the target: `GET https://.. HTTP/1.1` over plain HTTP is
/// not HTTPS.
pub(super) async fn refuse_ambiguous(mut request: Request, next: Next) -> Response {
    if !is_plain_path(request.uri().path()) {
        return Problem::new(StatusCode::BAD_REQUEST, "The path has dot segments, backslashes or control characters.")
            .into_response();
    }
    if request.uri().scheme().is_some() {
        let target = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(target);
    }
    next.run(request).await
}

/// The patterns of `[[routes]]` and `[[api.routes]]`, which have one upstream, as that may read them. A pattern that
/// takes everything must be no way around the price of another: `/v1/%6dessages` past `/v1/messages`.
pub(super) struct Spellings {
    patterns: Vec<Pattern>,
    /// Places in `patterns`: as the paths are written.
    written: Router<usize>,
    /// In their usual spelling.
    usual: Router<Vec<usize>>,
    /// The same in small letters.
    small: Router<Vec<usize>>,
}

struct Pattern {
    /// `/items/:` of `/items/{id}` and of `/items/{id}/{*rest}`.
    fixed: String,
    takes_rest: bool,
    /// Not everybody gets it for nothing.
    has_price: bool,
}

impl Spellings {
    /// Nothing where no route has a price, or none stands beside it.
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        let mut priced = BTreeMap::<&str, bool>::new();
        let own = settings.routes.iter().map(|route| (&*route.path, !matches!(route.pricing, Pricing::Free)));
        let keyed = settings.api.iter().flat_map(|keyed| &keyed.routes).map(|route| (&*route.path, true));
        for (path, has_price) in own.chain(keyed) {
            *priced.entry(path).or_default() |= has_price;
        }
        if priced.len() < 2 || priced.values().all(|has_price| !has_price) {
            return None;
        }
        let mut written = Router::new();
        for (place, path) in priced.keys().enumerate() {
            // They have been found to go together before.
            let _ = written.insert(*path, place);
        }
        let patterns: Vec<_> = priced.into_iter().map(|(path, has_price)| Pattern::new(path, has_price)).collect();
        let usual = by_reading(&patterns, str::to_owned);
        let small = by_reading(&patterns, str::to_ascii_lowercase);
        Some(Self { patterns, written, usual, small })
    }

    /// Whether a path that has matched one pattern can be read as one of another that has a price.
    fn is_priced_otherwise(&self, path: &str) -> bool {
        let Ok(found) = self.written.at(path) else { return false };
        let found = *found.value;
        let Some(readings) = path_readings(path) else { return true };
        readings.iter().any(|reading| {
            let small = reading.to_ascii_lowercase();
            let read = [self.usual.at(reading), self.small.at(&small)];
            read.into_iter().flatten().flat_map(|read| read.value).any(|other| self.is_another(found, *other))
        })
    }

    fn is_another(&self, found: usize, other: usize) -> bool {
        let (Some(ours), Some(theirs)) = (self.patterns.get(found), self.patterns.get(other)) else { return true };
        found != other && theirs.has_price && !ours.is_spelling_of(theirs)
    }
}

impl Pattern {
    fn new(path: &str, has_price: bool) -> Self {
        let mut fixed = String::new();
        let mut takes_rest = false;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            if segment.starts_with("{*") {
                takes_rest = true;
            } else if segment.contains('{') {
                fixed.push_str("/:");
            } else {
                fixed.push_str(&usual_path(&format!("/{segment}")).unwrap_or_else(|| format!("/{segment}")));
            }
        }
        Self { fixed, takes_rest, has_price }
    }

    /// Whether both were written side by side on purpose: `/items/{id}/` beside `/items/{id}`.
    fn is_spelling_of(&self, other: &Self) -> bool {
        let is_other = |reading: &String| reading.trim_end_matches('/').eq_ignore_ascii_case(&other.fixed);
        !self.takes_rest && path_readings(&self.fixed).is_some_and(|readings| readings.iter().any(is_other))
    }

    /// What finds it: `/items` finds `/items/{*rest}` too.
    fn found_by(&self) -> impl Iterator<Item = String> {
        let named = |(index, segment): (usize, &str)| match segment {
            ":" => format!("{{p{index}}}"),
            literal => literal.to_owned(),
        };
        let fixed = self.fixed.split('/').enumerate().map(named).collect::<Vec<_>>().join("/");
        let rest = self.takes_rest.then(|| format!("{fixed}/{{*rest}}"));
        [if fixed.is_empty() { "/".to_owned() } else { fixed }].into_iter().chain(rest)
    }
}

fn by_reading(patterns: &[Pattern], spelled: impl Fn(&str) -> String) -> Router<Vec<usize>> {
    let mut places = BTreeMap::<String, Vec<usize>>::new();
    for (place, pattern) in patterns.iter().enumerate() {
        for text in pattern.found_by() {
            places.entry(spelled(&text)).or_default().push(place);
        }
    }
    let mut router = Router::new();
    for (text, places) in places {
        // Its parameters are called by their places, so that no two texts are in each other's way.
        let _ = router.insert(text, places);
    }
    router
}

/// Does not find what is spelled in another way than what has a price.
pub(super) async fn refuse_respelled(spellings: &Spellings, request: Request, next: Next) -> Response {
    if spellings.is_priced_otherwise(request.uri().path()) {
        const DETAIL: &str = "There is no such resource. One with a price is found by the plain spelling of its path.";
        return Problem::new(StatusCode::NOT_FOUND, DETAIL).into_response();
    }
    next.run(request).await
}
