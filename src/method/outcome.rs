//! What can become of a payment: settled, declined, unknown, our fault. Different types, so that one
//! is never taken for another.

use std::{borrow::Cow, fmt, time::Duration};

use crate::protocol::Settlement;

/// Why a rail declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeclineReason {
    /// The proof does not prove what it must: a bad signature, a wrong recipient, an unreadable payload.
    InvalidProof,
    /// The payer has too little money, or authorised too little.
    Insufficient,
    /// The rail refused: a declined card, an action of the payer is needed, a spent token.
    Refused,
}

/// The rail said no, and it is certain that no money moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Declined {
    reason: DeclineReason,
    detail: Cow<'static, str>,
}

impl Declined {
    /// `detail` is shown to the payer: a sentence without anything secret and without the rail's own words.
    pub fn new(reason: DeclineReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// A proof that proves nothing.
    pub fn invalid_proof(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(DeclineReason::InvalidProof, detail)
    }

    /// Why.
    pub fn reason(&self) -> DeclineReason {
        self.reason
    }

    /// The sentence for the payer.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// Nobody knows whether money moved: the claim is kept until it is known.
#[derive(Debug)]
pub struct Unknown {
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
}

impl Unknown {
    /// `detail` is for the merchant's log, never for the payer.
    pub fn new(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: detail.into(), retry_after: None }
    }

    /// When the rail is expected to know.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// When the rail is expected to know.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outcome unknown: {}", self.detail)
    }
}

impl std::error::Error for Unknown {}

/// The merchant's side cannot work: a wrong key, a rail that is down or limits us. No money moved.
#[derive(Debug)]
pub struct Fault {
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
}

impl Fault {
    /// `detail` is for the merchant's log, never for the payer.
    pub fn new(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: detail.into(), retry_after: None }
    }

    /// When it makes sense to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// When it makes sense to try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Fault {}

/// Why [`PaymentMethod::verify`](super::PaymentMethod::verify) failed. No money has moved.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The proof is no good.
    #[error(transparent)]
    Declined(#[from] Declined),
    /// The merchant's side cannot work.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why [`PaymentMethod::settle`](super::PaymentMethod::settle) failed.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// No money moved, and none will.
    #[error(transparent)]
    Declined(#[from] Declined),
    /// Nobody knows yet.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// The merchant's side cannot work; no money moved.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What became of a payment whose outcome was unknown. That it is still unknown is an [`Unknown`].
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    /// The money has moved.
    Settled(Settlement),
    /// It is certain that no money moved and none will.
    NotCharged,
}

/// The money was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refunded {
    /// The rail's reference of the refund.
    pub reference: String,
}

impl Refunded {
    /// A refund with the rail's reference.
    pub fn new(reference: impl Into<String>) -> Self {
        Self { reference: reference.into() }
    }
}

/// Why a refund failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefundError {
    /// The rail has no refunds.
    #[error("this payment method has no refunds")]
    Unsupported,
    /// The rail refused for good.
    #[error("refund refused: {0}")]
    Refused(Cow<'static, str>),
    /// Nobody knows yet: repeat it.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// The merchant's side cannot work.
    #[error(transparent)]
    Fault(#[from] Fault),
}
