//! The answers of the layer, and what it adds to the answers of the service.

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Response,
    header::{
        ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        RETRY_AFTER, WWW_AUTHENTICATE,
    },
    request::Parts,
};

use super::{
    ReceiptHeader,
    negotiate::prefers_html,
    page,
    receipted::{self, Signed},
};
use crate::{
    flow::{Offers, PaymentInfo, PaymentOutcome, Refusal, RefusalKind, Settings},
    protocol::{Challenge, PAYMENT_OUTCOME, PAYMENT_RECEIPT, Problem, ProblemType},
};

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const PAGE_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'");
/// What scripts of other origins have to read to deal with this protocol and with x402.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "WWW-Authenticate, Payment-Receipt, Payment-Outcome, Retry-After, PAYMENT-REQUIRED, PAYMENT-RESPONSE",
);

/// Headers with room for an answer of ours.
pub(super) fn headers() -> HeaderMap {
    HeaderMap::with_capacity(6)
}

/// The answer to a refused request: a problem document, or a page for who would rather read one.
/// `headers` may already hold challenges.
pub(super) fn answer(
    refusal: Refusal,
    mut headers: HeaderMap,
    offers: Option<&Offers>,
    head: &Parts,
    settings: &Settings,
) -> Response<Bytes> {
    let mut body = if prefers_html(&head.headers) {
        headers.insert(CONTENT_TYPE, HTML);
        headers.insert(CONTENT_SECURITY_POLICY, PAGE_POLICY);
        Bytes::from(page::page(&refusal, offers))
    } else {
        problem(&refusal, &mut headers)
    };
    if head.method == Method::HEAD {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        body = Bytes::new();
    }
    finish(refusal, headers, body, settings)
}

/// The same where the request is gone.
pub(super) fn plain(refusal: Refusal, settings: &Settings) -> Response<Bytes> {
    let mut headers = headers();
    let body = problem(&refusal, &mut headers);
    finish(refusal, headers, body, settings)
}

fn problem(refusal: &Refusal, headers: &mut HeaderMap) -> Bytes {
    headers.insert(CONTENT_TYPE, PROBLEM_JSON);
    let mut problem =
        Problem::new(problem_type(refusal.kind()), refusal.detail_text()).status(refusal.status().as_u16());
    problem.challenge_id = refusal.challenge_id();
    problem.to_json().into()
}

