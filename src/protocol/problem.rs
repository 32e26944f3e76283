//! Problem details (RFC 9457), the bodies of refusals (core draft section 8).

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::ids::ChallengeId;

/// What went wrong, as a client may branch on it.
///
/// The draft's own types stand under `https://paymentauth.org/problems/`, and we add none there: the
/// names are not ours to give. A situation that its HTTP status says completely is `about:blank`
/// (RFC 9457 section 4.2.1). Where one status has two meanings that a paying client must tell apart,
/// the type is the address of the variant's documentation below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemType {
    /// 402: the resource requires payment.
    PaymentRequired,
    /// 402: the amount is too low.
    PaymentInsufficient,
    /// 402: the challenge or the authorization has expired.
    PaymentExpired,
    /// 402: the proof is invalid.
    VerificationFailed,
    /// 400: the method is not accepted here.
    MethodUnsupported,
    /// 402: the credential cannot be read.
    MalformedCredential,
    /// 402: the challenge is unknown, expired or used already.
    InvalidChallenge,
    /// 409: the same credential is being settled by another request. Nothing is charged a second
    /// time; send the same credential again later.
    PaymentInProgress,
    /// 503: it is not known whether money moved. Do not pay again: send the same credential again
    /// later.
    PaymentOutcomeUnknown,
    /// 403: the Payment scheme is served over TLS only. Nothing was charged, but the credential was
    /// sent in the clear.
    HttpsRequired,
    /// 403: payments are not taken here yet. Nothing was charged, and another payment would not be taken
    /// either.
    PrivatePreview,
    /// 403: the resource takes payments alone, and the request carries a credential of another scheme, such
    /// as an API key. Nothing was charged; ask without it for a challenge.
    OnlyPayments,
    /// 422: the `Idempotency-Key` was used before with the same credential for another request. Nothing
    /// was charged for this one.
    IdempotencyKeyReused,
    /// 400: the request cannot be served as it stands.
    BadRequest,
    /// 403: policy denies access.
    Forbidden,
    /// 413: the body is larger than the limit.
    PayloadTooLarge,
    /// 429: a limit is exhausted for now.
    TooManyRequests,
    /// 500: a defect on our side.
    InternalError,
    /// 503: something that is needed is down; nothing was charged.
    ServiceUnavailable,
}

macro_rules! core {
    ($code:literal) => {
        concat!("https://paymentauth.org/problems/", $code)
    };
}

macro_rules! ours {
    ($variant:literal) => {
        concat!("https://docs.rs/tower-mpp/latest/tower_mpp/protocol/enum.ProblemType.html#variant.", $variant)
    };
}

impl ProblemType {
    /// The `type` member.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::PaymentRequired => core!("payment-required"),
            Self::PaymentInsufficient => core!("payment-insufficient"),
            Self::PaymentExpired => core!("payment-expired"),
            Self::VerificationFailed => core!("verification-failed"),
            Self::MethodUnsupported => core!("method-unsupported"),
            Self::MalformedCredential => core!("malformed-credential"),
            Self::InvalidChallenge => core!("invalid-challenge"),
            Self::PaymentInProgress => ours!("PaymentInProgress"),
            Self::PaymentOutcomeUnknown => ours!("PaymentOutcomeUnknown"),
            Self::HttpsRequired => ours!("HttpsRequired"),
            Self::PrivatePreview => ours!("PrivatePreview"),
            Self::OnlyPayments => ours!("OnlyPayments"),
            Self::IdempotencyKeyReused => ours!("IdempotencyKeyReused"),
            Self::BadRequest
            | Self::Forbidden
            | Self::PayloadTooLarge
            | Self::TooManyRequests
            | Self::InternalError
            | Self::ServiceUnavailable => "about:blank",
        }
    }

    /// The `title` member: the same for every occurrence of the type, and for `about:blank` the
    /// phrase of the status.
    pub const fn title(self) -> &'static str {
        match self {
            Self::PaymentRequired => "Payment Required",
            Self::PaymentInsufficient => "Payment Insufficient",
            Self::PaymentExpired => "Payment Expired",
            Self::VerificationFailed => "Payment Verification Failed",
            Self::MethodUnsupported => "Payment Method Unsupported",
            Self::MalformedCredential => "Malformed Credential",
            Self::InvalidChallenge => "Invalid Challenge",
            Self::PaymentInProgress => "Payment In Progress",
            Self::PaymentOutcomeUnknown => "Payment Outcome Unknown",
            Self::HttpsRequired => "HTTPS Required",
            Self::PrivatePreview => "Private Preview",
            Self::OnlyPayments => "Only Payments Accepted",
            Self::IdempotencyKeyReused => "Idempotency-Key Is Already Used",
            Self::BadRequest => "Bad Request",
            Self::Forbidden => "Forbidden",
            Self::PayloadTooLarge => "Content Too Large",
            Self::TooManyRequests => "Too Many Requests",
            Self::InternalError => "Internal Server Error",
            Self::ServiceUnavailable => "Service Unavailable",
        }
    }

    /// The HTTP status that the type stands for.
    pub const fn status(self) -> u16 {
        match self {
            Self::PaymentRequired
            | Self::PaymentInsufficient
            | Self::PaymentExpired
            | Self::VerificationFailed
            | Self::MalformedCredential
            | Self::InvalidChallenge => 402,
            Self::MethodUnsupported | Self::BadRequest => 400,
            Self::HttpsRequired | Self::PrivatePreview | Self::OnlyPayments | Self::Forbidden => 403,
            Self::PaymentInProgress => 409,
            Self::PayloadTooLarge => 413,
            Self::IdempotencyKeyReused => 422,
            Self::TooManyRequests => 429,
            Self::InternalError => 500,
            Self::PaymentOutcomeUnknown | Self::ServiceUnavailable => 503,
        }
    }
}

