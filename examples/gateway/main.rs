//! A paid gateway in front of any HTTP API.
//!
//! ```text
//! cargo run --example gateway
//! ```
//!
//! needs no account, no key, no server and no configuration. It prints its address, a `curl` command
//! that shows the price of a call and an `agent` command that pays it with play money. Behind it stands
//! a built-in demo in the shape of Anthropic's Messages API.
//!
//! For an API of your own, copy `examples/gateway/gateway.toml`, in which every field is explained, and
//! run `cargo run --example gateway -- --config gateway.toml` (`--check` only checks it, and says what would be
//! live). `proxy.toml` beside it sells several APIs route by route, and `prxy.toml` model calls to agents. The quickest
//! start is `GATEWAY_UPSTREAM_URL=http://127.0.0.1:9000 cargo run --example gateway`, which charges
//! 0.50 USD of play money for every call.
//!
//! The key that signs challenges is made at the first start and kept in `./data/challenge.key`, which
//! nobody else may read; with `MPP_SECRET_KEY` none is kept. Payments are remembered in
//! `./data/payments.db`, or in PostgreSQL or Redis where several gateways share them, so that a restart,
//! or `kill -9`, loses nothing: what was delivered stays used, and what was paid and not delivered is
//! delivered when the client asks again. Logs go to standard error, see `RUST_LOG`.
//!
//! SIGHUP reads the file again. Prices, routes and upstreams change at once, without a connection being lost; what
//! needs a restart is named, and then nothing changes. See `reload.rs` for what is what.
//!
//! SIGTERM and ctrl-c end it in order: nobody new is let in, and what is in flight is answered and
//! journalled first. The exit status is then 0, or 3 when that took longer than `shutdown_secs`; what is
//! left is named on standard error. A second signal ends it at once, with 130.

