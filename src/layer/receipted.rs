//! Answers with a signed receipt: its headers, and what a stream says at its end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::{
    Extensions, HeaderMap, HeaderValue, Response, Version,
    header::{ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LINK, TRAILER},
    request::Parts,
};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use serde::Serialize;

use super::{RequestBody, answers::Whole, render, route::Route};
use crate::{
    flow::{self, Delivery, Failure, Inner, Payload, PaymentInfo, Record, Watch, events},
    protocol::{
        ChallengeId, ContentDigest, PAYMENT_OUTCOME, PAYMENT_RECEIPT, PAYMENT_RECEIPT_DIGEST, PAYMENT_RECEIPT_KID,
        PAYMENT_RECEIPT_MPP, PAYMENT_RECEIPT_PROVISIONAL, Receipt, ReceiptError, Timestamp,
    },
    receipt::SignedReceipt,
};

/// What `Payment-Receipt` says on a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReceiptHeader {
    /// The receipt of the core draft. Where receipts are signed it has the members `receiptUrl`, `receiptDigest` and
    /// `receiptKid` too.
    #[default]
    Mpp,
    /// Where the signed receipt can be read, `{base_url}/r/{id}`. The receipt of the core draft then stands in
    /// `Payment-Receipt-Mpp`; where the signer fails, it stands in `Payment-Receipt` after all.
    Url,
    /// The bare reference of the rail: a transaction hash, a PaymentIntent id. One that cannot stand in a header gives
    /// way to the receipt of the core draft.
    Raw,
}

const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Payment-Receipt-Digest, Payment-Receipt-Kid, Payment-Receipt-Provisional, Payment-Receipt-Mpp, Link",
);
const TRAILERS: HeaderValue = HeaderValue::from_static("Payment-Receipt, Payment-Receipt-Digest, Payment-Receipt-Kid");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Begins the record of a request that is about to be served, where receipts are signed.
pub(super) fn begin<B: Body<Data = Bytes>>(
    route: &Route,
    head: &mut Parts,
    body: &mut RequestBody<B>,
    digest: Option<ContentDigest>,
    started_at: Option<Timestamp>,
) -> Option<Box<Record>> {
    let started_at = started_at?;
    let mut record = Record::begin(&route.merchant, started_at, &head.headers, |watch| body.watch(watch, digest))?;
    record.can_announce(head.version >= Version::HTTP_11);
    head.extensions.insert(record.attribution());
    Some(record)
}

/// The service has answered what can be delivered. Answers how long a body may be to be held back for its receipt,
/// or nothing where none is signed.
pub(super) fn answered<B>(delivery: &mut Delivery, response: &Response<B>, route: &Route) -> Option<u64> {
    let kept = delivery.keeper().as_ref().map_or(0, |keeper| keeper.limit());
    delivery.record().as_mut()?.answered(response.status(), response.extensions());
    Some(kept.max(route.merchant.settings.receipt_body_limit) as u64)
}

/// The service has failed: its receipt goes into the ledger, and the answer says where.
pub(super) fn failed<B>(delivery: &mut Delivery, response: &mut Response<B>) {
    let Some(mut record) = delivery.record().take() else { return };
    record.answered(response.status(), response.extensions());
    link(&record, response.headers_mut());
    record.failed(Failure::Answer, Payload::default());
}

/// The same where the body has broken off before any of it has left, and an answer of ours leaves.
pub(super) fn broke_off<B>(delivery: &mut Delivery, answer: &mut Response<B>) {
    let Some(mut record) = delivery.record().take() else { return };
    record.answered_instead(answer.status());
    link(&record, answer.headers_mut());
    record.failed(Failure::BrokeOff { left: false }, Payload::default());
}

fn link(record: &Record, headers: &mut HeaderMap) {
    strip(headers);
    if let Ok(value) = HeaderValue::try_from(format!("<{}>; rel=\"receipt\"", record.url())) {
        headers.append(LINK, value);
    }
}

/// What the service says about receipts is not ours.
fn strip(headers: &mut HeaderMap) {
    for name in [PAYMENT_RECEIPT_DIGEST, PAYMENT_RECEIPT_KID, PAYMENT_RECEIPT_MPP, PAYMENT_RECEIPT_PROVISIONAL] {
        headers.remove(name);
    }
}

