//! The future of an answer: collect, quote, gate, handle, journal.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Method, Request, Response, request::Parts};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use super::{
    RequestBody, ResponseBody,
    after::Asked,
    answers::{self, Whole},
    leave::{End, Leaving, broken, end_of, finish},
    receipted, render,
    request_body::Buffer,
    route::{Admission, Gate, Route},
};
use crate::{
    flow::{self, Delivery, Detached, NotServed, Offers, Refusal, RefusalKind, Sealed, SettleTiming, Step},
    pricing::Quote,
    protocol::{ContentDigest, Timestamp, remove_payment_credentials},
    trace,
};

pin_project! {
    /// The future of an answer of [`Payment`](super::Payment).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<RequestBody<B>>>,
        S::Response: Answer,
    {
        #[pin]
        state: State<S, B, S::Future, S::Response>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B, F, R>
    where
        R: Answer,
    {
        // Not charged for.
        Free { #[pin] future: F },
        // Answered by the layer itself.
        Answer { answer: Option<Response<Bytes>> },
        // The body is on its way into the buffer.
        Collect { #[pin] body: B, buffer: Buffer, timer: Option<Pin<Box<Sleep>>>, job: Option<Job<S>> },
        // The price is being looked up.
        Quote { quote: QuoteFuture, asking: Option<Asking<S, B>> },
        // The money is being taken.
        Gate { gate: Gate, paying: Option<Paying<S, B>> },
        // The handler is at work for settled money, or for a request that will be asked for it then.
        Handle {
            #[pin] future: F,
            delivery: Option<Delivery>,
            head_only: bool,
            asked: Option<Box<Asked>>,
            route: Arc<Route>,
        },
        // The handler has succeeded, and now the money is being taken.
        Capture { gate: Gate, answer: Option<R>, end: End, asked: Option<Box<Asked>>, route: Arc<Route> },
        // The handler has failed, and no money is taken.
        CallOff { work: Detached<bool>, answer: Option<R>, route: Arc<Route> },
        // The provisional receipt of an answer that streams is being signed.
        Announce {
            sealing: Detached<Sealed>,
            delivery: Option<Delivery>,
            answer: Option<R>,
            end: End,
            route: Arc<Route>,
        },
        // An answer of known length is being signed for or kept, before it counts as delivered.
        Keep { body: Pin<Box<R::Body>>, whole: Option<Box<Whole>>, delivery: Option<Delivery>, route: Arc<Route> },
        // The journal records how it ended.
        Journal { step: Step, delivery: Option<Delivery>, answer: Option<Leaving<R>>, end: End, route: Arc<Route> },
    }
}

/// What a service answers with: a response, by the type of its body.
#[allow(unreachable_pub, reason = "a bound of a public type, and nobody else's business")]
pub trait Answer {
    type Body;
}

impl<B> Answer for Response<B> {
    type Body = B;
}

/// A request whose body is not there yet.
struct Job<S> {
    route: Arc<Route>,
    service: S,
    head: Parts,
    /// `None` when the price has yet to be asked for.
    offers: Option<Arc<Offers>>,
}

/// A request whose price is being looked up.
struct Asking<S, B> {
    route: Arc<Route>,
    service: S,
    body: RequestBody<B>,
}

/// A request whose payment is being settled.
struct Paying<S, B> {
    route: Arc<Route>,
    service: S,
    request: Request<RequestBody<B>>,
    offers: Arc<Offers>,
    digest: Option<ContentDigest>,
    /// Where receipts are signed.
    started_at: Option<Timestamp>,
}

type QuoteFuture = Pin<Box<dyn Future<Output = (Parts, Option<Quote>)> + Send>>;

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<RequestBody<B>>>,
    S::Response: Answer,
{
    pub(super) fn free(future: S::Future) -> Self {
        Self { state: State::Free { future } }
    }

    pub(super) fn answer(answer: Response<Bytes>) -> Self {
        Self { state: State::Answer { answer: Some(answer) } }
    }

    pub(super) fn collect(route: Arc<Route>, service: S, head: Parts, body: B, offers: Option<Arc<Offers>>) -> Self {
        let job = Some(Job { route, service, head, offers });
        Self { state: State::Collect { body, buffer: Buffer::default(), timer: None, job } }
    }

    pub(super) fn quote(route: Arc<Route>, service: S, head: Parts, body: B) -> Self {
        Self { state: ask(Asking { route, service, body: RequestBody::untouched(body) }, head, Bytes::new()) }
    }

    pub(super) fn gate(
        route: Arc<Route>,
        service: S,
        mut request: Request<RequestBody<B>>,
        offers: Arc<Offers>,
        digest: Option<ContentDigest>,
        gate: Gate,
    ) -> Self {
        // The credential has done its work; it is a bearer token, and the service must not see it.
        remove_payment_credentials(request.headers_mut());
        let started_at = route.merchant.receipts.as_ref().map(|_| route.merchant.now());
        let paying = Some(Paying { route, service, request, offers, digest, started_at });
        Self { state: State::Gate { gate, paying } }
    }
}

impl<S, B, ResBody> Future for ResponseFuture<S, B>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>>,
    B: Body<Data = Bytes>,
    ResBody: Body,
    ResBody::Data: From<Bytes>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Free { future } => {
                    return future.poll(cx).map_ok(|response| response.map(ResponseBody::inner));
                }
                StateProj::Answer { answer } => {
                    return match answer.take() {
                        Some(answer) => Poll::Ready(Ok(answer.map(ResponseBody::own))),
                        // Polled after it was ready: a bug of the caller, which must not be able to panic us.
                        None => Poll::Pending,
                    };
                }
                StateProj::Collect { body, buffer, timer, job } => {
                    let Some(known) = job.as_ref() else { return Poll::Pending };
                    let collected = ready!(poll_collect(body, buffer, timer, &known.route, cx));
                    let Some(job) = job.take() else { return Poll::Pending };
                    match collected {
                        Ok(()) => job.proceed(mem::take(buffer)),
                        Err(kind) => State::Answer { answer: Some(job.route.refuse(Refusal::new(kind), &job.head)) },
                    }
                }
                StateProj::Quote { quote, asking } => {
                    let (head, quote) = ready!(quote.as_mut().poll(cx));
                    let Some(asking) = asking.take() else { return Poll::Pending };
                    asking.proceed(head, quote)
                }
                StateProj::Gate { gate, paying } => {
                    let Some(known) = paying.as_ref() else { return Poll::Pending };
                    let result = ready!(gate.poll(cx, &known.route.merchant.tasks));
                    let Some(paying) = paying.take() else { return Poll::Pending };
                    match result {
                        Some(Ok(delivery)) => paying.handle(delivery),
                        Some(Err(NotServed::Refused(refusal))) => paying.refuse(refusal),
                        Some(Err(NotServed::Kept(kept))) => return Poll::Ready(Ok(answers::again(kept))),
                        // The rail or the journal panicked: nobody knows how far it came.
                        None => paying.refuse(Refusal::new(RefusalKind::OutcomeUnknown)),
                    }
                }
                StateProj::Handle { future, delivery, head_only, asked, route } => {
                    let Poll::Ready(result) = future.poll(cx) else {
                        if let Some(delivery) = delivery {
                            delivery.poll_renewal(cx);
                        }
                        return Poll::Pending;
                    };
                    let Some(mut delivery) = delivery.take() else { return Poll::Pending };
                    // On an error the delivery is given up by dropping it.
                    let mut response = result?;
                    let end = end_of(&response, *head_only);
                    if matches!(end, End::Failed) {
                        receipted::failed(&mut delivery, &mut response);
                    }
                    if delivery.is_pending() {
                        // Whatever becomes of the money, its receipt says what the service has said.
                        delivery
                            .record()
                            .iter_mut()
                            .for_each(|record| record.answered(response.status(), response.extensions()));
                        let (answer, route, asked) = (Some(response), Arc::clone(route), asked.take());
                        state.set(match end {
                            End::Failed => State::CallOff { work: delivery.call_off(), answer, route },
                            _ => State::Capture { gate: delivery.capture(), answer, end, asked, route },
                        });
                        continue;
                    }
                    match end {
                        End::Failed => {
                            let step = delivery.fail(response.extensions().get().copied(), response.status());
                            let (delivery, answer) = (Some(delivery), Some(Leaving::Service(response)));
                            State::Journal { step, delivery, answer, end, route: Arc::clone(route) }
                        }
                        End::Delivered | End::DeliveredWhole => deliver(response, end, delivery, Arc::clone(route)),
                    }
                }
                StateProj::Capture { gate, answer, end, asked, route } => {
                    let result = ready!(gate.poll(cx, &route.merchant.tasks));
                    let refusal = match result {
                        Some(Ok(delivery)) => {
                            let Some(answer) = answer.take() else { return Poll::Pending };
                            let next = deliver(answer, *end, delivery, Arc::clone(route));
                            state.set(next);
                            continue;
                        }
                        Some(Err(NotServed::Refused(refusal))) => refusal,
                        Some(Err(NotServed::Kept(kept))) => return Poll::Ready(Ok(answers::again(kept))),
                        None => Refusal::new(RefusalKind::OutcomeUnknown),
                    };
                    let Some(asked) = asked.take() else { return Poll::Pending };
                    State::Answer { answer: Some(asked.refuse(refusal, route)) }
                }
                StateProj::CallOff { work, answer, route } => {
                    let certain = ready!(work.poll(cx, &route.merchant.tasks)) == Some(true);
                    let Some(mut answer) = answer.take() else { return Poll::Pending };
                    render::not_charged(&mut answer, certain);
                    return Poll::Ready(Ok(answer.map(ResponseBody::inner)));
                }
                StateProj::Announce { sealing, delivery, answer, end, route } => {
                    let Some(known) = delivery.as_mut() else { return Poll::Pending };
                    let Poll::Ready(mut sealed) = sealing.poll(cx, &route.merchant.tasks) else {
                        known.poll_renewal(cx);
                        return Poll::Pending;
                    };
                    let (Some(mut delivery), Some(mut answer)) = (delivery.take(), answer.take()) else {
                        return Poll::Pending;
                    };
                    delivery.record().iter_mut().for_each(|record| record.sealed(sealed.take()));
                    receipted::announce_stream(&mut answer, &mut delivery, route);
                    answers::record(&mut delivery, &answer);
                    leave(answer, *end, delivery, Arc::clone(route))
                }
                StateProj::Keep { body, whole, delivery, route } => {
                    let (Some(known), Some(collecting)) = (delivery.as_mut(), whole.as_mut()) else {
                        return Poll::Pending;
                    };
                    let Poll::Ready(kept) = answers::poll_whole(body.as_mut(), collecting, known, route, cx) else {
                        known.poll_renewal(cx);
                        return Poll::Pending;
                    };
                    let (Some(mut delivery), Some(whole)) = (delivery.take(), whole.take()) else {
                        return Poll::Pending;
                    };
                    if kept.is_err() {
                        // Not a byte of it has left. Dropping the delivery does with the money what the rules say.
                        delivery.broke_off();
                        let mut answer = render::plain(broken(), &route.merchant.settings);
                        receipted::broke_off(&mut delivery, &mut answer);
                        return Poll::Ready(Ok(answer.map(ResponseBody::own)));
                    }
                    let step = delivery.commit();
                    let end = if whole.is_bodyless() { End::DeliveredWhole } else { End::Delivered };
                    let (delivery, answer) = (Some(delivery), Some(Leaving::Kept(whole.into_answer())));
                    State::Journal { step, delivery, answer, end, route: Arc::clone(route) }
                }
                StateProj::Journal { step, delivery, answer, end, route } => {
                    let recorded = ready!(step.as_mut().poll(cx));
                    let (Some(delivery), Some(answer)) = (delivery.take(), answer.take()) else {
                        return Poll::Pending;
                    };
                    return Poll::Ready(Ok(finish(answer, *end, delivery, recorded, route)));
                }
            };
            state.set(next);
        }
    }
}

