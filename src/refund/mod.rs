//! Refunds: when money that was paid for nothing is given back without anybody asking for it.
//!
//! Off by default: what was paid and not delivered stays good for the same credential, and is listed when
//! its time is over ([`Merchant::unfulfilled`](crate::Merchant::unfulfilled)). With a [`RefundPolicy`] the
//! answer of a service that could not do its work gives the money back at once, and the
//! [`Sweeper`](crate::Sweeper) gives back what nobody came for in time.
//!
//! Only the service knows how far it came: it says so with a [`ProviderCall`] in the extensions of its answer.
//!
//! ```
//! use http::{Response, StatusCode};
//! use tower_mpp::refund::ProviderCall;
//!
//! /// The provider could not be reached: nothing was used, so nothing has to be paid.
//! fn unreachable() -> Response<String> {
//!     let mut response = Response::new("the model is not there".to_owned());
//!     *response.status_mut() = StatusCode::BAD_GATEWAY;
//!     response.extensions_mut().insert(ProviderCall::NotStarted);
//!     response
//! }
//! ```

use std::fmt;

use http::StatusCode;

use crate::store::RefundReason;

/// How far the call of the provider behind a service came. The service puts it into the extensions of its
/// answer; without it nothing is known, and no rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProviderCall {
    /// The provider was never asked.
    NotStarted,
    /// The provider was asked, and no byte of its answer has come yet.
    Started,
    /// The provider was asked and did not begin to answer in time.
    TimedOut,
    /// The provider has begun to answer.
    FirstByte,
    /// A tool has done something that cannot be undone.
    SideEffect,
}

/// One rule about refunds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefundRule {
    /// Refund when the provider was never asked.
    NoProviderCallStarts,
    /// Refund when the provider did not begin to answer in time.
    ProviderTimeoutBeforeFirstToken,
    /// No refund once the answer of the provider has begun.
    SuccessfulStreamStart,
    /// No refund once a tool has done something that cannot be undone.
    SideEffectingToolSuccess,
}

impl RefundRule {
    /// All of them, in the order in which they are asked.
    pub const ALL: &[Self] = &[
        Self::NoProviderCallStarts,
        Self::ProviderTimeoutBeforeFirstToken,
        Self::SuccessfulStreamStart,
        Self::SideEffectingToolSuccess,
    ];

    /// The name in discovery documents and configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoProviderCallStarts => "refund_if_payment_succeeds_but_no_provider_call_starts",
            Self::ProviderTimeoutBeforeFirstToken => "refund_if_provider_timeout_before_first_token",
            Self::SuccessfulStreamStart => "no_refund_after_successful_stream_start",
            Self::SideEffectingToolSuccess => "no_refund_after_side_effecting_tool_success",
        }
    }
}

impl fmt::Display for RefundRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When money is given back unasked. The default has no rule: refunds are off.
///
/// The rules are asked in order, and the first that applies decides about the answer of a service that has
/// failed (anything but 2xx). Where none applies, the payment stays good for the same credential until the
/// challenge has expired and the grace is over; then, if one of the two rules that refund is on, the
/// [`Sweeper`](crate::Sweeper) gives it back.
///
/// ```
/// use tower_mpp::refund::RefundPolicy;
///
/// let policy = RefundPolicy::off()
///     .refund_if_payment_succeeds_but_no_provider_call_starts(true)
///     .no_refund_after_side_effecting_tool_success(true);
/// assert!(policy.is_on());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct RefundPolicy {
    not_started: bool,
    timed_out: bool,
    first_byte: bool,
    side_effect: bool,
}

/// What becomes of the money behind an answer that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The credential stays good.
    Redeliver,
    /// The credential stays good, and nobody gives the money back unasked.
    Keep,
    /// It is given back.
    Refund(RefundReason),
}

impl RefundPolicy {
    /// No refunds.
    pub fn off() -> Self {
        Self::default()
    }

    /// All four rules.
    pub fn all() -> Self {
        Self { not_started: true, timed_out: true, first_byte: true, side_effect: true }
    }

    /// Refund when the service says [`ProviderCall::NotStarted`].
    pub fn refund_if_payment_succeeds_but_no_provider_call_starts(mut self, on: bool) -> Self {
        self.not_started = on;
        self
    }

    /// Refund when the service says [`ProviderCall::TimedOut`], when it says [`ProviderCall::Started`] in a
    /// `504 Gateway Timeout`, or when it says one of them and its body fails before the first byte.
    pub fn refund_if_provider_timeout_before_first_token(mut self, on: bool) -> Self {
        self.timed_out = on;
        self
    }

