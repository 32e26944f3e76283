//! The wire: challenges, credentials, receipts, problems. Pure: no I/O, no clock, no runtime.

mod credential;
mod ids;
pub mod jcs;
mod money;
mod time;

pub use self::{
    credential::{Credential, CredentialBytes, CredentialError, EchoedChallenge},
    ids::{ChallengeId, Intent, InvalidName, MethodId, Realm, SpendKey},
    money::{Amount, Currency, InvalidAmount, InvalidPrice, Price},
    time::{InvalidTimestamp, Timestamp},
};