/// Fills the buffer until the body ends, the limit is passed or time is up.
fn poll_collect<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    buffer: &mut Buffer,
    timer: &mut Option<Pin<Box<Sleep>>>,
    route: &Route,
    cx: &mut Context<'_>,
) -> Poll<Result<(), RefusalKind>> {
    while !body.is_end_stream() {
        match body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if buffer.push(frame, route.body_limit).is_err() {
                    return Poll::Ready(Err(RefusalKind::BodyTooLarge));
                }
            }
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(RefusalKind::BodyUnreadable)),
            Poll::Ready(None) => break,
            Poll::Pending => {
                let timer =
                    timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(route.merchant.settings.body_timeout)));
                return timer.as_mut().poll(cx).map(|()| Err(RefusalKind::BodyTimeout));
            }
        }
    }
    Poll::Ready(Ok(()))
}

impl<S> Job<S> {
    /// The body is there: price it if need be, then admit it.
    fn proceed<B>(self, buffer: Buffer) -> State<S, B, S::Future, S::Response>
    where
        S: Service<Request<RequestBody<B>>>,
        S::Response: Answer,
        B: Body,
    {
        let Self { route, service, head, offers } = self;
        let content = if offers.is_none() { buffer.contiguous() } else { Bytes::new() };
        let asking = Asking { route, service, body: RequestBody::buffered(buffer) };
        match offers {
            Some(offers) => asking.admit(head, offers),
            None => ask(asking, head, content),
        }
    }
}

