//! Gateways inside this process and outside of it, and upstreams that do as they are told.

use std::{env, fs, net::SocketAddr, ops::Deref, path::Path, time::Duration};

use axum::Router;
use http::{HeaderValue, Method};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tower_mpp::{KeyRing, method::SandboxKey};

use crate::{
    gateway::{CommandLine, Environment, Foundation, Opened, Settings, common::journal::Journal, router},
    programs::{Running, command, run},
    stripe,
    support::{self, Answer, Server},
};

pub use crate::programs::{Ended, PATIENCE};

/// The settings of a file, with no environment.
pub fn settings(toml: &str) -> Result<Settings, String> {
    settings_with(toml, &[])
}

/// The settings of a file called `gateway.toml`.
pub fn settings_with(toml: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    fs::write(&path, toml).unwrap();
    let lookup = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned()).ok_or(env::VarError::NotPresent)
    };
    Settings::load(Some(&path), &CommandLine::default(), Environment::new(&lookup)).map_err(|error| {
        let text = error.to_string();
        text.replace(path.to_str().unwrap(), "gateway.toml")
    })
}

/// The gateway of these settings, as `main` builds it.
pub fn app(settings: &Settings, opened: Opened) -> Result<Router, Box<dyn std::error::Error>> {
    let foundation = Foundation::new(settings, opened)?;
    Ok(router(settings, &foundation)?)
}

/// A gateway in this process, in front of an upstream, with these routes.
pub async fn gateway(upstream: SocketAddr, routes: &str) -> Server {
    gateway_with(&format!("[upstream]\nurl = \"http://{upstream}/base\"\n"), routes).await
}

/// A key and a journal in memory, and no operator.
pub fn opened() -> Opened {
    Opened {
        keys: KeyRing::new(support::KEY).unwrap(),
        journal: Journal::in_memory(1000),
        admin: None,
        receipts: None,
        provider: None,
        address: "127.0.0.1:1".to_owned(),
    }
}

pub async fn gateway_with(upstream: &str, routes: &str) -> Server {
    gateway_of(upstream, routes, opened()).await
}

/// The same, with what was opened for it.
pub async fn gateway_of(upstream: &str, routes: &str, opened: Opened) -> Server {
    let realm = if upstream.contains("realm = ") { "" } else { "realm = \"127.0.0.1\"\n" };
    let toml = format!("{realm}rails.sandbox = true\n{upstream}\n{routes}");
    let environment =
        [("MPP_SECRET_KEY", support::KEY), ("UPSTREAM_KEY", "sk-upstream"), ("STRIPE", stripe::SECRET_KEY)];
    let settings = settings_with(&toml, &environment).unwrap();
    Server::start(app(&settings, opened).unwrap()).await
}

/// An upstream in this process.
pub async fn upstream(router: Router) -> SocketAddr {
    Server::start(router).await.address
}

/// An upstream that reads a request head and then writes `answers`, one per connection, with a pause
/// after each piece; and closes. The last one is repeated.
pub async fn raw_upstream(answers: &'static [&'static [&'static str]]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answers.get(turn).or(answers.last()).unwrap();
            tokio::spawn(async move {
                let mut head = vec![0; 16 * 1024];
                if stream.read(&mut head).await.unwrap_or(0) == 0 {
                    return;
                }
                for piece in *answer {
                    stream.write_all(piece.as_bytes()).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
    });
    address
}

/// Asks, pays with the sandbox and asks again. Also gives the credential.
pub async fn pay(server: &Server, method: Method, path: &str, body: &str) -> (Answer, HeaderValue) {
    let asked = server.send(method.clone(), path, &[], body).await;
    asked.assert_challenged("payment-required");
    let credential = support::pay_sandbox(&support::challenge(&asked.headers), &SandboxKey::generate());
    (server.pay(method, path, &credential, body).await, credential)
}

/// Runs the agent.
pub async fn agent(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = command("agent", folder);
    command.args(arguments);
    run(command).await
}

/// A gateway that is a process of its own.
pub struct Gateway {
    pub folder: TempDir,
    process: Running,
}

impl Deref for Gateway {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.process
    }
}

impl Gateway {
    /// With the default configuration, but a port of its own.
    pub async fn start() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), &[]).await
    }

    /// With a configuration file, in a folder where it finds what another one has left.
    pub async fn configured(folder: TempDir, toml: &str, variables: &[(&str, &str)]) -> Self {
        fs::write(folder.path().join("gateway.toml"), toml).unwrap();
        let file = ("GATEWAY_CONFIG", "gateway.toml");
        Self::start_with(folder, &[&[file], variables].concat()).await
    }

    /// A client for it.
    pub fn client(&self) -> Server {
        Server::at(self.address)
    }

    /// In a folder, where it finds what another one has left there.
    pub async fn start_with(folder: TempDir, variables: &[(&str, &str)]) -> Self {
        let mut command = command("gateway", folder.path());
        command.env("GATEWAY_LISTEN", "127.0.0.1:0").env("RUST_LOG", "trace").envs(variables.iter().copied());
        Self { process: Running::start(command, "listening on http://").await, folder }
    }

    /// Waits for the end.
    pub async fn ended(self) -> (Ended, TempDir) {
        (self.process.ended().await, self.folder)
    }

    /// Ends it in order.
    pub async fn stop(self) -> (Ended, TempDir) {
        (self.process.stop().await, self.folder)
    }

    /// Ends it without a chance to do anything.
    pub async fn kill(self) -> (Ended, TempDir) {
        (self.process.kill().await, self.folder)
    }
}
