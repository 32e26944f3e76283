//! What became of money behind an answer that does not deliver.

use std::fmt;

/// The value of `Payment-Outcome`: what became of a payment whose resource is not in this answer. It also
/// stands in the extensions of answers of a service that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PaymentOutcome {
    /// The same credential may be sent again without a second charge, until its challenge has expired and
    /// the grace is over.
    Redeliverable,
    /// The money was given back.
    Refunded,
    /// The money is being given back.
    RefundPending,
    /// The money was taken, nothing was delivered, and the time for that is over. The merchant has it listed.
    Unfulfilled,
    /// No money was taken: this route settles after the handler, which has failed. The same credential is good
    /// again until its challenge has expired.
    NotCharged,
}

impl PaymentOutcome {
    /// The value of the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redeliverable => "redeliverable",
            Self::Refunded => "refunded",
            Self::RefundPending => "refund-pending",
            Self::Unfulfilled => "unfulfilled",
            Self::NotCharged => "not-charged",
        }
    }
}

impl fmt::Display for PaymentOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
