//! Discovery: what is sold here, at which price, for agents that have not asked yet.
//!
//! Everything is generated from one [`Catalog`], whose payments are the merchant's own offers
//! ([`Merchant::offers`](crate::Merchant::offers)), so that no document can disagree with the price of a call.

mod catalog;
mod invalid;
mod node;
pub mod well_known;

pub use self::{
    catalog::{Catalog, Payment, Route, Service, Terms},
    invalid::Invalid,
};
