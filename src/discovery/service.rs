//! Serves the documents over HTTP.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
        X_CONTENT_TYPE_OPTIONS,
    },
    request::Parts,
};
use http_body_util::Full;
use tower_service::Service;

use super::{
    Invalid, catalog::Catalog, check::check, items, markdown, negotiate::wants_markdown, openapi, well_known::WellKnown,
};
use crate::{Clock, SystemClock, protocol::ContentDigest};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const MARKDOWN: HeaderValue = HeaderValue::from_static("text/markdown; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// As deployed peers write it.
const NOT_FOUND: HeaderValue = HeaderValue::from_static("text/plain;charset=UTF-8");
/// Five minutes, as the discovery draft has it.
const MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");
const MINUTE: HeaderValue = HeaderValue::from_static("public, max-age=60");
const NEGOTIATED: HeaderValue = HeaderValue::from_static("accept, user-agent");

const WELL_KNOWN: [&str; 2] = ["/.well-known/mpp", "/.well-known/mpp.json"];

/// Serves what is known about a merchant before anybody pays. Cheap to clone; every document is made once.
///
/// | request | answer |
/// |---|---|
/// | `GET /discover`, `GET /discover/all` | all services as JSON, or as markdown (see below) |
/// | `GET /discover/{id}` | one service, in the same two forms |
/// | `GET /discover/{id}.md`, `GET /discover/all.md` | the markdown |
/// | `GET /llms.txt`, `GET /discover.md` | an overview for language models |
/// | `GET /openapi.json` | OpenAPI 3.1 with `x-payment-info` and `x-service-info` |
/// | `GET /.well-known/mpp`, `GET /.well-known/mpp.json` | [`WellKnown`], where there is one; never below the base path |
///
/// Markdown is for those who ask for `text/markdown` or `text/plain`, and for agents and terminals by their
/// `User-Agent`. Everything else at these paths is `404 Not Found`, also with other methods; the last two rows of the
/// table know `HEAD` as well.
///
/// ```
/// use http::Method;
/// use tower_mpp::discovery::{Catalog, Discovery, Route, Service};
///
/// # fn main() -> Result<(), tower_mpp::discovery::Invalid> {
/// let service = Service::new("weather").title("Weather").route(Route::new(Method::GET, "/weather/v1/today"));
/// let discovery = Discovery::new(&Catalog::new().title("Example").service(service))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Discovery {
    documents: Arc<Documents>,
    well_known: Option<WellKnown>,
    clock: Arc<dyn Clock>,
}

struct Documents {
    base_path: String,
    all: Document,
    llms: Document,
    all_markdown: Document,
    openapi: Document,
    services: Vec<OfService>,
}

struct OfService {
    id: String,
    json: Document,
    markdown: Document,
}

#[derive(Clone)]
struct Document {
    body: Bytes,
    media_type: HeaderValue,
    etag: HeaderValue,
}

