//! What one paid route decides, apart from the types of any service.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{
    Method, Response,
    header::{AUTHORIZATION, CONTENT_LENGTH},
    request::Parts,
};
use http_body::Body;
use tracing::Instrument as _;

use super::{
    ReceiptHeader,
    answers::{self, Content},
    render,
};
use crate::{
    Merchant,
    flow::{
        self, Bound, Delivery, Detached, IdForm, InFlight, Inner, NotServed, OfferBook, Offers, Redemption, Refusal,
        RefusalKind, Requested, SettleTiming, Terms, Unbound, events,
    },
    pricing::{HeadQuote, Pricing, Quote},
    protocol::{
        ACCEPT_PAYMENT, AcceptPayment, AuthorizationError, ContentDigest, PaymentCredential, has_other_scheme,
        payment_credential, presented_credential,
    },
    trace,
};

type Predicate = dyn Fn(&Parts) -> bool + Send + Sync;

/// A merchant, a price and the options of a layer.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) merchant: Arc<Inner>,
    pub(super) pricing: Arc<dyn Pricing>,
    pub(super) book: Arc<OfferBook>,
    pub(super) free_when: Option<Arc<Predicate>>,
    pub(super) label: Option<Arc<str>>,
    pub(super) timing: SettleTiming,
    pub(super) redemption: Redemption,
    /// Self-contained where token credentials are taken.
    pub(super) ids: IdForm,
    pub(super) only_payments: bool,
    pub(super) bind_query: bool,
    pub(super) bind_body: bool,
    pub(super) body_limit: usize,
    pub(super) receipt_header: ReceiptHeader,
    /// `, description="..."`, or nothing.
    description: Arc<str>,
}

/// What the head of a request says about its price.
pub(super) enum Opening {
    /// Straight to the service.
    Free,
    /// It costs this, and there is nothing to wait for.
    Offers(Arc<Offers>),
    /// It costs this, and the body has to be buffered to bind it.
    Buffer(Arc<Offers>),
    /// The price has to be asked for, and the body has to be buffered before that.
    AskWithBody,
    /// The price has to be asked for, and nobody needs the body.
    Ask,
    /// Answered before any challenge.
    Refused(Refusal),
}

/// What becomes of a payment.
pub(super) type Gate = Detached<Result<Delivery, NotServed>>;

/// What is decided about a priced request.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once; a box would cost an allocation per 402")]
pub(super) enum Admission {
    /// Refused, or asked to pay.
    Answer(Response<Bytes>),
    /// A payment to be settled, or a question to be asked, detached from the connection.
    Gate(Gate),
}

impl Route {
    pub(super) fn new(merchant: Merchant, pricing: Arc<dyn Pricing>, book: Arc<OfferBook>) -> Self {
        Self {
            merchant: merchant.0,
            pricing,
            book,
            free_when: None,
            label: None,
            timing: SettleTiming::default(),
            redemption: Redemption::default(),
            ids: IdForm::default(),
            only_payments: false,
            bind_query: false,
            bind_body: true,
            body_limit: 1024 * 1024,
            receipt_header: ReceiptHeader::default(),
            description: "".into(),
        }
    }

    pub(super) fn describe(&mut self, description: &str) {
        self.description = flow::description_param(description).into();
    }

