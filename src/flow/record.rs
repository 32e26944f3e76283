//! The signed receipt of one request, while it is being made: what the merchant has seen, and what the service says.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use super::{
    Inner, PaymentInfo, Refusal, events,
    filing::{Filing, Sealed},
    payload::{Payload, Watch},
    tasks::Detached,
};
#[cfg(feature = "encrypted-capture")]
use crate::receipt::ENCRYPTION_ALG;
use crate::{
    protocol::{ChallengeId, IDEMPOTENCY_KEY, ReceiptId, Timestamp},
    receipt::{Attribution, PaidWith, PayloadCapture, ReceiptBody, ReceiptType, Receipts, SignedReceipt},
};

/// The longest id of a request that is written down.
const MAX_ID_BYTES: usize = 255;

/// How much of a request and its answer is kept for their owner: what is longer than 4 MiB in all is not signed.
#[cfg(feature = "encrypted-capture")]
const MAX_BLOB_BYTES: usize = 3 * 1024 * 1024;

/// What a receipt will say about one request, as far as it is known.
pub(crate) struct Record {
    merchant: Arc<Inner>,
    filing: Filing,
    id: ReceiptId,
    parent: Option<ReceiptId>,
    /// The payment was settled by an earlier request, whose receipt has yet to be looked for.
    look_for: Option<ChallengeId>,
    started_at: Timestamp,
    client_request_id: Option<String>,
    request_id: String,
    idempotency_key: Option<String>,
    request: Seen,
    /// What the service fills in, up to the end of its answer.
    attribution: Attribution,
    /// What it has put into the extensions of its answer.
    answered: Vec<Said>,
    payment: Option<PaidWith>,
    /// Where whoever gives the money back finds who may see this.
    info: Option<PaymentInfo>,
    http_status: Option<StatusCode>,
    ended_at: Option<Timestamp>,
    end: End,
    response: Payload,
    signed: Option<(SignedReceipt, bool)>,
    /// It is in the ledger, or on its way there. Shared with the step of the journal that it waits for.
    filed: Arc<AtomicBool>,
    /// The journal did not say that the answer is delivered.
    silent: bool,
    /// The payment has so many receipts that this request has none.
    enough: bool,
    /// The client can be told of the final receipt behind a body.
    announces: bool,
}

/// The body of a request: known, or being read by the service.
pub(crate) enum Seen {
    Whole(Payload),
    Read(Arc<Mutex<Option<Payload>>>),
}

/// The final receipt of a stream, on its way.
pub(crate) type Closing = Detached<Option<(SignedReceipt, String)>>;

/// What there is to say of a task that has ended without a result.
pub(crate) const PANICKED: &str = "the signer panicked";

enum Said {
    Now(Box<ReceiptBody>),
    UpToTheEnd(Attribution),
}

/// How the request ended.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Open,
    Succeeded,
    Failed(Failure),
}

/// How an answer failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Failure {
    /// The service says so.
    Answer,
    /// The service said nothing, or nobody waited for it.
    NoAnswer,
    /// The body broke off. Something of it has left, or nothing.
    BrokeOff { left: bool },
    /// Nobody read it to its end.
    Hangup { left: bool },
    /// The money could not be taken.
    Refused(&'static str),
}

impl Failure {
    fn status(self) -> &'static str {
        match self {
            Self::BrokeOff { left: true } | Self::Hangup { left: true } => "partial",
            _ => "failed",
        }
    }

    /// For receipts whose service does not say what went wrong.
    fn class(self) -> Option<&'static str> {
        match self {
            Self::Answer => None,
            Self::NoAnswer => Some("no_answer"),
            Self::BrokeOff { .. } => Some("answer_broke_off"),
            Self::Hangup { .. } => Some("client_gone"),
            Self::Refused(_) => Some("payment_refused"),
        }
    }
}

impl Record {
    /// Begins, where the merchant signs receipts. `request` is asked for what is known of its body.
    pub(crate) fn begin(
        merchant: &Arc<Inner>,
        started_at: Timestamp,
        headers: &HeaderMap,
        request: impl FnOnce(Watch) -> Seen,
    ) -> Option<Box<Self>> {
        let receipts = merchant.receipts.as_ref()?;
        let attribution = Attribution::new();
        // Otherwise it could not be told whether a service wants its receipt private or says nothing of it.
        attribution.update(|body| body.visibility = receipts.visibility());
        Some(Box::new(Self {
            merchant: Arc::clone(merchant),
            filing: Filing::new(receipts, &merchant.settings),
            id: ReceiptId::random(),
            parent: None,
            look_for: None,
            started_at,
            client_request_id: text(headers, "x-client-request-id"),
            request_id: text(headers, "x-request-id").unwrap_or_else(|| format!("req_{:032x}", rand::random::<u128>())),
            idempotency_key: text(headers, IDEMPOTENCY_KEY.as_str()),
            request: request(Watch::new(receipts, merchant.settings.receipt_body_limit)),
            attribution,
            answered: Vec::new(),
            payment: None,
            info: None,
            http_status: None,
            ended_at: None,
            end: End::Open,
            response: Payload::default(),
            signed: None,
            filed: Arc::default(),
            silent: false,
            enough: false,
            announces: false,
        }))
    }