    /// No refund unasked, also not later, when the service says [`ProviderCall::FirstByte`]. A body that has
    /// begun to leave is a delivery, with this rule or without it.
    pub fn no_refund_after_successful_stream_start(mut self, on: bool) -> Self {
        self.first_byte = on;
        self
    }

    /// No refund unasked, also not later, when the service says [`ProviderCall::SideEffect`].
    pub fn no_refund_after_side_effecting_tool_success(mut self, on: bool) -> Self {
        self.side_effect = on;
        self
    }

    /// Whether money is ever given back unasked.
    pub fn is_on(&self) -> bool {
        self.not_started || self.timed_out
    }

    /// The rules that are on, in order.
    pub fn rules(&self) -> impl Iterator<Item = RefundRule> + use<> {
        let policy = *self;
        RefundRule::ALL.iter().copied().filter(move |rule| match rule {
            RefundRule::NoProviderCallStarts => policy.not_started,
            RefundRule::ProviderTimeoutBeforeFirstToken => policy.timed_out,
            RefundRule::SuccessfulStreamStart => policy.first_byte,
            RefundRule::SideEffectingToolSuccess => policy.side_effect,
        })
    }

    /// What the rules say about an answer that has failed.
    pub(crate) fn of_answer(&self, call: Option<ProviderCall>, status: StatusCode) -> Verdict {
        match call {
            Some(ProviderCall::NotStarted) if self.not_started => Verdict::Refund(RefundReason::NotStarted),
            Some(ProviderCall::TimedOut) if self.timed_out => Verdict::Refund(RefundReason::TimedOut),
            Some(ProviderCall::Started) if self.timed_out && status == StatusCode::GATEWAY_TIMEOUT => {
                Verdict::Refund(RefundReason::TimedOut)
            }
            Some(ProviderCall::FirstByte) if self.first_byte => Verdict::Keep,
            Some(ProviderCall::SideEffect) if self.side_effect => Verdict::Keep,
            _ => Verdict::Redeliver,
        }
    }

    /// What they say about a body that has failed before its first byte.
    pub(crate) fn of_body(&self, call: Option<ProviderCall>) -> Verdict {
        match call {
            Some(ProviderCall::Started | ProviderCall::TimedOut) if self.timed_out => {
                Verdict::Refund(RefundReason::TimedOut)
            }
            Some(ProviderCall::FirstByte) if self.first_byte => Verdict::Keep,
            Some(ProviderCall::SideEffect) if self.side_effect => Verdict::Keep,
            _ => Verdict::Redeliver,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: StatusCode = StatusCode::BAD_GATEWAY;

    #[test]
    fn without_a_rule_nothing_is_given_back_and_nothing_kept() {
        for call in [
            None,
            Some(ProviderCall::NotStarted),
            Some(ProviderCall::Started),
            Some(ProviderCall::TimedOut),
            Some(ProviderCall::FirstByte),
            Some(ProviderCall::SideEffect),
        ] {
            let off = RefundPolicy::off();
            assert_eq!(off.of_answer(call, StatusCode::GATEWAY_TIMEOUT), Verdict::Redeliver);
            assert_eq!(off.of_body(call), Verdict::Redeliver);
        }
        assert!(!RefundPolicy::off().is_on());
        assert_eq!(RefundPolicy::off().rules().count(), 0);
    }

    #[test]
    fn each_rule_is_about_what_it_names() {
        let all = RefundPolicy::all();
        assert_eq!(all.rules().collect::<Vec<_>>(), RefundRule::ALL);
        let of = |call| all.of_answer(Some(call), FAILED);
        assert_eq!(of(ProviderCall::NotStarted), Verdict::Refund(RefundReason::NotStarted));
        assert_eq!(of(ProviderCall::TimedOut), Verdict::Refund(RefundReason::TimedOut));
        assert_eq!(of(ProviderCall::FirstByte), Verdict::Keep);
        assert_eq!(of(ProviderCall::SideEffect), Verdict::Keep);
        // The provider said no: that is an answer, and no timeout.
        assert_eq!(of(ProviderCall::Started), Verdict::Redeliver);
        let late = all.of_answer(Some(ProviderCall::Started), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(late, Verdict::Refund(RefundReason::TimedOut));
        assert_eq!(all.of_answer(None, StatusCode::GATEWAY_TIMEOUT), Verdict::Redeliver, "nobody has said anything");
    }
}