use std::{error::Error, io::IsTerminal as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use tracing_subscriber::EnvFilter;

mod admin;
pub(crate) mod agent;
mod app;
mod catalog;
#[path = "../common/mod.rs"]
pub(crate) mod common;
mod config;
mod demo;
mod greeting;
mod journal;
mod keys;
mod leftover;
mod listen;
mod paths;
mod pricing;
mod problem;
mod receipts;
pub(crate) mod reload;
mod report;
mod routes;
mod secrets;
mod services;
mod settings;
mod upstream;

// What a test drives the gateway with.
pub(crate) use self::{
    app::{Foundation, Opened, router},
    config::{CommandLine, ConfigError, Environment},
    reload::{Live, Reload},
    settings::Settings,
};
use self::{
    common::{
        journal::Journal,
        secret_file,
        serve::{Leftover, Limits, serve, shutdown_signal},
    },
    greeting::Greeting,
    reload::Hangups,
    report::Report,
};

/// The exit status when not everything was finished in time.
const WORK_LEFT: u8 = 3;

/// A paid gateway in front of any HTTP API (Machine Payments Protocol, HTTP 402).
#[derive(Parser)]
#[command(
    name = "gateway",
    after_help = "\
--addr and --data win over the environment, which wins over the file.

Environment:
  GATEWAY_CONFIG        like --config
  GATEWAY_LISTEN        like --addr (default 127.0.0.1:8402)
  GATEWAY_REALM         realm of the challenges: the public host name (default localhost)
  GATEWAY_DATA_DIR      like --data (default ./data)
  GATEWAY_STORE         where payments are remembered: sqlite:PATH, postgres://..., redis://... or memory
                        (default sqlite in the data folder)
  GATEWAY_ADMIN_TOKEN   switches /admin on, behind this token of 32 characters or more
  GATEWAY_UPSTREAM_URL  the API behind the gateway; without a file everything of it costs 0.50 USD
  MPP_SECRET_KEY        key of the challenges, 32 bytes or more; several separated by commas: the first
                        signs, all verify
  STRIPE_SECRET_KEY, STRIPE_NETWORK_ID
                        payments by Stripe
  RUST_LOG              what is logged to standard error (default info)

Signals:
  SIGHUP                reads the configuration file again; the log says what changed, or why nothing did
  SIGTERM, SIGINT       ends in order; a second one at once

Exit status:
  0    ended in order
  1    did not start
  3    ended by a signal, with work left after shutdown_secs
  130  ended at once by a second signal"
)]
struct Arguments {
    /// Configuration file; examples/gateway/gateway.toml explains every field
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// Where the generated keys and the journal are kept
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Check the configuration, say what would be live, and end
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let environment = Environment::of_process();
    log_to_stderr(environment)?;
    let config = match arguments.config {
        Some(path) => Some(path),
        None => match environment.get("GATEWAY_CONFIG")? {
            Some(path) if path.is_empty() => return Err("GATEWAY_CONFIG: it is empty; name a file or unset it".into()),
            path => path.map(PathBuf::from),
        },
    };
    let command_line = CommandLine { addr: arguments.addr, data: arguments.data };
    let settings = Settings::load(config.as_deref(), &command_line, environment)?;
    if arguments.check {
        check(&settings)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Whoever signals early means us to begin with the newest file, not to end.
    let hangups = config.is_some().then(Hangups::new).transpose()?;
    let keys = keys::open(&settings.keys)?;
    let admin = settings.admin.as_ref().map(keys::open_admin).transpose()?;
    // Before the journal: a second gateway by mistake ends here.
    let listener = settings.listen.bind().await?;
    let address = listener.local_addr()?;
    if let Some(folder) = &settings.journal_folder {
        secret_file::private_folder(folder)?;
    }
    let journal = settings.journal.open().await.map_err(|error| ConfigError::new("store", error))?;
    let receipts = match &settings.receipts {
        Some(receipts) => {
            let ledger = match &receipts.ledger {
                Some(elsewhere) => {
                    elsewhere.open().await.map_err(|error| ConfigError::new("receipts.ledger", error))?.ledger
                }
                None => journal.ledger.clone(),
            };
            let ledger =
                ledger.ok_or_else(|| ConfigError::new("receipts.ledger", "this kind of store keeps no receipts"))?;
            Some(receipts.open(ledger, address)?)
        }
        None => None,
    };
    let provider = match &settings.agent {
        Some(agent) => agent.open().await?,
        None => None,
    };
    let foundation = Arc::new(Foundation::new(
        &settings,
        Opened { keys, journal, admin, receipts, provider, address: address.to_string() },
    )?);
    let app = Live::new(router(&settings, &foundation)?);
    let greeting = Greeting::new(&settings, Report::of(&settings, &foundation));
    // Well before the next one may take over what this one has left.
    let sweep_every = (settings.lease / 2).clamp(Duration::from_millis(500), Duration::from_secs(15));
    let limits = Limits { shutdown: settings.shutdown, ..Limits::default() };

    let signal = shutdown_signal()?;
    let Foundation { merchant, payments, .. } = &*foundation;
    // What it has begun at shutdown is finished with the rest.
    let sweeper = tokio::spawn(merchant.sweeper().every(sweep_every).run());
    let reloader = config.zip(hangups).map(|(path, hangups)| {
        let reload = Reload::new(path, command_line, settings, Arc::clone(&foundation), app.clone());
        tokio::spawn(reload.at_every(hangups))
    });
    let shutdown = async move {
        signal.await;
        sweeper.abort();
        if let Some(reloader) = reloader {
            reloader.abort();
        }
    };
    greeting.print(address);
    let left = serve(listener, app, std::slice::from_ref(merchant), limits, shutdown).await;
    leftover::report(&**payments, left).await;
    Ok(if left == Leftover::default() { ExitCode::SUCCESS } else { ExitCode::from(WORK_LEFT) })
}

/// Everything that a start would find, without making or opening anything.
fn check(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let admin = settings.admin.as_ref().map(keys::look_admin).transpose()?;
    // The journal is neither opened nor made.
    let journal = Journal::in_memory(1);
    let receipts = match (&settings.receipts, &journal.ledger) {
        (Some(receipts), Some(ledger)) => Some(receipts.look(Arc::clone(ledger), &settings.listen)?),
        _ => None,
    };
    let provider = settings.agent.as_ref().map(|agent| agent.look()).transpose()?.flatten();
    let (keys, address) = (keys::look(&settings.keys)?, settings.listen.to_string());
    let opened = Opened { keys, journal, admin, receipts, provider, address };
    let foundation = Foundation::new(settings, opened)?;
    router(settings, &foundation).map(drop)?;
    let (routes, report) = (settings.routes.len() + settings.services.routes(), Report::of(settings, &foundation));
    print!("the configuration is good: {routes} routes\n\n{report}");
    Ok(())
}

fn log_to_stderr(environment: Environment<'_>) -> Result<(), ConfigError> {
    let filter = environment.get("RUST_LOG")?.unwrap_or_else(|| "info".into());
    let filter = EnvFilter::try_new(filter).map_err(|error| ConfigError::new("RUST_LOG", error))?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    Ok(())
}
