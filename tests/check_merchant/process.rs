//! The program as a process, and clients for it on real sockets.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};
use tower_mpp::protocol::Challenge;

use crate::support::{Answer, challenge, pay_with};

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the test waits for, or a panic.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

pub fn ok() -> Value {
    json!({"token": "tok_demo_ok"})
}

/// The program of the same build as this test. `cargo test` builds it; with `--test` or `--all-targets`
/// it does not, and yesterday's program proves nothing.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let folder = test.ancestors().nth(2).unwrap();
        let binary = folder.join("examples/check_merchant");
        if !is_fresh(&binary) {
            let profile = folder.file_name().and_then(|name| name.to_str()).unwrap().replace("debug", "dev");
            let mut cargo = std::process::Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--example", "check_merchant", "--profile", &profile]);
            cargo.arg("--target-dir").arg(folder.parent().unwrap());
            assert!(cargo.status().unwrap().success());
        }
        binary
    })
}

/// Whether a program is younger than all that it was made of.
fn is_fresh(binary: &Path) -> bool {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let sources = std::fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
    let newest = sources.split_whitespace().skip(1).filter_map(|path| changed(path.as_ref())).max();
    newest.is_some_and(|newest| changed(binary).is_some_and(|built| newest <= built))
}

fn command(environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    // What is set around the tests must not steer the program. A profile of a coverage run may be written.
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "LLVM_PROFILE_FILE"));
    command.env("PORT", "0").envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs the program to its end.
pub async fn run(environment: &[(&str, &str)]) -> Output {
    soon(command(environment).output()).await.unwrap()
}

/// The program while it serves.
pub struct Program {
    pub address: SocketAddr,
    child: Child,
    stdout: BufReader<tokio::process::ChildStdout>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// How the program ended.
pub struct Ended {
    pub code: Option<i32>,
    /// What came after the line `ready`.
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(environment: &[(&str, &str)]) -> Self {
        let mut child = command(environment).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        soon(stdout.read_line(&mut line)).await.unwrap();
        let address = line.strip_prefix("ready http://").and_then(|rest| rest.strip_suffix('\n'));
        let address = address.unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        Self { address, child, stdout, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub async fn send(&self, method: Method, path: &str, credential: Option<&HeaderValue>, body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if let Some(credential) = credential {
            request = request.header(AUTHORIZATION, credential);
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let (head, body) = soon(self.client.request(request)).await.unwrap().into_parts();
        let body = soon(body.collect()).await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, "").await
    }

    pub async fn pay(&self, path: &str, credential: &HeaderValue) -> Answer {
        self.send(Method::GET, path, Some(credential), "").await
    }

    pub async fn challenge(&self, path: &str) -> Challenge {
        challenge(&self.get(path).await.headers)
    }

    /// A credential for a fresh challenge of a path.
    pub async fn credential(&self, path: &str, payload: &Value) -> HeaderValue {
        pay_with(&self.challenge(path).await, Some("did:example:alice"), payload)
    }

    pub async fn buy(&self, path: &str, payload: &Value) -> Answer {
        self.pay(path, &self.credential(path, payload).await).await
    }

    async fn number(&self, path: &str) -> u64 {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json().as_u64().unwrap()
    }

    pub async fn settlements(&self) -> u64 {
        self.number("/settlements").await
    }

    pub async fn runs(&self, route: &str) -> u64 {
        self.number(&format!("/runs?route={}", route.replace('{', "%7B").replace('}', "%7D"))).await
    }

    /// A connection on which these bytes were sent.
    pub async fn wire(&self, text: &str) -> Wire {
        let mut wire = Wire(BufReader::new(soon(TcpStream::connect(self.address)).await.unwrap()));
        wire.send(text).await;
        wire
    }

    pub async fn terminate(&self) {
        let pid = self.child.id().unwrap();
        let kill = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status();
        assert!(kill.await.unwrap().success());
    }

    /// Waits for the end.
    pub async fn ended(mut self) -> Ended {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut errors = self.child.stderr.take().unwrap();
        let (_, _, status) = soon(async {
            tokio::join!(self.stdout.read_to_string(&mut stdout), errors.read_to_string(&mut stderr), self.child.wait())
        })
        .await;
        Ended { code: status.unwrap().code(), stdout, stderr }
    }

    pub async fn stop(self) -> Ended {
        self.terminate().await;
        self.ended().await
    }
}

/// A connection whose bytes the test chooses.
pub struct Wire(BufReader<TcpStream>);

impl Wire {
    pub async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.0.read_line(&mut line)).await.unwrap();
        line
    }

    /// The head of an answer.
    pub async fn head(&mut self) -> (StatusCode, HeaderMap) {
        let status = self.line().await;
        let status = status.split(' ').nth(1).unwrap_or_else(|| panic!("{status:?}")).parse().unwrap();
        let mut headers = HeaderMap::new();
        while let Some((name, value)) = self.line().await.trim_end().split_once(": ") {
            headers.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        (status, headers)
    }

    /// An answer whose length is declared.
    pub async fn answer(&mut self) -> Answer {
        let (status, headers) = self.head().await;
        let length = headers["content-length"].to_str().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        soon(self.0.read_exact(&mut body)).await.unwrap();
        Answer { status, headers, body: body.into() }
    }

    /// Whether the other side closes the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        matches!(soon(self.0.read(&mut [0])).await, Ok(0) | Err(_))
    }
}
