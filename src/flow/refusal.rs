//! Why a request was not served: one type for the answer on the wire, for outer layers and for events.

use std::{borrow::Cow, fmt, time::Duration};

use http::StatusCode;

use super::PaymentOutcome;
use crate::{pricing::Refused, protocol::ChallengeId};

/// Why the payment layer answered a request itself. It stands in the extensions of that answer, so
/// that outer layers can log or count it.
///
/// ```
/// # use tower_mpp::Refusal;
/// # fn log<B>(response: &http::Response<B>) {
/// if let Some(refusal) = response.extensions().get::<Refusal>() {
///     println!("not served: {:?}", refusal.kind());
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    kind: RefusalKind,
    status: StatusCode,
    detail: Cow<'static, str>,
    challenge_id: Option<ChallengeId>,
    retry_after: Option<Duration>,
    outcome: Option<PaymentOutcome>,
}

/// The kinds of refusal: the rows of the table of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// 402: no credential.
    PaymentRequired,
    /// 402: the credential cannot be read.
    MalformedCredential,
    /// 402: forged, or issued for another route, price or body.
    InvalidChallenge,
    /// 402: right in every respect, but expired.
    PaymentExpired,
    /// 402: the rail says no, and no money moved.
    VerificationFailed,
    /// 402: the payer has too little.
    PaymentInsufficient,
    /// 400: the credential is for a method that is not offered here.
    MethodUnsupported,
    /// 400: more than one Payment credential.
    MultipleCredentials,
    /// 409: the same credential, or the same proof, is at work.
    InFlight,
    /// 403: delivered or refunded before.
    AlreadyUsed,
    /// 403: the proof has paid another challenge, or another proof has paid this one.
    ProofUsed,
    /// 400: the `Idempotency-Key` is empty, too long, not visible ASCII, or there are two.
    IdempotencyKeyInvalid,
    /// 422: the `Idempotency-Key` came with the same credential for another request.
    IdempotencyKeyReused,
    /// 503: nobody knows yet whether money moved.
    OutcomeUnknown,
    /// 503: the journal or a rail is down, or there is too much at work. Nothing was charged now.
    Unavailable,
    /// 413: the body is larger than what may be buffered.
    BodyTooLarge,
    /// 408: the body did not arrive in time.
    BodyTimeout,
    /// 400: the body broke off.
    BodyUnreadable,
    /// 4xx: the request cannot be priced.
    NotPriced,
    /// 403: payments are taken over HTTPS only.
    InsecureTransport,
    /// 403: payments are not taken here yet, see [`Redemption`](crate::Redemption). Nothing was charged.
    PrivatePreview,
    /// 403: the route takes payments alone, and the request carries a credential of another scheme. Nothing was
    /// charged.
    OtherScheme,
    /// 500: the price of this request can be paid on no rail.
    NoOffer,
}

