//! Requests that are about a paid route without being served by it: they are told its terms, and never charged.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING},
    request::Parts,
};
use tower::ServiceExt as _;
use tower_service::Service;

use super::router::{Boxed, answer, not_found, problem};
use crate::{
    layer::Payment,
    protocol::{ProblemType, payment_credential},
    upstream::Body,
};

/// The terms of a paid route: its payment layer, with nothing behind it that could be delivered.
pub(super) type Terms = Payment<NotHere>;

/// Answers 404, whatever the layer in front of it lets through.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotHere;

/// Tells the terms of a route to a request that it does not serve, as the 402 of its `method`: whoever pays that, pays
/// for the right one.
///
/// A Payment credential is refused before any rail hears of it. There is no intent yet that is managed by such a
/// request; and what was bought with it could not be delivered here.
pub(super) fn tell(terms: &Terms, method: Method, mut head: Parts, body: Body, allow: HeaderValue) -> Boxed {
    if !matches!(payment_credential(head.headers.get_all(AUTHORIZATION)), Ok(None)) {
        const DETAIL: &str = "The payment is for another method: nothing was charged. Send it with that.";
        let mut refusal = problem(ProblemType::BadRequest, StatusCode::METHOD_NOT_ALLOWED, DETAIL);
        refusal.headers_mut().insert(ALLOW, allow);
        return answer(refusal);
    }
    head.headers.remove(AUTHORIZATION);
    // The body of this request is none of the other's.
    let body = if method == Method::GET {
        head.headers.remove(CONTENT_LENGTH);
        head.headers.remove(TRANSFER_ENCODING);
        Body::empty()
    } else {
        body
    };
    head.method = method;
    let terms = terms.clone().oneshot(Request::from_parts(head, body));
    Box::pin(async move {
        let Ok(response) = terms.await;
        Ok(response.map(Body::new))
    })
}

impl<B> Service<Request<B>> for NotHere {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(not_found()))
    }
}