/// Signs the receipt of an answer that is here as a whole, and puts it into its head.
pub(super) fn poll_whole(whole: &mut Whole, delivery: &mut Delivery, route: &Route, cx: &mut Context<'_>) -> Poll<()> {
    let info = delivery.info().cloned();
    let (Some(record), Some(info)) = (delivery.record(), info) else { return Poll::Ready(()) };
    if whole.sealing.is_none() {
        let mut watch = record.watch();
        watch.see(&whole.data);
        record.succeeded(watch.finish());
    }
    let sealing = whole.sealing.get_or_insert_with(|| record.sign());
    let sealed = ready!(sealing.poll(cx, &route.merchant.tasks));
    record.sealed(sealed);
    let head = &mut whole.head;
    announce(&mut head.headers, &mut head.extensions, &info, record, route);
    whole.trailers.iter_mut().for_each(strip_trailers);
    Poll::Ready(())
}

/// The head of an answer that streams: the receipt in it is provisional.
pub(super) fn announce_stream<B: Body>(response: &mut Response<B>, delivery: &mut Delivery, route: &Route) {
    let info = delivery.info().cloned();
    let (Some(record), Some(info)) = (delivery.record(), info) else { return };
    let trailers = has_trailers(record, response);
    let (mut headers, mut extensions) = (std::mem::take(response.headers_mut()), Extensions::new());
    std::mem::swap(&mut extensions, response.extensions_mut());
    announce(&mut headers, &mut extensions, &info, record, route);
    if record.signed().is_some() {
        headers.insert(PAYMENT_RECEIPT_PROVISIONAL, TRUE);
    }
    if trailers {
        headers.append(TRAILER, TRAILERS);
    }
    (*response.headers_mut(), *response.extensions_mut()) = (headers, extensions);
}

/// Whether the final receipt can follow the body. Not behind a length that is known, nor to a client that would take
/// it for a part of the body.
fn has_trailers<B: Body>(record: &Record, response: &Response<B>) -> bool {
    record.announces() && record.signed().is_some() && declared_length(response).is_none()
}

fn declared_length<B: Body>(response: &Response<B>) -> Option<u64> {
    let declared = response.headers().get(CONTENT_LENGTH);
    // One that cannot be read is the server's business; nothing of ours comes behind it.
    let declared = declared.map(|length| length.to_str().ok().and_then(|length| length.parse().ok()).unwrap_or(0));
    declared.or_else(|| response.body().size_hint().exact())
}

/// Adds the headers of a delivered answer.
fn announce(headers: &mut HeaderMap, extensions: &mut Extensions, info: &PaymentInfo, record: &Record, route: &Route) {
    strip(headers);
    let signed = record.signed().map(|signed| Signed { receipt: signed, url: record.url() });
    render::paid(headers, extensions, info, &route.merchant.settings, route.receipt_header, signed.as_ref());
    let Some(signed) = signed else { return };
    signed.name(headers);
    if route.receipt_header == ReceiptHeader::Url
        && let Ok(value) = mpp(info, Some(&signed))
    {
        headers.insert(PAYMENT_RECEIPT_MPP, value);
    }
    if route.merchant.settings.expose_headers {
        headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// A signed receipt, and where it can be read.
pub(super) struct Signed<'a> {
    receipt: &'a SignedReceipt,
    url: String,
}

impl Signed<'_> {
    fn name(&self, headers: &mut HeaderMap) {
        let digest = HeaderValue::try_from(self.receipt.digest().to_string());
        if let (Ok(digest), Ok(key)) = (digest, HeaderValue::try_from(self.receipt.key_id())) {
            headers.insert(PAYMENT_RECEIPT_DIGEST, digest);
            headers.insert(PAYMENT_RECEIPT_KID, key);
        }
    }
}

/// The value of `Payment-Receipt`.
pub(super) fn value(
    form: ReceiptHeader,
    info: &PaymentInfo,
    signed: Option<&Signed<'_>>,
) -> Result<HeaderValue, ReceiptError> {
    let short = match (form, signed) {
        (ReceiptHeader::Url, Some(signed)) => HeaderValue::try_from(&signed.url).ok(),
        (ReceiptHeader::Raw, _) => HeaderValue::from_str(info.reference()).ok().map(|mut value| {
            value.set_sensitive(true);
            value
        }),
        _ => None,
    };
    short.filter(|value| !value.is_empty()).map_or_else(|| mpp(info, signed), Ok)
}