impl Document {
    fn new(media_type: HeaderValue, text: impl Into<Bytes>) -> Self {
        let body = text.into();
        let hash = ContentDigest::of(&body);
        // Half of the hash tells any two versions apart.
        let hex: String = hash.as_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::try_from(format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { body, media_type, etag }
    }
}

/// What is served at a path.
enum Found<'a> {
    Negotiated {
        json: &'a Document,
        markdown: &'a Document,
    },
    Text(&'a Document),
    OpenApi(&'a Document),
    WellKnown(&'a WellKnown),
    /// The path is ours, and there is nothing.
    Nothing,
}

impl Discovery {
    /// Makes all documents of a catalog.
    ///
    /// # Errors
    /// [`Invalid`] when an id collides with a path of ours, or a path or URL cannot be written down.
    pub fn new(catalog: &Catalog) -> Result<Self, Invalid> {
        check(catalog)?;
        let base_path = catalog.base_path.clone();
        let of_service = |service: &super::Service| OfService {
            id: service.id.clone(),
            json: Document::new(JSON, items::service(service).to_json()),
            markdown: Document::new(MARKDOWN, markdown::service(service, &base_path)),
        };
        let documents = Documents {
            all: Document::new(JSON, items::all(catalog).to_json()),
            llms: Document::new(PLAIN, markdown::llms(catalog)),
            all_markdown: Document::new(MARKDOWN, markdown::all(catalog)),
            openapi: Document::new(JSON, openapi::document(catalog).to_json()),
            services: catalog.services.iter().map(of_service).collect(),
            base_path,
        };
        Ok(Self { documents: Arc::new(documents), well_known: None, clock: Arc::new(SystemClock) })
    }

    /// Serves `/.well-known/mpp` too.
    #[must_use]
    pub fn well_known(mut self, document: WellKnown) -> Self {
        self.well_known = Some(document);
        self
    }

    /// Where the time of `/.well-known/mpp` comes from. The system clock by default.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Whether a request is for a path of ours, whatever its method: then nothing else should answer it.
    pub fn answers(&self, head: &Parts) -> bool {
        self.find(head.uri.path()).is_some()
    }

    /// The answer to a request for a path of ours, and nothing for any other.
    pub fn try_answer(&self, head: &Parts) -> Option<Response<Full<Bytes>>> {
        let found = self.find(head.uri.path())?;
        let is_get = head.method == Method::GET;
        let is_head = head.method == Method::HEAD;
        let answer = match found {
            Found::Negotiated { json, markdown } if is_get => {
                let document = if wants_markdown(&head.headers) { markdown } else { json };
                let mut answer = answer(head, document, MINUTES);
                answer.headers_mut().insert(VARY, NEGOTIATED);
                answer
            }
            Found::Text(document) if is_get => answer(head, document, MINUTES),
            Found::OpenApi(document) if is_get || is_head => answer(head, document, MINUTES),
            Found::WellKnown(source) if is_get || is_head => match source.document(self.clock.now()) {
                Some(body) => answer(head, &Document::new(JSON, body), MINUTE),
                None => not_found(head),
            },
            _ => not_found(head),
        };
        Some(answer)
    }

    fn find(&self, path: &str) -> Option<Found<'_>> {
        if let Some(document) = &self.well_known
            && WELL_KNOWN.contains(&path)
        {
            return Some(Found::WellKnown(document));
        }
        self.documents.find(path)
    }
}

impl Documents {
    fn find(&self, path: &str) -> Option<Found<'_>> {
        let path = path.strip_prefix(self.base_path.as_str())?;
        match path {
            "/llms.txt" | "/discover.md" => return Some(Found::Text(&self.llms)),
            "/openapi.json" => return Some(Found::OpenApi(&self.openapi)),
            _ => {}
        }
        let rest = path.strip_prefix("/discover")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Some(Found::Negotiated { json: &self.all, markdown: &self.llms });
        }
        let name = rest.strip_prefix('/')?;
        let of = |id: &str| self.services.iter().find(|service| service.id == id);
        Some(match (name, name.strip_suffix(".md")) {
            ("all", _) => Found::Negotiated { json: &self.all, markdown: &self.all_markdown },
            (_, Some("all")) => Found::Text(&self.all_markdown),
            (_, Some(id)) => of(id).map_or(Found::Nothing, |service| Found::Text(&service.markdown)),
            (id, None) => of(id).map_or(Found::Nothing, |service| Found::Negotiated {
                json: &service.json,
                markdown: &service.markdown,
            }),
        })
    }
}

fn answer(head: &Parts, document: &Document, cache: HeaderValue) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, document.media_type.clone());
    headers.insert(CACHE_CONTROL, cache);
    headers.insert(ETAG, document.etag.clone());
    // Public, and the same for everybody: agents in browsers read it too.
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_known(&head.headers, &document.etag) {
        headers.remove(CONTENT_TYPE);
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return answer;
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(document.body.len()));
    if head.method != Method::HEAD {
        *answer.body_mut() = Full::new(document.body.clone());
    }
    answer
}

/// Whether the client has this version already (RFC 9110, section 13.1.2).
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = tags.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes())
}

fn not_found(head: &Parts) -> Response<Full<Bytes>> {
    let body = if head.method == Method::HEAD { Full::default() } else { Full::from("Not Found") };
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer.headers_mut().insert(CONTENT_TYPE, NOT_FOUND);
    answer
}

impl<B> Service<Request<B>> for Discovery {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, _) = request.into_parts();
        ready(Ok(self.try_answer(&head).unwrap_or_else(|| not_found(&head))))
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<_> = self.documents.services.iter().map(|service| &service.id).collect();
        f.debug_struct("Discovery")
            .field("base_path", &self.documents.base_path)
            .field("services", &services)
            .field("well_known", &self.well_known)
            .finish_non_exhaustive()
    }
}