    pub(crate) fn attribution(&self) -> Attribution {
        self.attribution.clone()
    }

    pub(crate) fn url(&self) -> String {
        self.filing.receipts.url(self.id)
    }

    /// Whether the client can be told of the final receipt behind a body that streams.
    pub(crate) fn can_announce(&mut self, can: bool) {
        self.announces = can;
    }

    pub(crate) fn announces(&self) -> bool {
        self.announces
    }

    /// The receipt that was signed last.
    pub(crate) fn signed(&self) -> Option<&SignedReceipt> {
        self.signed.as_ref().map(|(signed, _)| signed)
    }

    /// Sees an answer with as much of it as is wanted.
    pub(crate) fn watch(&self) -> Watch {
        Watch::new(&self.filing.receipts, self.merchant.settings.receipt_body_limit)
    }

    /// The money has yet to be taken. Until then there is one receipt of all that fails.
    pub(super) fn unpaid(&mut self, payment: ChallengeId) {
        self.id = ReceiptId::of_uncharged(payment);
    }

    /// The money has moved.
    pub(super) fn paid(&mut self, info: &PaymentInfo) {
        self.id = ReceiptId::random();
        info.name_receipt(self.id);
        self.info = Some(info.clone());
        self.look_for = info.is_redelivery().then(|| info.challenge_id());
        self.payment = Some(PaidWith {
            method: info.method().clone(),
            intent: info.intent().clone(),
            amount: info.amount(),
            currency: info.currency().clone(),
            reference: Some(info.reference().to_owned()),
            challenge_id: Some(info.challenge_id()),
        });
    }

    /// The service has answered.
    pub(crate) fn answered(&mut self, status: StatusCode, extensions: &http::Extensions) {
        self.http_status = Some(status);
        self.answered.clear();
        self.answered.extend(extensions.get::<ReceiptBody>().cloned().map(|body| Said::Now(Box::new(body))));
        self.answered.extend(extensions.get::<Attribution>().cloned().map(Said::UpToTheEnd));
    }

    /// Something else than the answer of the service leaves.
    pub(crate) fn answered_instead(&mut self, status: StatusCode) {
        self.http_status = Some(status);
    }

    /// The answer is whole.
    pub(crate) fn succeeded(&mut self, response: Payload) {
        self.ended(End::Succeeded, response);
    }

    fn ended(&mut self, end: End, response: Payload) {
        self.ended_at = Some(self.merchant.now());
        (self.end, self.response) = (end, response);
    }

    /// Signs what is known now, within a time.
    pub(crate) fn sign(&self) -> Detached<Sealed> {
        Detached::new(self.filing.clone().seal(self.body(), self.end == End::Open, self.look_for))
    }

    /// What came of signing. What could not be signed before the answer left is signed as soon as it can be.
    pub(crate) fn sealed(&mut self, sealed: Option<Sealed>) {
        if sealed.is_none() {
            events::receipt_failed("sign", &PANICKED);
        }
        let Sealed { parent, signed, enough } = sealed.unwrap_or_default();
        self.enough |= enough;
        if parent.is_some() {
            (self.parent, self.look_for) = (parent, None);
        }
        self.signed = signed.map(|signed| (signed, self.end == End::Open));
    }

    /// What is to be done once the journal says that the answer is delivered.
    pub(super) fn once_delivered(&self) -> impl Future<Output = ()> + Send + use<> {
        let (filing, merchant, filed) = (self.filing.clone(), Arc::clone(&self.merchant), Arc::clone(&self.filed));
        let provisional = self.end == End::Open;
        let signed = self.signed.as_ref().map(|(signed, _)| signed.row().clone());
        let unsigned =
            (signed.is_none() && !provisional && !self.enough).then(|| (Box::new(self.body()), self.look_for));
        async move {
            match (signed, unsigned) {
                (Some(signed), _) if provisional => filing.append_later(&merchant.tasks, signed),
                (Some(signed), _) => {
                    filed.store(true, Ordering::Release);
                    filing.append_soon(&merchant.tasks, signed).await;
                }
                (None, Some((body, look_for))) => {
                    filed.store(true, Ordering::Release);
                    filing.issue_later(&merchant.tasks, *body, look_for);
                }
                (None, None) => {}
            }
        }
    }