/// Looks the price up.
fn ask<S, B>(asking: Asking<S, B>, head: Parts, content: Bytes) -> State<S, B, S::Future, S::Response>
where
    S: Service<Request<RequestBody<B>>>,
    S::Response: Answer,
{
    let pricing = Arc::clone(&asking.route.pricing);
    let limit = asking.route.merchant.settings.pricing_timeout;
    let quote = Box::pin(async move {
        let quote = flow::within(limit, pricing.quote(&head, &content)).await;
        (head, quote)
    });
    State::Quote { quote, asking: Some(asking) }
}

impl<S, B: Body> Asking<S, B> {
    /// The price is known.
    fn proceed(mut self, head: Parts, quote: Option<Quote>) -> State<S, B, S::Future, S::Response>
    where
        S: Service<Request<RequestBody<B>>>,
        S::Response: Answer,
    {
        let offers = match quote {
            Some(quote) => self.route.quoted(quote, &head),
            None => {
                tracing::error!(target: trace::TARGET, "the price took too long to look up");
                Err(Refusal::new(RefusalKind::Unavailable))
            }
        };
        match offers {
            Ok(Some(offers)) => self.admit(head, offers),
            Ok(None) => State::Free { future: self.service.call(Request::from_parts(head, self.body)) },
            Err(refusal) => State::Answer { answer: Some(self.route.refuse(refusal, &head)) },
        }
    }

