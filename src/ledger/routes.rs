//! What is served where, and to whom.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_MAX_AGE, ALLOW, AUTHORIZATION, CONTENT_TYPE, VARY,
    },
    request::Parts,
};

use super::{
    Ledger,
    answer::{Answer, NO_STORE, Refusal, open},
    pages,
};
use crate::protocol::ReceiptId;

/// How large a body may be that is sent to the ledger.
const MAX_BODY: usize = 64 * 1024;
/// The same for a receipt that is to be verified: it may have payloads in it.
const MAX_RECEIPT: usize = 1024 * 1024;

/// What a path stands for. An id that cannot be one is `None`: there is no such receipt.
#[derive(Clone, Copy)]
pub(super) enum Route {
    Receipt(Option<ReceiptId>),
    OutcomesOf(Option<ReceiptId>),
    Outcomes,
    Verify,
    Public,
    Leaderboard,
    Keys,
    Page(Option<ReceiptId>),
    List,
}

impl Route {
    /// How large a body may be here.
    pub(super) fn max_body(self) -> usize {
        if matches!(self, Self::Verify) { MAX_RECEIPT } else { MAX_BODY }
    }
}

/// What is left to do for a request.
pub(super) enum Begun {
    /// Nothing.
    Done(Parts, Answer),
    /// To answer it.
    Answer(Parts, Route),
    /// To read its body before.
    Read(Parts, Route),
}

impl Route {
    fn of(path: &str, keys: &str) -> Option<Self> {
        Some(match path {
            "/" | "" | "/ledger" => Self::List,
            "/v1/receipts/public" => Self::Public,
            "/v1/receipts/verify" => Self::Verify,
            "/v1/outcomes" => Self::Outcomes,
            "/leaderboard.json" => Self::Leaderboard,
            path if path == keys => Self::Keys,
            path => {
                if let Some(id) = path.strip_prefix("/r/") {
                    return Some(Self::Page(id.parse().ok()));
                }
                let rest = path.strip_prefix("/v1/receipts/")?;
                match rest.split_once('/') {
                    None => Self::Receipt(rest.parse().ok()),
                    Some((id, "outcomes")) => Self::OutcomesOf(id.parse().ok()),
                    Some(_) => return None,
                }
            }
        })
    }

    fn takes_posts(self) -> bool {
        matches!(self, Self::Outcomes | Self::Verify)
    }

    fn allowed(self) -> HeaderValue {
        HeaderValue::from_static(if self.takes_posts() { "POST, OPTIONS" } else { "GET, HEAD, OPTIONS" })
    }

    /// Whether what goes wrong is said on a page.
    pub(super) fn is_page(self, head: &Parts) -> bool {
        match self {
            Self::Page(_) => !prefers_json(head),
            Self::List => true,
            _ => false,
        }
    }
}

impl Ledger {
    /// Decides what can be decided before anything is read.
    pub(super) fn begin(&self, head: Parts) -> Decided {
        let path = head.uri.path();
        let begun = match Route::of(path, &self.receipts.keys_path()) {
            None => {
                let refusal = Refusal::new(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path.");
                Begun::Done(head, refusal.to_json())
            }
            Some(route) if head.method == Method::OPTIONS => Begun::Done(head, options(route)),
            Some(route) if route.takes_posts() => match self.may_post(route, &head) {
                Ok(()) => Begun::Read(head, route),
                Err(refusal) => Begun::Done(head, refused(route, refusal)),
            },
            Some(route) if head.method == Method::GET || head.method == Method::HEAD => Begun::Answer(head, route),
            Some(route) => Begun::Done(head, refused(route, NOT_ALLOWED)),
        };
        Decided { ledger: self.clone(), begun }
    }

    fn may_post(&self, route: Route, head: &Parts) -> Result<(), Refusal> {
        if head.method != Method::POST {
            return Err(NOT_ALLOWED);
        }
        if !matches!(route, Route::Outcomes) {
            return Ok(());
        }
        if !(self.owner)(head) {
            let message = "Only the owner of the ledger says what came of a call.";
            return Err(match head.headers.contains_key(AUTHORIZATION) {
                false => Refusal::new(StatusCode::UNAUTHORIZED, "authentication_required", message),
                true => Refusal::new(StatusCode::FORBIDDEN, "forbidden", message),
            });
        }
        // What a page of another origin may send without asking, with the owner's cookies, is never this.
        let is_json = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
            value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
        });
        match is_json {
            true => Ok(()),
            false => Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Send Content-Type: application/json.",
            )),
        }
    }

    /// Answers what needs no body, or a body that was read.
    pub(super) async fn answer(&self, head: &Parts, route: Route, body: &Bytes) -> Answer {
        let page = route.is_page(head);
        let made = match route {
            Route::Receipt(id) => self.receipt(head, id).await,
            Route::OutcomesOf(id) => self.outcomes_of(head, id).await,
            Route::Outcomes => self.add_outcome(body).await,
            Route::Verify => self.verify(body),
            Route::Public => self.public_list(head).await,
            Route::Leaderboard => self.leaderboard().await,
            Route::Keys => self.keys(),
            Route::Page(id) if page => self.receipt_page(head, id).await,
            Route::Page(id) => self.receipt(head, id).await,
            Route::List => self.list_page(head).await,
        };
        let mut answer = made.unwrap_or_else(|refusal| self.refusal(refusal, page));
        if matches!(route, Route::Page(_)) {
            answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Authorization, Cookie"));
        }
        answer
    }

    /// What went wrong, as JSON or on a page.
    pub(super) fn refusal(&self, refusal: Refusal, page: bool) -> Answer {
        if page { pages::refusal(self, refusal) } else { open(refusal.to_json()) }
    }
}

/// A request, and what was decided about it.
pub(super) struct Decided {
    pub(super) ledger: Ledger,
    pub(super) begun: Begun,
}

const NOT_ALLOWED: Refusal =
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This path does not take this method.");

fn refused(route: Route, refusal: Refusal) -> Answer {
    let mut answer = refusal.to_json();
    if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(ALLOW, route.allowed());
    }
    answer
}

fn options(route: Route) -> Answer {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(ALLOW, route.allowed());
    headers.insert(http::header::CACHE_CONTROL, NO_STORE);
    // Outcomes are for the owner: no page of another origin may send them.
    if !matches!(route, Route::Outcomes) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, route.allowed());
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type, If-None-Match"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    }
    answer
}

/// Whether `Accept` names JSON more willingly than HTML. A client that takes anything gets the page.
fn prefers_json(head: &Parts) -> bool {
    let (mut json, mut html) = (0, 0);
    for value in head.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()) {
        for range in value.split(',') {
            let mut params = range.split(';').map(str::trim);
            let media = params.next().unwrap_or_default();
            let weight = params.find_map(weight).unwrap_or(1000);
            if media.eq_ignore_ascii_case("application/json") {
                json = json.max(weight);
            } else if media.eq_ignore_ascii_case("text/html") {
                html = html.max(weight);
            }
        }
    }
    json > html
}

/// `q=0.5` in thousandths; what cannot be read is as good as not wanted.
fn weight(param: &str) -> Option<u32> {
    let (name, value) = param.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value: f32 = value.trim().parse().unwrap_or(0.0);
    // What is not a number becomes zero.
    Some((value.clamp(0.0, 1.0) * 1000.0) as u32)
}