    /// The journal failed: the answer does not leave, and nothing is said about it.
    pub(crate) fn keep_silent(&mut self) {
        self.silent = true;
    }

    /// The answer was kept although the journal has not heard of it yet: it can be had, so its receipt can be.
    pub(super) fn file_kept(self: Box<Self>) {
        if self.filed.load(Ordering::Acquire) {
            return;
        }
        match &self.signed {
            Some((signed, false)) => self.filing.append_later(&self.merchant.tasks, signed.row().clone()),
            // It left without one.
            None if self.end == End::Succeeded => self.issue(),
            _ => {}
        }
    }

    /// A stream has ended well: signs its final receipt and adds it to the ledger, whoever waits for it. Answers it
    /// with its status.
    pub(crate) fn close(mut self: Box<Self>, response: Payload) -> Closing {
        self.succeeded(response);
        if self.enough {
            return Detached::new(std::future::ready(None));
        }
        let Self { merchant, filing, look_for, .. } = &*self;
        let (merchant, filing, look_for, body) = (Arc::clone(merchant), filing.clone(), *look_for, self.body());
        Detached::new(async move {
            let (again, status) = (body.clone(), body.status.clone().unwrap_or_default());
            match filing.clone().seal(body, false, look_for).await.signed {
                // Who is told of it will look for it at once.
                Some(signed) => {
                    filing.append_soon(&merchant.tasks, signed.row().clone()).await;
                    Some((signed, status))
                }
                None => {
                    filing.issue_later(&merchant.tasks, again, look_for);
                    None
                }
            }
        })
    }

    /// The same where nobody can wait for it.
    pub(crate) fn close_later(mut self: Box<Self>, response: Payload) {
        self.succeeded(response);
        self.issue();
    }

    /// The request has failed. Its receipt is signed and added to the ledger in a task.
    pub(crate) fn failed(mut self: Box<Self>, failure: Failure, response: Payload) {
        if self.silent {
            return;
        }
        if self.filed.load(Ordering::Acquire) {
            // Nothing in the ledger changes: what is said there is corrected by another receipt.
            (self.parent, self.look_for, self.id) = (Some(self.id), None, ReceiptId::random());
        }
        self.ended(End::Failed(failure), response);
        let body = self.body();
        self.info.iter().for_each(|info| info.failed_seen_by(body.visibility));
        if !self.enough {
            self.filing.issue_later(&self.merchant.tasks, body, self.look_for);
        }
    }

    /// The money could not be taken: a refusal leaves instead of the answer.
    pub(super) fn refused(mut self: Box<Self>, refusal: &Refusal) {
        self.http_status = Some(refusal.status());
        self.failed(Failure::Refused(refusal.kind().as_str()), Payload::default());
    }

    /// Nothing of the answer has left, if there was one.
    pub(super) fn lost(self: Box<Self>) {
        let failure = if self.http_status.is_some() { Failure::Hangup { left: false } } else { Failure::NoAnswer };
        self.failed(failure, Payload::default());
    }

    fn issue(self: Box<Self>) {
        if self.enough {
            return;
        }
        self.filing.clone().issue_later(&self.merchant.tasks, self.body(), self.look_for);
    }

