//! Routes that settle after the handler: what is kept of the request while it works, to refuse it yet.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, request::Parts};

use super::route::Route;
use crate::{
    flow::{self, Offers, Refusal},
    protocol::ContentDigest,
};

/// The part of a request that the answer to a refusal depends on.
pub(super) struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    scope: String,
    offers: Arc<Offers>,
    digest: Option<ContentDigest>,
}

impl Asked {
    pub(super) fn new(head: &Parts, offers: Arc<Offers>, digest: Option<ContentDigest>, route: &Route) -> Self {
        let scope = flow::scope(head, route.label.as_deref(), route.bind_query);
        let (method, uri) = (head.method.clone(), head.uri.clone());
        Self { method, uri, headers: head.headers.clone(), scope, offers, digest }
    }

    /// The money could not be taken: the answer of the handler is not given out.
    pub(super) fn refuse(self, refusal: Refusal, route: &Route) -> Response<Bytes> {
        let (mut head, ()) = Request::new(()).into_parts();
        (head.method, head.uri, head.headers) = (self.method, self.uri, self.headers);
        route.refuse_priced(refusal, &head, &self.offers, &self.scope, self.digest.as_ref())
    }
}