/// A problem body. Its `detail` is written for the caller: never an internal error, never a part of
/// a credential.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// What went wrong.
    pub kind: ProblemType,
    /// The HTTP status of the answer: three digits.
    pub status: u16,
    /// One or two sentences for the caller.
    pub detail: Cow<'static, str>,
    /// The challenge that the problem is about.
    pub challenge_id: Option<ChallengeId>,
    /// Additional members. One with the name of a member above is not written.
    pub extra: Map<String, Value>,
}

impl Problem {
    /// The media type of the body.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    /// A problem with the status of its type.
    pub fn new(kind: ProblemType, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, status: kind.status(), detail: detail.into(), challenge_id: None, extra: Map::new() }
    }

    /// Names the challenge that the problem is about.
    #[must_use]
    pub fn challenge_id(mut self, id: ChallengeId) -> Self {
        self.challenge_id = Some(id);
        self
    }

    /// Sets another status than that of the type, for instance 403 for an `InvalidChallenge` that
    /// must not be answered by another payment.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(name.into(), value.into());
        self
    }

    /// The title: of `about:blank` the phrase of the status (RFC 9457 section 4.2.1).
    fn title(&self) -> &'static str {
        let phrase = http::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        match phrase {
            Some(phrase) if self.kind.uri() == "about:blank" => phrase,
            _ => self.kind.title(),
        }
    }

    /// Writes the body, with one allocation unless there are additional members.
    pub fn to_json(&self) -> Vec<u8> {
        let (uri, title) = (self.kind.uri(), self.title());
        let escapes = self.escapes();
        let mut out = Vec::with_capacity(self.size(escapes));
        out.extend_from_slice(br#"{"type":""#);
        out.extend_from_slice(uri.as_bytes());
        out.extend_from_slice(br#"","title":""#);
        out.extend_from_slice(title.as_bytes());
        out.extend_from_slice(br#"","status":"#);
        push_json(&mut out, &self.status);
        out.extend_from_slice(br#","detail":"#);
        if escapes == 0 {
            out.push(b'"');
            out.extend_from_slice(self.detail.as_bytes());
            out.push(b'"');
        } else {
            push_json(&mut out, &*self.detail);
        }
        if let Some(id) = &self.challenge_id {
            out.extend_from_slice(br#","challengeId":""#);
            out.extend_from_slice(id.encode(&mut [0; 43]).as_bytes());
            out.push(b'"');
        }
        for (name, value) in &self.extra {
            if !RESERVED.contains(&name.as_str()) {
                out.push(b',');
                push_json(&mut out, name);
                out.push(b':');
                push_json(&mut out, value);
            }
        }
        out.push(b'}');
        out
    }

    /// How many characters of the detail cannot stand in JSON as they are.
    fn escapes(&self) -> usize {
        self.detail.bytes().filter(|b| matches!(b, ..b' ' | b'"' | b'\\')).count()
    }

    /// Bytes of the body at most, without additional members.
    fn size(&self, escapes: usize) -> usize {
        // Exact for a text without escapes: a buffer that is just full becomes a body without another
        // allocation. An escaped character takes six bytes at most.
        let id = self.challenge_id.map_or(0, |_| r#","challengeId":"""#.len() + ChallengeId::TEXT_LEN);
        r#"{"type":"","title":"","status":402,"detail":""}"#.len()
            + self.kind.uri().len()
            + self.title().len()
            + self.detail.len()
            + 5 * escapes
            + id
    }
}

const RESERVED: [&str; 5] = ["type", "title", "status", "detail", "challengeId"];

/// Numbers, texts and JSON values are written to a vector without fail.
fn push_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use serde_json::json;

    use super::*;

    const ALL: [ProblemType; 19] = [
        ProblemType::PaymentRequired,
        ProblemType::PaymentInsufficient,
        ProblemType::PaymentExpired,
        ProblemType::VerificationFailed,
        ProblemType::MethodUnsupported,
        ProblemType::MalformedCredential,
        ProblemType::InvalidChallenge,
        ProblemType::PaymentInProgress,
        ProblemType::PaymentOutcomeUnknown,
        ProblemType::HttpsRequired,
        ProblemType::PrivatePreview,
        ProblemType::OnlyPayments,
        ProblemType::IdempotencyKeyReused,
        ProblemType::BadRequest,
        ProblemType::Forbidden,
        ProblemType::PayloadTooLarge,
        ProblemType::TooManyRequests,
        ProblemType::InternalError,
        ProblemType::ServiceUnavailable,
    ];

    #[test]
    fn members_stand_in_the_order_of_the_draft() {
        let problem = Problem::new(ProblemType::PaymentRequired, "Payment is required.")
            .challenge_id(ChallengeId::from_bytes([0; 32]));
        assert_eq!(
            String::from_utf8(problem.to_json()).unwrap(),
            format!(
                r#"{{"type":"https://paymentauth.org/problems/payment-required","title":"Payment Required","status":402,"detail":"Payment is required.","challengeId":"{}"}}"#,
                "A".repeat(43)
            )
        );
    }

    #[test]
    fn one_allocation_is_enough_whatever_the_detail_says() {
        for kind in ALL {
            for (detail, exact) in [("", true), ("plain \u{e9}\u{1f600}\u{7f}", true), ("\"\\\n\r\t\u{0}\u{1f}", false)]
            {
                let problem = Problem::new(kind, detail).status(599);
                for problem in [problem.clone(), problem.challenge_id(ChallengeId::from_bytes([7; 32]))] {
                    let json = problem.to_json();
                    assert!(json.len() <= problem.size(problem.escapes()), "{kind:?} {detail:?}");
                    assert!(!exact || json.len() == problem.size(problem.escapes()), "{kind:?} {detail:?}");
                    let value: Value = serde_json::from_slice(&json).unwrap();
                    assert_eq!(value["detail"], json!(detail));
                    assert_eq!(value["type"], json!(kind.uri()));
                }
            }
        }
    }

    #[test]
    fn an_additional_member_cannot_replace_one_of_the_draft() {
        let problem = Problem::new(ProblemType::TooManyRequests, "Later.")
            .with("quote\"d", json!({"a": [1]}))
            .with("retryAfter", 30)
            .with("status", 200)
            .with("challengeId", "x");
        assert_eq!(
            String::from_utf8(problem.to_json()).unwrap(),
            r#"{"type":"about:blank","title":"Too Many Requests","status":429,"detail":"Later.","quote\"d":{"a":[1]},"retryAfter":30}"#
        );
    }

    #[test]
    fn about_blank_has_the_phrase_of_its_status() {
        for kind in ALL.into_iter().filter(|kind| kind.uri() == "about:blank") {
            let status = http::StatusCode::from_u16(kind.status()).unwrap();
            // RFC 9110 has renamed 413.
            let phrase = status.canonical_reason().unwrap().replace("Payload", "Content");
            assert_eq!(kind.title(), phrase, "{kind:?}");
        }
    }

    #[test]
    fn types_are_told_apart_by_uri_or_status() {
        for (index, kind) in ALL.into_iter().enumerate() {
            for other in ALL.into_iter().skip(index + 1) {
                assert_ne!((kind.uri(), kind.status()), (other.uri(), other.status()));
            }
        }
    }

    #[test]
    fn only_the_seven_types_of_the_draft_stand_under_its_uri() {
        let core = ALL.into_iter().filter(|kind| kind.uri().starts_with("https://paymentauth.org/"));
        assert_eq!(core.count(), 7);
    }
}
