//! Whether payments are taken for what is asked for.

use super::{Refusal, RefusalKind};

/// Whether a route takes the payments that it asks for, see
/// [`PaymentLayer::redemption`](crate::PaymentLayer::redemption).
///
/// Challenges are issued in every state, so that clients can be built against a route before it earns money. Money
/// that had moved before a route left [`Live`](Self::Live) is still redeemed: such a credential is delivered without
/// a second charge, and its kept answer is given again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Redemption {
    /// They are.
    #[default]
    Live,
    /// Nobody is charged: a credential that answers a challenge of ours is 403 without a challenge
    /// ([`RefusalKind::PrivatePreview`]), and nothing of it is written down.
    PrivatePreview,
    /// Nobody is charged: a credential that answers a challenge of ours is 402 `verification-failed` with a fresh
    /// challenge, and nothing of it is written down.
    NotInProduction,
}

impl Redemption {
    /// What a payment is answered that is not taken; `None` where payments are.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Live => None,
            Self::PrivatePreview => Some(Refusal::new(RefusalKind::PrivatePreview)),
            Self::NotInProduction => {
                let detail = "Payments are not in production here yet. Nothing was charged.";
                Some(Refusal::detailed(RefusalKind::VerificationFailed, detail))
            }
        }
    }
}