/// The receipt of the core draft.
fn mpp(info: &PaymentInfo, signed: Option<&Signed<'_>>) -> Result<HeaderValue, ReceiptError> {
    let settlement = info.settlement();
    let mut id = [0; ChallengeId::TEXT_LEN];
    let challenge_id = info.challenge_id();
    let id = challenge_id.encode(&mut id);
    let mut with_members = None;
    if let Some(Signed { receipt, url }) = signed {
        let members: &mut serde_json::Map<_, _> = with_members.insert(settlement.receipt.clone());
        members.insert("receiptUrl".to_owned(), url.as_str().into());
        members.insert("receiptDigest".to_owned(), receipt.digest().to_string().into());
        members.insert("receiptKid".to_owned(), receipt.key_id().into());
    }
    let extra = with_members.as_ref().unwrap_or(&settlement.receipt);
    Receipt::encode_parts(info.method(), settlement.settled_at, &settlement.reference, Some(id), extra)
}

/// What is known of a stream that is on its way out.
pub(super) struct Seal {
    merchant: Arc<Inner>,
    form: ReceiptHeader,
    info: PaymentInfo,
    /// Taken when it is known how the stream ended.
    record: Option<Box<Record>>,
    watch: Watch,
    declared: Option<u64>,
    /// The final receipt follows the body.
    announced: bool,
    /// It follows as an event too.
    events: Option<Boundary>,
    trailers: Option<HeaderMap>,
    /// All of the body has left.
    whole: bool,
    stage: Stage,
}

enum Stage {
    Open,
    // In a lock that nobody takes: a body can be shared between threads, and a future cannot.
    Signing(Mutex<flow::Closing>, String),
    Trailers,
    Ended,
}

/// The last event of a stream. Clients of streams that know no such event pass it over.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Closing<'a> {
    /// Of the event, for clients that look for it in its data, as those of Anthropic do.
    r#type: &'static str,
    receipt_url: &'a str,
    receipt_digest: String,
    receipt_kid: &'a str,
    status: &'a str,
}

impl Seal {
    /// The head of a stream is about to leave.
    pub(super) fn new<B: Body>(delivery: &mut Delivery, response: &Response<B>, route: &Route) -> Option<Box<Self>> {
        let info = delivery.info().cloned()?;
        let record = delivery.record().take()?;
        let announced = has_trailers(&record, response);
        Some(Box::new(Self {
            merchant: Arc::clone(&route.merchant),
            form: route.receipt_header,
            info,
            watch: record.watch(),
            record: Some(record),
            declared: declared_length(response),
            announced,
            events: (announced && has_events(response.headers())).then(Boundary::default),
            trailers: None,
            whole: false,
            stage: Stage::Open,
        }))
    }

    fn see(&mut self, data: &[u8]) {
        self.watch.see(data);
        if let Some(boundary) = &mut self.events {
            boundary.see(data);
        }
    }

    /// More of the body has left; `ended` where it says that this was all.
    fn passed(&mut self, ended: bool) {
        self.whole = ended || self.declared.is_some_and(|declared| self.watch.length() >= declared);
        if self.whole && !self.announced {
            self.close_later();
        }
    }

    fn close_later(&mut self) {
        if let Some(record) = self.record.take() {
            record.close_later(self.watch.clone().finish());
        }
    }

    fn failed(&mut self, failure: impl FnOnce(bool) -> Failure) {
        self.stage = Stage::Ended;
        if let Some(record) = self.record.take() {
            record.failed(failure(self.watch.length() > 0), self.watch.clone().finish());
        }
    }

    /// The body has ended.
    fn close(&mut self) {
        if self.declared.is_some_and(|declared| self.watch.length() < declared) {
            return self.failed(|left| Failure::BrokeOff { left });
        }
        self.whole = true;
        self.stage = match self.record.take() {
            Some(record) if self.announced => {
                let url = record.url();
                Stage::Signing(Mutex::new(record.close(self.watch.clone().finish())), url)
            }
            record => {
                self.record = record;
                self.close_later();
                Stage::Trailers
            }
        };
    }

    /// The final receipt is here: the trailers have it, and so has the event, where there is one.
    fn signed(&mut self, signed: &SignedReceipt, url: String, status: &str) -> Option<Bytes> {
        let signed = Signed { receipt: signed, url };
        let trailers = self.trailers.get_or_insert_default();
        if let Ok(value) = value(self.form, &self.info, Some(&signed)) {
            trailers.insert(PAYMENT_RECEIPT, value);
        }
        signed.name(trailers);
        if !self.events.as_ref()?.is_between_events() {
            return None;
        }
        let closing = Closing {
            r#type: "payment-receipt",
            receipt_url: &signed.url,
            receipt_digest: signed.receipt.digest().to_string(),
            receipt_kid: signed.receipt.key_id(),
            status,
        };
        let data = serde_json::to_string(&closing).ok()?;
        Some(format!("event: payment-receipt\ndata: {data}\n\n").into())
    }
}

