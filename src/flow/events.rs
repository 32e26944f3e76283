//! What happens to payments, as events and metrics. Nothing secret passes through here: no credential,
//! no payload, no key.

use std::time::Duration;

use super::{PaymentInfo, Refusal, RefusalKind, bind::Bound};
use crate::{
    method::{Fault, Unknown},
    protocol::{ChallengeId, MethodId, ReceiptId},
    store::{RefundReason, StoreError},
    trace::{TARGET, count, metric, seconds},
};

/// The span of a payment, from its claim until it is settled or refused.
pub(crate) fn payment_span(bound: &Bound) -> tracing::Span {
    tracing::debug_span!(
        target: TARGET,
        "payment",
        challenge_id = %bound.payment.id,
        method = %bound.payment.method,
    )
}

pub(crate) fn refused(refusal: &Refusal) {
    count(metric::REFUSALS, [("kind", refusal.kind().as_str().into())]);
    // A request without a credential is everyday business.
    if refusal.kind() == RefusalKind::PaymentRequired {
        tracing::trace!(target: TARGET, "payment required");
    } else {
        tracing::debug!(
            target: TARGET,
            kind = refusal.kind().as_str(),
            status = refusal.status().as_u16(),
            challenge_id = refusal.challenge_id().map(tracing::field::display),
            "refused"
        );
    }
}

pub(crate) fn settled(info: &PaymentInfo, took: Duration) {
    let redelivery = if info.is_redelivery() { "true" } else { "false" };
    count(metric::SETTLED, [("method", info.method().label()), ("redelivery", redelivery.into())]);
    seconds(metric::SETTLE_SECONDS, [("method", info.method().label())], took);
    tracing::info!(
        target: TARGET,
        challenge_id = %info.challenge_id(),
        method = %info.method(),
        amount = %info.amount(),
        currency = %info.currency(),
        reference = info.reference(),
        redelivery = info.is_redelivery(),
        "settled"
    );
}

pub(crate) fn delivered(info: &PaymentInfo) {
    count(metric::DELIVERED, [("method", info.method().label())]);
    tracing::debug!(target: TARGET, challenge_id = %info.challenge_id(), "delivered");
}

/// The journal did not hear of it at the time.
pub(crate) fn found_kept(method: &MethodId, id: ChallengeId) {
    count(metric::DELIVERED, [("method", method.label())]);
    tracing::info!(target: TARGET, challenge_id = %id, %method, "its answer is kept: it is delivered");
}

pub(crate) fn undelivered(info: &PaymentInfo) {
    count(metric::UNDELIVERED, [("method", info.method().label())]);
    tracing::warn!(
        target: TARGET,
        challenge_id = %info.challenge_id(),
        method = %info.method(),
        reference = info.reference(),
        "paid but not delivered: the same credential is good again"
    );
}

pub(crate) fn called_off(bound: &Bound) {
    tracing::debug!(
        target: TARGET,
        challenge_id = %bound.payment.id,
        method = %bound.payment.method,
        "not delivered and not charged: the same credential is good again"
    );
}

pub(crate) fn unknown(method: &MethodId, id: ChallengeId, unknown: &Unknown) {
    count(metric::UNKNOWN, [("method", method.label())]);
    tracing::warn!(target: TARGET, challenge_id = %id, %method, detail = %unknown, "settlement outcome unknown: the claim is kept");
}

pub(crate) fn fault(method: &MethodId, id: ChallengeId, fault: &Fault) {
    count(metric::FAULTS, [("method", method.label())]);
    tracing::error!(target: TARGET, challenge_id = %id, %method, detail = %fault, "the payment method cannot work");
}

pub(crate) fn refunded(method: &MethodId, id: ChallengeId, reason: RefundReason, reference: &str) {
    count(metric::REFUNDED, [("method", method.label()), ("reason", reason.as_str().into())]);
    tracing::info!(target: TARGET, challenge_id = %id, %method, %reason, refund = reference, "refunded");
}

