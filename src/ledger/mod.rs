//! The ledger over HTTP: receipts to fetch, to check and to read.
//!
//! [`Ledger`] is a Tower service over [`Receipts`]. It serves the receipts themselves, the public keys, a public list
//! and pages for people, on which the browser checks the signature by itself. It needs no other part of a merchant:
//! it may run in the same server or in one of its own.

mod answer;
mod future;
mod lists;
mod outcomes;
mod pages;
mod receipts;
mod routes;
mod shown;

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

pub use self::future::ResponseFuture;
use crate::{Clock, SystemClock, receipt::Receipts};

type Owner = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// Serves receipts over HTTP. Cheap to clone.
///
/// | request | answer |
/// |---|---|
/// | `GET /v1/receipts/{id}` | the receipt: all of it for its owner, or what everybody may see; `?view=full` and `?view=public` ask for one of them |
/// | `GET /v1/receipts/{id}/outcomes` | what came of the call |
/// | `POST /v1/outcomes` | says what came of a call: for the owner |
/// | `POST /v1/receipts/verify` | whether a receipt is one of ours |
/// | `GET /v1/receipts/public` | the public list, in pages: `?limit=1..100`, `?before=` |
/// | `GET /leaderboard.json` | sums over the public list |
/// | `GET /.well-known/receipt-keys.json` | the public keys, see [`Receipts::keys_path`] |
/// | `GET /r/{id}` | the receipt as a page, or for `Accept: application/json` as above |
/// | `GET /`, `GET /ledger` | the public list as a page |
///
/// A receipt that is not for the caller is answered like one that does not exist. Errors are JSON,
/// `{"error":{"type","message"}}`, or pages where a page was asked for.
///
/// ```
/// use axum::Router;
/// use tower_mpp::{ledger::Ledger, receipt::{Ed25519Signer, Receipts}};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let seed = [7; 32];
/// let signer = Ed25519Signer::from_seed("receipts-2026", &seed)?;
/// let receipts = Receipts::builder("https://receipts.example.com", signer).build()?;
/// let app: Router = Router::new().fallback_service(Ledger::new(receipts).title("Receipts of Example"));
/// # Ok(())
/// # }
/// ```
///
/// It may also be nested: the path in [`Receipts::base_url`] is where its pages say it is.
#[derive(Clone)]
pub struct Ledger {
    receipts: Receipts,
    owner: Owner,
    title: Arc<str>,
    clock: Arc<dyn Clock>,
}

impl Ledger {
    /// A ledger that shows everybody what everybody may see, and nothing else.
    pub fn new(receipts: Receipts) -> Self {
        Self { receipts, owner: Arc::new(|_| false), title: "Receipts".into(), clock: Arc::new(SystemClock) }
    }

    /// Who sees every receipt as a whole and may add outcomes: nobody unless this says otherwise. It is asked for
    /// every request and has to compare secrets in constant time. What it lets in by a cookie is safe from other
    /// sites: outcomes are only taken as `application/json`, for which browsers ask first, and other origins may
    /// not read what an owner gets.
    #[must_use]
    pub fn owner(mut self, is_owner: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.owner = Arc::new(is_owner);
        self
    }

    /// What stands over the pages. `Receipts` unless this says otherwise.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into().into();
        self
    }

    /// Where the time comes from. The system clock by default.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl<B: Body> Service<Request<B>> for Ledger {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<B> {
        let (head, body) = request.into_parts();
        ResponseFuture::new(self.begin(head), body)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("receipts", &self.receipts).finish_non_exhaustive()
    }
}
