//! The wire: challenges, credentials, receipts, problems. Pure: no I/O, no clock, no runtime.

mod accept_payment;
mod auth_params;
mod base64url;
mod challenge;
mod credential;
mod digest;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod headers;
mod ids;
pub mod jcs;
mod json;
mod money;
mod problem;
mod receipt;
mod settlement;
mod signed_receipt;
mod time;

pub(crate) use self::auth_params::{has_other_scheme, push_quoted};
pub use self::{
    accept_payment::AcceptPayment,
    auth_params::{
        AuthorizationError, MAX_HEADER_BYTES, PaymentCredential, TokenCredential, payment_credential,
        presented_credential, remove_payment_credentials,
    },
    challenge::{Challenge, ChallengeError, authorization},
    credential::{Credential, CredentialBytes, CredentialError, EchoedChallenge},
    digest::{ContentDigest, Digester, InvalidDigest},
    headers::{
        ACCEPT_PAYMENT, IDEMPOTENCY_KEY, PAYMENT_OUTCOME, PAYMENT_RECEIPT, PAYMENT_RECEIPT_DIGEST, PAYMENT_RECEIPT_KID,
        PAYMENT_RECEIPT_MPP, PAYMENT_RECEIPT_PROVISIONAL,
    },
    ids::{ChallengeId, Intent, InvalidName, MethodId, Realm, SpendKey},
    money::{Amount, Currency, InvalidAmount, InvalidPrice, Price},
    problem::{Problem, ProblemType},
    receipt::{MAX_RECEIPT_BYTES, Receipt, ReceiptError},
    settlement::{Payer, Settlement},
    signed_receipt::{InvalidReceiptId, ReceiptId, Visibility},
    time::{InvalidTimestamp, Timestamp},
};