fn finish(refusal: Refusal, mut headers: HeaderMap, body: Bytes, settings: &Settings) -> Response<Bytes> {
    headers.insert(CACHE_CONTROL, NO_STORE);
    if let Some(after) = refusal.retry_after() {
        // Whole seconds, rounded up: zero would mean "at once".
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if let Some(outcome) = refusal.outcome() {
        headers.insert(PAYMENT_OUTCOME, HeaderValue::from_static(outcome.as_str()));
    }
    expose(&mut headers, settings);
    let mut response = Response::new(body);
    *response.status_mut() = refusal.status();
    *response.headers_mut() = headers;
    response.extensions_mut().insert(refusal);
    response
}

fn expose(headers: &mut HeaderMap, settings: &Settings) {
    if settings.expose_headers {
        headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

fn problem_type(kind: RefusalKind) -> ProblemType {
    match kind {
        RefusalKind::PaymentRequired => ProblemType::PaymentRequired,
        RefusalKind::MalformedCredential => ProblemType::MalformedCredential,
        RefusalKind::InvalidChallenge | RefusalKind::AlreadyUsed | RefusalKind::ProofUsed => {
            ProblemType::InvalidChallenge
        }
        RefusalKind::PaymentExpired => ProblemType::PaymentExpired,
        RefusalKind::VerificationFailed => ProblemType::VerificationFailed,
        RefusalKind::PaymentInsufficient => ProblemType::PaymentInsufficient,
        RefusalKind::MethodUnsupported => ProblemType::MethodUnsupported,
        RefusalKind::MultipleCredentials
        | RefusalKind::BodyUnreadable
        | RefusalKind::BodyTimeout
        | RefusalKind::IdempotencyKeyInvalid
        | RefusalKind::NotPriced => ProblemType::BadRequest,
        RefusalKind::InFlight => ProblemType::PaymentInProgress,
        RefusalKind::IdempotencyKeyReused => ProblemType::IdempotencyKeyReused,
        RefusalKind::OutcomeUnknown => ProblemType::PaymentOutcomeUnknown,
        RefusalKind::Unavailable => ProblemType::ServiceUnavailable,
        RefusalKind::BodyTooLarge => ProblemType::PayloadTooLarge,
        RefusalKind::InsecureTransport => ProblemType::HttpsRequired,
        RefusalKind::PrivatePreview => ProblemType::PrivatePreview,
        RefusalKind::OtherScheme => ProblemType::OnlyPayments,
        RefusalKind::NoOffer => ProblemType::InternalError,
    }
}

/// Adds the receipt to a delivered answer.
pub(super) fn paid(
    headers: &mut HeaderMap,
    extensions: &mut Extensions,
    info: &PaymentInfo,
    settings: &Settings,
    form: ReceiptHeader,
    signed: Option<&Signed<'_>>,
) {
    strip_payment_headers(headers);
    headers.reserve(2);
    match receipted::value(form, info, signed) {
        Ok(value) => {
            headers.insert(PAYMENT_RECEIPT, value);
        }
        Err(error) => tracing::error!(target: crate::trace::TARGET, %error, "delivered without a receipt"),
    }
    make_private(headers);
    expose(headers, settings);
    extensions.insert(info.clone());
}

/// Marks an answer whose handler failed after the money had moved.
pub(super) fn failed<B>(response: &mut Response<B>, outcome: PaymentOutcome) {
    strip_payment_headers(response.headers_mut());
    response.headers_mut().insert(PAYMENT_OUTCOME, HeaderValue::from_static(outcome.as_str()));
    response.extensions_mut().insert(outcome);
}

/// Marks an answer whose handler failed before any money was taken; `certain` when none will be.
pub(super) fn not_charged<B>(response: &mut Response<B>, certain: bool) {
    match certain {
        true => failed(response, PaymentOutcome::NotCharged),
        false => strip_payment_headers(response.headers_mut()),
    }
}

/// What the service behind us says about payments is not ours: a forged receipt, or a second bill for a
/// request that has been paid.
fn strip_payment_headers(headers: &mut HeaderMap) {
    headers.remove(PAYMENT_RECEIPT);
    headers.remove(PAYMENT_OUTCOME);
    if headers.contains_key(WWW_AUTHENTICATE) {
        let others: Vec<HeaderValue> =
            headers.get_all(WWW_AUTHENTICATE).iter().filter(|value| !offers_payment(value)).cloned().collect();
        headers.remove(WWW_AUTHENTICATE);
        for value in others {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
}

/// Whether a value holds a Payment challenge, or cannot be read as anything else.
fn offers_payment(value: &HeaderValue) -> bool {
    Challenge::parse_all([value]).map_or(true, |challenges| !challenges.is_empty())
}

/// A receipt must not end up in a shared cache (core draft section 11.10). What else the service says
/// about caching stays.
fn make_private(headers: &mut HeaderMap) {
    const PRIVATE: HeaderValue = HeaderValue::from_static("private");
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, PRIVATE);
        return;
    }
    let mut directives = String::from("private");
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or_default().split(',').map(str::trim) {
            let name = directive.split('=').next().unwrap_or_default().trim();
            let shared = ["public", "private", "s-maxage"].iter().any(|shared| name.eq_ignore_ascii_case(shared));
            if !name.is_empty() && !shared {
                directives.push_str(", ");
                directives.push_str(directive);
            }
        }
    }
    headers.insert(CACHE_CONTROL, HeaderValue::try_from(directives).unwrap_or(PRIVATE));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn private(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CACHE_CONTROL, value.parse().unwrap());
        }
        make_private(&mut headers);
        assert_eq!(headers.get_all(CACHE_CONTROL).iter().count(), 1);
        headers[CACHE_CONTROL].to_str().unwrap().to_owned()
    }

    #[test]
    fn nothing_public_stays_beside_private() {
        assert_eq!(private(&[]), "private");
        assert_eq!(private(&["public, max-age=60", "s-maxage=10"]), "private, max-age=60");
        assert_eq!(private(&["no-store"]), "private, no-store");
        assert_eq!(private(&["PUBLIC"]), "private");
    }
}