impl RefusalKind {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::PaymentRequired
            | Self::MalformedCredential
            | Self::InvalidChallenge
            | Self::PaymentExpired
            | Self::VerificationFailed
            | Self::PaymentInsufficient => StatusCode::PAYMENT_REQUIRED,
            Self::MethodUnsupported
            | Self::MultipleCredentials
            | Self::BodyUnreadable
            | Self::NotPriced
            | Self::IdempotencyKeyInvalid => StatusCode::BAD_REQUEST,
            Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InFlight => StatusCode::CONFLICT,
            Self::AlreadyUsed
            | Self::ProofUsed
            | Self::InsecureTransport
            | Self::PrivatePreview
            | Self::OtherScheme => StatusCode::FORBIDDEN,
            Self::OutcomeUnknown | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NoOffer => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The name in events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PaymentRequired => "payment_required",
            Self::MalformedCredential => "malformed_credential",
            Self::InvalidChallenge => "invalid_challenge",
            Self::PaymentExpired => "payment_expired",
            Self::VerificationFailed => "verification_failed",
            Self::PaymentInsufficient => "payment_insufficient",
            Self::MethodUnsupported => "method_unsupported",
            Self::MultipleCredentials => "multiple_credentials",
            Self::InFlight => "in_flight",
            Self::AlreadyUsed => "already_used",
            Self::ProofUsed => "proof_used",
            Self::IdempotencyKeyInvalid => "idempotency_key_invalid",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Unavailable => "unavailable",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BodyUnreadable => "body_unreadable",
            Self::NotPriced => "not_priced",
            Self::InsecureTransport => "insecure_transport",
            Self::PrivatePreview => "private_preview",
            Self::OtherScheme => "other_scheme",
            Self::NoOffer => "no_offer",
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Self::PaymentRequired => "Payment is required for this resource.",
            Self::MalformedCredential => "The payment credential cannot be read.",
            Self::InvalidChallenge => "The credential does not answer a challenge that was issued for this request.",
            Self::PaymentExpired => "The challenge has expired. Nothing was charged.",
            Self::VerificationFailed => "The payment could not be verified. Nothing was charged.",
            Self::PaymentInsufficient => "The payment does not cover the price. Nothing was charged.",
            Self::MethodUnsupported => "This payment method is not offered for this resource.",
            Self::MultipleCredentials => "The request carries more than one Payment credential.",
            Self::InFlight => "This payment is being processed. Repeat the request with the same credential.",
            Self::AlreadyUsed => {
                "This credential was used before. Do not pay again unless you want the resource again: ask without a credential for a new challenge."
            }
            Self::ProofUsed => {
                "This payment proof was used before, or another one has paid this challenge. Nothing was charged now."
            }
            Self::IdempotencyKeyInvalid => "The Idempotency-Key cannot be used. Nothing was charged.",
            Self::IdempotencyKeyReused => {
                "The Idempotency-Key was used before with this credential for another request. Nothing was charged now."
            }
            Self::OutcomeUnknown => {
                "The outcome of the payment is not known yet. Repeat the request with the same credential; it is not charged twice."
            }
            Self::Unavailable => "Payments cannot be processed at the moment. Nothing was charged now.",
            Self::BodyTooLarge => "The request body is larger than what can be bound to a payment.",
            Self::BodyTimeout => "The request body did not arrive in time.",
            Self::BodyUnreadable => "The request body broke off.",
            Self::NotPriced => "The request cannot be priced.",
            Self::InsecureTransport => "Payments are taken over HTTPS only.",
            Self::PrivatePreview => "This is a private preview: payments are not taken yet. Nothing was charged.",
            Self::OtherScheme => {
                "This resource takes payments and no API keys. Nothing was charged. Ask without any other Authorization for a challenge."
            }
            Self::NoOffer => "The price of this resource cannot be paid with any configured method.",
        }
    }
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind) -> Self {
        Self {
            kind,
            status: kind.status(),
            detail: Cow::Borrowed(kind.detail()),
            challenge_id: None,
            retry_after: match kind {
                RefusalKind::InFlight => Some(Duration::from_secs(1)),
                RefusalKind::OutcomeUnknown | RefusalKind::Unavailable => Some(Duration::from_secs(5)),
                _ => None,
            },
            outcome: None,
        }
    }

    pub(crate) fn detailed(kind: RefusalKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: detail.into(), ..Self::new(kind) }
    }

    pub(crate) fn not_priced(refused: &Refused) -> Self {
        Self { status: refused.status(), ..Self::detailed(RefusalKind::NotPriced, refused.detail().to_owned()) }
    }

    pub(crate) fn of(mut self, id: ChallengeId) -> Self {
        self.challenge_id = Some(id);
        self
    }

    pub(crate) fn retry_after_or_default(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after.or(self.retry_after);
        self
    }

    pub(crate) fn with_outcome(mut self, outcome: PaymentOutcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// Which kind.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence that the client reads.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn detail_text(&self) -> Cow<'static, str> {
        self.detail.clone()
    }

    /// The challenge that the credential answered, where it could be read.
    pub fn challenge_id(&self) -> Option<ChallengeId> {
        self.challenge_id
    }

    /// When it makes sense to repeat the request.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What became of the money of an earlier request with this credential, where that is known and it
    /// was not delivered.
    pub fn outcome(&self) -> Option<PaymentOutcome> {
        self.outcome
    }

    /// Whether the answer carries fresh challenges: only where it is certain that no money moved.
    pub fn has_challenge(&self) -> bool {
        self.status == StatusCode::PAYMENT_REQUIRED
    }

    /// The same refusal as the core draft words it for replays: 402 with a fresh challenge.
    pub(crate) fn with_challenge(mut self) -> Self {
        self.status = StatusCode::PAYMENT_REQUIRED;
        self
    }

    /// The same where there is nothing to ask for.
    pub(crate) fn without_challenge(mut self) -> Self {
        if self.has_challenge() {
            self.status = self.kind.status();
        }
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Refusal {}