impl Drop for Seal {
    fn drop(&mut self) {
        match self.whole {
            true => self.close_later(),
            false => self.failed(|left| Failure::Hangup { left }),
        }
    }
}

/// What the service says about payments in its trailers is not ours.
fn strip_trailers(trailers: &mut HeaderMap) {
    strip(trailers);
    trailers.remove(PAYMENT_RECEIPT);
    trailers.remove(PAYMENT_OUTCOME);
}

fn has_events(headers: &HeaderMap) -> bool {
    let is = |value: Option<&HeaderValue>, name: &str| {
        let text = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
        text.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(name)
    };
    let encoding = headers.get(CONTENT_ENCODING);
    is(headers.get(CONTENT_TYPE), "text/event-stream") && (encoding.is_none() || is(encoding, "identity"))
}

/// Whether a stream of events is between two of them: behind an empty line. Lines end with LF, CRLF or CR.
struct Boundary {
    last: [u8; 3],
}

impl Default for Boundary {
    /// Nothing stands before the first event.
    fn default() -> Self {
        Self { last: *b"\n\n\n" }
    }
}

impl Boundary {
    fn see(&mut self, data: &[u8]) {
        for byte in data.get(data.len().saturating_sub(3)..).unwrap_or_default() {
            let [_, second, third] = self.last;
            self.last = [second, third, *byte];
        }
    }

    fn is_between_events(&self) -> bool {
        let ends_line = |byte| matches!(byte, b'\n' | b'\r');
        match self.last {
            [before, b'\r', b'\n'] => ends_line(before),
            [_, before, last] => ends_line(before) && ends_line(last),
        }
    }
}

pin_project! {
    /// A body that streams, with its receipt behind it. Its own frames pass as they are.
    pub(super) struct Receipted<B> {
        #[pin]
        body: B,
        seal: Box<Seal>,
    }
}

impl<B> Receipted<B> {
    pub(super) fn new(body: B, seal: Box<Seal>) -> Self {
        Self { body, seal }
    }
}

impl<B> Body for Receipted<B>
where
    B: Body,
    B::Data: From<Bytes>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let seal = &mut **this.seal;
        loop {
            match &mut seal.stage {
                Stage::Ended => return Poll::Ready(None),
                Stage::Trailers => {
                    seal.stage = Stage::Ended;
                    return Poll::Ready(seal.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Stage::Signing(work, url) => {
                    let signed = ready!(work.get_mut().poll(cx, &seal.merchant.tasks));
                    if signed.is_none() {
                        events::receipt_failed("sign", &flow::PANICKED);
                    }
                    let url = std::mem::take(url);
                    seal.stage = Stage::Trailers;
                    if let Some((signed, status)) = signed.flatten()
                        && let Some(event) = seal.signed(&signed, url, &status)
                    {
                        return Poll::Ready(Some(Ok(Frame::data(event.into()))));
                    }
                }
                Stage::Open if seal.announced && this.body.is_end_stream() => seal.close(),
                Stage::Open => match ready!(this.body.as_mut().poll_frame(cx)) {
                    None => seal.close(),
                    Some(Err(error)) => {
                        seal.failed(|left| Failure::BrokeOff { left });
                        return Poll::Ready(Some(Err(error)));
                    }
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(mut data) => {
                            if data.chunk().len() == data.remaining() {
                                seal.see(data.chunk());
                            } else {
                                let bytes = data.copy_to_bytes(data.remaining());
                                seal.see(&bytes);
                                data = bytes.into();
                            }
                            seal.passed(this.body.is_end_stream());
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                        Err(frame) => match frame.into_trailers() {
                            Ok(mut trailers) => {
                                strip_trailers(&mut trailers);
                                seal.trailers = Some(trailers);
                                seal.close();
                            }
                            // A kind of frame that we do not know.
                            Err(frame) => return Poll::Ready(Some(Ok(frame))),
                        },
                    },
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.seal.stage {
            Stage::Open => !self.seal.announced && self.body.is_end_stream(),
            Stage::Signing(..) => false,
            Stage::Trailers => self.seal.trailers.is_none(),
            Stage::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.seal.stage {
            Stage::Open if !self.seal.announced => self.body.size_hint(),
            Stage::Open => {
                let mut hint = SizeHint::new();
                hint.set_lower(self.body.size_hint().lower());
                hint
            }
            Stage::Signing(..) => SizeHint::new(),
            Stage::Trailers | Stage::Ended => SizeHint::with_exact(0),
        }
    }
}