    /// A priced request, with its body at hand where it is bound.
    fn admit(self, head: Parts, offers: Arc<Offers>) -> State<S, B, S::Future, S::Response>
    where
        S: Service<Request<RequestBody<B>>>,
        S::Response: Answer,
    {
        let Self { route, service, body } = self;
        let digest = if route.bind_body { body.digest() } else { None };
        let content = || if route.bind_body { Some(digest) } else { body.content() };
        match route.admit(&head, &offers, digest.as_ref(), content) {
            Admission::Answer(answer) => State::Answer { answer: Some(answer) },
            Admission::Gate(gate) => {
                let request = Request::from_parts(head, body);
                ResponseFuture::gate(route, service, request, offers, digest, gate).state
            }
        }
    }
}

impl<S, B: Body<Data = Bytes>> Paying<S, B> {
    /// The money has moved, or can be taken: call the service.
    fn handle(self, mut delivery: Delivery) -> State<S, B, S::Future, S::Response>
    where
        S: Service<Request<RequestBody<B>>>,
        S::Response: Answer,
    {
        let Self { route, mut service, mut request, offers, digest, started_at } = self;
        if started_at.is_some() {
            let (mut head, mut body) = request.into_parts();
            delivery.record_with(receipted::begin(&route, &mut head, &mut body, digest, started_at));
            request = Request::from_parts(head, body);
        }
        if let Some(info) = delivery.info() {
            request.extensions_mut().insert(info.clone());
        }
        let mut asked = None;
        if route.timing == SettleTiming::AfterHandler {
            let (mut head, body) = request.into_parts();
            asked = delivery.is_pending().then(|| Box::new(Asked::new(&head, offers, digest, &route)));
            delivery.pending_payment().map(|payment| head.extensions.insert(payment));
            request = Request::from_parts(head, body);
        }
        let head_only = request.method() == Method::HEAD;
        State::Handle { future: service.call(request), delivery: Some(delivery), head_only, asked, route }
    }