    /// Decides what can be decided from the head.
    pub(super) fn open(&self, head: &Parts, body: &impl Body) -> Opening {
        // Preflights carry no credential and must work, or no browser ever pays.
        if head.method == Method::OPTIONS || self.free_when.as_ref().is_some_and(|free| free(head)) {
            return Opening::Free;
        }
        let (offers, priced_by_body) = match self.book.fixed() {
            Some(offers) => (Some(Arc::clone(offers)), false),
            None => match self.pricing.quote_head(head) {
                HeadQuote::Quote(quote) => match self.quoted(quote, head) {
                    Ok(Some(offers)) => (Some(offers), false),
                    Ok(None) => return Opening::Free,
                    Err(refusal) => return Opening::Refused(refusal),
                },
                HeadQuote::NeedsBody => (None, true),
                HeadQuote::NeedsTime => (None, false),
            },
        };
        if self.merchant.settings.https.as_ref().is_some_and(|policy| !policy.allows(head)) {
            return Opening::Refused(Refusal::new(RefusalKind::InsecureTransport));
        }
        if self.only_payments && has_other_scheme(head.headers.get_all(AUTHORIZATION)) {
            return Opening::Refused(Refusal::new(RefusalKind::OtherScheme));
        }
        // A body is what the body says, not what a header says.
        let has_body = !body.is_end_stream();
        let buffer = has_body && (self.bind_body || priced_by_body);
        if buffer && declared_length(head, body) > self.body_limit as u64 {
            return Opening::Refused(Refusal::new(RefusalKind::BodyTooLarge));
        }
        match offers {
            Some(offers) if buffer => Opening::Buffer(offers),
            Some(offers) => Opening::Offers(offers),
            None if buffer => Opening::AskWithBody,
            None => Opening::Ask,
        }
    }

    /// The offers for a quote; `None` is free.
    pub(super) fn quoted(&self, quote: Quote, head: &Parts) -> Result<Option<Arc<Offers>>, Refusal> {
        let refusal = match quote {
            Quote::Free => return Ok(None),
            Quote::Refused(refused) => Refusal::not_priced(&refused),
            Quote::Charge(prices) => {
                let offers = self.book.quoted(&self.merchant, &prices);
                if !offers.list.is_empty() {
                    return Ok(Some(offers));
                }
                tracing::error!(target: trace::TARGET, ?prices, "no payment method can take this price");
                Refusal::new(RefusalKind::NoOffer)
            }
        };
        // What was sold yesterday may have been paid for yesterday.
        match self.presented(head) {
            Ok(Some(_)) => Ok(Some(Arc::new(Offers::refused(refusal)))),
            _ => Err(refusal),
        }
    }

    /// Looks for a credential and binds it to an offer; without one, asks for payment.
    pub(super) fn admit(
        &self,
        head: &Parts,
        offers: &Offers,
        digest: Option<&ContentDigest>,
        content: impl FnOnce() -> Content,
    ) -> Admission {
        let unless_refused = |refusal| offers.refused.clone().unwrap_or(refusal);
        // Before anybody pays for a request that would be refused.
        let key = match answers::key(&self.merchant, head) {
            Ok(key) => key,
            Err(refusal) => return Admission::Answer(self.refuse(unless_refused(refusal), head)),
        };
        let scope = flow::scope(head, self.label.as_deref(), self.bind_query);
        let refused = |kind| Err(unless_refused(Refusal::new(kind)));
        let bound = match self.presented(head) {
            Ok(None) => refused(RefusalKind::PaymentRequired),
            Ok(Some(presented)) => {
                let requested = self.requested(&scope, digest);
                match flow::bind(&self.merchant, offers, &requested, &presented, head.extensions.get()) {
                    Ok(mut bound) => {
                        answers::ask(&mut bound, key, head, &scope, content);
                        Ok(bound)
                    }
                    Err(refusal) => {
                        let unbound = match refusal.kind() {
                            RefusalKind::InvalidChallenge | RefusalKind::MethodUnsupported => {
                                Unbound::new(&self.merchant, offers, &requested, &presented, key)
                            }
                            _ => None,
                        };
                        match self.ask_about(unbound, unless_refused(refusal)) {
                            Ok(gate) => return Admission::Gate(gate),
                            Err(refusal) => Err(refusal),
                        }
                    }
                }
            }
            Err(AuthorizationError::Multiple) => refused(RefusalKind::MultipleCredentials),
            Err(_) => refused(RefusalKind::MalformedCredential),
        };
        match bound {
            Ok(bound) => match self.merchant.tasks.enter() {
                Some(in_flight) => Admission::Gate(self.gate(bound, scope, in_flight)),
                None => Admission::Answer(self.refuse(Refusal::new(RefusalKind::Unavailable), head)),
            },
            Err(refusal) => Admission::Answer(self.refuse_priced(refusal, head, offers, &scope, digest)),
        }
    }

