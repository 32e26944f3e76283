//! Money that is to be taken once the answer is there.

use crate::protocol::Settlement;

/// What a rail keeps ready while the handler works. Made by
/// [`PaymentMethod::authorize`](super::PaymentMethod::authorize).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorization {
    reference: Option<String>,
}

impl Authorization {
    /// Nothing is kept ready: the proof is good, and [`settle`](super::PaymentMethod::settle) takes the money.
    pub fn none() -> Self {
        Self::default()
    }

    /// The rail holds the money under this reference: a PaymentIntent id.
    pub fn new(reference: impl Into<String>) -> Self {
        Self { reference: Some(reference.into()) }
    }

    /// The rail's reference, where it has one.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }
}

/// What [`PaymentMethod::authorize`](super::PaymentMethod::authorize) has achieved.
#[derive(Clone, Debug, PartialEq)]
pub enum Authorized {
    /// No money has moved. It is certain, as far as that can be, that it can be taken.
    Pending(Authorization),
    /// An earlier attempt of the same payment has taken the money, or it had to be taken to find that out.
    Settled(Settlement),
}
