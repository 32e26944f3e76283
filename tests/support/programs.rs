//! The programs of `examples/` as people run them: processes of their own, reached over sockets.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "no test uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Longer than anything here takes, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the test waits for, or a panic.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

/// The program of the same build as this test. `cargo test` builds it; with `--test` or `--all-targets`
/// it does not, and yesterday's program proves nothing.
fn program(name: &str) -> PathBuf {
    static FRESH: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let test = env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let program = folder.join("examples").join(name);
    let mut fresh = FRESH.lock().unwrap_or_else(PoisonError::into_inner);
    if !fresh.contains(name) {
        if !is_fresh(&program) {
            let profile = folder.file_name().and_then(|name| name.to_str()).unwrap().replace("debug", "dev");
            let mut cargo = std::process::Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--locked", "--example", name, "--profile", &profile]);
            cargo.arg("--target-dir").arg(folder.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
            // Set for this test alone; some build scripts would take it for a change and build everything anew.
            for (name, _) in env::vars_os().filter(|(name, _)| is_of_this_test(name)) {
                cargo.env_remove(name);
            }
            assert!(cargo.status().unwrap().success(), "{name} does not compile");
        }
        fresh.insert(name.to_owned());
    }
    program
}

/// What cargo tells a test about its package.
fn is_of_this_test(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// Whether a program is younger than all that it was made of.
fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let sources = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock");
    let newest = sources.split_whitespace().skip(1).chain([lock]).filter_map(|path| changed(path.as_ref())).max();
    !sources.is_empty() && newest.is_some_and(|newest| changed(program).is_some_and(|built| newest <= built))
}

/// A program that is started in a folder, with nothing of what is set around the tests: that must not
/// steer it.
pub fn command(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(program(name));
    // A profile of a coverage run may be written.
    command.env_clear().envs(env::vars_os().filter(|(name, _)| name == "LLVM_PROFILE_FILE"));
    command.current_dir(folder).kill_on_drop(true);
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
    let output = soon(command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A program that serves.
pub struct Running {
    pub address: SocketAddr,
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<()>,
    log: Arc<Mutex<String>>,
}

impl Running {
    /// Starts a program whose first line is `announcement` and then its address.
    pub async fn start(mut command: Command, announcement: &str) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let log = Arc::<Mutex<String>>::default();
        let stderr = tokio::spawn(follow(child.stderr.take().unwrap(), Arc::clone(&log)));
        let mut first = String::new();
        soon(stdout.read_line(&mut first)).await.unwrap();
        let Some(address) = first.strip_prefix(announcement).and_then(|rest| rest.strip_suffix('\n')) else {
            stderr.await.unwrap();
            panic!("{first:?} {}", log.lock().unwrap());
        };
        let address = address.parse().unwrap();
        let rest = tokio::spawn(read(stdout));
        let stdout = tokio::spawn(async move { first + &rest.await.unwrap() });
        Self { address, child, stdout, stderr, log }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub async fn connect(&self) -> TcpStream {
        soon(TcpStream::connect(self.address)).await.unwrap()
    }

    /// Sends a signal by its name.
    pub async fn signal(&self, name: &str) {
        let process = self.id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits until the program has said something on standard error.
    pub async fn said(&self, text: &str) {
        let said = async {
            while !self.log.lock().unwrap().contains(text) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = timeout(PATIENCE, said).await.is_ok();
        assert!(in_time, "{text:?} is not in: {}", self.log.lock().unwrap());
    }

    /// Waits for the end.
    pub async fn ended(mut self) -> Ended {
        let status = soon(self.child.wait()).await.unwrap();
        self.stderr.await.unwrap();
        let stderr = self.log.lock().unwrap().clone();
        Ended { status, stdout: self.stdout.await.unwrap(), stderr }
    }

    /// Ends it in order.
    pub async fn stop(self) -> Ended {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Ends it without a chance to do anything.
    pub async fn kill(self) -> Ended {
        self.signal("KILL").await;
        self.ended().await
    }
}

async fn read(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).await.unwrap();
    text
}

/// Writes down line by line what comes.
async fn follow(pipe: impl AsyncRead + Unpin, log: Arc<Mutex<String>>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = String::new();
    while pipe.read_line(&mut line).await.unwrap() > 0 {
        log.lock().unwrap().push_str(&line);
        line.clear();
    }
}
