//! The service: decides at once what can be decided at once.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    RequestBody, ResponseBody, ResponseFuture,
    route::{Admission, Opening, Route},
};

/// Charges for the inner service. Made by [`PaymentLayer`](super::PaymentLayer).
#[derive(Clone)]
pub struct Payment<S> {
    inner: S,
    route: Arc<Route>,
}

impl<S> Payment<S> {
    pub(super) fn new(inner: S, route: Arc<Route>) -> Self {
        Self { inner, route }
    }

    /// The inner service.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, ResBody> Service<Request<B>> for Payment<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>> + Clone,
    B: Body<Data = Bytes>,
    ResBody: Body,
    ResBody::Data: From<Bytes>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B> {
        let (head, body) = request.into_parts();
        match self.route.open(&head, &body) {
            Opening::Free => {
                let request = Request::from_parts(head, RequestBody::untouched(body));
                ResponseFuture::free(self.inner.call(request))
            }
            Opening::Refused(refusal) => ResponseFuture::answer(self.route.refuse(refusal, &head)),
            Opening::Offers(offers) => {
                match self.route.admit(&head, &offers, None, || body.is_end_stream().then_some(None)) {
                    Admission::Answer(answer) => ResponseFuture::answer(answer),
                    Admission::Gate(gate) => {
                        let request = Request::from_parts(head, RequestBody::untouched(body));
                        ResponseFuture::gate(self.route.clone(), self.take_ready(), request, offers, None, gate)
                    }
                }
            }
            Opening::Buffer(offers) => {
                ResponseFuture::collect(self.route.clone(), self.take_ready(), head, body, Some(offers))
            }
            Opening::AskWithBody => ResponseFuture::collect(self.route.clone(), self.take_ready(), head, body, None),
            Opening::Ask => ResponseFuture::quote(self.route.clone(), self.take_ready(), head, body),
        }
    }
}

impl<S: Clone> Payment<S> {
    /// The instance that was polled ready; a clone of it stays behind. A clone that was never polled
    /// ready must not be called.
    fn take_ready(&mut self) -> S {
        let fresh = self.inner.clone();
        mem::replace(&mut self.inner, fresh)
    }
}

impl<S: fmt::Debug> fmt::Debug for Payment<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payment").field("inner", &self.inner).field("route", &self.route).finish()
    }
}
