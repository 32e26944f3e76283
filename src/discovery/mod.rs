//! Discovery: what is sold here, at which price, for agents that have not asked yet.
//!
//! Everything is generated from one [`Catalog`], whose payments are the merchant's own offers
//! ([`Payment::priced`]), so that no document can disagree with the price of a call. [`Discovery`] serves it. The
//! document at `/.well-known/mpp` has a source of its own, see [`well_known`].

mod catalog;
mod check;
mod invalid;
mod items;
mod markdown;
mod negotiate;
mod node;
mod openapi;
mod service;
pub mod well_known;

pub use self::{
    catalog::{Catalog, Link, Payment, Route, Service, Terms},
    invalid::Invalid,
    service::Discovery,
};
