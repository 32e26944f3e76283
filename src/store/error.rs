//! What can go wrong in a store.

use std::{fmt, time::Duration};

/// What kind of thing went wrong in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached or did not answer: it is not known whether the step took effect.
    Unavailable,
    /// There is no room for a new entry.
    Full,
    /// The lease is no longer the entry's present one.
    LeaseLost,
    /// The step does not fit the entry's state.
    Conflict,
}

/// A step of the journal failed.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// An error of a kind without a cause.
    pub fn new(kind: StoreErrorKind) -> Self {
        Self { kind, retry_after: None, source: None }
    }

    /// The backend did not do what it was asked, or nobody knows whether it did.
    pub fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..Self::new(StoreErrorKind::Unavailable) }
    }

    /// When it makes sense to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// What kind of error this is.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// When it makes sense to try again, if the store knows.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl From<StoreErrorKind> for StoreError {
    fn from(kind: StoreErrorKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Unavailable => "the payment journal is unavailable",
            StoreErrorKind::Full => "the payment journal is full",
            StoreErrorKind::LeaseLost => "the lease on the journal entry was lost",
            StoreErrorKind::Conflict => "the step does not fit the state of the journal entry",
        })
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