    /// What the receipt says. The merchant's own knowledge stands over what the service says.
    fn body(&self) -> ReceiptBody {
        let receipts = &self.filing.receipts;
        let mut body = self.answered.iter().fold(self.attribution.body(), |body, said| match said {
            Said::Now(said) => over(receipts, body, (**said).clone()),
            Said::UpToTheEnd(said) => over(receipts, body, said.body()),
        });
        body.visibility = receipts.narrower(body.visibility, receipts.visibility());
        match self.end {
            End::Open => body.status = Some("in_progress".to_owned()),
            End::Succeeded => body.status = body.status.or_else(|| Some("succeeded".to_owned())),
            // A policy behind the layer that refuses knows better what it was.
            End::Failed(Failure::Answer) if body.receipt_type == Some(ReceiptType::Blocked) => {
                body.status = Some("blocked".to_owned());
            }
            End::Failed(failure) => {
                body.receipt_type = Some(ReceiptType::Failed);
                body.status = Some(failure.status().to_owned());
                body.error_class = body.error_class.or_else(|| failure.class().map(str::to_owned));
                if let Failure::Refused(code) = failure {
                    body.error_code = Some(code.to_owned());
                }
            }
        }
        body.receipt_id = Some(self.id);
        body.parent_receipt_id = self.parent.or(body.parent_receipt_id);
        body.request_id = Some(self.request_id.clone());
        body.client_request_id.clone_from(&self.client_request_id);
        body.idempotency_key.clone_from(&self.idempotency_key);
        body.http_status = self.http_status.map(|status| status.as_u16());
        body.settlement_protocol = Some("mpp".to_owned());
        body.payment.clone_from(&self.payment);
        body.request_started_at = Some(self.started_at);
        body.request_ended_at = self.ended_at;
        // These are made when it is signed.
        (body.created_at, body.redaction_policy, body.public_receipt_hash) = (None, None, None);
        body.payload_capture = Some(self.filing.receipts.capture());
        let request = self.request.payload();
        let hashed = self.filing.receipts.capture() != PayloadCapture::None;
        body.client_request_hash = request.hash().filter(|_| hashed);
        body.client_response_hash = self.response.hash().filter(|_| hashed);
        (body.encrypted_request_blob, body.encrypted_response_blob) = (None, None);
        (body.encryption_alg, body.encryption_pubkey_fingerprint) = (None, None);
        self.encrypt(&mut body, &request);
        if let Some(member) = body.without_unsafe_numbers() {
            events::receipt_cut(self.id, member);
        }
        body
    }

    /// Encrypts what was said and answered, for its owner. A provisional receipt has nothing of it yet.
    #[cfg(feature = "encrypted-capture")]
    fn encrypt(&self, body: &mut ReceiptBody, request: &Payload) {
        let Some(recipient) = self.filing.receipts.recipient() else { return };
        if self.end != End::Open {
            body.encrypted_request_blob = request.sealed(recipient);
            body.encrypted_response_blob = self.response.sealed(recipient);
        }
        let blobs = [&body.encrypted_request_blob, &body.encrypted_response_blob];
        if blobs.into_iter().flatten().map(String::len).sum::<usize>() > MAX_BLOB_BYTES {
            events::receipt_cut(self.id, "encrypted_request_blob, encrypted_response_blob");
            (body.encrypted_request_blob, body.encrypted_response_blob) = (None, None);
        }
        if body.encrypted_request_blob.is_some() || body.encrypted_response_blob.is_some() {
            body.encryption_alg = Some(ENCRYPTION_ALG.to_owned());
            body.encryption_pubkey_fingerprint = Some(recipient.fingerprint().to_owned());
        } else {
            // Too large, or not there: of those there are hashes.
            body.payload_capture = Some(PayloadCapture::HashOnly);
        }
    }

    #[cfg(not(feature = "encrypted-capture"))]
    #[allow(clippy::unused_self, reason = "nothing is encrypted without the feature")]
    fn encrypt(&self, _: &mut ReceiptBody, _: &Payload) {}
}

impl Seen {
    fn payload(&self) -> Payload {
        match self {
            Self::Whole(payload) => payload.clone(),
            Self::Read(read) => read.lock().clone().unwrap_or_default(),
        }
    }
}

/// A header as text, where it is one that is fit to be written down.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty() && value.len() <= MAX_ID_BYTES).then(|| value.to_owned())
}

macro_rules! over {
    ($receipts:ident, $under:ident, $over:ident: $($member:ident)*) => {
        ReceiptBody {
            module_chain: match $over.module_chain.is_empty() {
                true => mem::take(&mut $under.module_chain),
                false => $over.module_chain,
            },
            visibility: $receipts.narrower($under.visibility, $over.visibility),
            $($member: $over.$member.or($under.$member),)*
        }
    };
}

/// What is said later stands over what was said before, member by member.
fn over(receipts: &Receipts, mut under: ReceiptBody, over: ReceiptBody) -> ReceiptBody {
    over!(receipts, under, over:
        receipt_id request_id parent_receipt_id client_request_id idempotency_key agent_id tenant_id project_id
        customer_id environment api_key_id user_id provider upstream_provider model_id region aws_account_id
        iam_principal receipt_type status http_status provider_status error_class error_code error_message_hash
        input_tokens output_tokens cache_read_tokens cache_write_tokens tokens_source cost_source cost_estimated_usd
        cost_estimate_confidence cost_final_usd cost_currency pricing_table_id pricing_version pricing_effective_at
        routing_decision policy_decision cache_status settlement_protocol client_request_hash provider_request_hash
        provider_response_hash client_response_hash payload_capture encrypted_request_blob encrypted_response_blob
        encryption_alg encryption_pubkey_fingerprint redaction_policy public_receipt_hash request_started_at
        request_ended_at created_at payment agent_handle)
}
