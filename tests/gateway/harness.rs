//! Gateways inside this process and outside of it, and upstreams that do as they are told.

use std::{
    env,
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use axum::Router;
use http::{HeaderValue, Method};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};
use tower_mpp::{KeyRing, method::SandboxKey};

use crate::{
    gateway::{App, Environment, Settings, app},
    stripe,
    support::{self, Answer, Server},
};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

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
    Settings::load(Some(&path), Environment::new(&lookup)).map_err(|error| {
        let text = error.to_string();
        text.replace(path.to_str().unwrap(), "gateway.toml")
    })
}

/// A gateway in this process, in front of an upstream, with these routes.
pub async fn gateway(upstream: SocketAddr, routes: &str) -> Server {
    gateway_with(&format!("[upstream]\nurl = \"http://{upstream}/base\"\n"), routes).await
}

pub async fn gateway_with(upstream: &str, routes: &str) -> Server {
    let realm = if upstream.contains("realm = ") { "" } else { "realm = \"127.0.0.1\"\n" };
    let toml = format!("{realm}rails.sandbox = true\n{upstream}\n{routes}");
    let environment =
        [("MPP_SECRET_KEY", support::KEY), ("UPSTREAM_KEY", "sk-upstream"), ("STRIPE", stripe::SECRET_KEY)];
    let settings = settings_with(&toml, &environment).unwrap();
    let App { router, .. } = app(settings, KeyRing::new(support::KEY).unwrap()).unwrap();
    Server::start(router).await
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

/// The folder with the programs, which are up to date.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let this = env::current_exe().unwrap();
        let profile = this.parent().and_then(Path::parent).unwrap();
        let programs = profile.join("examples");
        // `cargo test` has built them; `cargo test --test gateway` has not.
        let sources =
            ["src", "examples", "Cargo.lock"].map(|name| newest(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)));
        let built = |name: &str| fs::metadata(programs.join(name)).and_then(|data| data.modified()).ok();
        if ["gateway", "agent"].into_iter().any(|name| built(name) < sources.into_iter().max()) {
            let mut cargo = std::process::Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--locked", "--example", "gateway", "--example", "agent"]);
            if profile.file_name() == Some(OsStr::new("release")) {
                cargo.arg("--release");
            }
            cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", profile.parent().unwrap());
            assert!(cargo.status().unwrap().success(), "the examples do not compile");
        }
        programs
    })
}

/// When the newest file in a folder was changed.
fn newest(path: PathBuf) -> SystemTime {
    if path.is_dir() {
        let entries = fs::read_dir(&path).unwrap().map(|entry| newest(entry.unwrap().path()));
        return entries.max().unwrap_or(SystemTime::UNIX_EPOCH);
    }
    fs::metadata(&path).and_then(|data| data.modified()).unwrap()
}

/// A program with nothing of our own environment, in a folder of its own.
pub fn command(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(programs().join(name));
    command.env_clear().current_dir(folder).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end.
pub async fn run(mut command: Command) -> Ended {
    let output = timeout(PATIENCE, command.output()).await.expect("the program ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs the agent.
pub async fn agent(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = command("agent", folder);
    command.args(arguments);
    run(command).await
}

/// A running gateway.
pub struct Gateway {
    pub address: SocketAddr,
    pub folder: TempDir,
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Gateway {
    /// With the default configuration, but a port of its own.
    pub async fn start() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), &[]).await
    }

    pub async fn start_with(folder: TempDir, variables: &[(&str, &str)]) -> Self {
        let mut command = command("gateway", folder.path());
        command.env("GATEWAY_LISTEN", "127.0.0.1:0").env("RUST_LOG", "trace").envs(variables.iter().copied());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = tokio::spawn(read(child.stderr.take().unwrap()));
        let mut first = String::new();
        timeout(PATIENCE, stdout.read_line(&mut first)).await.expect("it starts").unwrap();
        let Some(address) = first.trim().strip_prefix("listening on http://") else {
            panic!("{first:?} {}", stderr.await.unwrap());
        };
        let address = address.parse().unwrap();
        let rest = tokio::spawn(read(stdout));
        let stdout = tokio::spawn(async move { first + &rest.await.unwrap() });
        Self { address, folder, child, stdout, stderr }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a signal by its name.
    pub async fn signal(&self, name: &str) {
        let process = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &process]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    pub async fn ended(mut self) -> (Ended, TempDir) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        let ended = Ended { status, stdout: self.stdout.await.unwrap(), stderr: self.stderr.await.unwrap() };
        (ended, self.folder)
    }

    /// Ends it in order.
    pub async fn stop(self) -> (Ended, TempDir) {
        self.signal("TERM").await;
        self.ended().await
    }
}

async fn read(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).await.unwrap();
    text
}