    /// The credential of a request, in the forms that this route takes.
    fn presented<'h>(&self, head: &'h Parts) -> Result<Option<PaymentCredential<'h>>, AuthorizationError> {
        let values = head.headers.get_all(AUTHORIZATION);
        match self.ids {
            IdForm::Plain => payment_credential(values).map(|token| token.map(PaymentCredential::Token68)),
            IdForm::SelfContained => presented_credential(values),
        }
    }

    /// Takes the money, detached from the connection.
    fn gate(&self, bound: Bound, scope: String, in_flight: InFlight) -> Gate {
        let span = events::payment_span(&bound);
        let merchant = Arc::clone(&self.merchant);
        let settled = flow::settle(merchant, bound, scope, self.timing, self.redemption, in_flight);
        Detached::new(settled.instrument(span))
    }

    /// A credential that is not bound to this request: whether more is known of it than that.
    fn ask_about(&self, unbound: Option<Unbound>, refusal: Refusal) -> Result<Gate, Refusal> {
        let Some(unbound) = unbound else { return Err(refusal) };
        let Some(in_flight) = self.merchant.tasks.enter() else {
            // Not to look is not to know that no money has moved.
            return Err(if unbound.may_be_paid() { Refusal::new(RefusalKind::Unavailable) } else { refusal });
        };
        let merchant = Arc::clone(&self.merchant);
        Ok(Detached::new(async move {
            let _in_flight = in_flight;
            Err(unbound.refuse(merchant, refusal).await.into())
        }))
    }

    fn requested<'r>(&self, scope: &'r str, digest: Option<&'r ContentDigest>) -> Requested<'r> {
        let by_resource = self.book.fixed().is_some() || self.bind_body && self.pricing.is_by_resource();
        Requested { scope, digest, ids: self.ids, by_resource }
    }

    /// Answers a refusal that carries no challenge.
    pub(super) fn refuse(&self, refusal: Refusal, head: &Parts) -> Response<Bytes> {
        events::refused(&refusal);
        render::answer(refusal, render::headers(), None, head, &self.merchant.settings)
    }

    /// Answers a refusal of a priced request, with fresh challenges where it is certain that no money
    /// has moved.
    pub(super) fn refuse_priced(
        &self,
        refusal: Refusal,
        head: &Parts,
        offers: &Offers,
        scope: &str,
        digest: Option<&ContentDigest>,
    ) -> Response<Bytes> {
        if !refusal.has_challenge() || offers.refused.is_some() {
            return self.refuse(refusal.without_challenge(), head);
        }
        let accept = AcceptPayment::parse(head.headers.get_all(ACCEPT_PAYMENT));
        let terms = Terms {
            requested: self.requested(scope, digest),
            expires: self.merchant.now().truncated().saturating_add(self.merchant.settings.challenge_ttl),
            description: offers.description.as_deref().unwrap_or(&self.description),
            accept: accept.as_ref(),
        };
        let mut headers = render::headers();
        let Some(first) = flow::mint(offers, &terms, &mut headers) else {
            // A 402 without a challenge is a dead end.
            return self.refuse(Refusal::new(RefusalKind::NoOffer), head);
        };
        events::refused(&refusal);
        let refusal = if refusal.challenge_id().is_none() { refusal.of(first) } else { refusal };
        render::answer(refusal, headers, Some(offers), head, &self.merchant.settings)
    }
}

/// The length that the sender declares, or that the body is known to have at least.
pub(crate) fn declared_length(head: &Parts, body: &impl Body) -> u64 {
    let declared = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    body.size_hint().lower().max(declared)
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("realm", &self.merchant.realm)
            .field("label", &self.label)
            .field("timing", &self.timing)
            .field("redemption", &self.redemption)
            .field("ids", &self.ids)
            .field("only_payments", &self.only_payments)
            .field("bind_query", &self.bind_query)
            .field("bind_body", &self.bind_body)
            .field("body_limit", &self.body_limit)
            .finish_non_exhaustive()
    }
}
