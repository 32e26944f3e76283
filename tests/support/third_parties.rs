//! Programs of others on free loopback ports, which end with the test: stand-ins of model providers.
//!
//! Other test binaries include it with `#[path = "../support/third_parties.rs"] mod third_parties;`. What it starts,
//! `scripts/test` installs.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "no test uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long a program may take until it listens, on a machine that builds something beside it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program in the background and kills it when nobody is left to write to it: also when the test was killed.
const GUARD: &str = r#"
    "$@" </dev/null &
    program=$!
    read -r _
    kill -KILL "$program"
    wait "$program"
"#;

/// What `scripts/test` has installed.
pub fn installed(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(name);
    assert!(path.exists(), "{} is missing: run ./scripts/test, which installs it", path.display());
    path
}

/// A program that runs until this is dropped.
pub struct ThirdParty {
    pub address: SocketAddr,
    folder: TempDir,
    guard: Mutex<Child>,
}

impl ThirdParty {
    /// aimock, which answers as OpenAI, Anthropic and others do: what the fixtures say, JSON or SSE.
    ///
    /// `fixtures` is `[{"match": .., "response": ..}]`; the first that matches answers, and usage is only what it says.
    /// `flags` are those of its command line: `--latency` (milliseconds between the events of a stream),
    /// `--chunk-size` (characters of an event), `--chaos-drop` and others.
    pub async fn aimock(fixtures: &Value, flags: &[&str]) -> Self {
        Self::aimock_with(fixtures, flags, &[]).await
    }

    /// The same, which refuses who does not send one of `keys`: as `Authorization: Bearer` or `x-api-key`.
    pub async fn aimock_with(fixtures: &Value, flags: &[&str], keys: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fixtures.json");
        fs::write(&file, serde_json::json!({ "fixtures": fixtures }).to_string()).unwrap();
        let mut command = Command::new("node");
        command.arg(installed("node_modules/@copilotkit/aimock/dist/cli.js"));
        command.args(["--port", "0", "--validate-on-load", "--strict", "--fixtures"]).arg(file).args(flags);
        if !keys.is_empty() {
            command.env("AIMOCK_API_KEYS", keys.join(","));
        }
        Self::start(command, folder, "listening on http://").await
    }

    /// ministack, which answers as Amazon Bedrock's runtime does; with what the stand-in at `models` says, and counts.
    pub async fn ministack(models: Option<SocketAddr>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(installed("venv/bin/ministack"));
        command.envs([
            ("BIND_HOST", "127.0.0.1"),
            ("GATEWAY_PORT", "0"),
            ("SERVICES", "bedrock-runtime"),
            ("IOT_MTLS_ENABLED", "0"),
        ]);
        if let Some(models) = models {
            command.env("MINISTACK_BEDROCK_PROXY_URL", format!("http://{models}"));
        }
        Self::start(command, folder, "Running on http://").await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until the program writes `announcement` and then its address.
    async fn start(command: Command, folder: TempDir, announcement: &str) -> Self {
        let log = File::create(folder.path().join("log")).unwrap();
        let guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard"])
            .arg(command.get_program())
            .args(command.get_args())
            // Nothing of what is set around the tests steers it, but it finds what it needs.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs([("HOME", folder.path()), ("TMPDIR", folder.path())])
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // An interrupt at the terminal is for the test: the guard sees that the test has ended.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut started = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), folder, guard: Mutex::new(guard) };
        let deadline = Instant::now() + PATIENCE;
        started.address = loop {
            let log = started.log();
            // The line may be half written.
            let found = log.split_once(announcement).and_then(|(_, rest)| rest.split_once(char::is_whitespace));
            if let Some((address, _)) = found {
                break address.parse().unwrap_or_else(|error| panic!("{address}: {error}"));
            }
            assert!(Instant::now() < deadline, "{:?} does not listen:\n{log}", command.get_program());
            let ended = started.guard.lock().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{:?} has ended:\n{log}", command.get_program());
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let connected = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(started.address)).await;
        connected.expect("in time").unwrap_or_else(|error| panic!("{error}\n{}", started.log()));
        started
    }
}

impl Drop for ThirdParty {
    fn drop(&mut self) {
        // Its input ends: it kills the program. It is waited for, so that the folder can go.
        let mut guard = self.guard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(guard.stdin.take());
        let _ = guard.wait();
    }
}
