//! Tests with other people's peers, and the bench against them. Not published, and no part of the crate's own build.
//!
//! * `cargo test` pays with the `mpp` crate's client, against mpp's server and against `tower-mpp`.
//! * `cargo bench --no-default-features --features bench` puts one request through each payment layer there is
//!   for Tower.
//!
//! This library is what the two share: the peers, set up the way their own documentation does it.

pub mod mpp_merchant;
