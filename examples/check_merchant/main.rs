//! One merchant for outside checks: any client, validator or load tool can be pointed at it.
//!
//! Run `cargo run --example check_merchant`. It prints `ready http://127.0.0.1:8402` on stdout, and
//! nothing else there; logs go to stderr (`RUST_LOG`). `curl -i http://127.0.0.1:8402/demo` then shows a
//! 402, which the payload `{"token":"tok_demo_ok"}` pays. SIGTERM ends it when everything that was
//! begun is answered and journalled.
//!
//! What can be set in the environment stands in `config.rs`, the payment method `demo` in `demo.rs`, the
//! routes and what can be asked of them in `routes.rs`.

#[path = "../common/mod.rs"]
mod common;
mod config;
mod demo;
mod routes;

use std::{error::Error, io::Write as _, net::Ipv4Addr, process::ExitCode, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tower_mpp::{ConfigError, Merchant, protocol::Visibility, receipt::Receipts};

use crate::{
    common::serve::{Leftover, Limits, serve, shutdown_signal},
    config::{Config, Problem},
    demo::Demo,
};

/// A test may ask for answers that take their time.
const LIMITS: Limits = Limits { shutdown: Duration::from_secs(600), request_head: Duration::from_secs(30) };

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("check_merchant: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let config = Config::from_env()?;
    tracing_subscriber::fmt().with_env_filter(config.log).with_writer(std::io::stderr).init();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port))
        .await
        .map_err(|error| Problem::new("PORT", format!("cannot listen on port {}: {error}", config.port)))?;
    let address = listener.local_addr()?;

    let demo = Arc::new(Demo::new()?);
    let mut merchant = Merchant::builder(config.realm, config.keys)
        // No money moves on the `demo` rail.
        .test_mode(true)
        .challenge_ttl(config.challenge_ttl)
        .shared_method(Arc::clone(&demo) as _);
    if let Some(stripe) = config.stripe {
        merchant = merchant.method(stripe);
    }
    let journal = config.store.open().await.map_err(|error| Problem::new("STORE", error))?;
    let receipts = match config.receipt_signer {
        Some(signer) => {
            let no_ledger =
                || Problem::new("RECEIPT_KEY", "Redis keeps no receipts: unset it, or choose another STORE");
            let ledger = journal.ledger.ok_or_else(no_ledger)?;
            let builder = Receipts::builder(format!("http://{address}"), signer);
            Some(builder.store(ledger).visibility(Visibility::PublicFull).build()?)
        }
        None => None,
    };
    let mut merchant = merchant.nonce_store(journal.payments).answer_store(journal.answers);
    if let Some(receipts) = &receipts {
        merchant = merchant.receipts(receipts.clone());
    }
    let merchant = merchant.build().map_err(named)?;
    let app = routes::app(&merchant, demo, receipts)?;
    if config.test_key {
        eprintln!(
            "check_merchant: warning: MPP_SECRET_KEY is not set: challenges are signed with a key that is public"
        );
    }

    let stop = shutdown_signal()?;
    writeln!(std::io::stdout(), "ready http://{address}")?;
    let left = serve(listener, app, &[merchant], LIMITS, stop).await;
    if left != Leftover::default() {
        tracing::warn!(?left, "not everything was finished");
    }
    Ok(())
}

/// Says which variable a setting of the merchant came from.
fn named(error: ConfigError) -> Box<dyn Error> {
    match &error {
        ConfigError::Realm(_) => Problem::new("REALM", error).into(),
        ConfigError::Setting { field: "challenge_ttl", .. } => Problem::new("CHALLENGE_TTL_SECS", error).into(),
        _ => error.into(),
    }
}
