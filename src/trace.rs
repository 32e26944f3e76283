//! Events and metrics, all in one place, all under one target. Nothing secret passes through here:
//! no credential, no payload, no key.

use std::{borrow::Cow, time::Duration};

use crate::{
    flow::{Bound, PaymentInfo, Refusal, RefusalKind},
    method::{Fault, Unknown},
    protocol::{ChallengeId, MethodId},
    store::StoreError,
};

/// The target of every event and span of this crate.
pub const TARGET: &str = "tower_mpp";

/// The names of the metrics that the feature `metrics` records.
pub mod metric {
    /// Counter: requests that the layer answered itself. Label `kind`, see
    /// [`RefusalKind::as_str`](crate::RefusalKind::as_str).
    pub const REFUSALS: &str = "tower_mpp_refusals_total";
    /// Counter: payments that were settled. Labels `method` and `redelivery`.
    pub const SETTLED: &str = "tower_mpp_settled_total";
    /// Histogram, seconds: from claim to settled.
    pub const SETTLE_SECONDS: &str = "tower_mpp_settle_seconds";
    /// Counter: payments that were delivered. Label `method`.
    pub const DELIVERED: &str = "tower_mpp_delivered_total";
    /// Counter: payments that were settled and whose answer failed or found nobody. Label `method`.
    pub const UNDELIVERED: &str = "tower_mpp_undelivered_total";
    /// Counter: settlements whose outcome is unknown. Label `method`.
    pub const UNKNOWN: &str = "tower_mpp_unknown_total";
    /// Counter: faults of the merchant's side of a rail. Label `method`.
    pub const FAULTS: &str = "tower_mpp_faults_total";
    /// Counter: failed steps of the journal. Label `step`.
    pub const JOURNAL_ERRORS: &str = "tower_mpp_journal_errors_total";
}

/// The span of a payment, from its claim until it is settled or refused.
pub(crate) fn payment_span(bound: &Bound) -> tracing::Span {
    tracing::debug_span!(
        target: TARGET,
        "payment",
        challenge_id = %bound.challenge_id(),
        method = %bound.method_id(),
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

pub(crate) fn unknown(method: &MethodId, id: ChallengeId, unknown: &Unknown) {
    count(metric::UNKNOWN, [("method", method.label())]);
    tracing::warn!(target: TARGET, challenge_id = %id, %method, detail = %unknown, "settlement outcome unknown: the claim is kept");
}

pub(crate) fn fault(method: &MethodId, id: ChallengeId, fault: &Fault) {
    count(metric::FAULTS, [("method", method.label())]);
    tracing::error!(target: TARGET, challenge_id = %id, %method, detail = %fault, "the payment method cannot work");
}

pub(crate) fn journal_failed(step: &'static str, error: &StoreError, reference: Option<&str>) {
    count(metric::JOURNAL_ERRORS, [("step", step.into())]);
    let cause = std::error::Error::source(error).map(tracing::field::display);
    tracing::error!(target: TARGET, step, %error, cause, reference, "the payment journal failed");
}

/// Names of methods and kinds are static or few: they are labels without a copy.
type Label = (&'static str, Cow<'static, str>);

#[cfg(feature = "metrics")]
fn labels<const N: usize>(labels: [Label; N]) -> Vec<metrics::Label> {
    labels.map(|(key, value)| metrics::Label::new(key, value)).into()
}

#[cfg(feature = "metrics")]
fn count<const N: usize>(name: &'static str, of: [Label; N]) {
    metrics::counter!(name, labels(of)).increment(1);
}

#[cfg(feature = "metrics")]
fn seconds<const N: usize>(name: &'static str, of: [Label; N], took: Duration) {
    metrics::histogram!(name, labels(of)).record(took.as_secs_f64());
}

#[cfg(not(feature = "metrics"))]
fn count<const N: usize>(_: &'static str, _: [Label; N]) {}

#[cfg(not(feature = "metrics"))]
fn seconds<const N: usize>(_: &'static str, _: [Label; N], _: Duration) {}
