//! The journal in a file: its laws, its file, who shares it, and what happens when the disk gives trouble.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod conformance;
mod file;
mod home;
mod receipts;
mod sharing;
mod space;
#[cfg(target_os = "linux")]
mod trouble;