pub(crate) fn refund_failed(method: &MethodId, id: ChallengeId, error: &dyn std::fmt::Display) {
    count(metric::REFUND_FAILURES, [("method", method.label())]);
    tracing::error!(target: TARGET, challenge_id = %id, %method, %error, "a refund failed");
}

pub(crate) fn resolved(method: &MethodId, id: ChallengeId, outcome: &'static str) {
    count(metric::RESOLVED, [("method", method.label()), ("outcome", outcome.into())]);
    tracing::info!(target: TARGET, challenge_id = %id, %method, outcome, "the outcome of a lost payment is known");
}

pub(crate) fn unresolved(method: &MethodId, id: ChallengeId, unknown: &Unknown) {
    count(metric::UNRESOLVED, [("method", method.label())]);
    tracing::warn!(target: TARGET, challenge_id = %id, %method, detail = %unknown, "the outcome of a lost payment is still unknown");
}

pub(crate) fn unfulfilled(method: &MethodId, id: ChallengeId) {
    count(metric::UNFULFILLED, [("method", method.label())]);
    tracing::warn!(target: TARGET, challenge_id = %id, %method, "paid, not delivered in time, and not given back: it stays listed");
}

pub(crate) fn method_missing(method: &MethodId, id: ChallengeId) {
    count(metric::UNRESOLVED, [("method", method.label())]);
    tracing::error!(target: TARGET, challenge_id = %id, %method, "a lost payment is of a method that is not configured any more");
}

pub(crate) fn record_unreadable(id: ChallengeId) {
    tracing::error!(target: TARGET, challenge_id = %id, "an entry of the payment journal cannot be read");
}

pub(crate) fn journal_down() {
    tracing::error!(target: TARGET, "the payment journal is down: payments are refused until it is back");
}

pub(crate) fn journal_back() {
    tracing::info!(target: TARGET, "the payment journal is back");
}

pub(crate) fn answers_failed(step: &'static str, error: &StoreError) {
    count(metric::ANSWER_ERRORS, [("step", step.into())]);
    let cause = std::error::Error::source(error).map(tracing::field::display);
    tracing::error!(target: TARGET, step, kind = ?error.kind(), cause, "the answer store failed");
}

pub(crate) fn answer_unreadable() {
    count(metric::ANSWER_ERRORS, [("step", "read".into())]);
    tracing::error!(target: TARGET, "a kept answer cannot be read: it counts as not kept");
}

pub(crate) fn answered_again() {
    count(metric::ANSWERED_AGAIN, []);
    tracing::debug!(target: TARGET, "answered with what was kept");
}

pub(crate) fn receipt_failed(step: &'static str, error: &dyn std::fmt::Display) {
    count(metric::RECEIPT_ERRORS, [("step", step.into())]);
    tracing::error!(target: TARGET, step, %error, "a signed receipt is late: its signer or its ledger failed");
}

pub(crate) fn receipt_lost(id: ReceiptId) {
    count(metric::RECEIPT_ERRORS, [("step", "lost".into())]);
    tracing::error!(target: TARGET, receipt_id = %id, "a receipt could not be signed and added to the ledger");
}

/// What cannot stand in a receipt does not stand in its way.
pub(crate) fn receipt_cut(id: ReceiptId, what: &'static str) {
    count(metric::RECEIPT_ERRORS, [("step", "cut".into())]);
    tracing::error!(target: TARGET, receipt_id = %id, what, "a member of a signed receipt cannot be written: it is left out");
}

/// A payment that is delivered again and again.
pub(crate) fn receipts_enough(id: ChallengeId) {
    tracing::debug!(target: TARGET, challenge_id = %id, "the payment has so many receipts that it gets no further one");
}

pub(crate) fn journal_failed(step: &'static str, error: &StoreError, reference: Option<&str>) {
    count(metric::JOURNAL_ERRORS, [("step", step.into())]);
    let cause = std::error::Error::source(error).map(tracing::field::display);
    tracing::error!(target: TARGET, step, %error, cause, reference, "the payment journal failed");
}