    fn refuse(self, refusal: Refusal) -> State<S, B, S::Future, S::Response>
    where
        S: Service<Request<RequestBody<B>>>,
        S::Response: Answer,
    {
        let Self { route, request, offers, digest, .. } = self;
        let (head, _) = request.into_parts();
        let scope = flow::scope(&head, route.label.as_deref(), route.bind_query);
        let answer = route.refuse_priced(refusal, &head, &offers, &scope, digest.as_ref());
        State::Answer { answer: Some(answer) }
    }
}

/// The handler has succeeded and the money is ours. An answer that is to be kept for its `Idempotency-Key`
/// is kept before it counts as delivered, where its length is known: then a process that is killed in
/// between loses neither. What streams is kept while it leaves.
fn deliver<S, B, ResBody>(
    mut response: Response<ResBody>,
    end: End,
    mut delivery: Delivery,
    route: Arc<Route>,
) -> State<S, B, S::Future, S::Response>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>>,
    ResBody: Body,
{
    delivery.provider_call(response.extensions().get().copied());
    let bodyless = matches!(end, End::DeliveredWhole);
    if let Some(limit) = receipted::answered(&mut delivery, &response, &route) {
        if bodyless || response.body().size_hint().exact().is_some_and(|length| length <= limit) {
            let (whole, body) = Whole::new(response, bodyless);
            return State::Keep { body: Box::pin(body), whole: Some(whole), delivery: Some(delivery), route };
        }
        if let Some(sealing) = delivery.record().as_ref().map(|record| record.sign()) {
            return State::Announce { sealing, delivery: Some(delivery), answer: Some(response), end, route };
        }
    }
    if let Some(info) = delivery.info().cloned() {
        let (mut head, body) = response.into_parts();
        let settings = &route.merchant.settings;
        render::paid(&mut head.headers, &mut head.extensions, &info, settings, route.receipt_header, None);
        response = Response::from_parts(head, body);
    }
    answers::record(&mut delivery, &response);
    if delivery.keeper().is_some() && (bodyless || answers::is_of_known_length(&mut delivery, &response)) {
        let (whole, body) = Whole::new(response, bodyless);
        return State::Keep { body: Box::pin(body), whole: Some(whole), delivery: Some(delivery), route };
    }
    leave(response, end, delivery, route)
}

/// The head is what will leave: the journal records the delivery.
fn leave<S, B, R>(answer: R, end: End, delivery: Delivery, route: Arc<Route>) -> State<S, B, S::Future, R>
where
    S: Service<Request<RequestBody<B>>, Response = R>,
    R: Answer,
{
    let step = delivery.commit();
    State::Journal { step, delivery: Some(delivery), answer: Some(Leaving::Service(answer)), end, route }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<RequestBody<B>>>,
    S::Response: Answer,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture(..)")
    }
}
