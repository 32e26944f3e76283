//! What the examples share. Included by path: `#[path = "../common/mod.rs"] mod common;`
#![allow(dead_code, reason = "no example uses all of it")]

mod activity;
pub(crate) mod https;
pub(crate) mod journal;
pub(crate) mod secret_file;
pub(crate) mod serve;
