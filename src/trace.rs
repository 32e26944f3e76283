//! The target of all events, and the metrics.

use std::{borrow::Cow, time::Duration};

/// The target of every event and span of this crate.
pub const TARGET: &str = "tower_mpp";

/// The names of the metrics that the feature `metrics` records.
pub mod metric {
    /// Counter: requests that the layer answered itself. Label `kind`, see
    /// [`RefusalKind::as_str`](crate::RefusalKind::as_str).
    pub const REFUSALS: &str = "tower_mpp_refusals_total";
    /// Counter: payments that were settled. Labels `method` and `redelivery`.
    pub const SETTLED: &str = "tower_mpp_settled_total";
    /// Histogram, seconds: from claim to settled; after the handler, from its answer to settled.
    pub const SETTLE_SECONDS: &str = "tower_mpp_settle_seconds";
    /// Counter: payments that were delivered. Label `method`.
    pub const DELIVERED: &str = "tower_mpp_delivered_total";
    /// Counter: payments that were settled and whose answer failed or found nobody. Label `method`.
    pub const UNDELIVERED: &str = "tower_mpp_undelivered_total";
    /// Counter: settlements whose outcome is unknown. Label `method`.
    pub const UNKNOWN: &str = "tower_mpp_unknown_total";
    /// Counter: faults of the merchant's side of a rail. Label `method`.
    pub const FAULTS: &str = "tower_mpp_faults_total";
    /// Counter: payments that were given back. Labels `method` and `reason`, see
    /// [`RefundReason::as_str`](crate::store::RefundReason::as_str).
    pub const REFUNDED: &str = "tower_mpp_refunded_total";
    /// Counter: refunds that the rail refused or could not do yet. Label `method`.
    pub const REFUND_FAILURES: &str = "tower_mpp_refund_failures_total";
    /// Counter: payments whose outcome was unknown and that the sweeper has found out about. Labels `method`
    /// and `outcome`: `settled` or `not_charged`.
    pub const RESOLVED: &str = "tower_mpp_resolved_total";
    /// Counter: attempts to find out that were in vain. Label `method`.
    pub const UNRESOLVED: &str = "tower_mpp_unresolved_total";
    /// Counter: payments that nobody came for in time and that no rule gives back. Label `method`.
    pub const UNFULFILLED: &str = "tower_mpp_unfulfilled_total";
    /// Counter: requests that were answered with what was kept for their `Idempotency-Key`.
    pub const ANSWERED_AGAIN: &str = "tower_mpp_answered_again_total";
    /// Counter: failed steps of the answer store. Label `step`.
    pub const ANSWER_ERRORS: &str = "tower_mpp_answer_errors_total";
    /// Counter: signed receipts that are late or lost. Label `step`: `sign`, `find`, `append` or `lost`.
    pub const RECEIPT_ERRORS: &str = "tower_mpp_receipt_errors_total";
    /// Counter: failed steps of the journal. Label `step`.
    pub const JOURNAL_ERRORS: &str = "tower_mpp_journal_errors_total";
}

/// Names of methods and kinds are static or few: they are labels without a copy.
pub(crate) type Label = (&'static str, Cow<'static, str>);

#[cfg(feature = "metrics")]
fn labels<const N: usize>(labels: [Label; N]) -> Vec<metrics::Label> {
    labels.map(|(key, value)| metrics::Label::new(key, value)).into()
}

#[cfg(feature = "metrics")]
pub(crate) fn count<const N: usize>(name: &'static str, of: [Label; N]) {
    metrics::counter!(name, labels(of)).increment(1);
}

#[cfg(feature = "metrics")]
pub(crate) fn seconds<const N: usize>(name: &'static str, of: [Label; N], took: Duration) {
    metrics::histogram!(name, labels(of)).record(took.as_secs_f64());
}

#[cfg(not(feature = "metrics"))]
pub(crate) fn count<const N: usize>(_: &'static str, _: [Label; N]) {}

#[cfg(not(feature = "metrics"))]
pub(crate) fn seconds<const N: usize>(_: &'static str, _: [Label; N], _: Duration) {}
